//! Session ids: [`SessionKey`] names the session, [`Secret`] opens it, and [`SessionId`] is both. The text
//! form of ids is parsed and written here.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng as _;
use rand::rngs::SysRng;

use crate::Error;

/// The key of a session, which stays the same for as long as the session lives: 12 random bytes.
///
/// It is the first 16 characters of the session's id, and is not secret: stores use it as their primary key,
/// logs contain it, and lists of a user's sessions show it.
///
/// ```
/// use session_core::SessionId;
///
/// let key = SessionId::generate()?.key();
/// assert_eq!(key.to_string().len(), 16);
/// assert_eq!(session_core::SessionKey::parse(&key.to_string()), Some(key));
/// # Ok::<_, session_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey([u8; SessionKey::BYTES]);

impl SessionKey {
    /// The length of a key in bytes.
    pub const BYTES: usize = 12;
    /// The length of a key's text in characters.
    pub const TEXT_LEN: usize = 16;

    /// The first key in the order of keys.
    pub const MIN: Self = Self([0; Self::BYTES]);
    /// The last key in the order of keys.
    pub const MAX: Self = Self([0xff; Self::BYTES]);

    /// Returns the key with these bytes.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the key's bytes.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Parses a key's text: exactly 16 characters of base64url. Returns `None` for anything else.
    ///
    /// ```
    /// use session_core::SessionKey;
    ///
    /// let key = SessionKey::parse("AAECAwQFBgcICQoL").expect("is a key");
    /// assert_eq!(key.to_string(), "AAECAwQFBgcICQoL");
    /// assert_eq!(SessionKey::parse("AAECAwQF"), None);
    /// ```
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        decode::<{ Self::TEXT_LEN }, { Self::BYTES }>(text.as_ref()).map(Self)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; Self::TEXT_LEN];
        f.write_str(encode(&self.0, &mut text))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The secret of a session's id, which opens the session: 20 random bytes.
///
/// `Debug` does not show it, and it has no `==`: secrets are compared in constant time, as
/// [`Verifier`](crate::provider::Verifier)s.
#[derive(Clone, Copy)]
pub struct Secret([u8; Secret::BYTES]);

impl Secret {
    /// The length of a secret in bytes.
    pub const BYTES: usize = 20;

    /// Returns the secret with these bytes; for tests, and for providers with their own form of ids.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// Returns the secret's bytes. Never log them, and don't store them unhashed except in memory.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A session's id: its [key](SessionKey), which stays the same for as long as the session lives, and its
/// current [secret](Secret), which opens the session.
///
/// Clients carry it as 43 characters of unpadded base64url (RFC 4648, section 5), of which the first 16 are
/// the key. A *new id* of a session is a new secret with the same key. Whoever knows an id can use the
/// session, so `Debug` shows only the key, and there is no `Display`.
///
/// ```
/// use session_core::SessionId;
///
/// let id = SessionId::generate()?;
/// let parsed = SessionId::parse(id.text()).expect("is an id");
/// assert_eq!(parsed.key(), id.key());
/// assert!(id.text().starts_with(&id.key().to_string()));
/// # Ok::<(), session_core::Error>(())
/// ```
#[derive(Clone, Copy)]
pub struct SessionId {
    key: SessionKey,
    secret: Secret,
}

impl SessionId {
    /// The length of an id's text in characters.
    pub const TEXT_LEN: usize = 43;
    const BYTES: usize = SessionKey::BYTES + Secret::BYTES;

    /// Returns the id of a key and a secret.
    pub const fn new(key: SessionKey, secret: Secret) -> Self {
        Self { key, secret }
    }

    /// Returns a random id for a new session, from the operating system's generator.
    ///
    /// # Errors
    /// [`Error::Random`] if the generator fails. There is no fallback.
    pub fn generate() -> Result<Self, Error> {
        random().map(Self::from_bytes)
    }

    /// Returns a new id of the same session: the same key with a new random secret.
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's generator fails.
    pub fn with_new_secret(self) -> Result<Self, Error> {
        Ok(Self { key: self.key, secret: Secret(random()?) })
    }

    /// Returns the id with these bytes, 12 of the key and 20 of the secret; for tests.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        let (key, rest) = bytes.split_first_chunk::<{ SessionKey::BYTES }>().expect("32 bytes");
        let secret = rest.first_chunk::<{ Secret::BYTES }>().expect("20 bytes are left");
        Self { key: SessionKey(*key), secret: Secret(*secret) }
    }

    /// Parses an id's text. Returns `None` unless it is exactly what [`text`](Self::text) returns: padding,
    /// other alphabets and a last character with stray bits (RFC 4648, section 3.5) are refused, so that each
    /// id has one text only.
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        decode::<{ Self::TEXT_LEN }, { Self::BYTES }>(text.as_ref()).map(Self::from_bytes)
    }

    /// Returns the session's key, which is not secret.
    pub const fn key(&self) -> SessionKey {
        self.key
    }

    /// Returns the secret.
    pub const fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Returns the text that clients carry, on the stack. It contains the secret.
    pub fn text(&self) -> IdText {
        let mut bytes = [0; Self::BYTES];
        let (key, secret) = bytes.split_at_mut(SessionKey::BYTES);
        key.copy_from_slice(&self.key.0);
        secret.copy_from_slice(&self.secret.0);
        let mut text = [0; Self::TEXT_LEN];
        encode(&bytes, &mut text);
        IdText(text)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({})", self.key)
    }
}

/// An id's text. It dereferences to `str`; `Debug` does not show it.
#[derive(Clone, Copy)]
pub struct IdText([u8; SessionId::TEXT_LEN]);

impl std::ops::Deref for IdText {
    type Target = str;

    fn deref(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64url is ASCII")
    }
}

impl AsRef<[u8]> for IdText {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for IdText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdText(redacted)")
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).map_err(|source| Error::Random { source: source.into() })?;
    Ok(bytes)
}

fn encode<'t>(bytes: &[u8], text: &'t mut [u8]) -> &'t str {
    let length = BASE64_URL_SAFE_NO_PAD.encode_slice(bytes, text).expect("the text has room");
    std::str::from_utf8(&text[..length]).expect("base64url is ASCII")
}

/// Decodes exactly `T` characters to exactly `B` bytes.
fn decode<const T: usize, const B: usize>(text: &[u8]) -> Option<[u8; B]> {
    let text: &[u8; T] = text.try_into().ok()?;
    let mut bytes = [0; B];
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice_unchecked(text, &mut bytes).ok()?;
    (length == B).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fixed vectors: the texts are in clients' cookie jars and must never change.
    #[test]
    fn the_text_is_unpadded_base64url_and_begins_with_the_key() {
        let zero = SessionId::from_bytes([0; 32]);
        assert_eq!(&*zero.text(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let ones = SessionId::from_bytes([0xff; 32]);
        assert_eq!(&*ones.text(), "__________________________________________8");
        let counting = SessionId::from_bytes(std::array::from_fn(|i| i as u8));
        assert_eq!(&*counting.text(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
        assert_eq!(counting.key().to_string(), "AAECAwQFBgcICQoL");
        assert_eq!(counting.secret().as_bytes()[..3], [12, 13, 14]);
    }

    /// Each id has one text only: length, alphabet, padding and stray bits are checked.
    #[test]
    fn anything_else_than_one_canonical_id_is_refused() {
        let good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        assert!(SessionId::parse(good).is_some());
        let huge = "A".repeat(400 * 1024);
        let bad = [
            "",
            "A",
            &good[..42],
            &format!("{good}A"),
            &format!("{good}="),
            &format!("\"{}\"", &good[..41]),
            &good.replace("Hh8", "Hh9"), // stray bits in the last character
            &good.replace("AAEC", "AA+C"),
            &good.replace("AAEC", "AA/C"),
            &good.replace("AAEC", "AA%4"),
            &good.replace("AAEC", "A EC"),
            &good.replace("AAEC", "AA,C"),
            &good.replace("AAEC", "A\u{e9}C"), // 43 bytes, not ASCII
            &good.replace("AAEC", "A\0EC"),
            &good.replace("Hh8", "Hh="),
            "../../etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "CON",
            "{\"$gt\":\"\"}",
            "\u{ff0e}\u{ff0e}/\u{ff0e}\u{ff0e}/",
            &huge,
        ];
        for text in bad {
            assert!(SessionId::parse(text).is_none(), "{} bytes", text.len());
        }
        for text in
            ["", "AAECAwQFBgcICQo", "AAECAwQFBgcICQoLA", "AAECAwQFBgcICQo=", "AAECAwQFBgcICQ/L"]
        {
            assert_eq!(SessionKey::parse(text), None, "{text}");
        }
    }

    #[test]
    fn debug_shows_the_key_and_no_secret() {
        let id = SessionId::generate().expect("generates");
        let shown = format!("{id:?} {:?} {:?}", id.text(), id.secret());
        assert!(shown.contains(&id.key().to_string()));
        assert!(!shown.contains(&id.text()[SessionKey::TEXT_LEN..SessionKey::TEXT_LEN + 6]));
    }

    #[test]
    fn a_new_secret_leaves_the_key() {
        let id = SessionId::generate().expect("generates");
        let new = id.with_new_secret().expect("generates");
        assert_eq!(new.key(), id.key());
        assert_ne!(new.secret().as_bytes(), id.secret().as_bytes());
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 32]) {
            let id = SessionId::from_bytes(bytes);
            let parsed = SessionId::parse(id.text()).expect("is canonical");
            prop_assert_eq!(parsed.key(), id.key());
            prop_assert_eq!(parsed.secret().as_bytes(), id.secret().as_bytes());
            prop_assert_eq!(SessionKey::parse(id.key().to_string()), Some(id.key()));
        }

        /// Every text that parses is what the parsed id writes.
        #[test]
        fn what_parses_is_canonical(
            text in "[A-Za-z0-9_-]{43}|[A-Za-z0-9_=+/ -]{43}",
            bytes: [u8; SessionId::TEXT_LEN],
            at in 0..SessionId::TEXT_LEN,
        ) {
            let mut damaged = text.as_bytes().to_vec();
            damaged[at] = bytes[at];
            for text in [text.as_bytes(), &damaged, &bytes] {
                if let Some(id) = SessionId::parse(text) {
                    prop_assert!(id.text().as_bytes() == text);
                }
            }
        }
    }
}
