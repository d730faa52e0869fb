//! The sessions of an owner, page by page.

use std::fmt;

use crate::{SessionKey, Timestamp};

/// Which part of an owner's sessions to list.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Where the page before ended; `None` for the first page.
    pub after: Option<&'a Cursor>,
    /// The number of sessions at most. A page may be shorter and not be the last.
    pub limit: usize,
}

/// Where a page ended, in a form that the provider chooses.
#[derive(Clone, PartialEq, Eq)]
pub struct Cursor(Box<[u8]>);

impl Cursor {
    /// A cursor of these bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes that it was made of.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({} bytes)", self.0.len())
    }
}

/// A page of an owner's sessions.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// Live sessions, in the order of their keys.
    pub sessions: Vec<Summary>,
    /// Where the next page begins; `None` after the last one.
    pub next: Option<Cursor>,
}

/// What a list shows of a session. It opens nothing: lists can be shown and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// What names the session.
    pub key: SessionKey,
    /// When the session was created.
    pub created: Timestamp,
    /// When it was last used, give or take the manager's `touch_every`.
    pub used: Timestamp,
    /// When the store lets it end, unless it is used before.
    pub expires: Timestamp,
    /// When its owner logged in.
    pub authenticated: Timestamp,
    /// The label given at the login: a device's name, as a rule.
    pub label: Box<str>,
}
