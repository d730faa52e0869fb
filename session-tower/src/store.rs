//! A store for tower-sessions over a provider.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use session_core::clock::{Clock, SystemClock};
use session_core::provider::{
    self, Changes, ExpiryChange, Provider, ProviderContext, Record, Token, Touch, Verifier,
};
use session_core::{Error, Lifetime, Limits, SessionId, Timestamp, value};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tracing::warn;

/// Serves tower-sessions' `SessionStore`, and `ExpiredDeletion`, from a [`Provider`], so that what is built on
/// tower-sessions works over any of them unchanged, as axum-login does.
///
/// ```
/// # fn layer() -> Result<(), session_core::Error> {
/// use session_tower::ProviderStore;
/// use tower_sessions::SessionManagerLayer;
///
/// session_memory::init();
/// let sessions = SessionManagerLayer::new(ProviderStore::open("memory", "")?);
/// # Ok(())
/// # }
/// # layer().unwrap();
/// ```
///
/// The trait is implemented for version 0.15 of tower-sessions (feature `tower-sessions`) and for 0.14, which
/// axum-login 0.18 is built on (feature `tower-sessions-0-14`).
///
/// # What it promises
/// - The store gets a digest of each id that tower-sessions makes, so whoever reads the store can open no session.
/// - Only `create` creates. A session that was deleted or has expired does not come back by the `save` of a slower
///   request. That save is an error, to which tower-sessions' layer responds with 500.
///
/// # What it can't promise
/// The trait passes whole sessions. It tells neither what a request changed nor what it had loaded. So:
///
/// - The last of several concurrent saves wins with all of its keys, and there is no atomic `update`.
/// - A new id is a new session in the store. The old one is deleted before the new one is there, so a failure between
///   the two ends the session.
/// - The store knows no owners: sessions can't be listed, ended or limited by user.
/// - It can't be the front of a `CachingSessionStore`, which fills its cache by `save`.
/// - Requests from other sites are not refused, and responses get no cache headers: these are the layer's affair.
/// - Nothing removes expired sessions unless you call `ExpiredDeletion::delete_expired` now and then.
///
/// # Providers
/// Every provider works but `cookie` and `signed+...`, which give clients more than an id.
#[derive(Clone)]
pub struct ProviderStore {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    limits: Limits,
}

/// The key of a session's only value, which has all of tower-sessions' values.
const DATA: &str = "data";

/// The namespace that separates these sessions from those of managers on the same store.
const NAMESPACE: &str = "tower-sessions";

/// How many ids are tried for a new session.
const TRIES: usize = 8;

/// How many expired sessions are removed in one step.
const SLICE: usize = 1_000;

/// What tower-sessions keeps of a session beside its id.
struct Contents {
    data: HashMap<String, Value>,
    expires: OffsetDateTime,
}

impl ProviderStore {
    /// A store over the provider that is registered by this name.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`], what the provider finds wrong with the source string, and those of
    /// [`new`](Self::new).
    pub fn open(provider: &str, source: &str) -> Result<Self, Error> {
        Self::new(provider::open(provider, source)?)
    }

    /// A store over a provider.
    ///
    /// # Errors
    /// [`Error::Config`] if the provider hands clients more than an id.
    pub fn new(provider: Arc<dyn Provider>) -> Result<Self, Error> {
        let day = Duration::from_secs(24 * 60 * 60);
        // Has no effect, because each record has its own expiry.
        let lifetime = Lifetime { idle: day, absolute: day };
        provider.configure(&ProviderContext::new(NAMESPACE, lifetime))?;
        let id = session_id(0);
        let is_custom = provider.issue(id).own_text().is_some();
        if is_custom || provider.token(id.text().as_ref()).is_none() {
            return Err(Error::config(
                "this provider hands clients more than an id, and tower-sessions can't carry it",
            ));
        }
        Ok(Self { provider, clock: Arc::new(SystemClock), limits: Limits::default() })
    }

    /// Uses this clock. Defaults to the operating system's.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Lets a session hold as much as this. Defaults to 65,536 bytes; keys are not counted.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    fn token(&self, id: i128) -> (Token, Verifier) {
        let token = Token::from(session_id(id));
        let holder = self.provider.verifier(&token, NAMESPACE);
        (token, holder)
    }

    /// Stores a new session. Returns its id: the wanted one, if it is free.
    async fn create(
        &self,
        wanted: i128,
        new_id: impl Fn() -> i128,
        data: &HashMap<String, Value>,
        expires: OffsetDateTime,
    ) -> Result<i128, Error> {
        let now = self.clock.now();
        let changes = self.changes(data)?;
        let mut id = wanted;
        for _ in 0..TRIES {
            let (token, holder) = self.token(id);
            let mut record = Record::new(holder, now, timestamp(expires));
            record.values.apply(&changes, &self.limits)?;
            match self.provider.create(token.id(), record, now).await {
                Err(Error::Exists) => id = new_id(),
                created => return created.map(|_| id),
            }
        }
        Err(Error::Exists)
    }

    async fn save(
        &self,
        id: i128,
        data: &HashMap<String, Value>,
        expires: OffsetDateTime,
    ) -> Result<(), Error> {
        let now = self.clock.now();
        let (token, holder) = self.token(id);
        let touch = Touch { used: now, expires: timestamp(expires) };
        let changes = self.changes(data)?.with_expiry(ExpiryChange::Set(touch));
        self.provider.save(&token, &holder, &changes, now).await.map(drop)
    }

    async fn load(&self, id: i128) -> Result<Option<Contents>, Error> {
        let now = self.clock.now();
        let (token, holder) = self.token(id);
        let record = match self.provider.load(&token, now).await {
            Err(Error::Unreadable { reason }) => {
                warn!(session = %token.key(), reason, "unreadable session record, treated as absent");
                None
            }
            loaded => loaded?,
        };
        let Some(record) = record.filter(|r| r.is_live(now) && r.holder == holder) else {
            return Ok(None);
        };
        let data = record.values.get(DATA).map(|bytes| value::decode(DATA, bytes, &self.limits));
        let data = data.transpose()?.unwrap_or_default();
        Ok(Some(Contents { data, expires: date(record.expires) }))
    }

    async fn delete(&self, id: i128) -> Result<(), Error> {
        let (token, _) = self.token(id);
        self.provider.destroy(&token.key(), Timestamp::MAX, self.clock.now()).await
    }

    /// Removes the expired sessions, step by step and off the runtime's workers.
    async fn delete_expired(&self) -> Result<(), Error> {
        loop {
            let (provider, now) = (Arc::clone(&self.provider), self.clock.now());
            let purged = blocking::unblock(move || provider.purge(now, SLICE)).await?;
            if !purged.more {
                return Ok(());
            }
        }
    }

    fn changes(&self, data: &HashMap<String, Value>) -> Result<Changes, Error> {
        let mut changes = Changes::new();
        changes.set(DATA, value::encode(DATA, data, &self.limits)?);
        changes.limits = self.limits;
        Ok(changes)
    }
}

impl fmt::Debug for ProviderStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderStore").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Returns our id for one of tower-sessions': a digest, because logs show a part of ours and all of theirs is secret.
fn session_id(id: i128) -> SessionId {
    let hash = Sha256::new().chain_update(b"tower-sessions id 1\0").chain_update(id.to_le_bytes());
    SessionId::from_bytes(hash.finalize().into())
}

fn timestamp(date: OffsetDateTime) -> Timestamp {
    let millis = date.unix_timestamp_nanos().max(0) / 1_000_000;
    Timestamp::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// Converts a time; what is later than the last date that `time` has becomes that date.
fn date(timestamp: Timestamp) -> OffsetDateTime {
    let nanos = i128::from(timestamp.as_millis()) * 1_000_000;
    let last = time::PrimitiveDateTime::MAX.assume_utc();
    OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(last)
}

/// An error with its causes, in one line, as the other library takes only text.
fn text(error: &Error) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Implements the traits of one version of tower-sessions.
macro_rules! serve {
    ($version:ident) => {
        mod $version {
            use async_trait::async_trait;
            use $version::session::{Id, Record};
            use $version::session_store::{Error, ExpiredDeletion, Result, SessionStore};

            use super::{Contents, ProviderStore, text};

            fn error(error: session_core::Error) -> Error {
                let text = text(&error);
                match error {
                    session_core::Error::Encode { .. } | session_core::Error::TooLarge { .. } => {
                        Error::Encode(text)
                    }
                    session_core::Error::Decode { .. } => Error::Decode(text),
                    _ => Error::Backend(text),
                }
            }

            #[async_trait]
            impl SessionStore for ProviderStore {
                async fn create(&self, record: &mut Record) -> Result<()> {
                    let new_id = || Id::default().0;
                    let (data, expires) = (&record.data, record.expiry_date);
                    let created = ProviderStore::create(self, record.id.0, new_id, data, expires);
                    record.id = Id(created.await.map_err(error)?);
                    Ok(())
                }

                async fn save(&self, record: &Record) -> Result<()> {
                    let Record { id, data, expiry_date } = record;
                    ProviderStore::save(self, id.0, data, *expiry_date).await.map_err(error)
                }

                async fn load(&self, id: &Id) -> Result<Option<Record>> {
                    let loaded = ProviderStore::load(self, id.0).await.map_err(error)?;
                    Ok(loaded.map(|Contents { data, expires }| Record {
                        id: *id,
                        data,
                        expiry_date: expires,
                    }))
                }

                async fn delete(&self, id: &Id) -> Result<()> {
                    ProviderStore::delete(self, id.0).await.map_err(error)
                }
            }

            #[async_trait]
            impl ExpiredDeletion for ProviderStore {
                async fn delete_expired(&self) -> Result<()> {
                    ProviderStore::delete_expired(self).await.map_err(error)
                }
            }
        }
    };
}

#[cfg(feature = "tower-sessions")]
serve!(tower_sessions_core);
#[cfg(feature = "tower-sessions-0-14")]
serve!(tower_sessions_core_0_14);
