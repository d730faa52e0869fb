//! [`Changes`]: the changes of a request, which a save applies to the stored record.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::{Login, Note, Token, Values, Verifier};
use crate::{Limits, Timestamp};

/// A use of the session, as it moves the two times of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// When the session was used.
    pub used: Timestamp,
    /// When it ends if it is not used again.
    pub expires: Timestamp,
}

/// What a save does to a record's two times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryChange {
    /// Leaves them as they are.
    #[default]
    Keep,
    /// Moves each forward, or leaves it where it lies later already: the sliding expiry, in which a
    /// late request must not undo a newer one.
    Extend(Touch),
    /// Moves `used` forward, and sets `expires` even if it is earlier: the lifetime changed.
    Set(Touch),
}

impl ExpiryChange {
    /// Returns the times `used` and `expires` after this change.
    #[must_use]
    pub fn apply(self, used: Timestamp, expires: Timestamp) -> (Timestamp, Timestamp) {
        match self {
            Self::Keep => (used, expires),
            Self::Extend(touch) => (used.max(touch.used), expires.max(touch.expires)),
            Self::Set(touch) => (used.max(touch.used), touch.expires),
        }
    }
}

/// One key's condition on the stored record.
#[derive(Clone, PartialEq, Eq)]
pub struct Expected {
    /// The key.
    pub key: Arc<str>,
    /// Its encoded value, or `None` for a key that must not be there.
    pub value: Option<Arc<[u8]>>,
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expected({:?})", self.key)
    }
}

/// A new id for a session: another secret under the same key.
#[derive(Clone, Debug)]
pub struct NewSecret {
    /// What the client is to carry, as far as it can be told before the save.
    pub token: Token,
    /// The verifier to store in place of the old one.
    pub holder: Verifier,
    /// When it was made; becomes [`Record::renewed`](super::Record::renewed).
    pub at: Timestamp,
}

/// The new encoded value of a key, or its end.
type Edit = Option<Arc<[u8]>>;

/// The keys that a request set or deleted, and what else a save applies to the stored record, all
/// at once or not at all. Cheap to clone: clones share keys and values.
#[derive(Clone)]
pub struct Changes {
    /// Sorted by key. Most requests change one.
    entries: SmallVec<[(Arc<str>, Edit); 1]>,
    /// Whether stored keys that are not set here are deleted, whatever they are by then: the session
    /// gets another owner.
    pub replace: bool,
    /// Apply nothing, and return [`Conflict`](crate::Error::Conflict), unless all of these hold.
    pub expected: SmallVec<[Expected; 1]>,
    /// What happens to the times.
    pub expiry: ExpiryChange,
    /// The login to store; `Some(None)` removes it.
    pub login: Option<Option<Box<Login>>>,
    /// The new secret.
    pub secret: Option<Box<NewSecret>>,
    /// The new [`Record::cookie`](super::Record::cookie); `None` leaves the stored one.
    pub cookie: Option<u32>,
    /// The limits that the merged record must keep, where the provider can tell.
    pub limits: Limits,
    /// The [note](super::Record::note) of the record that these changes build on.
    pub seen: Note,
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

impl Changes {
    /// Returns empty changes.
    pub const fn new() -> Self {
        Self {
            entries: SmallVec::new_const(),
            replace: false,
            expected: SmallVec::new_const(),
            expiry: ExpiryChange::Keep,
            login: None,
            secret: None,
            cookie: None,
            limits: Limits::DEFAULT,
            seen: None,
        }
    }

    /// Sets a key to an encoded value.
    pub fn set(&mut self, key: &str, value: impl Into<Arc<[u8]>>) {
        self.put(key, Some(value.into()));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: &str) {
        self.put(key, None);
    }

    /// Removes the pending change of a key.
    pub(crate) fn forget(&mut self, key: &str) {
        if let Ok(at) = self.position(key) {
            self.entries.remove(at);
        }
    }

    /// Removes the pending changes whose value equals the saved one.
    pub(crate) fn forget_saved(&mut self, saved: &Self) {
        self.entries.retain(|(key, value)| saved.edit(key) != Some(value));
    }

    /// Removes the pending changes whose value equals the stored one.
    pub(crate) fn forget_stored(&mut self, values: &Values) {
        self.entries.retain(|(key, value)| values.get(key) != value.as_deref());
    }

    /// Returns these changes under the condition that `key` still has this encoded value, or none.
    #[must_use]
    pub fn expecting(mut self, key: &str, value: Option<&[u8]>) -> Self {
        self.expected.push(Expected { key: key.into(), value: value.map(Into::into) });
        self
    }

    /// Returns these changes with this change of the times.
    #[must_use]
    pub fn with_expiry(mut self, expiry: ExpiryChange) -> Self {
        self.expiry = expiry;
        self
    }

    /// Returns these changes with this login, or its removal.
    #[must_use]
    pub fn with_login(mut self, login: Option<Box<Login>>) -> Self {
        self.login = Some(login);
        self
    }

    /// Returns these changes with a new secret.
    #[must_use]
    pub fn with_secret(mut self, secret: NewSecret) -> Self {
        self.secret = Some(Box::new(secret));
        self
    }

    /// Returns these changes, which also [replace](Self::replace) everything that is stored.
    #[must_use]
    pub fn replacing(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Returns the change of a key: `None` if it is not changed, `Some(None)` if it is deleted.
    pub fn get(&self, key: &str) -> Option<Option<&[u8]>> {
        self.edit(key).map(|value| value.as_deref())
    }

    /// Returns the changed keys in order, with their new values, or `None` for deleted ones.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.entries.iter().map(|(key, value)| (&**key, value.as_deref()))
    }

    /// Returns the changed keys in order.
    pub(crate) fn keys(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.entries.iter().map(|(key, _)| key)
    }

    /// Returns whether no key is set or deleted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && !self.replace
    }

    /// Returns whether these changes set a new secret that has this verifier.
    pub fn secret_is(&self, holder: &Verifier) -> bool {
        self.secret.as_deref().is_some_and(|secret| secret.holder == *holder)
    }

    /// Returns the change of a key; cloning it shares the value.
    pub(crate) fn edit(&self, key: &str) -> Option<&Edit> {
        self.position(key).ok().map(|at| &self.entries[at].1)
    }

    /// Sets or deletes a key that is shared already, under the expectation that it has this value.
    pub(crate) fn exchange(&mut self, key: &Arc<str>, expected: Edit, value: Edit) {
        self.expected.push(Expected { key: Arc::clone(key), value: expected });
        self.put_with(key, || Arc::clone(key), value);
    }

    fn put(&mut self, key: &str, value: Edit) {
        self.put_with(key, || key.into(), value);
    }

    fn put_with(&mut self, key: &str, shared: impl FnOnce() -> Arc<str>, value: Edit) {
        match self.position(key) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (shared(), value)),
        }
    }

    fn position(&self, key: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(other, _)| (**other).cmp(key))
    }
}

impl fmt::Debug for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changes")
            .field("keys", &self.entries.len())
            .field("replace", &self.replace)
            .field("expected", &self.expected.len())
            .field("expiry", &self.expiry)
            .field("login", &self.login.is_some())
            .field("secret", &self.secret.is_some())
            .finish_non_exhaustive()
    }
}
