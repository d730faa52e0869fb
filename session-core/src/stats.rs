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
    /// Sessions that got a new id.
    pub regenerated: u64,
    /// Sessions ended by a handler.
    pub destroyed: u64,
    /// Loads that found the absolute lifetime over.
    pub expired: u64,
    /// Saves and renames that found the session ended or renamed.
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
    pub(crate) destroyed: Counter,
    pub(crate) expired: Counter,
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
            destroyed: self.destroyed.get(),
            expired: self.expired.get(),
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
