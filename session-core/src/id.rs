//! Session ids.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rand::TryRng as _;
use rand::rngs::SysRng;
use sha2::{Digest as _, Sha256};

use crate::Error;

/// The name of a session: 32 bytes from the operating system's generator.
///
/// At the client it is 43 characters of unpadded base64url (RFC 4648, section 5); stores that
/// write to disk or network keep only its [`digest`](Self::digest). Whoever knows an id holds the
/// session, so `Debug` shows no more than a short hash, and there is no `Display`.
///
/// ```
/// use session_core::SessionId;
///
/// let id = SessionId::generate()?;
/// assert_eq!(SessionId::parse(id.text()), Some(id));
/// # Ok::<(), session_core::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; SessionId::BYTES]);

impl SessionId {
    /// The length of an id in bytes.
    pub const BYTES: usize = 32;
    /// The length of an id's text in characters.
    pub const TEXT_LEN: usize = 43;

    /// A new id.
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's generator fails. There is no fallback.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = [0; Self::BYTES];
        SysRng
            .try_fill_bytes(&mut bytes)
            .map_err(|source| Error::Random { source: source.into() })?;
        Ok(Self(bytes))
    }

    /// The id of these bytes; for tests and for providers that carry ids in a form of their own.
    pub const fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The id's bytes. They are the secret itself: never log or store them in the clear.
    pub const fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Reads an id's text; `None` unless it is exactly what [`text`](Self::text) writes.
    ///
    /// Padding, other alphabets and a last character with stray bits (RFC 4648, section 3.5) are
    /// refused, so that one id has one text.
    pub fn parse(text: impl AsRef<[u8]>) -> Option<Self> {
        let text: &[u8; Self::TEXT_LEN] = text.as_ref().try_into().ok()?;
        let mut bytes = [0; Self::BYTES];
        BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The text that clients carry: the secret itself, on the stack.
    pub fn text(&self) -> IdText {
        let mut text = [0; Self::TEXT_LEN];
        let written = BASE64_URL_SAFE_NO_PAD.encode_slice(self.0, &mut text);
        written.expect("32 bytes are 43 characters");
        IdText(text)
    }

    /// The SHA-256 of the id: what stores keep, so that a leaked store opens no session.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0).into()
    }

    /// A short hash for logs: enough to follow one session, too little to find or guess it.
    pub fn log_hash(&self) -> LogHash {
        LogHash::of(&self.0)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId(#{})", self.log_hash())
    }
}

/// An id's text. Derefs to `str`; doesn't print itself.
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// Eight hexadecimal digits that stand for a secret in logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogHash([u8; 4]);

impl LogHash {
    /// The hash of any text or bytes that must not be logged themselves.
    ///
    /// It is separated from the digest that stores keep: a log line does not name a stored record.
    pub fn of(secret: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(b"log\0").chain_update(secret).finalize();
        Self([digest[0], digest[1], digest[2], digest[3]])
    }
}

impl fmt::Display for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", u32::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LogHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fixed vectors: the texts are in clients' cookie jars and must never change.
    #[test]
    fn the_text_is_unpadded_base64url() {
        let zero = SessionId::from_bytes([0; 32]);
        assert_eq!(&*zero.text(), "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
        let ones = SessionId::from_bytes([0xff; 32]);
        assert_eq!(&*ones.text(), "__________________________________________8");
        let counting = SessionId::from_bytes(std::array::from_fn(|i| i as u8));
        assert_eq!(&*counting.text(), "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8");
    }

    #[test]
    fn the_digest_is_the_sha_256_of_the_bytes() {
        let digest = SessionId::from_bytes([0; 32]).digest();
        assert_eq!(digest[..4], [0x66, 0x68, 0x7a, 0xad]);
    }

    /// One id has one text: length, alphabet, padding and stray bits are all looked at.
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
            "../../etc/passwd",
            "..%2f..%2fetc%2fpasswd",
            "CON",
            "{\"$gt\":\"\"}",
            "\u{ff0e}\u{ff0e}/\u{ff0e}\u{ff0e}/",
            &huge,
        ];
        for text in bad {
            assert_eq!(SessionId::parse(text), None, "{} bytes", text.len());
        }
    }

    #[test]
    fn debug_shows_no_id() {
        let id = SessionId::generate().expect("generates");
        let shown = format!("{id:?} {:?}", id.text());
        assert!(!shown.contains(&*id.text()));
        assert!(!shown.contains(&id.text()[..8]));
    }

    proptest! {
        #[test]
        fn text_round_trips(bytes: [u8; 32]) {
            let id = SessionId::from_bytes(bytes);
            prop_assert_eq!(SessionId::parse(id.text()), Some(id));
        }

        /// Whatever bytes come, only the text that an id writes is read as that id.
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
