//! What a store keeps to recognize the holder of a session.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::{Secret, SessionId};

/// What a record keeps to recognize the client that holds the session: 32 bytes made from the
/// session's id. Equality takes the same time whatever differs.
///
/// It tells nobody the secret ([`digest`](Self::digest)), unless it never leaves the process's memory
/// ([`plain`](Self::plain)).
#[derive(Clone, Copy)]
pub struct Verifier([u8; 32]);

/// Stands before what is hashed; the number is the version of the format.
const TAG: &[u8] = b"session holder 1\0";

impl Verifier {
    /// The verifier that no client's id has: that of a session which has ended.
    pub const NOBODY: Self = Self([0xff; 32]);

    /// The SHA-256 of a version tag, the length of the namespace (4 bytes, big-endian), the
    /// namespace, the key and the secret.
    ///
    /// Secrets have 160 random bits, so the hash needs neither salt nor stretching.
    pub fn digest(id: &SessionId, namespace: &str) -> Self {
        let length = u32::try_from(namespace.len()).unwrap_or(u32::MAX).to_be_bytes();
        let hash = Sha256::new()
            .chain_update(TAG)
            .chain_update(length)
            .chain_update(namespace)
            .chain_update(id.key().as_bytes())
            .chain_update(id.secret().as_bytes());
        Self(hash.finalize().into())
    }

    /// The secret itself, for a store that never leaves the process's memory; with a namespace, the
    /// first 20 bytes of the [`digest`](Self::digest). The other 12 bytes are zero.
    pub fn plain(id: &SessionId, namespace: &str) -> Self {
        let mut bytes = [0; 32];
        match namespace {
            "" => bytes[..Secret::BYTES].copy_from_slice(id.secret().as_bytes()),
            _ => {
                let digest = Self::digest(id, namespace).0;
                bytes[..Secret::BYTES].copy_from_slice(&digest[..Secret::BYTES]);
            }
        }
        Self(bytes)
    }

    /// The verifier of these bytes, as a store kept them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Verifier {}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fixed vectors: the digests are in stores and must never change. They are what
    /// `sha256` says of `session holder 1`, NUL, the length, the namespace and the bytes 0 to 31.
    #[test]
    fn the_digest_is_fixed() {
        let id = SessionId::from_bytes(std::array::from_fn(|i| i as u8));
        let hex = |verifier: Verifier| -> String {
            verifier.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
        };
        assert_eq!(
            hex(Verifier::digest(&id, "")),
            "63de683e72871cb03a897b30405c437f169bb0b2dacd3d97c0f55cac20d12a60"
        );
        assert_eq!(
            hex(Verifier::digest(&id, "shop")),
            "29cac5a7ea8c839ba9bd45a14f481df247f56bc207d1e37dd9cf7c85046a2879"
        );
        let plain: String = (12..32).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex(Verifier::plain(&id, "")), plain + &"00".repeat(12));
        assert_eq!(
            hex(Verifier::plain(&id, "shop"))[..40],
            hex(Verifier::digest(&id, "shop"))[..40]
        );
    }

    #[test]
    fn everything_takes_part() {
        let id = SessionId::from_bytes([7; 32]);
        let other_key = SessionId::from_bytes(std::array::from_fn(|i| if i == 0 { 8 } else { 7 }));
        let other_secret =
            SessionId::from_bytes(std::array::from_fn(|i| if i == 31 { 8 } else { 7 }));
        let digest = Verifier::digest(&id, "");
        assert_eq!(digest, Verifier::digest(&id, ""));
        for other in [
            Verifier::digest(&other_key, ""),
            Verifier::digest(&other_secret, ""),
            Verifier::digest(&id, "a"),
            Verifier::NOBODY,
        ] {
            assert_ne!(digest, other);
        }
    }
}
