//! The sessions of an owner: listed, ended, limited.

use futures_util::future::join_all;
use tracing::warn;

use crate::events::{Ending, Event, Operation};
use crate::provider::{Page, Record, Summary, Token};
use crate::settings::Settings;
use crate::{Error, LoadedSession, Manager, Secret, SessionId, SessionKey, Timestamp};

/// What a list shows of one of an owner's sessions. It opens nothing: lists can be shown and logged.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct OwnedSession {
    /// What names the session, for as long as it lives.
    #[serde(serialize_with = "as_text")]
    pub key: SessionKey,
    /// When the session was created.
    #[serde(serialize_with = "as_seconds")]
    pub created: Timestamp,
    /// When it was last used, give or take the manager's `touch_every`.
    #[serde(serialize_with = "as_seconds")]
    pub used: Timestamp,
    /// When it ends, unless it is used before.
    #[serde(serialize_with = "as_seconds")]
    pub expires: Timestamp,
    /// When its owner logged in.
    #[serde(serialize_with = "as_seconds")]
    pub authenticated: Timestamp,
    /// What [`label`](LoadedSession::label) was given at the login: a device's name, as a rule.
    pub label: String,
    /// Whether it is the session that asks.
    pub current: bool,
}

fn as_text<S: serde::Serializer>(key: &SessionKey, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(key)
}

fn as_seconds<S: serde::Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(time.as_secs())
}

impl OwnedSession {
    fn new(summary: Summary, expires: Timestamp) -> Self {
        let Summary { key, created, used, authenticated, label, .. } = summary;
        let label = label.into();
        Self { key, created, used, expires, authenticated, label, current: false }
    }
}

/// How many sessions are ended side by side.
const TOGETHER: usize = 16;

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
        self.check_lists()?;
        let owner = &*self.0.rules.stored_owner(owner);
        let mut sessions = Vec::new();
        let mut after = None;
        loop {
            let now = self.now();
            let page = Page { after, limit: Page::MOST };
            let shared = self.shared();
            let answer = shared.provider.list(owner, page, now);
            let listed = shared.watched(Operation::List, now, answer).await?;
            for summary in listed.sessions {
                if let Some(expires) = self.end_of(&summary, now).await? {
                    sessions.push(OwnedSession::new(summary, expires));
                }
            }
            match listed.next {
                None => break,
                next => after = next,
            }
        }
        sessions.sort_unstable_by_key(|session| (session.authenticated, session.key));
        sessions.reverse();
        Ok(sessions)
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
    pub async fn end(&self, owner: &str, key: SessionKey) -> Result<bool, Error> {
        self.check_lists()?;
        let Some(record) = self.live_record(key, self.now()).await? else { return Ok(false) };
        if !self.is_owner(owner, &record) {
            return Ok(false);
        }
        self.end_at_once(key, &record, Ending::Other).await?;
        Ok(true)
    }

    /// Ends all sessions of whoever is logged in with this one, but this one: after a change of password, for
    /// instance. Returns how many were ended; none if nobody is logged in.
    ///
    /// Sessions that begin while it runs are ended, too, but for those of somebody who logs in without pause.
    /// So change the password before.
    ///
    /// # Errors
    /// As [`sessions_of`](Self::sessions_of); some may live on then.
    pub async fn end_others(&self, session: &LoadedSession) -> Result<u64, Error> {
        let Some(owner) = session.owner() else { return Ok(0) };
        self.end_all_but(&owner, Some(session.key()?)).await
    }

    /// Ends all sessions of an owner: when an account is closed or locked, for instance. Returns how many
    /// were ended. Otherwise as [`end_others`](Self::end_others).
    ///
    /// # Errors
    /// As [`sessions_of`](Self::sessions_of); some may live on then.
    pub async fn end_all(&self, owner: &str) -> Result<u64, Error> {
        self.end_all_but(owner, None).await
    }

    async fn end_all_but(&self, owner: &str, kept: Option<SessionKey>) -> Result<u64, Error> {
        let mut ended = 0;
        for _ in 0..PASSES {
            let mut sessions = self.sessions_of(owner).await?;
            sessions.retain(|session| Some(session.key) != kept);
            if sessions.is_empty() {
                break;
            }
            ended += self.end_listed(owner, &sessions, Ending::Other).await?;
        }
        Ok(ended)
    }

    /// Ends the oldest of an owner's sessions, as far as there are more than allowed: after each login, once
    /// that is stored. Of logins at once, the last one to look sees all, and all agree on the order, so the
    /// limit holds, and nobody ends the newest.
    ///
    /// What goes wrong is logged alone: the login is stored. The owner's next one looks again.
    pub(crate) async fn end_surplus(&self, owner: &str) {
        let Some(limit) = self.0.rules.sessions_per_owner else { return };
        let ended = async {
            let sessions = self.sessions_of(owner).await?;
            let surplus = sessions.get(limit.get() as usize..).unwrap_or_default();
            self.end_listed(owner, surplus, Ending::Limit).await
        };
        if let Err(error) = ended.await {
            let error: &dyn std::error::Error = &error;
            warn!(
                error,
                "an owner may have more sessions than sessions_per_owner until the next login"
            );
        }
    }

    /// Ends sessions from a list that may be out of date: each only if it still is this owner's.
    async fn end_listed(
        &self,
        owner: &str,
        sessions: &[OwnedSession],
        why: Ending,
    ) -> Result<u64, Error> {
        let mut ended = 0;
        for some in sessions.chunks(TOGETHER) {
            let each = some.iter().map(async |session| {
                match self.live_record(session.key, self.now()).await? {
                    Some(record) if self.is_owner(owner, &record) => {
                        self.end_at_once(session.key, &record, why).await.map(|()| 1)
                    }
                    _ => Ok(0),
                }
            });
            for one in join_all(each).await {
                ended += one?;
            }
        }
        Ok(ended)
    }

    async fn end_at_once(
        &self,
        key: SessionKey,
        record: &Record,
        why: Ending,
    ) -> Result<(), Error> {
        let (shared, now) = (self.shared(), self.now());
        let answer = shared.provider.destroy(&key, shared.last_instant(record), now);
        shared.watched(Operation::Destroy, now, answer).await?;
        shared.events.tell(&Event::Ended { session: key, why });
        Ok(())
    }

    /// Loads a session by its key, if it lives by the lifetime that is configured now.
    async fn live_record(&self, key: SessionKey, now: Timestamp) -> Result<Option<Record>, Error> {
        // Nobody looks at the secret before the core does.
        let token = Token::from(SessionId::new(key, Secret::from_bytes([0; Secret::BYTES])));
        let record = self.shared().load(&token, now).await?;
        Ok(record.filter(|record| {
            let lifetime = Settings::of(&record.values).lifetime(&self.0.rules);
            !lifetime.is_over(record, now)
        }))
    }

    /// Returns when a listed session ends unless it is used; `None` if it has ended by the lifetime that is
    /// configured now.
    async fn end_of(&self, summary: &Summary, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let lifetime = self.0.rules.lifetime;
        let idle = summary.used.saturating_add(lifetime.idle);
        if now < idle.min(lifetime.deadline(summary.authenticated)) {
            return Ok(Some(summary.expires));
        }
        // It has a longer lifetime of its own, or what is configured became shorter since.
        let record = self.live_record(summary.key, now).await?;
        Ok(record.map(|record| {
            let lifetime = Settings::of(&record.values).lifetime(&self.0.rules);
            lifetime.end(&record)
        }))
    }

    fn is_owner(&self, owner: &str, record: &Record) -> bool {
        record.owner() == Some(&*self.0.rules.stored_owner(owner))
    }

    fn check_lists(&self) -> Result<(), Error> {
        match self.0.lists {
            true => Ok(()),
            false => Err(Error::Unsupported { what: "lists of an owner's sessions" }),
        }
    }
}
