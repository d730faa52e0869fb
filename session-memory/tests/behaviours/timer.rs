//! The timer thread: it collects, survives its provider's panics, and ends with the manager.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use http::Request;
use parking_lot::Mutex;
use session_core::provider::{
    Answer, Changes, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Config, Error, Manager, SessionId, SessionKey, Timestamp};

use crate::support::*;

/// An event of a provider, which a test receives.
#[derive(Debug, PartialEq)]
enum Event {
    Purged { thread: Option<String> },
    Dropped,
}

/// A provider that reports the calls of the timer thread, and fails in the first rounds.
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
        // The test may have stopped listening.
        let _ = self.events.lock().send(event);
    }

    fn no<'a, T>() -> Answer<'a, T> {
        ProviderFuture::ready(Err(Error::Unsupported { what: "anything" }))
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
    ) -> Answer<'a, Option<Token>> {
        Self::no()
    }

    fn load<'a>(&'a self, _: &'a Token, _: Timestamp) -> Answer<'a, Option<Record>> {
        Self::no()
    }

    fn save<'a>(
        &'a self,
        _: &'a Token,
        _: &'a Verifier,
        _: &'a Changes,
        _: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        Self::no()
    }

    fn touch<'a>(&'a self, _: &'a Token, _: Touch, _: Timestamp) -> Answer<'a, Option<Token>> {
        Self::no()
    }

    fn destroy<'a>(&'a self, _: &'a SessionKey, _: Timestamp, _: Timestamp) -> Answer<'a, ()> {
        Self::no()
    }

    fn count(&self, _: Timestamp) -> Answer<'_, u64> {
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

/// The time-out is long, but only a failing test reaches it.
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
    // The thread sleeps for an hour, so it must be woken to end in time.
    let (manager, events) = watched(secs(3600), []);
    let clone = manager.clone();
    let handle = clone.start_owned(&Request::new(()));
    drop(manager);
    drop(clone);
    assert!(events.try_recv().is_err(), "a handle in a task keeps the manager");
    drop(handle);
    // The thread holds the provider. When the provider is dropped, the thread has released it.
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
    for every in [Duration::MAX, Duration::MAX / 2, OFTEN] {
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
    // A call of `collect` still collects, on this thread.
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
    // Instead of sleeping, this waits for the effect of the thread's next round.
    while site.manager.stats().purged == 0 {
        thread::yield_now();
    }
    assert_eq!(site.manager.collect().unwrap().removed, 0);
}
