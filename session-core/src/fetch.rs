//! Loading from the store.

use tracing::debug;

use crate::manager::Shared;
use crate::state::Phase;
use crate::{Carrier, Error, LoadedSession, Record, Timestamp, Token, key};

impl LoadedSession<'_> {
    /// Loads the session again after it was finished.
    pub(crate) async fn load_again(&self) -> Result<(), Error> {
        if self.core.lock().phase == Phase::Loaded {
            return Ok(());
        }
        let _turn = self.core.turn().await;
        let token = {
            let state = self.core.lock();
            if state.phase == Phase::Loaded {
                return Ok(()); // another task was faster
            }
            state.token.clone()
        };
        let now = self.shared.clock.now();
        let found = match &token {
            Some(token) => self.shared.fetch(token, self.carrier, now).await?,
            None => None,
        };
        let mut state = self.core.lock();
        match found {
            Some(record) => state.become_loaded(record, now),
            None if state.has_changes() => {
                // What a save that failed left: it is lost with the session, and not in silence.
                drop(state);
                return Err(self.failed(Error::Gone));
            }
            None => state.become_new(now),
        }
        Ok(())
    }

    /// Loads the stored values anew, with what other requests changed, below the pending changes:
    /// for tasks that live longer than a page takes. A new session stays as it is.
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or changed its id meanwhile; the visitor is anonymous
    /// then, and pending changes are lost. [`Error::Finished`] if the values were released.
    /// [`Error::Unavailable`] if the store is down.
    ///
    /// # Cancellation
    /// Safe: nothing is written.
    pub async fn reload(&self) -> Result<(), Error> {
        let _turn = self.core.turn().await;
        match self.with(|state| state.token.clone())? {
            Some(token) => self.load_anew(&token).await,
            None => Ok(()),
        }
    }

    pub(crate) async fn load_anew(&self, token: &Token) -> Result<(), Error> {
        let now = self.shared.clock.now();
        match self.shared.fetch(token, self.carrier, now).await? {
            Some(record) => {
                self.core.lock().become_loaded(record, now);
                Ok(())
            }
            None => Err(self.failed(Error::Gone)),
        }
    }

    /// What a store's answer means for the session, on the error's way to the caller.
    pub(crate) fn failed(&self, error: Error) -> Error {
        if matches!(error, Error::Gone) {
            self.shared.counters.gone.add(1);
            let mut state = self.core.lock();
            if let Some(token) = &state.token {
                debug!(session = %token.id().log_hash(), "session ended meanwhile");
            }
            state.become_new(self.shared.clock.now());
        }
        self.shared.noted(error)
    }
}

impl Shared {
    /// A live record that this request may use.
    pub(crate) async fn fetch(
        &self,
        token: &Token,
        carrier: Option<Carrier>,
        now: Timestamp,
    ) -> Result<Option<Record>, Error> {
        self.admit(self.provider.load(token, now).await, token, carrier, now)
    }

    /// What the provider loaded, if this request may use it.
    #[inline]
    pub(crate) fn admit(
        &self,
        loaded: Result<Option<Record>, Error>,
        token: &Token,
        carrier: Option<Carrier>,
        now: Timestamp,
    ) -> Result<Option<Record>, Error> {
        match loaded {
            Ok(Some(record)) if self.refuses(token, &record, carrier, now) => Ok(None),
            Ok(record) => Ok(record),
            Err(Error::Unreadable { reason }) => {
                self.report_unreadable(token.id(), reason);
                Ok(None)
            }
            Err(error) => Err(self.noted(error)),
        }
    }

    /// Whether a record is not for this request, though the store has it.
    fn refuses(
        &self,
        token: &Token,
        record: &Record,
        carrier: Option<Carrier>,
        now: Timestamp,
    ) -> bool {
        let own = record.lifetime();
        if own.as_ref().unwrap_or(&self.lifetime).is_over(record.created, now) {
            self.counters.expired.add(1);
            debug!(session = %token.id().log_hash(), "session beyond its absolute lifetime");
            return true;
        }
        // A link can carry any id that its author knows: only ids that were in URLs from the start
        // are worth that little.
        if carrier == Some(Carrier::Url) && record.values.get(key::IN_URLS).is_none() {
            debug!(session = %token.id().log_hash(), "the id of a cookie session came in a URL, refused");
            return true;
        }
        false
    }
}
