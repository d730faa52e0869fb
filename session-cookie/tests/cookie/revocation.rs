//! Sealed sessions that end before their cookies do.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use session_cookie::{CookieConfig, CookieProvider, KeyRing};
use session_core::conformance::{Counting, Fault, Faulty, Operation};
use session_core::{Config, Error, Lifetime, Manager, Provider, StoreConfig, TestClock};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::site::{START, Site, Visitor, key, key_option};

fn with_revocations() -> Site {
    Site::with_config(|config| {
        config.provider = "cookie".into();
        config.source = key_option(1);
        let source = "max_sessions=1000".into();
        config.revocations = Some(StoreConfig { provider: "memory".into(), source });
    })
}

fn without_revocations() -> Site {
    Site::open("cookie", &key_option(1))
}

/// Who configures what would not be done is told so.
#[test]
fn a_provider_at_the_server_takes_no_revocations() {
    session_memory::init();
    let mut config = Config::default();
    config.revocations = Some(StoreConfig { provider: "memory".into(), source: String::new() });
    let error = Manager::from_config(&config).unwrap_err();
    assert!(error.to_string().contains("unknown option \"revocations\""), "{error}");
    let provider = MemoryProvider::new(MemoryConfig::default());
    let builder = Manager::builder().with_config(config).with_provider(provider);
    let error = builder.build().unwrap_err();
    assert!(error.to_string().contains("by its name"), "{error}");
}

#[test]
fn a_cookie_replayed_after_logout_is_anonymous() {
    let site = with_revocations();
    let visitor = site.enter("ada");
    let (_, newer) = site.request(&visitor, async |s| s.set("cart", &1)).unwrap();
    let ((), after) = site.request(&newer, async |s| s.destroy().await).unwrap();
    assert_eq!(after, Visitor::default(), "the cookie is cleared");
    for (what, replayed) in [("the last", &newer), ("the first", &visitor)] {
        let (user, same) = site.user(replayed);
        assert_eq!(user, None, "{what} cookie");
        assert_eq!(&same, replayed, "{what}: nothing is announced");
        let gone = site.request(replayed, async |s| s.set("again", &1));
        let (_, fresh) = gone.expect("a stranger may begin a session");
        assert_eq!(site.user(&fresh).0, None, "{what}: it has nothing of the old one");
    }
}

#[test]
fn without_revocations_a_copied_cookie_works_until_it_expires() {
    let site = without_revocations();
    let visitor = site.enter("ada");
    let ((), after) = site.request(&visitor, async |s| s.destroy().await).unwrap();
    assert_eq!(after, Visitor::default(), "the cookie is cleared");
    assert_eq!(site.user(&visitor).0.as_deref(), Some("ada"), "as documented");
    site.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(site.user(&visitor).0, None);
}

#[test]
fn the_cookie_before_a_login_is_dead_after_it() {
    let site = with_revocations();
    let before = site.enter("nobody yet");
    let login = async |session: session_core::LoadedSession<'_>| {
        session.set("user", "ada")?;
        session.regenerate().await
    };
    let ((), after) = site.request(&before, login).unwrap();
    assert_eq!(site.user(&after).0.as_deref(), Some("ada"));
    assert_eq!(site.user(&before).0, None);
    let slow = site.request(&before, login);
    let ((), fresh) = slow.expect("a stranger may log in");
    assert_ne!(fresh, after);
}

#[test]
fn a_request_slower_than_a_logout_is_gone() {
    let site = with_revocations();
    let visitor = site.enter("ada");
    let slow = site.request(&visitor, async |session| {
        session.set("late", &1)?;
        site.request_async(&visitor, async |session| session.destroy().await).await
    });
    assert!(matches!(slow, Err(Error::Gone)), "{slow:?}");
    assert_eq!(site.user(&visitor).0, None);
}

#[test]
fn of_racing_renames_one_wins() {
    let store = Arc::new(MemoryProvider::new(MemoryConfig::default()));
    let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
    config.revocations = Some(store);
    let provider = CookieProvider::new(config);
    let new = || *provider.new_token().unwrap().id();
    for _ in 0..500 {
        let record = session_core::Record {
            created: START,
            expires: START.saturating_add(Duration::from_secs(60)),
            ..Default::default()
        };
        let id = new();
        let token = block_on(provider.create(&id, record, START)).unwrap();
        let start = std::sync::Barrier::new(2);
        let won: Vec<bool> = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        let id = new();
                        start.wait();
                        match block_on(provider.rename(&token, &id, START)) {
                            Ok(_) => true,
                            Err(Error::Gone) => false,
                            Err(error) => panic!("{error:?}"),
                        }
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).collect()
        });
        assert!(won[0] != won[1], "{won:?}");
    }
}

/// Entries are kept for as long as a cookie of the session could be replayed, and no longer.
#[test]
fn an_ended_session_is_remembered_until_its_absolute_end() {
    let store = Arc::new(MemoryProvider::new(MemoryConfig::default()));
    let clock = Arc::new(TestClock::at(START));
    let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
    config.revocations = Some(store.clone());
    let manager = Manager::builder()
        .with_config({
            let mut config = session_core::Config::default();
            config.gc_every = Duration::ZERO;
            config
        })
        .with_provider(CookieProvider::new(config))
        .with_clock(clock.clone())
        .build()
        .unwrap();
    let count = || block_on(store.count(session_core::Clock::now(&*clock))).unwrap();
    let end = |absolute: Option<Duration>| {
        block_on(async {
            let handle = manager.start(&http::Request::new(()));
            let session = handle.load().await?;
            session.set("user", "ada")?;
            if let Some(absolute) = absolute {
                session.set_lifetime(Lifetime { idle: absolute / 2, absolute })?;
            }
            session.save().await?;
            session.destroy().await
        })
        .unwrap();
    };
    end(None);
    // The manager renames a session before it ends it: both ids are remembered.
    let each = count();
    assert!((1..=2).contains(&each), "{each}");
    end(Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(count(), 2 * each);
    clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert_eq!(count(), 2 * each);
    clock.advance(Duration::from_secs(60));
    assert_eq!(count(), each, "the manager's lifetime is over");
    assert_eq!(manager.collect().unwrap().removed as u64, each, "collection is passed on");
    clock.advance(Duration::from_secs(30 * 86_400));
    assert_eq!(count(), 0, "and that of the other session");
}

#[test]
fn a_store_of_ended_sessions_that_is_down_is_an_error() {
    let store = Arc::new(Faulty::new(Arc::new(MemoryProvider::new(MemoryConfig::default()))));
    let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
    config.revocations = Some(store.clone());
    let site = Site::over(CookieProvider::new(config));
    let visitor = site.enter("ada");
    store.set_down(true);
    let read = site.request(&visitor, async |session| session.get::<String>("user"));
    assert!(matches!(read, Err(Error::Unavailable { .. })), "{read:?}");
    store.set_down(false);
    store.fail_after(1, Fault::NotDone);
    let logout = site.request(&visitor, async |session| session.destroy().await);
    assert_eq!(logout.unwrap_err().status(), 503, "the session lives on, and the caller knows");
    assert_eq!(site.user(&visitor).0.as_deref(), Some("ada"));
}

/// A made-up cookie never reaches the store of ended sessions.
#[test]
fn what_does_not_open_asks_no_store() {
    let store = Arc::new(Counting::new(Arc::new(MemoryProvider::new(MemoryConfig::default()))));
    let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
    config.revocations = Some(store.clone());
    let site = Site::over(CookieProvider::new(config));
    let visitor = site.enter("ada");
    let others = without_revocations().enter("eve");
    let foreign = Site::open("cookie", &key_option(2)).enter("eve");
    let cut = visitor.carrying(&visitor.text()[..visitor.text().len() - 4]);
    assert_eq!(store.total(), 0, "creating asks nobody");
    for visitor in [&cut, &foreign] {
        assert_eq!(site.user(visitor).0, None);
        let ended = site.request(visitor, async |session| session.destroy().await);
        ended.expect("there is nothing to end");
    }
    assert_eq!(store.total(), 0);
    assert_eq!(site.user(&visitor).0.as_deref(), Some("ada"));
    assert_eq!(store.calls(Operation::Load), 1, "a load asks once");
    // Same key and name, of a site without revocations: good here, too.
    assert_eq!(site.user(&others).0.as_deref(), Some("eve"));
}
