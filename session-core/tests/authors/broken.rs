//! Breakages of a provider that its own tests would not show, and the case that finds each.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use session_core::conformance::{Capabilities, Case, Harness, Proxy};
use session_core::provider::{
    Answer, Changes, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::blobs::{BlobProvider, BlobStore, Client};

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
    /// A record that replaces an expired one gets that one's timer.
    CreateKeepsTimer,
    /// The store's timer is set by the system's clock instead of the caller's.
    TimerBySystemClock,
    /// The store's timer is a 32-bit number of milliseconds, which overflows.
    TimerWraps,
    /// An operation waits for the server without a time limit.
    NoTimeLimit,
    /// An operation blocks its thread while it waits for the server.
    PollBlocks,
    /// The verifier is the same in all namespaces.
    OneNamespace,
    /// The verifier is the secret.
    PlainSecret,
    /// A handle of another process caches a loaded record until it changes the record itself.
    StaleLoads,
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
    created: BTreeMap<SessionKey, Timestamp>,
    sizes: BTreeMap<SessionKey, usize>,
}

impl BrokenStore {
    fn new(breakage: Breakage) -> Self {
        Self { store: BlobStore::new(), breakage, books: Arc::default() }
    }

    fn broken(&self, inner: Arc<dyn Provider>) -> Arc<dyn Provider> {
        let (breakage, books) = (self.breakage, Arc::clone(&self.books));
        Arc::new(Broken { inner, breakage, books, loaded: None })
    }
}

impl Harness for BrokenStore {
    fn provider(&self) -> Arc<dyn Provider> {
        self.broken(self.store.provider())
    }

    fn another(&self) -> Arc<dyn Provider> {
        let (inner, breakage) = (self.store.another(), self.breakage);
        let loaded = (breakage == Breakage::StaleLoads).then(Mutex::default);
        Arc::new(Broken { inner, breakage, books: Arc::clone(&self.books), loaded })
    }

    /// The system's clock is behind this time, so a timer that is set by it only has too long a margin.
    fn now(&self) -> Timestamp {
        match self.breakage {
            Breakage::TimerBySystemClock => Timestamp::from_millis(4_000_000_000_000),
            _ => self.store.now(),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    fn rounds(&self) -> usize {
        20
    }

    fn store_expiry(&self, key: &SessionKey, now: Timestamp) -> Option<Timestamp> {
        let left_behind = self.books.lock().expect("no thread panics").timers.get(key).copied();
        let timer = left_behind.or_else(|| self.store.store_expiry(key, now))?;
        let left = timer.since(now);
        Some(match self.breakage {
            Breakage::TimerBySystemClock => {
                now.saturating_add(timer.since(Timestamp::from(SystemTime::now())))
            }
            Breakage::TimerWraps => {
                now.saturating_add(Duration::from_millis((left.as_millis() as u32).into()))
            }
            _ => timer,
        })
    }

    fn damage(&self, key: &SessionKey) -> bool {
        self.store.damage(key)
    }

    fn through(&self, proxy: &Proxy) -> Option<Arc<dyn Provider>> {
        let address = proxy.forward_to(self.store.address().to_string());
        let limit = (self.breakage != Breakage::NoTimeLimit).then_some(Duration::from_secs(1));
        let client = Client::new(address, limit, self.breakage == Breakage::PollBlocks);
        Some(self.broken(Arc::new(BlobProvider::new(client))))
    }

    fn time_limit(&self) -> Duration {
        Duration::from_secs(5)
    }
}

#[derive(Debug)]
struct Broken {
    inner: Arc<dyn Provider>,
    breakage: Breakage,
    books: Arc<Mutex<Books>>,
    /// The records that a handle of another process has cached, if it does.
    loaded: Option<Mutex<BTreeMap<SessionKey, Record>>>,
}

impl Broken {
    /// Drops a session that this handle changes from the cache.
    fn changes(&self, key: &SessionKey) {
        if let Some(loaded) = &self.loaded {
            loaded.lock().expect("no thread panics").remove(key);
        }
    }

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
    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        match self.breakage {
            Breakage::OneNamespace => Verifier::digest(token.id(), ""),
            Breakage::PlainSecret => Verifier::plain(token.id(), namespace),
            _ => self.inner.verifier(token, namespace),
        }
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        if self.breakage == Breakage::CreateKeepsTimer {
            let mut books = self.books.lock().expect("no thread panics");
            if let Some(old) = books.created.insert(id.key(), record.expires) {
                books.timers.insert(id.key(), old.saturating_add(MARGIN));
            }
        }
        ProviderFuture::boxed(async move { self.told(self.inner.create(id, record, now).await) })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        ProviderFuture::boxed(async move {
            let Some(known) = &self.loaded else {
                return self.told(self.inner.load(token, now).await);
            };
            let known = || known.lock().expect("no thread panics");
            let stale = known().get(&token.key()).cloned();
            if stale.is_some() {
                return Ok(stale);
            }
            let loaded = self.inner.load(token, now).await?;
            known().extend(loaded.clone().map(|record| (token.key(), record)));
            Ok(loaded)
        })
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
            let saved = self.inner.save(token, holder, &changes, now).await;
            if saved.is_ok() {
                self.changes(&token.key());
            }
            self.told(saved)
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
            self.changes(&token.key());
            self.told(self.inner.touch(token, touch, now).await)
        })
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        self.changes(key);
        ProviderFuture::boxed(async move { self.told(self.inner.destroy(key, until, now).await) })
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.inner.purge(now, limit)
    }
}

/// How much longer than a record's life the provider sets the server's timer to.
const MARGIN: Duration = Duration::from_secs(10 * 60);

const STALLS: &str = "a_server_that_stalls_is_an_error_in_time";

/// The breakages, each with the cases that find it.
const FOUND_BY: [(Breakage, &[&str]); 14] = [
    (Breakage::TouchLeavesTimer, &["a_touch_moves_the_stores_own_expiry"]),
    (Breakage::SaveLeavesTimer, &["a_save_moves_the_stores_own_expiry"]),
    (Breakage::SizeDrifts, &["overwriting_adds_nothing_to_the_size"]),
    (Breakage::OwnerCountsAsKey, &["an_owner_takes_no_room"]),
    (Breakage::DamageIsUnavailable, &["a_damaged_record_is_unreadable"]),
    (
        Breakage::LostAnswerIsUnavailable,
        &["a_write_whose_answer_is_lost_is_never_called_undone", STALLS],
    ),
    (Breakage::CreateKeepsTimer, &["a_create_sets_the_stores_own_expiry"]),
    (
        Breakage::TimerBySystemClock,
        &[
            "a_create_sets_the_stores_own_expiry",
            "a_touch_moves_the_stores_own_expiry",
            "a_save_moves_the_stores_own_expiry",
        ],
    ),
    (Breakage::TimerWraps, &["a_create_sets_the_stores_own_expiry"]),
    (Breakage::NoTimeLimit, &[STALLS]),
    (Breakage::PollBlocks, &["an_operation_that_waits_lets_others_run"]),
    (Breakage::OneNamespace, &["an_id_of_another_namespace_is_a_strangers"]),
    (Breakage::PlainSecret, &["a_record_has_no_secret"]),
    (Breakage::StaleLoads, &["racing_increments_lose_none"]),
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

fn finders() -> BTreeSet<&'static str> {
    FOUND_BY.iter().flat_map(|(_, finders)| finders.iter().copied()).collect()
}

#[test]
fn each_breakage_is_found_by_its_cases_and_by_no_other() {
    // In parallel, because some cases wait for time limits.
    thread::scope(|scope| {
        for (breakage, found_by) in FOUND_BY {
            scope.spawn(move || {
                for name in finders() {
                    let verdict = verdict(name, breakage);
                    let is_right = verdict.is_some() == found_by.contains(&name);
                    assert!(is_right, "{breakage:?}, {name}: {verdict:?}");
                }
            });
        }
    });
}

#[test]
fn a_provider_without_a_breakage_passes_them_all() {
    for name in finders() {
        assert_eq!(verdict(name, Breakage::None), None, "{name}");
    }
}

/// A failure can be understood without the suite's source: it says what was done and what was found.
#[test]
fn a_failure_says_what_is_wrong() {
    for (breakage, words) in [
        (Breakage::TouchLeavesTimer, &["touched at", "the record expires at", "lets it go at"][..]),
        (Breakage::SaveLeavesTimer, &["saved at", "the record expires at", "lets it go at"]),
        (Breakage::SizeDrifts, &["300 bytes are not reached", "TooLarge"]),
        (Breakage::OwnerCountsAsKey, &["10 keys fit these limits beside an owner", "TooLarge"]),
        (Breakage::DamageIsUnavailable, &["returns Err(Unavailable", "not Unreadable"]),
        (Breakage::LostAnswerIsUnavailable, &["returned Err(Unavailable", "and is stored"]),
        (Breakage::CreateKeepsTimer, &["in the place of a record", "lets it go at"]),
        (Breakage::TimerBySystemClock, &["by the caller's `now`"]),
        (Breakage::TimerWraps, &["for 4320000s", "lets it go at"]),
        (Breakage::NoTimeLimit, &["Load", "after 5s", "a time limit"]),
        (Breakage::PollBlocks, &["another future on the same thread", "Does its future block?"]),
        (Breakage::OneNamespace, &["of the namespace \"\"", "in the namespace \"shop\"", "reads"]),
        (Breakage::PlainSecret, &["has the secret in it", "Verifier::plain"]),
        (Breakage::StaleLoads, &["a Conflict", "stale record"]),
    ] {
        let (_, found_by) =
            FOUND_BY.into_iter().find(|(found, _)| *found == breakage).expect("listed");
        let verdict = verdict(found_by[0], breakage).expect("it is found");
        for words in words {
            assert!(verdict.contains(words), "{breakage:?}: {words:?} is not in {verdict:?}");
        }
    }
}
