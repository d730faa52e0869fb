//! The serialization of a session inside the seal.

use serde::{Deserialize, Serialize};
use session_core::provider::Secret;
use session_core::provider::{Login, Record, Verifier};
use session_core::{SessionId, SessionKey, Timestamp};

/// A session as it is serialized in its cookie, version 1.
///
/// `postcard` serializes it in its fixed format: fields in order, without names; numbers in LEB128
/// (seven bits a byte, the lowest first); texts and bytes after their length; an option after a byte
/// that says whether it is present. Times are milliseconds. All times but the first are relative to an
/// earlier one, modulo 2⁶⁴, because that is shorter.
#[derive(Serialize, Deserialize)]
struct Content<'a> {
    key: [u8; SessionKey::BYTES],
    /// Without trailing zeros.
    secret: &'a [u8],
    /// Since the Unix epoch.
    created: u64,
    /// Since `created`.
    renewed: u64,
    /// Since `created`.
    used: u64,
    /// Since `used`.
    expires: u64,
    login: Option<ContentLogin<'a>>,
    cookie: u32,
    /// Sorted by key.
    #[serde(borrow)]
    values: Vec<(&'a str, &'a [u8])>,
}

#[derive(Serialize, Deserialize)]
struct ContentLogin<'a> {
    owner: &'a str,
    /// Since `created`.
    at: u64,
    label: &'a str,
}

/// Serializes a session.
pub(crate) fn encode(id: &SessionId, record: &Record) -> Vec<u8> {
    let created = record.created;
    let secret = id.secret().as_bytes();
    let length = secret.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let content = Content {
        key: *id.key().as_bytes(),
        secret: &secret[..length],
        created: created.as_millis(),
        renewed: span(created, record.renewed),
        used: span(created, record.used),
        expires: span(record.used, record.expires),
        login: record.login.as_deref().map(|login| ContentLogin {
            owner: &login.owner,
            at: span(created, login.at),
            label: &login.label,
        }),
        cookie: record.cookie,
        values: record.values.iter().collect(),
    };
    postcard::to_allocvec(&content).expect("a session has nothing that can't be written")
}

/// Deserializes a session that [`encode`] wrote. Returns `None` for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<(SessionId, Record)> {
    let (content, rest) = postcard::take_from_bytes::<Content<'_>>(bytes).ok()?;
    let mut secret = [0; Secret::BYTES];
    secret.get_mut(..content.secret.len())?.copy_from_slice(content.secret);
    let id = SessionId::new(SessionKey::from_bytes(content.key), Secret::from_bytes(secret));
    let created = Timestamp::from_millis(content.created);
    let used = after(created, content.used);
    let record = Record {
        holder: holder(&id),
        created,
        renewed: after(created, content.renewed),
        used,
        expires: after(used, content.expires),
        login: content.login.map(|login| {
            let at = after(created, login.at);
            Box::new(Login { owner: login.owner.into(), at, label: login.label.into() })
        }),
        cookie: content.cookie,
        values: content.values.into_iter().collect(),
        note: None,
    };
    rest.is_empty().then_some((id, record))
}

/// Returns the verifier of a sealed session's id. The seal authenticates the session, and the secret
/// only tells a session's ids apart, so the verifier is the secret itself.
pub(crate) fn holder(id: &SessionId) -> Verifier {
    Verifier::plain(id, "")
}

fn span(from: Timestamp, to: Timestamp) -> u64 {
    to.as_millis().wrapping_sub(from.as_millis())
}

fn after(from: Timestamp, span: u64) -> Timestamp {
    Timestamp::from_millis(from.as_millis().wrapping_add(span))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// A fixed vector: cookies live in clients' jars.
    #[test]
    fn the_bytes_are_as_documented() {
        let mut secret = [0; Secret::BYTES];
        secret[..8].copy_from_slice(b"8 bytes.");
        let key = SessionKey::from_bytes(*b"twelve bytes");
        let id = SessionId::new(key, Secret::from_bytes(secret));
        let mut record = Record::new(holder(&id), at(1_800_000_000_123), at(1_800_001_900_999));
        record.renewed = at(1_800_000_000_124);
        record.used = at(1_800_000_100_999);
        record.login = Some(Box::new(Login {
            owner: "ada".into(),
            at: at(1_800_000_000_123),
            label: "Mac".into(),
        }));
        record.cookie = 300;
        record.values = [("n", &[7][..]), ("text", &[0xa1, b'x'])].into_iter().collect();
        let bytes = encode(&id, &record);
        let mut wanted = b"twelve bytes\x088 bytes.".to_vec();
        wanted.extend([0xfb, 0xa0, 0xf1, 0xc2, 0xb1, 0x34]); // created
        wanted.push(1); // renewed
        wanted.extend([0x8c, 0x94, 0x06]); // used: 100,876 milliseconds later
        wanted.extend([0xc0, 0xee, 0x6d]); // expires: 1,800,000 milliseconds later
        wanted.extend(b"\x01\x03ada\x00\x03Mac"); // the login
        wanted.extend([0xac, 0x02]); // cookie
        wanted.extend(b"\x02\x01n\x01\x07\x04text\x02\xa1x"); // values
        assert_eq!(bytes, wanted);
        assert_eq!(decode(&bytes).map(|(_, record)| record), Some(record));
        wanted.push(0);
        assert!(decode(&wanted).is_none(), "something follows");
    }

    /// Generates any possible session with its id.
    pub(crate) fn session() -> impl Strategy<Value = (SessionId, Record)> {
        let values = prop::collection::btree_map(".{0,20}", any::<Vec<u8>>(), 0..6);
        let login = prop::option::of((".{0,20}", any::<u64>(), ".{0,20}"));
        let times: [_; 4] = std::array::from_fn(|_| any::<u64>());
        (any::<[u8; 32]>(), 0..=20usize, times, login, any::<u32>(), values).prop_map(
            |(mut bytes, zeros, [created, renewed, used, expires], login, cookie, values)| {
                bytes[32 - zeros..].fill(0);
                let id = SessionId::from_bytes(bytes);
                let record = Record {
                    holder: holder(&id),
                    created: at(created),
                    renewed: at(renewed),
                    used: at(used),
                    expires: at(expires),
                    login: login.map(|(owner, time, label)| {
                        Box::new(Login { owner: owner.into(), at: at(time), label: label.into() })
                    }),
                    cookie,
                    values: values.into_iter().collect(),
                    note: None,
                };
                (id, record)
            },
        )
    }

    proptest! {
        #[test]
        fn every_session_round_trips((id, record) in session()) {
            let (read, again) = decode(&encode(&id, &record)).expect("is readable");
            prop_assert_eq!(&*read.text(), &*id.text());
            prop_assert_eq!(again, record);
        }

        #[test]
        fn decoding_never_panics(bytes: Vec<u8>) {
            decode(&bytes);
        }
    }
}
