//! A session from load to finish, while others use it and while futures are dropped.
//!
//! Changes of different keys merge. A destroyed session never comes back; of racing regenerates
//! one wins. A future that is dropped leaves the stored record as it was or as it was to become,
//! and what it didn't save for another try. Tasks that share a handle lose nothing.

use std::pin::pin;
use std::sync::mpsc;
use std::thread;

use futures_lite::future::{poll_once, zip};
use http::Response;
use session_core::{Error, SessionHandle, Timestamp};

use crate::support::*;

#[test]
fn all_loads_of_a_handle_answer_the_same_session() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    visitor.visit(async |handle| {
        for _ in 0..3 {
            handle.load().await.unwrap();
        }
    });
    assert_eq!(site.store.calls(), ["load"]);
    site.store.break_("load", Fault::Late);
    site.store.calls();
    visitor.visit(async |handle| {
        let (one, two) = zip(handle.load(), handle.load()).await;
        let (one, two) = (one.unwrap(), two.unwrap());
        one.set("m", &2u64).unwrap();
        assert_eq!(two.get::<u64>("m").unwrap(), Some(2));
        assert_eq!(handle.load().await.unwrap().get::<u64>("m").unwrap(), Some(2));
    });
    // Two tasks that load at the same moment may both ask the store; they share what came first.
    assert_eq!(site.store.calls(), ["load", "load", "save"]);
}

#[test]
fn a_finished_session_says_so_and_can_be_loaded_again() {
    let site = Site::new();
    let visitor = site.visitor();
    let ((), second) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1u64).unwrap();
        let mut response = Response::new(());
        handle.finish(&mut response).await.unwrap();
        assert!(response.headers().contains_key("set-cookie"));
        for result in [
            session.get::<u64>("n").map(drop),
            session.set("n", &2),
            session.delete("n"),
            session.take::<u64>("n").map(drop),
            session.clear(),
            session.keys().map(drop),
            session.set_persistent(true),
            session.set_owner(Some("ada")),
            session.save().await,
            session.regenerate().await,
            session.update("n", |_: Option<u64>| 3).await.map(drop),
            session.add_flash("n", "x").await,
            session.take_flash::<String>("n").await.map(drop),
        ] {
            assert!(matches!(result, Err(Error::Finished)), "{result:?}");
        }
        // All copies come to life again.
        handle.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        session.set("n", &2u64).unwrap();
        visitor.receive(response);
    });
    assert!(second.is_plain(), "the client was told already");
    assert_eq!(visitor.get("n"), Some(2));
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

#[test]
fn an_update_writes_pending_changes_of_its_key_first_and_leaves_other_keys() {
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
        assert_eq!((other.get("n"), other.get("m")), (Some(11), Some(1)));
        assert_eq!(session.get::<u64>("n").unwrap(), Some(11));
    });
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

/// Runs the test on a thread of its own: a deadlock fails it rather than hanging the suite.
fn within_a_minute(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = thread::spawn(move || {
        test();
        done.send(()).expect("the test waits");
    });
    match finished.recv_timeout(secs(60)) {
        Ok(()) => thread.join().expect("it told its end"),
        Err(mpsc::RecvTimeoutError::Disconnected) => thread.join().expect("the test passes"),
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("deadlock"),
    }
}

#[test]
fn the_closure_of_an_update_may_use_the_session() {
    within_a_minute(|| {
        let site = Site::new();
        let visitor = site.visitor();
        // A new session, then a stored one.
        for round in 1..=2u64 {
            visitor.visit(async |handle| {
                let session = handle.load().await.unwrap();
                session.set("step", &round).unwrap();
                session
                    .update("n", |n: Option<u64>| {
                        assert!(format!("{session:?}").starts_with("LoadedSession"));
                        session.set("seen", &n.is_some()).unwrap();
                        n.unwrap_or(0) + session.get::<u64>("step").unwrap().unwrap()
                    })
                    .await
                    .unwrap();
            });
        }
        assert_eq!(visitor.get("n"), Some(3));
    });
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
    // The visitor starts anew, with another id.
    visitor.set("n", 3);
    assert_ne!(visitor.id(), id);
    assert_eq!(site.manager.stats().gone, 1);
}

#[test]
fn what_is_set_after_gone_belongs_to_a_new_session() {
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
        assert!(session.is_new() && session.keys().unwrap().is_empty());
        session.set("cart", &1u64).unwrap();
    });
    assert!(reply.set_cookie().is_some());
    assert_ne!(visitor.id(), id);
    assert_eq!((visitor.get("secret"), visitor.get("cart")), (None, Some(1)));
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
        session.regenerate().await.unwrap();
        assert!(!site.has(&id) && site.has(&session.id().unwrap()));
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
        visitor.visit(async |handle| handle.load().await.unwrap().regenerate().await.unwrap());
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
                session.regenerate().await.map(|()| session.id().unwrap())
            })
        };
        let outcomes = thread::scope(|scope| {
            let racers = [scope.spawn(race), scope.spawn(race)];
            racers.map(|racer| racer.join().expect("no panic"))
        });
        let won: Vec<_> = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).collect();
        // Who loads after the other has renamed finds nothing, and has nothing to rename.
        let alive = won.iter().filter(|id| site.has(id)).count();
        assert_eq!(alive, 1, "{outcomes:?}");
        assert!(!site.has(&visitor.id()));
        let lost = outcomes.iter().filter_map(|outcome| outcome.as_ref().err());
        assert!(lost.into_iter().all(|error| matches!(error, Error::Gone)));
    }
}

#[test]
fn the_owner_is_stored_changed_and_removed() {
    let site = Site::new();
    let visitor = site.visitor();
    let stored = |visitor: &Visitor<'_>| {
        let record = site.store.peek(&visitor.token(), site.manager.now()).unwrap();
        record.owner.map(String::from)
    };
    let own = |owner: Option<&str>| {
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set_owner(owner).unwrap();
            assert_eq!(session.owner().as_deref(), owner);
        });
        visitor.visit(async |handle| handle.load().await.unwrap().owner()).0
    };
    assert_eq!(own(Some("account 1")).as_deref(), Some("account 1"));
    assert_eq!(stored(&visitor).as_deref(), Some("account 1"));
    site.store.calls();
    assert_eq!(own(Some("account 1")).as_deref(), Some("account 1"));
    assert_eq!(site.store.calls(), ["load", "load"]);
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().await.unwrap());
    assert_eq!(own(Some("account 2")).as_deref(), Some("account 2"));
    assert_eq!(own(None), None);
    assert_eq!(stored(&visitor), None);
}

/// Polls a future once and drops it where it waits.
fn drop_midway<T>(future: impl Future<Output = T>) {
    let future = pin!(future);
    assert!(block_on(poll_once(future)).is_none(), "it was to wait for the store");
}

/// What is stored under the handle's id: the value of "n".
async fn stored(site: &Site, handle: &SessionHandle<'_>) -> Option<u64> {
    let id = handle.load().await.unwrap().id().unwrap();
    let record = site.store.peek(&id.into(), site.manager.now())?;
    // A small number is its own encoding.
    record.values.get("n").map(|bytes| u64::from(bytes[0]))
}

#[test]
fn a_finish_that_is_dropped_stores_all_or_nothing_and_can_be_tried_again() {
    for (operation, fault, between) in [
        ("create", Fault::StallBefore, None),
        ("create", Fault::StallAfter, Some(2)),
        ("save", Fault::StallBefore, Some(1)),
        ("save", Fault::StallAfter, Some(2)),
    ] {
        let site = Site::new();
        let visitor = site.visitor();
        if operation == "save" {
            visitor.set("n", 1);
        }
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set("n", &2u64).unwrap();
            session.set("m", &2u64).unwrap();
            let id = session.id().unwrap();
            site.store.break_(operation, fault);
            let mut response = Response::new(());
            drop_midway(handle.finish(&mut response));
            assert!(response.headers().is_empty());
            site.store.mend();

            let record = site.store.peek(&id.into(), site.manager.now());
            let n = record.as_ref().and_then(|record| record.values.get("n"));
            assert_eq!(n.map(|bytes| u64::from(bytes[0])), between, "{operation} {fault:?}");
            let m = record.as_ref().and_then(|record| record.values.get("m"));
            assert_eq!(m.is_some(), between == Some(2));
        });
        assert_eq!((visitor.get("n"), visitor.get("m")), (Some(2), Some(2)), "{operation}");
    }
}

#[test]
fn after_a_dropped_finish_the_handler_may_go_on_with_its_changes() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &2u64).unwrap();
        site.store.break_("save", Fault::StallBefore);
        drop_midway(handle.finish(&mut Response::new(())));
        site.store.mend();
        let session = handle.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(2));
        assert_eq!(stored(&site, handle).await, Some(1));
        session.set("m", &3u64).unwrap();
    });
    assert_eq!((visitor.get("n"), visitor.get("m")), (Some(2), Some(3)));
}

#[test]
fn a_touch_or_load_that_is_dropped_does_no_harm() {
    for (operation, fault) in [
        ("load", Fault::StallBefore),
        ("load", Fault::StallAfter),
        ("touch", Fault::StallBefore),
        ("touch", Fault::StallAfter),
    ] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        site.clock.advance(secs(600));
        visitor.visit(async |handle| {
            site.store.break_(operation, fault);
            match operation {
                "load" => drop_midway(handle.load()),
                _ => {
                    handle.load().await.unwrap();
                    drop_midway(handle.finish(&mut Response::new(())));
                }
            }
            site.store.mend();
            assert_eq!(handle.load().await.unwrap().get::<u64>("n").unwrap(), Some(1));
        });
        let record = site.store.peek(&visitor.token(), site.manager.now()).unwrap();
        assert_eq!(record.expires, site.manager.now().saturating_add(secs(1800)));
    }
}

#[test]
fn an_update_that_is_dropped_is_done_or_not_and_others_go_on() {
    for (fault, wanted) in [(Fault::StallBefore, 1), (Fault::StallAfter, 2)] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let other = visitor.tab();
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            site.store.break_("save", fault);
            drop_midway(session.update("n", |n: Option<u64>| n.unwrap() + 1));
            site.store.mend();
            assert_eq!(other.get("n"), Some(wanted));
            // The queue of updates is free, for this request and for others.
            session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
            other.visit(async |handle| {
                let session = handle.load().await.unwrap();
                session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
            });
        });
        assert_eq!(visitor.get("n"), Some(wanted + 2));
    }
}

#[test]
fn a_regenerate_or_destroy_that_is_dropped_leaves_one_live_session_at_most() {
    for (fault, alive) in [(Fault::StallBefore, true), (Fault::StallAfter, false)] {
        for operation in ["rename", "destroy"] {
            let site = Site::new();
            let visitor = site.visitor();
            visitor.set("n", 1);
            let id = visitor.id();
            visitor.visit(async |handle| {
                let session = handle.load().await.unwrap();
                site.store.break_(operation, fault);
                match operation {
                    "rename" => drop_midway(session.regenerate()),
                    _ => drop_midway(session.destroy()),
                }
                site.store.mend();
            });
            assert_eq!(site.has(&id), alive, "{operation}");
            assert_eq!(site.count(), u64::from(alive || operation == "rename"));
            assert_eq!(visitor.get("n").is_some(), alive);
        }
    }
}

/// One task saves, and while the store works another one changes values through the same handle.
async fn while_saving(
    site: &Site,
    handle: &SessionHandle<'_>,
    operation: &'static str,
    change: impl AsyncFnOnce(),
) {
    let session = handle.load().await.unwrap();
    site.store.break_(operation, Fault::Late);
    let (saved, ()) = zip(session.save(), change()).await;
    saved.unwrap();
    site.store.mend();
}

#[test]
fn what_is_changed_while_a_save_is_on_its_way_is_seen_and_saved() {
    for operation in ["create", "save"] {
        let site = Site::new();
        let visitor = site.visitor();
        if operation == "save" {
            visitor.visit(async |handle| {
                let session = handle.load().await.unwrap();
                for key in ["same", "back", "deleted", "owned"] {
                    session.set(key, &1u64).unwrap();
                }
            });
        }
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            for key in ["same", "back", "deleted", "changed"] {
                session.set(key, &2u64).unwrap();
            }
            session.set_owner(Some("first")).unwrap();
            while_saving(&site, handle, operation, async || {
                assert_eq!(session.get::<u64>("same").unwrap(), Some(2), "what is saved is seen");
                assert_eq!(session.owner().as_deref(), Some("first"));
                session.set("back", &1u64).unwrap();
                session.delete("deleted").unwrap();
                session.set("changed", &3u64).unwrap();
                session.set("new", &4u64).unwrap();
                session.set_owner(None).unwrap();
            })
            .await;
            assert_eq!(session.get::<u64>("back").unwrap(), Some(1));
            assert_eq!(session.get::<u64>("deleted").unwrap(), None);
            assert_eq!(session.owner(), None);
        });
        let values = ["same", "back", "deleted", "changed", "new"].map(|key| visitor.get(key));
        assert_eq!(values, [Some(2), Some(1), None, Some(3), Some(4)], "{operation}");
        let (owner, _) = visitor.visit(async |handle| handle.load().await.unwrap().owner());
        assert_eq!(owner, None, "{operation}");
    }
}

#[test]
fn what_is_set_while_the_request_finishes_is_saved_or_refused() {
    for operation in ["create", "save", "touch"] {
        let site = Site::new();
        let visitor = site.visitor();
        if operation != "create" {
            visitor.set("n", 1);
        }
        site.clock.advance(secs(600));
        let accepted = visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            if operation != "touch" {
                session.set("n", &2u64).unwrap();
            }
            site.store.break_(operation, Fault::Late);
            let mut response = Response::new(());
            let set = async { session.set("late", &1u64) };
            let (finished, set) = zip(handle.finish(&mut response), set).await;
            finished.unwrap();
            site.store.mend();
            visitor.receive(response);
            assert!(matches!(set, Ok(()) | Err(Error::Finished)), "{set:?}");
            set.is_ok()
        });
        assert_eq!(visitor.get("late").is_some(), accepted.0, "{operation}");
        assert!(visitor.get("n").is_some());
    }
}

#[test]
fn tasks_on_threads_that_share_a_handle_lose_nothing() {
    const EACH: u64 = 100;
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        handle.load().await.unwrap();
        thread::scope(|scope| {
            for task in 0..4u64 {
                scope.spawn(move || {
                    block_on(async {
                        let session = handle.load().await.unwrap();
                        for n in 0..EACH {
                            session.set(&format!("{task} {n}"), &n).unwrap();
                            session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
                            session.save().await.unwrap();
                            if n % 10 == task {
                                session.regenerate().await.unwrap();
                            }
                        }
                    });
                });
            }
        });
    });
    assert_eq!(visitor.get("n"), Some(4 * EACH));
    let (keys, _) = visitor.visit(async |handle| handle.load().await.unwrap().keys().unwrap());
    assert_eq!(keys.len() as u64, 4 * EACH + 1);
    assert_eq!(site.count(), 1);
}

#[test]
fn a_session_tells_its_age() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let born = site.manager.now();
    site.clock.advance(secs(100));
    let ((created, remaining), _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        (session.created(), session.remaining())
    });
    assert_eq!((created, remaining), (born, secs(1800)));
    assert_ne!(created, Timestamp::default());
}
