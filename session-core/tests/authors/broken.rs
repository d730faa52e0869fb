//! Breakages of a provider that its own tests would not show, and the case that finds each.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use session_core::conformance::{Capabilities, Case, Harness, Proxy};
use session_core::provider::{
    Answer, Changes, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::blobs::BlobStore;

/// What is wrong with a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Breakage {
    /// Nothing.
    None,
    /// A touch leaves the store's timer where it was.
    TouchLeavesTimer,
    /// A save leaves the store's timer where it was.
    SaveLeavesTimer,
    /// The size is counted along with each save, and what is overwritten is not subtracted.
    SizeDrifts,
    /// Who is logged in is kept as one key more, which counts.
    OwnerCountsAsKey,
    /// What can't be read is taken for a store that failed.
    DamageIsUnavailable,
    /// A lost answer is taken for a request that never arrived.
    LostAnswerIsUnavailable,
}

/// The blob store with a breakage.
struct BrokenStore {
    store: BlobStore,
    breakage: Breakage,
    books: Arc<Mutex<Books>>,
}

/// What a broken provider remembers of each session.
#[derive(Default, Debug)]
struct Books {
    timers: BTreeMap<SessionKey, Timestamp>,
    sizes: BTreeMap<SessionKey, usize>,
}

impl BrokenStore {
    fn new(breakage: Breakage) -> Self {
        Self { store: BlobStore::new(), breakage, books: Arc::default() }
    }

    fn broken(&self, inner: Arc<dyn Provider>) -> Arc<dyn Provider> {
        Arc::new(Broken { inner, breakage: self.breakage, books: Arc::clone(&self.books) })
    }
}

impl Harness for BrokenStore {
    fn provider(&self) -> Arc<dyn Provider> {
        self.broken(self.store.provider())
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    fn store_expiry(&self, key: &SessionKey) -> Option<Timestamp> {
        let left_behind = self.books.lock().expect("no thread panics").timers.get(key).copied();
        left_behind.or_else(|| self.store.store_expiry(key))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        self.store.damage(key)
    }

    fn through(&self, proxy: &Proxy) -> Option<Arc<dyn Provider>> {
        self.store.through(proxy).map(|provider| self.broken(provider))
    }
}

#[derive(Debug)]
struct Broken {
    inner: Arc<dyn Provider>,
    breakage: Breakage,
    books: Arc<Mutex<Books>>,
}

impl Broken {
    /// The store's timer is left where it is at the first time, from then on.
    fn leave_timer(&self, key: SessionKey, expires: Option<Timestamp>) {
        if let Some(expires) = expires {
            let mut books = self.books.lock().expect("no thread panics");
            books.timers.entry(key).or_insert(expires);
        }
    }

    async fn expires(&self, token: &Token, now: Timestamp) -> Option<Timestamp> {
        let loaded = self.inner.load(token, now).await;
        Some(loaded.ok()??.expires)
    }

    fn told<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match (self.breakage, result) {
            (Breakage::LostAnswerIsUnavailable, Err(Error::InDoubt { source })) => {
                Err(Error::Unavailable { source })
            }
            (Breakage::DamageIsUnavailable, Err(Error::Unreadable { reason })) => {
                Err(Error::unavailable(reason))
            }
            (_, result) => result,
        }
    }

    /// What the store is asked to do in the place of these changes.
    async fn broken(
        &self,
        token: &Token,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Changes, Error> {
        let mut broken = changes.clone();
        match self.breakage {
            Breakage::SizeDrifts => {
                let mut books = self.books.lock().expect("no thread panics");
                let size = books.sizes.entry(token.key()).or_default();
                let set = changes.iter().filter_map(|(key, value)| Some(key.len() + value?.len()));
                let counted = *size + set.sum::<usize>();
                if counted > changes.limits.bytes {
                    return Err(Error::TooLarge {
                        what: "session bytes",
                        limit: changes.limits.bytes,
                    });
                }
                *size = counted;
            }
            Breakage::OwnerCountsAsKey => {
                let stored = self.inner.load(token, now).await.ok().flatten();
                let is_owned = stored.is_some_and(|record| record.login.is_some());
                if is_owned || matches!(changes.login, Some(Some(_))) {
                    broken.limits.keys -= 1;
                }
            }
            _ => {}
        }
        Ok(broken)
    }
}

impl Provider for Broken {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move { self.told(self.inner.create(id, record, now).await) })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        ProviderFuture::boxed(async move { self.told(self.inner.load(token, now).await) })
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            if self.breakage == Breakage::SaveLeavesTimer {
                self.leave_timer(token.key(), self.expires(token, now).await);
            }
            let changes = self.broken(token, changes, now).await?;
            self.told(self.inner.save(token, holder, &changes, now).await)
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            if self.breakage == Breakage::TouchLeavesTimer {
                self.leave_timer(token.key(), self.expires(token, now).await);
            }
            self.told(self.inner.touch(token, touch, now).await)
        })
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        ProviderFuture::boxed(async move { self.told(self.inner.destroy(key, until, now).await) })
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.inner.purge(now, limit)
    }
}

/// The cases that look for these breakages, and which of them finds which.
const FOUND_BY: [(Breakage, &str); 6] = [
    (Breakage::TouchLeavesTimer, "a_touch_moves_the_stores_own_expiry"),
    (Breakage::SaveLeavesTimer, "a_save_moves_the_stores_own_expiry"),
    (Breakage::SizeDrifts, "overwriting_adds_nothing_to_the_size"),
    (Breakage::OwnerCountsAsKey, "an_owner_takes_no_room"),
    (Breakage::DamageIsUnavailable, "a_damaged_record_is_unreadable"),
    (Breakage::LostAnswerIsUnavailable, "a_write_whose_answer_is_lost_is_never_called_undone"),
];

/// What a case says of a provider; `None` if it passes.
fn verdict(name: &str, breakage: Breakage) -> Option<String> {
    let store = BrokenStore::new(breakage);
    let run = catch_unwind(AssertUnwindSafe(|| Case::named(name).run(&store)));
    let panicked = run.err()?;
    let text = panicked.downcast::<String>().map(|text| *text);
    Some(text.unwrap_or_else(|other| match other.downcast::<&str>() {
        Ok(text) => (*text).to_owned(),
        Err(_) => panic!("a panic has a text"),
    }))
}

#[test]
fn each_breakage_is_found_by_its_case_and_by_no_other() {
    for (breakage, finder) in FOUND_BY {
        for (_, name) in FOUND_BY {
            let verdict = verdict(name, breakage);
            assert_eq!(verdict.is_some(), name == finder, "{breakage:?}, {name}: {verdict:?}");
        }
    }
}

#[test]
fn a_provider_without_a_breakage_passes_them_all() {
    for (_, name) in FOUND_BY {
        assert_eq!(verdict(name, Breakage::None), None, "{name}");
    }
}

/// Whoever reads a failure should not need the suite's source: it names what was asked for and what came.
#[test]
fn a_failure_says_what_is_wrong() {
    for (breakage, words) in [
        (Breakage::TouchLeavesTimer, &["touched to", "the record expires at", "lets it go at"][..]),
        (Breakage::SaveLeavesTimer, &["saved with", "the record expires at", "lets it go at"]),
        (Breakage::SizeDrifts, &["300 bytes are not reached", "TooLarge"]),
        (Breakage::OwnerCountsAsKey, &["10 keys fit these limits beside an owner", "TooLarge"]),
        (Breakage::DamageIsUnavailable, &["returns Err(Unavailable", "not Unreadable"]),
        (Breakage::LostAnswerIsUnavailable, &["returned Err(Unavailable", "and is stored"]),
    ] {
        let (_, finder) =
            FOUND_BY.into_iter().find(|(found, _)| *found == breakage).expect("listed");
        let verdict = verdict(finder, breakage).expect("it is found");
        for words in words {
            assert!(verdict.contains(words), "{breakage:?}: {words:?} is not in {verdict:?}");
        }
    }
}
