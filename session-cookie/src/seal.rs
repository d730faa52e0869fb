//! The seal around a session.

use aes_gcm_siv::aead::AeadInOut as _;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use rand::Rng as _;
use session_core::{Error, SessionId, Token};

use crate::KeyRing;
use crate::format::Content;
use crate::key::{Authenticator, Key, fill_random};

/// How sessions are sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Encrypted and authenticated by AES-256-GCM-SIV (RFC 8452): nobody else can read or change
    /// the session. The default.
    #[default]
    Encrypted,
    /// Authenticated by HMAC-SHA-256 (RFC 2104): nobody else can change the session, but the client
    /// can read it.
    Signed,
}

/// Makes and opens sealed texts.
///
/// The text is unpadded base64url of these bytes:
///
/// | part | bytes | |
/// |---|---|---|
/// | format | 1 | `0x01`: version 1; `+ 0x10`: signed; `+ 0x20`: a long id |
/// | key | 1 | the first byte of the key's id |
/// | id | 12 or 32 | the session's id, without the 20 zeros that end a short one |
/// | nonce | 12 or 0 | random; none if signed |
/// | content | | [`Content`], encrypted or readable |
/// | tag | 16 or 32 | of AES-256-GCM-SIV, or HMAC-SHA-256 |
///
/// Authenticated with the content are the format, the key's whole id (4 bytes), the length of the
/// session's name in two bytes, the name that clients know the session by, and the session's id.
#[derive(Clone, Debug)]
pub(crate) struct Sealer {
    pub(crate) ring: KeyRing,
    pub(crate) mode: Mode,
}

const VERSION: u8 = 1;
const SIGNED: u8 = 0x10;
const LONG_ID: u8 = 0x20;

/// The bytes that ids have which are made for sealed sessions. They are no secret that opens
/// anything: they only have to differ among the sessions that live at the same time.
pub(crate) const SHORT_ID: usize = 12;

const HEAD: usize = 2;
const NONCE: usize = 12;
/// What ends before the epoch's first minutes aside, no seal is shorter; and no id is as long.
const SHORTEST: usize = 64;

/// The longest name and value of a cookie that browsers store (rfc6265bis, section 5.6).
pub(crate) const LONGEST: usize = 4096;

/// The characters that a session leaves free when it is stored: its times grow with its age, and it
/// must not become too large by being read, renamed or ended.
pub(crate) const SPARE: usize = 16;

/// A new id that is short in a cookie.
pub(crate) fn short_id() -> Result<SessionId, Error> {
    let mut bytes = [0; SessionId::BYTES];
    fill_random(&mut bytes[..SHORT_ID])?;
    Ok(SessionId::from_bytes(bytes))
}

/// How many bytes of an id travel.
fn id_length(id: &SessionId) -> usize {
    match id.as_bytes()[SHORT_ID..].iter().all(|byte| *byte == 0) {
        true => SHORT_ID,
        false => SessionId::BYTES,
    }
}

impl Sealer {
    /// The format byte of this mode's texts with an id of this length.
    fn format(&self, id_length: usize) -> u8 {
        let signed = if self.mode == Mode::Signed { SIGNED } else { 0 };
        let long = if id_length == SHORT_ID { 0 } else { LONG_ID };
        VERSION | signed | long
    }

    /// Reads the session's id off a text that may be a seal of this mode, without opening it.
    pub(crate) fn token(&self, text: &str) -> Option<Token> {
        if !(SHORTEST..=LONGEST).contains(&text.len()) {
            return None;
        }
        // 64 characters, which begin every seal, have 48 bytes, and those the id.
        let mut head = [0; 48];
        let start = BASE64_URL_SAFE_NO_PAD.decode_slice(text.as_bytes().get(..64)?, &mut head);
        start.ok()?;
        let id = self.id(&head)?;
        let token = Token::with_text(id, text);
        Some(if self.ring.may_be_old(head[1]) { token.to_be_renewed() } else { token })
    }

    /// The id at the beginning of a seal.
    fn id(&self, seal: &[u8]) -> Option<SessionId> {
        let length = [SHORT_ID, SessionId::BYTES];
        let length =
            length.into_iter().find(|length| seal.first() == Some(&self.format(*length)))?;
        let mut id = [0; SessionId::BYTES];
        id[..length].copy_from_slice(seal.get(HEAD..HEAD + length)?);
        let id = SessionId::from_bytes(id);
        // One id has one form.
        (id_length(&id) == length).then_some(id)
    }

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
        let id_length = id_length(id);
        let record = &content.record;
        let mut seal = Vec::with_capacity(
            HEAD + SessionId::BYTES + NONCE + 64 + record.values.size() + 4 * record.values.len(),
        );
        seal.extend([self.format(id_length), key.id[0]]);
        seal.extend(&id.as_bytes()[..id_length]);
        let context = Context::new(seal[0], key, name, id);
        match self.mode {
            Mode::Encrypted => {
                // The thread's generator, seeded by the system's, which takes as long as a third of
                // the sealing. Were its state inherited by a forked process, two seals could have
                // one nonce: under GCM-SIV that tells whether their contents are equal, and no more.
                let mut nonce = [0; NONCE];
                rand::rng().fill_bytes(&mut nonce);
                seal.extend(nonce);
                let from = seal.len();
                content.encode(&mut seal);
                let tag = key
                    .cookie_cipher
                    .encrypt_inout_detached(
                        &nonce.into(),
                        context.bytes(),
                        seal[from..].as_mut().into(),
                    )
                    .expect("a session is shorter than 64 GiB");
                seal.extend(tag);
            }
            Mode::Signed => {
                let from = seal.len();
                content.encode(&mut seal);
                let tag = signature(key, &context, &seal[from..]).finalize().into_bytes();
                seal.extend(tag);
            }
        }
        let text = BASE64_URL_SAFE_NO_PAD.encode(seal);
        if name.len() + text.len() + spare > LONGEST {
            return Err(Error::TooLarge { what: "cookie bytes", limit: LONGEST });
        }
        Ok(Token::with_text(*id, text))
    }

    /// Opens a seal; `None` for anything that no key of the ring sealed as this session, for this
    /// name and in this mode.
    pub(crate) fn open(&self, name: &str, token: &Token) -> Option<Opened> {
        let mut seal = BASE64_URL_SAFE_NO_PAD.decode(token.own_text()?).ok()?;
        let id = self.id(&seal).filter(|id| id == token.id())?;
        let (format, key_id) = (*seal.first()?, *seal.get(1)?);
        let rest = seal.get_mut(HEAD + id_length(&id)..)?;
        let first = self.ring.first().id;
        self.ring.with_short_id(key_id).find_map(|key| {
            let context = Context::new(format, key, name, &id);
            let content = match self.mode {
                Mode::Encrypted => decrypt(key, &context, rest)?,
                Mode::Signed => {
                    let (content, tag) = rest.split_last_chunk::<32>()?;
                    // In constant time.
                    signature(key, &context, content).verify(tag.into()).ok()?;
                    content
                }
            };
            Some(Opened { content: Content::decode(content)?, by_first: key.id == first })
        })
    }
}

/// What a seal held.
#[derive(Clone, Debug)]
pub(crate) struct Opened {
    pub(crate) content: Content,
    /// Whether the first key sealed it.
    pub(crate) by_first: bool,
}

/// Leaves the bytes as they were if they are no seal of this key.
fn decrypt<'a>(key: &Key, context: &Context, rest: &'a mut [u8]) -> Option<&'a [u8]> {
    let (nonce, rest) = rest.split_first_chunk_mut::<NONCE>()?;
    let (content, tag) = rest.split_last_chunk_mut::<16>()?;
    key.cookie_cipher
        .decrypt_inout_detached(
            &(*nonce).into(),
            context.bytes(),
            (&mut *content).into(),
            &(*tag).into(),
        )
        .ok()?;
    Some(content)
}

fn signature(key: &Key, context: &Context, content: &[u8]) -> Authenticator {
    key.cookie_mac.clone().chain_update(context.bytes()).chain_update(content)
}

/// What is authenticated beside the content: on the stack, as names are short.
struct Context {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Context {
    const ROOM: usize = 1 + 4 + 2 + LONGEST_NAME + SessionId::BYTES;

    fn new(format: u8, key: &Key, name: &str, id: &SessionId) -> Self {
        debug_assert!(name.len() <= LONGEST_NAME, "checked when the name was bound");
        let name_length = (name.len() as u16).to_be_bytes();
        let parts = [&[format], &key.id[..], &name_length, name.as_bytes(), id.as_bytes()];
        let mut bytes = [0; Self::ROOM];
        let mut length = 0;
        for part in parts {
            bytes[length..length + part.len()].copy_from_slice(part);
            length += part.len();
        }
        Self { bytes, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The longest name of a session.
pub(crate) const LONGEST_NAME: usize = 256;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use session_core::{Record, Timestamp};

    use super::*;
    use crate::SecretKey;

    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);

    fn sealer(mode: Mode) -> Sealer {
        let key = SecretKey::from_bytes(std::array::from_fn(|n| n as u8)).unwrap();
        Sealer { ring: KeyRing::new(&[key]).unwrap(), mode }
    }

    fn id() -> SessionId {
        let mut bytes = [0; SessionId::BYTES];
        bytes[..SHORT_ID].copy_from_slice(b"twelve bytes");
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

    // Fixed vectors: such texts are in clients' cookie jars and must open for ever. Both open by the
    // documented format with OpenSSL's AES-256-GCM-SIV and Python's hmac, too.
    const ENCRYPTED: &str = "Ae10d2VsdmUgYnl0ZXMHLicNHrS52fF6CbcVavodoGS_xZRocBBLN1_b8BaR\
        npthdiXobEDbKkhuQXa5NIOTPXXuflZnqw";
    const SIGNED: &str = "Ee10d2VsdmUgYnl0ZXP7oPHCsTTA7m0AogtRY291bnQHRG5hbWWjYWRh7-5F\
        t3sTCfwG-wrP-sWz3zSnGb9R_un_lFPKRt4dlOA";

    #[test]
    fn texts_sealed_before_still_open() {
        for (mode, text) in [(Mode::Encrypted, ENCRYPTED), (Mode::Signed, SIGNED)] {
            let sealer = sealer(mode);
            let token = sealer.token(text).expect("is a seal");
            assert_eq!(*token.id(), id());
            let opened = sealer.open("__Host-id", &token).expect("opens");
            assert_eq!(opened.content, content());
            assert!(opened.by_first);
            assert!(sealer.open("__Host-ie", &token).is_none(), "under another name");
        }
        // There is nothing random in a signature.
        let again = sealer(Mode::Signed).seal("__Host-id", &id(), &content(), 0).unwrap();
        assert_eq!(again.own_text(), Some(SIGNED));
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
                        let opened = sealer.open("__Host-id", &token).expect("opens");
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
                id[SHORT_ID..].fill(0);
            }
            let id = SessionId::from_bytes(id);
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            let mut content = content();
            content.record.values = values.into_iter().collect();
            content.record.owner = owner.map(String::into);
            let sealed = sealer.seal(&name, &id, &content, SPARE).unwrap();
            let token = sealer.token(sealed.own_text().unwrap()).unwrap();
            prop_assert_eq!(&token, &sealed);
            prop_assert_eq!(sealer.open(&name, &token).unwrap().content, content);
            let other_name = [&name, "x"].concat();
            prop_assert!(sealer.open(&other_name, &token).is_none());
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in "[A-Za-z0-9_-]{0,200}", signed: bool) {
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            if let Some(token) = sealer.token(&text) {
                prop_assert!(sealer.open("__Host-id", &token).is_none());
            }
        }

        #[test]
        fn any_bytes_behind_a_right_head_are_refused(bytes in prop::collection::vec(any::<u8>(), 46..400), signed: bool) {
            let sealer = sealer(if signed { Mode::Signed } else { Mode::Encrypted });
            let mut bytes = bytes;
            bytes[0] = sealer.format(SHORT_ID);
            bytes[1] = sealer.ring.first().id[0];
            if let Some(token) = sealer.token(&BASE64_URL_SAFE_NO_PAD.encode(bytes)) {
                prop_assert!(sealer.open("__Host-id", &token).is_none());
            }
        }
    }
}
