//! The executor: runs the steps of the [planner](crate::state) at the store, one operation of a request at a
//! time, and retries updates that conflict.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::lock;
use parking_lot::{Mutex, MutexGuard};
use rand::RngExt as _;
use smallvec::SmallVec;
use tracing::warn;

use crate::events::Operation;
use crate::manager::Shared;
use crate::provider::{Record, Token};
use crate::state::{Goal, Outcome, State, Step, UpdateBase, ValueUpdate};
use crate::{Error, Manager, Timestamp};

/// Attempts of an update that conflicts with other processes' changes of the same value.
const UPDATE_ATTEMPTS: u32 = 64;

/// The state of one request's session, shared by all tasks that use it, with the lock that serializes its
/// store operations.
pub(crate) struct Operations {
    pub(crate) manager: Manager,
    state: Mutex<State>,
    /// Held during an operation, so that the request runs one store operation at a time.
    operation_lock: lock::Mutex<()>,
}

/// A function from the encoded value of a key to the new value: `Some(Some(_))` sets it, `Some(None)` deletes
/// the key, `None` gives up.
pub(crate) type EncodedUpdate<'f> =
    dyn FnMut(Option<&[u8]>) -> Option<Option<Arc<[u8]>>> + Send + 'f;

impl Operations {
    pub(crate) fn new(manager: Manager, state: State) -> Self {
        Self { manager, state: Mutex::new(state), operation_lock: lock::Mutex::new(()) }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.manager.0
    }

    /// Locks the state. The lock must never be held across an `await`.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Loads the session if it is not loaded.
    pub(crate) async fn load(&self) -> Result<(), Error> {
        if self.state().is_loaded() {
            return Ok(());
        }
        self.reach(Goal::Load).await
    }

    /// Saves the pending changes and finishes the session.
    pub(crate) async fn finish(&self) -> Result<(), Error> {
        if !self.state().needs_finish() {
            return Ok(());
        }
        self.reach(Goal::Finish).await
    }

    /// Reaches a goal, after the request's running operation has ended.
    pub(crate) async fn reach(&self, goal: Goal<'_>) -> Result<(), Error> {
        let _operation = self.operation_lock.lock().await;
        self.reach_locked(goal).await
    }

    /// Reaches a goal; the caller holds `operation_lock`.
    async fn reach_locked(&self, goal: Goal<'_>) -> Result<(), Error> {
        let shared = self.shared();
        let reached = self.run_steps(goal).await;
        if shared.rules.sessions_per_owner.is_some() {
            // After all steps, because they may destroy other sessions of the same client and make room.
            let stored = self.state().take_stored_login();
            if let Some(owner) = stored {
                // Boxed, because otherwise every request's future would have room for it.
                Box::pin(self.manager.enforce_session_limit(&owner)).await;
            }
        }
        reached
    }

    async fn run_steps(&self, goal: Goal<'_>) -> Result<(), Error> {
        let shared = self.shared();
        // The state's lock is released before the store operation begins.
        let mut next = self.state().begin(goal, shared)?;
        while let Some(step) = next {
            let now = shared.clock.now();
            let outcome = self.execute(&step, now).await;
            next = self.state().apply_outcome(goal, &step, outcome, shared, now)?;
        }
        Ok(())
    }

    async fn execute(&self, step: &Step, now: Timestamp) -> Outcome {
        let shared = self.shared();
        let provider = &shared.provider;
        let touch =
            |token, touch| shared.observe(Operation::Touch, now, provider.touch(token, touch, now));
        let save = |token, holder, changes| {
            shared.observe(Operation::Save, now, provider.save(token, holder, changes, now))
        };
        let done = match step {
            Step::Load(tokens) => self.load_all(tokens, now).await.map(Outcome::Loaded),
            Step::Recheck(token) => self.load_one(token, now).await.map(Outcome::Rechecked),
            Step::Touch(token, to) => touch(token, *to).await.map(Outcome::Touched),
            Step::TouchBySave(token, to, holder, changes) => {
                let renewed = match save(token, holder, changes).await {
                    // The session got a new id or ended meanwhile; the touch fails only if it ended.
                    Err(Error::Gone) => touch(token, *to).await,
                    saved => saved,
                };
                renewed.map(Outcome::Touched)
            }
            Step::Create(id, record) => {
                let answer = provider.create(id, (**record).clone(), now);
                shared.observe(Operation::Create, now, answer).await.map(Outcome::Created)
            }
            Step::Save(token, holder, changes) => {
                save(token, holder, changes).await.map(Outcome::Saved)
            }
            Step::Destroy(key, until) => {
                let answer = provider.destroy(key, *until, now);
                shared.observe(Operation::Destroy, now, answer).await.map(|()| Outcome::Destroyed)
            }
        };
        done.unwrap_or_else(Outcome::Failed)
    }

    /// Loads the records of the tokens, concurrently.
    async fn load_all(
        &self,
        tokens: &[Token],
        now: Timestamp,
    ) -> Result<SmallVec<[Option<Box<Record>>; 1]>, Error> {
        if let [token] = tokens {
            return Ok(SmallVec::from_buf([self.load_one(token, now).await?]));
        }
        join_all(tokens.iter().map(|token| self.load_one(token, now))).await.into_iter().collect()
    }

    async fn load_one(&self, token: &Token, now: Timestamp) -> Result<Option<Box<Record>>, Error> {
        Ok(self.shared().load(token, now).await?.map(Box::new))
    }

    /// Changes one value atomically at the store. All updates use this loop, by stored key and on encoded
    /// values. With `strict`, a mute request gets an error.
    pub(crate) async fn update(
        &self,
        key: &str,
        strict: bool,
        f: &mut EncodedUpdate<'_>,
    ) -> Result<(), Error> {
        let _operation = self.operation_lock.lock().await;
        let shared = self.shared();
        let session = self.state().live_key();
        let guard = match session {
            Some(session) => Some(shared.queues.enter(session).await?),
            None => None,
        };
        // An update that did not wait uses the values that the request loaded. One that waited knows that the
        // loaded value is stale.
        let mut reload = guard.as_ref().is_some_and(|guard| guard.waited);
        let mut is_fresh = false;
        for attempt in 0..UPDATE_ATTEMPTS {
            if std::mem::take(&mut reload) {
                match self.reach_locked(Goal::Refresh).await {
                    Err(Error::Gone) if !strict && self.state().drops_silently() => {}
                    reloaded => reloaded?,
                }
                is_fresh = true;
            }
            let base = self.state().update_base(key, strict)?;
            // The closure runs without the state's lock, because it may read the session.
            let Some(new) = f(base.current()) else { return Ok(()) };
            let is_equal = new.as_deref() == base.current();
            let UpdateBase::Stored { expected, pending, replaces, .. } = base else {
                let mut state = self.state();
                // Another task of the request may have changed the value while the closure ran.
                if state.value(key) == base.current() {
                    return state.put(key, new, shared);
                }
                continue;
            };
            // A pending change may still be dropped, so a value that equals it must be stored nevertheless.
            let is_equal = is_equal && pending.is_none();
            let size = self.state().check_size(key, new.as_deref(), &shared.rules.limits);
            if !is_fresh && (is_equal || size.is_err()) {
                // The loaded value may be stale, so "no change" and "too large" are checked again on the
                // current value.
                reload = true;
                continue;
            }
            size?;
            if is_equal {
                return Ok(());
            }
            let update = ValueUpdate { key: key.into(), expected, pending, replaces, value: new };
            match self.reach_locked(Goal::Update(&update)).await {
                Err(Error::Conflict) => {
                    shared.events.counters.conflicts.add(1);
                    reload = true;
                    // The first conflict is most likely due to a stale value, so there is no back-off before
                    // the second attempt.
                    if attempt > 0 {
                        back_off(attempt).await;
                    }
                }
                // The value was computed but can't be stored. The request sees it until its end.
                Err(Error::Gone) if !strict && self.state().drops_silently() => {
                    return self.state().put(key, update.value, shared);
                }
                updated => return updated,
            }
        }
        Err(Error::Conflict)
    }
}

impl Drop for Operations {
    /// Warns of lost changes: the handle and all clones of the session are gone, so nothing can save them.
    fn drop(&mut self) {
        if self.state.get_mut().loses_changes() {
            warn!(
                "changes of a session were lost: its handle was dropped without finish(), respond() or refuse(). \
                 A `?` between start() and finish() does that"
            );
        }
    }
}

/// Waits a random time that grows with the number of attempts, up to 64 ms.
async fn back_off(attempt: u32) {
    let most = 1000 << attempt.min(6);
    let micros = rand::rng().random_range(0..most);
    futures_timer::Delay::new(Duration::from_micros(micros)).await;
}
