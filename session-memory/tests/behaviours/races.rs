//! Concurrent requests of one session.
//!
//! Changes of different keys are merged, and updates of one value add up. A destroyed session never
//! comes back. Of concurrent new ids one wins, and the old id is invalid from its save on.

use std::pin::pin;
use std::thread;

use futures_lite::future::poll_once;
use http::Response;
use http::header::SET_COOKIE;
use session_core::{Error, Lifetime};

use crate::support::*;

#[test]
fn a_long_task_sees_what_others_changed_once_it_asks() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("own", &1u64).unwrap();
        visitor.tab().set("n", 2);
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        session.reload().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(2));
        assert_eq!(session.get::<u64>("own").unwrap(), Some(1), "pending changes stay");
        let other = site.manager.start_owned(&visitor.request());
        other.load().await.unwrap().destroy().await.unwrap();
        assert!(matches!(session.reload().await, Err(Error::Gone)));
        assert!(session.is_new());
    });
    assert_eq!(site.count(), 0);
}

#[test]
fn different_keys_of_two_requests_merge() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let other = visitor.tab();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        other.set("theirs", 2);
        session.set("mine", &3u64).unwrap();
        session.delete("n").unwrap();
    });
    assert_eq!(
        (visitor.get("n"), visitor.get("mine"), visitor.get("theirs")),
        (None, Some(3), Some(2))
    );
}

#[test]
fn parallel_increments_end_at_their_number() {
    const EACH: u64 = 250;
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 0);
    let request = visitor.request();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    block_on(async {
                        let handle = site.manager.start(&request);
                        let session = handle.load().await.unwrap();
                        session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
                        handle.finish(&mut Response::new(())).await.unwrap();
                    });
                }
            });
        }
    });
    assert_eq!(visitor.get("n"), Some(4 * EACH));
}

/// The store is slow, so nearly all of them wait.
#[test]
fn a_thousand_updates_of_one_session_at_once_end_at_a_thousand() {
    const ALL: usize = 1000;
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 0);
    let request = visitor.request();
    site.store.sabotage("save", Fault::Late);
    let start = std::sync::Barrier::new(ALL);
    thread::scope(|scope| {
        for _ in 0..ALL {
            scope.spawn(|| {
                block_on(async {
                    let handle = site.manager.start(&request);
                    let session = handle.load().await.unwrap();
                    start.wait();
                    session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
                    handle.finish(&mut Response::new(())).await.unwrap();
                });
            });
        }
    });
    site.store.mend();
    assert_eq!(visitor.get("n"), Some(ALL as u64));
}

#[test]
fn an_update_that_waits_for_the_store_holds_up_no_other_session() {
    let site = Site::new();
    let (slow, other) = (site.visitor(), site.visitor());
    slow.set("n", 1);
    other.set("n", 1);
    let [first, second] = [(); 2].map(|()| slow.begin(http::Method::POST));
    let add = |n: Option<u64>| n.unwrap() + 1;
    site.store.sabotage_once("save", Fault::StallBefore);
    let mut stuck = pin!(first.session.update("n", add));
    let mut behind = pin!(second.session.update("n", add));
    assert!(block_on(poll_once(stuck.as_mut())).is_none());
    assert!(block_on(poll_once(behind.as_mut())).is_none(), "updates of a session take turns");
    let ((), reply) = other.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(session.update("n", add).await.unwrap(), 2);
    });
    assert!(reply.is_plain());
    assert_eq!(other.get("n"), Some(2));
}

#[test]
fn an_update_takes_the_pending_change_of_its_key_along_and_leaves_other_keys() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let other = visitor.tab();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("m", &1u64).unwrap();
        session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
        assert_eq!((other.get("n"), other.get("m")), (Some(2), None));
        session.set("n", &10u64).unwrap();
        session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
        assert_eq!((other.get("n"), other.get("m")), (Some(11), None));
        assert_eq!(session.get::<u64>("n").unwrap(), Some(11));
    });
    assert_eq!((visitor.get("n"), visitor.get("m")), (Some(11), Some(1)));
}

#[test]
fn an_update_builds_on_what_others_stored_meanwhile() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let other = visitor.tab();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        other.set("n", 41);
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        let n = session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
        assert_eq!((n, session.get::<u64>("n").unwrap()), (42, Some(42)));
    });
    assert_eq!(site.manager.stats().conflicts, 1);
}

#[test]
fn an_update_may_give_up_or_delete() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("stock", 1);
    for visitor in [site.visitor(), visitor.tab()] {
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set("stock", &1u64).unwrap();
            let buy = async || {
                session
                    .try_update("stock", |stock: Option<u64>| match stock {
                        None => Err(Refused::SoldOut),
                        Some(1) => Ok(None),
                        Some(n) => Ok(Some(n - 1)),
                    })
                    .await
            };
            assert!(matches!(buy().await, Ok(None)));
            assert!(matches!(buy().await, Err(Refused::SoldOut)));
        });
        assert_eq!(visitor.get("stock"), None);
    }
}

#[derive(Debug)]
enum Refused {
    SoldOut,
    Session,
}

impl From<Error> for Refused {
    fn from(_: Error) -> Self {
        Self::Session
    }
}

#[test]
fn a_session_that_is_destroyed_meanwhile_is_not_brought_back() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (id, other) = (visitor.id(), visitor.tab());
    let ((), finished) = visitor.try_visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &2).unwrap();
        other.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
    });
    assert!(matches!(finished.unwrap_err(), Error::Gone));
    assert!(!site.has(&id));
    assert_eq!((site.count(), visitor.get("n")), (0, None));
    // The visitor starts a new session with another id.
    visitor.set("n", 3);
    assert_ne!(visitor.id(), id);
    assert_eq!(site.manager.stats().gone, 1);
}

#[test]
fn what_is_set_after_gone_belongs_to_a_new_session_that_the_handler_starts() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (id, other) = (visitor.id(), visitor.tab());
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("secret", &1u64).unwrap();
        other.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
        let error = session.update("n", |_: Option<u64>| 2).await.unwrap_err();
        assert!(matches!(error, Error::Gone));
        assert!(session.is_new() && session.keys().is_empty());
        session.start_anew().unwrap();
        session.set("cart", &1u64).unwrap();
    });
    assert!(reply.set_cookie().is_some());
    assert_ne!(visitor.id(), id);
    assert_eq!((visitor.get("secret"), visitor.get("cart")), (None, Some(1)));
}

#[test]
fn a_session_that_is_destroyed_after_it_was_gone_takes_the_cookie_along() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let other = visitor.tab();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        other.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
        session.update("n", |_: Option<u64>| 2).await.unwrap_err();
        session.destroy().await.unwrap();
    });
    assert!(reply.attributes().contains("Max-Age=0"));
}

#[test]
fn a_session_that_ended_while_it_was_read_is_no_error() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let other = visitor.tab();
    site.clock.advance(secs(600));
    let (n, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        other.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
        session.get::<u64>("n").unwrap()
    });
    assert_eq!(n, Some(1));
    assert!(reply.is_plain());
    assert_eq!(site.count(), 0);
}

#[test]
fn a_new_id_keeps_the_values_and_the_old_id_is_dead_at_once() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (id, stale) = (visitor.id(), visitor.tab());
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.regenerate().unwrap();
        assert!(site.has(&id) && !site.has(&text_of(&session)), "nothing is stored before a save");
        session.save().await.unwrap();
        assert!(!site.has(&id) && site.has(&text_of(&session)));
        assert_eq!(stale.get("n"), None, "before the response is sent");
    });
    assert!(reply.set_cookie().is_some());
    assert_ne!(visitor.id(), id);
    assert_eq!((visitor.get("n"), stale.get("n")), (Some(1), None));
    assert_eq!(site.manager.stats().regenerated, 1);
}

#[test]
fn a_save_under_the_old_id_is_gone_and_the_new_one_keeps_its_values() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let stale = visitor.tab();
    let ((), finished) = stale.try_visit(async |handle| {
        let session = handle.load().await.unwrap();
        visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
        session.set("n", &2).unwrap();
    });
    assert!(matches!(finished.unwrap_err(), Error::Gone));
    assert_eq!((visitor.get("n"), site.count()), (Some(1), 1));
}

#[test]
fn of_racing_regenerates_one_wins() {
    let site = Site::new();
    for _ in 0..50 {
        let visitor = site.visitor();
        visitor.set("n", 1);
        let request = visitor.request();
        let race = || {
            block_on(async {
                let handle = site.manager.start(&request);
                let session = handle.load().await.unwrap();
                session.regenerate().unwrap();
                let id = text_of(&session);
                let mut response = Response::new(());
                // There are no other changes.
                handle.finish(&mut response).await.unwrap();
                response.headers().contains_key(SET_COOKIE).then_some(id)
            })
        };
        let outcomes = thread::scope(|scope| {
            let racers = [scope.spawn(race), scope.spawn(race)];
            racers.map(|racer| racer.join().expect("no panic"))
        });
        let won: Vec<_> = outcomes.iter().flatten().collect();
        assert_eq!(won.len(), 1, "one new id is announced");
        assert!(site.has(won[0]) && !site.has(&visitor.id()));
    }
}

/// The handler fails: what it set beside the updated key is dropped.
#[test]
fn an_update_stores_nothing_else_that_is_pending() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(http::Method::POST);
    request.session.set("n", &5u64).unwrap();
    request.session.set("other", &7u64).unwrap();
    request.session.set_lifetime(Lifetime { idle: secs(9), absolute: secs(9) }).unwrap();
    block_on(request.session.update("n", |n: Option<u64>| n.unwrap() + 1)).unwrap();
    let response = request.finish_with(http::StatusCode::INTERNAL_SERVER_ERROR).unwrap();
    assert!(is_silent(&response));
    let record = site.store.peek(&visitor.token(), site.manager.now()).unwrap();
    assert_eq!(record.expires.since(site.manager.now()), secs(1800));
    assert_eq!((visitor.get("n"), visitor.get("other")), (Some(6), None));
}

/// The touch that is due after a reload finds that the session is gone.
#[test]
fn what_was_set_in_a_session_that_ended_starts_no_other() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(http::Method::POST);
    request.session.set("n", &2u64).unwrap();
    site.clock.advance(secs(600));
    block_on(request.session.reload()).unwrap();
    let logout = visitor.begin(http::Method::POST);
    block_on(logout.session.destroy()).unwrap();
    block_on(request.handle.load()).unwrap();
    assert!(matches!(request.finish(), Err(Error::Gone)));
    assert_eq!(site.count(), 0);
}
