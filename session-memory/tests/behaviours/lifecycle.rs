//! A handle from load to finish, and the tasks of one request that share it.
//!
//! All loads return the same session; a finished one returns an error. What one task changes while
//! another one saves is seen and saved, or refused, and never lost.

use std::sync::mpsc;
use std::thread;

use futures_lite::future::zip;
use http::Response;
use session_core::{Error, Lifetime, SessionHandle, Timestamp};

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
    site.store.sabotage("load", Fault::Late);
    site.store.calls();
    visitor.visit(async |handle| {
        let (one, two) = zip(handle.load(), handle.load()).await;
        let (one, two) = (one.unwrap(), two.unwrap());
        one.set("m", &2u64).unwrap();
        assert_eq!(two.get::<u64>("m").unwrap(), Some(2));
        assert_eq!(handle.load().await.unwrap().get::<u64>("m").unwrap(), Some(2));
    });
    assert_eq!(site.store.calls(), ["load", "save"]);
}

#[test]
fn a_finished_session_refuses_changes_and_can_be_loaded_again() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1u64).unwrap();
        let mut response = Response::new(());
        handle.finish(&mut response).await.unwrap();
        assert!(response.headers().contains_key("set-cookie"));
        for result in [
            session.set("n", &2),
            session.delete("n"),
            session.take::<u64>("n").map(drop),
            session.clear(),
            session.set_persistent(true),
            session.remember(false),
            session.log_in("ada"),
            session.label("a device"),
            session.start_anew(),
            session.regenerate(),
        ] {
            assert!(matches!(result, Err(Error::Finished)), "{result:?}");
        }
        assert_eq!((session.get::<u64>("n").unwrap(), session.keys().len()), (Some(1), 1));
        // All clones can be changed again.
        handle.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        session.set("n", &2u64).unwrap();
        visitor.receive(response);
    });
    assert_eq!(visitor.get("n"), Some(2));
}

#[test]
fn the_owner_is_stored_with_a_new_id_and_changed_by_another_login() {
    let site = Site::new();
    let visitor = site.visitor();
    let stored = |visitor: &Visitor<'_>| {
        let record = site.store.peek(&visitor.token(), site.manager.now()).unwrap();
        record.owner().map(str::to_owned)
    };
    let log_in = |owner: &str| {
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.log_in(owner).unwrap();
            assert_eq!(session.owner().as_deref(), Some(owner));
        });
        visitor.visit(async |handle| handle.load().await.unwrap().owner()).0
    };
    visitor.set("cart", 3);
    site.store.calls();
    let anonymous = visitor.id();
    assert_eq!(log_in("account 1").as_deref(), Some("account 1"));
    assert_eq!(site.store.calls(), ["load", "save", "load"]);
    assert_eq!(stored(&visitor).as_deref(), Some("account 1"));
    assert!(!site.has(&anonymous));
    assert_eq!(visitor.get("cart"), Some(3), "what an anonymous session held stays");
    assert_eq!(log_in("account 1").as_deref(), Some("account 1"));
    assert_eq!(visitor.get("cart"), Some(3), "and again for the same owner");
    assert_eq!(log_in("account 2").as_deref(), Some("account 2"));
    assert_eq!(visitor.get("cart"), None, "another owner starts empty");
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
    assert_eq!((created, remaining), (born, secs(1700)), "the store was not told of this use");
    assert_ne!(created, Timestamp::default());
}

/// Runs the test on another thread, so that a deadlock fails it instead of hanging the suite.
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
        // First with a new session, then with a stored one.
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

/// One task saves, and meanwhile another one changes values through the same handle.
async fn while_saving(
    site: &Site,
    handle: &SessionHandle<'_>,
    operation: &'static str,
    change: impl AsyncFnOnce(),
) {
    let session = handle.load().await.unwrap();
    site.store.sabotage(operation, Fault::Late);
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
            session.log_in("first").unwrap();
            while_saving(&site, handle, operation, async || {
                assert_eq!(session.get::<u64>("same").unwrap(), Some(2), "what is saved is seen");
                assert_eq!(session.owner().as_deref(), Some("first"));
                session.set("back", &1u64).unwrap();
                session.delete("deleted").unwrap();
                session.set("changed", &3u64).unwrap();
                session.set("new", &4u64).unwrap();
                session.label("a device").unwrap();
            })
            .await;
            assert_eq!(session.get::<u64>("back").unwrap(), Some(1));
            assert_eq!(session.get::<u64>("deleted").unwrap(), None);
            assert_eq!(session.owner().as_deref(), Some("first"));
        });
        let values = ["same", "back", "deleted", "changed", "new"].map(|key| visitor.get(key));
        assert_eq!(values, [Some(2), Some(1), None, Some(3), Some(4)], "{operation}");
        let (owner, _) = visitor.visit(async |handle| handle.load().await.unwrap().owner());
        assert_eq!(owner.as_deref(), Some("first"), "{operation}");
        let stored = site.store.peek(&visitor.token(), site.manager.now()).unwrap();
        assert_eq!(&*stored.login.unwrap().label, "a device", "{operation}");
    }
}

#[test]
fn a_lifetime_that_is_shortened_while_a_save_is_on_its_way_holds() {
    for operation in ["create", "save"] {
        let site = Site::new();
        let visitor = site.visitor();
        if operation == "save" {
            visitor.set("n", 1);
        }
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set("n", &2u64).unwrap();
            let short = Lifetime { idle: secs(60), absolute: secs(600) };
            while_saving(&site, handle, operation, async || session.set_lifetime(short).unwrap())
                .await;
        });
        site.clock.advance(secs(59));
        assert!(site.has(&visitor.id()), "{operation}");
        site.clock.advance(secs(1));
        assert!(!site.has(&visitor.id()), "{operation}");
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
        let request = visitor.request();
        let mut response = Response::new(());
        let accepted = block_on(async {
            let handle = site.manager.start(&request);
            let session = handle.load().await.unwrap();
            if operation != "touch" {
                session.set("n", &2u64).unwrap();
            }
            site.store.sabotage(operation, Fault::Late);
            let set = async { session.set("late", &1u64) };
            let (finished, set) = zip(handle.finish(&mut response), set).await;
            finished.unwrap();
            assert!(matches!(set, Ok(()) | Err(Error::Finished)), "{set:?}");
            set.is_ok()
        });
        site.store.mend();
        visitor.receive(response);
        assert_eq!(visitor.get("late").is_some(), accepted, "{operation}");
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
                                session.regenerate().unwrap();
                            }
                        }
                    });
                });
            }
        });
    });
    assert_eq!(visitor.get("n"), Some(4 * EACH));
    let (keys, _) = visitor.visit(async |handle| handle.load().await.unwrap().keys());
    assert_eq!(keys.len() as u64, 4 * EACH + 1);
    assert_eq!(site.count(), 1);
}
