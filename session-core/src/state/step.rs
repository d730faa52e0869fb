//! The steps towards a goal.

use smallvec::SmallVec;

use super::{Goal, InDoubt, Phase, Recheck, Standing, State, Step, Why};
use crate::manager::Shared;
use crate::provider::{Changes, ExpiryChange, Record, Token, Touch};
use crate::session_settings::Settings;
use crate::{Error, Timestamp, lifetime, session_settings, value};

impl State {
    /// Returns the first step towards a goal, or `None` if it is reached. Of an earlier goal that was given
    /// up on its way, nothing is left but doubt.
    ///
    /// # Errors
    /// If the goal can't be reached.
    pub(crate) fn begin(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        self.mark_in_flight_in_doubt();
        (self.repeated, self.recheck) = (false, None);
        self.is_finishing = matches!(goal, Goal::Finish);
        self.next(goal, shared)
    }

    /// Takes note that the outcome of the write that was on its way is unknown.
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
                    self.close();
                    self.unchanged_sets.clear();
                }
                Ok(step)
            }
        }
    }

    fn next_load(&mut self, shared: &Shared) -> Result<Option<Step>, Error> {
        let tokens: SmallVec<_> = match self.phase {
            Phase::Loaded => {
                let due = self.due.zip(self.token.clone());
                return Ok(due.map(|(touch, token)| self.touch(token, touch, shared)));
            }
            Phase::Unloaded => self.credentials.tokens(shared),
            Phase::Finished if self.standing == Standing::Live => {
                self.token.iter().cloned().collect()
            }
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
        Step::Rewrite(token, touch, self.record.holder, Box::new(changes))
    }

    fn next_reload(&mut self, goal: Goal<'_>) -> Result<Option<Step>, Error> {
        match (self.standing, &self.token) {
            (Standing::Live, Some(token)) => {
                Ok(Some(Step::Load(SmallVec::from_elem(token.clone(), 1))))
            }
            (Standing::Mute(_), _) => Err(Error::Gone),
            (Standing::New | Standing::Live, _) => {
                if matches!(goal, Goal::Reload) {
                    self.phase = Phase::Loaded;
                }
                Ok(None)
            }
        }
    }

    fn next_destroy(&mut self, shared: &Shared) -> Result<Option<Step>, Error> {
        let now = shared.clock.now();
        match (self.standing, &self.token) {
            (Standing::Mute(Why::Superseded), _) => Err(Error::Gone),
            (Standing::New, _) if self.replaced_by_another_request => {
                self.changes = Changes::new();
                self.measure();
                Err(Error::Gone)
            }
            _ if !self.other_sessions.is_empty() => Ok(self.end_of_another()),
            // Later than this, the session may have a new id that the client was not told of.
            (Standing::Mute(Why::Moved), Some(token)) => Ok(Some(Step::Recheck(token.clone()))),
            (Standing::Live, Some(token))
                if now.since(self.verified) > shared.rules.superseded_for =>
            {
                Ok(Some(Step::Recheck(token.clone())))
            }
            (Standing::Live, Some(token)) => {
                Ok(Some(Step::End(token.key(), shared.last_instant(&self.record))))
            }
            _ => {
                self.end(now);
                Ok(None)
            }
        }
    }

    /// Returns the step that ends one of several live sessions that the client presented.
    fn end_of_another(&self) -> Option<Step> {
        self.other_sessions.last().map(|(key, until)| Step::End(*key, *until))
    }

    /// Takes note of the handler's end of the session.
    pub(super) fn end(&mut self, now: Timestamp) {
        self.changes = Changes::new();
        self.resend_token = false;
        self.ended = true;
        self.become_new(now);
    }

    /// Makes the move from the URL to the cookie part of what is written.
    fn leave_urls(&mut self, shared: &Shared) -> Result<(), Error> {
        let leaving = std::mem::take(&mut self.leaving_urls) && self.phase == Phase::Loaded;
        if leaving
            && !self.head_sent
            && self.standing == Standing::Live
            && self.value(session_settings::IN_URLS_KEY).is_some()
        {
            self.regenerate(shared, shared.clock.now())?;
            self.put(session_settings::IN_URLS_KEY, None, shared)?;
        }
        Ok(())
    }

    fn next_write(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        match self.standing {
            Standing::Mute(_) => self.drop_changes(goal, shared).map(|()| None),
            Standing::New if self.recheck.is_some() => {
                let id = self.unstored_id(shared)?;
                Ok(Some(Step::Recheck(shared.provider.issue(id))))
            }
            Standing::New => self.next_create(shared),
            // Not before there is a session in their place.
            Standing::Live if self.client_token.is_none() && !self.other_sessions.is_empty() => {
                Ok(self.end_of_another())
            }
            Standing::Live => {
                match goal {
                    Goal::Finish if self.rolled_back.is_some() => {
                        self.recheck = Some(Recheck::RolledBack);
                    }
                    // Another task logged another owner in since the update was computed.
                    Goal::Update(edit) if edit.replaces != self.changes.replace => {
                        return Err(Error::Conflict);
                    }
                    Goal::Update(_) if self.in_doubt.secret && !self.repeated => {
                        self.recheck = Some(Recheck::Doubted);
                    }
                    _ => {}
                }
                let is_asked = self.recheck.is_some();
                let has_changes = self.has_changes() || matches!(goal, Goal::Update(_));
                let is_due =
                    self.may_resend_token_at(goal) && self.new_fingerprint(shared).is_some();
                if !is_asked && !has_changes && !is_due {
                    return Ok(None);
                }
                let token = self.token.clone().expect("a live session has a token");
                if is_asked {
                    return Ok(Some(Step::Recheck(token)));
                }
                let changes = self.changes_to_send(goal, shared);
                self.in_flight = Some(InDoubt::of(&changes, false));
                Ok(Some(Step::Save(token, self.record.holder, changes)))
            }
        }
    }

    /// Drops what a mute request wanted to store. One that is not told sees it until its end.
    fn drop_changes(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<(), Error> {
        let is_end = matches!(goal, Goal::Finish);
        if self.drops_silently() && !is_end {
            return Err(Error::Gone);
        }
        // To leave the URLs is no wish of the handler's.
        let is_value = |(key, _): (&str, Option<&[u8]>)| key != session_settings::IN_URLS_KEY;
        let is_lost = self.changes.iter().any(is_value) || self.changes.login.is_some();
        if is_lost {
            shared.events.counters.dropped.add(1);
        }
        self.changes = Changes::new();
        self.measure();
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

    /// Returns what a save has to write.
    fn changes_to_send(&self, goal: Goal<'_>, shared: &Shared) -> Box<Changes> {
        // An update goes alone, so that it doesn't carry what the request may still take back; unless a new
        // secret is pending, which must not come after a value that it is to protect.
        let is_alone = matches!(goal, Goal::Update(_)) && self.changes.secret.is_none();
        let mut changes = if is_alone { Changes::new() } else { self.changes.clone() };
        if let Goal::Update(edit) = goal {
            changes.exchange(&edit.key, edit.seen.clone(), edit.value.clone());
        }
        let is_told = [session_settings::LIFETIME_KEY, session_settings::PERSISTENT_KEY]
            .iter()
            .any(|key| changes.get(key).is_some());
        let is_told = changes.secret.is_some() || is_told || self.may_resend_token_at(goal);
        if is_told && !self.head_sent {
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
