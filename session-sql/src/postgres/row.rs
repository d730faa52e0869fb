//! The stored row.

use session_core::provider::{Login, Record, Summary, Values, Verifier};
use session_core::{Error, SessionKey, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgRow, Postgres};
use sqlx::{Decode, Type};

use crate::failure::unreadable;
use crate::time::from_column;

/// The record of a row that [`load`](super::statement::load) returned, whatever it may hold.
pub(crate) fn record(row: &PgRow) -> Result<Record, Error> {
    let reason = "its names and values are not two arrays, or larger than 64 MiB";
    let names: Vec<Vec<u8>> = column(row, 9, reason)?;
    let data: Vec<Vec<u8>> = column(row, 10, reason)?;
    if names.len() != data.len() {
        return Err(unreadable("it has not as many names as values"));
    }
    let names = names.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|_| unreadable("one of its names is not UTF-8"))?;
    let values: Values = names.iter().zip(&data).collect();
    if values.len() != names.len() {
        return Err(unreadable("it has a name twice"));
    }
    Ok(Record { values, ..without_values(row)? })
}

/// The key of a row that [`list`](super::statement::list) returned; `None` if it is something else.
pub(crate) fn key(row: &PgRow) -> Option<SessionKey> {
    row.try_get::<[u8; 12], _>(9).ok().map(SessionKey::from_bytes)
}

/// What a list shows of a row, whatever it may hold. `None` if it is no live session; loading it says why.
pub(crate) fn summary(row: &PgRow, now: Timestamp) -> Option<Summary> {
    let record = without_values(row).ok().filter(|record| record.is_live(now))?;
    record.summary(key(row)?)
}

/// The columns that both statements return first.
fn without_values(row: &PgRow) -> Result<Record, Error> {
    let holder = column(row, 0, "its holder is not 32 bytes")?;
    let instant = |index| column(row, index, "one of its times is no number").map(from_column);
    let cookie: i64 = column(row, 8, "its cookie is no number")?;
    Ok(Record {
        holder: Verifier::from_bytes(holder),
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

fn login(row: &PgRow) -> Result<Option<Box<Login>>, Error> {
    let wrong = "its owner, authenticated and label are not of one login";
    let owner: Option<Vec<u8>> = column(row, 5, wrong)?;
    let at: Option<i64> = column(row, 6, wrong)?;
    let label: Option<Vec<u8>> = column(row, 7, wrong)?;
    let text = |bytes| match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into_boxed_str()),
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

/// A column of this type.
fn column<'r, T>(row: &'r PgRow, index: usize, otherwise: &'static str) -> Result<T, Error>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
{
    row.try_get(index).map_err(|_| unreadable(otherwise))
}
