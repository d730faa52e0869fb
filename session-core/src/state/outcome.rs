//! The outcomes of steps.

use tracing::debug;

use super::{Goal, InDoubt, Outcome, Progress, Recheck, Standing, State, Step, Why};
use crate::events::{Ending, Event, Refusal};
use crate::manager::Shared;
use crate::provider::{Changes, Login, Record, Token, Touch, Values};
use crate::session_settings::Settings;
use crate::{Error, Limits, SessionId, SessionKey, Timestamp};

/// Attempts to create a session with a fresh id. A collision of 96-bit keys does not happen by chance;
/// this guards against a broken source of ids.
const CREATE_ATTEMPTS: u32 = 5;

impl State {
    /// Takes over what the store said to a step, which it was told at `now`. Returns the next step, or `None`
    /// if the goal is reached.
    ///
    /// # Errors
    /// If the goal can't be reached.
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
            (Step::Touch(token, touch) | Step::Rewrite(token, touch, ..), outcome) => {
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
            (Step::End(key, _), outcome) => {
                return self.on_ended(goal, *key, outcome, shared, now);
            }
            // The response in place of a failed one has no better to tell then.
            (Step::Recheck(_), _) if self.recheck == Some(Recheck::RolledBack) => {
                (self.rolled_back, self.recheck) = (None, None);
            }
            (_, Outcome::Failed(error)) => return Err(error),
            (step, _) => unreachable!("the store was asked for {step:?}"),
        }
        Ok(Progress::Continue)
    }

    fn on_touched(&mut self, token: &Token, touch: Touch, outcome: Outcome, now: Timestamp) {
        self.due = None;
        match outcome {
            Outcome::Touched(renewed) => {
                self.token = Some(renewed.unwrap_or_else(|| token.clone()));
                self.record.used = self.record.used.max(touch.used);
                self.record.expires = self.record.expires.max(touch.expires);
            }
            Outcome::Failed(Error::Gone) => {
                debug!(session = %token.key(), "session ended while it was loaded");
                // What was set in a session that is loaded again may be made of its values.
                match self.has_changes() {
                    true => self.become_mute(Why::Moved, now),
                    false => self.become_new(now),
                }
            }
            // It is not worth failing a request that reads. Whoever needs the store next will hear of it.
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
                // A new id was asked for while this one was on its way.
                if is_renewed { self.regenerate(shared, now) } else { Ok(()) }
            }
            // Of a try before whose outcome is unknown, or of somebody else.
            Outcome::Failed(Error::Exists) if self.in_doubt.fresh => {
                self.recheck = Some(Recheck::Taken);
                Ok(())
            }
            Outcome::Failed(Error::Exists) => self.on_collision(),
            Outcome::Failed(error) => self.repeat_once(error),
            _ => unreachable!("a session was to be created"),
        }
    }

    fn on_collision(&mut self) -> Result<(), Error> {
        self.discard_unstored_id();
        self.collisions += 1;
        if self.collisions < CREATE_ATTEMPTS { Ok(()) } else { Err(Error::Exists) }
    }

    /// Whether to go on after a write that failed: one whose outcome is unknown, and which may be repeated
    /// without harm, is repeated once.
    fn repeat_once(&mut self, error: Error) -> Result<(), Error> {
        let repeat = matches!(error, Error::InDoubt { .. }) && !self.repeated;
        self.repeated = repeat;
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
        self.note_login(owner, shared);
        self.token = Some(token);
        self.adopt_stored(record, shared, now)
    }

    /// Takes a record as the store has it by now, under the current token. What differs from it is still to
    /// be written.
    pub(super) fn adopt_stored(
        &mut self,
        record: Record,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.discard_unstored_id();
        self.collisions = 0;
        self.standing = Standing::Live;
        self.verified = now;
        self.unchanged_sets.clear();
        self.changes.secret = None;
        self.in_doubt = InDoubt::default();
        self.record = record;
        if self.changes.login.as_ref() == Some(&self.record.login) {
            self.changes.login = None;
        }
        self.changes.replace = self.is_another_owners();
        if !self.changes.replace {
            self.changes.forget_stored(&self.record.values);
        }
        let login = self.changes.login.as_ref().and_then(Option::as_deref);
        let stored = self.record.login.as_deref();
        // Somebody logged in while the record was on its way: again under a secret of its own.
        if let Some(login) = login
            && stored.is_none_or(|stored| (&stored.owner, stored.at) != (&login.owner, login.at))
        {
            self.regenerate(shared, now)?;
        }
        self.measure();
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
            // The client would have to be told of it, as its token holds the session: nothing is stored.
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
                // Unless another task of the request changed it meanwhile.
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
                self.recheck = Some(Recheck::LostLogin);
            }
            Error::Gone => {
                self.tell_gone(shared);
                self.become_mute(Why::Moved, now);
            }
            // To tell the client again is not worth failing a request.
            _ if is_announcement(changes) => self.may_resend_token = false,
            // The first try may have been the one that changed the value.
            Error::Conflict if self.repeated => self.recheck = Some(Recheck::Repeated),
            // Unless it was rolled back meanwhile: there is nothing to repeat then.
            error if self.is_pending(changes) => self.repeat_once(error)?,
            error => return Err(error),
        }
        Ok(Progress::Continue)
    }

    /// Tells that the session got a new id, by this login if it is not the stored one.
    fn tell_new_id(&mut self, session: SessionKey, login: Option<&Login>, shared: &Shared) {
        let stored = self.record.login.as_deref().map(|login| (&login.owner, login.at));
        let login = login.filter(|login| stored != Some((&login.owner, login.at)));
        let owner = login.map(|login| shared.rules.shown_owner(&login.owner));
        shared.events.emit(&Event::NewId { session, owner });
        self.note_login(owner, shared);
    }

    /// Returns the token that a write has stored whose outcome was unknown until now: that of the pending secret,
    /// or of one that was rolled back.
    pub(super) fn token_stored_in_doubt(
        &mut self,
        record: &Record,
        shared: &Shared,
    ) -> Option<Token> {
        let mut secrets = self.changes.secret.iter().chain(&self.rolled_back);
        let token = secrets.find(|secret| secret.holder == record.holder)?.token.clone();
        self.rolled_back = None;
        self.tell_new_id(token.key(), record.login.as_deref(), shared);
        Some(token)
    }

    /// Takes note of a login that was stored, if the owner's sessions are limited.
    fn note_login(&mut self, owner: Option<&str>, shared: &Shared) {
        if owner.is_some() && shared.rules.sessions_per_owner.is_some() {
            self.stored_login = owner.map(Into::into);
        }
    }

    /// Tells that the session ended or got a new id while the request ran.
    pub(super) fn tell_gone(&self, shared: &Shared) {
        let session = self.token.as_ref().map(Token::key);
        shared.events.emit(&Event::Refused { session, why: Refusal::Gone });
    }

    /// Whether the pending login is another owner's than the stored one.
    fn is_another_owners(&self) -> bool {
        let pending = self.changes.login.as_ref().and_then(Option::as_deref);
        let stored = self.record.owner();
        pending.zip(stored).is_some_and(|(login, owner)| *login.owner != *owner)
    }

    /// Whether the new secret of a save is still to be stored.
    fn is_pending(&self, sent: &Changes) -> bool {
        sent.secret.as_ref().is_some_and(|secret| self.changes.secret_is(&secret.holder))
    }

    fn on_saved(
        &mut self,
        token: Option<Token>,
        saved: &Changes,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.repeated = false;
        self.in_doubt.keys.retain(|key| saved.get(key).is_none());
        self.unchanged_sets.retain(|(key, _)| saved.get(key).is_none());
        if let Some(secret) = &saved.secret {
            let login = saved.login.as_ref().and_then(Option::as_deref);
            self.tell_new_id(secret.token.key(), login, shared);
            self.record.holder = secret.holder;
            self.record.renewed = secret.at;
            self.verified = now;
            self.token = Some(token.unwrap_or_else(|| secret.token.clone()));
            if self.rolled_back.as_ref().is_some_and(|rolled| rolled.holder == secret.holder) {
                self.rolled_back = None;
            }
            // Unless another login is pending by now.
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
        self.changes.replace = self.is_another_owners();
        // What is pending for another owner is not stored for that one.
        if !self.changes.replace {
            self.changes.forget_saved(saved);
        }
        if saved.secret.is_some() {
            self.unchanged_sets.clear();
        }
        // The store may hold more by now than this snapshot, and has looked at its own limits.
        self.record.values.apply(saved, &Limits::UNLIMITED)?;
        self.measure();
        Ok(())
    }

    fn on_rechecked(
        &mut self,
        goal: Goal<'_>,
        record: Option<Box<Record>>,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        let question = self.recheck.take();
        match (goal, question) {
            (Goal::Destroy, _) => {
                self.took_holder(record, shared, now);
                return Ok(Progress::Continue);
            }
            (_, Some(Recheck::Taken)) => {
                let token = shared.provider.issue(self.unstored_id(shared)?);
                match record.filter(|record| record.holder == shared.verifier(&token)) {
                    Some(record) => self.on_new_record(token, *record, shared, now)?,
                    None => self.on_collision()?,
                }
                return Ok(Progress::Continue);
            }
            (_, Some(Recheck::RolledBack)) => {
                let stored =
                    record.as_ref().and_then(|record| self.token_stored_in_doubt(record, shared));
                self.rolled_back = None;
                if let Some((token, record)) = stored.zip(record) {
                    self.token = Some(token);
                    self.adopt_stored(*record, shared, now)?;
                }
                return Ok(Progress::Continue);
            }
            _ => {}
        }
        // The client's next secret is pending, or was.
        let stored = record.as_ref().and_then(|record| self.token_stored_in_doubt(record, shared));
        let is_ours = stored.is_some();
        match (record, goal) {
            (Some(record), _) if is_ours => {
                self.token = stored;
                self.adopt_stored(*record, shared, now)?;
                match goal {
                    Goal::Update(edit) if question == Some(Recheck::Repeated) => {
                        self.changes.forget(&edit.key);
                        self.measure();
                        return Ok(Progress::Reached);
                    }
                    // To be computed anew, from what is stored.
                    Goal::Update(_) => return Err(Error::Conflict),
                    _ => {}
                }
            }
            // Nothing was carried out.
            (Some(record), Goal::Update(_)) if record.holder == self.record.holder => {
                self.in_doubt.secret = false;
                // But for a question in advance, the update was refused: another request changed the value.
                if question != Some(Recheck::Doubted) {
                    return Err(Error::Conflict);
                }
            }
            (record, _) if self.changes.login.is_some() => {
                self.fork(record.as_deref(), now);
                // The update has to be computed anew, from what the new session starts with.
                if let Goal::Update(_) = goal {
                    return Err(Error::Conflict);
                }
            }
            _ => self.become_mute(Why::Moved, now),
        }
        Ok(Progress::Continue)
    }

    /// Takes note of who holds the session that the handler wants to end.
    fn took_holder(&mut self, record: Option<Box<Record>>, shared: &Shared, now: Timestamp) {
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
            Some(_) => self.become_mute(Why::Superseded, now),
        }
    }

    /// Goes on in a session of its own, with the login that lost its race. The values that this request
    /// had loaded go along, unless the session has ended or belongs to somebody else by now.
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
        self.measure();
    }

    fn on_ended(
        &mut self,
        goal: Goal<'_>,
        key: SessionKey,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        match outcome {
            Outcome::Ended => {
                let is_own = matches!(goal, Goal::Destroy) && self.live_key() == Some(key);
                let why = if is_own { Ending::Logout } else { Ending::Several };
                shared.events.emit(&Event::Ended { session: key, why });
            }
            Outcome::Failed(error) if matches!(goal, Goal::Destroy) => return Err(error),
            // The store's failure was logged. The new session is worth more than the end of the others.
            _ => {}
        }
        self.other_sessions.retain(|(other, _)| *other != key);
        if matches!(goal, Goal::Destroy) && self.live_key() == Some(key) {
            self.end(now);
            // The client's own session goes on under another request's id.
            return if self.replaced_by_another_request {
                Err(Error::Gone)
            } else {
                Ok(Progress::Reached)
            };
        }
        Ok(Progress::Continue)
    }
}

/// Whether a save does nothing but to take note of what the client is told.
fn is_announcement(changes: &Changes) -> bool {
    let Changes { login, secret, expected, cookie, .. } = changes;
    let is_empty = changes.is_empty() && login.is_none() && secret.is_none() && expected.is_empty();
    is_empty && cookie.is_some()
}
