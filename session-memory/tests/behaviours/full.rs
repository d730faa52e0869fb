//! A full store.
//!
//! A full store evicts sessions of visitors who never came back, so that a flood of them can't lock
//! users out. Sessions of visitors who came back or logged in are never evicted. If nothing can be
//! evicted, the operation is an error.

use http::StatusCode;
use session_core::Error;

use crate::support::*;

/// Stores a session for each of a hundred strangers who never come back.
fn flood(site: &Site) {
    for _ in 0..100 {
        site.clock.advance(Duration::from_millis(1));
        site.visitor().set("cart", 1);
    }
}

fn log_in(visitor: &Visitor<'_>, owner: &str) {
    visitor.visit(async |handle| handle.load().await.unwrap().log_in(owner).unwrap());
}

#[test]
fn a_flood_of_strangers_locks_nobody_out() {
    let site = Site::over_source("max_sessions=20");
    // In its first request.
    let ada = site.visitor();
    log_in(&ada, "ada");
    let (returning, grace) = (site.visitor(), site.visitor());
    returning.set("n", 1);
    assert_eq!(returning.get("n"), Some(1));
    grace.set("n", 2);
    assert_eq!(grace.get("n"), Some(2));
    flood(&site);
    assert_eq!(site.count(), 20);
    log_in(&grace, "grace");
    let late = site.visitor();
    log_in(&late, "late");
    flood(&site);
    for (visitor, owner) in [(&ada, Some("ada")), (&grace, Some("grace")), (&late, Some("late"))] {
        let shown = visitor.visit(async |handle| handle.load().await.unwrap().owner()).0;
        assert_eq!(shown.as_deref(), owner);
    }
    assert_eq!((returning.get("n"), grace.get("n")), (Some(1), Some(2)));
    assert_eq!(site.count(), 20);
    assert_eq!(site.manager.stats().unavailable, 0, "nobody was refused");
}

/// The latest visitors have the most time to come back.
#[test]
fn the_oldest_make_room_first() {
    let site = Site::over_source("max_sessions=10");
    let visitors: Vec<Visitor<'_>> = (0..15)
        .map(|n| {
            site.clock.advance(Duration::from_millis(1));
            let visitor = site.visitor();
            visitor.set("n", n);
            visitor
        })
        .collect();
    for (n, visitor) in (0..).zip(&visitors) {
        assert_eq!(visitor.get("n"), (n >= 5).then_some(n));
    }
}

#[test]
fn a_store_full_of_users_says_so_and_serves_them() {
    let site = Site::over_source("max_sessions=10");
    let users: Vec<Visitor<'_>> = (0..10)
        .map(|n| {
            let user = site.visitor();
            user.set("n", n);
            assert_eq!(user.get("n"), Some(n));
            user
        })
        .collect();
    let ((), refused) = site.visitor().try_visit(async |handle| {
        handle.load().await.unwrap().log_in("somebody else").unwrap();
    });
    let error = refused.expect_err("the store is full");
    assert!(matches!(error, Error::Full { what: "max_sessions" }), "{error:?}");
    assert_eq!(error.status(), StatusCode::SERVICE_UNAVAILABLE);
    for (n, user) in (0..).zip(&users) {
        log_in(user, "ada");
        assert_eq!(user.get("n"), Some(n));
    }
    assert_eq!(site.count(), 10);
}
