//! What a request knows of its session, what is to be done at the store next, and what the client is
//! told.
//!
//! This is the planner of a request. It does no I/O: the [executor](crate::operations) tells it the [`Goal`]
//! ([`begin`](State::begin)), carries the step out at the store that it is given, hands the outcome back
//! ([`took`](State::apply_outcome)), and is given the next step, until the goal is reached. Nothing else writes the
//! fields of [`State`].

mod outcome;
mod pending;
mod set_cookie;
mod step;
#[cfg(test)]
mod tests;
mod verification;

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::credentials::Credentials;
use crate::manager::Shared;
use crate::provider::{Changes, Login, NewSecret, Record, Token, Touch, Verifier};
use crate::session_settings::Settings;
use crate::transport::TokenSource;
use crate::{Error, Lifetime, SessionId, SessionKey, Timestamp, session_settings};

/// How far a request has come with its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The store was not asked yet.
    Unloaded,
    /// The values can be read and changed.
    Loaded,
    /// What changed is stored. The values can be read, and the next load asks the store.
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
    /// The values are there as the store has them now, and can be changed.
    Reload,
    /// The values are there as the store has them now, for an update. A finished request stays so.
    Refresh,
    /// What changed is stored; the values stay.
    Save,
    /// What changed is stored, and nothing is to change any more.
    Finish,
    /// The session has ended.
    Destroy,
    /// This change of one value is stored, or has failed with [`Error::Conflict`].
    Update(&'g ValueUpdate),
}

/// A change of one value that builds on what the store had.
#[derive(Debug)]
pub(crate) struct ValueUpdate {
    pub(crate) key: Arc<str>,
    /// The stored value that the change builds on.
    pub(crate) seen: Option<Arc<[u8]>>,
    /// The pending change of the key that it builds on, which it takes along.
    pub(crate) pending: Option<Option<Arc<[u8]>>>,
    /// Another owner's login was pending, which leaves the stored value behind.
    pub(crate) replaces: bool,
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
    Rewrite(Token, Touch, Verifier, Box<Changes>),
    Create(SessionId, Box<Record>),
    Save(Token, Verifier, Box<Changes>),
    /// Load the record of this token, whoever holds it.
    Recheck(Token),
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
    Rechecked(Option<Box<Record>>),
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
enum Recheck {
    /// A fresh id is taken: by this request, in a try whose answer was lost?
    Taken,
    /// A login was refused: who holds the session now, and to whom does it belong?
    LostLogin,
    /// An update was in doubt, and its repetition refused: was it the first try that changed the value?
    Repeated,
    /// The pending secret may be stored by an earlier write: what does an update start from?
    Doubted,
    /// A secret was rolled back that may be stored: does the client have to be told of it?
    RolledBack,
}

/// What writes may have stored whose outcome is unknown: the answer was lost, or the future dropped.
#[derive(Debug, Default)]
struct InDoubt {
    /// Keys whose stored value may differ from the snapshot's.
    keys: SmallVec<[Arc<str>; 1]>,
    /// The pending secret may be the stored one already.
    secret: bool,
    /// The session of the fresh id may be stored already.
    fresh: bool,
}

impl InDoubt {
    /// What a write is about to store.
    fn of(changes: &Changes, fresh: bool) -> Self {
        Self { keys: changes.keys().cloned().collect(), secret: changes.secret.is_some(), fresh }
    }

    fn add(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.secret |= other.secret;
        self.fresh |= other.fresh;
    }
}

/// What a response tells the client.
#[derive(Debug)]
pub(crate) enum ClientDirective {
    /// Carry this from now on, for this long or until the browser ends.
    Set(Token, Option<Duration>),
    /// Carry nothing from now on.
    Clear,
}

/// What an update of one value starts from.
pub(crate) enum Base {
    /// The session is stored: the value that the store had, the pending change of it, and the value that
    /// the request sees; and whether a pending login leaves the stored value behind.
    Stored {
        seen: Option<Arc<[u8]>>,
        pending: Option<Option<Arc<[u8]>>>,
        shown: Option<Arc<[u8]>>,
        replaces: bool,
    },
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
    /// The response is finished, as far as the store goes: the client can't be told anything any more.
    head_sent: bool,
    /// A response told the client already.
    told: bool,
    /// The current goal is the end of the request.
    is_finishing: bool,
    credentials: Credentials,
    /// The token that the client carries, of a session that it holds.
    client_token: Option<Token>,
    /// The token of the stored session.
    token: Option<Token>,
    /// When the store last confirmed that this client holds the session.
    verified: Timestamp,
    /// The record as the store is known to have it, without the changes.
    record: Record,
    /// The id of a session that is not stored yet, once it was needed.
    unstored_id: Option<SessionId>,
    /// What is to be written: values, and with them a new secret or a login.
    changes: Changes,
    /// What the handler set as it was stored already: nothing to write, unless a login leaves the stored
    /// values behind.
    unchanged_sets: Vec<Entry>,
    /// With the changes.
    settings: Settings,
    /// Keys and bytes of the values with the changes.
    keys: usize,
    bytes: usize,
    /// The touch to make after loading.
    due: Option<Touch>,
    /// What is on its way to the store.
    in_flight: Option<InDoubt>,
    /// What earlier writes may have stored.
    in_doubt: InDoubt,
    /// A new secret that was rolled back when it might be stored already.
    rolled_back: Option<Box<NewSecret>>,
    /// On the way to the current goal, a write whose outcome was unknown has been repeated.
    repeated: bool,
    /// On the way to the current goal, the record has to be looked at.
    recheck: Option<Recheck>,
    /// Ids that were taken when a session was created.
    collisions: u32,
    /// Whose login was stored by the last step.
    stored_login: Option<Box<str>>,
    /// The session that a login left behind when it lost its race.
    forked_from: Option<SessionKey>,
    /// The store knows that the client is told, although its token stays the same.
    resend_token: bool,
    /// The client may be told again without a call of the handler: the request is a navigation, and did not
    /// try yet.
    may_resend_token: bool,
    /// The handler ended the session.
    ended: bool,
    /// The client's id was replaced by another request, which tells it the new one: this request must not
    /// clear it.
    replaced_by_another_request: bool,
    /// The live sessions that the client presented beside each other, to be ended by a login, by a
    /// logout, or with the session that follows them.
    other_sessions: Vec<(SessionKey, Timestamp)>,
}

/// Making a state, and reading it.
impl State {
    pub(crate) fn new(
        credentials: Credentials,
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
            told: false,
            is_finishing: false,
            credentials,
            client_token: None,
            token: None,
            verified: Timestamp::default(),
            record: blank(Timestamp::default()),
            unstored_id: None,
            changes: Changes::new(),
            unchanged_sets: Vec::new(),
            settings: Settings::default(),
            keys: 0,
            bytes: 0,
            due: None,
            in_flight: None,
            in_doubt: InDoubt::default(),
            rolled_back: None,
            repeated: false,
            recheck: None,
            collisions: 0,
            stored_login: None,
            forked_from: None,
            resend_token: false,
            may_resend_token: navigation,
            ended: false,
            replaced_by_another_request: false,
            other_sessions: Vec::new(),
        }
    }

    /// Whether the values are there, and the request is not about to be finished.
    pub(crate) fn is_loaded(&self) -> bool {
        self.phase == Phase::Loaded && self.due.is_none() && !self.is_finishing
    }

    /// Returns an error if nothing would store a change: the response is finished.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Loaded => Ok(()),
            Phase::Unloaded | Phase::Finished => Err(Error::Finished),
        }
    }

    /// Whether finishing the request has nothing to do.
    pub(crate) fn is_settled(&self) -> bool {
        self.phase != Phase::Loaded
    }

    pub(crate) fn source(&self) -> Option<TokenSource> {
        self.credentials.source()
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
            _ => self.unstored_id(shared),
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
                self.unstored_id(shared).ok().map(|id| shared.provider.issue(id))
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
            present.filter_map(session_settings::application_key).map(str::to_owned).collect();
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
        let settings = [
            session_settings::LIFETIME_KEY,
            session_settings::PERSISTENT_KEY,
            session_settings::IN_URLS_KEY,
        ];
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
    /// [`Error::Gone`] if the request is mute.
    pub(crate) fn base(&self, key: &str, strict: bool) -> Result<Base, Error> {
        match self.standing {
            Standing::Live => {
                let seen: Option<Arc<[u8]>> = self.record.values.get(key).map(Into::into);
                let pending = self.changes.edit(key).cloned();
                let stored = seen.as_ref().filter(|_| !self.changes.replace);
                let shown = pending.clone().unwrap_or_else(|| stored.cloned());
                Ok(Base::Stored { seen, pending, shown, replaces: self.changes.replace })
            }
            Standing::Mute(_) if strict || !self.drops_silently() => Err(Error::Gone),
            Standing::New | Standing::Mute(_) => {
                Ok(Base::InMemory { shown: self.value(key).map(Into::into) })
            }
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

    /// Takes whose login was stored by the last step, if one was.
    pub(crate) fn take_stored_login(&mut self) -> Option<Box<str>> {
        self.stored_login.take()
    }

    fn unstored_id(&mut self, shared: &Shared) -> Result<SessionId, Error> {
        match self.unstored_id {
            Some(id) => Ok(id),
            None => Ok(*self.unstored_id.insert(shared.new_id()?)),
        }
    }
}

/// A record of no session.
fn blank(now: Timestamp) -> Record {
    Record::new(Verifier::NOBODY, now, now)
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
