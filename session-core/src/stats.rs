//! Counters of a manager.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a manager counted since it was opened.
///
/// Loads and saves are not among them: a counter that every request moves would be the one thing
/// that all processors fight over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions stored for the first time.
    pub created: u64,
    /// Sessions that got a new id, by a login or otherwise.
    pub regenerated: u64,
    /// Logins.
    pub logins: u64,
    /// Logins that lost a race and went on in a session of their own.
    pub forked: u64,
    /// Sessions ended by a handler.
    pub destroyed: u64,
    /// Loads that found a lifetime over which the store took for live.
    pub expired: u64,
    /// Loads with an id that had been replaced a moment ago.
    pub superseded: u64,
    /// Loads of a live session with a secret that is not its own.
    pub wrong_secret: u64,
    /// Requests that could not store what they wanted to, as their session had ended or got a new id.
    pub dropped: u64,
    /// Saves that found the session ended or with a new id.
    pub gone: u64,
    /// Atomic updates that had to try again.
    pub conflicts: u64,
    /// Expired records removed by collection.
    pub purged: u64,
    /// Rounds of collection that failed or panicked.
    pub purge_failures: u64,
    /// Records that could not be read.
    pub unreadable: u64,
    /// Tokens that were malformed and went no further.
    pub malformed: u64,
    /// Store operations that failed because the store was down, full or in doubt.
    pub unavailable: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) created: Counter,
    pub(crate) regenerated: Counter,
    pub(crate) logins: Counter,
    pub(crate) forked: Counter,
    pub(crate) destroyed: Counter,
    pub(crate) expired: Counter,
    pub(crate) superseded: Counter,
    pub(crate) wrong_secret: Counter,
    pub(crate) dropped: Counter,
    pub(crate) gone: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) purged: Counter,
    pub(crate) purge_failures: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) malformed: Counter,
    pub(crate) unavailable: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            created: self.created.get(),
            regenerated: self.regenerated.get(),
            logins: self.logins.get(),
            forked: self.forked.get(),
            destroyed: self.destroyed.get(),
            expired: self.expired.get(),
            superseded: self.superseded.get(),
            wrong_secret: self.wrong_secret.get(),
            dropped: self.dropped.get(),
            gone: self.gone.get(),
            conflicts: self.conflicts.get(),
            purged: self.purged.get(),
            purge_failures: self.purge_failures.get(),
            unreadable: self.unreadable.get(),
            malformed: self.malformed.get(),
            unavailable: self.unavailable.get(),
        }
    }
}
