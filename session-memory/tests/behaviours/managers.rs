//! Managers, the registry, and the timer thread.
//!
//! Providers are found by name, and errors about names help. Several managers serve one request
//! independently. The timer thread survives its provider's panics and ends with the manager.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use http::header::SET_COOKIE;
use http::{Request, Response};
use parking_lot::Mutex;
use session_core::{
    Changes, Config, Error, Manager, Provider, ProviderFuture, Purged, Record, Registry, SessionId,
    Sessions, Timestamp, Token, finish_all,
};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::support::*;

#[test]
fn a_provider_registers_itself_as_often_as_it_is_told_to() {
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(session_memory::init);
        }
    });
    session_memory::init();
    assert_eq!(session_core::providers(), ["memory"]);
    let manager = Manager::open("memory", "max_sessions=10").unwrap();
    assert_eq!((manager.provider_name(), manager.name()), ("memory", "__Host-id"));
    let manager = Manager::from_config(&Config::default()).unwrap();
    assert_eq!(block_on(manager.count()).unwrap(), 0);
}

#[test]
fn a_duplicate_name_is_an_error_that_names_it() {
    session_memory::init();
    let error = session_core::register("memory", |_| Err(Error::config("never opened")));
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::DuplicateProvider { name } if &**name == "memory"));
    assert!(error.to_string().contains("\"memory\""), "{error}");
    Manager::open("memory", "").expect("what the name stood for stays");
}

#[test]
fn an_unknown_name_is_an_error_that_lists_the_known_ones() {
    session_memory::init();
    let error = Manager::open("mem0ry", "").unwrap_err();
    assert!(matches!(error, Error::UnknownProvider { .. }));
    let text = error.to_string();
    for part in ["\"mem0ry\"", "memory", "init()"] {
        assert!(text.contains(part), "{text}");
    }
    let error = Registry::new().open("memory", "").unwrap_err();
    assert!(error.to_string().contains("registered: none"), "{error}");
}

#[test]
fn a_bad_source_is_an_error_at_open_that_shows_no_value() {
    session_memory::init();
    let error = Manager::open("memory", "password=hunter2hunter2").unwrap_err();
    assert!(matches!(error, Error::Config(_)));
    assert!(error.to_string().contains("\"password\"") && !error.to_string().contains("hunter2"));
}

fn memory() -> Arc<dyn Provider> {
    Arc::new(MemoryProvider::new(MemoryConfig::default()))
}

#[test]
fn providers_may_be_registered_while_others_are_opened() {
    let registry = Registry::new();
    registry.register("first", |_| Ok(memory())).unwrap();
    thread::scope(|scope| {
        for task in 0..4 {
            let registry = &registry;
            scope.spawn(move || {
                for n in 0..100 {
                    registry.register(&format!("{task}.{n:02}"), |_| Ok(memory())).unwrap();
                }
            });
            scope.spawn(move || {
                for _ in 0..20 {
                    registry.open("first", "").unwrap();
                    assert!(registry.providers().is_sorted());
                }
            });
        }
    });
    assert_eq!(registry.providers().len(), 401);
}

#[test]
fn a_provider_may_open_or_register_another_while_it_is_opened() {
    static REGISTRY: std::sync::LazyLock<Registry> = std::sync::LazyLock::new(Registry::new);
    REGISTRY.register("inner", |_| Ok(memory())).unwrap();
    REGISTRY
        .register("outer", |source| {
            REGISTRY.register("another", |_| Ok(memory()))?;
            REGISTRY.open("inner", source)
        })
        .unwrap();
    REGISTRY.open("outer", "").unwrap();
    assert_eq!(REGISTRY.providers(), ["another", "inner", "outer"]);
}

fn two_sites() -> [Site; 2] {
    ["__Host-shop", "__Host-admin"].map(|name| Site::configured(|c| c.cookie.name = name.into()))
}

#[test]
fn two_managers_of_one_request_are_independent() {
    let [shop, admin] = two_sites();
    let mut response = Response::new(());
    let request = Request::new(());
    block_on(async {
        let (a, b) = (shop.manager.start(&request), admin.manager.start(&request));
        a.load().await.unwrap().set("n", &1u64).unwrap();
        b.load().await.unwrap().set("n", &2u64).unwrap();
        assert_ne!(a.load().await.unwrap().id().unwrap(), b.load().await.unwrap().id().unwrap());
        finish_all([&a, &b], &mut response).await.unwrap();
    });
    let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 2);
    assert!(cookies[0].to_str().unwrap().starts_with("__Host-shop="));
    assert!(cookies[1].to_str().unwrap().starts_with("__Host-admin="));
    assert_eq!((shop.count(), admin.count()), (1, 1));
    // One's cookie means nothing to the other.
    let text = cookies[0].to_str().unwrap().split([';', '=']).nth(1).unwrap().to_owned();
    assert_eq!(Visitor::with_cookie(&shop, &text).get("n"), Some(1));
    assert_eq!(Visitor::with_cookie(&admin, &text).get("n"), None);
}

#[test]
fn one_call_finishes_all_and_keeps_the_errors_of_each() {
    for broken in [&[0][..], &[1], &[0, 1]] {
        let sites = two_sites();
        for at in broken {
            sites[*at].store.break_("create", Fault::Down);
        }
        let managers = sites.each_ref().map(|site| site.manager.clone());
        let sessions = Sessions::start(&managers, &Request::new(()));
        let mut response = Response::new(());
        let errors = block_on(async {
            for handle in sessions.iter() {
                handle.load().await.unwrap().set("n", &1).unwrap();
            }
            sessions.finish(&mut response).await.unwrap_err()
        });
        let names: Vec<_> = errors.iter().map(|(name, _)| name).collect();
        let wanted: Vec<_> = broken.iter().map(|at| sites[*at].manager.name()).collect();
        assert_eq!(names, wanted);
        assert!(errors.iter().all(|(_, error)| matches!(error, Error::Unavailable { .. })));
        for name in wanted {
            assert!(errors.to_string().contains(name), "{errors}");
        }
        // The healthy one is stored and announced.
        let cookies = response.headers().get_all(SET_COOKIE).iter().count();
        assert_eq!(cookies, 2 - broken.len());
        for (at, site) in sites.iter().enumerate() {
            assert_eq!(site.store.calls(), ["create"]);
            assert_eq!(site.count(), u64::from(!broken.contains(&at)));
        }
    }
}

#[test]
fn the_first_error_is_that_of_a_store_that_is_down() {
    let [shop, admin] = two_sites();
    let mine = shop.visitor();
    mine.set("n", 1);
    admin.store.break_("create", Fault::Down);
    let request = mine.request();
    let errors = block_on(async {
        let (a, b) = (shop.manager.start(&request), admin.manager.start(&request));
        a.load().await.unwrap().set("n", &2).unwrap();
        b.load().await.unwrap().set("n", &2).unwrap();
        let again = shop.manager.start(&request);
        again.load().await.unwrap().destroy().await.unwrap();
        finish_all([&a, &b], &mut Response::new(())).await.unwrap_err()
    });
    assert_eq!(errors.iter().count(), 2);
    assert!(matches!(errors.first(), Error::Unavailable { .. }));
}

/// What happened to a provider, as told to a test.
#[derive(Debug, PartialEq)]
enum Event {
    Purged { thread: Option<String> },
    Dropped,
}

/// A provider that does nothing but tell what the timer thread does with it, and misbehaves in the
/// first rounds.
#[derive(Debug)]
struct Watched {
    events: Mutex<Sender<Event>>,
    trouble: Mutex<Vec<Trouble>>,
}

#[derive(Debug)]
enum Trouble {
    Panics,
    Fails,
}

impl Watched {
    fn new(trouble: impl Into<Vec<Trouble>>) -> (Self, Receiver<Event>) {
        let (events, told) = mpsc::channel();
        (Self { events: Mutex::new(events), trouble: Mutex::new(trouble.into()) }, told)
    }

    fn tell(&self, event: Event) {
        // A test that has seen enough listens no more.
        let _ = self.events.lock().send(event);
    }

    fn no<'a, T>() -> ProviderFuture<'a, Result<T, Error>> {
        ProviderFuture::ready(Err(Error::Unsupported { operation: "anything" }))
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.tell(Event::Dropped);
    }
}

impl Provider for Watched {
    fn create<'a>(
        &'a self,
        _: &'a SessionId,
        _: Record,
        _: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        Self::no()
    }

    fn load<'a>(
        &'a self,
        _: &'a Token,
        _: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        Self::no()
    }

    fn save<'a>(
        &'a self,
        _: &'a Token,
        _: &'a Changes,
        _: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        Self::no()
    }

    fn rename<'a>(
        &'a self,
        _: &'a Token,
        _: &'a SessionId,
        _: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        Self::no()
    }

    fn destroy<'a>(&'a self, _: &'a Token, _: Timestamp) -> ProviderFuture<'a, Result<(), Error>> {
        Self::no()
    }

    fn touch<'a>(
        &'a self,
        _: &'a Token,
        _: Timestamp,
        _: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        Self::no()
    }

    fn count(&self, _: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        Self::no()
    }

    fn purge(&self, _: Timestamp, _: usize) -> Result<Purged, Error> {
        self.tell(Event::Purged { thread: thread::current().name().map(str::to_owned) });
        match self.trouble.lock().pop() {
            Some(Trouble::Panics) => panic!("made up by a test"),
            Some(Trouble::Fails) => Err(Error::unavailable("made up by a test")),
            None => Ok(Purged { removed: 1, more: false }),
        }
    }
}

fn watched(every: Duration, trouble: impl Into<Vec<Trouble>>) -> (Manager, Receiver<Event>) {
    Log::open();
    let (provider, events) = Watched::new(trouble);
    let mut config = Config::default();
    config.gc_every = every;
    let manager = Manager::builder().with_config(config).with_provider(provider).build().unwrap();
    (manager, events)
}

/// Generous: a test that fails may take long, one that passes never does.
fn next(events: &Receiver<Event>) -> Event {
    events.recv_timeout(secs(60)).expect("something happens within a minute")
}

const OFTEN: Duration = Duration::from_millis(1);

#[test]
fn the_timer_thread_collects_again_and_again() {
    let (manager, events) = watched(OFTEN, []);
    for _ in 0..3 {
        assert_eq!(next(&events), Event::Purged { thread: Some("session-gc".into()) });
    }
    assert!(manager.stats().purged >= 2);
    assert!(matches!(block_on(manager.count()), Err(Error::Unsupported { .. })));
}

#[test]
fn collection_goes_on_after_a_panic_or_an_error_of_the_provider() {
    let log = Log::open();
    let (manager, events) = watched(OFTEN, [Trouble::Fails, Trouble::Panics]);
    for _ in 0..3 {
        assert!(matches!(next(&events), Event::Purged { .. }));
    }
    assert_eq!(manager.stats().purge_failures, 2);
    assert_eq!(next(&events), Event::Purged { thread: Some("session-gc".into()) });
    assert!(manager.stats().purged >= 1);
    let text = log.text();
    assert!(text.contains("session provider panicked in purge"));
    assert!(text.contains("collection of expired sessions failed"));
}

#[test]
fn the_timer_thread_ends_with_the_last_clone_of_the_manager() {
    // It sleeps for an hour: only being woken ends it in time.
    let (manager, events) = watched(secs(3600), []);
    let clone = manager.clone();
    let handle = clone.start_owned(&Request::new(()));
    drop(manager);
    drop(clone);
    assert!(events.try_recv().is_err(), "a handle in a task keeps the manager");
    drop(handle);
    // The thread holds the provider: when it is dropped, the thread let go of it.
    assert_eq!(next(&events), Event::Dropped);
}

#[test]
fn a_manager_without_collection_has_no_thread() {
    let (manager, events) = watched(Duration::ZERO, []);
    drop(manager);
    assert_eq!(events.try_recv(), Ok(Event::Dropped), "at once, on this thread");
}

#[test]
fn an_interval_beyond_all_time_does_no_harm() {
    for every in [Duration::MAX, Duration::MAX / 2, Duration::from_nanos(1)] {
        let (manager, events) = watched(every, []);
        manager.collect().unwrap();
        assert!(matches!(next(&events), Event::Purged { .. }));
        drop(manager);
        while next(&events) != Event::Dropped {}
    }
}

#[test]
fn closing_waits_for_the_thread_and_sessions_go_on() {
    let (manager, events) = watched(OFTEN, []);
    next(&events);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| manager.close());
        }
    });
    manager.close();
    let purged = manager.stats().purged;
    while events.try_recv().is_ok() {}
    // Asked for, it still collects, on this thread and no other.
    manager.collect().unwrap();
    assert_eq!(manager.stats().purged, purged + 1);
    let here = thread::current().name().map(str::to_owned);
    assert_eq!(events.try_recv(), Ok(Event::Purged { thread: here }));
    assert!(events.try_recv().is_err());

    let site = Site::configured(|config| config.gc_every = OFTEN);
    site.manager.close();
    let visitor = site.visitor();
    visitor.set("n", 1);
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn a_collection_that_fails_tells_who_asked_for_it() {
    let (manager, _events) = watched(Duration::ZERO, [Trouble::Fails]);
    assert!(matches!(manager.collect(), Err(Error::Unavailable { .. })));
    assert_eq!(manager.collect().unwrap(), Purged { removed: 1, more: false });
}

#[test]
fn expired_sessions_disappear_by_themselves() {
    let site = Site::configured(|config| config.gc_every = OFTEN);
    site.visitor().set("n", 1);
    site.clock.advance(secs(1801));
    // No sleeping: the thread's next round is waited for by what it leaves behind.
    while site.manager.stats().purged == 0 {
        thread::yield_now();
    }
    assert_eq!(site.manager.collect().unwrap().removed, 0);
}
