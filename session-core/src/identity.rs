//! New ids and ends of sessions.

use tracing::debug;

use crate::state::Phase;
use crate::{Error, LoadedSession, Token, key};

/// How often another id is tried when one is taken, which chance alone will not bring about.
pub(crate) const CREATE_TRIES: usize = 5;

/// The session's identity.
impl LoadedSession<'_> {
    /// Gives the session a new id, at once and atomically; the old one is dead when this returns.
    /// For every change of privilege: login, logout of one of several roles, change of password.
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or changed its id meanwhile; the visitor is anonymous
    /// then. [`Error::Unavailable`] if the store is down, and [`Error::Random`] if no id can be made:
    /// the session has its old id then. After [`Error::InDoubt`] it has one or the other.
    ///
    /// # Cancellation
    /// The session has its old id or the new one. If it is the new one, nobody knows it: the
    /// visitor is anonymous with the next request.
    pub async fn regenerate(&self) -> Result<(), Error> {
        let _turn = self.core.turn().await;
        let shared = self.shared;
        let Some(token) = self.with(|state| state.token.clone())? else {
            self.core.lock().fresh = None;
            return Ok(());
        };
        let renamed = self.rename(&token).await?;
        shared.counters.regenerated.add(1);
        debug!(
            old = %token.id().log_hash(),
            new = %renamed.id().log_hash(),
            "session regenerated"
        );
        Ok(())
    }

    /// Moves the stored session to a new id.
    async fn rename(&self, token: &Token) -> Result<Token, Error> {
        let shared = self.shared;
        for _ in 0..CREATE_TRIES {
            let new_id = *shared.new_token()?.id();
            match shared.provider.rename(token, &new_id, shared.clock.now()).await {
                Ok(renamed) => {
                    self.core.lock().set_token(Some(renamed.clone()));
                    return Ok(renamed);
                }
                Err(Error::Exists) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(Error::Exists)
    }

    /// Takes a session out of the URLs that it is in: gives it an id that was in none.
    pub(crate) async fn leave_urls(&self) -> Result<(), Error> {
        let (token, has_new_id, has_changes) = {
            let mut state = self.core.lock();
            let leaving = std::mem::take(&mut state.leaving) && state.phase == Phase::Loaded;
            match state.token.clone() {
                Some(token) if leaving && state.value(key::IN_URLS).is_some() => {
                    let has_new_id = state.held().is_some_and(|held| held.id() != token.id());
                    (token, has_new_id, state.has_changes())
                }
                _ => return Ok(()),
            }
        };
        if !has_new_id {
            // Before the old id is dead: a request that finds it dead must find it here.
            self.shared.departures.add(token.id(), self.shared.clock.now());
            match self.regenerate().await {
                Ok(()) => {}
                // Another request was faster. It tells the client the new id.
                Err(Error::Gone) => {
                    self.core.lock().overtaken = true;
                    return if has_changes { Err(Error::Gone) } else { Ok(()) };
                }
                Err(error) => {
                    self.core.lock().leaving = true;
                    return Err(error);
                }
            }
        }
        self.loaded()?.put(key::IN_URLS, None, self.shared)
    }

    /// Ends the session, at once and for good, and starts a new, empty one with a new id, which is
    /// stored only if something is put into it.
    ///
    /// It takes the session's id away before it destroys: a request that gives the session a new id
    /// at the same time either loses to this one, or makes it answer `Gone`. Otherwise a logout
    /// could report success for a session that goes on under its new id.
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or changed its id meanwhile; the visitor is anonymous
    /// then. [`Error::Unavailable`] if the store is down: the session may live on then.
    ///
    /// # Cancellation
    /// The session has ended, or lives on under its old id or another one; the latter is announced
    /// if the request is finished all the same.
    pub async fn destroy(&self) -> Result<(), Error> {
        let _turn = self.core.turn().await;
        let shared = self.shared;
        let (token, overtaken) = {
            let state = self.core.lock();
            (state.token.clone(), state.overtaken)
        };
        if overtaken {
            return Err(Error::Gone); // it goes on under an id that this request doesn't know
        }
        if let Some(token) = &token {
            let last = match self.rename(token).await {
                // No room for the record under another id: nor for a rename that could race with
                // this. To end a session needs none.
                Err(Error::Full { .. }) => token.clone(),
                renamed => renamed?,
            };
            let destroyed = shared.provider.destroy(&last, shared.clock.now()).await;
            destroyed.map_err(|error| shared.noted(error))?;
            shared.counters.destroyed.add(1);
            debug!(session = %token.id().log_hash(), "session destroyed");
        }
        let now = shared.clock.now();
        let mut state = self.core.lock();
        state.ended = true;
        state.become_new(now);
        Ok(())
    }
}
