//! Encodes and decodes sessions, and the entries of owners' lists.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 1 | 1 if nobody is logged in, 2 if the session has an owner |
//! | 1 | 4 | the length of the whole string |
//! | 5 | 8 | with 2: the [stamp](Mark::stamp) of its entry in the owner's list |
//! | 13 | 8 | with 2: the time until which that list is kept at least: [`cover`](Mark::cover) |
//! | 5 or 21 | | the record [as bytes](Record::to_bytes) |

use session_core::provider::{Changes, Expected, Login, Record, Summary};
use session_core::{Error, SessionKey, Timestamp};

/// What a session with an owner stores about its entry in the owner's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Distinguishes the entry from all others. The first 48 bits are the time at which the session ends unless it is
    /// used, in milliseconds since the Unix epoch; the others are random.
    pub(crate) stamp: [u8; 8],
    /// The time until which the server keeps the list at least.
    pub(crate) cover: Timestamp,
}

/// The bytes before a record of an owner.
const OWNED: usize = 21;
/// The bytes before a record of nobody.
const UNOWNED: usize = 5;
/// The bytes of a record before the owner.
const HEAD: usize = 89;

/// How much of a session has to be read to list it: the longest owner and label have 1,024 bytes.
pub(crate) const LISTED: usize = OWNED + HEAD + 2 * 1024;

const NO_VALUE: [u8; 4] = u32::MAX.to_be_bytes();

pub(crate) fn time(time: Timestamp) -> [u8; 8] {
    time.as_millis().to_be_bytes()
}

fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("limits keep a session under 4 GiB").to_be_bytes()
}

impl Mark {
    /// The mark of an entry that is made now, for a session that ends at `expires`.
    pub(crate) fn new(expires: Timestamp, cover: Timestamp) -> Self {
        let stamp = stamp(expires) | u64::from(rand::random::<u16>());
        Self { stamp: stamp.to_be_bytes(), cover }
    }
}

/// The least stamp of an entry whose session ends then.
pub(crate) fn stamp(expires: Timestamp) -> u64 {
    expires.as_millis().min(u64::MAX >> 16) << 16
}

/// The bytes of a record.
pub(crate) fn encode(record: &Record, mark: Option<&Mark>) -> Vec<u8> {
    let record = record.to_bytes();
    let before = if mark.is_some() { OWNED } else { UNOWNED };
    let mut bytes = Vec::with_capacity(before + record.len());
    bytes.push(if mark.is_some() { 2 } else { 1 });
    bytes.extend(number(before + record.len()));
    if let Some(mark) = mark {
        bytes.extend(mark.stamp);
        bytes.extend(time(mark.cover));
    }
    bytes.extend(record);
    bytes
}

/// The record of a key, whatever that may hold.
pub(crate) fn decode(bytes: &[u8]) -> Result<Record, Error> {
    let unreadable = |reason| Error::Unreadable { reason };
    let before = before(bytes).ok_or(unreadable("it is no session of this provider"))?;
    if bytes[1..5] != number(bytes.len()) {
        return Err(unreadable("its length is wrong"));
    }
    let record = Record::from_bytes(&bytes[before..])?;
    if record.login.is_some() != (before == OWNED) {
        return Err(unreadable("it has an owner, or a place in a list, without the other"));
    }
    Ok(record)
}

/// How many bytes stand before the record.
fn before(bytes: &[u8]) -> Option<usize> {
    let before = match bytes.first()? {
        1 => UNOWNED,
        2 => OWNED,
        _ => return None,
    };
    (bytes.len() >= before + HEAD).then_some(before)
}

/// What the list of an owner shows of a session of which these are the first bytes. `None` if it is no
/// session, or somebody else's.
pub(crate) fn summary(bytes: &[u8], key: SessionKey, owner: &str) -> Option<Summary> {
    let before = before(bytes).filter(|before| *before == OWNED)?;
    let record = &bytes[before..];
    let at = |from: usize| -> Option<Timestamp> {
        let bytes = record.get(from..from + 8)?.try_into().ok()?;
        Some(Timestamp::from_millis(u64::from_be_bytes(bytes)))
    };
    let length = |from: usize| -> Option<usize> {
        let bytes = record.get(from..from + 4)?.try_into().ok()?;
        usize::try_from(u32::from_be_bytes(bytes)).ok()
    };
    let label = HEAD.checked_add(length(77)?)?;
    let is_owners = record[0] == 1 && record.get(HEAD..label)? == owner.as_bytes();
    let text = record.get(label..label.checked_add(length(81)?)?)?;
    is_owners.then_some(Summary {
        key,
        created: at(33)?,
        used: at(49)?,
        expires: at(57)?,
        authenticated: at(65)?,
        label: std::str::from_utf8(text).ok()?.into(),
    })
}

/// A login as a save takes it.
pub(crate) fn login(login: Option<&Login>, mark: &Mark) -> Vec<u8> {
    let Some(Login { owner, at, label }) = login else { return b"-".to_vec() };
    let mut bytes = b"+".to_vec();
    bytes.extend(mark.stamp);
    bytes.extend(time(mark.cover));
    bytes.extend(time(*at));
    bytes.extend(number(owner.len()));
    bytes.extend(number(label.len()));
    bytes.extend(owner.as_bytes());
    bytes.extend(label.as_bytes());
    bytes
}

/// The changed keys as a save takes them; of one that replaces all, those that it sets.
pub(crate) fn changed(changes: &Changes) -> Vec<u8> {
    let changed = changes.iter().filter(|(_, value)| !changes.replace || value.is_some());
    entries(changed)
}

/// The expected values as a save takes them.
pub(crate) fn expected(changes: &Changes) -> Vec<u8> {
    entries(changes.expected.iter().map(|Expected { key, value }| (&**key, value.as_deref())))
}

fn entries<'a>(entries: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in entries {
        bytes.extend(number(key.len()));
        bytes.extend(value.map_or(NO_VALUE, |value| number(value.len())));
        bytes.extend(key.as_bytes());
        bytes.extend(value.unwrap_or_default());
    }
    bytes
}

/// An entry in an owner's list: the session's key, so that the entries are in the order of the keys, and
/// the stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: SessionKey,
    pub(crate) stamp: [u8; 8],
}

impl Entry {
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (key, stamp) = bytes.split_first_chunk::<{ SessionKey::BYTES }>()?;
        Some(Self { key: SessionKey::from_bytes(*key), stamp: stamp.try_into().ok()? })
    }

    pub(crate) fn bytes(&self) -> [u8; 20] {
        let mut bytes = [0; 20];
        bytes[..SessionKey::BYTES].copy_from_slice(self.key.as_bytes());
        bytes[SessionKey::BYTES..].copy_from_slice(&self.stamp);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::provider::{Values, Verifier};

    const KEY: SessionKey = SessionKey::from_bytes([7; 12]);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn record(is_owned: bool) -> Record {
        let login = Login { owner: "ada".into(), at: at(4), label: "Firefox".into() };
        let values = [("count", [5])].into_iter().collect::<Values>();
        Record {
            used: at(3),
            login: is_owned.then(|| Box::new(login)),
            cookie: 6,
            values,
            ..Record::new(Verifier::from_bytes([1; 32]), at(1), at(2))
        }
    }

    /// Fixed vectors: they are in stores.
    #[test]
    fn the_layout_is_fixed() {
        let bytes = encode(&record(false), None);
        assert_eq!(bytes[..6], [1, 0, 0, 0, 108, 1]);
        assert_eq!(&bytes[94..], b"\0\0\0\x05\0\0\0\x01count\x05");
        let mark = Mark { stamp: [8; 8], cover: at(9) };
        let owned = encode(&record(true), Some(&mark));
        assert_eq!(owned[..5], [2, 0, 0, 0, 134]);
        assert_eq!(owned[5..21], [8, 8, 8, 8, 8, 8, 8, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
        assert_eq!(&owned[21 + 89..][..10], b"adaFirefox");
        assert_eq!(decode(&bytes).unwrap(), record(false));
        assert_eq!(decode(&owned).unwrap(), record(true));
        let entry = Entry { key: KEY, stamp: [8; 8] };
        assert_eq!(entry.bytes(), [7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 8, 8, 8, 8, 8]);
        assert_eq!(Entry::parse(&entry.bytes()), Some(entry));
        assert_eq!(Entry::parse(&entry.bytes()[1..]), None);
    }

    #[test]
    fn a_summary_is_read_from_the_beginning_alone() {
        let mark = Mark::new(at(5), at(9));
        let bytes = encode(&record(true), Some(&mark));
        let wanted = record(true).summary(KEY);
        assert_eq!(summary(&bytes[..bytes.len() - 3], KEY, "ada"), wanted);
        assert_eq!(summary(&bytes, KEY, "grace"), None);
        assert_eq!(summary(&encode(&record(false), None), KEY, ""), None);
        for end in 0..21 + 89 + 10 {
            assert_eq!(summary(&bytes[..end], KEY, "ada"), None, "{end} bytes");
        }
    }

    #[test]
    fn what_is_cut_or_of_another_version_is_unreadable() {
        let mark = Mark::new(at(5), at(9));
        for bytes in [encode(&record(false), None), encode(&record(true), Some(&mark))] {
            for end in 0..bytes.len() {
                assert!(matches!(decode(&bytes[..end]), Err(Error::Unreadable { .. })), "{end}");
            }
            for at in [0, 4, if bytes[0] == 1 { 5 } else { 21 }] {
                let mut bytes = bytes.clone();
                bytes[at] ^= 4;
                assert!(matches!(decode(&bytes), Err(Error::Unreadable { .. })), "{at}");
            }
        }
        let mut without = encode(&record(true), None);
        assert!(decode(&without).is_err());
        without[0] = 9;
        assert!(decode(&without).is_err());
    }

    #[test]
    fn stamps_are_in_the_order_of_time_and_differ() {
        let mark = |millis| u64::from_be_bytes(Mark::new(at(millis), at(0)).stamp);
        assert_eq!(mark(5) >> 16, 5);
        assert_eq!(mark(u64::MAX) >> 16, u64::MAX >> 16);
        assert!((0..100).map(|_| mark(5)).any(|other| other != mark(5)));
    }
}
