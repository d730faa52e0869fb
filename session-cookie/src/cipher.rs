//! Authenticated encryption.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand::Rng as _;

/// AES-256-GCM-SIV (RFC 8452) under one key. A sealed message is the nonce, the ciphertext of the
/// message's length, and the tag. The key is wiped from memory when it is dropped.
pub(crate) struct Cipher(LessSafeKey);

pub(crate) const NONCE: usize = NONCE_LEN;
pub(crate) const TAG: usize = 16;

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("a key has 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts a message that has room for a nonce in front, and answers the tag to be put behind;
    /// the context is authenticated with it.
    pub(crate) fn seal(&self, context: &[u8], message: &mut [u8]) -> [u8; TAG] {
        let (nonce, message) = message.split_first_chunk_mut().expect("there is room for a nonce");
        // The thread's generator, seeded by the system's, which takes longer than all the sealing.
        // Were its state inherited by a forked process, two messages could have one nonce: under
        // GCM-SIV that tells whether they and their contexts are equal, and no more.
        rand::rng().fill_bytes(nonce);
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(context), message);
        let tag = tag.expect("a message is shorter than 64 GiB");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    /// The message, decrypted in its place; `None` for anything that was not sealed under this key
    /// with this context.
    pub(crate) fn open<'a>(&self, context: &[u8], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE>()?;
        let (message, tag) = rest.split_last_chunk_mut::<TAG>()?;
        let (nonce, context) = (Nonce::from(&*nonce), Aad::from(context));
        self.0.open_in_place_separate_tag(nonce, context, tag, message).ok()?;
        Some(message)
    }
}
