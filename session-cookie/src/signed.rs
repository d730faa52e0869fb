//! Signed ids.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use once_cell::sync::OnceCell;
use session_core::{
    Binding, Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};

use crate::KeyRing;
use crate::key::{Authenticator, Key};

/// Signs the ids of a provider that stores at the server: a made-up id is refused without asking
/// the store.
///
/// The text that clients carry is 67 characters of unpadded base64url of 50 bytes: the version
/// (`0x01`), the first byte of the key's id, the session's id (32), and the first 16 bytes of
/// HMAC-SHA-256 over the version, the key's whole id (4 bytes), the name that clients know the
/// session by, and the session's id.
pub struct SignedProvider<P> {
    inner: P,
    ring: KeyRing,
    name: OnceCell<Box<str>>,
}

const VERSION: u8 = 1;
const TAG: usize = 16;
const BYTES: usize = 2 + SessionId::BYTES + TAG;
const TEXT: usize = 67;

impl<P: Provider> SignedProvider<P> {
    /// Signs this provider's ids.
    pub fn new(inner: P, keys: KeyRing) -> Self {
        Self { inner, ring: keys, name: OnceCell::new() }
    }

    fn signature(&self, key: &Key, id: &SessionId) -> Authenticator {
        let name = self.name.get().map_or("", |name| name);
        key.id_mac
            .clone()
            .chain_update([VERSION])
            .chain_update(key.id)
            .chain_update(name)
            .chain_update(id.as_bytes())
    }

    fn sign(&self, id: &SessionId) -> Token {
        let key = self.ring.first();
        let tag = self.signature(key, id).finalize().into_bytes();
        let mut bytes = [0; BYTES];
        bytes[..2].copy_from_slice(&[VERSION, key.id[0]]);
        bytes[2..2 + SessionId::BYTES].copy_from_slice(id.as_bytes());
        bytes[2 + SessionId::BYTES..].copy_from_slice(&tag[..TAG]);
        Token::with_text(*id, BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// What the client is to carry after an operation on what it carries.
    fn answered(&self, carried: &Token, answer: Result<Token, Error>) -> Result<Token, Error> {
        let answer = answer?;
        let stays = answer.id() == carried.id()
            && carried.own_text().is_some()
            && !carried.is_to_be_renewed();
        Ok(if stays { carried.clone() } else { self.sign(answer.id()) })
    }
}

impl<P: Provider> Provider for SignedProvider<P> {
    fn token(&self, text: &[u8]) -> Option<Token> {
        let mut bytes = [0; BYTES];
        if text.len() != TEXT {
            return None;
        }
        BASE64_URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (&[version, key_id], rest) = bytes.split_first_chunk()?;
        let (id, tag) = rest.split_first_chunk::<{ SessionId::BYTES }>()?;
        let id = SessionId::from_bytes(*id);
        // In constant time.
        let signs = |key: &Key| self.signature(key, &id).verify_truncated_left(tag).is_ok();
        let key = self.ring.with_short_id(key_id).find(|key| version == VERSION && signs(key))?;
        let token = Token::with_text(id, str::from_utf8(text).ok()?);
        Some(if key.id == self.ring.first().id { token } else { token.to_be_renewed() })
    }

    fn new_token(&self) -> Result<Token, Error> {
        self.inner.new_token().map(|token| self.sign(token.id()))
    }

    fn bind(&self, binding: &Binding<'_>) -> Result<(), Error> {
        let name = self.name.get_or_init(|| binding.name.into());
        if **name != *binding.name {
            return Err(Error::config(format_args!(
                "this provider signs ids for the name {name:?} already; open another one for {:?}",
                binding.name
            )));
        }
        self.inner.bind(binding)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.inner.create(id, record, now).map(|token| token.map(|token| self.sign(token.id())))
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        self.inner.load(token, now)
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.inner.save(token, changes, now).map(|answer| self.answered(token, answer))
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.inner.rename(token, new_id, now).map(|answer| self.answered(token, answer))
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        self.inner.destroy(token, now)
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.inner.touch(token, expires, now).map(|answer| self.answered(token, answer))
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.inner.purge(now, limit)
    }
}

impl<P: fmt::Debug> fmt::Debug for SignedProvider<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignedProvider")
            .field("inner", &self.inner)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}
