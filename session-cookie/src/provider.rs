//! The provider over sealed texts.

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
use crate::seal::{LONGEST_NAME, SPARE, Sealer};
use crate::{CookieConfig, Mode, format};

/// Keeps each session in its own token, sealed.
///
/// What it promises and what it can't is said in the [crate's documentation](crate). It serves one
/// manager, whose name it seals with each session.
#[derive(Debug)]
pub struct CookieProvider {
    sealer: Sealer,
    revocations: Option<Revocations>,
    bound: OnceCell<Bound>,
}

/// What the manager said of itself.
#[derive(Debug)]
struct Bound {
    names: Names,
    absolute: Duration,
}

/// What a token of this provider has as its note: the session that its text holds.
struct Sealed {
    record: Record,
    /// Whether it was sealed as it would be now: by the ring's first key, for the current name.
    is_current: bool,
}

/// The random bytes of a new secret. It opens nothing, as the seal does that: it tells the ids that one
/// session has had apart. A first id's secret is zeros, which take no room in a cookie.
const SECRET: usize = 8;

impl CookieProvider {
    /// A provider by this configuration.
    pub fn new(config: CookieConfig) -> Self {
        let CookieConfig { keys, mode, revocations } = config;
        Self {
            sealer: Sealer { ring: keys, mode },
            revocations: revocations.map(Revocations::new),
            bound: OnceCell::new(),
        }
    }

    /// How it seals.
    pub fn mode(&self) -> Mode {
        self.sealer.mode
    }

    fn names(&self) -> Option<&Names> {
        self.bound.get().map(|bound| &bound.names)
    }

    fn seal(&self, id: &SessionId, record: Record, spare: usize) -> Result<Token, Error> {
        let text = self.sealer.seal(Names::current(self.names()), id, &record, spare)?;
        Ok(Token::with_note(*id, text, Sealed { record, is_current: true }))
    }

    /// Seals what became of a token's session. Returns `None` if it is as it was.
    fn reseal(
        &self,
        sealed: &Sealed,
        id: &SessionId,
        record: &Record,
        spare: usize,
    ) -> Result<Option<Token>, Error> {
        if *record == sealed.record && sealed.is_current {
            return Ok(None);
        }
        self.seal(id, record.clone(), spare).map(Some)
    }

    /// Returns until when an entry of a session's new id is needed.
    fn until(&self, before: &Record, after: &Record) -> Timestamp {
        let start = after.login.as_deref().map_or(after.created, |login| login.at);
        let absolute = self.bound.get().map_or(Duration::ZERO, |bound| bound.absolute);
        start.saturating_add(absolute).max(before.expires).max(after.expires)
    }
}

/// Returns what is in a token's text, if that is a live session.
fn live(token: &Token, now: Timestamp) -> Option<&Sealed> {
    token.note::<Sealed>().filter(|sealed| sealed.record.is_live(now))
}

impl Provider for CookieProvider {
    fn token(&self, text: &[u8]) -> Option<Token> {
        let (opened, is_current) = Names::each(self.names()).find_map(|(name, is_current)| {
            let opened = self.sealer.open(name, text)?;
            let is_current = is_current && opened.by_first;
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
        fill_random(&mut secret[..SECRET])?;
        Ok(SessionId::new(id.key(), Secret::from_bytes(secret)))
    }

    /// The name that is sealed with a session tells applications apart, not the namespace.
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
        if names.any(|name| name.len() > LONGEST_NAME) {
            return Err(Error::config(format_args!(
                "the session's name is longer than {LONGEST_NAME} bytes"
            )));
        }
        let bound = self.bound.get_or_init(|| {
            if self.revocations.is_none() {
                info!(
                    "sealed sessions without revocations: a copied cookie works until it expires"
                );
            }
            Bound { names: Names::of(context), absolute: context.lifetime.absolute }
        });
        if bound.names != Names::of(context) {
            return Err(Error::config(format_args!(
                "this provider seals sessions for the name {:?} already; open another one for {:?}",
                bound.names.current, context.name
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
        ProviderFuture::ready(self.seal(id, record, SPARE).map(Some))
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
        // What can fail without the store comes before the store, where a new id is committed.
        let renewed = record
            .apply(holder, changes, now)
            .and_then(|()| self.reseal(sealed, id, &record, if is_growing { SPARE } else { 0 }));
        match (&self.revocations, renewed) {
            (Some(revocations), Ok(renewed)) => ProviderFuture::boxed(async move {
                let (key, before) = (token.key(), &sealed.record);
                match secret {
                    Some(secret) => {
                        let until = self.until(before, &record);
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
