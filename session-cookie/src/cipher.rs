//! Authenticated encryption.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use rand::Rng as _;

/// AES-256-GCM-SIV (RFC 8452) under one key. A sealed message is the nonce, the ciphertext of the
/// message's length, and the tag. The key is wiped from memory when it is dropped.
pub(crate) struct Cipher(LessSafeKey);

const TAG: usize = 16;

impl Cipher {
    /// How much longer a message is when it is sealed.
    pub(crate) const ADDED: usize = NONCE_LEN + TAG;

    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).expect("a key has 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Appends the sealed message that `write` appends, authenticated with the context.
    pub(crate) fn seal(&self, context: &[u8], out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        // The thread's generator, seeded by the system's, which takes longer than all the sealing.
        // Were its state inherited by a forked process, two messages could have one nonce: under
        // GCM-SIV that tells whether they and their contexts are equal, and no more.
        let mut nonce = [0; NONCE_LEN];
        rand::rng().fill_bytes(&mut nonce);
        out.extend(nonce);
        let from = out.len();
        write(out);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce, Aad::from(context), &mut out[from..])
            .expect("a message is shorter than 64 GiB");
        out.extend(tag.as_ref());
    }

    /// The message; `None` for anything that was not sealed under this key with this context.
    pub(crate) fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let (ciphertext, tag) = rest.split_last_chunk::<TAG>()?;
        let mut message = vec![0; ciphertext.len()];
        let nonce = Nonce::from(nonce);
        self.0
            .open_separate_gather(nonce, Aad::from(context), ciphertext, tag, &mut message)
            .ok()?;
        Some(message)
    }
}
