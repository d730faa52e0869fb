//! Authenticated encryption.

use aes_gcm_siv::aead::AeadInOut as _;
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce, Tag};
use rand::Rng as _;

/// AES-256-GCM-SIV (RFC 8452) under one key. A sealed message is the nonce, the ciphertext, which is as
/// long as the message, and the tag. The key is wiped from memory when the cipher is dropped.
pub(crate) struct Cipher(Aes256GcmSiv);

pub(crate) const NONCE: usize = 12;
pub(crate) const TAG: usize = 16;

impl Cipher {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(Aes256GcmSiv::new(key.into()))
    }

    /// Encrypts a message in place. The first bytes of `message` are room for the nonce. Returns the
    /// tag, which the caller appends. `context` is authenticated as well.
    pub(crate) fn seal(&self, context: &[u8], message: &mut [u8]) -> [u8; TAG] {
        let (nonce, message) = message.split_first_chunk_mut().expect("there is room for a nonce");
        // The nonce comes from the thread's generator, which the system's generator seeds: asking the
        // system each time would take longer than the whole sealing. If a forked process inherited the
        // generator's state, two messages could have the same nonce. Under GCM-SIV that only reveals
        // whether the two messages and their contexts are equal.
        rand::rng().fill_bytes(nonce);
        let tag = self.0.encrypt_inout_detached(&Nonce::from(*nonce), context, message.into());
        tag.expect("a message is shorter than 64 GiB").into()
    }

    /// Decrypts a message in place and returns it. Returns `None` for anything that was not sealed under
    /// this key with this context.
    pub(crate) fn open<'a>(&self, context: &[u8], sealed: &'a mut [u8]) -> Option<&'a [u8]> {
        let (nonce, rest) = sealed.split_first_chunk_mut::<NONCE>()?;
        let (message, tag) = rest.split_last_chunk_mut::<TAG>()?;
        let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
        self.0.decrypt_inout_detached(&nonce, context, (&mut *message).into(), &tag).ok()?;
        Some(message)
    }
}
