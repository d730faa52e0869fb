//! The seal around a session.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use session_core::{Error, SessionId, Token};

use crate::KeyRing;
use crate::cipher::{NONCE, TAG};
use crate::format::Content;
use crate::head::Head;

/// How sessions are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Encrypted and authenticated by AES-256-GCM-SIV (RFC 8452): nobody else can read or change
    /// the session. The default.
    #[default]
    Encrypted,
    /// Authenticated by HMAC-SHA-256 (RFC 2104), of which half travels: nobody else can change the
    /// session, but the client can read it.
    Signed,
}

/// Makes and opens sealed texts.
///
/// The text is unpadded base64url of these bytes:
///
/// | part | bytes | |
/// |---|---|---|
/// | head | 10 or 34 | [`Head`] |
/// | nonce | 12 or 0 | random; none if signed |
/// | content | | [`Content`], encrypted or readable |
/// | tag | 16 | of AES-256-GCM-SIV, or the first half of HMAC-SHA-256 |
///
/// Authenticated is all that stands before the tag; and before it the name that clients know the
/// session by, with its length in one byte.
#[derive(Clone, Debug)]
pub(crate) struct Sealer {
    pub(crate) ring: KeyRing,
    pub(crate) mode: Mode,
}

/// No seal is shorter.
const SHORTEST: usize = 40;

/// The longest name and value of a cookie that browsers store (rfc6265bis, section 5.6).
pub(crate) const LONGEST: usize = 4096;

/// The characters that a session leaves free when it is stored: its times grow with its age, and it
/// must not become too large by being read, renamed or ended.
pub(crate) const SPARE: usize = 16;

/// The longest name of a session.
pub(crate) const LONGEST_NAME: usize = 255;

impl Sealer {
    /// Seals a session under the first key.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a cookie of this name can't hold it and so many characters more.
    pub(crate) fn seal(
        &self,
        name: &str,
        id: &SessionId,
        content: &Content,
        spare: usize,
    ) -> Result<Token, Error> {
        let key = self.ring.first();
        let mut named = named(name);
        let start = named.len();
        let head = Head { mode: self.mode, key: key.id[0], id: *id };
        head.write(&mut named);
        match self.mode {
            Mode::Encrypted => {
                let from = named.len();
                named.extend_from_slice(&[0; NONCE]);
                content.encode(&mut named);
                let (context, message) = named.split_at_mut(from);
                let tag = key.cookie_cipher.seal(context, message);
                named.extend_from_slice(&tag);
            }
            Mode::Signed => {
                content.encode(&mut named);
                let tag = key.cookie_mac.clone().chain_update(&named).finalize().into_bytes();
                named.extend_from_slice(&tag[..TAG]);
            }
        }
        let text = BASE64_URL_SAFE_NO_PAD.encode(&named[start..]);
        if name.len() + text.len() + spare > LONGEST {
            return Err(Error::TooLarge { what: "cookie bytes", limit: LONGEST });
        }
        Ok(Token::with_text(*id, text))
    }

    /// Opens a text; `None` for anything that no key of the ring sealed for this name and in this
    /// mode.
    pub(crate) fn open(&self, name: &str, text: impl AsRef<[u8]>) -> Option<Opened> {
        let text = text.as_ref();
        if !(SHORTEST..=LONGEST).contains(&text.len()) {
            return None;
        }
        let mut named = named(name);
        let start = named.len();
        BASE64_URL_SAFE_NO_PAD.decode_vec(text, &mut named).ok()?;
        let head = Head::read(&named[start..]).filter(|head| head.mode == self.mode)?;
        let (context, sealed) = named.split_at(start + head.length());
        self.ring.with_short_id(head.key).find_map(|key| {
            let content = match self.mode {
                Mode::Encrypted => {
                    let mut message = sealed.to_vec();
                    Content::decode(key.cookie_cipher.open(context, &mut message)?)
                }
                Mode::Signed => {
                    let (signed, tag) = named.split_last_chunk::<TAG>()?;
                    // In constant time.
                    key.cookie_mac.clone().chain_update(signed).verify_truncated_left(tag).ok()?;
                    Content::decode(signed.get(context.len()..)?)
                }
            };
            let by_first = key.id == self.ring.first().id;
            Some(Opened { id: head.id, content: content?, by_first })
        })
    }
}

/// The beginning of what is authenticated, with room for most seals.
fn named(name: &str) -> Vec<u8> {
    let mut named = Vec::with_capacity(512);
    named.push(u8::try_from(name.len()).expect("checked when the name was bound"));
    named.extend_from_slice(name.as_bytes());
    named
}

/// What a seal held.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) id: SessionId,
    pub(crate) content: Content,
    /// Whether the first key sealed it.
    pub(crate) by_first: bool,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use session_core::{Record, Timestamp};

    use super::*;
    use crate::SecretKey;
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
        let mut bytes = [0; SessionId::BYTES];
        bytes[..8].copy_from_slice(b"8 bytes.");
        SessionId::from_bytes(bytes)
    }

    fn content() -> Content {
        Content {
            record: Record {
                created: NOW,
                expires: NOW.saturating_add(Duration::from_secs(1800)),
                owner: None,
                values: [("count", &[7][..]), ("name", b"\xa3ada")].into_iter().collect(),
            },
            issued: NOW,
            deadline: Some(NOW.saturating_add(Duration::from_secs(12 * 3600))),
        }
    }

    // Fixed vectors: such texts are in clients' cookie jars and must open for ever. They were made
    // by the documented format with Python's cryptography and hmac.
    const ENCRYPTED: &str = "Ae04IGJ5dGVzLmp1c3QgYSBub25jZaBWsVd60xbNjFWU8VUcS8RoXPNrJMQz1B6T\
        xLI-ASeMYBecFFyR8g8h";
    const SIGNED: &str = "Ee04IGJ5dGVzLvug8cKxNAN6aFFjb3VudAdEbmFtZaNhZGEGs1cdlLnfEZ8uY5_0\
        2lCl";

    #[test]
    fn texts_sealed_before_still_open() {
        for (mode, text) in [(Mode::Encrypted, ENCRYPTED), (Mode::Signed, SIGNED)] {
            let sealer = sealer(mode);
            let opened = sealer.open("__Host-id", text).expect("opens");
            assert_eq!(opened.id, id());
            assert_eq!(opened.content, content());
            assert!(opened.by_first);
            assert!(sealer.open("__Host-ie", text).is_none(), "another name");
        }
        // There is nothing random in a signature.
        let again = sealer(Mode::Signed).seal("__Host-id", &id(), &content(), 0).unwrap();
        assert_eq!(again.own_text(), Some(SIGNED));
    }

    /// The documented format step by step, by the cipher crate alone.
    #[test]
    fn the_texts_are_as_documented() {
        use aes_gcm_siv::aead::{Aead as _, Payload};
        use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _};

        let derived = |purpose: &str| {
            let mac = Authenticator::new_from_slice(&secret()).unwrap();
            mac.chain_update(purpose).finalize().into_bytes()
        };
        let cipher = Aes256GcmSiv::new_from_slice(&derived("session-cookie 1: encrypted cookie"));
        let cipher = cipher.unwrap();
        let key_id = derived("session-cookie 1: key id");
        let head = [&[0x01, key_id[0]], &id().as_bytes()[..8]].concat();
        let aad = [&b"\x09__Host-id"[..], &head].concat();
        let seal = BASE64_URL_SAFE_NO_PAD.decode(ENCRYPTED).unwrap();
        let (nonce, msg) = seal.strip_prefix(&head[..]).unwrap().split_first_chunk().unwrap();
        let plain = cipher.decrypt(&(*nonce).into(), Payload { msg, aad: &aad }).unwrap();
        assert_eq!(Content::decode(&plain), Some(content()));

        let nonce = [7; 12];
        let sealed = cipher.encrypt(&nonce.into(), Payload { msg: &plain, aad: &aad }).unwrap();
        let text = BASE64_URL_SAFE_NO_PAD.encode([&head[..], &nonce, &sealed].concat());
        let opened = sealer(Mode::Encrypted).open("__Host-id", &text).unwrap();
        assert_eq!(opened.content, content());
    }

    #[test]
    fn one_byte_more_than_a_cookie_holds_is_too_large() {
        for mode in [Mode::Encrypted, Mode::Signed] {
            let sealer = sealer(mode);
            let mut longest = 0;
            let mut content = content();
            for length in 2_900..3_100 {
                let value = vec![0xc0; length];
                content.record.values = [("v", value)].into_iter().collect();
                match sealer.seal("__Host-id", &id(), &content, 0) {
                    Ok(token) => {
                        let text = token.own_text().unwrap();
                        assert!("__Host-id".len() + text.len() <= LONGEST);
                        let opened = sealer.open("__Host-id", text).expect("opens");
                        assert_eq!(opened.content, content);
                        longest = length;
                    }
                    Err(Error::TooLarge { what: "cookie bytes", limit: LONGEST }) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            assert!((2_950..3_050).contains(&longest), "{mode:?}: {longest} bytes fit");
        }
    }

    proptest! {
        #[test]
        fn every_session_round_trips(
            id: [u8; 32],
            short: bool,
            signed: bool,
            name in "[a-zA-Z_-]{1,40}",
            values in prop::collection::btree_map(".{0,20}", prop::collection::vec(any::<u8>(), 0..60), 0..8),
            owner in prop::option::of(".{0,20}"),
        ) {
            let mut id = id;
            if short {
                id[8..].fill(0);
            }
            let id = SessionId::from_bytes(id);
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            let mut content = content();
            content.record.values = values.into_iter().collect();
            content.record.owner = owner.map(String::into);
            let sealed = sealer.seal(&name, &id, &content, SPARE).unwrap();
            let text = sealed.own_text().unwrap();
            let opened = sealer.open(&name, text).unwrap();
            prop_assert_eq!((opened.id, opened.content), (id, content));
            let other_name = [&name, "x"].concat();
            prop_assert!(sealer.open(&other_name, text).is_none());
        }

        /// One seal has one text: the decoder refuses padding and stray bits.
        #[test]
        fn only_canonical_base64url_is_decoded(
            text in "[A-Za-z0-9_=+ -]{0,140}|[A-Za-z0-9_-]{0,140}|.{0,140}",
            bytes in prop::collection::vec(any::<u8>(), 0..140),
        ) {
            for text in [text.as_bytes(), &bytes] {
                if let Ok(bytes) = BASE64_URL_SAFE_NO_PAD.decode(text) {
                    prop_assert!(BASE64_URL_SAFE_NO_PAD.encode(bytes).as_bytes() == text);
                }
            }
        }

        #[test]
        fn any_text_is_refused_without_a_panic(
            text in "[A-Za-z0-9_-]{0,200}",
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            signed: bool,
        ) {
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            prop_assert!(sealer.open("__Host-id", &text).is_none());
            prop_assert!(sealer.open("__Host-id", &bytes).is_none());
        }

        #[test]
        fn any_bytes_behind_a_right_head_are_refused(bytes in prop::collection::vec(any::<u8>(), 30..400), signed: bool) {
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            let mut bytes = bytes;
            bytes[..2].copy_from_slice(&[if signed { 0x11 } else { 0x01 }, sealer.ring.first().id[0]]);
            let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
            prop_assert!(sealer.open("__Host-id", &text).is_none());
        }
    }
}
