//! Whether the tokens that a client presented open a session: what a load found, judged by the secret, the
//! lifetime, and where the id was.

use smallvec::SmallVec;

use super::{Goal, Phase, State, Why};
use crate::events::{Event, Refusal};
use crate::manager::Shared;
use crate::provider::{Changes, Record, Token, Touch};
use crate::session_settings::{self, Settings};
use crate::transport::TokenSource;
use crate::{Error, Timestamp};

/// What a client's token turned out to be.
enum Verification {
    Live(Settings),
    Superseded,
    /// Nobody's: unknown, over, or not to be had this way.
    Nobody,
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
        // The pending secret is the stored one: a save whose answer was lost was carried out.
        if let [Some(record)] = records.as_slice()
            && let Some(token) = self.token_stored_in_doubt(record, shared)
        {
            self.token = Some(token);
            return self.adopt_stored((**record).clone(), shared, now);
        }
        let mut is_superseded = false;
        // By their places.
        let mut live = SmallVec::<[(usize, Settings); 1]>::new();
        for (at, token) in tokens.iter().enumerate() {
            let Some(record) = &records[at] else { continue };
            match self.verify(token, record, shared, now) {
                Verification::Live(settings) => {
                    // Of texts with one key, which only sealed sessions can have, the newest.
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
                Verification::Nobody => {}
            }
        }
        if let [_, _, ..] = live.as_slice() {
            let last = |at: usize| Some(shared.last_instant(records[at].as_ref()?));
            let is_old = |at: usize| self.credentials.is_old(&tokens[at]);
            // The name may have a prefix that keeps planted cookies out, where its old names have none.
            let has_one_name = live.iter().filter(|(at, _)| !is_old(*at)).count() == 1;
            let others = live.iter().filter(|(at, _)| !has_one_name || is_old(*at));
            self.other_sessions =
                others.filter_map(|(at, _)| Some((tokens[*at].key(), last(*at)?))).collect();
            if !has_one_name {
                shared.events.emit(&Event::Refused { session: None, why: Refusal::Several });
                self.phase = Phase::Loaded;
                self.become_mute(Why::Several, now);
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
        self.due = touch.or(renewal);
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

    /// Takes note that the client holds no live session.
    fn on_no_session(
        &mut self,
        goal: Goal<'_>,
        is_superseded: bool,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        let is_first = self.phase == Phase::Unloaded;
        // Who asks for it anew is told of its end, and who loads it is a new visitor.
        let was_loaded = self.phase == Phase::Loaded || !matches!(goal, Goal::Load);
        self.phase = Phase::Loaded;
        if is_first {
            match is_superseded {
                true => self.become_mute(Why::Superseded, now),
                false => self.become_new(now),
            }
            return Ok(());
        }
        // A login that lost its race goes on in a session of its own. The save will tell.
        if was_loaded && self.changes.login.is_some() && self.changes.secret.is_some() {
            return Ok(());
        }
        self.tell_gone(shared);
        let is_lost = self.has_changes();
        if !self.drops_silently() {
            self.changes = Changes::new();
        }
        if was_loaded || is_lost || is_superseded {
            self.become_mute(Why::Moved, now);
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
        // A request that had the session is told of its end, and that is all there is to say.
        let is_first = self.phase == Phase::Unloaded;
        let refuse = |why| {
            if is_first {
                shared.events.emit(&Event::Refused { session: Some(key), why });
            }
        };
        let settings = Settings::of(&record.values);
        shared.check_clocks(key, record, now);
        let lifetime = settings.lifetime(&shared.rules);
        let is_held = record.holder == shared.verifier(token);
        if lifetime.is_over(record, now) {
            match lifetime.ending(record, now) {
                // Whoever knows no more than its key is told nothing.
                _ if !is_held => {}
                Some(why) => shared.events.emit(&Event::Ended { session: key, why }),
                None => refuse(Refusal::Clock),
            }
            return Verification::Nobody;
        }
        if !is_held {
            // A time that lies ahead is another server's, whose clock is fast.
            let age = now.since(record.renewed).max(record.renewed.since(now));
            if age < shared.rules.superseded_for && record.renewed > record.created {
                refuse(Refusal::Superseded);
                return Verification::Superseded;
            }
            refuse(Refusal::WrongSecret);
            return Verification::Nobody;
        }
        // A link can carry any id that its author knows: only ids that were in URLs from the start
        // are worth that little.
        if self.source() == Some(TokenSource::Url)
            && record.values.get(session_settings::IN_URLS_KEY).is_none()
        {
            refuse(Refusal::IdInUrl);
            return Verification::Nobody;
        }
        Verification::Live(settings)
    }
}
