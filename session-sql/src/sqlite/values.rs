//! Encodes and decodes the values of a row.

use session_core::Error;
use session_core::provider::{Record, Values};
use sqlx::sqlite::SqliteRow;

use crate::failure::unreadable;
use crate::row::{NEXT, column, without_values};

/// Encodes values as they are in `data`: a MessagePack map of strings to binaries.
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

/// Decodes `data`. `None` if it is damaged.
fn decode(mut data: &[u8]) -> Option<Values> {
    let rest = &mut data;
    let count = usize::try_from(rmp::decode::read_map_len(rest).ok()?).ok()?;
    // A name and a value take at least a byte each, so a false count allocates no memory.
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

/// Returns the record of a row that begins with the columns [`RECORD`](crate::row::RECORD) and `data`, which may be
/// damaged.
pub(crate) fn record(row: &SqliteRow) -> Result<Record, Error> {
    let reason = "its data are not a map of values, or larger than 64 MiB";
    let data: &[u8] = column(row, NEXT, reason)?;
    let values = decode(data).ok_or(unreadable(reason))?;
    Ok(Record { values, ..without_values(row)? })
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
