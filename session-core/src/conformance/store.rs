//! A provider's operations, each run to its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::sample::HOUR;
use super::{Capabilities, Harness};
use crate::{Changes, Error, Provider, Purged, Record, SessionId, Timestamp, Token};

/// Runs a future to its end, as the harness does, and answers its outcome.
pub(crate) fn wait<T>(harness: &dyn Harness, future: impl Future<Output = T>) -> T {
    let mut outcome = None;
    harness.block_on(Box::pin(async { outcome = Some(future.await) }));
    outcome.expect("block_on runs the future to its end")
}

/// A case's view of the store.
pub(crate) struct Store<'h> {
    harness: &'h dyn Harness,
    provider: Arc<dyn Provider>,
    /// The time at which the case begins.
    pub(crate) now: Timestamp,
    pub(crate) can: Capabilities,
}

impl<'h> Store<'h> {
    pub(crate) fn open(harness: &'h dyn Harness) -> Self {
        Self {
            harness,
            provider: harness.provider(),
            now: harness.now(),
            can: harness.capabilities(),
        }
    }

    /// The same store as another process sees it.
    pub(crate) fn another(&self) -> Self {
        Self { provider: self.harness.another(), ..Self::open(self.harness) }
    }

    pub(crate) fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    /// The time so much later.
    pub(crate) fn after(&self, time: Duration) -> Timestamp {
        self.now.saturating_add(time)
    }

    /// An instant at which sample records are long expired and due for collection.
    pub(crate) fn much_later(&self) -> Timestamp {
        self.after(4 * HOUR)
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        wait(self.harness, future)
    }

    pub(crate) fn create(
        &self,
        id: &SessionId,
        record: &Record,
        now: Timestamp,
    ) -> Result<Token, Error> {
        self.wait(self.provider.create(id, record.clone(), now))
    }

    /// Stores a record under a new id.
    pub(crate) fn stored(&self, record: &Record) -> Token {
        let token = self.create(&super::sample::id(), record, self.now);
        token.expect("a record of a new id is stored")
    }

    pub(crate) fn load(&self, token: &Token, now: Timestamp) -> Result<Option<Record>, Error> {
        self.wait(self.provider.load(token, now))
    }

    /// The record, if it is live at the beginning of the case.
    pub(crate) fn found(&self, token: &Token) -> Option<Record> {
        self.found_at(token, self.now)
    }

    pub(crate) fn found_at(&self, token: &Token, now: Timestamp) -> Option<Record> {
        self.load(token, now).expect("loading works")
    }

    pub(crate) fn save(
        &self,
        token: &Token,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Token, Error> {
        self.wait(self.provider.save(token, changes, now))
    }

    /// Saves changes that are bound to succeed; answers the token to use from then on.
    pub(crate) fn saved(&self, token: &Token, changes: &Changes) -> Token {
        self.save(token, changes, self.now).expect("a live record is saved")
    }

    pub(crate) fn rename(
        &self,
        token: &Token,
        new_id: &SessionId,
        now: Timestamp,
    ) -> Result<Token, Error> {
        self.wait(self.provider.rename(token, new_id, now))
    }

    pub(crate) fn destroy(&self, token: &Token, now: Timestamp) -> Result<(), Error> {
        self.wait(self.provider.destroy(token, now))
    }

    pub(crate) fn touch(
        &self,
        token: &Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Token, Error> {
        self.wait(self.provider.touch(token, expires, now))
    }

    pub(crate) fn count(&self, now: Timestamp) -> Result<u64, Error> {
        self.wait(self.provider.count(now))
    }

    pub(crate) fn purge(&self, now: Timestamp, limit: usize) -> Purged {
        self.provider.purge(now, limit).expect("collection works")
    }

    /// Purges until nothing more is said to remain; answers how many records were removed.
    pub(crate) fn drain(&self, now: Timestamp, limit: usize) -> usize {
        let mut removed = 0;
        for _ in 0..100_000 {
            let slice = self.purge(now, limit);
            removed += slice.removed;
            if !slice.more {
                return removed;
            }
        }
        panic!("purge says for ever that more remains");
    }
}
