//! What a request changed.

use std::fmt;

use smallvec::SmallVec;

use crate::{Limits, Timestamp};

/// What to do with the stored expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiryChange {
    /// Leave it as it is.
    #[default]
    Keep,
    /// Move it to this instant unless it lies later already: the sliding expiry, in which a late
    /// request must not undo a newer one.
    Extend(Timestamp),
    /// Move it to this instant even if that is earlier: the handler changed the lifetime.
    Set(Timestamp),
}

impl ExpiryChange {
    /// The expiry after this change.
    #[must_use]
    pub fn apply(self, stored: Timestamp) -> Timestamp {
        match self {
            Self::Keep => stored,
            Self::Extend(expires) => stored.max(expires),
            Self::Set(expires) => expires,
        }
    }
}

/// One key's condition on the stored record.
#[derive(Clone, PartialEq, Eq)]
pub struct Expected {
    /// The key.
    pub key: Box<str>,
    /// Its encoded value, or `None` for a key that must not be there.
    pub value: Option<Box<[u8]>>,
}

impl fmt::Debug for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expected({:?})", self.key)
    }
}

/// The new encoded value of a key, or its end.
type Edit = Option<Box<[u8]>>;

/// The keys that a request set or deleted, and what else a save applies to the stored record, all
/// at once or not at all.
#[derive(Clone, PartialEq, Eq)]
pub struct Changes {
    /// Sorted by key. Most requests change one.
    entries: SmallVec<[(Box<str>, Edit); 1]>,
    /// Apply nothing, and answer [`Conflict`](crate::Error::Conflict), unless this still holds.
    pub expected: Option<Expected>,
    /// What happens to the expiry.
    pub expiry: ExpiryChange,
    /// The owner to store: `Some(None)` removes it.
    pub owner: Option<Option<Box<str>>>,
    /// The limits that the merged record must keep, where the provider can tell.
    pub limits: Limits,
}

impl Default for Changes {
    fn default() -> Self {
        Self::new()
    }
}

impl Changes {
    /// No changes.
    pub const fn new() -> Self {
        Self {
            entries: SmallVec::new_const(),
            expected: None,
            expiry: ExpiryChange::Keep,
            owner: None,
            limits: Limits::DEFAULT,
        }
    }

    /// Sets a key to an encoded value.
    pub fn set(&mut self, key: &str, value: impl Into<Box<[u8]>>) {
        self.put(key, Some(value.into()));
    }

    /// Deletes a key.
    pub fn delete(&mut self, key: &str) {
        self.put(key, None);
    }

    /// Forgets what was to happen to a key.
    pub fn forget(&mut self, key: &str) {
        if let Ok(at) = self.position(key) {
            self.entries.remove(at);
        }
    }

    /// These changes, only where `key` still has this encoded value, or none.
    #[must_use]
    pub fn expecting(mut self, key: &str, value: Option<&[u8]>) -> Self {
        self.expected = Some(Expected { key: key.into(), value: value.map(Into::into) });
        self
    }

    /// These changes with this change of the expiry.
    #[must_use]
    pub fn with_expiry(mut self, expiry: ExpiryChange) -> Self {
        self.expiry = expiry;
        self
    }

    /// What happens to a key: `None` if nothing, `Some(None)` if it is deleted.
    pub fn get(&self, key: &str) -> Option<Option<&[u8]>> {
        let at = self.position(key).ok()?;
        Some(self.entries[at].1.as_deref())
    }

    /// The changed keys in order, with their new values, or `None` for deleted ones.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.entries.iter().map(|(key, value)| (&**key, value.as_deref()))
    }

    /// Whether no key is set or deleted.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn put(&mut self, key: &str, value: Edit) {
        match self.position(key) {
            Ok(at) => self.entries[at].1 = value,
            Err(at) => self.entries.insert(at, (key.into(), value)),
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
            .field("expected", &self.expected.is_some())
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}
