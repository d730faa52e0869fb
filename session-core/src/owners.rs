//! The sessions of an owner: listed, ended, limited.

use std::time::Duration;

use futures_util::future::join_all;
use tracing::warn;

use crate::events::{Ending, Event, Operation};
use crate::provider::Secret;
use crate::provider::{Page, Record, Summary, Token};
use crate::session_settings::Settings;
use crate::{Error, LoadedSession, Manager, SessionId, SessionKey, Timestamp};

/// What a list shows of one of an owner's sessions. It opens nothing: lists can be shown and logged.
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
    /// What names the session, for as long as it lives.
    pub key: SessionKey,
    /// When the session was created.
    pub created: Timestamp,
    /// When it was last used, give or take the manager's `touch_every`.
    pub used: Timestamp,
    /// When it ends, unless it is used before.
    pub expires: Timestamp,
    /// When its owner logged in.
    pub authenticated: Timestamp,
    /// What [`label`](LoadedSession::label) was given at the login: a device's name, as a rule.
    pub label: String,
    /// Whether it is the session that asks.
    pub current: bool,
}

impl OwnedSession {
    fn new(summary: Summary, expires: Timestamp) -> Self {
        let Summary { key, created, used, authenticated, label, .. } = summary;
        let label = label.into();
        Self { key, created, used, expires, authenticated, label, current: false }
    }
}

/// How many records are looked at, or ended, side by side.
const CONCURRENCY: usize = 16;

/// How often the list is looked at again while sessions are ended, for those that begin meanwhile.
const PASSES: usize = 8;

/// A user's sessions.
impl Manager {
    /// Lists the live sessions of an owner, as [`log_in`](LoadedSession::log_in) was told, the newest login
    /// first. It costs by their number, not by that of all sessions.
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
    /// [`Error::Unsupported`] where the provider keeps no list, as `cookie`; [`Error::Unavailable`] if the
    /// store is down.
    pub async fn sessions_of(&self, owner: &str) -> Result<Vec<OwnedSession>, Error> {
        let stored = self.stored_sessions(owner).await?;
        let mut sessions = Vec::with_capacity(stored.len());
        for some in stored.chunks(CONCURRENCY) {
            for expires in join_all(some.iter().map(|summary| self.end_of(summary))).await {
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

    /// Lists the live sessions of whoever is logged in with this one, which is marked as `current`; none if
    /// nobody is. Otherwise as [`sessions_of`](Self::sessions_of).
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

    /// Ends one of an owner's sessions, at once and for good. Returns whether there was one: keys are no
    /// secret, so a key of another owner's session ends nothing.
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
    /// As [`sessions_of`](Self::sessions_of); the session may live on then.
    ///
    /// # Cancellation
    /// The session has ended, or lives on as it was.
    pub async fn end(&self, owner: &str, key: SessionKey) -> Result<bool, Error> {
        let mut stored = self.stored_sessions(owner).await?;
        stored.retain(|summary| summary.key == key);
        Ok(self.end_stored(owner, &stored, Ending::Other).await? > 0)
    }

    /// Ends all sessions of whoever is logged in with this one, but this one: after a change of password, for
    /// instance. Returns how many were ended; none if nobody is logged in.
    ///
    /// What is pending in this session, such as a login, is saved before. Sessions that begin while it runs are
    /// ended, too, but for those of somebody who logs in without pause: change the password before.
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
    /// [`Error::Gone`] if this session ended or got a new id meanwhile, and those of
    /// [`save`](LoadedSession::save): none was ended then. Those of [`sessions_of`](Self::sessions_of): all others
    /// were tried then, as far as they could be listed, and some may live on.
    ///
    /// # Cancellation
    /// Some have ended.
    pub async fn end_others(&self, session: &LoadedSession) -> Result<u64, Error> {
        session.save().await?;
        session.refresh().await?;
        let Some(owner) = session.owner() else { return Ok(0) };
        self.end_all_but(&owner, Some(session.key()?)).await
    }

    /// Ends all sessions of an owner: when an account is closed or locked, for instance. Returns how many
    /// were ended. Otherwise as [`end_others`](Self::end_others).
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
    /// As [`sessions_of`](Self::sessions_of); all that could be listed were tried then, and some may live on.
    ///
    /// # Cancellation
    /// Some have ended.
    pub async fn end_all(&self, owner: &str) -> Result<u64, Error> {
        self.end_all_but(owner, None).await
    }

    async fn end_all_but(&self, owner: &str, kept: Option<SessionKey>) -> Result<u64, Error> {
        let mut ended = 0;
        for _ in 0..PASSES {
            let mut stored = self.stored_sessions(owner).await?;
            stored.retain(|summary| Some(summary.key) != kept);
            match self.end_stored(owner, &stored, Ending::Other).await? {
                0 => break,
                some => ended += some,
            }
        }
        Ok(ended)
    }

    /// Ends the oldest of an owner's sessions, as far as there are more than allowed: after each login, once
    /// that is stored. Of logins at once, the last one to look sees all, and all agree on the order, so the
    /// limit holds, and nobody ends the one that is the newest by it.
    ///
    /// What goes wrong is logged alone: the login is stored. The owner's next one looks again.
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

    /// Lists what the store has of an owner.
    async fn stored_sessions(&self, owner: &str) -> Result<Vec<Summary>, Error> {
        self.check_lists()?;
        let owner = &*self.0.rules.stored_owner(owner);
        let (mut sessions, mut after) = (Vec::new(), None);
        loop {
            let (shared, now) = (self.shared(), self.now());
            let page = Page { after, limit: Page::MAX_SIZE };
            let answer = shared.provider.list(owner, page, now);
            let listed = shared.observed(Operation::List, now, answer).await?;
            sessions.extend(listed.sessions);
            // A provider that goes in circles is not followed.
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

    /// Ends sessions that a list has, unless they are over or another owner's by now. One that another owner logs
    /// in to after that look is ended, too: it is the same browser's. All are tried, whatever fails.
    async fn end_keys(&self, owner: &str, keys: &[SessionKey], why: Ending) -> Result<u64, Error> {
        let (mut ended, mut failed) = (0, None);
        for some in keys.chunks(CONCURRENCY) {
            for one in join_all(some.iter().map(|key| self.end_one(owner, *key, why))).await {
                match one {
                    Ok(is_ended) => ended += u64::from(is_ended),
                    Err(error) => failed = Some(error),
                }
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    async fn end_one(&self, owner: &str, key: SessionKey, why: Ending) -> Result<bool, Error> {
        let (shared, now) = (self.shared(), self.now());
        let until = match self.record(key, now).await {
            Ok(Some(record)) => {
                let lifetime = Settings::of(&record.values).lifetime(&shared.rules);
                // What comes from before a jump of the clock may live again.
                let is_over = lifetime.ending(&record, now).is_some();
                if is_over || !self.is_owner(owner, &record) {
                    return Ok(false);
                }
                shared.last_instant(&record)
            }
            Ok(None) => return Ok(false),
            // The list says whose it is, and nobody can use it.
            Err(Error::Unreadable { .. }) => now,
            Err(error) => return Err(error),
        };
        let answer = shared.provider.destroy(&key, until, now);
        shared.observed(Operation::Destroy, now, answer).await?;
        shared.events.emit(&Event::Ended { session: key, why });
        Ok(true)
    }

    /// Loads a session by its key.
    async fn record(&self, key: SessionKey, now: Timestamp) -> Result<Option<Record>, Error> {
        // Nobody looks at the secret before the core does.
        let token = Token::from(SessionId::new(key, Secret::from_bytes([0; Secret::BYTES])));
        let answer = self.0.provider.load(&token, now);
        self.0.observed(Operation::Load, now, answer).await
    }

    /// Returns when a listed session ends unless it is used; `None` if it has ended by the lifetime that is
    /// configured now, or can't be read.
    async fn end_of(&self, summary: &Summary) -> Result<Option<Timestamp>, Error> {
        let (rules, now) = (&self.0.rules, self.now());
        let end = rules.lifetime.touch(summary.authenticated, summary.used).expires;
        // The usual lifetime, which nobody changed since, and no clock that differs.
        // Stores may keep the last use in whole seconds.
        let is_usual = summary.expires <= end.saturating_add(Duration::from_secs(1));
        if is_usual && now < summary.expires && summary.authenticated <= now {
            return Ok(Some(summary.expires));
        }
        let record = match self.record(summary.key, now).await {
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

    fn check_lists(&self) -> Result<(), Error> {
        match self.0.provider.lists() {
            true => Ok(()),
            false => Err(Error::Unsupported { what: "lists of an owner's sessions" }),
        }
    }
}
