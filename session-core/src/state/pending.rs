//! The changes that handlers make: values, settings such as "remember me", new ids, logins, labels and
//! roll-backs. They stay pending until a [`Goal`](super::Goal) saves them.

use std::sync::Arc;
use std::time::Duration;

use super::{InDoubt, MuteReason, State, Status, empty_record};
use crate::manager::Shared;
use crate::provider::{Changes, Login, NewSecret, Record, Values};
use crate::session_settings::{LifetimeOverride, Settings};
use crate::{Error, Lifetime, Limits, Timestamp, session_settings, value};

/// The longest owner and label, in bytes. Names and e-mail addresses are shorter, and databases index owners.
const NAME_LIMIT: usize = 1024;

impl State {
    /// Sets or deletes a stored key. Setting the value that the key already has is not a change.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the change would make the session exceed a limit; [`Error::HeadSent`] for the
    /// first value of a new session after the response's head was sent; [`Error::Gone`] in a mute request
    /// after that; [`Error::Finished`] after the request was finished.
    pub(crate) fn put(
        &mut self,
        key: &str,
        value: Option<Arc<[u8]>>,
        shared: &Shared,
    ) -> Result<(), Error> {
        self.check_open()?;
        let stored = self.record.values.get(key).filter(|_| !self.changes.replace);
        let old = self.changes.get(key).unwrap_or(stored);
        let is_certain = !self.is_in_doubt(key);
        if old == value.as_deref() && (is_certain || self.changes.get(key).is_some()) {
            if self.changes.get(key).is_none() {
                self.note_unchanged_set(key, value);
            }
            return Ok(());
        }
        if self.head_sent {
            match self.status {
                Status::New => return Err(Error::HeadSent),
                Status::Mute(_) => return Err(Error::Gone),
                Status::Live => {}
            }
        }
        let size = self.check_size_change(key, old, value.as_deref(), &shared.rules.limits)?;
        let is_stored = stored == value.as_deref() && is_certain;
        (self.key_count, self.byte_count) = size;
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

    /// Returns whether the stored value of a key may differ from the record's, because a write of this
    /// request is running or in doubt.
    fn is_in_doubt(&self, key: &str) -> bool {
        self.unconfirmed_writes().flat_map(|doubt| &doubt.keys).any(|other| **other == *key)
    }

    /// Returns the write that is running and the writes in doubt.
    fn unconfirmed_writes(&self) -> impl Iterator<Item = &InDoubt> {
        self.in_flight.iter().chain([&self.in_doubt])
    }

    /// Records that the handler set a key to the stored value.
    fn note_unchanged_set(&mut self, key: &str, value: Option<Arc<[u8]>>) {
        self.unchanged_sets.retain(|(other, _)| **other != *key);
        if self.status == Status::Live {
            self.unchanged_sets.extend(value.map(|value| (key.into(), value)));
        }
    }

    /// Makes the values that the handler set to the stored ones pending, before a login of another owner
    /// deletes the stored values.
    pub(super) fn promote_unchanged_sets(&mut self) {
        for (key, value) in std::mem::take(&mut self.unchanged_sets) {
            if self.changes.get(&key).is_none() {
                self.changes.set(&key, value);
            }
        }
    }

    /// Returns the number of keys and bytes that the session would have after a stored key is set or deleted.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the change would make the session exceed a limit.
    pub(crate) fn check_size(
        &self,
        key: &str,
        value: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(usize, usize), Error> {
        self.check_size_change(key, self.value(key), value, limits)
    }

    fn check_size_change(
        &self,
        key: &str,
        old: Option<&[u8]>,
        value: Option<&[u8]>,
        limits: &Limits,
    ) -> Result<(usize, usize), Error> {
        let entry = |value: &[u8]| key.len() + value.len();
        let keys = self.key_count + usize::from(value.is_some()) - usize::from(old.is_some());
        let bytes = self.byte_count + value.map_or(0, entry) - old.map_or(0, entry);
        if bytes > limits.bytes && bytes > self.byte_count {
            return Err(Error::TooLarge { what: "session bytes", limit: limits.bytes });
        }
        if keys > limits.keys && keys > self.key_count {
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

    /// Turns "remember me" on, which replaces the lifetime and persistence that were set before, or off.
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
        // The lifetime comes first, because setting it may fail for lack of room; if it is set, the other key
        // is deleted.
        self.put(session_settings::LIFETIME_KEY, new.lifetime.encode(limits)?, shared)?;
        self.put(session_settings::PERSISTENT_KEY, persistent, shared)?;
        self.settings = new;
        Ok(())
    }

    /// Gives the session a new id with the next save. A second call before that save changes nothing.
    pub(crate) fn regenerate(&mut self, shared: &Shared, now: Timestamp) -> Result<(), Error> {
        self.check_open()?;
        match (self.status, &self.token) {
            _ if self.head_sent => Err(Error::HeadSent),
            (Status::Live, Some(token)) => {
                if self.changes.secret.is_none() {
                    let token = shared.provider.issue(shared.provider.renewed_id(token.id())?);
                    let holder = shared.verifier(&token);
                    // Later than the creation, because `renewed == created` means that the session never got
                    // a new id.
                    let at = now.max(self.record.created.saturating_add(Duration::from_millis(1)));
                    self.changes.secret = Some(Box::new(NewSecret { token, holder, at }));
                    self.in_doubt.secret = false;
                }
                Ok(())
            }
            (Status::New, _) => {
                self.discard_unstored_id();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Logs an owner in with the next save: the session gets a new id and a login of now. If another owner
    /// was logged in, the session loses that owner's values.
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
            self.recompute_totals();
        }
        self.regenerate(shared, now)?;
        let login = Login { owner: owner.into(), at: now, label: "".into() };
        self.changes.login = Some(Some(Box::new(login)));
        Ok(())
    }

    /// Drops the pending changes that a running write or a write in doubt has sent: they belong to the
    /// previous owner. A secret that was sent is dropped, too, because it may already open the previous
    /// owner's session.
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

    /// Turns a mute request into one of a new visitor. Its pending changes stay, unless its session ended or
    /// got a new id meanwhile, because they may be computed from that session's values.
    pub(crate) fn start_anew(&mut self, now: Timestamp) -> Result<(), Error> {
        self.check_open()?;
        if let Status::Mute(why) = self.status {
            if self.head_sent {
                return Err(Error::Gone);
            }
            if why == MuteReason::Gone {
                self.changes = Changes::new();
            }
            self.become_new(now);
            self.replaced_by_another_request = why != MuteReason::Several;
        }
        Ok(())
    }

    /// Drops the pending changes, because the handler failed. A new secret that may already be stored is kept
    /// in `rolled_back_secret`: if it is stored, the client must get the new id.
    pub(crate) fn roll_back(&mut self) {
        if self.unconfirmed_writes().any(|sent| sent.secret) && self.changes.secret.is_some() {
            self.rolled_back_secret = self.changes.secret.take();
        }
        self.in_doubt.secret = false;
        self.forked_from = None;
        self.changes = Changes::new();
        self.unchanged_sets.clear();
        if self.status == Status::New {
            self.record.values = Values::new();
        }
        self.recompute_totals();
    }

    /// Recomputes the number of keys and bytes, and the settings.
    pub(super) fn recompute_totals(&mut self) {
        self.settings = Settings::read(|key| self.value(key));
        let stored = |values: &Values| (values.len(), values.size());
        (self.key_count, self.byte_count) =
            if self.changes.replace { (0, 0) } else { stored(&self.record.values) };
        for (key, value) in self.changes.iter() {
            let old = self.record.values.get(key).filter(|_| !self.changes.replace);
            self.key_count =
                self.key_count + usize::from(value.is_some()) - usize::from(old.is_some());
            self.byte_count = self.byte_count + value.map_or(0, |v| key.len() + v.len())
                - old.map_or(0, |old| key.len() + old.len());
        }
    }

    /// Becomes a visitor without a session. Pending changes stay, except for a new secret.
    pub(super) fn become_new(&mut self, now: Timestamp) {
        self.status = Status::New;
        self.unchanged_sets.clear();
        self.token = None;
        self.due_touch = None;
        self.record = empty_record(now);
        self.changes.secret = None;
        self.changes.replace = false;
        self.in_doubt = InDoubt::default();
        self.discard_unstored_id();
        self.recompute_totals();
    }

    /// Discards the id of a session that is not stored yet; the next use makes another one.
    pub(super) fn discard_unstored_id(&mut self) {
        self.unstored_id = None;
        self.in_doubt.new_session = false;
        self.retried = false;
    }

    /// Adopts the loaded record of a live session. Pending changes stay pending.
    pub(super) fn become_loaded(&mut self, record: Record, settings: Settings, now: Timestamp) {
        self.status = Status::Live;
        self.verified_at = now;
        self.record = record;
        if self.has_changes() {
            self.recompute_totals();
        } else {
            self.settings = settings;
            (self.key_count, self.byte_count) =
                (self.record.values.len(), self.record.values.size());
        }
    }

    /// Becomes mute. A safe request that had loaded the session keeps the loaded values and its changes until
    /// its end, so that its page is consistent.
    pub(super) fn become_mute(&mut self, why: MuteReason, now: Timestamp) {
        self.status = Status::Mute(why);
        self.unchanged_sets.clear();
        self.changes.secret = None;
        if why != MuteReason::Gone || !self.drops_silently() {
            self.record = empty_record(now);
            self.changes.replace = false;
        }
        self.recompute_totals();
    }
}
