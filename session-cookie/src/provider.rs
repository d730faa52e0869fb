//! The provider `cookie`: sessions in sealed tokens.

use std::time::Duration;

use once_cell::sync::OnceCell;
use session_core::provider::Secret;
use session_core::provider::{
    Answer, Changes, Provider, ProviderContext, ProviderFuture, Purged, Record, Token, Touch,
    Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use tracing::info;

use crate::key::fill_random;
use crate::names::Names;
use crate::revocation::Revocations;
use crate::seal::{HEADROOM, MAX_NAME_LEN, Sealer};
use crate::{CookieConfig, Mode, format};

/// Keeps each session sealed in the client's token.
///
/// The [crate's documentation](crate) describes the guarantees and limitations. A provider serves one
/// manager, whose name it seals with each session.
#[derive(Debug)]
pub struct CookieProvider {
    sealer: Sealer,
    revocations: Option<Revocations>,
    configured: OnceCell<Configured>,
}

/// What the provider needs of the [`ProviderContext`].
#[derive(Debug)]
struct Configured {
    names: Names,
    absolute: Duration,
}

/// The note of this provider's tokens: the session in the sealed text.
struct Sealed {
    record: Record,
    /// Whether the session was sealed by the ring's first key and for the current name.
    is_current: bool,
}

/// The number of random bytes in a new secret. The secret authenticates nothing, as the seal does that;
/// it tells a session's ids apart. The secret of a session's first id is zeros, which take no room in a
/// cookie.
const SECRET_BYTES: usize = 8;

impl CookieProvider {
    /// Makes a provider with this configuration.
    pub fn new(config: CookieConfig) -> Self {
        let CookieConfig { keys, mode, revocations } = config;
        Self {
            sealer: Sealer { ring: keys, mode },
            revocations: revocations.map(Revocations::new),
            configured: OnceCell::new(),
        }
    }

    /// Returns how the provider seals sessions.
    pub fn mode(&self) -> Mode {
        self.sealer.mode
    }

    fn names(&self) -> Option<&Names> {
        self.configured.get().map(|configured| &configured.names)
    }

    fn seal(&self, id: &SessionId, record: Record, headroom: usize) -> Result<Token, Error> {
        let text = self.sealer.seal(Names::current(self.names()), id, &record, headroom)?;
        Ok(Token::with_note(*id, text, Sealed { record, is_current: true }))
    }

    /// Seals a changed session. Returns `None` if neither the record nor the way of sealing differs from
    /// the token's.
    fn reseal(
        &self,
        sealed: &Sealed,
        id: &SessionId,
        record: &Record,
        headroom: usize,
    ) -> Result<Option<Token>, Error> {
        if *record == sealed.record && sealed.is_current {
            return Ok(None);
        }
        self.seal(id, record.clone(), headroom).map(Some)
    }

    /// Returns how long the entry of a session's new id must live.
    fn entry_expiry(&self, before: &Record, after: &Record) -> Timestamp {
        let start = after.login.as_deref().map_or(after.created, |login| login.at);
        let absolute =
            self.configured.get().map_or(Duration::ZERO, |configured| configured.absolute);
        start.saturating_add(absolute).max(before.expires).max(after.expires)
    }
}

/// Returns the session in a token if it is live.
fn live(token: &Token, now: Timestamp) -> Option<&Sealed> {
    token.note::<Sealed>().filter(|sealed| sealed.record.is_live(now))
}

impl Provider for CookieProvider {
    fn token(&self, text: &[u8]) -> Option<Token> {
        let (opened, is_current) = Names::each(self.names()).find_map(|(name, is_current)| {
            let opened = self.sealer.open(name, text)?;
            let is_current = is_current && opened.by_first_key;
            Some((opened, is_current))
        })?;
        let sealed = Sealed { record: opened.record, is_current };
        let token = Token::with_note(opened.id, str::from_utf8(text).ok()?, sealed);
        Some(if is_current { token } else { token.to_be_rewritten() })
    }

    fn new_id(&self) -> Result<SessionId, Error> {
        let mut key = [0; SessionKey::BYTES];
        fill_random(&mut key)?;
        Ok(SessionId::new(SessionKey::from_bytes(key), Secret::from_bytes([0; Secret::BYTES])))
    }

    fn renewed_id(&self, id: &SessionId) -> Result<SessionId, Error> {
        let mut secret = [0; Secret::BYTES];
        fill_random(&mut secret[..SECRET_BYTES])?;
        Ok(SessionId::new(id.key(), Secret::from_bytes(secret)))
    }

    /// The namespace has no effect: the name that is sealed with a session separates applications.
    fn verifier(&self, token: &Token, _namespace: &str) -> Verifier {
        format::holder(token.id())
    }

    fn configure(&self, context: &ProviderContext<'_>) -> Result<(), Error> {
        if context.in_urls {
            return Err(Error::config(
                "sealed sessions don't travel in URLs: choose the transport cookie or header",
            ));
        }
        let mut names =
            std::iter::once(context.name).chain(context.also.iter().map(String::as_str));
        if names.any(|name| name.len() > MAX_NAME_LEN) {
            return Err(Error::config(format_args!(
                "the session's name is longer than {MAX_NAME_LEN} bytes"
            )));
        }
        let configured = self.configured.get_or_init(|| {
            if self.revocations.is_none() {
                info!(
                    "sealed sessions without revocations: a copied cookie works until it expires"
                );
            }
            Configured { names: Names::of(context), absolute: context.lifetime.absolute }
        });
        if configured.names != Names::of(context) {
            return Err(Error::config(format_args!(
                "this provider seals sessions for the name {:?} already; open another one for {:?}",
                configured.names.current, context.name
            )));
        }
        Ok(())
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        _now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::ready(self.seal(id, record, HEADROOM).map(Some))
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        let record = live(token, now).map(|sealed| sealed.record.clone());
        match (&self.revocations, record) {
            (Some(revocations), Some(record)) => {
                ProviderFuture::boxed(revocations.complete(token.key(), record, now))
            }
            (_, record) => ProviderFuture::ready(Ok(record)),
        }
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let Some(sealed) = live(token, now) else { return ProviderFuture::ready(Err(Error::Gone)) };
        let mut record = sealed.record.clone();
        let secret = changes.secret.as_deref();
        let id = secret.map_or(token.id(), |secret| secret.token.id());
        let is_growing = !changes.is_empty() || changes.login.is_some();
        // Whatever can fail without the store is done first, because the store commits a new id.
        let renewed = record
            .apply(holder, changes, now)
            .and_then(|()| self.reseal(sealed, id, &record, if is_growing { HEADROOM } else { 0 }));
        match (&self.revocations, renewed) {
            (Some(revocations), Ok(renewed)) => ProviderFuture::boxed(async move {
                let (key, before) = (token.key(), &sealed.record);
                match secret {
                    Some(secret) => {
                        let until = self.entry_expiry(before, &record);
                        revocations.renew(key, before, secret, until, now).await?;
                    }
                    None => revocations.check(key, before, &record, now).await?,
                }
                Ok(renewed)
            }),
            (_, renewed) => ProviderFuture::ready(renewed),
        }
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let Some(sealed) = live(token, now) else { return ProviderFuture::ready(Err(Error::Gone)) };
        let mut record = sealed.record.clone();
        let renewed =
            record.touch(touch, now).and_then(|()| self.reseal(sealed, token.id(), &record, 0));
        match (&self.revocations, renewed) {
            (Some(revocations), Ok(renewed)) => ProviderFuture::boxed(async move {
                revocations.check(token.key(), &sealed.record, &record, now).await?;
                Ok(renewed)
            }),
            (_, renewed) => ProviderFuture::ready(renewed),
        }
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        match &self.revocations {
            Some(revocations) if now < until => {
                ProviderFuture::boxed(revocations.end(*key, until, now))
            }
            _ => ProviderFuture::ready(Ok(())),
        }
    }

    fn count(&self, _now: Timestamp) -> Answer<'_, u64> {
        ProviderFuture::ready(Err(Error::Unsupported { what: "counting sessions" }))
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        match &self.revocations {
            Some(revocations) => revocations.purge(now, limit),
            None => Ok(Purged::default()),
        }
    }
}
