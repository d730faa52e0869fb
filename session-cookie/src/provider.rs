//! The provider over sealed texts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use once_cell::sync::OnceCell;
use session_core::{
    Binding, Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};
use tracing::info;

use crate::format::Content;
use crate::head::short_id;
use crate::revocation::Revocations;
use crate::seal::{LONGEST_NAME, Opened, SPARE, Sealer};
use crate::{CookieConfig, Mode};

/// Keeps each session in its own token, sealed.
///
/// What it promises and what it can't is said in the [crate's documentation](crate). It serves one
/// manager, whose name it seals with each session.
#[derive(Debug)]
pub struct CookieProvider {
    sealer: Sealer,
    revocations: Option<Revocations>,
    bound: OnceCell<Bound>,
    /// Different for each provider of the process: what one could open, another may not.
    number: u64,
}

/// What a provider found under a token's seal, with that provider's number. Not a secret kept longer
/// than others: the session has the values for as long as it is loaded.
struct Note(u64, Opened);

/// The number of the next provider.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// What the manager said of itself.
#[derive(Debug)]
struct Bound {
    name: Box<str>,
    absolute: Duration,
}

/// How far ahead of ours the clock may be of the server that made a seal.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

impl CookieProvider {
    /// A provider by this configuration.
    pub fn new(config: CookieConfig) -> Self {
        let CookieConfig { keys, mode, revocations } = config;
        Self {
            sealer: Sealer { ring: keys, mode },
            revocations: revocations.map(Revocations::new),
            bound: OnceCell::new(),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// How it seals.
    pub fn mode(&self) -> Mode {
        self.sealer.mode
    }

    fn name(&self) -> &str {
        self.bound.get().map_or("", |bound| &bound.name)
    }

    /// Looks at what is under a token's seal.
    fn opened<R>(&self, token: &Token, f: impl FnOnce(&Opened) -> R) -> Option<R> {
        if let Some(Note(_, opened)) = token.note::<Note>().filter(|note| note.0 == self.number) {
            return Some(f(opened));
        }
        // It was sealed in this request, or came by another provider.
        let opened = self.sealer.open(self.name(), token.own_text()?)?;
        (opened.id == *token.id()).then(|| f(&opened))
    }

    /// The same, if the session is live by its times; it may have been ended.
    fn unseal<R>(&self, token: &Token, now: Timestamp, f: impl FnOnce(&Opened) -> R) -> Option<R> {
        let is_live = |Content { record, issued, deadline }: &Content| {
            // From before a jump of the clock, or from a server whose clock is far off.
            let ahead = self.bound.get().is_some() && *issued > now.saturating_add(CLOCK_SKEW);
            record.is_live(now) && deadline.is_none_or(|deadline| now < deadline) && !ahead
        };
        self.opened(token, |opened| is_live(&opened.content).then(|| f(opened))).flatten()
    }

    /// The same, if the session is live.
    fn open<'a, R: Send + 'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
        f: impl FnOnce(&Opened) -> R + Send + 'a,
    ) -> ProviderFuture<'a, Result<Option<R>, Error>> {
        let Some(revocations) = &self.revocations else {
            return ProviderFuture::ready(Ok(self.unseal(token, now, f)));
        };
        let Some(opened) = self.unseal(token, now, Opened::clone) else {
            return ProviderFuture::ready(Ok(None));
        };
        ProviderFuture::boxed(async move {
            let ended = revocations.contains(token.id(), now).await?;
            Ok((!ended).then(|| f(&opened)))
        })
    }

    /// Opens a token and answers what becomes of it; `Gone` unless the session is live.
    fn replace<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
        f: impl FnOnce(&Opened) -> Result<Token, Error> + Send + 'a,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.open(token, now, f).map(|replaced| replaced?.unwrap_or(Err(Error::Gone)))
    }

    fn seal(
        &self,
        id: &SessionId,
        record: Record,
        earlier: Option<Timestamp>,
        spare: usize,
        now: Timestamp,
    ) -> Result<Token, Error> {
        // Never earlier than one sealed before: the cookie with that one may be somewhere still.
        let deadline = self.deadline(&record).max(earlier);
        let content = Content { record, issued: now, deadline };
        self.sealer.seal(self.name(), id, &content, spare)
    }

    /// The end of the absolute lifetime, as far as it is known.
    fn deadline(&self, record: &Record) -> Option<Timestamp> {
        let own = record.lifetime().map(|lifetime| lifetime.absolute);
        let absolute = own.or_else(|| self.bound.get().map(|bound| bound.absolute))?;
        Some(record.created.saturating_add(absolute))
    }
}

/// Until when a cookie of the session may be replayed.
fn last_use(content: &Content) -> Timestamp {
    content.deadline.map_or(Timestamp::MAX, |deadline| deadline.max(content.record.expires))
}

impl Provider for CookieProvider {
    fn token(&self, text: &[u8]) -> Option<Token> {
        let opened = self.sealer.open(self.name(), text)?;
        let by_first = opened.by_first;
        let text = str::from_utf8(text).ok()?;
        let token = Token::with_note(opened.id, text, Note(self.number, opened));
        Some(if by_first { token } else { token.to_be_renewed() })
    }

    fn new_token(&self) -> Result<Token, Error> {
        short_id().map(Token::from)
    }

    fn bind(&self, binding: &Binding<'_>) -> Result<(), Error> {
        if binding.in_urls {
            return Err(Error::config(
                "sealed sessions don't travel in URLs: choose the transport cookie or header",
            ));
        }
        if binding.name.len() > LONGEST_NAME {
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
            Bound { name: binding.name.into(), absolute: binding.lifetime.absolute }
        });
        if *bound.name != *binding.name {
            return Err(Error::config(format_args!(
                "this provider seals sessions for the name {:?} already; open another one for {:?}",
                bound.name, binding.name
            )));
        }
        Ok(())
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::ready(self.seal(id, record, None, SPARE, now))
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        self.open(token, now, |opened| opened.content.record.clone())
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.replace(token, now, move |opened| {
            let mut record = opened.content.record.clone();
            record.apply(changes, now)?;
            // What only moves its expiry, as what is read, is stored already.
            let moved = changes.is_empty() && changes.owner.is_none();
            if moved && record.expires == opened.content.record.expires && opened.by_first {
                return Ok(token.clone());
            }
            let spare = if moved { 0 } else { SPARE };
            self.seal(token.id(), record, opened.content.deadline, spare, now)
        })
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let Some(revocations) = &self.revocations else {
            return self.replace(token, now, move |Opened { content, .. }| {
                self.seal(new_id, content.record.clone(), content.deadline, 0, now)
            });
        };
        ProviderFuture::boxed(async move {
            // What could fail comes first. Then, of racing renames, who ends the old id has won.
            let opened = self.unseal(token, now, |Opened { content, .. }| {
                let renamed = self.seal(new_id, content.record.clone(), content.deadline, 0, now);
                (last_use(content), renamed)
            });
            let (until, renamed) = opened.ok_or(Error::Gone)?;
            let renamed = renamed?;
            match revocations.add(token.id(), until, now).await? {
                true => Ok(renamed),
                false => Err(Error::Gone),
            }
        })
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        let Some(revocations) = &self.revocations else {
            return ProviderFuture::ready(Ok(()));
        };
        // Not only what is live: the session may be so in a newer cookie.
        let until = match self.opened(token, |opened| last_use(&opened.content)) {
            Some(until) if now < until => until,
            _ => return ProviderFuture::ready(Ok(())),
        };
        ProviderFuture::boxed(
            async move { revocations.add(token.id(), until, now).await.map(drop) },
        )
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.replace(token, now, move |opened| {
            let mut record = opened.content.record.clone();
            if expires <= record.expires && opened.by_first {
                return Ok(token.clone());
            }
            record.expires = record.expires.max(expires);
            self.seal(token.id(), record, opened.content.deadline, 0, now)
        })
    }

    fn count(&self, _now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        ProviderFuture::ready(Err(Error::Unsupported { operation: "counting sessions" }))
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        match &self.revocations {
            Some(revocations) => revocations.purge(now, limit),
            None => Ok(Purged::default()),
        }
    }
}
