//! Secret keys.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::TryRng as _;
use rand::rngs::SysRng;
use session_core::Error;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cipher::Cipher;

/// HMAC-SHA-256 under one key. It is cloned for each message.
pub(crate) type Authenticator = Hmac<Sha256>;

/// A secret of 32 bytes, which is wiped from memory when it is dropped. Its text form is 43 characters
/// of unpadded base64url (RFC 4648, section 5).
///
/// The secret itself encrypts nothing. The key for each purpose is derived from it: HMAC-SHA-256 of the
/// purpose's name under the secret. So one key ring serves all purposes.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<[u8; Self::BYTES]>);

impl SecretKey {
    /// The length of a key in bytes.
    pub const BYTES: usize = 32;
    /// The length of a key's text in characters.
    pub const TEXT_LEN: usize = 43;

    /// Makes a new key with the operating system's generator.
    ///
    /// # Errors
    /// [`Error::Random`] if the generator fails.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        fill_random(&mut *bytes)?;
        Ok(Self(bytes))
    }

    /// Makes a key of these bytes. Returns `None` if all are zero, which a forgotten initialization
    /// would leave.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Option<Self> {
        let bytes = Zeroizing::new(bytes);
        (*bytes != [0; Self::BYTES]).then_some(Self(bytes))
    }

    /// Parses a key's text. Returns `None` unless it is exactly what [`text`](Self::text) writes for a
    /// key that is not all zeros.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes[..]).ok()?;
        Self::from_bytes(*bytes)
    }

    /// Returns the key's text for a configuration file. The text is the secret itself.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(*self.0))
    }

    /// Returns the key that is derived for a purpose.
    fn derived(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let derived = authenticator(&self.0).chain_update(purpose).finalize();
        Zeroizing::new(derived.into_bytes().into())
    }

    fn cipher(&self, purpose: &str) -> Cipher {
        Cipher::new(&self.derived(purpose))
    }

    fn mac(&self, purpose: &str) -> Authenticator {
        authenticator(&self.derived(purpose))
    }
}

fn authenticator(key: &[u8; 32]) -> Authenticator {
    Authenticator::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(redacted)")
    }
}

/// The keys that are derived from one secret. The purposes' names are part of the format and never
/// change.
pub(crate) struct Key {
    /// Identifies the key in sealed texts. It reveals nothing about the key.
    pub(crate) id: [u8; 4],
    pub(crate) cookie_cipher: Cipher,
    pub(crate) cookie_mac: Authenticator,
    pub(crate) id_mac: Authenticator,
    pub(crate) rest_cipher: Cipher,
    pub(crate) owner_mac: Authenticator,
}

impl Key {
    pub(crate) fn of(secret: &SecretKey) -> Self {
        let id = secret.derived("session-cookie 1: key id");
        Self {
            id: *id.first_chunk().expect("a derived key has 32 bytes"),
            cookie_cipher: secret.cipher("session-cookie 1: encrypted cookie"),
            cookie_mac: secret.mac("session-cookie 1: signed cookie"),
            id_mac: secret.mac("session-cookie 1: signed id"),
            rest_cipher: secret.cipher("session-cookie 1: encrypted at rest"),
            owner_mac: secret.mac("session-cookie 1: owner at rest"),
        }
    }
}

/// Fills a buffer with bytes of the operating system's generator.
pub(crate) fn fill_random(bytes: &mut [u8]) -> Result<(), Error> {
    SysRng.try_fill_bytes(bytes).map_err(|source| Error::Random { source: source.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_43_characters_of_canonical_base64url_are_a_key() {
        let key = SecretKey::generate().unwrap();
        assert_eq!(SecretKey::parse(&key.text()), Some(key.clone()));
        assert!(!format!("{key:?}").contains(&key.text()[..6]));
        let text = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
        assert!(SecretKey::parse(text).is_some());
        for bad in [
            "",
            &text[..42],
            &format!("{text}A"),
            &format!("{text}="),
            &text.replace("Hh8", "Hh9"),
            &text.replace("AAEC", "AA+C"),
            &format!(" {}", &text[..42]),
            &"A".repeat(43),
        ] {
            assert_eq!(SecretKey::parse(bad), None, "{bad:?}");
        }
    }
}
