//! The columns that both databases have, read as records and lists.

use session_core::provider::{Listed, Login, Page, Record, Summary, Values, Verifier};
use session_core::{Error, SessionKey, Timestamp};
use sqlx::{ColumnIndex, Decode, Row, Type};

use crate::failure::unreadable;
use crate::time::from_column;

/// How many bytes of keys and values a session may have: 64 MiB. The databases have room for more, which would
/// take seconds to read.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Checks a number of bytes of keys and values.
///
/// # Errors
/// [`Error::TooLarge`] if it is more than [`MAX_BYTES`].
pub(crate) fn check_size(size: usize) -> Result<(), Error> {
    match size {
        0..=MAX_BYTES => Ok(()),
        _ => Err(Error::TooLarge { what: "session bytes", limit: MAX_BYTES }),
    }
}

/// The columns of a record but its values, in the order in which they are read.
pub(crate) const RECORD: &str =
    "holder, created, renewed, used, expires, owner, authenticated, label, cookie";

/// The number of the column behind [`RECORD`].
pub(crate) const NEXT: usize = 9;

/// Returns the page of a list from rows in the order of their keys, one row more than the page has room for if others
/// follow. Rows that are no live sessions are left out.
pub(crate) fn listed<R>(mut rows: Vec<R>, page: Page, now: Timestamp) -> Listed
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let next = page.cut(&mut rows, |row| key(row));
    Listed { sessions: rows.iter().filter_map(|row| summary(row, now)).collect(), next }
}

/// Returns the key of a row of a list, which follows [`RECORD`]. `None` if it is damaged.
fn key<'r, R>(row: &'r R) -> Option<SessionKey>
where
    R: Row,
    usize: ColumnIndex<R>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get::<&[u8], _>(NEXT).ok()?.try_into().ok().map(SessionKey::from_bytes)
}

/// Returns what a list shows of a row. `None` if it is expired or damaged; loading it says why.
fn summary<'r, R>(row: &'r R, now: Timestamp) -> Option<Summary>
where
    R: Row,
    usize: ColumnIndex<R>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let record = without_values(row).ok().filter(|record| record.is_live(now))?;
    record.summary(key(row)?)
}

/// Returns the record of a row that begins with the columns [`RECORD`], without its values.
pub(crate) fn without_values<'r, R>(row: &'r R) -> Result<Record, Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let wrong = "its holder is not 32 bytes";
    let holder: &[u8] = column(row, 0, wrong)?;
    let instant = |index| column(row, index, "one of its times is no number").map(from_column);
    let cookie: i64 = column(row, 8, "its cookie is no number")?;
    Ok(Record {
        holder: holder.try_into().map(Verifier::from_bytes).map_err(|_| unreadable(wrong))?,
        created: instant(1)?,
        renewed: instant(2)?,
        used: instant(3)?,
        expires: instant(4)?,
        login: login(row)?,
        cookie: u32::try_from(cookie)
            .map_err(|_| unreadable("its cookie is not a number of 32 bits"))?,
        values: Values::default(),
        note: None,
    })
}

fn login<'r, R>(row: &'r R) -> Result<Option<Box<Login>>, Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    &'r [u8]: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
{
    let wrong = "its owner, authenticated and label are not of one login";
    let owner: Option<&[u8]> = column(row, 5, wrong)?;
    let at: Option<i64> = column(row, 6, wrong)?;
    let label: Option<&[u8]> = column(row, 7, wrong)?;
    let text = |bytes| match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(_) => Err(unreadable("its owner or label is not UTF-8")),
    };
    match (owner, at, label) {
        (None, None, None) => Ok(None),
        (Some(owner), Some(at), Some(label)) => {
            let login = Login { owner: text(owner)?, at: from_column(at), label: text(label)? };
            Ok(Some(Box::new(login)))
        }
        _ => Err(unreadable(wrong)),
    }
}

/// Returns a column of this type; otherwise [`Error::Unreadable`] with this reason.
pub(crate) fn column<'r, R, T>(
    row: &'r R,
    index: usize,
    otherwise: &'static str,
) -> Result<T, Error>
where
    R: Row,
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(index).map_err(|_| unreadable(otherwise))
}
