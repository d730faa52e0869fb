//! What is under the seal.

use session_core::{Record, Timestamp, Values};

/// A session as its cookie holds it.
///
/// Version 1, in order; a number is in LEB128: seven bits a byte, the lowest first, the high bit on
/// all bytes but the last.
///
/// | part | length | |
/// |---|---|---|
/// | created | number | milliseconds since the Unix epoch |
/// | expires | number | milliseconds after created, modulo 2^64 |
/// | issued | number | whole seconds after created |
/// | deadline and owner | number | bit 0: there is an owner; the rest: 0 for no deadline, else 1 and the minutes after created, rounded up |
/// | owner | number, bytes | if there is one: its length and UTF-8 text |
/// | entries | the rest | sorted by key |
///
/// An entry is a byte, whose high four bits are the key's length and whose low four bits are the
/// value's; then, for each that is 15, a number to be added to it; then the key's UTF-8 text and
/// the encoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) record: Record,
    /// When the seal was made.
    pub(crate) issued: Timestamp,
    /// The end of the absolute lifetime, up to a minute late.
    pub(crate) deadline: Option<Timestamp>,
}

const MINUTE: u64 = 60_000;

impl Content {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        let Self { record, issued, deadline } = self;
        let created = record.created.as_millis();
        let after = |time: Timestamp| time.as_millis().saturating_sub(created);
        number(buffer, created);
        number(buffer, record.expires.as_millis().wrapping_sub(created));
        number(buffer, after(*issued) / 1000);
        let minutes = deadline.map_or(0, |deadline| after(deadline).div_ceil(MINUTE) + 1);
        number(buffer, minutes << 1 | u64::from(record.owner.is_some()));
        if let Some(owner) = &record.owner {
            number(buffer, owner.len() as u64);
            buffer.extend(owner.as_bytes());
        }
        for (key, value) in record.values.iter() {
            let (key_nibble, value_nibble) = (key.len().min(15), value.len().min(15));
            buffer.push((key_nibble << 4 | value_nibble) as u8);
            for (nibble, length) in [(key_nibble, key.len()), (value_nibble, value.len())] {
                if nibble == 15 {
                    number(buffer, (length - nibble) as u64);
                }
            }
            buffer.extend(key.as_bytes());
            buffer.extend(value);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let created = take_number(rest)?;
        let expires = created.wrapping_add(take_number(rest)?);
        let issued = created.saturating_add(take_number(rest)?.saturating_mul(1000));
        let last = take_number(rest)?;
        let deadline =
            (last >> 1).checked_sub(1).map(|m| created.saturating_add(m.saturating_mul(MINUTE)));
        let owner = match last & 1 {
            0 => None,
            _ => {
                let length = usize::try_from(take_number(rest)?).ok()?;
                Some(text(rest.split_off(..length)?)?.into())
            }
        };
        let mut damaged = false;
        let values: Values = std::iter::from_fn(|| {
            if rest.is_empty() {
                return None;
            }
            let entry = take_entry(rest);
            damaged |= entry.is_none();
            entry
        })
        .collect();
        if damaged {
            return None;
        }
        let record = Record {
            created: Timestamp::from_millis(created),
            expires: Timestamp::from_millis(expires),
            owner,
            values,
        };
        Some(Self {
            record,
            issued: Timestamp::from_millis(issued),
            deadline: deadline.map(Timestamp::from_millis),
        })
    }
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<(&'a str, &'a [u8])> {
    let lengths = *rest.split_off_first()?;
    let mut length = |nibble: u8| match nibble {
        15 => usize::try_from(take_number(rest)?).ok()?.checked_add(15),
        short => Some(usize::from(short)),
    };
    let (key, value) = (length(lengths >> 4)?, length(lengths & 15)?);
    Some((text(rest.split_off(..key)?)?, rest.split_off(..value)?))
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn number(buffer: &mut Vec<u8>, mut n: u64) {
    while n > 0x7f {
        buffer.push(n as u8 | 0x80);
        n >>= 7;
    }
    buffer.push(n as u8);
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        let bits = u64::from(byte & 0x7f);
        if bits << shift >> shift != bits {
            return None;
        }
        n |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// A fixed vector: cookies live in clients' jars.
    #[test]
    fn the_bytes_are_as_documented() {
        let content = Content {
            record: Record {
                created: at(1_800_000_000_123),
                expires: at(1_800_001_800_123),
                owner: Some("ada".into()),
                values: [("n", &[7][..]), ("name of 15 byte", &[0xa1, b'x'])].into_iter().collect(),
            },
            issued: at(1_800_000_100_999),
            deadline: Some(at(1_800_043_200_000)),
        };
        let mut bytes = Vec::new();
        content.encode(&mut bytes);
        let mut wanted = vec![0xfb, 0xa0, 0xf1, 0xc2, 0xb1, 0x34]; // created
        wanted.extend([0xc0, 0xee, 0x6d]); // 1,800,000 ms
        wanted.push(100); // seconds
        wanted.extend([0xa3, 0x0b]); // 720 minutes, and one; an owner
        wanted.extend(b"\x03ada\x11n\x07\xf2\x00name of 15 byte\xa1x");
        assert_eq!(bytes, wanted);
        let read = Content::decode(&bytes).unwrap();
        assert_eq!(read.record, content.record);
        assert_eq!(read.issued, at(1_800_000_100_123), "whole seconds");
        assert_eq!(read.deadline, Some(at(1_800_043_200_123)), "whole minutes, rounded up");
    }

    fn record() -> impl Strategy<Value = Record> {
        let values = prop::collection::btree_map(".{0,40}", any::<Vec<u8>>(), 0..6);
        (any::<u64>(), any::<u64>(), any::<Option<String>>(), values).prop_map(
            |(created, expires, owner, values)| Record {
                created: at(created),
                expires: at(expires),
                owner: owner.map(String::into),
                values: values.into_iter().collect(),
            },
        )
    }

    proptest! {
        #[test]
        fn every_record_round_trips(record in record(), issued: u64, deadline: Option<u64>) {
            let content = Content { record, issued: at(issued), deadline: deadline.map(at) };
            let mut bytes = Vec::new();
            content.encode(&mut bytes);
            let read = Content::decode(&bytes).unwrap();
            prop_assert_eq!(&read.record, &content.record);
            prop_assert!(read.issued <= content.issued.max(content.record.created));
            prop_assert_eq!(read.deadline.is_some(), deadline.is_some());
            if let (Some(read), Some(given)) = (read.deadline, content.deadline) {
                prop_assert!(read >= given);
            }
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(Content::decode(&again), Some(read));
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            Content::decode(&bytes);
        }
    }
}
