//! A store that counts its calls, and fails or stalls on demand.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;

use futures_lite::future::yield_now;
use parking_lot::Mutex;
use session_core::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};

/// What an operation does instead of its usual work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The store can't be reached.
    Down,
    /// The store is full.
    Full,
    /// The record can't be read.
    Unreadable,
    /// The operation does nothing and never completes.
    StallBefore,
    /// The operation is performed, and never completes.
    StallAfter,
    /// The operation is not performed, and returns that it is in doubt.
    DoubtBefore,
    /// The operation is performed, and returns that it is in doubt.
    DoubtAfter,
    /// The operation is performed after all other tasks that are ready have run.
    Late,
    /// The store panics.
    Panic,
}

/// The memory provider, with a journal of calls and with faults.
#[derive(Debug)]
pub(crate) struct Store {
    inner: MemoryProvider,
    calls: Mutex<Vec<&'static str>>,
    /// The faults of the next calls of an operation.
    next: Mutex<BTreeMap<&'static str, VecDeque<Fault>>>,
    /// The fault of an operation until `mend` is called.
    faults: Mutex<BTreeMap<&'static str, Fault>>,
    /// Hooks that are called when the next operation of a name begins.
    hooks: Mutex<BTreeMap<&'static str, Hook>>,
}

struct Hook(Box<dyn FnOnce() + Send>);

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

impl Default for Store {
    fn default() -> Self {
        Self::configured("")
    }
}

impl Store {
    /// Makes a store with this source string.
    pub(crate) fn configured(source: &str) -> Self {
        let config = MemoryConfig::parse(source).expect("the source is right");
        let inner = MemoryProvider::new(config);
        Self {
            inner,
            calls: Mutex::default(),
            next: Mutex::default(),
            faults: Mutex::default(),
            hooks: Mutex::default(),
        }
    }

    /// Returns the calls since this was last called.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.calls.lock())
    }

    /// Makes the operation of this name fail from now on.
    pub(crate) fn sabotage(&self, operation: &'static str, fault: Fault) {
        self.faults.lock().insert(operation, fault);
    }

    /// Makes the next operation of this name fail.
    pub(crate) fn sabotage_once(&self, operation: &'static str, fault: Fault) {
        self.next.lock().entry(operation).or_default().push_back(fault);
    }

    /// Calls the hook when the next operation of this name begins.
    pub(crate) fn before_next(
        &self,
        operation: &'static str,
        hook: impl FnOnce() + Send + 'static,
    ) {
        self.hooks.lock().insert(operation, Hook(Box::new(hook)));
    }

    /// Removes all faults.
    pub(crate) fn mend(&self) {
        self.next.lock().clear();
        self.faults.lock().clear();
    }

    /// Returns the record that the token opens, without an entry in the journal.
    pub(crate) fn peek(&self, token: &Token, now: Timestamp) -> Option<Record> {
        let loaded = futures_lite::future::block_on(self.inner.load(token, now));
        let held = |record: &Record| record.holder == self.inner.verifier(token, "");
        loaded.expect("memory has no faults").filter(held)
    }

    fn call<'a, T: Send + 'a>(
        &self,
        operation: &'static str,
        run: impl FnOnce() -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        self.calls.lock().push(operation);
        let hook = self.hooks.lock().remove(operation);
        if let Some(Hook(run)) = hook {
            run();
        }
        let next = self.next.lock().get_mut(operation).and_then(VecDeque::pop_front);
        let fault = next.or_else(|| self.faults.lock().get(operation).copied());
        let doubt = || Error::InDoubt { source: "cut off by a test".into() };
        match fault {
            None => run(),
            Some(Fault::Down) => ProviderFuture::ready(Err(Error::unavailable("out of order"))),
            Some(Fault::Full) => ProviderFuture::ready(Err(Error::Full { what: "max_bytes" })),
            Some(Fault::Unreadable) => {
                ProviderFuture::ready(Err(Error::Unreadable { reason: "made up by a test" }))
            }
            Some(Fault::DoubtBefore) => ProviderFuture::ready(Err(doubt())),
            Some(Fault::DoubtAfter) => {
                let done = run();
                ProviderFuture::boxed(async move {
                    done.await?;
                    Err(doubt())
                })
            }
            Some(Fault::Panic) => panic!("a store's own"),
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
    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        self.inner.verifier(token, namespace)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.call("create", move || self.inner.create(id, record, now))
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        self.call("load", move || self.inner.load(token, now))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.call("save", move || self.inner.save(token, holder, changes, now))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.call("touch", move || self.inner.touch(token, touch, now))
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        self.call("destroy", move || self.inner.destroy(key, until, now))
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        self.call("list", move || self.inner.list(owner, page, now))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.calls.lock().push("purge");
        self.inner.purge(now, limit)
    }
}
