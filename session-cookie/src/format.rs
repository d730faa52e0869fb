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
/// | issued | span | after created |
/// | expires | span | after issued |
/// | deadline and owner | number | bit 0: there is an owner; the rest: 0 for no deadline, else 1 and its span after created |
/// | owner | number, bytes | if there is one: its length and UTF-8 text |
/// | entries | the rest | sorted by key |
///
/// A span of time is a number, whose low two bits are the unit, and the rest how many: 0 for
/// milliseconds, 1 for seconds, 2 for minutes, 3 for hours; the largest that leaves no fraction.
/// Lifetimes are whole minutes or hours mostly, and take a byte or two.
///
/// An entry is a byte, whose high four bits are the key's length and whose low four bits are the
/// value's; then, for each that is 15, a number to be added to it; then the key's UTF-8 text and
/// the encoded value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) record: Record,
    /// When the seal was made.
    pub(crate) issued: Timestamp,
    /// The end of the absolute lifetime.
    pub(crate) deadline: Option<Timestamp>,
}

/// The units of a span in milliseconds.
const UNITS: [u64; 4] = [1, 1000, 60_000, 3_600_000];

/// The longest span, in milliseconds: 36 million years.
const LONGEST: u64 = 1 << 60;

impl Content {
    pub(crate) fn encode(&self, buffer: &mut Vec<u8>) {
        let Self { record, issued, deadline } = self;
        number(buffer, record.created.as_millis());
        number(buffer, span(record.created, *issued));
        number(buffer, span(record.created.max(*issued), record.expires));
        let deadline = deadline.map_or(0, |deadline| span(record.created, deadline) + 1);
        number(buffer, deadline << 1 | u64::from(record.owner.is_some()));
        if let Some(owner) = &record.owner {
            number(buffer, owner.len() as u64);
            buffer.extend_from_slice(owner.as_bytes());
        }
        for (key, value) in record.values.iter() {
            let (key_nibble, value_nibble) = (key.len().min(15), value.len().min(15));
            buffer.push((key_nibble << 4 | value_nibble) as u8);
            for (nibble, length) in [(key_nibble, key.len()), (value_nibble, value.len())] {
                if nibble == 15 {
                    number(buffer, (length - nibble) as u64);
                }
            }
            buffer.extend_from_slice(key.as_bytes());
            buffer.extend_from_slice(value);
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let rest = &mut bytes;
        let created = Timestamp::from_millis(take_number(rest)?);
        let issued = after(created, take_number(rest)?);
        let expires = after(issued, take_number(rest)?);
        let last = take_number(rest)?;
        let deadline = (last >> 1).checked_sub(1).map(|span| after(created, span));
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
        let record = Record { created, expires, owner, values };
        (!damaged).then_some(Self { record, issued, deadline })
    }
}

/// The span from one instant to another; none if that is earlier.
fn span(from: Timestamp, to: Timestamp) -> u64 {
    let millis = to.as_millis().saturating_sub(from.as_millis()).min(LONGEST);
    let whole = |unit: &usize| millis.is_multiple_of(UNITS[*unit]);
    let unit = (0..UNITS.len()).rev().find(whole).unwrap_or_default();
    (millis / UNITS[unit]) << 2 | unit as u64
}

/// The instant at the end of a span.
fn after(from: Timestamp, span: u64) -> Timestamp {
    let millis = (span >> 2).saturating_mul(UNITS[(span & 3) as usize]);
    Timestamp::from_millis(from.as_millis().saturating_add(millis))
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
                expires: at(1_800_001_900_999),
                owner: Some("ada".into()),
                values: [("n", &[7][..]), ("name of 15 byte", &[0xa1, b'x'])].into_iter().collect(),
            },
            issued: at(1_800_000_100_999),
            deadline: Some(at(1_800_043_200_123)),
        };
        let mut bytes = Vec::new();
        content.encode(&mut bytes);
        let mut wanted = vec![0xfb, 0xa0, 0xf1, 0xc2, 0xb1, 0x34]; // created
        wanted.extend([0xb0, 0xd0, 0x18]); // 100,876 milliseconds
        wanted.push(30 << 2 | 2); // minutes
        wanted.push(((12 << 2 | 3) + 1) << 1 | 1); // hours; an owner
        wanted.extend(b"\x03ada\x11n\x07\xf2\x00name of 15 byte\xa1x");
        assert_eq!(bytes, wanted);
        assert_eq!(Content::decode(&bytes), Some(content));
    }

    #[test]
    fn a_span_has_the_largest_unit_that_leaves_no_fraction() {
        for (millis, wanted) in [
            (0, 3),
            (1, 1 << 2),
            (999, 999 << 2),
            (1000, 1 << 2 | 1),
            (61_000, 61 << 2 | 1),
            (120_000, 2 << 2 | 2),
            (24 * 3_600_000, 24 << 2 | 3),
        ] {
            let (from, to) = (at(1_800_000_000_123), at(1_800_000_000_123 + millis));
            assert_eq!(span(from, to), wanted);
            assert_eq!(after(from, wanted), to);
        }
        assert_eq!(after(at(5), span(at(5), at(4))), at(5), "time that goes back stands still");
        assert!(after(at(5), span(at(5), Timestamp::MAX)) > at(1 << 60));
        assert_eq!(after(at(5), u64::MAX), Timestamp::MAX);
    }

    /// Sessions of any age up to a million years.
    fn content() -> impl Strategy<Value = Content> {
        let values = prop::collection::btree_map(".{0,40}", any::<Vec<u8>>(), 0..6);
        let spans = [(); 4].map(|()| 0u64..1 << 55);
        (spans, any::<bool>(), any::<Option<String>>(), values).prop_map(
            |([created, age, idle, absolute], limited, owner, values)| Content {
                record: Record {
                    created: at(created),
                    expires: at(created + age + idle),
                    owner: owner.map(String::into),
                    values: values.into_iter().collect(),
                },
                issued: at(created + age),
                deadline: limited.then(|| at(created + absolute)),
            },
        )
    }

    proptest! {
        #[test]
        fn every_session_round_trips(content in content()) {
            let mut bytes = Vec::new();
            content.encode(&mut bytes);
            prop_assert_eq!(Content::decode(&bytes), Some(content));
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            Content::decode(&bytes);
        }
    }
}
