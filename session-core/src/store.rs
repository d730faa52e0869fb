//! A loaded session's operations at the store.

use std::time::Duration;

use rand::RngExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;

use crate::manager::Shared;
use crate::state::{Pending, Phase, Plan, Settings};
use crate::{
    Carrier, Changes, Error, ExpiryChange, LoadedSession, Record, Timestamp, Token, key, value,
};

/// How often `create` tries another id when one is taken, which chance alone will not bring about.
const CREATE_TRIES: usize = 5;

/// How often an update tries when other processes change the same value at the same time.
const UPDATE_TRIES: u32 = 64;

/// Operations at the store.
impl LoadedSession<'_> {
    /// Reads, changes and writes one value atomically at the store, whatever other requests do:
    /// a thousand parallel increments end at a thousand. Answers the new value.
    ///
    /// `f` may run more than once. Pending changes of other keys wait for the end of the request;
    /// where the same key has one, all pending changes are written first. A new session, which no
    /// other request can know, is updated in memory and stored at the end of the request.
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended meanwhile, [`Error::Conflict`] if other processes
    /// changed the value each time, [`Error::Decode`] if the value is not a `T`.
    ///
    /// # Cancellation
    /// The value is as it was or as it was to become.
    pub async fn update<T, F>(&self, key: &str, mut f: F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> T + Send,
    {
        let updated = self.try_update(key, |value| Ok::<_, Error>(Some(f(value)))).await?;
        Ok(updated.expect("the closure answers a value"))
    }

    /// Like [`update`](Self::update), with a closure that may fail, and that deletes the key by
    /// answering `None`. Answers the new value.
    ///
    /// # Errors
    /// The closure's own, after which nothing is written; and what [`update`](Self::update) answers.
    pub async fn try_update<T, F, E>(&self, key: &str, mut f: F) -> Result<Option<T>, E>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> Result<Option<T>, E> + Send,
        E: From<Error> + Send,
    {
        let limits = &self.limits_of_a_value();
        let mut step = |bytes: Option<&[u8]>| -> Result<_, E> {
            let value = bytes.map(|bytes| value::decode(key, bytes, limits)).transpose()?;
            let new: Option<T> = f(value)?;
            let encoded = new.as_ref().map(|new| value::encode(key, new, limits)).transpose()?;
            Ok((new, encoded))
        };
        // The last run's outcome: the loop below knows encoded values only.
        let mut outcome = Ok(None);
        self.update_encoded(&key::stored(key), &mut |bytes| match step(bytes) {
            Ok((new, encoded)) => {
                outcome = Ok(new);
                Some(encoded)
            }
            Err(error) => {
                outcome = Err(error);
                None
            }
        })
        .await?;
        outcome
    }

    /// The loop behind all updates, by stored key and on encoded values. `f` answers the new value,
    /// or gives up with `None`.
    pub(crate) async fn update_encoded(
        &self,
        key: &str,
        f: &mut EncodedUpdate<'_>,
    ) -> Result<(), Error> {
        let shared = self.shared;
        let _turn = self.core.turn().await;
        if self.with(|state| state.token.is_some() && state.changes.get(key).is_some())? {
            self.write(false).await?;
        }
        let Some(token) = self.with(|state| state.token.clone())? else {
            return self.update_in_memory(key, f);
        };
        let queue = &shared.queues[usize::from(token.id().as_bytes()[0]) % shared.queues.len()];
        // Who gets through at once builds on what it loaded; who had to wait knows that it is stale.
        let (_place, mut stale) = match queue.try_lock() {
            Some(place) => (place, false),
            None => (queue.lock().await, true),
        };
        for attempt in 0..UPDATE_TRIES {
            if stale {
                self.reload(&token).await?;
            }
            let old = self.with(|state| state.record.values.get(key).map(Box::<[u8]>::from))?;
            // Not under the lock: the handler's closure may look at the session.
            let Some(new) = f(old.as_deref()) else { return Ok(()) };
            let fits = self.with(|state| state.room_for(key, new.as_deref(), &shared.limits))?;
            if !stale && (new == old || fits.is_err()) {
                // "No change" or "no room" on the word of a snapshot alone: make sure.
                stale = true;
                continue;
            }
            fits?;
            if new == old {
                return Ok(());
            }
            let now = shared.clock.now();
            let changes = self.with(|state| {
                let expires = state.lifetime(shared).expires(state.record.created, now);
                let mut changes = Changes::new()
                    .expecting(key, old.as_deref())
                    .with_expiry(ExpiryChange::Extend(expires));
                changes.limits = shared.limits;
                match new {
                    Some(new) => changes.set(key, new),
                    None => changes.delete(key),
                }
                changes
            })?;
            match shared.provider.save(&token, &changes, now).await {
                Ok(token) => return self.with(|state| state.adopt(token, &changes))?,
                Err(Error::Conflict) => {
                    shared.counters.conflicts.add(1);
                    stale = true;
                    // At first an old snapshot is the likelier cause, and no crowd to give way to.
                    if attempt > 0 {
                        back_off(attempt).await;
                    }
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(Error::Conflict)
    }

    /// The update of a session that is not stored: no other request knows it, but another task of
    /// this one may change the value while `f` runs.
    fn update_in_memory(&self, key: &str, f: &mut EncodedUpdate<'_>) -> Result<(), Error> {
        for _ in 0..UPDATE_TRIES {
            let old = self.stored_value(key)?;
            let Some(new) = f(old.as_deref()) else { return Ok(()) };
            let done = self.with(|state| match state.value(key) == old.as_deref() {
                true => state.put(key, new, self.shared).map(|_| true),
                false => Ok(false),
            })??;
            if done {
                return Ok(());
            }
        }
        Err(Error::Conflict)
    }

    /// Gives the session a new id, at once and atomically; the old one is dead when this returns.
    /// For every change of privilege: login, logout of one of several roles, change of password.
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or changed its id meanwhile; the visitor is anonymous
    /// then.
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
                    self.core.lock().token = Some(renamed.clone());
                    return Ok(renamed);
                }
                Err(Error::Exists) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(Error::Exists)
    }

    /// Takes a session out of the URLs that it is in: gives it an id that was in none.
    async fn leave_urls(&self) -> Result<(), Error> {
        let (token, has_new_id, has_changes) = {
            let mut state = self.core.lock();
            let leaving = std::mem::take(&mut state.leaving) && state.phase == Phase::Loaded;
            match state.token.clone() {
                Some(token) if leaving && state.value(key::IN_URLS).is_some() => {
                    let has_new_id =
                        state.held.as_ref().is_some_and(|held| held.id() != token.id());
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
        self.with(|state| state.put(key::IN_URLS, None, self.shared))?.map(|_| ())
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
        let token = self.core.lock().token.clone();
        if let Some(token) = &token {
            let last = self.rename(token).await?;
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

    /// Writes what changed to the store now, and goes on. From a task that streams a body, long
    /// after the response's head is gone, it is the way to save; the id can't change any more then.
    ///
    /// # Errors
    /// As [`finish`](crate::SessionHandle::finish).
    pub async fn save(&self) -> Result<(), Error> {
        let _turn = self.core.turn().await;
        self.with(|_| ())?;
        self.write(false).await
    }

    pub(crate) async fn finish(&self) -> Result<(), Error> {
        {
            // What most requests come to: something was read, and the store need not know yet. The
            // time of the load serves, which spares a look at the clock.
            let mut state = self.core.lock();
            if !state.busy
                && !state.leaving
                && let Plan::Nothing = state.plan(self.shared, state.loaded_at)
            {
                state.release();
                return Ok(());
            }
        }
        self.leave_urls().await?;
        let _turn = self.core.turn().await;
        self.write(true).await
    }

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
            Some((record, settings)) => state.become_loaded(record, settings, now),
            None => state.become_new(now),
        }
        Ok(())
    }

    /// Loads again, below the pending changes.
    async fn reload(&self, token: &Token) -> Result<(), Error> {
        let now = self.shared.clock.now();
        match self.shared.fetch(token, self.carrier, now).await? {
            Some((record, settings)) => {
                self.core.lock().become_loaded(record, settings, now);
                Ok(())
            }
            None => Err(self.failed(Error::Gone)),
        }
    }

    /// Writes what changed. With `release`, lets go of the loaded values first, so that a store in
    /// the same memory can change them in place.
    async fn write(&self, release: bool) -> Result<(), Error> {
        let shared = self.shared;
        loop {
            let now = shared.clock.now();
            let plan = self.core.lock().plan(shared, now);
            match plan {
                Plan::Nothing => {}
                Plan::Create => self.create(now).await?,
                Plan::Touch(token, expires) => self.touch(&token, expires, now).await?,
                Plan::Save(token, expiry) => self.merge(&token, expiry, release, now).await?,
            }
            let mut state = self.core.lock();
            if !release {
                return Ok(());
            }
            if !state.has_changes() {
                state.release();
                return Ok(());
            }
            // Another task changed something while the store worked: none of it may get lost.
        }
    }

    async fn touch(&self, token: &Token, expires: Timestamp, now: Timestamp) -> Result<(), Error> {
        match self.shared.provider.touch(token, expires, now).await {
            Ok(token) => {
                let mut state = self.core.lock();
                state.token = Some(token);
                state.record.expires = state.record.expires.max(expires);
                Ok(())
            }
            // What was read was right when it was read; the next request will see.
            Err(Error::Gone) => {
                debug!(session = %token.id().log_hash(), "session ended while it was read");
                Ok(())
            }
            Err(error) => Err(self.shared.noted(error)),
        }
    }

    async fn create(&self, now: Timestamp) -> Result<(), Error> {
        let shared = self.shared;
        let (record, saved) = {
            let mut state = self.core.lock();
            if state.overtaken {
                return Err(Error::Gone);
            }
            if shared.transport.uses_url(self.carrier) {
                let marker = value::encode(key::IN_URLS, &true, &shared.limits)?;
                state.put(key::IN_URLS, Some(marker), shared)?;
            }
            let mut record = Record {
                created: now,
                expires: state.lifetime(shared).expires(now, now),
                owner: state.changes.owner.clone().flatten(),
                ..Record::default()
            };
            record.values.apply(&state.changes, &shared.limits)?;
            (record, state.changes.clone())
        };
        for _ in 0..CREATE_TRIES {
            let id = *self.core.lock().fresh_token(shared)?.id();
            match shared.provider.create(&id, record.clone(), now).await {
                Ok(token) => {
                    shared.counters.created.add(1);
                    debug!(session = %id.log_hash(), "session created");
                    let mut state = self.core.lock();
                    state.keep_newer(&saved);
                    state.token = Some(token);
                    state.fresh = None;
                    let settings = Settings::of(&record.values);
                    state.become_loaded(record, settings, now);
                    return Ok(());
                }
                Err(Error::Exists) => self.core.lock().fresh = None,
                Err(error) => return Err(shared.noted(error)),
            }
        }
        Err(Error::Exists)
    }

    async fn merge(
        &self,
        token: &Token,
        expiry: ExpiryChange,
        release: bool,
        now: Timestamp,
    ) -> Result<(), Error> {
        let shared = self.shared;
        let mut pending = Pending::of(self.core, release);
        pending.changes.expiry = expiry;
        pending.changes.limits = shared.limits;
        match shared.provider.save(token, &pending.changes, now).await {
            Ok(token) => {
                let saved = pending.arrived();
                let mut state = self.core.lock();
                state.keep_newer(&saved);
                state.adopt(token, &saved)
            }
            Err(error) => {
                drop(pending); // puts the changes back
                Err(self.failed(error))
            }
        }
    }

    /// What a store's answer means for the session, on the error's way to the caller.
    fn failed(&self, error: Error) -> Error {
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
    ) -> Result<Option<(Record, Settings)>, Error> {
        let record = match self.provider.load(token, now).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(Error::Unreadable { reason }) => {
                self.report_unreadable(token.id(), reason);
                return Ok(None);
            }
            Err(error) => return Err(self.noted(error)),
        };
        let settings = Settings::of(&record.values);
        if settings.lifetime.unwrap_or(self.lifetime).is_over(record.created, now) {
            self.counters.expired.add(1);
            debug!(session = %token.id().log_hash(), "session beyond its absolute lifetime");
            return Ok(None);
        }
        // A link can carry any id that its author knows: only ids that were in URLs from the start
        // are worth that little.
        if carrier == Some(Carrier::Url) && record.values.get(key::IN_URLS).is_none() {
            debug!(session = %token.id().log_hash(), "the id of a cookie session came in a URL, refused");
            return Ok(None);
        }
        Ok(Some((record, settings)))
    }
}

/// From a key's encoded value to its new one, or its end; `None` gives up.
type EncodedUpdate<'f> = dyn FnMut(Option<&[u8]>) -> Option<Option<Box<[u8]>>> + Send + 'f;

/// Waits a random time that grows with the attempts, up to 64 ms.
async fn back_off(attempt: u32) {
    let most = 1000 << attempt.min(6);
    let micros = rand::rng().random_range(0..most);
    futures_timer::Delay::new(Duration::from_micros(micros)).await;
}
