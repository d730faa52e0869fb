//! A store that counts its calls, and fails or stalls on demand.

use std::collections::BTreeMap;
use std::future::pending;

use futures_lite::future::yield_now;
use parking_lot::Mutex;
use session_core::{
    Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};
use session_memory::{MemoryConfig, MemoryProvider};

/// What happens to an operation instead of the usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The store can't be reached.
    Down,
    /// The store holds as much as it may.
    Full,
    /// The record can't be read.
    Unreadable,
    /// Nothing happens, ever.
    StallBefore,
    /// It happens, and the answer never comes.
    StallAfter,
    /// It happens once all others who want to run did.
    Late,
}

/// The memory provider behind a journal of calls and a list of faults.
#[derive(Debug)]
pub(crate) struct Store {
    inner: MemoryProvider,
    calls: Mutex<Vec<&'static str>>,
    faults: Mutex<BTreeMap<&'static str, Fault>>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            inner: MemoryProvider::new(MemoryConfig::default()),
            calls: Mutex::default(),
            faults: Mutex::default(),
        }
    }
}

impl Store {
    /// The calls since this was last asked.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.calls.lock())
    }

    /// From now on, the operation of this name fails.
    pub(crate) fn sabotage(&self, operation: &'static str, fault: Fault) {
        self.faults.lock().insert(operation, fault);
    }

    /// From now on, no operation fails.
    pub(crate) fn mend(&self) {
        self.faults.lock().clear();
    }

    /// The stored record, without a call that counts.
    pub(crate) fn peek(&self, token: &Token, now: Timestamp) -> Option<Record> {
        futures_lite::future::block_on(self.inner.load(token, now)).expect("memory answers")
    }

    fn call<'a, T: Send + 'a>(
        &self,
        operation: &'static str,
        run: impl FnOnce() -> ProviderFuture<'a, Result<T, Error>> + Send + 'a,
    ) -> ProviderFuture<'a, Result<T, Error>> {
        self.calls.lock().push(operation);
        let fault = self.faults.lock().get(operation).copied();
        match fault {
            None => run(),
            Some(Fault::Down) => ProviderFuture::ready(Err(Error::unavailable("out of order"))),
            Some(Fault::Full) => ProviderFuture::ready(Err(Error::Full { what: "max_bytes" })),
            Some(Fault::Unreadable) => {
                ProviderFuture::ready(Err(Error::Unreadable { reason: "made up by a test" }))
            }
            Some(Fault::StallBefore) => ProviderFuture::boxed(pending()),
            Some(Fault::StallAfter) => ProviderFuture::boxed(async {
                drop(run().await);
                pending().await
            }),
            Some(Fault::Late) => ProviderFuture::boxed(async {
                for _ in 0..10 {
                    yield_now().await;
                }
                run().await
            }),
        }
    }
}

impl Provider for Store {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.call("create", move || self.inner.create(id, record, now))
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        self.call("load", move || self.inner.load(token, now))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.call("save", move || self.inner.save(token, changes, now))
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.call("rename", move || self.inner.rename(token, new_id, now))
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        self.call("destroy", move || self.inner.destroy(token, now))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.call("touch", move || self.inner.touch(token, expires, now))
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.calls.lock().push("purge");
        self.inner.purge(now, limit)
    }
}
