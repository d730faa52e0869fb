//! The stored row.

use session_core::provider::{Login, Record, Summary, Values, Verifier};
use session_core::{Error, SessionKey, Timestamp};
use sqlx::sqlite::{Sqlite, SqliteRow};
use sqlx::{Decode, Row as _, Type};

use crate::failure::unreadable;
use crate::time::from_column;

/// The columns of a record but its values, in the order in which they are read.
pub(crate) const RECORD: &str =
    "holder, created, renewed, used, expires, owner, authenticated, label, cookie";

/// How many bytes of keys and values a session may have: 64 MiB.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// The values as they are in `data`: a MessagePack map of strings to binaries.
pub(crate) fn encode(values: &Values) -> Vec<u8> {
    let mut data = Vec::with_capacity(values.size() + 10 * values.len() + 5);
    let number = |length: usize| u32::try_from(length).expect("a session is smaller than 4 GiB");
    let mut write = || -> Result<(), rmp::encode::ValueWriteError> {
        rmp::encode::write_map_len(&mut data, number(values.len()))?;
        for (name, value) in values.iter() {
            rmp::encode::write_str(&mut data, name)?;
            rmp::encode::write_bin(&mut data, value)?;
        }
        Ok(())
    };
    write().expect("memory takes what is written");
    data
}

/// The values of `data`, whatever it may hold.
fn decode(mut data: &[u8]) -> Option<Values> {
    let rest = &mut data;
    let count = usize::try_from(rmp::decode::read_map_len(rest).ok()?).ok()?;
    // A name and a value are a byte each at least: nothing is allocated for a number that lies.
    if count > rest.len() / 2 {
        return None;
    }
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let length = rmp::decode::read_str_len(rest).ok()?;
        let name = std::str::from_utf8(rest.split_off(..usize::try_from(length).ok()?)?).ok()?;
        let length = rmp::decode::read_bin_len(rest).ok()?;
        entries.push((name, rest.split_off(..usize::try_from(length).ok()?)?));
    }
    let values: Values = entries.iter().copied().collect();
    (rest.is_empty() && values.len() == count).then_some(values)
}

/// The record of a row whose first columns are [`RECORD`] and the next one is `data`, whatever it may hold.
pub(crate) fn record(row: &SqliteRow) -> Result<Record, Error> {
    let reason = "its data are not a map of values, or larger than 64 MiB";
    let data: &[u8] = column(row, 9, reason)?;
    let values = decode(data).ok_or(unreadable(reason))?;
    Ok(Record { values, ..without_values(row)? })
}

/// The key of a row that a list reads; `None` if it is something else.
pub(crate) fn key(row: &SqliteRow) -> Option<SessionKey> {
    row.try_get::<&[u8], _>(9).ok()?.try_into().ok().map(SessionKey::from_bytes)
}

/// What a list shows of a row, whatever it may hold. `None` if it is no live session; loading it says why.
pub(crate) fn summary(row: &SqliteRow, now: Timestamp) -> Option<Summary> {
    let record = without_values(row).ok().filter(|record| record.is_live(now))?;
    record.summary(key(row)?)
}

fn without_values(row: &SqliteRow) -> Result<Record, Error> {
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

fn login(row: &SqliteRow) -> Result<Option<Box<Login>>, Error> {
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

/// A column of this type.
fn column<'r, T>(row: &'r SqliteRow, index: usize, otherwise: &'static str) -> Result<T, Error>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(index).map_err(|_| unreadable(otherwise))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fixed vector: it is in databases.
    #[test]
    fn values_are_a_map() {
        let values: Values = [("", &b"\xc0"[..]), ("a\0", b"")].into_iter().collect();
        assert_eq!(encode(&values), b"\x82\xa0\xc4\x01\xc0\xa2a\0\xc4\x00");
    }

    #[test]
    fn other_data_are_no_values() {
        for data in [
            &b""[..],
            b"\x80\0",
            b"\x90",
            b"\x81\xa1a",
            b"\x81\xa1a\xc4\x02\0",
            b"\x81\xa1\xff\xc4\x00",
            b"\x81\xa1a\xa1b",
            b"\x82\xa1a\xc4\x00\xa1a\xc4\x00",
            b"\xdf\xff\xff\xff\xff\xa1a\xc4\x00",
            b"\x81\xdb\xff\xff\xff\xff\xa1a\xc4\x00",
        ] {
            assert_eq!(decode(data), None, "{data:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            map in prop::collection::btree_map("[a-c\u{0}é]{0,40}", prop::collection::vec(any::<u8>(), 0..300), 0..20),
        ) {
            let values: Values = map.iter().collect();
            prop_assert_eq!(decode(&encode(&values)), Some(values));
        }

        #[test]
        fn decoding_never_panics(data in prop::collection::vec(any::<u8>(), 0..40)) {
            decode(&data);
        }
    }
}
