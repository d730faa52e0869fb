//! A loaded session: values in memory, and the store operations on it.

use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use rand::RngExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::debug;

use crate::manager::Shared;
use crate::transport::Carrier;
use crate::{
    Changes, Error, ExpiryChange, Lifetime, Limits, Record, Session, SessionId, Timestamp, Token,
    Values, key, value,
};

/// How often `create` tries another id when one is taken, which chance alone will not bring about.
const CREATE_TRIES: usize = 5;

/// How often an update tries when other processes change the same value at the same time.
const UPDATE_TRIES: u32 = 64;

/// How far a request has come with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The token is what the client claims; nobody asked the store.
    Arrived,
    /// The values are there.
    Loaded,
    /// The values were let go; the token is what the client is told.
    Finished,
}

/// What the library keeps about a session among its values, decoded.
#[derive(Clone, Copy, Debug, Default)]
struct Settings {
    lifetime: Option<Lifetime>,
    persistent: Option<bool>,
}

impl Settings {
    /// Reads them by stored key. What is not as the library wrote it counts as not set.
    fn read<'a>(value: impl Fn(&str) -> Option<&'a [u8]>) -> Self {
        let limits = Limits::default();
        let lifetime =
            value(key::LIFETIME).and_then(|bytes| value::decode("", bytes, &limits).ok());
        let persistent =
            value(key::PERSISTENT).and_then(|bytes| value::decode("", bytes, &limits).ok());
        Self {
            lifetime: lifetime.map(|(idle, absolute)| Lifetime {
                idle: Duration::from_millis(idle),
                absolute: Duration::from_millis(absolute),
            }),
            persistent,
        }
    }
}

/// What a handle knows of its session.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// The stored session; at arrival, what the client claims. `None` for a new session.
    pub(crate) token: Option<Token>,
    /// What the client carries and the store knows.
    pub(crate) held: Option<Token>,
    /// The id of a session that is not stored yet, once someone asked for it.
    fresh: Option<SessionId>,
    /// The record as loaded, without the changes.
    record: Record,
    changes: Changes,
    /// With the changes.
    settings: Settings,
    /// Keys and bytes of the values with the changes.
    keys: usize,
    bytes: usize,
    /// The handler changed the lifetime: the expiry is set outright.
    lifetime_changed: bool,
    /// The client must be told even if the token stays the same.
    pub(crate) reissue: bool,
    /// The handler ended the session that the client carries.
    pub(crate) ended: bool,
}

impl State {
    pub(crate) fn arrived(token: Option<Token>) -> Self {
        Self {
            phase: Phase::Arrived,
            token,
            held: None,
            fresh: None,
            record: Record::default(),
            changes: Changes::new(),
            settings: Settings::default(),
            keys: 0,
            bytes: 0,
            lifetime_changed: false,
            reissue: false,
            ended: false,
        }
    }

    /// Starts over as a visitor without a session.
    fn become_new(&mut self, now: Timestamp) {
        self.phase = Phase::Loaded;
        self.token = None;
        self.fresh = None;
        self.changes = Changes::new();
        self.lifetime_changed = false;
        self.reissue = false;
        self.become_loaded(Record { created: now, ..Record::default() });
    }

    /// Takes a record; pending changes stay on top of it.
    fn become_loaded(&mut self, record: Record) {
        self.phase = Phase::Loaded;
        self.record = record;
        self.measure();
    }

    /// Counts keys and bytes, and reads the settings, anew.
    fn measure(&mut self) {
        self.settings = Settings::read(|key| self.value(key));
        self.keys = self.record.values.len();
        self.bytes = self.record.values.size();
        for (key, value) in self.changes.iter() {
            let old = self.record.values.get(key);
            self.keys = self.keys + usize::from(value.is_some()) - usize::from(old.is_some());
            self.bytes = self.bytes + value.map_or(0, |v| key.len() + v.len())
                - old.map_or(0, |old| key.len() + old.len());
        }
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || self.changes.owner.is_some()
    }

    /// A stored key's value, changes first.
    fn value(&self, key: &str) -> Option<&[u8]> {
        match self.changes.get(key) {
            Some(value) => value,
            None => self.record.values.get(key),
        }
    }

    /// Sets or deletes a stored key, unless it is so already.
    fn put(&mut self, key: &str, value: Option<Vec<u8>>, shared: &Shared) -> Result<bool, Error> {
        if self.value(key) == value.as_deref() {
            return Ok(false);
        }
        (self.keys, self.bytes) = self.room_for(key, value.as_deref(), &shared.limits)?;
        if self.record.values.get(key) == value.as_deref() {
            self.changes.forget(key);
        } else {
            match value {
                Some(value) => self.changes.set(key, value),
                None => self.changes.delete(key),
            }
        }
        Ok(true)
    }

    /// The keys and bytes that the session has once a stored key is set or deleted; an error if it
    /// grows over a limit by that.
    fn room_for(
        &self,
        key: &str,
        value: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(usize, usize), Error> {
        let old = self.value(key);
        let entry = |value: &[u8]| key.len() + value.len();
        let keys = self.keys + usize::from(value.is_some()) - usize::from(old.is_some());
        let bytes = self.bytes + value.map_or(0, entry) - old.map_or(0, entry);
        if bytes > limits.bytes && bytes > self.bytes {
            return Err(Error::TooLarge { what: "session bytes", limit: limits.bytes });
        }
        if keys > limits.keys && keys > self.keys {
            return Err(Error::TooLarge { what: "session keys", limit: limits.keys });
        }
        Ok((keys, bytes))
    }

    fn lifetime(&self, shared: &Shared) -> Lifetime {
        self.settings.lifetime.unwrap_or(shared.lifetime)
    }

    fn persistent(&self, shared: &Shared) -> bool {
        self.settings.persistent.unwrap_or_else(|| shared.transport.persistent())
    }

    /// How long the client is to keep the token; `None` for as long as the browser runs.
    pub(crate) fn max_age(&self, shared: &Shared) -> Option<Duration> {
        self.persistent(shared).then(|| {
            let left =
                self.lifetime(shared).deadline(self.record.created).since(shared.clock.now());
            shared.transport.max_age().unwrap_or(left)
        })
    }

    /// The id of the new session, made if need be.
    fn fresh_id(&mut self, shared: &Shared) -> Result<SessionId, Error> {
        match self.fresh {
            Some(id) => Ok(id),
            None => Ok(*self.fresh.insert(shared.new_id()?)),
        }
    }

    /// What the client will carry once the request is finished, as far as can be told before.
    pub(crate) fn future_token(&mut self, shared: &Shared) -> Option<Token> {
        if self.token.is_none() && self.has_changes() {
            return self.fresh_id(shared).ok().map(Token::from);
        }
        self.token.clone()
    }
}

/// A session whose values are in memory: what [`SessionHandle::load`](crate::SessionHandle::load)
/// answers.
///
/// It is a view of the handle, cheap to copy; all copies see the same values. Reading and changing
/// values is synchronous and touches no store; [`finish`](crate::SessionHandle::finish) writes what
/// changed. The operations that are `async` act at the store at once.
///
/// ```
/// # async fn handler(handle: &session_core::SessionHandle<'_>) -> Result<(), session_core::Error> {
/// let session = handle.load().await?;
/// if session.get::<String>("user")?.is_none() {
///     session.set("user", "ada")?;
///     session.regenerate().await?; // a new id for a new privilege
/// }
/// let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct LoadedSession<'h> {
    shared: &'h Shared,
    state: &'h Mutex<State>,
    gate: &'h async_lock::Mutex<()>,
    carrier: Option<Carrier>,
}

/// Values.
impl<'h> LoadedSession<'h> {
    pub(crate) fn new(
        shared: &'h Shared,
        state: &'h Mutex<State>,
        gate: &'h async_lock::Mutex<()>,
        carrier: Option<Carrier>,
    ) -> Self {
        Self { shared, state, gate, carrier }
    }

    /// The session's id; that of a new session is made at the first call, before it is stored.
    ///
    /// # Errors
    /// [`Error::Random`] if a new id is needed and can't be made.
    pub fn id(&self) -> Result<SessionId, Error> {
        let mut state = self.state.lock();
        match &state.token {
            Some(token) => Ok(*token.id()),
            None => state.fresh_id(self.shared),
        }
    }

    /// Whether the session is not stored yet.
    pub fn is_new(&self) -> bool {
        self.state.lock().token.is_none()
    }

    /// A key's value, or `None` if it has none. Only this value is decoded.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; the session stays usable.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        self.with(|state| {
            let bytes = state.value(&key::stored(key));
            bytes.map(|bytes| value::decode(key, bytes, &self.shared.limits)).transpose()
        })?
    }

    /// Sets a key. Setting an equal value is no change.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value can't be represented, [`Error::TooLarge`] over a limit; the
    /// session is as it was then.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        let bytes = value::encode(key, value, &self.limits_of_a_value())?;
        self.put(&key::stored(key), Some(bytes))
    }

    /// Deletes a key; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.put(&key::stored(key), None)
    }

    /// Reads a key's value and deletes the key. Two requests at once may both read it; where that
    /// matters, [`try_update`](Self::try_update) to nothing.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; it stays where it is then.
    pub fn take<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let stored = key::stored(key);
        self.with(|state| {
            let value = state.value(&stored);
            let value =
                value.map(|bytes| value::decode(key, bytes, &self.shared.limits)).transpose()?;
            state.put(&stored, None, self.shared)?;
            Ok(value)
        })?
    }

    /// Deletes all keys. Flash messages, lifetime and the like stay.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn clear(&self) -> Result<(), Error> {
        for key in self.keys()? {
            self.delete(&key)?;
        }
        Ok(())
    }

    /// The keys that have values, sorted.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        self.with(|state| {
            let stored = state.record.values.iter().map(|(key, _)| key);
            let set = state.changes.iter().map(|(key, _)| key);
            let present = stored.chain(set).filter(|key| state.value(key).is_some());
            let mut keys: Vec<String> =
                present.filter_map(key::application).map(str::to_owned).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        })
    }

    /// When the session was created; now, for a new one.
    pub fn created(&self) -> Timestamp {
        self.state.lock().record.created
    }

    /// How long the session lives from now if it is not used again.
    pub fn remaining(&self) -> Duration {
        let (state, now) = (self.state.lock(), self.shared.clock.now());
        state.lifetime(self.shared).expires(state.record.created, now).since(now)
    }

    /// The session's lifetime: its own, or the manager's.
    pub fn lifetime(&self) -> Lifetime {
        self.state.lock().lifetime(self.shared)
    }

    /// Gives this session a lifetime of its own, in whole milliseconds; `absolute` counts from its
    /// creation.
    ///
    /// # Errors
    /// [`Error::Config`] if one of them is zero.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), Error> {
        lifetime.validate()?;
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let pair = (millis(lifetime.idle), millis(lifetime.absolute));
        let lifetime = Lifetime {
            idle: Duration::from_millis(pair.0),
            absolute: Duration::from_millis(pair.1),
        };
        if lifetime != self.lifetime() {
            self.put(
                key::LIFETIME,
                Some(value::encode(key::LIFETIME, &pair, &self.shared.limits)?),
            )?;
            let mut state = self.state.lock();
            state.settings.lifetime = Some(lifetime);
            state.lifetime_changed = true;
            state.reissue |= state.persistent(self.shared);
        }
        Ok(())
    }

    /// Whether the client keeps the token when the browser ends ("remember me").
    pub fn is_persistent(&self) -> bool {
        self.state.lock().persistent(self.shared)
    }

    /// Makes the client keep the token when the browser ends, or not. The next response says so.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn set_persistent(&self, persistent: bool) -> Result<(), Error> {
        if persistent != self.is_persistent() {
            let bytes = value::encode(key::PERSISTENT, &persistent, &self.shared.limits)?;
            self.put(key::PERSISTENT, Some(bytes))?;
            let mut state = self.state.lock();
            state.settings.persistent = Some(persistent);
            state.reissue = true;
        }
        Ok(())
    }

    /// The account that the session belongs to, as opaque text.
    pub fn owner(&self) -> Option<String> {
        let state = self.state.lock();
        state.changes.owner.as_ref().unwrap_or(&state.record.owner).as_deref().map(str::to_owned)
    }

    /// Says which account the session belongs to, as opaque text; `None` for nobody's.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn set_owner(&self, owner: Option<&str>) -> Result<(), Error> {
        let owner: Option<Box<str>> = owner.map(Into::into);
        self.with(|state| {
            state.changes.owner = (owner != state.record.owner).then_some(owner);
        })
    }

    /// The limits of one value: its size counts with the session's, where one that shrinks is
    /// allowed even if it is too large still.
    pub(crate) fn limits_of_a_value(&self) -> Limits {
        Limits { bytes: usize::MAX, ..self.shared.limits }
    }

    /// Runs `f` on the state if values are there.
    fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Result<R, Error> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Loaded => Ok(f(&mut state)),
            Phase::Arrived | Phase::Finished => Err(Error::Finished),
        }
    }

    fn put(&self, key: &str, value: Option<Vec<u8>>) -> Result<(), Error> {
        self.with(|state| state.put(key, value, self.shared))?.map(|_| ())
    }

    /// A value by its stored key.
    pub(crate) fn stored_value(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.with(|state| state.value(key).map(<[u8]>::to_vec))
    }
}

/// Operations at the store.
impl LoadedSession<'_> {
    /// Reads, changes and writes one value atomically at the store, whatever other requests do:
    /// a thousand parallel increments end at a thousand. Answers the new value.
    ///
    /// `f` may run more than once. Pending changes of other keys wait for the end of the request;
    /// where the same key has one, all pending changes are written first. A new session, which no other request can know, is updated
    /// in memory and stored at the end of the request.
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
        let _gate = self.gate.lock().await;
        if self.with(|state| state.token.is_some() && state.changes.get(key).is_some())? {
            self.write(false).await?;
        }
        let Some(token) = self.with(|state| state.token.clone())? else {
            return self.update_in_memory(key, f);
        };
        let queue = &shared.queues[usize::from(token.id().as_bytes()[0]) % shared.queues.len()];
        // Who gets through at once builds on what it loaded; who had to wait knows that it is stale.
        let (_turn, mut stale) = match queue.try_lock() {
            Some(turn) => (turn, false),
            None => (queue.lock().await, true),
        };
        for attempt in 0..UPDATE_TRIES {
            if stale {
                self.reload(&token).await?;
            }
            let old = self.with(|state| state.record.values.get(key).map(<[u8]>::to_vec))?;
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
                    back_off(attempt).await;
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
        let _gate = self.gate.lock().await;
        let shared = self.shared;
        let Some(token) = self.with(|state| state.token.clone())? else {
            self.state.lock().fresh = None;
            return Ok(());
        };
        for _ in 0..CREATE_TRIES {
            let new_id = shared.new_id()?;
            match shared.provider.rename(&token, &new_id, shared.clock.now()).await {
                Ok(new_token) => {
                    shared.counters.regenerated.add(1);
                    debug!(old = %token.id().log_hash(), new = %new_id.log_hash(), "session regenerated");
                    self.state.lock().token = Some(new_token);
                    return Ok(());
                }
                Err(Error::Exists) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
        Err(Error::Exists)
    }

    /// Ends the session, at once and for good, and starts a new, empty one with a new id, which is
    /// stored only if something is put into it.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the store is down: the session may live on then.
    ///
    /// # Cancellation
    /// The session lives on or has ended.
    pub async fn destroy(&self) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        let now = self.shared.clock.now();
        let token = self.state.lock().token.clone();
        if let Some(token) = &token {
            self.shared
                .provider
                .destroy(token, now)
                .await
                .map_err(|error| self.shared.noted(error))?;
            self.shared.counters.destroyed.add(1);
            debug!(session = %token.id().log_hash(), "session destroyed");
        }
        let mut state = self.state.lock();
        state.ended |= token.is_some() && state.held.is_some();
        state.become_new(now);
        Ok(())
    }

    /// Writes what changed to the store now, and goes on. From a task that streams a body, long
    /// after the response's head is gone, it is the way to save; the id can't change any more then.
    ///
    /// # Errors
    /// As [`finish`](crate::SessionHandle::finish).
    pub async fn save(&self) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        self.with(|_| ())?;
        self.write(false).await
    }

    pub(crate) async fn finish(&self) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        self.write(true).await
    }

    pub(crate) async fn load(&self) -> Result<(), Error> {
        let _gate = self.gate.lock().await;
        let token = {
            let state = self.state.lock();
            if state.phase == Phase::Loaded {
                return Ok(()); // another copy was faster
            }
            state.token.clone()
        };
        let now = self.shared.clock.now();
        let record = match &token {
            Some(token) => self.fetch(token, now).await?,
            None => None,
        };
        let mut state = self.state.lock();
        match record {
            Some(record) => {
                // Later, the token may be one that the client was never told.
                if state.phase == Phase::Arrived {
                    state.held = token;
                }
                state.become_loaded(record);
            }
            None => state.become_new(now),
        }
        Ok(())
    }

    /// A live record that this request may use.
    async fn fetch(&self, token: &Token, now: Timestamp) -> Result<Option<Record>, Error> {
        let shared = self.shared;
        let record = match shared.provider.load(token, now).await {
            Ok(Some(record)) => record,
            Ok(None) => return Ok(None),
            Err(Error::Unreadable { reason }) => {
                shared.report_unreadable(token.id(), reason);
                return Ok(None);
            }
            Err(error) => return Err(shared.noted(error)),
        };
        let settings = Settings::read(|key| record.values.get(key));
        if settings.lifetime.unwrap_or(shared.lifetime).is_over(record.created, now) {
            shared.counters.expired.add(1);
            debug!(session = %token.id().log_hash(), "session beyond its absolute lifetime");
            return Ok(None);
        }
        // A link can carry any id that its author knows: only ids that were in URLs from the start
        // are worth that little.
        if self.carrier == Some(Carrier::Url) && record.values.get(key::IN_URLS).is_none() {
            debug!(session = %token.id().log_hash(), "the id of a cookie session came in a URL, refused");
            return Ok(None);
        }
        Ok(Some(record))
    }

    /// Loads again, below the pending changes.
    async fn reload(&self, token: &Token) -> Result<(), Error> {
        match self.fetch(token, self.shared.clock.now()).await? {
            Some(record) => {
                self.state.lock().become_loaded(record);
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
            let plan = self.state.lock().plan(shared, now);
            match plan {
                Plan::Nothing => {}
                Plan::Create => self.create(now).await?,
                Plan::Touch(token, expires) => self.touch(&token, expires, now).await?,
                Plan::Save(token, expiry) => self.merge(&token, expiry, release, now).await?,
            }
            let mut state = self.state.lock();
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
                let mut state = self.state.lock();
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
            let mut state = self.state.lock();
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
            let id = self.state.lock().fresh_id(shared)?;
            match shared.provider.create(&id, record.clone(), now).await {
                Ok(token) => {
                    shared.counters.created.add(1);
                    debug!(session = %id.log_hash(), "session created");
                    let mut state = self.state.lock();
                    state.keep_newer(&saved);
                    state.token = Some(token);
                    state.fresh = None;
                    state.become_loaded(record);
                    return Ok(());
                }
                Err(Error::Exists) => self.state.lock().fresh = None,
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
        let mut pending = Pending::of(self.state, release);
        pending.changes.expiry = expiry;
        pending.changes.limits = shared.limits;
        match shared.provider.save(token, &pending.changes, now).await {
            Ok(token) => {
                let saved = pending.arrived();
                let mut state = self.state.lock();
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
            let mut state = self.state.lock();
            if let Some(token) = &state.token {
                debug!(session = %token.id().log_hash(), "session ended meanwhile");
            }
            state.become_new(self.shared.clock.now());
        }
        self.shared.noted(error)
    }
}

/// What `write` has to do.
enum Plan {
    Nothing,
    Create,
    Touch(Token, Timestamp),
    Save(Token, ExpiryChange),
}

impl State {
    fn plan(&self, shared: &Shared, now: Timestamp) -> Plan {
        let Some(token) = self.token.clone() else {
            return if self.has_changes() { Plan::Create } else { Plan::Nothing };
        };
        let lifetime = self.lifetime(shared);
        if self.has_changes() {
            let expires = lifetime.expires(self.record.created, now);
            let expiry = match self.lifetime_changed {
                true => ExpiryChange::Set(expires),
                false => ExpiryChange::Extend(expires),
            };
            return Plan::Save(token, expiry);
        }
        // A session's own idle time may be shorter than the manager's: it would end between two
        // touches if they were as rare.
        let every = shared.touch_every.min(lifetime.idle / 4);
        match lifetime.touch_due(self.record.created, self.record.expires, now, every) {
            Some(expires) if self.phase == Phase::Loaded => Plan::Touch(token, expires),
            _ => Plan::Nothing,
        }
    }

    /// Prepares for the record to have these changes: what other tasks of the request changed
    /// while they were on their way stays changed, even if it is back to what the record had.
    fn keep_newer(&mut self, saved: &Changes) {
        if self.phase == Phase::Loaded {
            for (key, value) in saved.iter() {
                match self.value(key).map(<[u8]>::to_vec) {
                    shown if shown.as_deref() == value => self.changes.forget(key),
                    Some(shown) => self.changes.set(key, shown),
                    None => self.changes.delete(key),
                }
            }
            if let Some(saved) = &saved.owner {
                let shown = self.changes.owner.take().unwrap_or_else(|| self.record.owner.clone());
                self.changes.owner = (shown != *saved).then_some(shown);
            }
        }
        self.lifetime_changed &= self.changes.get(key::LIFETIME).is_some();
    }

    /// Takes over what the store took over.
    fn adopt(&mut self, token: Token, changes: &Changes) -> Result<(), Error> {
        self.token = Some(token);
        self.record.expires = changes.expiry.apply(self.record.expires);
        if let Some(owner) = &changes.owner {
            self.record.owner.clone_from(owner);
        }
        if self.phase == Phase::Loaded {
            // The store may hold more by now than this snapshot: its limits are its own affair.
            self.record.values.apply(changes, &Limits::UNLIMITED)?;
            self.measure();
        }
        Ok(())
    }

    /// Lets go of the values. Lifetime and the like stay for the response.
    fn release(&mut self) {
        self.phase = Phase::Finished;
        self.record.values = Values::new();
    }
}

/// Changes on their way to the store. Those that were taken are put back if they don't arrive: on
/// an error, or when the future is dropped.
struct Pending<'h> {
    state: &'h Mutex<State>,
    changes: Changes,
    taken: bool,
}

impl<'h> Pending<'h> {
    /// Takes the changes and lets go of the values, in one step: nothing can be changed any more
    /// then. Or copies the changes, which other tasks of the request go on to see and to change.
    fn of(state: &'h Mutex<State>, release: bool) -> Self {
        let mut locked = state.lock();
        let changes = if release {
            locked.release();
            std::mem::take(&mut locked.changes)
        } else {
            locked.changes.clone()
        };
        drop(locked);
        Self { state, changes, taken: release }
    }

    /// The changes, which arrived.
    fn arrived(&mut self) -> Changes {
        self.taken = false;
        std::mem::take(&mut self.changes)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if self.taken {
            self.state.lock().changes = std::mem::take(&mut self.changes);
        }
    }
}

/// From a key's encoded value to its new one, or its end; `None` gives up.
type EncodedUpdate<'f> = dyn FnMut(Option<&[u8]>) -> Option<Option<Vec<u8>>> + Send + 'f;

/// Waits a random time that grows with the attempts, up to 64 ms.
async fn back_off(attempt: u32) {
    let most = 1000 << attempt.min(6);
    let micros = rand::rng().random_range(0..most);
    futures_timer::Delay::new(Duration::from_micros(micros)).await;
}

impl Session for LoadedSession<'_> {
    fn id(&self) -> Result<SessionId, Error> {
        Self::id(self)
    }

    fn get_encoded(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.stored_value(&key::stored(key))
    }

    fn set_encoded(&self, key: &str, value: Vec<u8>) -> Result<(), Error> {
        match value::check(&value, self.shared.limits.depth) {
            Ok(()) => self.put(&key::stored(key), Some(value)),
            Err(value::Malformed::TooDeep) => {
                Err(Error::TooLarge { what: "value depth", limit: self.shared.limits.depth })
            }
            Err(value::Malformed::NotOneValue) => {
                Err(Error::Encode { key: key.into(), given: "encoded bytes" })
            }
        }
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        Self::delete(self, key)
    }
}

impl fmt::Debug for LoadedSession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.lock();
        f.debug_struct("LoadedSession")
            .field("token", &state.token)
            .field("keys", &state.keys)
            .field("changed", &state.changes.iter().len())
            .finish_non_exhaustive()
    }
}
