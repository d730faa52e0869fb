//! A whole record as bytes, for stores that keep a session as one.

use super::{Login, Record, Values, Verifier};
use crate::value::{self, Malformed};
use crate::{Error, Limits, Timestamp};

const VERSION: u8 = 1;
/// The length of an owner where nobody is logged in.
const NO_OWNER: u32 = u32::MAX;
/// The bytes before the owner.
const HEAD: usize = 89;

/// # As bytes
///
/// For stores that keep a session as one piece: a file, a blob, a column. The format is fixed and has its
/// version in front, so what one release of the library wrote, later ones read.
///
/// Version 1. Numbers are unsigned and big-endian; times are milliseconds since the Unix epoch.
///
/// | offset | bytes | what |
/// |---:|---:|---|
/// | 0 | 1 | the version: 1 |
/// | 1 | 32 | the [holder](Self::holder) |
/// | 33 | 8 | when the session was [created](Self::created) |
/// | 41 | 8 | when it got its current secret ([`renewed`](Self::renewed)) |
/// | 49 | 8 | when it was last [used](Self::used) |
/// | 57 | 8 | when it [expires](Self::expires) |
/// | 65 | 8 | when its owner logged in; zero where nobody is logged in |
/// | 73 | 4 | the fingerprint of what the client was told last ([`cookie`](Self::cookie)) |
/// | 77 | 4 | the length of the owner; 2³² − 1 where nobody is logged in |
/// | 81 | 4 | the length of the label; zero where nobody is logged in |
/// | 85 | 4 | the number of keys |
/// | 89 | | the owner, then the label, in UTF-8 |
/// | | | for each key, in ascending order of its bytes: the length of the key (4 bytes), the length of the value (4 bytes), the key in UTF-8, the value in MessagePack |
///
/// The session's key, a checksum and the [note](Self::note) are not in it. A store finds the record by its
/// key and notices damage by itself, as a rule; `session-file` puts a header with both in front.
impl Record {
    /// Returns the record as bytes, in version 1 of the format [above](#as-bytes).
    ///
    /// It takes 89 bytes, the login's two texts, and 8 bytes for each key beside what
    /// [`Values::size`] counts.
    ///
    /// ```
    /// use session_core::Timestamp;
    /// use session_core::provider::{Record, Verifier};
    ///
    /// let now = Timestamp::from_millis(1_800_000_000_000);
    /// let record = Record::new(Verifier::NOBODY, now, Timestamp::MAX);
    /// let bytes = record.to_bytes();
    /// assert_eq!((bytes.len(), bytes[0]), (89, 1));
    /// assert_eq!(Record::from_bytes(&bytes)?, record);
    /// # Ok::<(), session_core::Error>(())
    /// ```
    pub fn to_bytes(&self) -> Vec<u8> {
        let (at, owner_length, owner, label) = match self.login.as_deref() {
            Some(Login { owner, at, label }) => (*at, number(owner.len()), &**owner, &**label),
            None => (Timestamp::default(), NO_OWNER.to_be_bytes(), "", ""),
        };
        let entries = 8 * self.values.len() + self.values.size();
        let mut bytes = Vec::with_capacity(HEAD + owner.len() + label.len() + entries);
        bytes.push(VERSION);
        bytes.extend(self.holder.as_bytes());
        for time in [self.created, self.renewed, self.used, self.expires, at] {
            bytes.extend(time.as_millis().to_be_bytes());
        }
        bytes.extend(self.cookie.to_be_bytes());
        bytes.extend(owner_length);
        bytes.extend(number(label.len()));
        bytes.extend(number(self.values.len()));
        bytes.extend(owner.as_bytes());
        bytes.extend(label.as_bytes());
        for (key, value) in self.values.iter() {
            bytes.extend(number(key.len()));
            bytes.extend(number(value.len()));
            bytes.extend(key.as_bytes());
            bytes.extend(value);
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote, in whatever release of the library.
    ///
    /// The bytes may come from anywhere. What is accepted is exactly what `to_bytes` would write for the
    /// record that is returned. It allocates no more than a small multiple of their own length, whatever
    /// lengths they announce.
    ///
    /// # Errors
    /// [`Error::Unreadable`] says why the bytes are no record: an unknown version, a length that is
    /// wrong, a text that is not UTF-8, keys out of order, a value that is not MessagePack or nests deeper
    /// than [`Limits::MAX_DEPTH`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        decode(bytes).map_err(|reason| Error::Unreadable { reason })
    }
}

/// Encodes a length or a number of keys; [`Values`] has fewer than 4 GiB.
fn number(n: usize) -> [u8; 4] {
    u32::try_from(n).expect("a record has less than 4 GiB").to_be_bytes()
}

fn decode(bytes: &[u8]) -> Result<Record, &'static str> {
    let mut rest = bytes;
    if take(&mut rest)? != &[VERSION] {
        return Err("its version is unknown");
    }
    let holder = Verifier::from_bytes(*take(&mut rest)?);
    let (created, renewed) = (take_time(&mut rest)?, take_time(&mut rest)?);
    let (used, expires) = (take_time(&mut rest)?, take_time(&mut rest)?);
    let at = take_time(&mut rest)?;
    let cookie = take_number(&mut rest)?;
    let owner_length = take_number(&mut rest)?;
    let label_length = take_number(&mut rest)? as usize;
    let count = take_number(&mut rest)? as usize;
    let login = match owner_length {
        NO_OWNER if label_length > 0 || at != Timestamp::default() => {
            return Err("it has a login without an owner");
        }
        NO_OWNER => None,
        length => {
            let owner = take_text(&mut rest, length as usize)?.into();
            let label = take_text(&mut rest, label_length)?.into();
            Some(Box::new(Login { owner, at, label }))
        }
    };
    // Each key takes eight bytes at least: no number of keys is believed that doesn't fit.
    if count > rest.len() / 8 {
        return Err("it announces more keys than it holds");
    }
    let mut entries: Vec<(&str, &[u8])> = Vec::with_capacity(count);
    for _ in 0..count {
        let key_length = take_number(&mut rest)? as usize;
        let value_length = take_number(&mut rest)? as usize;
        let key = take_text(&mut rest, key_length)?;
        let value = rest.split_off(..value_length).ok_or(CUT)?;
        if entries.last().is_some_and(|(last, _)| *last >= key) {
            return Err("its keys are not in order");
        }
        match value::check(value, Limits::MAX_DEPTH) {
            Ok(()) => entries.push((key, value)),
            Err(Malformed::TooDeep) => return Err("a value nests too deep"),
            Err(Malformed::NotOneValue) => return Err("a value is not MessagePack"),
        }
    }
    if !rest.is_empty() {
        return Err("bytes follow its last value");
    }
    let values = entries.into_iter().collect::<Values>();
    Ok(Record { holder, created, renewed, used, expires, login, cookie, values, note: None })
}

const CUT: &str = "it is cut short";

fn take<'b, const N: usize>(rest: &mut &'b [u8]) -> Result<&'b [u8; N], &'static str> {
    let (taken, left) = rest.split_first_chunk().ok_or(CUT)?;
    *rest = left;
    Ok(taken)
}

fn take_number(rest: &mut &[u8]) -> Result<u32, &'static str> {
    Ok(u32::from_be_bytes(*take(rest)?))
}

fn take_time(rest: &mut &[u8]) -> Result<Timestamp, &'static str> {
    Ok(Timestamp::from_millis(u64::from_be_bytes(*take(rest)?)))
}

fn take_text<'b>(rest: &mut &'b [u8], length: usize) -> Result<&'b str, &'static str> {
    let bytes = rest.split_off(..length).ok_or(CUT)?;
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(0x0102_0304_0506_0700 + millis)
    }

    /// A record in which no two things are alike.
    fn record(login: Option<(&str, &str)>, values: &[(&str, &[u8])]) -> Record {
        Record {
            holder: Verifier::from_bytes(std::array::from_fn(|byte| 0x20 + byte as u8)),
            created: at(8),
            renewed: at(9),
            used: at(10),
            expires: at(11),
            login: login.map(|(owner, label)| {
                Box::new(Login { owner: owner.into(), at: at(12), label: label.into() })
            }),
            cookie: 0xfeed_beef,
            values: values.iter().copied().collect(),
            note: None,
        }
    }

    fn sample() -> Record {
        let values: [(&str, &[u8]); 3] =
            [("", &[0xc0]), ("count", &[0x07]), ("name", &[0xa2, b'h', b'i'])];
        record(Some(("ada", "phone")), &values)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Fixed vectors: what is in stores must stay readable.
    #[test]
    fn records_are_written_as_documented() {
        let head = "01".to_owned()
            + "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
            + "0102030405060708"
            + "0102030405060709"
            + "010203040506070a"
            + "010203040506070b";
        let empty =
            head.clone() + "0000000000000000" + "feedbeef" + "ffffffff" + "00000000" + "00000000";
        assert_eq!(hex(&record(None, &[]).to_bytes()), empty);
        let full = head
            + "010203040506070c"
            + "feedbeef"
            + "00000003"
            + "00000005"
            + "00000003"
            + "616461"
            + "70686f6e65"
            + "0000000000000001c0"
            + "0000000500000001636f756e7407"
            + "00000004000000036e616d65a26869";
        assert_eq!(hex(&sample().to_bytes()), full);
    }

    #[test]
    fn an_unknown_version_is_unreadable() {
        for version in (0..=u8::MAX).filter(|version| *version != VERSION) {
            let mut bytes = sample().to_bytes();
            bytes[0] = version;
            let read = Record::from_bytes(&bytes);
            let reason = "its version is unknown";
            assert!(
                matches!(read, Err(Error::Unreadable { reason: r }) if r == reason),
                "{version}"
            );
        }
    }

    #[test]
    fn a_record_cut_anywhere_or_with_a_byte_more_is_refused() {
        let bytes = sample().to_bytes();
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "cut at {length}");
        }
        assert_eq!(decode(&[&bytes[..], &[0xc0]].concat()), Err("bytes follow its last value"));
    }

    #[test]
    fn announced_lengths_are_not_believed() {
        let bytes = sample().to_bytes();
        let tampered = |at: usize, with: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            decode(&bytes)
        };
        let first_key = HEAD + "adaphone".len();
        for lengths_at in [77, 81, 85, first_key, first_key + 4] {
            for length in [u32::MAX, u32::MAX - 1, 1 << 31, 1 << 16, 100] {
                let result = tampered(lengths_at, &length.to_be_bytes());
                assert!(result.is_err(), "a length of {length} at {lengths_at}");
            }
        }
        assert_eq!(tampered(HEAD, &[0xff]), Err("a text is not UTF-8"), "the owner");
        assert_eq!(tampered(HEAD + 3, &[0xff]), Err("a text is not UTF-8"), "the label");
        assert_eq!(tampered(first_key + 8, &[0xc1]), Err("a value is not MessagePack"));

        // Who logged in is there as a whole or not at all.
        let nobodys = record(None, &[]).to_bytes();
        for (at, with) in [(65, &[1; 8][..]), (81, &[0, 0, 0, 1])] {
            let mut bytes = nobodys.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            assert_eq!(decode(&bytes), Err("it has a login without an owner"), "at {at}");
        }

        // A whole key in the place of another: in no order, or twice.
        let twice = record(None, &[("a", &[1]), ("b", &[2])]).to_bytes();
        for (second, wanted) in [(b'a', Err("its keys are not in order")), (b'c', Ok(()))] {
            let mut bytes = twice.clone();
            let at = bytes.len() - 2;
            bytes[at] = second;
            assert_eq!(decode(&bytes).map(drop), wanted);
        }
    }

    #[test]
    fn values_deeper_than_any_limit_are_refused() {
        for (depth, wanted) in [(512, Ok(())), (513, Err("a value nests too deep"))] {
            let mut value = vec![0x91; depth];
            value.push(0xc0);
            let bytes = record(None, &[("deep", &value)]).to_bytes();
            assert_eq!(decode(&bytes).map(drop), wanted, "depth {depth}");
        }
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let value = prop_oneof![
            Just(vec![0xc0]),
            (0..128u8).prop_map(|n| vec![n]),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| [
                &[0xc4, bytes.len() as u8],
                &bytes[..]
            ]
            .concat()),
        ];
        let values = prop::collection::btree_map(".{0,6}", value, 0..6);
        let login = (".{0,6}", any::<u64>(), ".{0,6}").prop_map(|(owner, at, label)| {
            let at = Timestamp::from_millis(at);
            Box::new(Login { owner: owner.into(), at, label: label.into() })
        });
        let times = any::<[u64; 4]>().prop_map(|times| times.map(Timestamp::from_millis));
        let head = (any::<[u8; 32]>(), times, any::<u32>());
        (head, prop::option::of(login), values).prop_map(
            |((holder, [created, renewed, used, expires], cookie), login, values)| Record {
                holder: Verifier::from_bytes(holder),
                created,
                renewed,
                used,
                expires,
                login,
                cookie,
                values: values.into_iter().collect(),
                note: None,
            },
        )
    }

    proptest! {
        #[test]
        fn records_round_trip(record in any_record()) {
            let bytes = record.to_bytes();
            prop_assert_eq!(bytes.len(), bytes.capacity(), "one allocation of the right size");
            prop_assert_eq!(decode(&bytes), Ok(record));
        }

        #[test]
        fn reading_anything_never_panics(bytes: Vec<u8>, versioned: bool) {
            let bytes = if versioned { [&[VERSION], &bytes[..]].concat() } else { bytes };
            let _ = decode(&bytes);
        }

        /// What can be read is what would be written: damage is either refused, or makes another record,
        /// never something in between.
        #[test]
        fn tampered_records_are_refused_or_canonical(
            record in any_record(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut bytes = record.to_bytes();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len() + 1));
            }
            if let Ok(read) = decode(&bytes) {
                prop_assert_eq!(read.to_bytes(), bytes);
            }
        }
    }
}
