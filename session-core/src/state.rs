//! What a request knows of its session, what is to be done at the store next, and what the client is
//! told.
//!
//! This is the planner of a request. It does no I/O: the [executor](crate::executor) tells it the [`Goal`]
//! ([`begin`](State::begin)), carries the step out at the store that it is given, hands the outcome back
//! ([`took`](State::took)), and is given the next step, until the goal is reached. Nothing else writes the
//! fields of [`State`].

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use tracing::{debug, info};

use crate::manager::Shared;
use crate::presented::Presented;
use crate::provider::{
    Changes, ExpiryChange, Login, NewSecret, Record, Token, Touch, Values, Verifier,
};
use crate::settings::{OwnLifetime, Settings};
use crate::transport::{Carrier, MAX_AGE_LIMIT, fingerprint};
use crate::{Error, Lifetime, Limits, SessionId, SessionKey, Timestamp, key, lifetime, value};

/// How far a request has come with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The store was not asked yet.
    Unloaded,
    /// The values can be read and changed.
    Loaded,
    /// What changed is stored, and the values were released.
    Finished,
}

/// What the session is to this request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The visitor has no session; one is stored if something is put into it.
    New,
    /// The session is stored, and this client holds it.
    Live,
    /// The request sees nothing of the session, stores nothing, and tells the client nothing.
    Mute(Why),
}

/// Why a request is mute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The client sent an id that was replaced a moment ago: it has the new one, or will.
    Superseded,
    /// The session ended or got a new id while this request ran.
    Moved,
    /// The client sent the ids of several live sessions.
    Several,
}

/// What the executor is to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal<'g> {
    /// The values are there.
    Load,
    /// The values are there as the store has them now.
    Reload,
    /// What changed is stored; the values stay.
    Save,
    /// What changed is stored, and the values are released.
    Finish,
    /// The session has ended.
    Destroy,
    /// This change of one value is stored, or has failed with [`Error::Conflict`].
    Update(&'g Edit),
}

/// A change of one value that builds on what the store had.
#[derive(Debug)]
pub(crate) struct Edit {
    pub(crate) key: Arc<str>,
    /// The stored value that the change builds on.
    pub(crate) seen: Option<Arc<[u8]>>,
    /// The pending change of the key that it builds on, which it takes along.
    pub(crate) pending: Option<Option<Arc<[u8]>>>,
    /// The new value, or `None` to delete the key.
    pub(crate) value: Option<Arc<[u8]>>,
}

/// One operation at the store.
#[derive(Debug)]
pub(crate) enum Step {
    /// Load the records of these tokens.
    Load(SmallVec<[Token; 1]>),
    Touch(Token, Touch),
    /// Touch the session by a save, which writes its record anew.
    Renew(Token, Touch, Verifier, Box<Changes>),
    Create(SessionId, Box<Record>),
    Save(Token, Verifier, Box<Changes>),
    /// Load the record of this token, whoever holds it.
    Check(Token),
    /// Destroy the session of this key, of which no copy lives longer than until this instant.
    End(SessionKey, Timestamp),
}

/// What the store said to a [`Step`].
pub(crate) enum Outcome {
    /// In the order of the tokens.
    Loaded(SmallVec<[Option<Box<Record>>; 1]>),
    Touched(Option<Token>),
    Created(Option<Token>),
    Saved(Option<Token>),
    Checked(Option<Box<Record>>),
    Ended,
    Failed(Error),
}

/// Whether a goal is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Reached,
    Continue,
}

/// Why the record has to be looked at before it is known how to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    /// A fresh id is taken: by this request, in a try whose answer was lost?
    Taken,
    /// A login was refused: who holds the session now, and to whom does it belong?
    LostLogin,
    /// An update was in doubt, and its repetition refused: was it the first try that changed the value?
    Repeated,
    /// The pending secret may be stored by an earlier write: what does an update start from?
    Doubted,
}

/// What writes may have stored whose outcome is unknown: the answer was lost, or the future dropped.
#[derive(Debug, Default)]
struct Doubt {
    /// Keys whose stored value may differ from the snapshot's.
    keys: SmallVec<[Arc<str>; 1]>,
    /// The pending secret may be the stored one already.
    secret: bool,
    /// The session of the fresh id may be stored already.
    fresh: bool,
}

impl Doubt {
    const fn new() -> Self {
        Self { keys: SmallVec::new_const(), secret: false, fresh: false }
    }

    /// What a write is about to store.
    fn of(changes: &Changes, fresh: bool) -> Self {
        let keys = changes.iter().map(|(key, _)| key.into()).collect();
        Self { keys, secret: changes.secret.is_some(), fresh }
    }

    fn add(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.secret |= other.secret;
        self.fresh |= other.fresh;
    }
}

/// What a response tells the client.
#[derive(Debug)]
pub(crate) enum Directive {
    /// Carry this from now on, for this long or until the browser ends.
    Issue(Token, Option<Duration>),
    /// Carry nothing from now on.
    Clear,
}

/// What an update of one value starts from.
pub(crate) enum Base {
    /// The session is stored: the value that the store had, the pending change of it, and the value that
    /// the request sees.
    Stored { seen: Option<Arc<[u8]>>, pending: Option<Option<Arc<[u8]>>>, shown: Option<Arc<[u8]>> },
    /// No other request knows the session, or nothing is stored at all.
    InMemory { shown: Option<Arc<[u8]>> },
}

impl Base {
    /// The value that the request sees.
    pub(crate) fn shown(&self) -> Option<&[u8]> {
        match self {
            Self::Stored { shown, .. } | Self::InMemory { shown } => shown.as_deref(),
        }
    }
}

/// The longest owner and label in bytes: names and addresses are shorter, and databases index owners.
const NAME_LIMIT: usize = 1024;

/// Attempts to create a session with a fresh id. A collision of 96-bit keys does not happen by chance;
/// this guards against a broken source of ids.
const CREATE_ATTEMPTS: u32 = 5;

/// A stored key with its encoded value.
type Entry = (Arc<str>, Arc<[u8]>);

/// What a request knows of its session.
pub(crate) struct State {
    phase: Phase,
    standing: Standing,
    /// The request's method is safe: what it could not store is dropped without an error.
    safe: bool,
    /// The session is to leave the URLs with this request, if it is in them.
    leaving_urls: bool,
    /// The head of the response was written: the client can't be told anything any more.
    head_sent: bool,
    presented: Presented,
    /// The token that the client carries, of a session that it holds.
    carried: Option<Token>,
    /// The token of the stored session.
    token: Option<Token>,
    /// When the store last confirmed that this client holds the session.
    verified: Timestamp,
    /// The record as the store is known to have it, without the changes.
    record: Box<Record>,
    /// The id of a session that is not stored yet, once it was needed.
    fresh: Option<SessionId>,
    /// What is to be written: values, and with them a new secret or a login.
    changes: Changes,
    /// What the handler set as it was stored already: nothing to write, unless a login leaves the stored
    /// values behind.
    affirmed: Vec<Entry>,
    /// With the changes.
    settings: Settings,
    /// Keys and bytes of the values with the changes.
    keys: usize,
    bytes: usize,
    /// The touch to make after loading.
    due: Option<Touch>,
    /// What is on its way to the store.
    in_flight: Option<Doubt>,
    /// What earlier writes may have stored.
    doubt: Doubt,
    /// On the way to the current goal, a write whose outcome was unknown has been repeated.
    repeated: bool,
    /// On the way to the current goal, the record has to be looked at.
    question: Option<Question>,
    /// Ids that were taken when a session was created.
    collisions: u32,
    /// The session that a login left behind when it lost its race.
    forked_from: Option<SessionKey>,
    /// The store knows that the client is told, although its token stays the same.
    reissue: bool,
    /// The client may be told again without a call of the handler: the request is a navigation, and did not
    /// try yet.
    may_reissue: bool,
    /// The handler ended the session.
    ended: bool,
    /// The client's id was replaced by another request, which tells it the new one: this request must not
    /// clear it.
    outrun: bool,
    /// The live sessions that the client presented beside each other, to be ended by a login, by a
    /// logout, or with the session that follows them.
    others: Vec<(SessionKey, Timestamp)>,
}

/// Making a state, and reading it.
impl State {
    pub(crate) fn new(
        presented: Presented,
        safe: bool,
        navigation: bool,
        leaving_urls: bool,
    ) -> Self {
        Self {
            phase: Phase::Unloaded,
            standing: Standing::New,
            safe,
            leaving_urls,
            head_sent: false,
            presented,
            carried: None,
            token: None,
            verified: Timestamp::default(),
            record: blank(Timestamp::default()),
            fresh: None,
            changes: Changes::new(),
            affirmed: Vec::new(),
            settings: Settings::default(),
            keys: 0,
            bytes: 0,
            due: None,
            in_flight: None,
            doubt: Doubt::new(),
            repeated: false,
            question: None,
            collisions: 0,
            forked_from: None,
            reissue: false,
            may_reissue: navigation,
            ended: false,
            outrun: false,
            others: Vec::new(),
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.phase == Phase::Loaded && self.due.is_none()
    }

    /// Returns an error unless the values are there.
    pub(crate) fn check_loaded(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Loaded => Ok(()),
            Phase::Unloaded | Phase::Finished => Err(Error::Finished),
        }
    }

    /// Whether finishing the request has nothing to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase != Phase::Loaded
    }

    pub(crate) fn carrier(&self) -> Option<Carrier> {
        self.presented.carrier()
    }

    /// Whether a request for a URL with an id in it may be sent to the same URL without: the session is
    /// there, or the request that took it out of the URLs has told the browser the new id.
    pub(crate) fn has_left_urls(&self) -> bool {
        matches!(self.standing, Standing::Live | Standing::Mute(Why::Superseded | Why::Moved))
    }

    pub(crate) fn is_new(&self) -> bool {
        self.standing != Standing::Live
    }

    /// Returns the session's id with the new secret, if one is pending; that of a session that is not
    /// stored is made here.
    pub(crate) fn id(&mut self, shared: &Shared) -> Result<SessionId, Error> {
        match (&self.changes.secret, &self.token) {
            (Some(secret), _) => Ok(*secret.token.id()),
            (None, Some(token)) if self.standing == Standing::Live => Ok(*token.id()),
            _ => self.fresh_id(shared),
        }
    }

    /// Returns the token that the client will carry once the request is finished, as far as that can be
    /// told before.
    pub(crate) fn future_token(&mut self, shared: &Shared) -> Option<Token> {
        match self.standing {
            Standing::Live => match &self.changes.secret {
                Some(secret) => Some(secret.token.clone()),
                None => self.token.clone(),
            },
            Standing::New if self.has_something_to_create() => {
                self.fresh_id(shared).ok().map(|id| shared.provider.issue(id))
            }
            Standing::New | Standing::Mute(_) => None,
        }
    }

    /// Returns a stored key's value, changes first.
    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        match self.changes.get(key) {
            Some(value) => value,
            None if self.changes.replace => None,
            None => self.record.values.get(key),
        }
    }

    /// Returns the application's keys that have values, sorted.
    pub(crate) fn application_keys(&self) -> Vec<String> {
        let stored = self.record.values.iter().map(|(key, _)| key);
        let set = self.changes.iter().map(|(key, _)| key);
        let present = stored.chain(set).filter(|key| self.value(key).is_some());
        let mut keys: Vec<String> =
            present.filter_map(key::application).map(str::to_owned).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(crate) fn created(&self) -> Timestamp {
        self.record.created
    }

    /// Returns who is logged in, counting a login that is not stored yet.
    pub(crate) fn login(&self) -> Option<&Login> {
        self.changes.login.as_ref().unwrap_or(&self.record.login).as_deref()
    }

    /// Returns the instant from which the absolute lifetime counts.
    fn start(&self) -> Timestamp {
        self.login().map_or(self.record.created, |login| login.at)
    }

    pub(crate) fn lifetime(&self, shared: &Shared) -> Lifetime {
        self.settings.lifetime(&shared.rules)
    }

    /// Returns how long the session lives if it is not used again: by what the store knows, or by what
    /// is about to be stored.
    pub(crate) fn remaining(&self, shared: &Shared, now: Timestamp) -> Duration {
        let lifetime = self.lifetime(shared);
        match self.standing {
            Standing::Live if !self.has_changes() => lifetime.end(&self.record).since(now),
            _ => lifetime.touch(self.start(), now).expires.since(now),
        }
    }

    pub(crate) fn is_persistent(&self, shared: &Shared) -> bool {
        self.settings.is_persistent(&shared.rules)
    }

    pub(crate) fn is_remembered(&self) -> bool {
        self.settings.is_remembered()
    }

    fn has_changes(&self) -> bool {
        let Changes { login, secret, .. } = &self.changes;
        !self.changes.is_empty() || login.is_some() || secret.is_some()
    }

    /// Whether there is more to store than how long the session lives.
    fn has_something_to_create(&self) -> bool {
        let settings = [key::LIFETIME, key::PERSISTENT, key::IN_URLS];
        let is_value =
            |(key, value): (&str, Option<&[u8]>)| value.is_some() && !settings.contains(&key);
        self.changes.login.is_some()
            || !self.record.values.is_empty()
            || self.changes.iter().any(is_value)
    }

    /// Returns what an update of this key starts from. With `strict`, a request that may not store
    /// anything gets an error rather than a value to compute with.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released, [`Error::Gone`] if the request is mute.
    pub(crate) fn base(&self, key: &str, strict: bool) -> Result<Base, Error> {
        self.check_loaded()?;
        let shown = self.value(key).map(Into::into);
        match self.standing {
            Standing::New => Ok(Base::InMemory { shown }),
            Standing::Live => {
                let seen = self.record.values.get(key).map(Into::into);
                let pending = self.changes.get(key).map(|value| value.map(Into::into));
                Ok(Base::Stored { seen, pending, shown })
            }
            Standing::Mute(_) if strict || !self.drops_silently() => Err(Error::Gone),
            Standing::Mute(_) => Ok(Base::InMemory { shown }),
        }
    }

    /// Returns the key of the session, if this client holds it.
    pub(crate) fn live_key(&self) -> Option<SessionKey> {
        let token = self.token.as_ref().filter(|_| self.standing == Standing::Live);
        token.map(Token::key)
    }

    /// Whether a mute request drops what it wants to store without an error.
    pub(crate) fn drops_silently(&self) -> bool {
        self.safe && !self.head_sent
    }

    fn fresh_id(&mut self, shared: &Shared) -> Result<SessionId, Error> {
        match self.fresh {
            Some(id) => Ok(id),
            None => Ok(*self.fresh.insert(shared.new_id()?)),
        }
    }
}

/// What handlers change. None of it is at the store before a [`Goal`] says so.
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
        self.check_loaded()?;
        let stored = self.record.values.get(key).filter(|_| !self.changes.replace);
        let old = self.changes.get(key).unwrap_or(stored);
        let is_sure = !self.may_differ(key);
        if old == value.as_deref() && (is_sure || self.changes.get(key).is_some()) {
            if self.changes.get(key).is_none() {
                self.affirm(key, value);
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
                self.affirm(key, value);
            }
            Some(value) => self.changes.set(key, value),
            None => self.changes.delete(key),
        }
        Ok(())
    }

    /// Whether the stored value may be another than the snapshot's, by a write of this request that is on
    /// its way or whose outcome is unknown.
    fn may_differ(&self, key: &str) -> bool {
        let in_flight = self.in_flight.iter().flat_map(|doubt| &doubt.keys);
        in_flight.chain(&self.doubt.keys).any(|other| **other == *key)
    }

    /// Takes note that the handler wants a key to be as it is stored.
    fn affirm(&mut self, key: &str, value: Option<Arc<[u8]>>) {
        self.affirmed.retain(|(other, _)| **other != *key);
        if self.standing == Standing::Live {
            self.affirmed.extend(value.map(|value| (key.into(), value)));
        }
    }

    /// Leaves the stored values behind, but for those that the handler set itself.
    fn change_affirmed(&mut self) {
        for (key, value) in std::mem::take(&mut self.affirmed) {
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
        self.check_loaded()?;
        let own = OwnLifetime::fixed(own);
        let is_the_managers = own == OwnLifetime::fixed(shared.rules.lifetime);
        if is_the_managers && self.settings.lifetime == OwnLifetime::Unset {
            return Ok(());
        }
        self.change_settings(Settings { lifetime: own, ..self.settings }, shared)
    }

    pub(crate) fn set_persistent(
        &mut self,
        persistent: bool,
        shared: &Shared,
    ) -> Result<(), Error> {
        self.check_loaded()?;
        if self.settings.persistent.is_none() && persistent == self.is_persistent(shared) {
            return Ok(());
        }
        let persistent = Some(persistent);
        self.change_settings(Settings { persistent, ..self.settings }, shared)
    }

    /// Remembers the visitor, whatever lifetime and persistence were set before, or undoes that.
    pub(crate) fn remember(&mut self, on: bool, shared: &Shared) -> Result<(), Error> {
        self.check_loaded()?;
        let lifetime = match on {
            true => OwnLifetime::Remembered,
            false if self.is_remembered() => OwnLifetime::Unset,
            false => return Ok(()),
        };
        self.change_settings(Settings { lifetime, persistent: None }, shared)
    }

    fn change_settings(&mut self, new: Settings, shared: &Shared) -> Result<(), Error> {
        let limits = &shared.rules.limits;
        let persistent =
            new.persistent.map(|on| value::encode(key::PERSISTENT, &on, limits)).transpose()?;
        // The lifetime first: where it is set there may be no room, while the other is deleted then.
        self.put(key::LIFETIME, new.lifetime.encode(limits)?, shared)?;
        self.put(key::PERSISTENT, persistent, shared)?;
        self.settings = new;
        Ok(())
    }

    /// Gives the session a new id with the next save. A second call before that changes nothing.
    pub(crate) fn regenerate(&mut self, shared: &Shared, now: Timestamp) -> Result<(), Error> {
        self.check_loaded()?;
        match (self.standing, &self.token) {
            _ if self.head_sent => Err(Error::HeadSent),
            (Standing::Live, Some(token)) => {
                if self.changes.secret.is_none() {
                    let token = shared.provider.issue(shared.provider.renewed_id(token.id())?);
                    let holder = shared.verifier(&token);
                    // Later than the creation: a session that never had a new id was never replaced.
                    let at = now.max(self.record.created.saturating_add(Duration::from_millis(1)));
                    self.changes.secret = Some(Box::new(NewSecret { token, holder, at }));
                    self.doubt.secret = false;
                }
                Ok(())
            }
            (Standing::New, _) => {
                self.forget_fresh();
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
        self.check_loaded()?;
        if owner.len() > NAME_LIMIT {
            return Err(Error::TooLarge { what: "owner bytes", limit: NAME_LIMIT });
        }
        if self.head_sent {
            return Err(Error::HeadSent);
        }
        self.start_anew(now)?;
        if self.login().is_some_and(|login| *login.owner != *owner) {
            self.part_from_owner();
            self.change_affirmed();
            self.changes.replace = true;
            self.measure();
        }
        self.regenerate(shared, now)?;
        let login = Login { owner: owner.into(), at: now, label: "".into() };
        self.changes.login = Some(Some(Box::new(login)));
        Ok(())
    }

    /// Before another owner logs in: what may be stored with the pending login stays with its owner. Under
    /// the same secret, the other one would take it over.
    fn part_from_owner(&mut self) {
        let sent = self.in_flight.iter().chain([&self.doubt]);
        let mut is_sent = false;
        for doubt in sent.filter(|doubt| doubt.secret) {
            is_sent = true;
            doubt.keys.iter().for_each(|key| self.changes.forget(key));
        }
        if is_sent {
            self.changes.secret = None;
        }
    }

    pub(crate) fn set_label(&mut self, label: &str) -> Result<(), Error> {
        self.check_loaded()?;
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
        self.check_loaded()?;
        if let Standing::Mute(why) = self.standing {
            if self.head_sent {
                return Err(Error::Gone);
            }
            if why == Why::Moved {
                self.changes = Changes::new();
            }
            self.become_new(now);
            self.outrun = why != Why::Several;
        }
        Ok(())
    }

    /// Drops what is not stored yet: the handler failed.
    pub(crate) fn roll_back(&mut self) {
        self.changes = Changes::new();
        self.affirmed.clear();
        if self.standing == Standing::New {
            self.record.values = Values::new();
        }
        self.measure();
    }

    /// Counts keys and bytes, and reads the settings, anew.
    fn measure(&mut self) {
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
    fn become_new(&mut self, now: Timestamp) {
        self.standing = Standing::New;
        self.affirmed.clear();
        self.token = None;
        self.due = None;
        self.record = blank(now);
        self.changes.secret = None;
        self.changes.replace = false;
        self.doubt = Doubt::new();
        self.forget_fresh();
        self.measure();
    }

    /// Takes another id for the session that is not stored yet.
    fn forget_fresh(&mut self) {
        self.fresh = None;
        self.doubt.fresh = false;
        self.repeated = false;
    }

    /// Takes a record that this client holds. Pending changes stay on top of it.
    fn become_loaded(&mut self, record: Box<Record>, settings: Settings, now: Timestamp) {
        self.phase = Phase::Loaded;
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
    fn become_mute(&mut self, why: Why, now: Timestamp) {
        self.standing = Standing::Mute(why);
        self.affirmed.clear();
        self.changes.secret = None;
        if why != Why::Moved || !self.drops_silently() {
            self.record = blank(now);
            self.changes.replace = false;
        }
        self.measure();
    }
}

/// What a client's token turned out to be.
enum Verdict {
    Live(Settings),
    Superseded,
    /// Nobody's: unknown, over, or not to be had this way.
    Nobody,
}

/// The steps towards a goal.
impl State {
    /// Returns the first step towards a goal, or `None` if it is reached. Of an earlier goal that was given
    /// up on its way, nothing is left but doubt.
    ///
    /// # Errors
    /// If the goal can't be reached.
    pub(crate) fn begin(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        self.doubt_in_flight();
        (self.repeated, self.question) = (false, None);
        self.next(goal, shared)
    }

    /// Takes note that the outcome of the write that was on its way is unknown.
    fn doubt_in_flight(&mut self) {
        if let Some(sent) = self.in_flight.take() {
            self.doubt.add(sent);
        }
    }

    fn next(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        match goal {
            Goal::Load => self.next_load(shared),
            Goal::Reload => self.next_reload(),
            Goal::Destroy => self.next_destroy(shared),
            Goal::Save | Goal::Update(_) => {
                self.check_loaded()?;
                self.next_write(goal, shared)
            }
            Goal::Finish => {
                self.leave_urls(shared)?;
                let step = self.next_write(goal, shared)?;
                if step.is_none() {
                    self.phase = Phase::Finished;
                    self.record.values = Values::new();
                    self.affirmed.clear();
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
            Phase::Unloaded => self.presented.tokens(shared),
            Phase::Finished if self.standing == Standing::Live => {
                self.token.iter().cloned().collect()
            }
            Phase::Finished => SmallVec::new(),
        };
        if !tokens.is_empty() {
            return Ok(Some(Step::Load(tokens)));
        }
        if self.phase == Phase::Unloaded {
            self.presented.report_malformed(shared);
            self.become_new(shared.clock.now());
        }
        self.phase = Phase::Loaded;
        Ok(None)
    }

    fn touch(&self, token: Token, touch: Touch, shared: &Shared) -> Step {
        if !shared.provider.is_outdated(&self.record.note) {
            return Step::Touch(token, touch);
        }
        let mut changes = Changes::new().with_expiry(ExpiryChange::Extend(touch));
        changes.limits = shared.rules.limits;
        changes.seen.clone_from(&self.record.note);
        Step::Renew(token, touch, self.record.holder, Box::new(changes))
    }

    fn next_reload(&mut self) -> Result<Option<Step>, Error> {
        self.check_loaded()?;
        match (self.standing, &self.token) {
            (Standing::Live, Some(token)) => {
                Ok(Some(Step::Load(SmallVec::from_elem(token.clone(), 1))))
            }
            (Standing::Mute(_), _) => Err(Error::Gone),
            _ => Ok(None),
        }
    }

    fn next_destroy(&mut self, shared: &Shared) -> Result<Option<Step>, Error> {
        let now = shared.clock.now();
        match (self.standing, &self.token) {
            (Standing::Mute(Why::Superseded), _) => Err(Error::Gone),
            (Standing::New, _) if self.outrun => {
                self.changes = Changes::new();
                self.measure();
                Err(Error::Gone)
            }
            _ if !self.others.is_empty() => Ok(self.end_of_another()),
            // Later than this, the session may have a new id that the client was not told of.
            (Standing::Mute(Why::Moved), Some(token)) => Ok(Some(Step::Check(token.clone()))),
            (Standing::Live, Some(token)) if now.since(self.verified) > shared.rules.window => {
                Ok(Some(Step::Check(token.clone())))
            }
            (Standing::Live, Some(token)) => {
                Ok(Some(Step::End(token.key(), self.last_instant(&self.record, shared))))
            }
            _ => {
                self.end(now);
                Ok(None)
            }
        }
    }

    /// Returns the latest instant at which a copy of the record could be taken for a live one.
    fn last_instant(&self, record: &Record, shared: &Shared) -> Timestamp {
        let lifetime = Settings::of(&record.values).lifetime(&shared.rules);
        lifetime.deadline(lifetime::start(record)).max(record.expires)
    }

    /// Returns the step that ends one of several live sessions that the client presented.
    fn end_of_another(&self) -> Option<Step> {
        self.others.last().map(|(key, until)| Step::End(*key, *until))
    }

    /// Takes note of the handler's end of the session.
    fn end(&mut self, now: Timestamp) {
        self.changes = Changes::new();
        self.reissue = false;
        self.ended = true;
        self.become_new(now);
    }

    /// Makes the move from the URL to the cookie part of what is written.
    fn leave_urls(&mut self, shared: &Shared) -> Result<(), Error> {
        let leaving = std::mem::take(&mut self.leaving_urls) && self.phase == Phase::Loaded;
        if leaving && self.standing == Standing::Live && self.value(key::IN_URLS).is_some() {
            self.regenerate(shared, shared.clock.now())?;
            self.put(key::IN_URLS, None, shared)?;
        }
        Ok(())
    }

    fn next_write(&mut self, goal: Goal<'_>, shared: &Shared) -> Result<Option<Step>, Error> {
        match self.standing {
            Standing::Mute(_) => self.drop_changes(goal, shared).map(|()| None),
            Standing::New if self.question.is_some() => {
                let id = self.fresh_id(shared)?;
                Ok(Some(Step::Check(shared.provider.issue(id))))
            }
            Standing::New => self.next_create(shared),
            // Not before there is a session in their place.
            Standing::Live if !self.others.is_empty() => Ok(self.end_of_another()),
            Standing::Live => {
                if matches!(goal, Goal::Update(_)) && self.doubt.secret && !self.repeated {
                    self.question = Some(Question::Doubted);
                }
                let is_asked = self.question.is_some();
                let has_changes = self.has_changes() || matches!(goal, Goal::Update(_));
                if !is_asked && !has_changes && !self.reissues(goal, shared) {
                    return Ok(None);
                }
                let token = self.token.clone().expect("a live session has a token");
                if is_asked {
                    return Ok(Some(Step::Check(token)));
                }
                let changes = self.changes_to_send(goal, shared);
                self.in_flight = Some(Doubt::of(&changes, false));
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
        let is_lost = !self.changes.is_empty() || self.changes.login.is_some();
        if is_lost {
            shared.counters.dropped.add(1);
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
        let id = self.fresh_id(shared)?;
        let now = shared.clock.now();
        let holder = shared.verifier(&shared.provider.issue(id));
        let mut record = Box::new(Record::new(holder, now, now));
        record.login = self.changes.login.clone().flatten();
        record.expires = self.lifetime(shared).touch(lifetime::start(&record), now).expires;
        record.cookie = self.fingerprint(lifetime::start(&record), shared);
        record.values = self.record.values.clone();
        let mut changes = self.changes.clone();
        if shared.transport.uses_url(self.carrier()) {
            changes.set(key::IN_URLS, value::encode(key::IN_URLS, &true, &shared.rules.limits)?);
        } else if record.values.get(key::IN_URLS).is_some() {
            changes.delete(key::IN_URLS);
        }
        record.values.apply(&changes, &shared.rules.limits)?;
        self.in_flight = Some(Doubt::of(&changes, true));
        Ok(Some(Step::Create(id, record)))
    }

    /// Returns what a save has to write.
    fn changes_to_send(&self, goal: Goal<'_>, shared: &Shared) -> Box<Changes> {
        // An update goes alone, so that it doesn't carry what the request may still take back; unless a new
        // secret is pending, which must not come after a value that it is to protect.
        let is_alone = matches!(goal, Goal::Update(_)) && self.changes.secret.is_none();
        let mut changes = if is_alone { Changes::new() } else { self.changes.clone() };
        if let Goal::Update(edit) = goal {
            match &edit.value {
                Some(value) => changes.set(&edit.key, Arc::clone(value)),
                None => changes.delete(&edit.key),
            }
            changes = changes.expecting(&edit.key, edit.seen.as_deref());
        }
        let is_told = [key::LIFETIME, key::PERSISTENT].iter().any(|key| changes.get(key).is_some());
        let is_told = changes.secret.is_some() || is_told || self.reissues(goal, shared);
        if is_told && !self.head_sent {
            changes.cookie = self.new_fingerprint(shared);
        }
        let settings = if is_alone { Settings::of(&self.record.values) } else { self.settings };
        let now = shared.clock.now();
        let touch = settings.lifetime(&shared.rules).touch(self.start(), now);
        let is_set = changes.login.is_some() || changes.get(key::LIFETIME).is_some();
        changes.expiry =
            if is_set { ExpiryChange::Set(touch) } else { ExpiryChange::Extend(touch) };
        changes.limits = shared.rules.limits;
        changes.seen.clone_from(&self.record.note);
        Box::new(changes)
    }
}

/// The outcomes of steps.
impl State {
    /// Takes over what the store said to a step, which it was told at `now`. Returns the next step, or `None`
    /// if the goal is reached.
    ///
    /// # Errors
    /// If the goal can't be reached.
    pub(crate) fn took(
        &mut self,
        goal: Goal<'_>,
        step: &Step,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Option<Step>, Error> {
        match outcome {
            Outcome::Failed(Error::InDoubt { .. }) => self.doubt_in_flight(),
            _ => self.in_flight = None,
        }
        match self.take_over(goal, step, outcome, shared, now)? {
            Progress::Reached => Ok(None),
            Progress::Continue => self.next(goal, shared),
        }
    }

    fn take_over(
        &mut self,
        goal: Goal<'_>,
        step: &Step,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        match (step, outcome) {
            (Step::Load(tokens), Outcome::Loaded(records)) => {
                self.took_load(tokens, records, shared, now)?;
                if matches!(goal, Goal::Reload) || self.is_loaded() {
                    return Ok(Progress::Reached);
                }
            }
            (Step::Touch(token, touch) | Step::Renew(token, touch, ..), outcome) => {
                self.took_touch(token, *touch, outcome, now);
            }
            (Step::Create(id, record), outcome) => {
                self.took_create(id, record, outcome, shared, now)?;
            }
            (Step::Save(_, _, changes), outcome) => {
                return self.took_save(goal, changes, outcome, shared, now);
            }
            (_, Outcome::Checked(record)) => {
                return self.took_check(goal, record, shared, now);
            }
            (Step::End(key, _), outcome) => {
                return self.took_end(goal, *key, outcome, shared, now);
            }
            (_, Outcome::Failed(error)) => return Err(error),
            (step, _) => unreachable!("the store was asked for {step:?}"),
        }
        Ok(Progress::Continue)
    }

    fn took_load(
        &mut self,
        tokens: &[Token],
        mut records: SmallVec<[Option<Box<Record>>; 1]>,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        // The pending secret is the stored one: a save whose answer was lost was carried out.
        if let (Some(secret), [Some(record)]) = (&self.changes.secret, records.as_slice())
            && record.holder == secret.holder
        {
            self.token = Some(secret.token.clone());
            return self.took_stored(record.clone(), shared, now);
        }
        let mut is_superseded = false;
        // By their places.
        let mut live = SmallVec::<[(usize, Settings); 1]>::new();
        for (at, token) in tokens.iter().enumerate() {
            let Some(record) = &records[at] else { continue };
            match self.judge(token, record, shared, now) {
                Verdict::Live(settings) => {
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
                Verdict::Superseded => is_superseded = true,
                Verdict::Nobody => {}
            }
        }
        if let [_, _, ..] = live.as_slice() {
            info!(sessions = live.len(), "a client sent the ids of several live sessions");
            let last = |at: usize| Some(self.last_instant(records[at].as_ref()?, shared));
            self.others =
                live.iter().filter_map(|(at, _)| Some((tokens[*at].key(), last(*at)?))).collect();
            self.phase = Phase::Loaded;
            self.become_mute(Why::Several, now);
            return Ok(());
        }
        let Some((at, settings)) = live.pop() else {
            return self.took_no_session(is_superseded, shared, now);
        };
        let (token, record) = (&tokens[at], records.swap_remove(at));
        let Some(record) = record else { unreachable!("a live session has a record") };
        let lifetime = settings.lifetime(&shared.rules);
        let touch = lifetime.touch_due(&record, now, shared.rules.touch_every);
        let renewal =
            token.is_to_be_renewed().then_some(Touch { used: now, expires: record.expires });
        self.due = touch.or(renewal);
        if self.phase == Phase::Unloaded {
            shared.counters.count_use(&token.key(), &record);
            self.carried = Some(token.clone());
        }
        self.token = Some(token.clone());
        self.become_loaded(record, settings, now);
        Ok(())
    }

    /// Takes note that the client holds no live session.
    fn took_no_session(
        &mut self,
        is_superseded: bool,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        let is_first = self.phase == Phase::Unloaded;
        let was_loaded = self.phase == Phase::Loaded;
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
        shared.counters.gone.add(1);
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

    fn judge(&self, token: &Token, record: &Record, shared: &Shared, now: Timestamp) -> Verdict {
        let key = token.key();
        let settings = Settings::of(&record.values);
        shared.check_clocks(key, record, now);
        let lifetime = settings.lifetime(&shared.rules);
        if lifetime.is_over(record, now) {
            shared.counters.expired.add(1);
            info!(session = %key, reason = lifetime.reason(record, now), "session beyond its lifetime");
            return Verdict::Nobody;
        }
        if record.holder != shared.verifier(token) {
            // A time that lies ahead is another server's, whose clock is fast.
            let age = now.since(record.renewed).max(record.renewed.since(now));
            if age < shared.rules.window && record.renewed > record.created {
                shared.counters.superseded.add(1);
                debug!(session = %key, "request with an id that was replaced a moment ago");
                return Verdict::Superseded;
            }
            shared.counters.wrong_secret.add(1);
            info!(session = %key, "a live session's key came with a wrong secret");
            return Verdict::Nobody;
        }
        // A link can carry any id that its author knows: only ids that were in URLs from the start
        // are worth that little.
        if self.carrier() == Some(Carrier::Url) && record.values.get(key::IN_URLS).is_none() {
            info!(session = %key, "the id of a cookie session came in a URL, refused");
            return Verdict::Nobody;
        }
        Verdict::Live(settings)
    }

    fn took_touch(&mut self, token: &Token, touch: Touch, outcome: Outcome, now: Timestamp) {
        self.due = None;
        match outcome {
            Outcome::Touched(renewed) => {
                self.token = Some(renewed.unwrap_or_else(|| token.clone()));
                self.record.used = self.record.used.max(touch.used);
                self.record.expires = self.record.expires.max(touch.expires);
            }
            Outcome::Failed(Error::Gone) => {
                debug!(session = %token.key(), "session ended while it was loaded");
                self.become_new(now);
            }
            // It is not worth failing a request that reads. Whoever needs the store next will hear of it.
            _ => {}
        }
    }

    fn took_create(
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
                self.took_new_record(token, Box::new(record.clone()), shared, now)
            }
            // Of a try before whose outcome is unknown, or of somebody else.
            Outcome::Failed(Error::Exists) if self.doubt.fresh => {
                self.question = Some(Question::Taken);
                Ok(())
            }
            Outcome::Failed(Error::Exists) => self.took_collision(),
            Outcome::Failed(error) => self.repeat_once(error),
            _ => unreachable!("a session was to be created"),
        }
    }

    fn took_collision(&mut self) -> Result<(), Error> {
        self.forget_fresh();
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

    fn took_new_record(
        &mut self,
        token: Token,
        record: Box<Record>,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        shared.counters.created.add(1);
        let session = token.key();
        match (&record.login, self.forked_from.take()) {
            (Some(_), Some(from)) => {
                info!(%session, %from, "session created by a login that lost a race");
            }
            (Some(_), None) => info!(%session, "session created by a login"),
            (None, _) => debug!(%session, "session created"),
        }
        if record.login.is_some() {
            shared.counters.logins.add(1);
        }
        self.token = Some(token);
        self.took_stored(record, shared, now)
    }

    /// Takes a record as the store has it by now, under the current token. What differs from it is still to
    /// be written.
    fn took_stored(
        &mut self,
        record: Box<Record>,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.forget_fresh();
        self.collisions = 0;
        self.standing = Standing::Live;
        self.verified = now;
        self.affirmed.clear();
        self.changes.secret = None;
        self.changes.replace = false;
        if self.changes.login.as_ref() == Some(&record.login) {
            self.changes.login = None;
        }
        let mut stored = Changes::new();
        for (key, value) in self.changes.iter() {
            if record.values.get(key) == value {
                match value {
                    Some(value) => stored.set(key, value),
                    None => stored.delete(key),
                }
            }
        }
        self.changes.forget_saved(&stored);
        self.doubt = Doubt::new();
        self.record = record;
        let login = self.changes.login.as_ref().and_then(Option::as_deref);
        let stored = self.record.login.as_deref();
        // Somebody logged in while the record was on its way: again under a secret of its own, and with
        // nothing of another owner.
        if let Some(login) = login
            && stored.is_none_or(|stored| (&stored.owner, stored.at) != (&login.owner, login.at))
        {
            self.changes.replace = stored.is_some_and(|stored| stored.owner != login.owner);
            self.regenerate(shared, now)?;
        }
        self.measure();
        Ok(())
    }

    fn took_save(
        &mut self,
        goal: Goal<'_>,
        changes: &Changes,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        let error = match outcome {
            Outcome::Saved(token) => {
                let Goal::Update(edit) = goal else {
                    self.took_saved(token, changes, shared, now)?;
                    return Ok(Progress::Continue);
                };
                // Unless another task of the request changed it meanwhile.
                let pending = self.changes.get(&edit.key);
                if pending == edit.pending.as_ref().map(Option::as_deref) {
                    self.changes.forget(&edit.key);
                }
                self.took_saved(token, changes, shared, now)?;
                return Ok(Progress::Reached);
            }
            Outcome::Failed(error) => error,
            _ => unreachable!("a session was to be saved"),
        };
        match error {
            Error::Gone if changes.login.is_some() && changes.secret.is_some() => {
                self.question = Some(Question::LostLogin);
            }
            Error::Gone => {
                shared.counters.gone.add(1);
                if let Some(token) = &self.token {
                    debug!(session = %token.key(), "session ended or got a new id meanwhile");
                }
                self.become_mute(Why::Moved, now);
            }
            // To tell the client again is not worth failing a request.
            _ if is_announcement(changes) => self.may_reissue = false,
            // The first try may have been the one that changed the value.
            Error::Conflict if self.repeated => self.question = Some(Question::Repeated),
            // Unless it was rolled back meanwhile: there is nothing to repeat then.
            error if self.is_pending(changes) => self.repeat_once(error)?,
            error => return Err(error),
        }
        Ok(Progress::Continue)
    }

    /// Whether the new secret of a save is still to be stored.
    fn is_pending(&self, sent: &Changes) -> bool {
        sent.secret.as_ref().is_some_and(|secret| self.changes.secret_is(&secret.holder))
    }

    fn took_saved(
        &mut self,
        token: Option<Token>,
        saved: &Changes,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.repeated = false;
        self.doubt.keys.retain(|key| saved.get(key).is_none());
        self.affirmed.retain(|(key, _)| saved.get(key).is_none());
        if let Some(secret) = &saved.secret {
            shared.counters.regenerated.add(1);
            info!(session = %secret.token.key(), login = saved.login.is_some(), "session has a new id");
            self.record.holder = secret.holder;
            self.record.renewed = secret.at;
            self.verified = now;
            self.token = Some(token.unwrap_or_else(|| secret.token.clone()));
            // Unless another login is pending by now.
            if self.changes.secret_is(&secret.holder) {
                self.changes.secret = None;
                self.doubt.secret = false;
            }
        } else if token.is_some() {
            self.token = token;
        }
        if let Some(cookie) = saved.cookie {
            self.record.cookie = cookie;
            (self.reissue, self.may_reissue) = (true, false);
        }
        let Record { used, expires, .. } = *self.record;
        (self.record.used, self.record.expires) = saved.expiry.apply(used, expires);
        if let Some(login) = &saved.login {
            if saved.secret.is_some() {
                shared.counters.logins.add(1);
            }
            self.record.login.clone_from(login);
            if self.changes.login.as_ref() == Some(login) {
                self.changes.login = None;
                self.changes.replace &= !saved.replace;
            }
        }
        self.changes.forget_saved(saved);
        if saved.secret.is_some() {
            self.affirmed.clear();
        }
        // The store may hold more by now than this snapshot, and has looked at its own limits.
        self.record.values.apply(saved, &Limits::UNLIMITED)?;
        self.measure();
        Ok(())
    }

    fn took_check(
        &mut self,
        goal: Goal<'_>,
        record: Option<Box<Record>>,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        let question = self.question.take();
        match (goal, question) {
            (Goal::Destroy, _) => {
                self.took_holder(record, shared, now);
                return Ok(Progress::Continue);
            }
            (_, Some(Question::Taken)) => {
                let token = shared.provider.issue(self.fresh_id(shared)?);
                match record.filter(|record| record.holder == shared.verifier(&token)) {
                    Some(record) => self.took_new_record(token, record, shared, now)?,
                    None => self.took_collision()?,
                }
                return Ok(Progress::Continue);
            }
            _ => {}
        }
        // The client's next secret is pending.
        let is_ours = record.as_ref().is_some_and(|record| self.changes.secret_is(&record.holder));
        match (record, goal) {
            (Some(record), _) if is_ours => {
                if let Some(secret) = &self.changes.secret {
                    self.token = Some(secret.token.clone());
                }
                self.took_stored(record, shared, now)?;
                match goal {
                    Goal::Update(edit) if question == Some(Question::Repeated) => {
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
                self.doubt.secret = false;
                // But for a question in advance, the update was refused: another request changed the value.
                if question != Some(Question::Doubted) {
                    return Err(Error::Conflict);
                }
            }
            (record, _) if self.changes.login.is_some() => {
                self.fork(record.as_deref(), shared, now);
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
                self.changes = Changes::new();
                self.become_loaded(record, Settings::default(), now);
            }
            Some(_) => self.become_mute(Why::Superseded, now),
        }
    }

    /// Goes on in a session of its own, with the login that lost its race. The values that this request
    /// had loaded go along, unless the session has ended or belongs to somebody else by now.
    fn fork(&mut self, now_stored: Option<&Record>, shared: &Shared, now: Timestamp) {
        shared.counters.forked.add(1);
        let owner = self.login().map(|login| login.owner.clone());
        let is_shared = now_stored.is_some_and(|record| {
            record.owner().is_none_or(|other| owner.as_deref() == Some(other))
        });
        let values = match is_shared && !self.changes.replace {
            true => std::mem::take(&mut self.record.values),
            false => {
                self.change_affirmed();
                Values::new()
            }
        };
        self.forked_from = self.token.as_ref().map(Token::key);
        self.become_new(now);
        self.outrun = now_stored.is_some();
        self.record.values = values;
        self.measure();
    }

    fn took_end(
        &mut self,
        goal: Goal<'_>,
        key: SessionKey,
        outcome: Outcome,
        shared: &Shared,
        now: Timestamp,
    ) -> Result<Progress, Error> {
        match outcome {
            Outcome::Ended => {
                shared.counters.destroyed.add(1);
                let reason = match goal {
                    Goal::Destroy => "destroyed by the handler",
                    _ => "one of several that the client sent, and starts anew",
                };
                info!(session = %key, reason, "session ended by its client");
            }
            Outcome::Failed(error) if matches!(goal, Goal::Destroy) => return Err(error),
            // The store's failure was logged. The new session is worth more than the end of the others.
            _ => {}
        }
        self.others.retain(|(other, _)| *other != key);
        if matches!(goal, Goal::Destroy) && self.live_key() == Some(key) {
            self.end(now);
            return Ok(Progress::Reached);
        }
        Ok(Progress::Continue)
    }
}

/// What the client is told.
impl State {
    /// Returns what the response has to tell the client, if anything. What the store acknowledged is
    /// announced, whatever became of the rest.
    pub(crate) fn directive(&self, shared: &Shared) -> Option<Directive> {
        match (self.standing, &self.token) {
            (Standing::Live, Some(token)) => {
                let is_known = self.carried.as_ref().is_some_and(|held| held.has_text_of(token));
                (!is_known || self.reissue)
                    .then(|| Directive::Issue(token.clone(), self.max_age(shared)))
            }
            (Standing::New, _) if self.ended && !self.outrun => {
                let has_something = self.carrier().is_some() || self.carried.is_some();
                has_something.then_some(Directive::Clear)
            }
            _ => None,
        }
    }

    /// Whether the response tells the client of a session that it didn't come with, for the first time.
    pub(crate) fn announces_new_session(&self) -> bool {
        let key = |token: &Option<Token>| token.as_ref().map(Token::key);
        let is_new = key(&self.token) != key(&self.carried);
        self.standing == Standing::Live && is_new && !self.head_sent
    }

    /// Takes note that a response's headers were written. Another response, which takes its place, is told
    /// the same.
    pub(crate) fn announced(&mut self) {
        self.head_sent = true;
    }

    /// Returns how long the client is to keep the token; `None` for as long as the browser runs.
    fn max_age(&self, shared: &Shared) -> Option<Duration> {
        self.is_persistent(shared).then(|| {
            let left = self.lifetime(shared).deadline(lifetime::start(&self.record));
            self.fixed_max_age(shared).unwrap_or_else(|| left.since(shared.clock.now()))
        })
    }

    /// Returns the configured Max-Age of a persistent token. That of a remembered visitor is the session's.
    fn fixed_max_age(&self, shared: &Shared) -> Option<Duration> {
        shared.transport.max_age().filter(|_| !self.is_remembered())
    }

    /// Returns a fingerprint of what the client would be told now: the configured attributes, and of a
    /// token with a Max-Age, how long that is, and which third of it passes since `start`.
    ///
    /// A record has the fingerprint of what the client was told last. By a comparison, tokens are announced
    /// again in each third of their Max-Age, and once when something is configured differently.
    fn fingerprint(&self, start: Timestamp, shared: &Shared) -> u32 {
        let attributes = shared.rules.fingerprint;
        if !self.is_persistent(shared) {
            return attributes;
        }
        let whole = self.fixed_max_age(shared).unwrap_or_else(|| self.lifetime(shared).absolute);
        let whole = whole.min(MAX_AGE_LIMIT).as_millis();
        let third = shared.clock.now().since(start).as_millis() * 3 / whole.max(1);
        fingerprint(fingerprint(attributes, &whole.to_be_bytes()), &third.to_be_bytes())
    }

    /// Returns the fingerprint to store, if the client has to be told something new, or under a new name.
    fn new_fingerprint(&self, shared: &Shared) -> Option<u32> {
        let new = self.fingerprint(self.start(), shared);
        let is_held =
            |held: &&Token| self.token.as_ref().is_some_and(|token| held.has_text_of(token));
        let is_old =
            self.carried.as_ref().filter(is_held).is_some_and(|held| self.presented.is_old(held));
        (new != self.record.cookie || is_old).then_some(new)
    }

    /// Whether to tell the client its token again at the end of the request.
    ///
    /// It takes a save under the secret that the client presented, so that a request that lost the session
    /// to a login doesn't repeat the old token after the new one. Only on navigations, which a browser makes
    /// one after the other: the response of one in the background may arrive after that of a later login.
    fn reissues(&self, goal: Goal<'_>, shared: &Shared) -> bool {
        let may = self.may_reissue && !self.head_sent && matches!(goal, Goal::Finish);
        may && self.new_fingerprint(shared).is_some()
    }
}

/// Whether a save does nothing but to take note of what the client is told.
fn is_announcement(changes: &Changes) -> bool {
    let Changes { login, secret, expected, cookie, .. } = changes;
    let is_empty = changes.is_empty() && login.is_none() && secret.is_none() && expected.is_empty();
    is_empty && cookie.is_some()
}

/// A record of no session.
fn blank(now: Timestamp) -> Box<Record> {
    Box::new(Record::new(Verifier::NOBODY, now, now))
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("phase", &self.phase)
            .field("standing", &self.standing)
            .field("session", &self.token)
            .field("keys", &self.keys)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
