//! [`Verifier`]: the bytes by which a store recognizes the holder of a session.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::SessionId;
use crate::provider::Secret;

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
    ///
    /// 20 bytes of ones, then zeros, because a store in memory keeps only the first 20.
    pub const NOBODY: Self = {
        let mut bytes = [0; 32];
        let (ones, _) = bytes.split_at_mut(Secret::BYTES);
        let mut at = 0;
        while at < ones.len() {
            ones[at] = 0xff;
            at += 1;
        }
        Self(bytes)
    };

    /// Computes the SHA-256 of a version tag, the length of the namespace (4 bytes, big-endian), the
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

    /// Returns the secret itself, for a store that never leaves the process's memory; with a namespace, the
    /// first 20 bytes of the [`digest`](Self::digest). The other 12 bytes are zero. If the result equals
    /// [`NOBODY`](Self::NOBODY), its first byte is set to zero.
    pub fn plain(id: &SessionId, namespace: &str) -> Self {
        let mut bytes = [0; 32];
        match namespace {
            "" => bytes[..Secret::BYTES].copy_from_slice(id.secret().as_bytes()),
            _ => {
                let digest = Self::digest(id, namespace).0;
                bytes[..Secret::BYTES].copy_from_slice(&digest[..Secret::BYTES]);
            }
        }
        if bytes == Self::NOBODY.0 {
            bytes[0] = 0;
        }
        Self(bytes)
    }

    /// Makes a verifier of stored bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes to store.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for Verifier {
    fn eq(&self, other: &Self) -> bool {
        // By words: the comparison of bytes costs as much as the rest of finding a session in memory.
        let words = |verifier: &Self| -> [u64; 4] {
            std::array::from_fn(|word| {
                u64::from_ne_bytes(std::array::from_fn(|byte| verifier.0[8 * word + byte]))
            })
        };
        words(self).ct_eq(&words(other)).into()
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

    /// Fixed vector: it is in stores. What a store in memory keeps of it, and no id's.
    #[test]
    fn nobody_is_nobodys() {
        let mut bytes = [0; 32];
        bytes[..20].fill(0xff);
        assert_eq!(Verifier::NOBODY, Verifier::from_bytes(bytes));
        let made_up = SessionId::from_bytes([0xff; 32]);
        for namespace in ["", "shop"] {
            assert_ne!(Verifier::plain(&made_up, namespace), Verifier::NOBODY);
            assert_ne!(Verifier::digest(&made_up, namespace), Verifier::NOBODY);
        }
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
