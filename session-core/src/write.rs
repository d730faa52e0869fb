//! Writing what changed to the store.

use http::HeaderMap;
use tracing::debug;

use crate::identity::CREATE_TRIES;
use crate::manager::Shared;
use crate::provider::answer;
use crate::state::State;
use crate::transport::Announcement;
use crate::turn::Core;
use crate::{Changes, Error, ExpiryChange, LoadedSession, Record, Timestamp, Token, key, value};

/// What is to be done at the store, and then what was done.
///
/// It stays where it is made: in a request that counts, its moves would be felt.
enum Step<'h> {
    Nothing,
    Create,
    Created(Box<Created>),
    Touch { token: Token, expires: Timestamp },
    Save { token: Token, pending: Pending<'h>, now: Timestamp },
}

struct Created {
    token: Token,
    record: Record,
    saved: Changes,
}

/// Changes on their way to the store. Those that were taken are put back if they don't arrive: on
/// an error, or when the future is dropped.
struct Pending<'h> {
    core: &'h Core,
    changes: Changes,
    taken: bool,
}

impl<'h> Pending<'h> {
    /// Takes the changes and lets go of the values, in one step: nothing can be changed any more
    /// then, and a store in the same memory can change the values in place. Or copies the changes,
    /// which other tasks of the request go on to see and to change.
    fn of(core: &'h Core, state: &mut State, release: bool) -> Self {
        let changes = if release {
            state.release();
            std::mem::take(&mut state.changes)
        } else {
            state.changes.clone()
        };
        Self { core, changes, taken: release }
    }

    /// Puts taken changes back.
    fn give_back(&mut self) {
        if std::mem::take(&mut self.taken) {
            self.core.lock().changes = std::mem::take(&mut self.changes);
        }
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<'h> LoadedSession<'h> {
    /// Writes what changed to the store now, and goes on. From a task that streams a body, long
    /// after the response's head is gone, it is the way to save. The client can't be told anything
    /// any more then: a new session, a new id and the end of a session are for before.
    ///
    /// # Errors
    /// As [`finish`](crate::SessionHandle::finish).
    pub async fn save(&self) -> Result<(), Error> {
        let _turn = self.core.turn().await;
        self.with(|_| ())?;
        self.write().await
    }

    /// Writes what changed. The values stay.
    pub(crate) async fn write(&self) -> Result<(), Error> {
        let mut step = self.next_step(&mut self.core.lock(), false);
        self.carry_out(&mut step).await?;
        self.core.lock().take_over(&step)
    }

    /// Writes what changed, lets go of the values, and tells the client what is news to it.
    pub(crate) async fn finish(&self, headers: Option<&mut HeaderMap>) -> Result<(), Error> {
        // Ends after the step: whose turn is next must find what a step that broke off gives back.
        let turn;
        let mut step = Step::Nothing;
        let own_turn = {
            let mut state = self.core.lock();
            let alone = !state.busy && !state.leaving;
            if alone {
                let is_read = !state.has_changes();
                if is_read && state.touch(self.shared, state.loaded_at).is_none() {
                    // What most requests come to: something was read.
                    return state.end(self.shared, headers);
                }
                step = self.next_step(&mut state, true);
            }
            alone.then(|| self.core.turn_of(&mut state))
        };
        match own_turn {
            Some(own_turn) => turn = own_turn,
            None => {
                self.leave_urls().await?;
                turn = self.core.turn().await;
                step = self.next_step(&mut self.core.lock(), true);
            }
        }
        loop {
            self.carry_out(&mut step).await?;
            let mut state = self.core.lock();
            state.take_over(&step)?;
            if !state.has_changes() {
                let told = state.end(self.shared, headers);
                turn.end(state);
                return told;
            }
            // Another task changed something while the store worked: none of it may get lost.
            step = self.next_step(&mut state, true);
        }
    }

    /// What is to be done by now. With `release`, the changes are taken and the values let go.
    fn next_step(&self, state: &mut State, release: bool) -> Step<'h> {
        let shared = self.shared;
        let has_changes = state.has_changes();
        let Some(token) = &state.token else {
            return if has_changes { Step::Create } else { Step::Nothing };
        };
        if has_changes {
            let token = token.clone();
            let now = shared.clock.now();
            let expires = state.lifetime(shared).expires(state.record.created, now);
            let mut pending = Pending::of(self.core, state, release);
            pending.changes.limits = shared.limits;
            // The handler changed the lifetime: then the expiry is set outright.
            pending.changes.expiry = match pending.changes.get(key::LIFETIME).is_some() {
                true => ExpiryChange::Set(expires),
                false => ExpiryChange::Extend(expires),
            };
            return Step::Save { token, pending, now };
        }
        // At the end of a request the time of the load serves, which spares a look at the clock.
        let now = if release { state.loaded_at } else { shared.clock.now() };
        match state.touch(shared, now) {
            Some(expires) => Step::Touch { token: token.clone(), expires },
            None => Step::Nothing,
        }
    }

    async fn carry_out(&self, step: &mut Step<'h>) -> Result<(), Error> {
        let provider = &self.shared.provider;
        match step {
            Step::Nothing | Step::Created(_) => {}
            Step::Create => *step = Step::Created(Box::new(self.create().await?)),
            Step::Touch { token, expires } => {
                match provider.touch(token, *expires, self.shared.clock.now()).await {
                    Ok(touched) => *token = touched,
                    // What was read was right when it was read; the next request will see.
                    Err(Error::Gone) => {
                        debug!(session = %token.id().log_hash(), "session ended while it was read");
                        *step = Step::Nothing;
                    }
                    // Nor is it worth failing a request that read what it wanted. Whoever needs the
                    // store next will hear of it.
                    Err(error) => {
                        self.shared.noted(error);
                        *step = Step::Nothing;
                    }
                }
            }
            Step::Save { token, pending, now } => {
                let saved = answer!(provider.save(token, &pending.changes, *now));
                match saved {
                    Ok(saved) => {
                        *token = saved;
                        pending.taken = false;
                    }
                    Err(error) => {
                        pending.give_back();
                        return Err(self.failed(error));
                    }
                }
            }
        }
        Ok(())
    }

    async fn create(&self) -> Result<Created, Error> {
        let shared = self.shared;
        let now = shared.clock.now();
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
                    return Ok(Created { token, record, saved });
                }
                Err(Error::Exists) => self.core.lock().fresh = None,
                Err(error) => return Err(shared.noted(error)),
            }
        }
        Err(Error::Exists)
    }
}

impl State {
    /// Takes over what the store took over.
    fn take_over(&mut self, step: &Step<'_>) -> Result<(), Error> {
        match step {
            Step::Nothing | Step::Create => {}
            Step::Created(created) => {
                self.keep_newer(&created.saved);
                self.set_token(Some(created.token.clone()));
                self.fresh = None;
                self.become_loaded(created.record.clone(), created.record.created);
            }
            Step::Touch { token, expires } => {
                self.set_token(Some(token.clone()));
                self.record.expires = self.record.expires.max(*expires);
            }
            Step::Save { token, pending, .. } => {
                self.keep_newer(&pending.changes);
                self.adopt(token, &pending.changes)?;
            }
        }
        Ok(())
    }

    /// Lets go of the values, and tells the client what is news to it.
    fn end(&mut self, shared: &Shared, headers: Option<&mut HeaderMap>) -> Result<(), Error> {
        self.release();
        if let Some(headers) = headers {
            self.tell(shared, headers)?;
            self.become_held();
            (self.reissue, self.ended) = (false, false);
        }
        Ok(())
    }

    /// Tells the client what it is to carry from now on, if that is news.
    pub(crate) fn tell(&self, shared: &Shared, headers: &mut HeaderMap) -> Result<(), Error> {
        match &self.token {
            Some(token) if self.is_news() || self.reissue => {
                let max_age = self.max_age(shared);
                token.with_client_text(|text| {
                    shared.transport.announce(Announcement::Issue { text, max_age }, headers)
                })?;
            }
            None if self.is_news() && self.ended => {
                shared.transport.announce(Announcement::Remove, headers)?;
            }
            _ => {}
        }
        Ok(())
    }
}
