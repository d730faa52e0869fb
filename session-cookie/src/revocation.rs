//! The store of sealed sessions' current ids, and of sessions that ended.

use std::sync::Arc;

use session_core::provider::Secret;
use session_core::provider::{
    Changes, ExpiryChange, NewSecret, Provider, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::format::holder;

/// Records which sealed sessions got a new id or ended.
///
/// A session's entry is an empty record in another provider, under the session's key. The entry's holder
/// is the verifier of the session's current id, or [`Verifier::NOBODY`] if the session has ended. A
/// session without an entry never got a new id and has not ended.
///
/// An entry lives at least as long as every usable cookie of its session, so no old cookie works again
/// after the entry has expired.
#[derive(Clone, Debug)]
pub(crate) struct Revocations(Arc<dyn Provider>);

/// Attempts to write an entry while other requests change it. Each failed attempt means that another
/// request of the same session succeeded.
const ATTEMPTS: usize = 100;

impl Revocations {
    pub(crate) fn new(store: Arc<dyn Provider>) -> Self {
        Self(store)
    }

    /// Updates the record from a cookie by the session's entry. Returns `None` if the session has ended.
    pub(crate) async fn complete(
        &self,
        key: SessionKey,
        mut record: Record,
        now: Timestamp,
    ) -> Result<Option<Record>, Error> {
        match self.entry(key, now).await? {
            None => Ok(is_first(&record).then_some(record)),
            Some(entry) if entry.holder == Verifier::NOBODY => Ok(None),
            Some(entry) => {
                record.holder = entry.holder;
                record.renewed = entry.renewed;
                Ok(Some(record))
            }
        }
    }

    /// Replaces the cookie's id by a new current id. Of several concurrent calls, one succeeds.
    ///
    /// # Errors
    /// [`Error::Gone`] if the cookie's id is not the current one, or the session has ended.
    pub(crate) async fn renew(
        &self,
        key: SessionKey,
        before: &Record,
        secret: &NewSecret,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        if is_first(before) {
            match self.create(key, secret.holder, secret.at, until, now).await {
                Err(Error::Exists) => {}
                created => return created,
            }
        }
        self.replace(key, &before.holder, secret.clone(), until, now).await
    }

    /// Checks that the cookie's id is the current one, before the cookie is replaced by one that holds
    /// `after`. Makes sure that the entry outlives both cookies.
    ///
    /// # Errors
    /// [`Error::Gone`] if the cookie's id is not the current one, or the session has ended.
    pub(crate) async fn check(
        &self,
        key: SessionKey,
        before: &Record,
        after: &Record,
        now: Timestamp,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let Some(entry) = self.entry(key, now).await? else {
                if !is_first(before) {
                    return Err(Error::Gone);
                }
                if after.expires >= before.expires {
                    return Ok(());
                }
                // The end of a session will be stored only until its newest cookie expires. The cookie
                // that is being replaced lives longer, so an entry must exist until then.
                let Record { holder, renewed, expires, .. } = before;
                match self.create(key, *holder, *renewed, *expires, now).await {
                    Err(Error::Exists) => continue,
                    created => return created,
                }
            };
            if entry.holder != before.holder {
                return Err(Error::Gone);
            }
            if after.expires > entry.expires {
                let touch = Touch { used: now, expires: after.expires };
                self.0.touch(&token(key), touch, now).await?;
            }
            return Ok(());
        }
        Err(Error::Conflict)
    }

    /// Ends the session, whatever its current id is, and records that at least until `until`.
    pub(crate) async fn end(
        &self,
        key: SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        for _ in 0..ATTEMPTS {
            let ended = match self.entry(key, now).await {
                Ok(None) => self.create(key, Verifier::NOBODY, now, until, now).await,
                Ok(Some(entry)) => {
                    let secret = NewSecret { token: token(key), holder: Verifier::NOBODY, at: now };
                    self.replace(key, &entry.holder, secret, until, now).await
                }
                Err(Error::Unreadable { .. }) => {
                    self.0.destroy(&key, until, now).await?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            match ended {
                // The session got a new id at the same time. The next attempt ends it as well.
                Err(Error::Exists | Error::Gone) => {}
                ended => return ended,
            }
        }
        Err(Error::Conflict)
    }

    pub(crate) fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.0.purge(now, limit)
    }

    async fn entry(&self, key: SessionKey, now: Timestamp) -> Result<Option<Record>, Error> {
        self.0.load(&token(key), now).await
    }

    async fn create(
        &self,
        key: SessionKey,
        holder: Verifier,
        renewed: Timestamp,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        let entry = Record { renewed, ..Record::new(holder, now, until) };
        self.0.create(&id(key), entry, now).await.map(drop)
    }

    async fn replace(
        &self,
        key: SessionKey,
        holder: &Verifier,
        secret: NewSecret,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        let touch = Touch { used: now, expires: until };
        let mut changes = Changes::new().with_expiry(ExpiryChange::Extend(touch));
        changes.secret = Some(Box::new(secret));
        self.0.save(&token(key), holder, &changes, now).await.map(drop)
    }
}

/// Returns whether the session never got a new id. The secret of its first id is zeros, unless the
/// program makes the ids itself.
///
/// With ids of the program's own, the result is wrong if the session got a new id within the millisecond
/// of its creation. The effect is one more request to the store at the next new id, and if the store has
/// lost the entry, the session's cookies are accepted.
fn is_first(record: &Record) -> bool {
    record.holder == holder(&id(SessionKey::from_bytes([0; SessionKey::BYTES])))
        || record.renewed == record.created
}

/// Returns the id under which an entry is created. Its secret is not used.
fn id(key: SessionKey) -> SessionId {
    SessionId::new(key, Secret::from_bytes([0; Secret::BYTES]))
}

fn token(key: SessionKey) -> Token {
    id(key).into()
}
