//! Expiry of sessions.
//!
//! A session ends when it was not used for its idle time, and at its absolute age in any case. Reads
//! touch the store rarely, but often enough that no session in use ends. From its expiry on, a session
//! is gone for every operation, collected or not.

use session_core::provider::{ExpiryChange, Touch};
use session_core::{Error, Timestamp};

use crate::support::*;

const IDLE: u64 = 1800;
const ABSOLUTE: u64 = 43_200;
const TOUCH: u64 = 180;

/// Makes a site with a visitor whose session was just created.
macro_rules! started {
    ($site:ident, $visitor:ident) => {
        started!($site, $visitor, |_| ());
    };
    ($site:ident, $visitor:ident, $edit:expr) => {
        let $site = Site::configured($edit);
        let $visitor = $site.visitor();
        $visitor.set("n", 1);
        $site.store.calls();
    };
}

mod clocks;
mod collection;
mod lifetimes;

#[test]
fn without_use_a_session_ends_after_its_idle_time() {
    for (after, alive) in [
        (secs(IDLE - 1), true),
        (secs(IDLE) - Duration::from_millis(1), true),
        (secs(IDLE), false),
        (secs(IDLE + 1), false),
    ] {
        started!(site, visitor);
        site.clock.advance(after);
        assert_eq!(visitor.get("n").is_some(), alive, "{after:?}");
        assert_eq!(site.count(), u64::from(alive), "{after:?}");
    }
}

#[test]
fn use_moves_the_idle_end_and_nothing_moves_the_absolute_one() {
    started!(site, visitor);
    let start = site.manager.now();
    // Reads, saves and updates take turns.
    let mut visits = 0;
    while site.manager.now().saturating_add(secs(599)) < start.saturating_add(secs(ABSOLUTE)) {
        site.clock.advance(secs(599));
        visits += 1;
        match visits % 3 {
            0 => assert!(visitor.get("n").is_some()),
            1 => drop(visitor.set("n", visits)),
            _ => {
                visitor.visit(async |handle| {
                    let session = handle.load().await.unwrap();
                    session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap()
                });
            }
        }
    }
    assert_eq!(visits, 72);
    site.clock.set(start.saturating_add(secs(ABSOLUTE - 1)));
    assert!(visitor.get("n").is_some());
    site.clock.advance(secs(1));
    assert_eq!(visitor.get("n"), None);
    assert_eq!(site.count(), 0);
}

#[test]
fn a_session_that_is_only_read_lives_to_its_absolute_end() {
    started!(site, visitor);
    let start = site.manager.now();
    while site.manager.now() < start.saturating_add(secs(ABSOLUTE - 60)) {
        site.clock.advance(secs(60));
        assert!(visitor.get("n").is_some());
    }
    site.clock.set(start.saturating_add(secs(ABSOLUTE - 1)));
    assert!(visitor.get("n").is_some());
    site.clock.set(start.saturating_add(secs(ABSOLUTE)));
    assert_eq!(visitor.get("n"), None);
}

#[test]
fn a_new_id_does_not_make_a_session_younger() {
    started!(site, visitor);
    for _ in 0..ABSOLUTE / 1200 - 1 {
        site.clock.advance(secs(1200));
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set("n", &1).unwrap();
            session.regenerate().unwrap();
        });
    }
    site.clock.advance(secs(1199));
    assert!(visitor.get("n").is_some());
    site.clock.advance(secs(1));
    assert_eq!(visitor.get("n"), None);
}

#[test]
fn reading_writes_nothing_until_a_tenth_of_the_idle_time_has_passed() {
    started!(site, visitor);
    for round in 0..3 {
        for _ in 0..TOUCH - 1 {
            site.clock.advance(secs(1));
            assert!(visitor.get("n").is_some());
        }
        let calls = site.store.calls();
        assert!(calls.iter().all(|call| *call == "load"), "{round}: {calls:?}");
        site.clock.advance(secs(1));
        let ((), reply) = visitor.visit(async |handle| {
            handle.load().await.unwrap();
        });
        assert!(reply.is_plain());
        assert_eq!(site.store.calls(), ["load", "touch"]);
    }
    // The expiry that the last touch has set.
    site.clock.advance(secs(IDLE - 1));
    assert!(visitor.get("n").is_some());
}

#[test]
fn a_request_that_saves_often_touches_once() {
    started!(site, visitor);
    site.clock.advance(secs(TOUCH));
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        for _ in 0..3 {
            session.save().await.unwrap();
        }
    });
    assert_eq!(site.store.calls(), ["load", "touch"]);
}

#[test]
fn a_request_that_does_not_use_its_session_does_not_extend_it() {
    started!(site, visitor);
    for _ in 0..3 {
        site.clock.advance(secs(IDLE / 3));
        visitor.visit(async |_| ());
    }
    assert_eq!(site.store.calls(), [""; 0]);
    assert_eq!(visitor.get("n"), None);
}

#[test]
fn a_touch_interval_of_more_than_a_quarter_of_the_idle_time_is_a_quarter() {
    for (configured, interval) in
        [(secs(3600), 250), (secs(251), 250), (secs(249), 249), (Duration::MAX, 250)]
    {
        started!(site, visitor, |config| {
            config.idle = secs(1000);
            config.touch_every = Some(configured);
        });
        site.clock.advance(secs(interval - 1));
        visitor.get("n");
        assert_eq!(site.store.calls(), ["load"], "{configured:?}");
        site.clock.advance(secs(1));
        visitor.get("n");
        assert_eq!(site.store.calls(), ["load", "touch"], "{configured:?}");
    }
}

#[test]
fn touches_reach_the_absolute_end_and_go_no_further() {
    started!(site, visitor, |config| config.absolute = secs(2000));
    let born = site.manager.now();
    for _ in 0..6 {
        site.clock.advance(secs(300));
        assert!(visitor.get("n").is_some());
        let now = site.manager.now();
        let record = site.store.peek(&visitor.token(), now).unwrap();
        let end = born.saturating_add(secs(2000)).min(now.saturating_add(secs(IDLE)));
        assert_eq!((record.used, record.expires), (now, end));
    }
    site.clock.advance(secs(199));
    assert!(visitor.get("n").is_some());
    site.clock.advance(secs(1));
    assert!(visitor.get("n").is_none());
}

#[test]
fn a_late_touch_after_a_newer_one_changes_nothing() {
    started!(site, visitor);
    site.clock.advance(secs(600));
    visitor.get("n");
    let newer = site.manager.now();
    // Another server's clock is slow.
    site.clock.set(newer.saturating_sub(secs(200)));
    visitor.get("n");
    let record = site.store.peek(&visitor.token(), newer).unwrap();
    assert_eq!((record.used, record.expires), (newer, newer.saturating_add(secs(IDLE))));
    assert_eq!(site.store.calls(), ["load", "touch", "load"]);
}

#[test]
fn a_late_save_after_a_newer_touch_does_not_shorten_the_session() {
    started!(site, visitor);
    let late = visitor.request();
    block_on(async {
        let late = site.manager.start(&late);
        late.load().await.unwrap().set("late", &1).unwrap();
        site.clock.advance(secs(600));
        visitor.get("n");
        let newer = site.manager.now();
        site.clock.set(newer.saturating_sub(secs(600)));
        late.finish(&mut http::Response::new(())).await.unwrap();
        let record = site.store.peek(&visitor.token(), newer).unwrap();
        assert_eq!(record.expires, newer.saturating_add(secs(IDLE)));
        assert_eq!(record.values.len(), 2);
    });
}

#[test]
fn expired_is_gone_for_every_operation_before_any_collection() {
    for operation in ["save", "update", "read", "destroy", "flash"] {
        started!(site, visitor);
        let ((), finished) = visitor.try_visit(async |handle| {
            let session = handle.load().await.unwrap();
            site.clock.advance(secs(IDLE));
            let gone = |result: Result<(), Error>| {
                assert!(matches!(result, Err(Error::Gone)), "{operation}: {result:?}");
                assert!(session.is_new(), "the visitor is anonymous now");
                assert!(session.keys().is_empty());
            };
            match operation {
                "save" => session.set("n", &2).unwrap(),
                "update" => gone(session.update("n", |_: Option<u64>| 2).await.map(drop)),
                "flash" => gone(session.add_flash("info", "x").await),
                // The session has ended, as the handler asked.
                "destroy" => session.destroy().await.unwrap(),
                _ => assert_eq!(session.get::<u64>("n").unwrap(), Some(1)),
            }
        });
        if operation == "save" {
            assert!(matches!(finished.unwrap_err(), Error::Gone));
        } else {
            finished.unwrap();
        }
        assert_eq!(site.count(), 0, "{operation}");
        assert_eq!(visitor.get("n"), None, "{operation}");
        // The expired record was in the store all the time.
        let removed = site.manager.collect().unwrap().removed;
        site.clock.advance(secs(1));
        let removed = removed + site.manager.collect().unwrap().removed;
        assert_eq!(removed, 1, "{operation}");
    }
}

#[test]
fn expiry_changes_compose_as_their_names_say() {
    let (early, late) = (Timestamp::from_millis(1), Timestamp::from_millis(2));
    let touch = |at| Touch { used: at, expires: at };
    assert_eq!(ExpiryChange::Keep.apply(early, late), (early, late));
    assert_eq!(ExpiryChange::Extend(touch(early)).apply(late, late), (late, late));
    assert_eq!(ExpiryChange::Extend(touch(late)).apply(early, early), (late, late));
    assert_eq!(ExpiryChange::Set(touch(early)).apply(late, late), (late, early));
}
