//! The sessions of an owner: listing them, ending them ("log out everywhere"), and limiting their number.

use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use crate::events::{Ending, Event, Operation};
use crate::provider::Secret;
use crate::provider::{Page, Record, Summary, Token};
use crate::session_settings::Settings;
use crate::{Error, LoadedSession, Manager, SessionId, SessionKey, Timestamp};

/// One of an owner's sessions, as a list shows it. It contains no secret, so lists can be shown and logged.
///
/// ```
/// /// A row of a page "where you are logged in".
/// fn row(session: &session_core::OwnedSession) -> String {
///     let here = if session.current { "this device" } else { "" };
///     format!("{} | {} | used at {}", session.label, here, session.used.as_secs())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OwnedSession {
    /// The session's key, which stays the same for as long as the session lives.
    pub key: SessionKey,
    /// When the session was created.
    pub created: Timestamp,
    /// When the session was last used. May lag behind by `touch_every`.
    pub used: Timestamp,
    /// When the session expires, unless it is used before.
    pub expires: Timestamp,
    /// When the owner logged in.
    pub authenticated: Timestamp,
    /// The label that [`label`](LoadedSession::label) set, usually the name of a device.
    pub label: String,
    /// Whether this is the session that was passed to [`Manager::sessions_beside`]. Always false in
    /// [`Manager::sessions_of`].
    pub current: bool,
}

impl OwnedSession {
    fn new(summary: Summary, expires: Timestamp) -> Self {
        let Summary { key, created, used, authenticated, label, .. } = summary;
        let label = label.into();
        Self { key, created, used, expires, authenticated, label, current: false }
    }
}

/// The number of records that are loaded, or sessions that are ended, concurrently.
const CONCURRENCY: usize = 16;

/// How often all of an owner's sessions are listed and ended, because new ones may begin meanwhile.
const MAX_PASSES: usize = 8;

/// Listing and ending an owner's sessions.
impl Manager {
    /// Returns the live sessions of an owner, the newest login first. `owner` is the text that was passed to
    /// [`log_in`](LoadedSession::log_in). The cost depends on the number of the owner's sessions, not on that
    /// of all sessions.
    ///
    /// ```
    /// # async fn page(manager: &session_core::Manager) -> Result<(), session_core::Error> {
    /// for session in manager.sessions_of("ada").await? {
    ///     println!("{}: {}, last used {:?}", session.key, session.label, session.used);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the provider keeps no list of an owner's sessions, such as `cookie`;
    /// [`Error::Unavailable`] if the store is down.
    pub async fn sessions_of(&self, owner: &str) -> Result<Vec<OwnedSession>, Error> {
        let stored = self.stored_sessions(owner).await?;
        let mut sessions = Vec::with_capacity(stored.len());
        for chunk in stored.chunks(CONCURRENCY) {
            for expires in join_all(chunk.iter().map(|summary| self.live_until(summary))).await {
                sessions.push(expires?);
            }
        }
        let live = stored.into_iter().zip(sessions);
        let live = live.filter_map(|(summary, end)| Some(OwnedSession::new(summary, end?)));
        let mut live: Vec<_> = live.collect();
        live.sort_unstable_by_key(|session| (session.authenticated, session.key));
        live.reverse();
        Ok(live)
    }

    /// Returns all live sessions of the owner that is logged in with this session. This session is among them,
    /// marked as `current`, once its login is saved. Returns an empty list if nobody is logged in. Otherwise like
    /// [`sessions_of`](Self::sessions_of).
    ///
    /// ```
    /// # async fn page(
    /// #     manager: &session_core::Manager,
    /// #     session: &session_core::LoadedSession,
    /// # ) -> Result<(), session_core::Error> {
    /// for other in manager.sessions_beside(session).await? {
    ///     let here = if other.current { " (this device)" } else { "" };
    ///     println!("{}{here}", other.label);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`sessions_of`](Self::sessions_of).
    pub async fn sessions_beside(
        &self,
        session: &LoadedSession,
    ) -> Result<Vec<OwnedSession>, Error> {
        let Some(owner) = session.owner() else { return Ok(Vec::new()) };
        let key = session.key()?;
        let mut sessions = self.sessions_of(&owner).await?;
        for session in &mut sessions {
            session.current = session.key == key;
        }
        Ok(sessions)
    }

    /// Ends one of an owner's sessions at once and for good. Returns whether the owner had that session. Keys
    /// are not secret, so the key of another owner's session ends nothing.
    ///
    /// ```
    /// # async fn handler(
    /// #     manager: &session_core::Manager,
    /// #     session: &session_core::LoadedSession,
    /// #     text: &str,
    /// # ) -> Result<bool, session_core::Error> {
    /// // The form's button has the key.
    /// match (session.owner(), session_core::SessionKey::parse(text)) {
    ///     (Some(owner), Some(key)) => manager.end(&owner, key).await,
    ///     _ => Ok(false), // 404
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`sessions_of`](Self::sessions_of). The session may live on then.
    ///
    /// # Cancellation
    /// The session has either ended or is unchanged.
    pub async fn end(&self, owner: &str, key: SessionKey) -> Result<bool, Error> {
        let mut stored = self.stored_sessions(owner).await?;
        stored.retain(|summary| summary.key == key);
        Ok(self.end_stored(owner, &stored, Ending::Other).await? > 0)
    }

    /// Ends all other sessions of the owner that is logged in with this session, for example after a change
    /// of the password. Returns how many were ended; 0 if nobody is logged in.
    ///
    /// Pending changes of this session, such as a login, are saved first. Sessions that begin while this
    /// function runs are ended, too, as long as eight rounds suffice. Change the password before you call it,
    /// so that no new ones begin.
    ///
    /// ```
    /// # async fn handler(
    /// #     manager: &session_core::Manager,
    /// #     session: &session_core::LoadedSession,
    /// # ) -> Result<(), session_core::Error> {
    /// // ... the password was changed
    /// session.regenerate()?;
    /// let ended = manager.end_others(session).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] if this session ended or got a new id meanwhile, and the errors of
    /// [`save`](LoadedSession::save); no session was ended then. The errors of
    /// [`sessions_of`](Self::sessions_of); this function tried to end every listed session then, and some may
    /// live on.
    ///
    /// # Cancellation
    /// Some of the sessions have ended.
    pub async fn end_others(&self, session: &LoadedSession) -> Result<u64, Error> {
        session.save().await?;
        session.refresh().await?;
        let Some(owner) = session.owner() else { return Ok(0) };
        self.end_all_but(&owner, Some(session.key()?)).await
    }

    /// Ends all sessions of an owner, for example when an account is closed or locked. Returns how many were
    /// ended. Otherwise like [`end_others`](Self::end_others).
    ///
    /// ```
    /// # async fn close(manager: &session_core::Manager) -> Result<(), session_core::Error> {
    /// // ... the account can't log in any more
    /// manager.end_all("ada").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`sessions_of`](Self::sessions_of). This function tried to end every listed session then, and some
    /// may live on.
    ///
    /// # Cancellation
    /// Some of the sessions have ended.
    pub async fn end_all(&self, owner: &str) -> Result<u64, Error> {
        self.end_all_but(owner, None).await
    }

    async fn end_all_but(&self, owner: &str, kept: Option<SessionKey>) -> Result<u64, Error> {
        let mut ended = 0;
        for _ in 0..MAX_PASSES {
            let mut stored = self.stored_sessions(owner).await?;
            stored.retain(|summary| Some(summary.key) != kept);
            match self.end_stored(owner, &stored, Ending::Other).await? {
                0 => break,
                some => ended += some,
            }
        }
        Ok(ended)
    }

    /// Ends the sessions of an owner that exceed `sessions_per_owner`, the oldest logins first. Called after
    /// each login, once the login is stored. Of concurrent logins, the last one to list the sessions sees all
    /// of them, and all order them in the same way. So the limit holds, and the newest login is never ended.
    ///
    /// An error is only logged, because the login is stored. The owner's next login checks the limit again.
    pub(crate) async fn enforce_session_limit(&self, owner: &str) {
        let Some(limit) = self.0.rules.sessions_per_owner else { return };
        let ended = async {
            let live = self.sessions_of(owner).await?;
            let surplus = live.get(limit.get() as usize..).unwrap_or_default();
            let keys: Vec<_> = surplus.iter().map(|session| session.key).collect();
            self.end_keys(owner, &keys, Ending::Limit).await
        };
        if let Err(error) = ended.await {
            let error: &dyn std::error::Error = &error;
            warn!(
                error,
                "an owner may have more sessions than sessions_per_owner until the next login"
            );
        }
    }

    /// Returns the owner's sessions in the store, expired ones included.
    async fn stored_sessions(&self, owner: &str) -> Result<Vec<Summary>, Error> {
        self.check_listing_supported()?;
        let owner = &*self.0.rules.stored_owner(owner);
        let (mut sessions, mut after) = (Vec::new(), None);
        loop {
            let (shared, now) = (self.shared(), self.now());
            let page = Page { after, limit: Page::MAX_SIZE };
            let answer = shared.provider.list(owner, page, now);
            let listed = shared.observe(Operation::List, now, answer).await?;
            sessions.extend(listed.sessions);
            // Stops if the provider does not advance, so that a faulty one can't cause an endless loop.
            if listed.next <= after {
                return Ok(sessions);
            }
            after = listed.next;
        }
    }

    async fn end_stored(&self, owner: &str, stored: &[Summary], why: Ending) -> Result<u64, Error> {
        let keys: Vec<_> = stored.iter().map(|summary| summary.key).collect();
        self.end_keys(owner, &keys, why).await
    }

    /// Ends listed sessions, unless they have expired or belong to another owner by now. A session in which
    /// another owner logs in after that check is ended, too; it is in the same browser. All sessions are
    /// tried, whatever fails.
    async fn end_keys(&self, owner: &str, keys: &[SessionKey], why: Ending) -> Result<u64, Error> {
        let (mut ended, mut failed) = (0, None);
        for chunk in keys.chunks(CONCURRENCY) {
            for result in join_all(chunk.iter().map(|key| self.end_one(owner, *key, why))).await {
                match result {
                    Ok(is_ended) => ended += u64::from(is_ended),
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    async fn end_one(&self, owner: &str, key: SessionKey, why: Ending) -> Result<bool, Error> {
        let (shared, now) = (self.shared(), self.now());
        let until = match self.load_by_key(key, now).await {
            Ok(Some(record)) => {
                let lifetime = Settings::of(&record.values).lifetime(&shared.rules);
                // A session whose age is unknown, after a jump of the clock, is not over: it may live again.
                let is_over = lifetime.ending(&record, now).is_some();
                if is_over || !self.is_owner(owner, &record) {
                    return Ok(false);
                }
                shared.last_instant(&record)
            }
            Ok(None) => return Ok(false),
            // An unreadable record is ended: the list names its owner, and no request can use it.
            Err(Error::Unreadable { .. }) => now,
            Err(error) => return Err(error),
        };
        let answer = shared.provider.destroy(&key, until, now);
        shared.observe(Operation::Destroy, now, answer).await?;
        shared.events.emit(&Event::Ended { session: key, why });
        Ok(true)
    }

    /// Loads the record of a session by its key.
    async fn load_by_key(&self, key: SessionKey, now: Timestamp) -> Result<Option<Record>, Error> {
        // Providers don't use the secret to load a record; the core verifies it.
        let token = Token::from(SessionId::new(key, Secret::from_bytes([0; Secret::BYTES])));
        let answer = self.0.provider.load(&token, now);
        self.0.observe(Operation::Load, now, answer).await
    }

    /// Returns when a listed session expires unless it is used; `None` if it has expired by the lifetime that
    /// is configured now, or can't be read.
    async fn live_until(&self, summary: &Summary) -> Result<Option<Timestamp>, Error> {
        let (rules, now) = (&self.0.rules, self.now());
        let end = rules.lifetime.touch(summary.authenticated, summary.used).expires;
        // The summary suffices if the session has the configured lifetime and its login is not in the future.
        // The tolerance is for stores that keep the last use in whole seconds.
        let is_usual = summary.expires <= end.saturating_add(Duration::from_secs(1));
        if is_usual && now < summary.expires && summary.authenticated <= now {
            return Ok(Some(summary.expires));
        }
        let record = match self.load_by_key(summary.key, now).await {
            Err(Error::Unreadable { .. }) => None,
            loaded => loaded?,
        };
        Ok(record.and_then(|record| {
            let lifetime = Settings::of(&record.values).lifetime(rules);
            let is_live = record.is_live(now) && !lifetime.is_over(&record, now);
            is_live.then(|| lifetime.end(&record))
        }))
    }

    fn is_owner(&self, owner: &str, record: &Record) -> bool {
        record.owner() == Some(&*self.0.rules.stored_owner(owner))
    }

    fn check_listing_supported(&self) -> Result<(), Error> {
        match self.0.provider.lists() {
            true => Ok(()),
            false => Err(Error::Unsupported { what: "lists of an owner's sessions" }),
        }
    }
}
