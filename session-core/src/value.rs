//! Encoding, decoding and checking values, which are stored as MessagePack.

use std::sync::Arc;

use rmp::Marker;
use serde::Serialize;
use serde::de::DeserializeOwned;
use smallvec::SmallVec;
use tracing::debug;

use crate::{Error, Limits};

/// Encodes a value as MessagePack. Structs are encoded as maps by field name, so that fields can be added
/// later.
///
/// # Errors
/// [`Error::Encode`] if the value can't be encoded; [`Error::TooLarge`] if it nests deeper than the limit or
/// is larger than a whole session may be.
pub fn encode<T: Serialize + ?Sized>(
    key: &str,
    value: &T,
    limits: &Limits,
) -> Result<Arc<[u8]>, Error> {
    // Most values are small and kept for long: they are encoded on the stack, and then copied into one
    // allocation of the exact size.
    let mut bytes = SmallVec::<[u8; 128]>::new();
    rmp_serde::encode::write_named(&mut bytes, value)
        .map_err(|_| Error::Encode { key: key.into(), given: std::any::type_name::<T>() })?;
    if bytes.len() > limits.bytes {
        return Err(Error::TooLarge { what: "session bytes", limit: limits.bytes });
    }
    match check(&bytes, limits.depth) {
        Ok(()) => Ok(bytes.as_slice().into()),
        Err(Malformed::TooDeep) => {
            Err(Error::TooLarge { what: "value depth", limit: limits.depth })
        }
        // A hand-written `Serialize` can announce a wrong length.
        Err(Malformed::NotOneValue) => {
            Err(Error::Encode { key: key.into(), given: std::any::type_name::<T>() })
        }
    }
}

/// Decodes a value that [`encode`] wrote.
///
/// # Errors
/// [`Error::Decode`] if the bytes are not a `T`, or nest deeper than the limit.
pub fn decode<T: DeserializeOwned>(key: &str, bytes: &[u8], limits: &Limits) -> Result<T, Error> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    // The decoder counts the innermost scalar as a level.
    decoder.set_max_depth(limits.depth + 1);
    T::deserialize(&mut decoder)
        .map_err(|_| Error::Decode { key: key.into(), wanted: std::any::type_name::<T>() })
}

/// Decodes a value. If `is_lenient`, returns `None` for a value of another type.
pub(crate) fn decode_leniently<T: DeserializeOwned>(
    key: &str,
    bytes: &[u8],
    limits: &Limits,
    is_lenient: bool,
) -> Result<Option<T>, Error> {
    match decode(key, bytes, limits) {
        Err(Error::Decode { .. }) if is_lenient => {
            debug!(key, "a value is not of the requested type, and is treated as absent");
            Ok(None)
        }
        decoded => decoded.map(Some),
    }
}

/// Why [`check`] rejects bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// The bytes are not exactly one MessagePack value.
    NotOneValue,
    /// Arrays and maps nest deeper than allowed.
    TooDeep,
}

/// Checks that `bytes` are exactly one MessagePack value, nested at most `depth` deep.
///
/// It does not allocate in proportion to announced lengths, and does not recurse. It is for providers that
/// read records from a source that they don't control.
///
/// # Errors
/// [`Malformed`] says why the bytes are rejected.
pub fn check(bytes: &[u8], depth: usize) -> Result<(), Malformed> {
    let mut rest = bytes;
    skip(&mut rest, depth)?;
    if rest.is_empty() { Ok(()) } else { Err(Malformed::NotOneValue) }
}

/// Skips one value.
fn skip(rest: &mut &[u8], depth: usize) -> Result<(), Malformed> {
    // The number of values that are left in each open array or map.
    let mut open: Vec<u64> = Vec::new();
    loop {
        let children = skip_one(rest).ok_or(Malformed::NotOneValue)?;
        if let Some(children) = children {
            if open.len() == depth {
                return Err(Malformed::TooDeep);
            }
            open.push(children);
        }
        while let Some(left) = open.last_mut() {
            if *left > 0 {
                *left -= 1;
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return Ok(());
        }
    }
}

/// Skips a scalar, or the header of an array or map. Returns the number of values in the array or map.
fn skip_one(rest: &mut &[u8]) -> Option<Option<u64>> {
    let marker = Marker::from_u8(*rest.split_off_first()?);
    let (payload, children) = match marker {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => {
            (0, None)
        }
        Marker::U8 | Marker::I8 => (1, None),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => (2, None),
        Marker::FixExt2 => (3, None),
        Marker::U32 | Marker::I32 | Marker::F32 => (4, None),
        Marker::FixExt4 => (5, None),
        Marker::U64 | Marker::I64 | Marker::F64 => (8, None),
        Marker::FixExt8 => (9, None),
        Marker::FixExt16 => (17, None),
        Marker::FixStr(length) => (u64::from(length), None),
        Marker::Str8 | Marker::Bin8 => (number(rest, 1)?, None),
        Marker::Str16 | Marker::Bin16 => (number(rest, 2)?, None),
        Marker::Str32 | Marker::Bin32 => (number(rest, 4)?, None),
        Marker::Ext8 => (number(rest, 1)? + 1, None),
        Marker::Ext16 => (number(rest, 2)? + 1, None),
        Marker::Ext32 => (number(rest, 4)? + 1, None),
        Marker::FixArray(length) => (0, Some(u64::from(length))),
        Marker::Array16 => (0, Some(number(rest, 2)?)),
        Marker::Array32 => (0, Some(number(rest, 4)?)),
        Marker::FixMap(length) => (0, Some(2 * u64::from(length))),
        Marker::Map16 => (0, Some(2 * number(rest, 2)?)),
        Marker::Map32 => (0, Some(2 * number(rest, 4)?)),
        Marker::Reserved => return None,
    };
    rest.split_off(..usize::try_from(payload).ok()?)?;
    Some(children)
}

/// Reads a big-endian number of this many bytes.
fn number(rest: &mut &[u8], bytes: usize) -> Option<u64> {
    let digits = rest.split_off(..bytes)?;
    Some(digits.iter().fold(0, |number, digit| number << 8 | u64::from(*digit)))
}

/// Returns a MessagePack array with one more encoded element. If `list` is not an array, returns an array of
/// the element alone.
pub(crate) fn append(list: Option<&[u8]>, element: &[u8]) -> Vec<u8> {
    let mut rest = list.unwrap_or_default();
    let count = rmp::decode::read_array_len(&mut rest).unwrap_or_else(|_| {
        rest = &[];
        0
    });
    let mut longer = Vec::with_capacity(rest.len() + element.len() + 5);
    rmp::encode::write_array_len(&mut longer, count.saturating_add(1)).expect("memory takes it");
    longer.extend(rest);
    longer.extend(element);
    longer
}

/// Returns the encoded elements of a MessagePack array, up to the first malformed one. If `list` is not an
/// array, there are none, as for [`append`].
pub(crate) fn elements(mut list: &[u8]) -> impl Iterator<Item = &[u8]> {
    let count = rmp::decode::read_array_len(&mut list).unwrap_or_default();
    (0..count).map_while(move |_| {
        let start = list;
        skip(&mut list, usize::MAX).ok()?;
        Some(&start[..start.len() - list.len()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(depth: usize) -> serde_json::Value {
        (0..depth).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]))
    }

    /// Fixed vectors: stored values must stay readable.
    #[test]
    fn values_are_messagepack_with_structs_as_maps() {
        #[derive(serde::Serialize)]
        struct Point {
            x: i32,
        }
        let limits = Limits::default();
        assert_eq!(*encode("k", &7u64, &limits).unwrap(), [7]);
        assert_eq!(*encode("k", "hi", &limits).unwrap(), [0xa2, b'h', b'i']);
        assert_eq!(*encode("k", &Point { x: 1 }, &limits).unwrap(), [0x81, 0xa1, b'x', 1]);
    }

    #[test]
    fn depth_is_limited_on_the_way_in_and_out() {
        let limits = Limits::default();
        let deepest = encode("k", &nested(64), &limits).expect("64 levels fit");
        decode::<serde_json::Value>("k", &deepest, &limits).expect("and are read back");
        let error = encode("k", &nested(65), &limits).unwrap_err();
        assert!(matches!(error, Error::TooLarge { what: "value depth", limit: 64 }), "{error:?}");
        let mut hostile = vec![0x91; 100_000];
        hostile.push(0xc0);
        assert!(decode::<serde_json::Value>("k", &hostile, &limits).is_err());
        assert_eq!(check(&hostile, 64), Err(Malformed::TooDeep));
    }

    #[test]
    fn announced_lengths_are_not_believed() {
        for bytes in [
            &[0xdf, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdd, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xc6, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0xc1],
            &[],
            &[0x01, 0x02],
            &[0x91],
        ] {
            assert_eq!(check(bytes, 64), Err(Malformed::NotOneValue), "{bytes:02x?}");
        }
    }

    #[test]
    fn the_elements_of_a_list_are_found_and_lengths_not_believed() {
        let list = [0x93, 0x01, 0x92, 0xa1, b'x', 0xc0, 0xa1, b'y'];
        assert!(elements(&list).eq([&[1][..], &[0x92, 0xa1, b'x', 0xc0], &[0xa1, b'y']]));
        for none in [&[][..], &[0x01], &[0x90], &[0x91], &[0xdd, 0xff, 0xff, 0xff, 0xff, 0x91]] {
            assert_eq!(elements(none).count(), 0, "{none:02x?}");
        }
    }

    proptest! {
        #[test]
        fn check_never_panics(bytes: Vec<u8>) {
            let _ = check(&bytes, 64);
        }

        #[test]
        fn what_encode_writes_is_one_value(map: std::collections::BTreeMap<String, Vec<Option<i64>>>) {
            let limits = Limits::default();
            let bytes = encode("k", &map, &limits).unwrap();
            prop_assert_eq!(check(&bytes, 64), Ok(()));
            prop_assert_eq!(check(&bytes[..bytes.len() - 1], 64), Err(Malformed::NotOneValue));
            prop_assert_eq!(decode::<std::collections::BTreeMap<String, Vec<Option<i64>>>>("k", &bytes, &limits).unwrap(), map);
        }
    }

    #[test]
    fn appending_keeps_the_order_past_every_length_of_header() {
        let mut list = None;
        for n in 0..70_000u32 {
            let element = encode("", &n, &Limits::default()).unwrap();
            list = Some(append(list.as_deref(), &element));
            if n % 7919 != 0 && n > 20 {
                continue;
            }
            let numbers: Vec<u32> = decode("", list.as_ref().unwrap(), &Limits::default()).unwrap();
            assert!(numbers.into_iter().eq(0..=n));
        }
        assert_eq!(append(Some(&[0xa1, b'x']), &[7]), [0x91, 7]);
        assert_eq!(elements(list.as_ref().unwrap()).count(), 70_000);
    }
}
