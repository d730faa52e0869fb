//! What a request knows of its session.

use std::task::Waker;
use std::time::Duration;

use crate::manager::Shared;
use crate::settings::Settings;
use crate::{Changes, Error, Lifetime, Limits, Record, Timestamp, Token, Values};

/// How far a request has come with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The values are there.
    Loaded,
    /// The values were let go; the token is what the client is told.
    Finished,
}

/// What a handle knows of its session.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) phase: Phase,
    /// An operation at the store is under way; others wait.
    pub(crate) busy: bool,
    pub(crate) waiting: Vec<Waker>,
    /// When the record was loaded.
    pub(crate) loaded_at: Timestamp,
    /// The stored session; `None` for a new one.
    pub(crate) token: Option<Token>,
    /// What the client carries and the store knew, while that is another token, or none.
    held: Option<Option<Token>>,
    /// The token of a session that is not stored yet, once someone asked for its id.
    pub(crate) fresh: Option<Token>,
    /// The record as loaded, without the changes.
    pub(crate) record: Record,
    pub(crate) changes: Changes,
    /// With the changes.
    pub(crate) settings: Settings,
    /// Keys and bytes of the values with the changes.
    pub(crate) keys: usize,
    bytes: usize,
    /// The client must be told even if the token stays the same.
    pub(crate) reissue: bool,
    /// The handler ended the session that the client carries.
    pub(crate) ended: bool,
    /// The session is to leave the URLs if it is in them.
    pub(crate) leaving: bool,
    /// The session got a new id in another request, whose cookie is not to be overwritten.
    pub(crate) overtaken: bool,
}

impl State {
    /// A visitor without a session.
    pub(crate) fn new(now: Timestamp, overtaken: bool) -> Self {
        let record = Record { created: now, ..Record::default() };
        Self { overtaken, ..Self::loaded(None, record, now, false) }
    }

    /// A visitor with the session that the client carries.
    #[inline]
    pub(crate) fn loaded(
        token: Option<Token>,
        record: Record,
        now: Timestamp,
        leaving: bool,
    ) -> Self {
        Self {
            phase: Phase::Loaded,
            busy: false,
            waiting: Vec::new(),
            loaded_at: now,
            held: None,
            token,
            fresh: None,
            keys: record.values.len(),
            bytes: record.values.size(),
            settings: Settings::of(&record.values),
            record,
            changes: Changes::new(),
            reissue: false,
            ended: false,
            leaving,
            overtaken: false,
        }
    }

    /// Starts over as a visitor without a session.
    pub(crate) fn become_new(&mut self, now: Timestamp) {
        self.phase = Phase::Loaded;
        self.set_token(None);
        self.fresh = None;
        self.changes = Changes::new();
        self.reissue = false;
        let record = Record { created: now, ..Record::default() };
        self.become_loaded(record, now);
    }

    /// Takes a record; pending changes stay on top of it.
    pub(crate) fn become_loaded(&mut self, record: Record, now: Timestamp) {
        self.phase = Phase::Loaded;
        self.loaded_at = now;
        self.record = record;
        if self.changes.is_empty() {
            self.settings = Settings::of(&self.record.values);
            (self.keys, self.bytes) = (self.record.values.len(), self.record.values.size());
        } else {
            self.measure();
        }
    }

    /// Counts keys and bytes, and reads the settings, anew.
    fn measure(&mut self) {
        self.settings = Settings::read(|key| self.value(key));
        self.keys = self.record.values.len();
        self.bytes = self.record.values.size();
        for (key, value) in self.changes.iter() {
            let old = self.record.values.get(key);
            self.keys = self.keys + usize::from(value.is_some()) - usize::from(old.is_some());
            self.bytes = self.bytes + value.map_or(0, |v| key.len() + v.len())
                - old.map_or(0, |old| key.len() + old.len());
        }
    }

    /// Takes another token in the place of the one that there was.
    pub(crate) fn set_token(&mut self, token: Option<Token>) {
        let old = std::mem::replace(&mut self.token, token);
        self.held.get_or_insert(old);
    }

    /// Whether the client is to carry something else than it does.
    pub(crate) fn is_news(&self) -> bool {
        self.held.as_ref().is_some_and(|held| *held != self.token)
    }

    /// What the client carries and the store knows, or knew.
    pub(crate) fn held(&self) -> Option<&Token> {
        self.held.as_ref().unwrap_or(&self.token).as_ref()
    }

    /// The client carries the token from now on.
    pub(crate) fn become_held(&mut self) {
        self.held = None;
    }

    pub(crate) fn has_changes(&self) -> bool {
        !self.changes.is_empty() || self.changes.owner.is_some()
    }

    /// A stored key's value, changes first.
    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        match self.changes.get(key) {
            Some(value) => value,
            None => self.record.values.get(key),
        }
    }

    /// Sets or deletes a stored key, unless it is so already.
    pub(crate) fn put(
        &mut self,
        key: &str,
        value: Option<Box<[u8]>>,
        shared: &Shared,
    ) -> Result<(), Error> {
        let stored = self.record.values.get(key);
        let old = self.changes.get(key).unwrap_or(stored);
        if old == value.as_deref() {
            return Ok(());
        }
        let room = self.room(key, old, value.as_deref(), &shared.limits)?;
        let is_stored = stored == value.as_deref();
        (self.keys, self.bytes) = room;
        if is_stored {
            self.changes.forget(key);
        } else {
            match value {
                Some(value) => self.changes.set(key, value),
                None => self.changes.delete(key),
            }
        }
        Ok(())
    }

    /// The keys and bytes that the session has once a stored key is set or deleted; an error if it
    /// grows over a limit by that.
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

    pub(crate) fn lifetime<'a>(&'a self, shared: &'a Shared) -> &'a Lifetime {
        self.settings.lifetime.as_ref().unwrap_or(&shared.lifetime)
    }

    /// The expiry to touch the session with after mere reads, if it is time to, or if its token is to
    /// be renewed.
    pub(crate) fn touch(&self, shared: &Shared, now: Timestamp) -> Option<Timestamp> {
        let token = self.token.as_ref().filter(|_| self.phase == Phase::Loaded)?;
        let Record { created, expires, .. } = self.record;
        let due = self.lifetime(shared).touch_due(created, expires, now, shared.touch_every);
        due.or_else(|| token.is_to_be_renewed().then_some(expires))
    }

    pub(crate) fn persistent(&self, shared: &Shared) -> bool {
        self.settings.persistent.unwrap_or_else(|| shared.transport.persistent())
    }

    /// How long the client is to keep the token; `None` for as long as the browser runs.
    pub(crate) fn max_age(&self, shared: &Shared) -> Option<Duration> {
        self.persistent(shared).then(|| {
            let left =
                self.lifetime(shared).deadline(self.record.created).since(shared.clock.now());
            shared.transport.max_age().unwrap_or(left)
        })
    }

    /// The token of the new session, made if need be.
    pub(crate) fn fresh_token(&mut self, shared: &Shared) -> Result<&Token, Error> {
        match &mut self.fresh {
            Some(token) => Ok(token),
            fresh => Ok(fresh.insert(shared.new_token()?)),
        }
    }

    /// What the client will carry once the request is finished, as far as can be told before.
    pub(crate) fn future_token(&mut self, shared: &Shared) -> Option<Token> {
        if self.token.is_none() && self.has_changes() {
            return self.fresh_token(shared).ok().cloned();
        }
        self.token.clone()
    }
}

impl State {
    /// Prepares for the record to have these changes: what other tasks of the request changed
    /// while they were on their way stays changed, even if it is back to what the record had.
    pub(crate) fn keep_newer(&mut self, saved: &Changes) {
        if self.phase == Phase::Loaded {
            for (key, value) in saved.iter() {
                match self.value(key).map(Box::<[u8]>::from) {
                    shown if shown.as_deref() == value => self.changes.forget(key),
                    Some(shown) => self.changes.set(key, shown),
                    None => self.changes.delete(key),
                }
            }
            if let Some(saved) = &saved.owner {
                let shown = self.changes.owner.take().unwrap_or_else(|| self.record.owner.clone());
                self.changes.owner = (shown != *saved).then_some(shown);
            }
        }
    }

    /// Takes over what the store took over.
    pub(crate) fn adopt(&mut self, token: &Token, changes: &Changes) -> Result<(), Error> {
        if self.token.as_ref() != Some(token) {
            self.set_token(Some(token.clone()));
        }
        self.record.expires = changes.expiry.apply(self.record.expires);
        if let Some(owner) = &changes.owner {
            self.record.owner.clone_from(owner);
        }
        if self.phase == Phase::Loaded {
            // The store may hold more by now than this snapshot: its limits are its own affair.
            self.record.values.apply(changes, &Limits::UNLIMITED)?;
            self.measure();
        }
        Ok(())
    }

    /// Lets go of the values. Lifetime and the like stay for the response.
    pub(crate) fn release(&mut self) {
        self.phase = Phase::Finished;
        self.record.values = Values::new();
    }
}
