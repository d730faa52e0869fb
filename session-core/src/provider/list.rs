//! [`Page`] and [`Listed`]: the sessions of an owner, page by page.

use crate::{SessionKey, Timestamp};

/// Which part of an owner's sessions to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The page contains only keys greater than this one, whether its session is still there or not; `None` for
    /// the first page.
    pub after: Option<SessionKey>,
    /// The number of sessions at most. Providers take it as [`size`](Self::size) says.
    pub limit: usize,
}

impl Page {
    /// The most sessions that a page has: 100.
    pub const MAX_SIZE: usize = 100;

    /// Returns the number of sessions that the page has at most: the limit, but at least 1 and at most
    /// [`MAX_SIZE`](Self::MAX_SIZE).
    pub fn size(self) -> usize {
        self.limit.clamp(1, Self::MAX_SIZE)
    }

    /// Truncates a sorted result, queried with limit `size() + 1`, to the page, and returns the key for
    /// [`Listed::next`] if there are more.
    ///
    /// ```
    /// use session_core::SessionKey;
    /// use session_core::provider::Page;
    ///
    /// let key = |n| SessionKey::from_bytes([n; 12]);
    /// let page = Page { after: None, limit: 2 };
    /// let mut found = vec![key(1), key(2), key(3)];
    /// assert_eq!(page.cut(&mut found, |key| Some(*key)), Some(key(2)));
    /// assert_eq!(found, [key(1), key(2)]);
    /// assert_eq!(page.cut(&mut found, |key| Some(*key)), None);
    /// ```
    pub fn cut<T>(
        self,
        found: &mut Vec<T>,
        key: impl FnOnce(&T) -> Option<SessionKey>,
    ) -> Option<SessionKey> {
        let is_last = found.len() <= self.size();
        found.truncate(self.size());
        found.last().filter(|_| !is_last).and_then(key)
    }
}

/// A page of an owner's sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Live sessions, in the order of their keys. There may be fewer than the page has room for, or none,
    /// though others follow.
    pub sessions: Vec<Summary>,
    /// [`Page::after`] of the next page; `None` after the last one.
    pub next: Option<SessionKey>,
}

/// A session in a list. It contains no secret, so lists can be shown and logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The session's key.
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
