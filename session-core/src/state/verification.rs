//! Whether the tokens that a client presented open a session. `verify` checks the lifetime (idle and absolute
//! expiry), the secret, and whether an id in a URL is refused.

use smallvec::SmallVec;

use super::{Goal, MuteReason, Phase, State};
use crate::events::{Event, Refusal};
use crate::manager::Shared;
use crate::provider::{Changes, Record, Token, Touch};
use crate::session_settings::{self, Settings};
use crate::transport::TokenSource;
use crate::{Error, Timestamp};

/// The result of [verifying](State::verify) a token against its record.
enum Verification {
    Live(Settings),
    Superseded,
    /// The token opens no session: its session is expired, its secret is wrong, or it was sent in a URL
    /// although the session's id never was in URLs.
    Rejected,
}

impl State {
    pub(super) fn on_loaded(
        &mut self,
        goal: Goal<'_>,
        tokens: &[Token],
        mut records: SmallVec<[Option<Box<Record>>; 1]>,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        // The stored secret is the pending one: a save in doubt was carried out.
        if let [Some(record)] = records.as_slice()
            && let Some(token) = self.token_stored_in_doubt(record, shared)
        {
            self.token = Some(token);
            return self.adopt_stored((**record).clone(), shared, now);
        }
        let mut is_superseded = false;
        // The live sessions, by the index of their token.
        let mut live = SmallVec::<[(usize, Settings); 1]>::new();
        for (at, token) in tokens.iter().enumerate() {
            let Some(record) = &records[at] else { continue };
            match self.verify(token, record, shared, now) {
                Verification::Live(settings) => {
                    // Several tokens of one key are possible for sealed sessions only. The most recently used
                    // record wins.
                    match live.iter_mut().find(|(other, _)| tokens[*other].key() == token.key()) {
                        Some(other) => {
                            let used = records[other.0].as_ref().map(|other| other.used);
                            if used < Some(record.used) {
                                *other = (at, settings);
                            }
                        }
                        None => live.push((at, settings)),
                    }
                }
                Verification::Superseded => is_superseded = true,
                Verification::Rejected => {}
            }
        }
        if let [_, _, ..] = live.as_slice() {
            let last = |at: usize| Some(shared.last_instant(records[at].as_ref()?));
            let is_old = |at: usize| self.credentials.is_old(&tokens[at]);
            // Tokens under old names are ignored if exactly one came under the current name. The current name
            // may have a prefix that protects against planted cookies, where old names have none.
            let has_one_name = live.iter().filter(|(at, _)| !is_old(*at)).count() == 1;
            let others = live.iter().filter(|(at, _)| !has_one_name || is_old(*at));
            self.other_sessions =
                others.filter_map(|(at, _)| Some((tokens[*at].key(), last(*at)?))).collect();
            if !has_one_name {
                shared.events.emit(&Event::Refused { session: None, why: Refusal::Several });
                self.phase = Phase::Loaded;
                self.become_mute(MuteReason::Several, now);
                return Ok(());
            }
            live.retain(|(at, _)| !is_old(*at));
        }
        let Some((at, settings)) = live.pop() else {
            return self.on_no_session(goal, is_superseded, shared, now);
        };
        let (token, record) = (&tokens[at], records.swap_remove(at));
        let Some(record) = record else { unreachable!("a live session has a record") };
        let lifetime = settings.lifetime(&shared.rules);
        let touch = lifetime.touch_due(&record, now, shared.rules.touch_every);
        let renewal = token.needs_rewrite().then_some(Touch { used: now, expires: record.expires });
        self.due_touch = touch.or(renewal);
        if self.phase == Phase::Unloaded {
            shared.events.counters.count_use(&token.key(), &record);
            self.client_token = Some(token.clone());
        }
        self.token = Some(token.clone());
        if self.phase != Phase::Finished || !matches!(goal, Goal::Refresh) {
            self.phase = Phase::Loaded;
        }
        self.become_loaded(*record, settings, now);
        Ok(())
    }

    /// Handles a load that found no live session.
    fn on_no_session(
        &mut self,
        goal: Goal<'_>,
        is_superseded: bool,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        let is_first = self.phase == Phase::Unloaded;
        // A reload of a session that ended fails; a load makes a new session.
        let was_loaded = self.phase == Phase::Loaded || !matches!(goal, Goal::Load);
        self.phase = Phase::Loaded;
        if is_first {
            match is_superseded {
                true => self.become_mute(MuteReason::Superseded, now),
                false => self.become_new(now),
            }
            return Ok(());
        }
        // A login that lost a race gets a session of its own. The save finds out.
        if was_loaded && self.changes.login.is_some() && self.changes.secret.is_some() {
            return Ok(());
        }
        self.emit_gone(shared);
        let is_lost = self.has_changes();
        if !self.drops_silently() {
            self.changes = Changes::new();
        }
        if was_loaded || is_lost || is_superseded {
            self.become_mute(MuteReason::Gone, now);
        } else {
            self.become_new(now);
        }
        if was_loaded || is_lost { Err(Error::Gone) } else { Ok(()) }
    }

    fn verify(
        &self,
        token: &Token,
        record: &Record,
        shared: &Shared,
        now: Timestamp,
    ) -> Verification {
        let key = token.key();
        // Only the first load of a request reports refusals. A later one reports that the session is gone.
        let is_first = self.phase == Phase::Unloaded;
        let refuse = |why| {
            if is_first {
                shared.events.emit(&Event::Refused { session: Some(key), why });
            }
        };
        let settings = Settings::of(&record.values);
        shared.report_clock_skew(key, record, now);
        let lifetime = settings.lifetime(&shared.rules);
        let is_held = record.holder == shared.verifier(token);
        if lifetime.is_over(record, now) {
            match lifetime.ending(record, now) {
                // The secret is wrong, so nothing is reported: the client may know no more than the key.
                _ if !is_held => {}
                Some(why) => shared.events.emit(&Event::Ended { session: key, why }),
                None => refuse(Refusal::Clock),
            }
            return Verification::Rejected;
        }
        if !is_held {
            // `renewed` lies in the future if another server's clock is fast, so its distance from now counts
            // in both directions.
            let age = now.since(record.renewed).max(record.renewed.since(now));
            if age < shared.rules.superseded_for && record.renewed > record.created {
                refuse(Refusal::Superseded);
                return Verification::Superseded;
            }
            refuse(Refusal::WrongSecret);
            return Verification::Rejected;
        }
        // An attacker can put an id of their own into a link (session fixation), so an id in a URL is
        // accepted only if the session's ids were in URLs from the start.
        if self.source() == Some(TokenSource::Url)
            && record.values.get(session_settings::IN_URLS_KEY).is_none()
        {
            refuse(Refusal::IdInUrl);
            return Verification::Rejected;
        }
        Verification::Live(settings)
    }
}
