//! Logouts.
//!
//! All concurrent logouts succeed and clear the cookie, even if the cookie is invalid already. A logout
//! with an id that was replaced before it loaded the session ends nothing and gets an error. If a
//! session gets a new id while its logout runs, the logout ends it.

use http::{Method, Response};
use session_core::Error;

use crate::support::*;

fn clears(visitor: &Visitor<'_>, response: Response<()>) -> bool {
    let reply = visitor.receive(response);
    reply.set_cookie().is_some_and(|cookie| cookie.contains("Max-Age=0"))
}

#[test]
fn logouts_at_once_all_succeed_and_clear_the_cookie() {
    for number in [2, 3, 10] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
        let id = visitor.id();
        let tabs: Vec<_> = (0..number).map(|_| visitor.tab()).collect();
        let logouts: Vec<_> = tabs.iter().map(|tab| tab.begin(Method::POST)).collect();
        for logout in &logouts {
            block_on(logout.session.destroy()).unwrap();
            assert!(!site.has(&id), "at once");
        }
        for (tab, logout) in tabs.iter().zip(&logouts) {
            assert!(clears(tab, logout.finish().unwrap()));
        }
        assert_eq!(site.count(), 0);
    }
}

#[test]
fn a_logout_with_a_cookie_that_opens_nothing_clears_it() {
    let site = Site::new();
    let visitor = site.visitor();
    let [ended, expired] = ["ended", "expired"].map(|key| {
        visitor.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
        visitor.set(key, 1);
        visitor.id()
    });
    site.clock.advance(secs(3600));
    for cookie in [&*ended, &*expired, UNKNOWN, "junk", "%22", &"x".repeat(10_000)] {
        let visitor = Visitor::with_cookie(&site, cookie);
        let logout = visitor.begin(Method::POST);
        block_on(logout.session.destroy()).unwrap();
        assert!(clears(&visitor, logout.finish().unwrap()), "{cookie}");
    }
    let ((), reply) =
        site.visitor().visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
    assert!(reply.is_plain(), "there is nothing to clear");
}

#[test]
fn a_logout_with_the_old_id_ends_nothing_and_is_told_so() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let old = visitor.tab();
    visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
    for method in [Method::POST, Method::GET] {
        let logout = old.begin(method);
        let ended = block_on(logout.session.destroy());
        assert!(matches!(ended, Err(Error::Gone)), "{ended:?}");
        assert!(is_silent(&logout.finish().unwrap()), "the new cookie stays");
    }
    assert_eq!((visitor.get("n"), site.count()), (Some(1), 1));
}

#[test]
fn a_session_that_gets_a_new_id_while_its_logout_runs_is_ended_by_it() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let tab = visitor.tab();
    let logout = tab.begin(Method::POST);
    site.clock.advance(secs(9));
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    block_on(logout.session.destroy()).unwrap();
    assert!(clears(&tab, logout.finish().unwrap()));
    assert_eq!((visitor.get("n"), site.count()), (None, 0));
}

#[test]
fn a_logout_that_was_held_open_verifies_the_secret_again() {
    for changed in [false, true] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let tab = visitor.tab();
        let logout = tab.begin(Method::POST);
        site.clock.advance(secs(60));
        if changed {
            visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
        }
        let ended = block_on(logout.session.destroy());
        assert_eq!(matches!(ended, Err(Error::Gone)), changed, "{ended:?}");
        assert_eq!(clears(&tab, logout.finish().unwrap()), !changed);
        assert_eq!(site.count(), u64::from(changed));
    }
}

#[test]
fn a_logout_drops_what_is_pending() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let logout = visitor.begin(Method::POST);
    logout.session.set("n", &2u64).unwrap();
    logout.session.log_in("ada").unwrap();
    site.store.calls();
    block_on(logout.session.destroy()).unwrap();
    assert!(clears(&visitor, logout.finish().unwrap()));
    assert_eq!(site.store.calls(), ["destroy"]);
    assert_eq!(site.count(), 0);
}

/// The visitor tries again.
#[test]
fn a_logout_that_fails_can_be_tried_again() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.sabotage_once("destroy", Fault::Down);
    let logout = visitor.begin(Method::POST);
    let failed = block_on(logout.session.destroy());
    assert!(matches!(failed, Err(Error::Unavailable { .. })));
    assert!(is_silent(&logout.finish().unwrap()), "the session lives, and so does the cookie");
    assert_eq!(visitor.get("n"), Some(1));
    let logout = visitor.begin(Method::POST);
    block_on(logout.session.destroy()).unwrap();
    assert!(clears(&visitor, logout.finish().unwrap()));
    assert_eq!(site.count(), 0);
}

/// The other login's response sets the client's id, so the visitor is not logged out.
#[test]
fn a_logout_in_the_session_of_a_login_that_lost_its_race_is_told_so() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (lost, won) = (visitor.begin(Method::POST), visitor.begin(Method::POST));
    lost.session.log_in("ada").unwrap();
    won.session.log_in("ada").unwrap();
    visitor.receive(won.finish().unwrap());
    block_on(lost.session.save()).unwrap();
    assert!(matches!(block_on(lost.session.destroy()), Err(Error::Gone)));
    assert!(is_silent(&lost.finish().unwrap()));
    assert_eq!((visitor.get("n"), site.count()), (Some(1), 1));
}
