//! Atomic updates of one value.

use std::time::Duration;

use rand::RngExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::provider::answer;
use crate::state::State;
use crate::{Changes, Error, Expected, ExpiryChange, LoadedSession, key, value};

/// How often an update tries when other processes change the same value at the same time.
const UPDATE_TRIES: u32 = 64;

/// How long an update queues. The queue spares conflicts, and sessions share queues: one that does
/// not move, behind a slow store or a future that nobody polls, holds up nobody for good.
const PATIENCE: Duration = Duration::from_secs(5);

/// Values, atomically at the store.
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
    /// changed the value each time, [`Error::Decode`] if the value is not a `T`, [`Error::Encode`] and
    /// [`Error::TooLarge`] as [`set`](Self::set), [`Error::Unavailable`] if the store is down. After
    /// [`Error::InDoubt`] the update may have happened: trying again may count twice.
    ///
    /// # Cancellation
    /// The value is as it was or as it was to become. Drop the future before another operation on the
    /// session: they wait for their turn.
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
        let seen = |state: &mut State| (state.token.clone(), state.changes.get(key).is_some());
        let (mut token, is_changed) = self.with(seen)?;
        if token.is_some() && is_changed {
            self.write().await?;
            (token, _) = self.with(seen)?;
        }
        let Some(token) = token else {
            return self.update_in_memory(key, f);
        };
        let queue = &shared.queues[usize::from(token.id().as_bytes()[0]) % shared.queues.len()];
        // Who gets through at once builds on what it loaded; who had to wait knows that it is stale.
        let (_place, mut stale) = match queue.try_lock() {
            Some(place) => (Some(place), false),
            None => (patiently(queue.lock()).await, true),
        };
        for attempt in 0..UPDATE_TRIES {
            if stale {
                self.load_anew(&token).await?;
            }
            let old = self.with(|state| state.record.values.get(key).map(Box::<[u8]>::from))?;
            // Not under the lock: the handler's closure may look at the session.
            let Some(new) = f(old.as_deref()) else { return Ok(()) };
            let is_equal = new == old;
            let now = shared.clock.now();
            let change = self.with(|state| {
                state.room_for(key, new.as_deref(), &shared.limits)?;
                let expires = state.lifetime(shared).expires(state.record.created, now);
                let mut changes = Changes::new().with_expiry(ExpiryChange::Extend(expires));
                changes.expected = Some(Expected { key: key.into(), value: old });
                changes.limits = shared.limits;
                match new {
                    Some(new) => changes.set(key, new),
                    None => changes.delete(key),
                }
                Ok(changes)
            })?;
            if !stale && (is_equal || change.is_err()) {
                // "No change" or "no room" on the word of a snapshot alone: make sure.
                stale = true;
                continue;
            }
            let changes = change?;
            if is_equal {
                return Ok(());
            }
            match answer!(shared.provider.save(&token, &changes, now)) {
                Ok(token) => return self.with(|state| state.adopt(&token, &changes))?,
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
}

/// Waits for a place in a queue, up to [`PATIENCE`].
async fn patiently<T>(place: impl Future<Output = T>) -> Option<T> {
    let place = async { Some(place.await) };
    let patience = async {
        futures_timer::Delay::new(PATIENCE).await;
        None
    };
    futures_lite::future::or(place, patience).await
}

/// From a key's encoded value to its new one, or its end; `None` gives up.
type EncodedUpdate<'f> = dyn FnMut(Option<&[u8]>) -> Option<Option<Box<[u8]>>> + Send + 'f;

/// Waits a random time that grows with the attempts, up to 64 ms.
async fn back_off(attempt: u32) {
    let most = 1000 << attempt.min(6);
    let micros = rand::rng().random_range(0..most);
    futures_timer::Delay::new(Duration::from_micros(micros)).await;
}
