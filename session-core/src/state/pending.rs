//! What handlers change. None of it is at the store before a [`Goal`](super::Goal) says so.

use std::sync::Arc;
use std::time::Duration;

use super::{InDoubt, Standing, State, Why, blank};
use crate::manager::Shared;
use crate::provider::{Changes, Login, NewSecret, Record, Values};
use crate::session_settings::{LifetimeOverride, Settings};
use crate::{Error, Lifetime, Limits, Timestamp, session_settings, value};

/// The longest owner and label in bytes: names and addresses are shorter, and databases index owners.
const NAME_LIMIT: usize = 1024;

impl State {
    /// Sets or deletes a stored key, unless it is so already.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the session grows over a limit by it; [`Error::HeadSent`] if it is the
    /// first value of a session that the client can't be told of any more; [`Error::Finished`].
    pub(crate) fn put(
        &mut self,
        key: &str,
        value: Option<Arc<[u8]>>,
        shared: &Shared,
    ) -> Result<(), Error> {
        self.check_open()?;
        let stored = self.record.values.get(key).filter(|_| !self.changes.replace);
        let old = self.changes.get(key).unwrap_or(stored);
        let is_sure = !self.may_differ(key);
        if old == value.as_deref() && (is_sure || self.changes.get(key).is_some()) {
            if self.changes.get(key).is_none() {
                self.note_unchanged_set(key, value);
            }
            return Ok(());
        }
        if self.head_sent {
            match self.standing {
                Standing::New => return Err(Error::HeadSent),
                Standing::Mute(_) => return Err(Error::Gone),
                Standing::Live => {}
            }
        }
        let room = self.room(key, old, value.as_deref(), &shared.rules.limits)?;
        let is_stored = stored == value.as_deref() && is_sure;
        (self.keys, self.bytes) = room;
        match value {
            _ if is_stored => {
                self.changes.forget(key);
                self.note_unchanged_set(key, value);
            }
            Some(value) => self.changes.set(key, value),
            None => self.changes.delete(key),
        }
        Ok(())
    }

    /// Whether the stored value may be another than the snapshot's, by a write of this request that is on
    /// its way or whose outcome is unknown.
    fn may_differ(&self, key: &str) -> bool {
        self.doubts().flat_map(|doubt| &doubt.keys).any(|other| **other == *key)
    }

    /// Returns what may be stored already, or by the time that the store answers.
    fn doubts(&self) -> impl Iterator<Item = &InDoubt> {
        self.in_flight.iter().chain([&self.in_doubt])
    }

    /// Takes note that the handler wants a key to be as it is stored.
    fn note_unchanged_set(&mut self, key: &str, value: Option<Arc<[u8]>>) {
        self.unchanged_sets.retain(|(other, _)| **other != *key);
        if self.standing == Standing::Live {
            self.unchanged_sets.extend(value.map(|value| (key.into(), value)));
        }
    }

    /// Leaves the stored values behind, but for those that the handler set itself.
    pub(super) fn promote_unchanged_sets(&mut self) {
        for (key, value) in std::mem::take(&mut self.unchanged_sets) {
            if self.changes.get(&key).is_none() {
                self.changes.set(&key, value);
            }
        }
    }

    /// Returns the keys and bytes that the session has once a stored key is set or deleted.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the session grows over a limit by it.
    pub(crate) fn room_for(
        &self,
        key: &str,
        value: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(usize, usize), Error> {
        self.room(key, self.value(key), value, limits)
    }

    fn room(
        &self,
        key: &str,
        old: Option<&[u8]>,
        value: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(usize, usize), Error> {
        let entry = |value: &[u8]| key.len() + value.len();
        let keys = self.keys + usize::from(value.is_some()) - usize::from(old.is_some());
        let bytes = self.bytes + value.map_or(0, entry) - old.map_or(0, entry);
        if bytes > limits.bytes && bytes > self.bytes {
            return Err(Error::TooLarge { what: "session bytes", limit: limits.bytes });
        }
        if keys > limits.keys && keys > self.keys {
            return Err(Error::TooLarge { what: "session keys", limit: limits.keys });
        }
        Ok((keys, bytes))
    }

    pub(crate) fn set_lifetime(&mut self, own: Lifetime, shared: &Shared) -> Result<(), Error> {
        self.check_open()?;
        let own = LifetimeOverride::fixed(own);
        let is_the_managers = own == LifetimeOverride::fixed(shared.rules.lifetime);
        if is_the_managers && self.settings.lifetime == LifetimeOverride::Unset {
            return Ok(());
        }
        self.change_settings(Settings { lifetime: own, ..self.settings }, shared)
    }

    pub(crate) fn set_persistent(
        &mut self,
        persistent: bool,
        shared: &Shared,
    ) -> Result<(), Error> {
        self.check_open()?;
        if self.settings.persistent.is_none() && persistent == self.is_persistent(shared) {
            return Ok(());
        }
        let persistent = Some(persistent);
        self.change_settings(Settings { persistent, ..self.settings }, shared)
    }

    /// Remembers the visitor, whatever lifetime and persistence were set before, or undoes that.
    pub(crate) fn remember(&mut self, on: bool, shared: &Shared) -> Result<(), Error> {
        self.check_open()?;
        let lifetime = match on {
            true => LifetimeOverride::Remembered,
            false if self.is_remembered() => LifetimeOverride::Unset,
            false => return Ok(()),
        };
        self.change_settings(Settings { lifetime, persistent: None }, shared)
    }

    fn change_settings(&mut self, new: Settings, shared: &Shared) -> Result<(), Error> {
        let limits = &shared.rules.limits;
        let persistent = new
            .persistent
            .map(|on| value::encode(session_settings::PERSISTENT_KEY, &on, limits))
            .transpose()?;
        // The lifetime first: where it is set there may be no room, while the other is deleted then.
        self.put(session_settings::LIFETIME_KEY, new.lifetime.encode(limits)?, shared)?;
        self.put(session_settings::PERSISTENT_KEY, persistent, shared)?;
        self.settings = new;
        Ok(())
    }

    /// Gives the session a new id with the next save. A second call before that changes nothing.
    pub(crate) fn regenerate(&mut self, shared: &Shared, now: Timestamp) -> Result<(), Error> {
        self.check_open()?;
        match (self.standing, &self.token) {
            _ if self.head_sent => Err(Error::HeadSent),
            (Standing::Live, Some(token)) => {
                if self.changes.secret.is_none() {
                    let token = shared.provider.issue(shared.provider.renewed_id(token.id())?);
                    let holder = shared.verifier(&token);
                    // Later than the creation: a session that never had a new id was never replaced.
                    let at = now.max(self.record.created.saturating_add(Duration::from_millis(1)));
                    self.changes.secret = Some(Box::new(NewSecret { token, holder, at }));
                    self.in_doubt.secret = false;
                }
                Ok(())
            }
            (Standing::New, _) => {
                self.discard_unstored_id();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Logs an owner in: a new id, a login that starts now, and where another owner was logged in before,
    /// none of that owner's values.
    pub(crate) fn log_in(
        &mut self,
        owner: &str,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        if owner.is_empty() {
            return Err(Error::Invalid {
                what: "owner",
                reason: "empty; an owner has 1 to 1,024 bytes",
            });
        }
        self.check_open()?;
        let owner = &*shared.rules.stored_owner(owner);
        if owner.len() > NAME_LIMIT {
            return Err(Error::TooLarge { what: "owner bytes", limit: NAME_LIMIT });
        }
        if self.head_sent {
            return Err(Error::HeadSent);
        }
        self.start_anew(now)?;
        if self.login().is_some_and(|login| *login.owner != *owner) {
            self.drop_previous_owners_writes();
            self.promote_unchanged_sets();
            self.changes.replace = true;
            self.measure();
        }
        self.regenerate(shared, now)?;
        let login = Login { owner: owner.into(), at: now, label: "".into() };
        self.changes.login = Some(Some(Box::new(login)));
        Ok(())
    }

    /// Before another owner logs in: what is on its way to the store, or may be there already, stays with the
    /// owner before. Under the same secret, the other one would take it over.
    fn drop_previous_owners_writes(&mut self) {
        for sent in self.in_flight.iter().chain([&self.in_doubt]) {
            sent.keys.iter().for_each(|key| self.changes.forget(key));
            if sent.secret {
                self.changes.secret = None;
            }
        }
    }

    pub(crate) fn set_label(&mut self, label: &str) -> Result<(), Error> {
        self.check_open()?;
        if label.len() > NAME_LIMIT {
            return Err(Error::TooLarge { what: "label bytes", limit: NAME_LIMIT });
        }
        if let Some(login) = self.login().filter(|login| *login.label != *label) {
            let login = Login { label: label.into(), ..login.clone() };
            self.changes.login = Some(Some(Box::new(login)));
        }
        Ok(())
    }

    /// Turns a mute request into one of a new visitor, with what it set so far; but for what it set in a
    /// session that ended or moved on meanwhile, which may be made of that session's values.
    pub(crate) fn start_anew(&mut self, now: Timestamp) -> Result<(), Error> {
        self.check_open()?;
        if let Standing::Mute(why) = self.standing {
            if self.head_sent {
                return Err(Error::Gone);
            }
            if why == Why::Moved {
                self.changes = Changes::new();
            }
            self.become_new(now);
            self.replaced_by_another_request = why != Why::Several;
        }
        Ok(())
    }

    /// Drops what is not stored yet: the handler failed. A new secret that may be stored is kept in mind, as the
    /// client has to be told of it then.
    pub(crate) fn roll_back(&mut self) {
        if self.doubts().any(|sent| sent.secret) && self.changes.secret.is_some() {
            self.rolled_back = self.changes.secret.take();
        }
        self.in_doubt.secret = false;
        self.forked_from = None;
        self.changes = Changes::new();
        self.unchanged_sets.clear();
        if self.standing == Standing::New {
            self.record.values = Values::new();
        }
        self.measure();
    }

    /// Counts keys and bytes, and reads the settings, anew.
    pub(super) fn measure(&mut self) {
        self.settings = Settings::read(|key| self.value(key));
        let stored = |values: &Values| (values.len(), values.size());
        (self.keys, self.bytes) =
            if self.changes.replace { (0, 0) } else { stored(&self.record.values) };
        for (key, value) in self.changes.iter() {
            let old = self.record.values.get(key).filter(|_| !self.changes.replace);
            self.keys = self.keys + usize::from(value.is_some()) - usize::from(old.is_some());
            self.bytes = self.bytes + value.map_or(0, |v| key.len() + v.len())
                - old.map_or(0, |old| key.len() + old.len());
        }
    }

    /// Becomes a visitor without a session. Pending changes stay.
    pub(super) fn become_new(&mut self, now: Timestamp) {
        self.standing = Standing::New;
        self.unchanged_sets.clear();
        self.token = None;
        self.due = None;
        self.record = blank(now);
        self.changes.secret = None;
        self.changes.replace = false;
        self.in_doubt = InDoubt::default();
        self.discard_unstored_id();
        self.measure();
    }

    /// Takes another id for the session that is not stored yet.
    pub(super) fn discard_unstored_id(&mut self) {
        self.unstored_id = None;
        self.in_doubt.fresh = false;
        self.repeated = false;
    }

    /// Takes a record that this client holds. Pending changes stay on top of it.
    pub(super) fn become_loaded(&mut self, record: Record, settings: Settings, now: Timestamp) {
        self.standing = Standing::Live;
        self.verified = now;
        self.record = record;
        if self.has_changes() {
            self.measure();
        } else {
            self.settings = settings;
            (self.keys, self.bytes) = (self.record.values.len(), self.record.values.size());
        }
    }

    /// Becomes a request that stores nothing. One that had loaded the session and is not told goes on with
    /// what it loaded and computed, so that its page is of one piece.
    pub(super) fn become_mute(&mut self, why: Why, now: Timestamp) {
        self.standing = Standing::Mute(why);
        self.unchanged_sets.clear();
        self.changes.secret = None;
        if why != Why::Moved || !self.drops_silently() {
            self.record = blank(now);
            self.changes.replace = false;
        }
        self.measure();
    }
}
