//! Sealed sessions that end before their cookies do.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use session_cookie::{CookieConfig, CookieProvider, KeyRing};
use session_core::clock::TestClock;
use session_core::conformance::{Fault, Faulty};
use session_core::provider::{Changes, NewSecret, Provider, Record, Token};
use session_core::{Config, Error, Lifetime, LoadedSession, Manager, StoreConfig, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::shelf::Shelf;
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

/// An option that would have no effect is a configuration error.
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
    let (_, newer) = site.request(&visitor, async |session| session.set("cart", &1)).unwrap();
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

/// A full memory provider evicts visitors' sessions, but not the entries of ended sessions, which would
/// live again.
#[test]
fn a_full_store_of_revocations_forgets_none() {
    let site = Site::with_config(|config| {
        config.provider = "cookie".into();
        config.source = key_option(1);
        let source = "max_sessions=3".into();
        config.revocations = Some(StoreConfig { provider: "memory".into(), source });
    });
    let visitors = [(); 4].map(|()| site.enter("ada"));
    for visitor in &visitors[..3] {
        site.request(visitor, async |s| s.destroy().await).expect("there is room");
    }
    let refused = site.request(&visitors[3], async |s| s.destroy().await);
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    for (n, visitor) in visitors.iter().enumerate() {
        assert_eq!(site.user(visitor).0.is_some(), n == 3, "session {n}");
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

/// Returns two servers of one site that share the store of revocations.
fn servers() -> [Site; 2] {
    let store = Arc::new(MemoryProvider::new(MemoryConfig::default()));
    [(); 2].map(|()| {
        let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
        config.revocations = Some(store.clone());
        Site::over(CookieProvider::new(config))
    })
}

async fn login(session: LoadedSession) -> Result<(), Error> {
    session.log_in("ada")?;
    session.set("user", "ada")
}

#[test]
fn the_cookie_before_a_login_is_superseded_and_then_dead() {
    let [one, two] = servers();
    let before = one.enter("nobody yet");
    let ((), after) = one.request(&before, login).unwrap();
    assert_eq!(two.user(&after).0.as_deref(), Some("ada"));
    for site in [&one, &two] {
        let (user, same) = site.user(&before);
        assert_eq!((user, &same), (None, &before), "it sees nothing and is told nothing");
        let late = site.request(&before, async |session| session.set("late", &1));
        assert!(matches!(late, Err(Error::Gone)), "{late:?}");
        let destroyed = site.request(&before, async |session| session.destroy().await);
        assert!(matches!(destroyed, Err(Error::Gone)), "{destroyed:?}");
    }
    let ((), second) = two.request(&before, login).expect("a late login succeeds");
    assert_ne!(second, after, "in a session of its own");
    one.clock.advance(Duration::from_secs(11));
    let ((), fresh) = one.request(&before, async |session| session.set("n", &1)).unwrap();
    assert_ne!(fresh, before, "a stranger's by now");
    for visitor in [&after, &second] {
        assert_eq!(one.user(visitor).0.as_deref(), Some("ada"));
    }
}

#[test]
fn a_login_that_loses_its_race_starts_a_session_of_its_own() {
    let [one, two] = servers();
    let before = one.enter("nobody yet");
    let slow = one.request(&before, async |session| {
        let ((), other) = two.request_async(&before, login).await?;
        login(session).await?;
        Ok(other)
    });
    let (other, own) = slow.expect("both succeed");
    assert_ne!(own, other);
    for visitor in [&own, &other] {
        assert_eq!(two.user(visitor).0.as_deref(), Some("ada"));
    }
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

fn over_memory() -> CookieProvider {
    let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
    config.revocations = Some(Arc::new(MemoryProvider::new(MemoryConfig::default())));
    CookieProvider::new(config)
}

const LATER: Timestamp = Timestamp::from_millis(START.as_millis() + 60_000);

fn created(provider: &CookieProvider) -> Token {
    let id = provider.new_id().unwrap();
    let record = Record::new(provider.verifier(&id.into(), ""), START, LATER);
    block_on(provider.create(&id, record, START)).unwrap().expect("a sealed session has a text")
}

/// Gives a session a new id. Returns the new token, or `None` if another request was first.
fn renewed(provider: &CookieProvider, token: &Token) -> Option<Token> {
    let new = provider.issue(provider.renewed_id(token.id()).unwrap());
    let holder = provider.verifier(&new, "");
    let mut changes = Changes::new();
    changes.secret = Some(Box::new(NewSecret { token: new, holder, at: START }));
    match block_on(provider.save(token, &provider.verifier(token, ""), &changes, START)) {
        Ok(token) => Some(token.expect("it is sealed anew")),
        Err(Error::Gone) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Returns whether a token opens its session.
fn opens(provider: &CookieProvider, token: &Token) -> bool {
    let record = block_on(provider.load(token, START)).unwrap();
    record.is_some_and(|record| record.holder == provider.verifier(token, ""))
}

fn race<T: Send>(racers: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = std::sync::Barrier::new(racers);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..racers)
            .map(|n| {
                let (act, start) = (&act, &start);
                scope.spawn(move || {
                    start.wait();
                    act(n)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn of_racing_new_ids_one_wins() {
    let provider = over_memory();
    for _ in 0..300 {
        let mut token = created(&provider);
        // The first new id creates the entry, the second one changes it.
        for _ in 0..2 {
            let won = race(2, |_| renewed(&provider, &token));
            assert!(won[0].is_some() != won[1].is_some());
            let winner = won.into_iter().flatten().next().unwrap();
            assert!(opens(&provider, &winner));
            assert!(!opens(&provider, &token));
            token = winner;
        }
    }
}

#[test]
fn the_end_of_a_session_wins_against_every_racing_new_id() {
    let provider = over_memory();
    for _ in 0..300 {
        let token = created(&provider);
        let tokens = race(3, |n| {
            if n == 0 {
                block_on(provider.destroy(&token.key(), LATER, START)).unwrap();
                return vec![];
            }
            let mut tokens = vec![token.clone()];
            while tokens.len() < 20
                && let Some(newer) = renewed(&provider, tokens.last().unwrap())
            {
                tokens.push(newer);
            }
            tokens
        });
        for token in tokens.iter().flatten() {
            assert!(!opens(&provider, token));
            assert!(renewed(&provider, token).is_none());
        }
    }
}

/// A replaced token doesn't become valid again when the store has lost the entry.
#[test]
fn a_new_id_whose_entry_was_lost_is_not_believed() {
    let provider = over_memory();
    let token = created(&provider);
    let new = provider.issue(provider.renewed_id(token.id()).unwrap());
    let holder = provider.verifier(&new, "");
    let mut changes = Changes::new();
    let at = START.saturating_add(Duration::from_secs(1));
    changes.secret = Some(Box::new(NewSecret { token: new, holder, at }));
    let holder = provider.verifier(&token, "");
    let newer = block_on(provider.save(&token, &holder, &changes, at)).unwrap().unwrap();
    assert!(opens(&provider, &newer));
    assert!(!opens(&over_memory(), &newer), "another store");
}

/// The end is stored until the longest-lived cookie of the session has expired.
#[test]
fn an_old_cookie_of_a_shortened_session_stays_dead() {
    let store = Arc::new(MemoryProvider::new(MemoryConfig::default()));
    let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
    config.revocations = Some(store);
    let site = Site::over(CookieProvider::new(config));
    let days = |n: u64| Duration::from_secs(n * 86_400);
    let remember = Lifetime { idle: days(30), absolute: days(60) };
    let short = Lifetime { idle: Duration::from_secs(60), absolute: Duration::from_secs(600) };
    let ((), long_lived) = site
        .request(&Visitor::default(), async |session| {
            session.set("user", "ada")?;
            session.set_lifetime(remember)
        })
        .unwrap();
    let ((), visitor) =
        site.request(&long_lived, async |session| session.set_lifetime(short)).unwrap();
    site.request(&visitor, async |session| session.destroy().await).unwrap();
    site.clock.advance(days(2));
    assert_eq!(site.user(&long_lived).0, None);
}

/// Entries are kept as long as a cookie of the session could be replayed, and no longer.
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
    let count = || block_on(store.count(session_core::clock::Clock::now(&*clock))).unwrap();
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
    assert_eq!(count(), 1);
    end(Some(Duration::from_secs(30 * 86_400)));
    assert_eq!(count(), 2);
    clock.advance(Duration::from_secs(12 * 3600 - 1));
    assert_eq!(count(), 2);
    clock.advance(Duration::from_secs(60));
    assert_eq!(count(), 1, "the manager's lifetime is over");
    assert_eq!(manager.collect().unwrap().removed, 1, "collection is passed on");
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

/// An invented cookie causes no request to the store of ended sessions.
#[test]
fn what_does_not_open_asks_no_store() {
    let store = Arc::new(Shelf::default());
    let mut config = CookieConfig::new(KeyRing::new(&[key(1)]).unwrap());
    config.revocations = Some(store.clone());
    let site = Site::over(CookieProvider::new(config));
    let visitor = site.enter("ada");
    let others = without_revocations().enter("eve");
    let foreign = Site::open("cookie", &key_option(2)).enter("eve");
    let cut = visitor.carrying(&visitor.text()[..visitor.text().len() - 4]);
    assert!(store.calls().is_empty(), "creating asks nobody");
    for visitor in [&cut, &foreign] {
        assert_eq!(site.user(visitor).0, None);
        let ended = site.request(visitor, async |session| session.destroy().await);
        ended.expect("there is nothing to end");
    }
    assert!(store.calls().is_empty());
    assert_eq!(site.user(&visitor).0.as_deref(), Some("ada"));
    assert_eq!(store.calls(), ["load"], "a load asks once");
    site.clock.advance(Duration::from_secs(1));
    let ((), visitor) = site.request(&visitor, login).unwrap();
    assert_eq!(store.calls(), ["load", "create"], "so does the first new id");
    let ((), visitor) = site.request(&visitor, login).unwrap();
    assert_eq!(store.calls(), ["load", "save"], "and each one after");
    site.request(&visitor, async |session| session.destroy().await).unwrap();
    assert_eq!(store.calls(), ["load", "load", "save"]);
    // A cookie of a site with the same key and name but without revocations is valid here, too.
    assert_eq!(site.user(&others).0.as_deref(), Some("eve"));
}

/// The client would need a new token, which can't be sent any more.
#[test]
fn what_a_task_saves_after_the_head_is_stored_or_refused() {
    let site = with_revocations();
    let visitor = site.enter("ada");
    let handle = site.manager.start_owned(&visitor.request());
    let task = block_on(handle.load()).unwrap();
    block_on(handle.finish(&mut http::Response::new(()))).unwrap();
    let saved = block_on(async {
        task.reload().await?;
        task.set("user", "grace")?;
        task.save().await?;
        task.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await
    });
    assert!(saved.is_err() || site.user(&visitor).0.as_deref() == Some("grace"), "{saved:?}");
}
