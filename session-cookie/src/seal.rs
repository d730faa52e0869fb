//! Sealed texts: sessions encrypted or signed for the client.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use session_core::provider::Record;
use session_core::{Error, SessionId};

use crate::cipher::{NONCE, TAG};
use crate::key::Key;
use crate::{KeyRing, format};

/// How sessions are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Encrypted and authenticated by AES-256-GCM-SIV (RFC 8452): the client can neither read nor change
    /// the session. The default.
    #[default]
    Encrypted,
    /// Authenticated by HMAC-SHA-256 (RFC 2104), truncated to 16 bytes: the client can read the session,
    /// but not change it.
    Signed,
}

/// Seals sessions and opens sealed texts.
///
/// A sealed text is the unpadded base64url of these bytes:
///
/// | part | bytes | |
/// |---|---|---|
/// | format | 1 | version and mode: `0x01` encrypted, `0x11` signed |
/// | key | 1 | the first byte of the key's id |
/// | nonce | 12 or 0 | random; none if signed |
/// | content | | the [session](mod@format), encrypted or readable |
/// | tag | 16 | of AES-256-GCM-SIV, or the first half of HMAC-SHA-256 |
///
/// The tag authenticates everything before it, preceded by the name that the text is sealed for, with
/// the name's length in one byte.
#[derive(Clone, Debug)]
pub(crate) struct Sealer {
    pub(crate) ring: KeyRing,
    pub(crate) mode: Mode,
}

/// The length of format and key.
const HEAD: usize = 2;

/// The maximum length of a cookie's name and value together that browsers store (rfc6265bis, section
/// 5.6).
pub(crate) const MAX_COOKIE_LEN: usize = 4096;

/// Characters that are kept free when values are saved. Times take more bytes as the session gets older,
/// and a new id takes some; without this headroom a touch or a new id could make a session too large.
pub(crate) const HEADROOM: usize = 48;

/// The maximum length of the name, in bytes.
pub(crate) const MAX_NAME_LEN: usize = 255;

/// A session out of a sealed text.
pub(crate) struct Opened {
    pub(crate) id: SessionId,
    pub(crate) record: Record,
    /// Whether the ring's first key sealed the text.
    pub(crate) by_first_key: bool,
}

impl Sealer {
    /// Seals a session under the first key.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a cookie of this name can't hold the session and `headroom` more
    /// characters.
    pub(crate) fn seal(
        &self,
        name: &str,
        id: &SessionId,
        record: &Record,
        headroom: usize,
    ) -> Result<String, Error> {
        let key = self.ring.first();
        let mut named = named(name);
        let start = named.len();
        named.extend([self.format(), key.id[0]]);
        let content = format::encode(id, record);
        match self.mode {
            Mode::Encrypted => {
                let from = named.len();
                named.extend([0; NONCE]);
                named.extend(content);
                let (context, message) = named.split_at_mut(from);
                let tag = key.cookie_cipher.seal(context, message);
                named.extend(tag);
            }
            Mode::Signed => {
                named.extend(content);
                let tag = key.cookie_mac.clone().chain_update(&named).finalize().into_bytes();
                named.extend(&tag[..TAG]);
            }
        }
        let text = BASE64_URL_SAFE_NO_PAD.encode(&named[start..]);
        if name.len() + text.len() + headroom > MAX_COOKIE_LEN {
            return Err(Error::TooLarge { what: "cookie bytes", limit: MAX_COOKIE_LEN });
        }
        Ok(text)
    }

    /// Opens a sealed text. Returns `None` for anything that no key of the ring sealed for this name in
    /// this mode.
    pub(crate) fn open(&self, name: &str, text: &[u8]) -> Option<Opened> {
        if text.len() > MAX_COOKIE_LEN {
            return None;
        }
        let mut named = named(name);
        let start = named.len();
        BASE64_URL_SAFE_NO_PAD.decode_vec(text, &mut named).ok()?;
        let &[format, key_id] = named[start..].first_chunk::<HEAD>()?;
        if format != self.format() {
            return None;
        }
        self.ring.with_short_id(key_id).find_map(|key| {
            let (id, record) = self.content(key, &named, start + HEAD)?;
            Some(Opened { id, record, by_first_key: key.id == self.ring.first().id })
        })
    }

    fn content(&self, key: &Key, named: &[u8], head: usize) -> Option<(SessionId, Record)> {
        match self.mode {
            Mode::Encrypted => {
                let (context, sealed) = named.split_at(head);
                let mut message = sealed.to_vec();
                format::decode(key.cookie_cipher.open(context, &mut message)?)
            }
            Mode::Signed => {
                let (signed, tag) = named.split_last_chunk::<TAG>()?;
                // The comparison takes constant time.
                key.cookie_mac.clone().chain_update(signed).verify_truncated_left(tag).ok()?;
                format::decode(signed.get(head..)?)
            }
        }
    }

    fn format(&self) -> u8 {
        match self.mode {
            Mode::Encrypted => 0x01,
            Mode::Signed => 0x11,
        }
    }
}

/// Returns the beginning of the authenticated bytes: the name with its length. The buffer has room for
/// most sealed texts.
fn named(name: &str) -> Vec<u8> {
    let mut named = Vec::with_capacity(512);
    named.push(u8::try_from(name.len()).expect("checked when the name was bound"));
    named.extend_from_slice(name.as_bytes());
    named
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use session_core::provider::Secret;
    use session_core::{SessionKey, Timestamp};

    use super::*;
    use crate::SecretKey;
    use crate::format::holder;
    use crate::format::tests::session;
    use crate::key::Authenticator;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);

    fn secret() -> [u8; 32] {
        std::array::from_fn(|n| n as u8)
    }

    fn sealer(mode: Mode) -> Sealer {
        let key = SecretKey::from_bytes(secret()).unwrap();
        Sealer { ring: KeyRing::new(&[key]).unwrap(), mode }
    }

    fn id() -> SessionId {
        let key = SessionKey::from_bytes(*b"twelve bytes");
        SessionId::new(key, Secret::from_bytes([0; Secret::BYTES]))
    }

    fn record() -> Record {
        let mut record =
            Record::new(holder(&id()), NOW, NOW.saturating_add(Duration::from_secs(1800)));
        record.values = [("count", &[7][..]), ("name", b"\xa3ada")].into_iter().collect();
        record
    }

    // Fixed vectors: such texts are in clients' cookie jars and must open for ever. They were made by
    // the documented format with Python's cryptography and hmac.
    const ENCRYPTED: &str = "Ae1qdXN0IGEgbm9uY2W2ZmrHZPUVNQ0L-3twEGPqTsfSR-osHzZ7RVYUIHzbztI0\
        DdFb2k6vktKfitNB-Jxs4wcPFbk5SsPMMnt5";
    const SIGNED: &str = "Ee10d2VsdmUgYnl0ZXMA-6DxwrE0AADA7m0AAAIFY291bnQBBwRuYW1lBKNhZGEX0zSB\
        2thoZL4zkuciOjux";

    #[test]
    fn texts_sealed_before_still_open() {
        for (mode, text) in [(Mode::Encrypted, ENCRYPTED), (Mode::Signed, SIGNED)] {
            let sealer = sealer(mode);
            let opened = sealer.open("__Host-id", text.as_bytes()).expect("opens");
            assert_eq!(*opened.id.text(), *id().text());
            assert_eq!(opened.record, record());
            assert!(opened.by_first_key);
            assert!(sealer.open("__Host-ie", text.as_bytes()).is_none(), "another name");
        }
        // Signing is deterministic.
        let again = sealer(Mode::Signed).seal("__Host-id", &id(), &record(), 0).unwrap();
        assert_eq!(again, SIGNED);
    }

    /// The documented format, step by step.
    #[test]
    fn the_seal_is_as_documented() {
        use aes_gcm_siv::aead::{Aead as _, Payload};
        use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _};

        let derived = |purpose: &str| {
            let mac = Authenticator::new_from_slice(&secret()).unwrap();
            mac.chain_update(purpose).finalize().into_bytes()
        };
        let cipher = Aes256GcmSiv::new_from_slice(&derived("session-cookie 1: encrypted cookie"));
        let cipher = cipher.unwrap();
        let head = [0x01, derived("session-cookie 1: key id")[0]];
        let aad = [&b"\x09__Host-id"[..], &head].concat();
        let seal = BASE64_URL_SAFE_NO_PAD.decode(ENCRYPTED).unwrap();
        let (nonce, msg) = seal.strip_prefix(&head[..]).unwrap().split_first_chunk().unwrap();
        let plain = cipher.decrypt(&(*nonce).into(), Payload { msg, aad: &aad }).unwrap();
        assert_eq!(plain, format::encode(&id(), &record()));

        let nonce = [7; 12];
        let sealed = cipher.encrypt(&nonce.into(), Payload { msg: &plain, aad: &aad }).unwrap();
        let text = BASE64_URL_SAFE_NO_PAD.encode([&head[..], &nonce, &sealed].concat());
        let opened = sealer(Mode::Encrypted).open("__Host-id", text.as_bytes()).unwrap();
        assert_eq!(opened.record, record());
    }

    #[test]
    fn one_byte_more_than_a_cookie_holds_is_too_large() {
        for mode in [Mode::Encrypted, Mode::Signed] {
            let sealer = sealer(mode);
            let mut longest = 0;
            let mut record = record();
            for length in 2_900..3_100 {
                let value = vec![0xc0; length];
                record.values = [("v", value)].into_iter().collect();
                match sealer.seal("__Host-id", &id(), &record, 0) {
                    Ok(text) => {
                        assert!("__Host-id".len() + text.len() <= MAX_COOKIE_LEN);
                        let opened = sealer.open("__Host-id", text.as_bytes()).expect("opens");
                        assert_eq!(opened.record, record);
                        longest = length;
                    }
                    Err(Error::TooLarge { what: "cookie bytes", limit: MAX_COOKIE_LEN }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!((2_950..3_050).contains(&longest), "{mode:?}: {longest} bytes fit");
        }
    }

    proptest! {
        #[test]
        fn every_session_round_trips(
            (id, record) in session(),
            signed: bool,
            name in "[a-zA-Z_-]{1,40}",
        ) {
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            let text = sealer.seal(&name, &id, &record, HEADROOM).unwrap();
            let opened = sealer.open(&name, text.as_bytes()).unwrap();
            prop_assert_eq!(&*opened.id.text(), &*id.text());
            prop_assert_eq!(opened.record, record);
            let other_name = [&name, "x"].concat();
            prop_assert!(sealer.open(&other_name, text.as_bytes()).is_none());
        }

        #[test]
        fn any_text_is_refused_without_a_panic(
            text in "[A-Za-z0-9_-]{0,200}",
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            signed: bool,
        ) {
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            prop_assert!(sealer.open("__Host-id", text.as_bytes()).is_none());
            prop_assert!(sealer.open("__Host-id", &bytes).is_none());
        }

        #[test]
        fn any_bytes_behind_a_right_head_are_refused(
            bytes in prop::collection::vec(any::<u8>(), 2..400),
            signed: bool,
        ) {
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            let mut bytes = bytes;
            bytes[..2].copy_from_slice(&[sealer.format(), sealer.ring.first().id[0]]);
            let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
            prop_assert!(sealer.open("__Host-id", text.as_bytes()).is_none());
        }
    }
}
