//! The planner of a request: the state of its session, and the decision which store operation comes next.
//! `state/verification.rs` decides whether a presented token opens a session, `state/pending.rs` holds what
//! handlers change, `state/step.rs` chooses the next operation, `state/outcome.rs` applies results and
//! decides about retries, and `state/set_cookie.rs` decides what the client is sent.
//!
//! The planner does no I/O. The [executor](crate::operations) passes a [`Goal`] to [`begin`](State::begin),
//! executes the returned [`Step`] at the store, passes the [`Outcome`] to
//! [`apply_outcome`](State::apply_outcome), and continues with the returned next step until the goal is
//! reached. Nothing else writes the fields of [`State`].

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

/// Whether the session is loaded or finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The session was not loaded yet.
    Unloaded,
    /// The values can be read and changed.
    Loaded,
    /// The changes are stored. The values can still be read; the next load loads the session again.
    Finished,
}

/// Whether this request has a session, and may store something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The visitor has no session. One is stored if a value is set.
    New,
    /// The session is stored, and the client has presented its current secret.
    Live,
    /// The request sees an empty session, stores nothing, and its response sends no cookie.
    Mute(MuteReason),
}

/// Why a request is [mute](Status::Mute).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MuteReason {
    /// The client sent a superseded id, less than `superseded_for` after it was replaced. The client has
    /// received the new id, or is about to.
    Superseded,
    /// The session ended or got a new id while this request ran.
    Gone,
    /// The client sent the ids of several live sessions.
    Several,
}

/// What an operation of the executor has to achieve.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal<'g> {
    /// The session is loaded.
    Load,
    /// The values are loaded again from the store, and can be changed.
    Reload,
    /// The values are loaded again from the store, for an update. A finished request stays finished.
    Refresh,
    /// The pending changes are stored, and the session can be changed further.
    Save,
    /// The pending changes are stored, and the session can't be changed any more.
    Finish,
    /// The session is destroyed.
    Destroy,
    /// This change of one value is stored, or has failed with [`Error::Conflict`].
    Update(&'g ValueUpdate),
}

/// A change of one value, based on the stored value.
#[derive(Debug)]
pub(crate) struct ValueUpdate {
    pub(crate) key: Arc<str>,
    /// The stored value that the change is based on. If the store has another value, the update is a
    /// conflict.
    pub(crate) expected: Option<Arc<[u8]>>,
    /// The pending change of the key that the update is based on. The update stores it, too.
    pub(crate) pending: Option<Option<Arc<[u8]>>>,
    /// A login of another owner was pending, which deletes the stored values.
    pub(crate) replaces: bool,
    /// The new value, or `None` to delete the key.
    pub(crate) value: Option<Arc<[u8]>>,
}

/// One operation at the store.
#[derive(Debug)]
pub(crate) enum Step {
    /// Loads the records of these tokens.
    Load(SmallVec<[Token; 1]>),
    Touch(Token, Touch),
    /// Saves the session with the changed expiry in place of a touch, because its record is in an outdated
    /// form and a save rewrites it.
    TouchBySave(Token, Touch, Verifier, Box<Changes>),
    Create(SessionId, Box<Record>),
    Save(Token, Verifier, Box<Changes>),
    /// Loads the record of this token again, whatever its current secret is.
    Recheck(Token),
    /// Destroys the session of this key. No copy of the record can be valid after the timestamp.
    Destroy(SessionKey, Timestamp),
}

/// The result of a [`Step`].
pub(crate) enum Outcome {
    /// The records, in the order of the step's tokens.
    Loaded(SmallVec<[Option<Box<Record>>; 1]>),
    Touched(Option<Token>),
    Created(Option<Token>),
    Saved(Option<Token>),
    Rechecked(Option<Box<Record>>),
    Destroyed,
    Failed(Error),
}

/// Whether the goal is reached or needs another step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Reached,
    Continue,
}

/// Why the record has to be loaded again before the planner can choose the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Recheck {
    /// The store already has a record of the fresh id. An earlier create of this request, whose outcome is
    /// unknown, may have stored it.
    IdTaken,
    /// The save of a login failed with [`Error::Gone`]. The current secret and owner of the session decide
    /// how to go on.
    LoginConflict,
    /// An update was in doubt, and its retry failed with [`Error::Conflict`]. The first attempt may have
    /// changed the value.
    RetriedUpdate,
    /// A write in doubt may have stored the pending secret, and an update needs the current record as its
    /// base.
    SecretInDoubt,
    /// A secret that was rolled back may be stored. If it is, the client must get the new id.
    RolledBackSecret,
}

/// What may be stored by writes whose outcome is unknown, because the store's answer was lost or the future
/// was dropped.
#[derive(Debug, Default)]
struct InDoubt {
    /// The keys whose stored values may differ from the record's.
    keys: SmallVec<[Arc<str>; 1]>,
    /// The pending secret may already be stored.
    secret: bool,
    /// The new session may already be stored.
    new_session: bool,
}

impl InDoubt {
    /// Returns what a write of these changes would leave in doubt.
    fn of(changes: &Changes, new_session: bool) -> Self {
        Self {
            keys: changes.keys().cloned().collect(),
            secret: changes.secret.is_some(),
            new_session,
        }
    }

    fn add(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.secret |= other.secret;
        self.new_session |= other.new_session;
    }
}

/// What a response does to the client's cookie (or other copy of the token).
#[derive(Debug)]
pub(crate) enum ClientDirective {
    /// Sets the token, to be kept for this long, or until the browser ends.
    Set(Token, Option<Duration>),
    /// Clears the token.
    Clear,
}

/// The value that an update is based on.
pub(crate) enum UpdateBase {
    /// The session is stored. `expected` is the stored value, `pending` the pending change of the key, and
    /// `current` the value that the handler sees. `replaces` is true if a pending login of another owner
    /// deletes the stored values.
    Stored {
        expected: Option<Arc<[u8]>>,
        pending: Option<Option<Arc<[u8]>>>,
        current: Option<Arc<[u8]>>,
        replaces: bool,
    },
    /// The session is not stored, or the request may store nothing. The update happens in memory.
    InMemory { current: Option<Arc<[u8]>> },
}

impl UpdateBase {
    /// Returns the value that the handler sees.
    pub(crate) fn current(&self) -> Option<&[u8]> {
        match self {
            Self::Stored { current, .. } | Self::InMemory { current } => current.as_deref(),
        }
    }
}

/// A stored key with its encoded value.
type Entry = (Arc<str>, Arc<[u8]>);

/// The state of one request's session.
pub(crate) struct State {
    phase: Phase,
    status: Status,
    /// The request's method is safe: changes that can't be stored are dropped without an error.
    safe: bool,
    /// If the session's id is in URLs, this request moves it to the cookie.
    leaving_urls: bool,
    /// The response's head is final: the client can't be sent a cookie any more.
    head_sent: bool,
    /// The headers of a response were written.
    announced: bool,
    /// The current goal is [`Goal::Finish`].
    is_finishing: bool,
    credentials: Credentials,
    /// The valid token that the client presented.
    client_token: Option<Token>,
    /// The current token of the stored session.
    token: Option<Token>,
    /// When the store last confirmed that the client's secret is the current one.
    verified_at: Timestamp,
    /// The last known stored record, without the pending changes.
    record: Record,
    /// The id of a session that is not stored yet, from its first use on.
    unstored_id: Option<SessionId>,
    /// The pending changes: values, a new secret, a login.
    changes: Changes,
    /// Values that the handler set to what was stored already. They need no save, unless a login of another
    /// owner deletes the stored values.
    unchanged_sets: Vec<Entry>,
    /// The session's settings, pending changes included.
    settings: Settings,
    /// The number of keys and bytes of the values, pending changes included.
    key_count: usize,
    byte_count: usize,
    /// The touch that is due after loading.
    due_touch: Option<Touch>,
    /// The write that is running.
    in_flight: Option<InDoubt>,
    /// What earlier writes in doubt may have stored.
    in_doubt: InDoubt,
    /// A new secret that was rolled back while a write that may have stored it was in doubt.
    rolled_back_secret: Option<Box<NewSecret>>,
    /// A write in doubt was retried for the current goal.
    retried: bool,
    /// The record must be loaded again for the current goal, for this reason.
    recheck: Option<Recheck>,
    /// The number of fresh ids in a row that the store already had.
    collisions: u32,
    /// The owner whose login was stored, until [`take_stored_login`](State::take_stored_login).
    stored_login: Option<Box<str>>,
    /// The session in which a login lost a race, before it got a session of its own.
    forked_from: Option<SessionKey>,
    /// The response sends the token again although it is unchanged; the record's fingerprint was saved for
    /// that.
    resend_token: bool,
    /// The response may send an unchanged token again without a call of the handler: the request is a
    /// navigation, and did not try to yet.
    may_resend_token: bool,
    /// The handler destroyed the session.
    destroyed: bool,
    /// Another request replaced the client's id and sends the new one, so this request must not clear the
    /// cookie.
    replaced_by_another_request: bool,
    /// The other live sessions that the client presented. A login or a logout destroys them, and so does the
    /// first save of the session that replaces them.
    other_sessions: Vec<(SessionKey, Timestamp)>,
}

/// Creating and reading the state.
impl State {
    pub(crate) fn new(
        credentials: Credentials,
        safe: bool,
        navigation: bool,
        leaving_urls: bool,
    ) -> Self {
        Self {
            phase: Phase::Unloaded,
            status: Status::New,
            safe,
            leaving_urls,
            head_sent: false,
            announced: false,
            is_finishing: false,
            credentials,
            client_token: None,
            token: None,
            verified_at: Timestamp::default(),
            record: empty_record(Timestamp::default()),
            unstored_id: None,
            changes: Changes::new(),
            unchanged_sets: Vec::new(),
            settings: Settings::default(),
            key_count: 0,
            byte_count: 0,
            due_touch: None,
            in_flight: None,
            in_doubt: InDoubt::default(),
            rolled_back_secret: None,
            retried: false,
            recheck: None,
            collisions: 0,
            stored_login: None,
            forked_from: None,
            resend_token: false,
            may_resend_token: navigation,
            destroyed: false,
            replaced_by_another_request: false,
            other_sessions: Vec::new(),
        }
    }

    /// Returns whether the session is loaded, no touch is due, and the request is not being finished.
    pub(crate) fn is_loaded(&self) -> bool {
        self.phase == Phase::Loaded && self.due_touch.is_none() && !self.is_finishing
    }

    /// Returns [`Error::Finished`] if the session is not loaded or is finished, because nothing would store a
    /// change.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        match self.phase {
            Phase::Loaded => Ok(()),
            Phase::Unloaded | Phase::Finished => Err(Error::Finished),
        }
    }

    /// Returns whether finishing the request may have something to do.
    pub(crate) fn needs_finish(&self) -> bool {
        self.phase == Phase::Loaded
    }

    pub(crate) fn source(&self) -> Option<TokenSource> {
        self.credentials.source()
    }

    /// Returns whether a request with an id in its URL may be redirected to the same URL without the id: the
    /// session exists, or a concurrent request has moved it to the cookie and sends the new id.
    pub(crate) fn has_left_urls(&self) -> bool {
        matches!(
            self.status,
            Status::Live | Status::Mute(MuteReason::Superseded | MuteReason::Gone)
        )
    }

    pub(crate) fn is_new(&self) -> bool {
        self.status != Status::Live
    }

    /// Returns the session's id: with the pending secret, if there is one. A session that is not stored gets
    /// its id here.
    pub(crate) fn id(&mut self, shared: &Shared) -> Result<SessionId, Error> {
        match (&self.changes.secret, &self.token) {
            (Some(secret), _) => Ok(*secret.token.id()),
            (None, Some(token)) if self.status == Status::Live => Ok(*token.id()),
            _ => self.unstored_id(shared),
        }
    }

    /// Returns the token that the client will have once the request is finished, as far as that is known now.
    pub(crate) fn token_after_finish(&mut self, shared: &Shared) -> Option<Token> {
        match self.status {
            Status::Live => match &self.changes.secret {
                Some(secret) => Some(secret.token.clone()),
                None => self.token.clone(),
            },
            Status::New if self.has_something_to_create() => {
                self.unstored_id(shared).ok().map(|id| shared.provider.issue(id))
            }
            Status::New | Status::Mute(_) => None,
        }
    }

    /// Returns the value of a stored key, pending changes included.
    pub(crate) fn value(&self, key: &str) -> Option<&[u8]> {
        match self.changes.get(key) {
            Some(value) => value,
            None if self.changes.replace => None,
            None => self.record.values.get(key),
        }
    }

    /// Returns the application's keys that have values, in sorted order.
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

    /// Returns the login, including a pending one.
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

    /// Returns how long the session lives from `now` if it is not used again.
    pub(crate) fn remaining(&self, shared: &Shared, now: Timestamp) -> Duration {
        let lifetime = self.lifetime(shared);
        match self.status {
            Status::Live if !self.has_changes() => lifetime.end(&self.record).since(now),
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

    /// Returns whether there are pending changes that a finish would have saved.
    pub(crate) fn loses_changes(&self) -> bool {
        let is_mute = matches!(self.status, Status::Mute(_));
        self.phase == Phase::Loaded && self.has_changes() && !is_mute
    }

    /// Returns whether a new session has something that is worth storing. Settings alone are not.
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

    /// Returns the value that an update of this key is based on. With `strict`, a mute request gets an error
    /// rather than a value to compute with.
    ///
    /// # Errors
    /// [`Error::Gone`] if the request is mute, unless its changes are [dropped
    /// silently](Self::drops_silently) and `strict` is false.
    pub(crate) fn update_base(&self, key: &str, strict: bool) -> Result<UpdateBase, Error> {
        match self.status {
            Status::Live => {
                let expected: Option<Arc<[u8]>> = self.record.values.get(key).map(Into::into);
                let pending = self.changes.edit(key).cloned();
                let stored = expected.as_ref().filter(|_| !self.changes.replace);
                let current = pending.clone().unwrap_or_else(|| stored.cloned());
                Ok(UpdateBase::Stored {
                    expected,
                    pending,
                    current,
                    replaces: self.changes.replace,
                })
            }
            Status::Mute(_) if strict || !self.drops_silently() => Err(Error::Gone),
            Status::New | Status::Mute(_) => {
                Ok(UpdateBase::InMemory { current: self.value(key).map(Into::into) })
            }
        }
    }

    /// Returns the key of the session, if the session is live.
    pub(crate) fn live_key(&self) -> Option<SessionKey> {
        let token = self.token.as_ref().filter(|_| self.status == Status::Live);
        token.map(Token::key)
    }

    /// Returns whether a mute request drops its changes without an error: its method is safe, and its
    /// response's head is not final.
    pub(crate) fn drops_silently(&self) -> bool {
        self.safe && !self.head_sent
    }

    /// Takes the owner whose login was stored, if one was.
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

/// Returns the record that stands for no session.
fn empty_record(now: Timestamp) -> Record {
    Record::new(Verifier::NOBODY, now, now)
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("phase", &self.phase)
            .field("status", &self.status)
            .field("session", &self.token)
            .field("keys", &self.key_count)
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}
