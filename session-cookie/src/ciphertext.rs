//! One stored value under encryption.

use session_core::Error;

use crate::KeyRing;
use crate::cipher::{NONCE, TAG};
use crate::key::Key;

/// What a ciphertext is, and where it stands: it is authenticated with it, and can't be read
/// anywhere else.
///
/// A ciphertext is MessagePack bytes (bin 8, 16 or 32) with this content:
///
/// | part | bytes | |
/// |---|---|---|
/// | version | 1 | `0x01` |
/// | key | 4 | the key's id |
/// | nonce | 12 | random |
/// | ciphertext | | AES-256-GCM-SIV (RFC 8452) |
/// | tag | 16 | |
///
/// Authenticated with it are version, key id, what it is (one byte: `v`, `o` or `b`), and for
/// values and owners the record's salt (16 bytes) and the key that it is stored under; for bonds
/// the digest of the id.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    Value(&'a Salt, &'a str),
    Owner(&'a Salt),
    Bond(&'a [u8; 32]),
}

const VERSION: u8 = 1;
const SALT: usize = 16;

/// Version, key id and nonce.
const HEAD: usize = 1 + 4 + NONCE;

/// What encryption adds to a value, at the most: a length, too, which takes five bytes.
pub(crate) const ADDED_TO_VALUE: usize = 5 + HEAD + TAG + 1;

/// Random bytes that the values of one record have in common.
pub(crate) type Salt = [u8; SALT];

/// Why a stored record can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// Its key is not in the ring.
    UnknownKey,
    /// It is damaged, not encrypted, or another session's.
    Damaged,
}

impl From<Closed> for Error {
    fn from(closed: Closed) -> Self {
        match closed {
            Closed::UnknownKey => Self::config(
                "a stored session is encrypted under a key that is not in the key ring; put the \
                 key back, behind the others",
            ),
            Closed::Damaged => Self::Unreadable {
                reason: "it is damaged, not encrypted, or was stored for another session",
            },
        }
    }
}

impl Place<'_> {
    /// Encrypts under the first key.
    pub(crate) fn encrypt(self, ring: &KeyRing, plain: &[u8]) -> Result<Vec<u8>, Error> {
        let key = ring.first();
        let length = HEAD + plain.len() + TAG;
        let mut bytes = Vec::with_capacity(5 + length);
        match length {
            0..=0xff => bytes.extend([0xc4, length as u8]),
            0x100..=0xffff => {
                bytes.push(0xc5);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                let Ok(length) = u32::try_from(length) else {
                    return Err(Error::TooLarge { what: "value bytes", limit: u32::MAX as usize });
                };
                bytes.push(0xc6);
                bytes.extend(length.to_be_bytes());
            }
        }
        bytes.push(VERSION);
        bytes.extend(key.id);
        let from = bytes.len();
        bytes.extend([0; NONCE]);
        bytes.extend(plain);
        let tag = key.rest_cipher.seal(&self.context(key), &mut bytes[from..]);
        bytes.extend(tag);
        Ok(bytes)
    }

    /// Answers whether the first key encrypted it, too.
    pub(crate) fn decrypt(self, ring: &KeyRing, stored: &[u8]) -> Result<(Vec<u8>, bool), Closed> {
        let content = bin(stored).ok_or(Closed::Damaged)?;
        let (&[version, a, b, c, d], sealed) =
            content.split_first_chunk().ok_or(Closed::Damaged)?;
        if version != VERSION {
            return Err(Closed::Damaged);
        }
        let key = ring.with_id([a, b, c, d]).ok_or(Closed::UnknownKey)?;
        let mut plain = sealed.to_vec();
        let opened = key.rest_cipher.open(&self.context(key), &mut plain).ok_or(Closed::Damaged)?;
        let length = opened.len();
        plain.drain(..NONCE);
        plain.truncate(length);
        Ok((plain, key.id == ring.first().id))
    }

    fn context(self, key: &Key) -> Vec<u8> {
        let mut context = vec![VERSION];
        context.extend(key.id);
        let (kind, salt, rest) = match self {
            Self::Value(salt, key) => (b'v', &salt[..], key.as_bytes()),
            Self::Owner(salt) => (b'o', &salt[..], &[][..]),
            Self::Bond(digest) => (b'b', &[][..], &digest[..]),
        };
        context.push(kind);
        context.extend(salt);
        context.extend(rest);
        context
    }
}

/// The content of MessagePack bytes, which are all there is.
fn bin(stored: &[u8]) -> Option<&[u8]> {
    let (&marker, rest) = stored.split_first()?;
    let (length, content) = rest.split_at_checked(match marker {
        0xc4 => 1,
        0xc5 => 2,
        0xc6 => 4,
        _ => return None,
    })?;
    let length = length.iter().fold(0usize, |length, byte| length << 8 | usize::from(*byte));
    (content.len() == length).then_some(content)
}
