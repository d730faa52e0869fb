//! Applies the outcomes of steps: adopts saved changes, and decides after a conflict, a lost race or a lost
//! answer whether to retry, recheck the record, or fail.

use tracing::debug;

use super::{Goal, InDoubt, MuteReason, Outcome, Progress, Recheck, State, Status, Step};
use crate::events::{Ending, Event, Refusal};
use crate::manager::Shared;
use crate::provider::{Changes, Login, Record, Token, Touch, Values};
use crate::session_settings::Settings;
use crate::{Error, Limits, SessionId, SessionKey, Timestamp};

/// Attempts to create a session with a fresh id. A collision of 96-bit keys does not happen by chance; the
/// limit guards against a broken source of ids.
const CREATE_ATTEMPTS: u32 = 5;

impl State {
    /// Applies the outcome of a step that was executed at `now`. Returns the next step, or `None` if the goal
    /// is reached.
    ///
    /// # Errors
    /// Returns an error if the goal can't be reached.
    pub(crate) fn apply_outcome(
        &mut self,
        goal: Goal<'_>,
        step: &Step,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Option<Step>, Error> {
        match outcome {
            Outcome::Failed(Error::InDoubt { .. }) => self.mark_in_flight_in_doubt(),
            _ => self.in_flight = None,
        }
        match self.dispatch_outcome(goal, step, outcome, shared, now)? {
            Progress::Reached => Ok(None),
            Progress::Continue => self.next(goal, shared),
        }
    }

    fn dispatch_outcome(
        &mut self,
        goal: Goal<'_>,
        step: &Step,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        match (step, outcome) {
            (Step::Load(tokens), Outcome::Loaded(records)) => {
                self.on_loaded(goal, tokens, records, shared, now)?;
                if matches!(goal, Goal::Reload | Goal::Refresh) || self.is_loaded() {
                    return Ok(Progress::Reached);
                }
            }
            (Step::Touch(token, touch) | Step::TouchBySave(token, touch, ..), outcome) => {
                self.on_touched(token, *touch, outcome, now);
            }
            (Step::Create(id, record), outcome) => {
                self.on_created(id, record, outcome, shared, now)?;
            }
            (Step::Save(_, _, changes), outcome) => {
                return self.on_save_outcome(goal, changes, outcome, shared, now);
            }
            (_, Outcome::Rechecked(record)) => {
                return self.on_rechecked(goal, record, shared, now);
            }
            (Step::Destroy(key, _), outcome) => {
                return self.on_destroyed(goal, *key, outcome, shared, now);
            }
            // The recheck failed, so it stays unknown whether the rolled-back secret is stored. The response
            // keeps the old id.
            (Step::Recheck(_), _) if self.recheck == Some(Recheck::RolledBackSecret) => {
                (self.rolled_back_secret, self.recheck) = (None, None);
            }
            (_, Outcome::Failed(error)) => return Err(error),
            (step, _) => unreachable!("the store was asked for {step:?}"),
        }
        Ok(Progress::Continue)
    }

    fn on_touched(&mut self, token: &Token, touch: Touch, outcome: Outcome, now: Timestamp) {
        self.due_touch = None;
        match outcome {
            Outcome::Touched(renewed) => {
                self.token = Some(renewed.unwrap_or_else(|| token.clone()));
                self.record.used = self.record.used.max(touch.used);
                self.record.expires = self.record.expires.max(touch.expires);
            }
            Outcome::Failed(Error::Gone) => {
                debug!(session = %token.key(), "session ended while it was loaded");
                // A session that is loaded again may have pending changes that were computed from its values.
                match self.has_changes() {
                    true => self.become_mute(MuteReason::Gone, now),
                    false => self.become_new(now),
                }
            }
            // A failed touch does not fail a request that only reads. The next operation reports the store's
            // failure.
            _ => {}
        }
    }

    fn on_created(
        &mut self,
        id: &SessionId,
        record: &Record,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        match outcome {
            Outcome::Created(token) => {
                let token = token.unwrap_or_else(|| shared.provider.issue(*id));
                let is_renewed = self.unstored_id.is_none_or(|fresh| fresh.key() != id.key());
                self.on_new_record(token, record.clone(), shared, now)?;
                // The handler asked for a new id while the create was running.
                if is_renewed { self.regenerate(shared, now) } else { Ok(()) }
            }
            // The record may come from an earlier create of this request whose outcome is unknown.
            Outcome::Failed(Error::Exists) if self.in_doubt.new_session => {
                self.recheck = Some(Recheck::IdTaken);
                Ok(())
            }
            Outcome::Failed(Error::Exists) => self.on_collision(),
            Outcome::Failed(error) => self.retry_once(error),
            _ => unreachable!("a session was to be created"),
        }
    }

    fn on_collision(&mut self) -> Result<(), Error> {
        self.discard_unstored_id();
        self.collisions += 1;
        if self.collisions < CREATE_ATTEMPTS { Ok(()) } else { Err(Error::Exists) }
    }

    /// Decides whether to retry a failed write: a write in doubt that can be repeated without harm is retried
    /// once.
    fn retry_once(&mut self, error: Error) -> Result<(), Error> {
        let repeat = matches!(error, Error::InDoubt { .. }) && !self.retried;
        self.retried = repeat;
        if repeat { Ok(()) } else { Err(error) }
    }

    fn on_new_record(
        &mut self,
        token: Token,
        record: Record,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        let session = token.key();
        let owner = record.owner().map(|owner| shared.rules.shown_owner(owner));
        let forked_from = self.forked_from.take().filter(|_| owner.is_some());
        shared.events.emit(&Event::Created { session, owner, forked_from });
        self.note_stored_login(owner, shared);
        self.token = Some(token);
        self.adopt_stored(record, shared, now)
    }

    /// Adopts the record that is now stored under the current token. Changes that differ from it stay
    /// pending.
    pub(super) fn adopt_stored(
        &mut self,
        record: Record,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.discard_unstored_id();
        self.collisions = 0;
        self.status = Status::Live;
        self.verified_at = now;
        self.unchanged_sets.clear();
        self.changes.secret = None;
        self.in_doubt = InDoubt::default();
        self.record = record;
        if self.changes.login.as_ref() == Some(&self.record.login) {
            self.changes.login = None;
        }
        self.changes.replace = self.changes_owner();
        if !self.changes.replace {
            self.changes.forget_stored(&self.record.values);
        }
        let login = self.changes.login.as_ref().and_then(Option::as_deref);
        let stored = self.record.login.as_deref();
        // The handler logged an owner in while the record was being stored, so the login needs another new
        // secret.
        if let Some(login) = login
            && stored.is_none_or(|stored| (&stored.owner, stored.at) != (&login.owner, login.at))
        {
            self.regenerate(shared, now)?;
        }
        self.recompute_totals();
        Ok(())
    }

    fn on_save_outcome(
        &mut self,
        goal: Goal<'_>,
        changes: &Changes,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        let error = match outcome {
            // The save resulted in a new token (a sealed session is its own token), but the response's head
            // was sent, so the client can't get it: nothing is stored.
            Outcome::Saved(Some(new))
                if self.head_sent
                    && !self.token.as_ref().is_some_and(|held| held.has_text_of(&new)) =>
            {
                return Err(Error::HeadSent);
            }
            Outcome::Saved(token) => {
                let Goal::Update(edit) = goal else {
                    self.on_saved(token, changes, shared, now)?;
                    return Ok(Progress::Continue);
                };
                // The update has stored the pending change of its key, unless another task changed the key
                // meanwhile.
                if self.changes.edit(&edit.key) == edit.pending.as_ref() {
                    self.changes.forget(&edit.key);
                }
                self.on_saved(token, changes, shared, now)?;
                return Ok(Progress::Reached);
            }
            Outcome::Failed(error) => error,
            _ => unreachable!("a session was to be saved"),
        };
        match error {
            Error::Gone if changes.login.is_some() && changes.secret.is_some() => {
                self.recheck = Some(Recheck::LoginConflict);
            }
            Error::Gone => {
                self.emit_gone(shared);
                self.become_mute(MuteReason::Gone, now);
            }
            // Failing to send the cookie again does not fail the request.
            _ if is_fingerprint_only(changes) => self.may_resend_token = false,
            // The first attempt may have been the one that changed the value.
            Error::Conflict if self.retried => self.recheck = Some(Recheck::RetriedUpdate),
            // Retried only if the new secret is still pending; after a roll-back there is nothing to retry.
            error if self.is_secret_pending(changes) => self.retry_once(error)?,
            error => return Err(error),
        }
        Ok(Progress::Continue)
    }

    /// Emits the event that the session got a new id; with the owner, if `login` is new.
    fn emit_new_id(&mut self, session: SessionKey, login: Option<&Login>, shared: &Shared) {
        let stored = self.record.login.as_deref().map(|login| (&login.owner, login.at));
        let login = login.filter(|login| stored != Some((&login.owner, login.at)));
        let owner = login.map(|login| shared.rules.shown_owner(&login.owner));
        shared.events.emit(&Event::NewId { session, owner });
        self.note_stored_login(owner, shared);
    }

    /// Returns the pending or rolled-back token, if the record shows that a write in doubt has stored it.
    pub(super) fn token_stored_in_doubt(
        &mut self,
        record: &Record,
        shared: &Shared,
    ) -> Option<Token> {
        let mut secrets = self.changes.secret.iter().chain(&self.rolled_back_secret);
        let token = secrets.find(|secret| secret.holder == record.holder)?.token.clone();
        self.rolled_back_secret = None;
        self.emit_new_id(token.key(), record.login.as_deref(), shared);
        Some(token)
    }

    /// Records the owner of a stored login, if the number of sessions per owner is limited.
    fn note_stored_login(&mut self, owner: Option<&str>, shared: &Shared) {
        if owner.is_some() && shared.rules.sessions_per_owner.is_some() {
            self.stored_login = owner.map(Into::into);
        }
    }

    /// Emits the event that the session ended or got a new id while the request ran.
    pub(super) fn emit_gone(&self, shared: &Shared) {
        let session = self.token.as_ref().map(Token::key);
        shared.events.emit(&Event::Refused { session, why: Refusal::Gone });
    }

    /// Returns whether the pending login belongs to another owner than the stored one.
    fn changes_owner(&self) -> bool {
        let pending = self.changes.login.as_ref().and_then(Option::as_deref);
        let stored = self.record.owner();
        pending.zip(stored).is_some_and(|(login, owner)| *login.owner != *owner)
    }

    /// Returns whether the new secret of a save is still pending.
    fn is_secret_pending(&self, sent: &Changes) -> bool {
        sent.secret.as_ref().is_some_and(|secret| self.changes.secret_is(&secret.holder))
    }

    fn on_saved(
        &mut self,
        token: Option<Token>,
        saved: &Changes,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.retried = false;
        self.in_doubt.keys.retain(|key| saved.get(key).is_none());
        self.unchanged_sets.retain(|(key, _)| saved.get(key).is_none());
        if let Some(secret) = &saved.secret {
            let login = saved.login.as_ref().and_then(Option::as_deref);
            self.emit_new_id(secret.token.key(), login, shared);
            self.record.holder = secret.holder;
            self.record.renewed = secret.at;
            self.verified_at = now;
            self.token = Some(token.unwrap_or_else(|| secret.token.clone()));
            if self.rolled_back_secret.as_ref().is_some_and(|rolled| rolled.holder == secret.holder)
            {
                self.rolled_back_secret = None;
            }
            // Unless the handler has made another secret pending meanwhile.
            if self.changes.secret_is(&secret.holder) {
                self.changes.secret = None;
                self.in_doubt.secret = false;
            }
        } else if token.is_some() {
            self.token = token;
        }
        if let Some(cookie) = saved.cookie {
            self.record.cookie = cookie;
            (self.resend_token, self.may_resend_token) = (true, false);
        }
        let Record { used, expires, .. } = self.record;
        (self.record.used, self.record.expires) = saved.expiry.apply(used, expires);
        if let Some(login) = &saved.login {
            self.record.login.clone_from(login);
            if self.changes.login.as_ref() == Some(login) {
                self.changes.login = None;
            }
        }
        self.changes.replace = self.changes_owner();
        // Changes that are pending for another owner were not stored for that owner.
        if !self.changes.replace {
            self.changes.forget_saved(saved);
        }
        if saved.secret.is_some() {
            self.unchanged_sets.clear();
        }
        // The store checks its own limits, and this record may lag behind what is stored.
        self.record.values.apply(saved, &Limits::UNLIMITED)?;
        self.recompute_totals();
        Ok(())
    }

    fn on_rechecked(
        &mut self,
        goal: Goal<'_>,
        record: Option<Box<Record>>,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        let recheck = self.recheck.take();
        match (goal, recheck) {
            (Goal::Destroy, _) => {
                self.on_destroy_rechecked(record, shared, now);
                return Ok(Progress::Continue);
            }
            (_, Some(Recheck::IdTaken)) => {
                let token = shared.provider.issue(self.unstored_id(shared)?);
                match record.filter(|record| record.holder == shared.verifier(&token)) {
                    Some(record) => self.on_new_record(token, *record, shared, now)?,
                    None => self.on_collision()?,
                }
                return Ok(Progress::Continue);
            }
            (_, Some(Recheck::RolledBackSecret)) => {
                let stored =
                    record.as_ref().and_then(|record| self.token_stored_in_doubt(record, shared));
                self.rolled_back_secret = None;
                if let Some((token, record)) = stored.zip(record) {
                    self.token = Some(token);
                    self.adopt_stored(*record, shared, now)?;
                }
                return Ok(Progress::Continue);
            }
            _ => {}
        }
        // The record shows whether a write in doubt stored the new secret.
        let stored = record.as_ref().and_then(|record| self.token_stored_in_doubt(record, shared));
        let is_ours = stored.is_some();
        match (record, goal) {
            (Some(record), _) if is_ours => {
                self.token = stored;
                self.adopt_stored(*record, shared, now)?;
                match goal {
                    Goal::Update(edit) if recheck == Some(Recheck::RetriedUpdate) => {
                        self.changes.forget(&edit.key);
                        self.recompute_totals();
                        return Ok(Progress::Reached);
                    }
                    // The update is computed again from the stored value.
                    Goal::Update(_) => return Err(Error::Conflict),
                    _ => {}
                }
            }
            // The write in doubt was not carried out.
            (Some(record), Goal::Update(_)) if record.holder == self.record.holder => {
                self.in_doubt.secret = false;
                // After a retried update, the stored value is another request's change. A recheck before the
                // first attempt only had to learn the stored secret.
                if recheck != Some(Recheck::SecretInDoubt) {
                    return Err(Error::Conflict);
                }
            }
            (record, _) if self.changes.login.is_some() => {
                self.fork(record.as_deref(), now);
                // The update is computed again from the values of the new session.
                if let Goal::Update(_) = goal {
                    return Err(Error::Conflict);
                }
            }
            _ => self.become_mute(MuteReason::Gone, now),
        }
        Ok(Progress::Continue)
    }

    /// Checks before a logout whether this request still holds the session that the handler wants to destroy.
    fn on_destroy_rechecked(
        &mut self,
        record: Option<Box<Record>>,
        shared: &Shared,
        now: Timestamp,
    ) {
        let held = self.token.as_ref().map(|token| shared.verifier(token));
        let is_held =
            |record: &Record| Some(record.holder) == held || self.changes.secret_is(&record.holder);
        match record {
            None => self.become_new(now),
            Some(record) if is_held(&record) => {
                if let Some(secret) = self.changes.secret.take()
                    && secret.holder == record.holder
                {
                    self.token = Some(secret.token);
                }
                self.changes = Changes::new();
                self.become_loaded(*record, Settings::default(), now);
            }
            Some(_) => self.become_mute(MuteReason::Superseded, now),
        }
    }

    /// Makes a new session for a login that lost a race. The loaded values are copied to it, unless the
    /// session has ended or belongs to another owner.
    fn fork(&mut self, now_stored: Option<&Record>, now: Timestamp) {
        let owner = self.login().map(|login| login.owner.clone());
        let is_shared = now_stored.is_some_and(|record| {
            record.owner().is_none_or(|other| owner.as_deref() == Some(other))
        });
        let values = match is_shared && !self.changes.replace {
            true => std::mem::take(&mut self.record.values),
            false => {
                self.promote_unchanged_sets();
                Values::new()
            }
        };
        self.forked_from = self.token.as_ref().map(Token::key);
        self.become_new(now);
        self.replaced_by_another_request = now_stored.is_some();
        self.record.values = values;
        self.recompute_totals();
    }

    fn on_destroyed(
        &mut self,
        goal: Goal<'_>,
        key: SessionKey,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        match outcome {
            Outcome::Destroyed => {
                let is_own = matches!(goal, Goal::Destroy) && self.live_key() == Some(key);
                let why = if is_own { Ending::Logout } else { Ending::Several };
                shared.events.emit(&Event::Ended { session: key, why });
            }
            Outcome::Failed(error) if matches!(goal, Goal::Destroy) => return Err(error),
            // The event of the store's failure is logged. Storing the new session matters more than
            // destroying the other ones.
            _ => {}
        }
        self.other_sessions.retain(|(other, _)| *other != key);
        if matches!(goal, Goal::Destroy) && self.live_key() == Some(key) {
            self.become_destroyed(now);
            // The client's session lives on under the id that another request gave it.
            return if self.replaced_by_another_request {
                Err(Error::Gone)
            } else {
                Ok(Progress::Reached)
            };
        }
        Ok(Progress::Continue)
    }
}

/// Returns whether a save only stores the fingerprint of the cookie.
fn is_fingerprint_only(changes: &Changes) -> bool {
    let Changes { login, secret, expected, cookie, .. } = changes;
    let is_empty = changes.is_empty() && login.is_none() && secret.is_none() && expected.is_empty();
    is_empty && cookie.is_some()
}
