//! Carrying out at the store what the [planner](crate::state) wants.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::lock;
use parking_lot::{Mutex, MutexGuard};
use rand::RngExt as _;
use smallvec::SmallVec;

use crate::events::Operation;
use crate::manager::Shared;
use crate::provider::{Record, Token};
use crate::state::{Base, Goal, Outcome, State, Step, ValueUpdate};
use crate::{Error, Manager, Timestamp};

/// Attempts of an update while other processes change the same value at the same time.
const UPDATE_ATTEMPTS: u32 = 64;

/// One request's session, shared by all tasks that use it.
pub(crate) struct Operations {
    pub(crate) manager: Manager,
    state: Mutex<State>,
    /// One operation of a request at the store at a time.
    operation_lock: lock::Mutex<()>,
}

/// From a key's encoded value to its new one, or its end; `None` gives up.
pub(crate) type EncodedUpdate<'f> =
    dyn FnMut(Option<&[u8]>) -> Option<Option<Arc<[u8]>>> + Send + 'f;

impl Operations {
    pub(crate) fn new(manager: Manager, state: State) -> Self {
        Self { manager, state: Mutex::new(state), operation_lock: lock::Mutex::new(()) }
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.manager.0
    }

    /// The state. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Loads the session unless it is loaded.
    pub(crate) async fn load(&self) -> Result<(), Error> {
        if self.state().is_loaded() {
            return Ok(());
        }
        self.reach(Goal::Load).await
    }

    /// Writes what changed and releases the values.
    pub(crate) async fn finish(&self) -> Result<(), Error> {
        if self.state().is_settled() {
            return Ok(());
        }
        self.reach(Goal::Finish).await
    }

    /// Reaches a goal, one operation after the other.
    pub(crate) async fn reach(&self, goal: Goal<'_>) -> Result<(), Error> {
        let _operation = self.operation_lock.lock().await;
        self.advance(goal).await
    }

    /// The same for whoever holds the lock of operations.
    async fn advance(&self, goal: Goal<'_>) -> Result<(), Error> {
        let shared = self.shared();
        let advanced = self.step_by_step(goal).await;
        if shared.rules.sessions_per_owner.is_some() {
            // After all steps: others of the same client may be among them, and leave room.
            let stored = self.state().take_stored_login();
            if let Some(owner) = stored {
                // Boxed, as every request's future would have to have room for it.
                Box::pin(self.manager.enforce_session_limit(&owner)).await;
            }
        }
        advanced
    }

    async fn step_by_step(&self, goal: Goal<'_>) -> Result<(), Error> {
        let shared = self.shared();
        // The state's lock is released before the store is asked.
        let mut next = self.state().begin(goal, shared)?;
        while let Some(step) = next {
            let now = shared.clock.now();
            let outcome = self.carry_out(&step, now).await;
            next = self.state().apply_outcome(goal, &step, outcome, shared, now)?;
        }
        Ok(())
    }

    async fn carry_out(&self, step: &Step, now: Timestamp) -> Outcome {
        let shared = self.shared();
        let provider = &shared.provider;
        let touch = |token, touch| {
            shared.observed(Operation::Touch, now, provider.touch(token, touch, now))
        };
        let save = |token, holder, changes| {
            shared.observed(Operation::Save, now, provider.save(token, holder, changes, now))
        };
        let done = match step {
            Step::Load(tokens) => self.load_all(tokens, now).await.map(Outcome::Loaded),
            Step::Recheck(token) => self.load_one(token, now).await.map(Outcome::Rechecked),
            Step::Touch(token, to) => touch(token, *to).await.map(Outcome::Touched),
            Step::Rewrite(token, to, holder, changes) => {
                let renewed = match save(token, holder, changes).await {
                    // It got a new id meanwhile, or it ended: a touch tells which.
                    Err(Error::Gone) => touch(token, *to).await,
                    saved => saved,
                };
                renewed.map(Outcome::Touched)
            }
            Step::Create(id, record) => {
                let answer = provider.create(id, (**record).clone(), now);
                shared.observed(Operation::Create, now, answer).await.map(Outcome::Created)
            }
            Step::Save(token, holder, changes) => {
                save(token, holder, changes).await.map(Outcome::Saved)
            }
            Step::End(key, until) => {
                let answer = provider.destroy(key, *until, now);
                shared.observed(Operation::Destroy, now, answer).await.map(|()| Outcome::Ended)
            }
        };
        done.unwrap_or_else(Outcome::Failed)
    }

    /// Loads the records of one token, or of several side by side.
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

    /// Changes one value atomically at the store; the loop behind all updates, by stored key and on
    /// encoded values. With `strict`, a request that may not store anything gets an error.
    pub(crate) async fn update(
        &self,
        key: &str,
        strict: bool,
        f: &mut EncodedUpdate<'_>,
    ) -> Result<(), Error> {
        let _operation = self.operation_lock.lock().await;
        let shared = self.shared();
        let session = self.state().live_key();
        let place = match session {
            Some(session) => Some(shared.queues.enter(session).await?),
            None => None,
        };
        // An update that got through at once builds on what the request loaded. One that had to wait knows
        // that the loaded value is stale.
        let mut reload = place.as_ref().is_some_and(|place| place.waited);
        let mut is_fresh = false;
        for attempt in 0..UPDATE_ATTEMPTS {
            if std::mem::take(&mut reload) {
                match self.advance(Goal::Refresh).await {
                    Err(Error::Gone) if !strict && self.state().drops_silently() => {}
                    reloaded => reloaded?,
                }
                is_fresh = true;
            }
            let base = self.state().base(key, strict)?;
            // Not under the lock: the handler's closure may look at the session.
            let Some(new) = f(base.shown()) else { return Ok(()) };
            let is_equal = new.as_deref() == base.shown();
            let Base::Stored { seen, pending, replaces, .. } = base else {
                let mut state = self.state();
                // Another task of the request may have changed it while the closure ran.
                if state.value(key) == base.shown() {
                    return state.put(key, new, shared);
                }
                continue;
            };
            // What is only pending may be dropped: it is no reason to store nothing.
            let is_equal = is_equal && pending.is_none();
            let room = self.state().room_for(key, new.as_deref(), &shared.rules.limits);
            if !is_fresh && (is_equal || room.is_err()) {
                // "No change" or "no room" on the word of a snapshot alone: make sure.
                reload = true;
                continue;
            }
            room?;
            if is_equal {
                return Ok(());
            }
            let edit = ValueUpdate { key: key.into(), seen, pending, replaces, value: new };
            match self.advance(Goal::Update(&edit)).await {
                Err(Error::Conflict) => {
                    shared.events.counters.conflicts.add(1);
                    reload = true;
                    // At first an old snapshot is the likelier cause, and no crowd to give way to.
                    if attempt > 0 {
                        back_off(attempt).await;
                    }
                }
                // The value was computed, and nobody may store it. The request sees it until its end.
                Err(Error::Gone) if !strict && self.state().drops_silently() => {
                    return self.state().put(key, edit.value, shared);
                }
                updated => return updated,
            }
        }
        Err(Error::Conflict)
    }
}

/// Waits a random time that grows with the attempts, up to 64 ms.
async fn back_off(attempt: u32) {
    let most = 1000 << attempt.min(6);
    let micros = rand::rng().random_range(0..most);
    futures_timer::Delay::new(Duration::from_micros(micros)).await;
}
