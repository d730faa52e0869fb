//! The encryption of one part of a stored record.

use session_core::{Error, SessionKey};

use crate::KeyRing;
use crate::cipher::{NONCE, TAG};
use crate::key::Key;

/// Which part of a session a ciphertext holds. The part is authenticated with the ciphertext, so the
/// ciphertext can't be read as another part, or as a part of another session.
///
/// A ciphertext is:
///
/// | part | bytes | |
/// |---|---|---|
/// | version | 1 | `0x01` |
/// | key | 4 | the id of the ring's key |
/// | nonce | 12 | random |
/// | ciphertext | | AES-256-GCM-SIV (RFC 8452) |
/// | tag | 16 | |
///
/// The associated data are the version, the ring key's id, the part (one byte: `v`, `s` or `l`), the
/// session's key (12 bytes), and for a value its key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// The value with this key.
    Value(&'a str),
    /// The session's holder, and who is logged in since when.
    Seal,
    /// The label of the login.
    Label,
}

const VERSION: u8 = 1;

/// Version, key id and nonce.
const HEAD: usize = 1 + 4 + NONCE;

/// The most bytes that encryption adds to a value, with up to five bytes for a length.
pub(crate) const ADDED_TO_VALUE: usize = 5 + HEAD + TAG;

/// Why a stored record can't be read: the reason in [`Error::Unreadable`].
pub(crate) type Reason = &'static str;

pub(crate) const DAMAGED: Reason =
    "it is damaged, not encrypted, or was stored for another session";
pub(crate) const UNKNOWN_KEY: Reason = "it is encrypted under a key that is not in the key ring";

impl Part<'_> {
    /// Encrypts this part of a session under the ring's first key.
    pub(crate) fn encrypt(self, ring: &KeyRing, session: &SessionKey, plain: &[u8]) -> Vec<u8> {
        let key = ring.first();
        let mut bytes = Vec::with_capacity(HEAD + plain.len() + TAG);
        bytes.push(VERSION);
        bytes.extend(key.id);
        let from = bytes.len();
        bytes.extend([0; NONCE]);
        bytes.extend(plain);
        let tag = key.rest_cipher.seal(&self.context(key, session), &mut bytes[from..]);
        bytes.extend(tag);
        bytes
    }

    /// Decrypts this part of a session, under any key of the ring.
    pub(crate) fn decrypt(
        self,
        ring: &KeyRing,
        session: &SessionKey,
        bytes: &[u8],
    ) -> Result<Vec<u8>, Reason> {
        let (&[version, ref id @ ..], sealed) = bytes.split_first_chunk::<5>().ok_or(DAMAGED)?;
        if version != VERSION {
            return Err(DAMAGED);
        }
        let key = ring.with_id(*id).ok_or(UNKNOWN_KEY)?;
        let mut plain = sealed.to_vec();
        let context = self.context(key, session);
        let opened = key.rest_cipher.open(&context, &mut plain).ok_or(DAMAGED)?;
        let length = opened.len();
        plain.drain(..NONCE);
        plain.truncate(length);
        Ok(plain)
    }

    fn context(self, key: &Key, session: &SessionKey) -> Vec<u8> {
        let (kind, name) = match self {
            Self::Value(name) => (b'v', name),
            Self::Seal => (b's', ""),
            Self::Label => (b'l', ""),
        };
        [&[VERSION], &key.id[..], &[kind], session.as_bytes(), name.as_bytes()].concat()
    }
}

/// Returns whether a ciphertext was made under the ring's first key.
pub(crate) fn is_by_first(ring: &KeyRing, bytes: &[u8]) -> bool {
    bytes.get(1..5) == Some(&ring.first().id)
}

/// Encodes bytes as a MessagePack value (bin 8, 16 or 32), because a store may expect one.
pub(crate) fn to_value(bytes: &[u8]) -> Result<Vec<u8>, Error> {
    let too_large = || Error::TooLarge { what: "value bytes", limit: u32::MAX as usize };
    let length = u32::try_from(bytes.len()).map_err(|_| too_large())?;
    let mut value = Vec::with_capacity(5 + bytes.len());
    rmp::encode::write_bin_len(&mut value, length).map_err(|_| too_large())?;
    value.extend(bytes);
    Ok(value)
}

/// Decodes a value that [`to_value`] encoded.
pub(crate) fn from_value(mut value: &[u8]) -> Result<&[u8], Reason> {
    let length = rmp::decode::read_bin_len(&mut value).map_err(|_| DAMAGED)?;
    if value.len() == length as usize { Ok(value) } else { Err(DAMAGED) }
}
