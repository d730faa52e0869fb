//! Chooses the next store operation towards a goal, and builds the records and changes to store.

use smallvec::SmallVec;

use super::{Goal, InDoubt, MuteReason, Phase, Recheck, State, Status, Step};
use crate::manager::Shared;
use crate::provider::{Changes, ExpiryChange, Record, Token, Touch};
use crate::session_settings::Settings;
use crate::{Error, Timestamp, lifetime, session_settings, value};

impl State {
    /// Returns the first step towards a goal, or `None` if the goal is reached. If an earlier goal was
    /// abandoned, its running write is in doubt from now on.
    ///
    /// # Errors
    /// Returns an error if the goal can't be reached.
    pub(crate) fn begin(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        self.mark_in_flight_in_doubt();
        (self.retried, self.recheck) = (false, None);
        self.is_finishing = matches!(goal, Goal::Finish);
        self.next(goal, shared)
    }

    /// Records that the outcome of the running write is unknown.
    pub(super) fn mark_in_flight_in_doubt(&mut self) {
        if let Some(sent) = self.in_flight.take() {
            self.in_doubt.add(sent);
        }
    }

    pub(super) fn next(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        match goal {
            Goal::Load => self.next_load(shared),
            Goal::Reload | Goal::Refresh => self.next_reload(goal),
            Goal::Destroy => self.next_destroy(shared),
            Goal::Save | Goal::Update(_) => self.next_write(goal, shared),
            Goal::Finish => {
                self.leave_urls(shared)?;
                let step = self.next_write(goal, shared)?;
                if step.is_none() {
                    self.mark_finished();
                    self.unchanged_sets.clear();
                }
                Ok(step)
            }
        }
    }

    fn next_load(&mut self, shared: &Shared) -> Result<Option<Step>, Error> {
        let tokens: SmallVec<_> = match self.phase {
            Phase::Loaded => {
                let due = self.due_touch.zip(self.token.clone());
                return Ok(due.map(|(touch, token)| self.touch(token, touch, shared)));
            }
            Phase::Unloaded => self.credentials.tokens(shared),
            Phase::Finished if self.status == Status::Live => self.token.iter().cloned().collect(),
            Phase::Finished => SmallVec::new(),
        };
        if !tokens.is_empty() {
            return Ok(Some(Step::Load(tokens)));
        }
        if self.phase == Phase::Unloaded {
            self.credentials.report_malformed(shared);
            self.become_new(shared.clock.now());
        }
        self.phase = Phase::Loaded;
        Ok(None)
    }

    pub(super) fn touch(&self, token: Token, touch: Touch, shared: &Shared) -> Step {
        if !shared.provider.is_outdated(&self.record.note) {
            return Step::Touch(token, touch);
        }
        let mut changes = Changes::new().with_expiry(ExpiryChange::Extend(touch));
        changes.limits = shared.rules.limits;
        changes.seen.clone_from(&self.record.note);
        Step::TouchBySave(token, touch, self.record.holder, Box::new(changes))
    }

    fn next_reload(&mut self, goal: Goal<'_>) -> Result<Option<Step>, Error> {
        match (self.status, &self.token) {
            (Status::Live, Some(token)) => {
                Ok(Some(Step::Load(SmallVec::from_elem(token.clone(), 1))))
            }
            (Status::Mute(_), _) => Err(Error::Gone),
            (Status::New | Status::Live, _) => {
                if matches!(goal, Goal::Reload) {
                    self.phase = Phase::Loaded;
                }
                Ok(None)
            }
        }
    }

    fn next_destroy(&mut self, shared: &Shared) -> Result<Option<Step>, Error> {
        let now = shared.clock.now();
        match (self.status, &self.token) {
            (Status::Mute(MuteReason::Superseded), _) => Err(Error::Gone),
            (Status::New, _) if self.replaced_by_another_request => {
                self.changes = Changes::new();
                self.recompute_totals();
                Err(Error::Gone)
            }
            _ if !self.other_sessions.is_empty() => Ok(self.next_destroy_other()),
            // The last confirmation of the secret is older than `superseded_for`, so the session may have got
            // a new id that the client does not know. Recheck the secret.
            (Status::Mute(MuteReason::Gone), Some(token)) => Ok(Some(Step::Recheck(token.clone()))),
            (Status::Live, Some(token))
                if now.since(self.verified_at) > shared.rules.superseded_for =>
            {
                Ok(Some(Step::Recheck(token.clone())))
            }
            (Status::Live, Some(token)) => {
                Ok(Some(Step::Destroy(token.key(), shared.last_instant(&self.record))))
            }
            _ => {
                self.become_destroyed(now);
                Ok(None)
            }
        }
    }

    /// Returns the step that destroys one of the other live sessions that the client presented.
    fn next_destroy_other(&self) -> Option<Step> {
        self.other_sessions.last().map(|(key, until)| Step::Destroy(*key, *until))
    }

    /// Becomes a visitor without a session, because the handler destroyed it. Pending changes are dropped.
    pub(super) fn become_destroyed(&mut self, now: Timestamp) {
        self.changes = Changes::new();
        self.resend_token = false;
        self.destroyed = true;
        self.become_new(now);
    }

    /// Adds the move from the URL to the cookie to the pending changes: a new id, which is not accepted in
    /// URLs.
    fn leave_urls(&mut self, shared: &Shared) -> Result<(), Error> {
        let leaving = std::mem::take(&mut self.leaving_urls) && self.phase == Phase::Loaded;
        if leaving
            && !self.head_sent
            && self.status == Status::Live
            && self.value(session_settings::IN_URLS_KEY).is_some()
        {
            self.regenerate(shared, shared.clock.now())?;
            self.put(session_settings::IN_URLS_KEY, None, shared)?;
        }
        Ok(())
    }

    fn next_write(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        match self.status {
            Status::Mute(_) => self.drop_changes(goal, shared).map(|()| None),
            Status::New if self.recheck.is_some() => {
                let id = self.unstored_id(shared)?;
                Ok(Some(Step::Recheck(shared.provider.issue(id))))
            }
            Status::New => self.next_create(shared),
            // The other sessions are destroyed after the new session is stored, not before.
            Status::Live if self.client_token.is_none() && !self.other_sessions.is_empty() => {
                Ok(self.next_destroy_other())
            }
            Status::Live => {
                match goal {
                    Goal::Finish if self.rolled_back_secret.is_some() => {
                        self.recheck = Some(Recheck::RolledBackSecret);
                    }
                    // Another task logged another owner in after the update was computed.
                    Goal::Update(edit) if edit.replaces != self.changes.replace => {
                        return Err(Error::Conflict);
                    }
                    Goal::Update(_) if self.in_doubt.secret && !self.retried => {
                        self.recheck = Some(Recheck::SecretInDoubt);
                    }
                    _ => {}
                }
                let has_recheck = self.recheck.is_some();
                let has_changes = self.has_changes() || matches!(goal, Goal::Update(_));
                let is_due =
                    self.may_resend_token_at(goal) && self.new_fingerprint(shared).is_some();
                if !has_recheck && !has_changes && !is_due {
                    return Ok(None);
                }
                let token = self.token.clone().expect("a live session has a token");
                if has_recheck {
                    return Ok(Some(Step::Recheck(token)));
                }
                let changes = self.changes_to_send(goal, shared);
                self.in_flight = Some(InDoubt::of(&changes, false));
                Ok(Some(Step::Save(token, self.record.holder, changes)))
            }
        }
    }

    /// Drops the changes of a mute request. A request that drops them silently sees them until its end.
    fn drop_changes(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<(), Error> {
        let is_end = matches!(goal, Goal::Finish);
        if self.drops_silently() && !is_end {
            return Err(Error::Gone);
        }
        // The move out of the URLs is not a change of the handler.
        let is_value = |(key, _): (&str, Option<&[u8]>)| key != session_settings::IN_URLS_KEY;
        let is_lost = self.changes.iter().any(is_value) || self.changes.login.is_some();
        if is_lost {
            shared.events.counters.dropped.add(1);
        }
        self.changes = Changes::new();
        self.recompute_totals();
        if is_end && (self.drops_silently() || !is_lost) { Ok(()) } else { Err(Error::Gone) }
    }

    fn next_create(&mut self, shared: &Shared) -> Result<Option<Step>, Error> {
        if !self.has_something_to_create() {
            return Ok(None);
        }
        if self.head_sent {
            return Err(Error::HeadSent);
        }
        let id = self.unstored_id(shared)?;
        let now = shared.clock.now();
        let holder = shared.verifier(&shared.provider.issue(id));
        let mut record = Box::new(Record::new(holder, now, now));
        record.login = self.changes.login.clone().flatten();
        record.expires = self.lifetime(shared).touch(lifetime::start(&record), now).expires;
        record.cookie = self.fingerprint(lifetime::start(&record), shared);
        record.values = self.record.values.clone();
        let mut changes = self.changes.clone();
        if shared.transport.uses_url(self.source()) {
            changes.set(
                session_settings::IN_URLS_KEY,
                value::encode(session_settings::IN_URLS_KEY, &true, &shared.rules.limits)?,
            );
        } else if record.values.get(session_settings::IN_URLS_KEY).is_some() {
            changes.delete(session_settings::IN_URLS_KEY);
        }
        record.values.apply(&changes, &shared.rules.limits)?;
        self.in_flight = Some(InDoubt::of(&changes, true));
        Ok(Some(Step::Create(id, record)))
    }

    /// Returns the changes to send with a save.
    fn changes_to_send(&self, goal: Goal<'_>, shared: &Shared) -> Box<Changes> {
        // An update is saved without the other pending changes, because the handler may still fail and roll
        // them back. The exception is a pending new secret: it must be stored together with the value that it
        // protects.
        let is_alone = matches!(goal, Goal::Update(_)) && self.changes.secret.is_none();
        let mut changes = if is_alone { Changes::new() } else { self.changes.clone() };
        if let Goal::Update(edit) = goal {
            changes.exchange(&edit.key, edit.expected.clone(), edit.value.clone());
        }
        let changes_max_age = [session_settings::LIFETIME_KEY, session_settings::PERSISTENT_KEY]
            .iter()
            .any(|key| changes.get(key).is_some());
        let sends_cookie =
            changes.secret.is_some() || changes_max_age || self.may_resend_token_at(goal);
        if sends_cookie && !self.head_sent {
            changes.cookie = self.new_fingerprint(shared);
        }
        let settings = if is_alone { Settings::of(&self.record.values) } else { self.settings };
        let now = shared.clock.now();
        let touch = settings.lifetime(&shared.rules).touch(self.start(), now);
        let is_set =
            changes.login.is_some() || changes.get(session_settings::LIFETIME_KEY).is_some();
        changes.expiry =
            if is_set { ExpiryChange::Set(touch) } else { ExpiryChange::Extend(touch) };
        changes.limits = shared.rules.limits;
        changes.seen.clone_from(&self.record.note);
        Box::new(changes)
    }
}
