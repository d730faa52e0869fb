//! Signed ids.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::Mac as _;
use once_cell::sync::OnceCell;
use session_core::provider::Secret;
use session_core::provider::{
    Answer, Changes, Listed, Note, Page, Provider, ProviderContext, ProviderFuture, Purged, Record,
    Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::KeyRing;
use crate::key::{Authenticator, Key};
use crate::names::Names;

/// Signs the ids of a provider that stores at the server, so that an invented id is refused without
/// asking the store.
///
/// The client's token is 67 characters of unpadded base64url of 50 bytes: the version (`0x01`), the
/// first byte of the signing key's id, the session's key (12) and secret (20), and the first 16 bytes of
/// HMAC-SHA-256 over the version, the signing key's whole id (4 bytes), the name that the token is
/// signed for, the session's key and the secret.
pub struct SignedProvider<P> {
    inner: P,
    ring: KeyRing,
    names: OnceCell<Names>,
}

const VERSION: u8 = 1;
const ID: usize = SessionKey::BYTES + Secret::BYTES;
const TAG: usize = 16;
const TEXT: usize = 67;

impl<P: Provider> SignedProvider<P> {
    /// Signs this provider's ids with these keys.
    pub fn new(inner: P, keys: KeyRing) -> Self {
        Self { inner, ring: keys, names: OnceCell::new() }
    }

    fn signature(key: &Key, name: &str, id: &SessionId) -> Authenticator {
        key.id_mac
            .clone()
            .chain_update([VERSION])
            .chain_update(key.id)
            .chain_update(name)
            .chain_update(id.key().as_bytes())
            .chain_update(id.secret().as_bytes())
    }

    fn sign(&self, id: &SessionId) -> Token {
        let key = self.ring.first();
        let name = Names::current(self.names.get());
        let tag = Self::signature(key, name, id).finalize().into_bytes();
        let head = [VERSION, key.id[0]];
        let bytes = [&head, &id.key().as_bytes()[..], id.secret().as_bytes(), &tag[..TAG]].concat();
        Token::with_text(*id, BASE64_URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Returns a new token for the client after an operation that keeps the secret, if the current token
    /// was signed by an old key or for an old name.
    fn renewed(&self, carried: &Token) -> Option<Token> {
        carried.needs_rewrite().then(|| self.sign(carried.id()))
    }
}

impl<P: Provider> Provider for SignedProvider<P> {
    fn token(&self, text: &[u8]) -> Option<Token> {
        let text: &[u8; TEXT] = text.try_into().ok()?;
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let (&[version, key_id], rest) = bytes.split_first_chunk()?;
        let (id, tag) = rest.split_first_chunk::<ID>()?;
        let id = SessionId::from_bytes(*id);
        // The comparison takes constant time.
        let signs = |key: &Key, name: &str| {
            Self::signature(key, name, &id).verify_truncated_left(tag).is_ok()
        };
        let is_current = Names::each(self.names.get()).find_map(|(name, is_current)| {
            let mut keys = self.ring.with_short_id(key_id);
            let key = keys.find(|key| version == VERSION && signs(key, name))?;
            Some(is_current && key.id == self.ring.first().id)
        })?;
        let token = Token::with_text(id, str::from_utf8(text).ok()?);
        Some(if is_current { token } else { token.to_be_rewritten() })
    }

    fn new_id(&self) -> Result<SessionId, Error> {
        self.inner.new_id()
    }

    fn renewed_id(&self, id: &SessionId) -> Result<SessionId, Error> {
        self.inner.renewed_id(id)
    }

    fn issue(&self, id: SessionId) -> Token {
        self.sign(&id)
    }

    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        self.inner.verifier(token, namespace)
    }

    fn is_outdated(&self, note: &Note) -> bool {
        self.inner.is_outdated(note)
    }

    fn configure(&self, context: &ProviderContext<'_>) -> Result<(), Error> {
        let names = self.names.get_or_init(|| Names::of(context));
        if *names != Names::of(context) {
            return Err(Error::config(format_args!(
                "this provider signs ids for the name {:?} already; open another one for {:?}",
                names.current, context.name
            )));
        }
        self.inner.configure(context)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.inner.create(id, record, now)
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        self.inner.load(token, now)
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let saved = self.inner.save(token, holder, changes, now);
        match self.renewed(token).filter(|_| changes.secret.is_none()) {
            Some(renewed) => {
                ProviderFuture::boxed(async move { saved.await.map(|_| Some(renewed)) })
            }
            None => saved,
        }
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let touched = self.inner.touch(token, touch, now);
        match self.renewed(token) {
            Some(renewed) => {
                ProviderFuture::boxed(async move { touched.await.map(|_| Some(renewed)) })
            }
            None => touched,
        }
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        self.inner.destroy(key, until, now)
    }

    fn lists(&self) -> bool {
        self.inner.lists()
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        self.inner.list(owner, page, now)
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
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

#[cfg(test)]
mod tests {
    use session_core::Lifetime;
    use session_core::transport::CookieOptions;
    use session_memory::{MemoryConfig, MemoryProvider};

    use super::*;
    use crate::SecretKey;

    // A fixed vector, made by the documented format with Python's hmac.
    const TEXT_OF_BYTES: &str =
        "Ae0AAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eH3JztYxDHTHh8eaoPQIkytA";

    #[test]
    fn ids_signed_before_are_still_read() {
        let bytes = std::array::from_fn(|n| n as u8);
        let ring = KeyRing::new(&[SecretKey::from_bytes(bytes).unwrap()]).unwrap();
        let provider = SignedProvider::new(MemoryProvider::new(MemoryConfig::default()), ring);
        let second = std::time::Duration::from_secs(1);
        let lifetime = Lifetime { idle: second, absolute: second };
        provider
            .configure(&ProviderContext::new(&CookieOptions::default().name, lifetime))
            .unwrap();
        let id = SessionId::from_bytes(bytes);
        assert_eq!(provider.issue(id).own_text(), Some(TEXT_OF_BYTES));
        let token = provider.token(TEXT_OF_BYTES.as_bytes()).expect("is signed");
        assert_eq!(*token.id().text(), *id.text());
        assert!(!token.needs_rewrite());
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let ring = KeyRing::ephemeral().unwrap();
        let provider = SignedProvider::new(MemoryProvider::new(MemoryConfig::default()), ring);
        let token = provider.issue(SessionId::generate().unwrap());
        let text = token.own_text().unwrap();
        assert!(provider.token(text.as_bytes()).is_some());
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let text = BASE64_URL_SAFE_NO_PAD.encode(bytes);
            assert!(provider.token(text.as_bytes()).is_none(), "bit {bit}");
        }
        for text in ["", &text[1..], &format!("{text}A"), &SessionId::generate().unwrap().text()] {
            assert!(provider.token(text.as_bytes()).is_none());
        }
    }
}
