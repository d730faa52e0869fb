//! "Remember me": after one call, the cookie outlives the browser, and the session outlives its idle and
//! absolute lifetime, for as long as the current configuration says.

use http::Method;
use session_core::{Lifetime, LoadedSession};

use crate::support::*;

const DAY: u64 = 86_400;
const PLAIN: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

fn lasting(left: u64) -> String {
    format!("{PLAIN}; Max-Age={left}")
}

/// Returns a visitor with a session after a request with this handler.
fn after<'s>(site: &'s Site, handler: impl Fn(&LoadedSession)) -> Visitor<'s> {
    let visitor = site.visitor();
    visitor.set("n", 1);
    visitor.visit(async |handle| handler(&handle.load().await.unwrap()));
    visitor
}

fn remembered(site: &Site) -> Visitor<'_> {
    after(site, |session| session.remember(true).unwrap())
}

fn is_remembered(visitor: &Visitor<'_>) -> bool {
    visitor.begin(Method::GET).session.is_remembered()
}

#[test]
fn a_remembered_session_lives_for_thirty_days_used_or_not() {
    let site = Site::new();
    for step in [30 * DAY, DAY] {
        let visitor = remembered(&site);
        let session = visitor.begin(Method::GET).session;
        assert!(session.is_remembered() && session.is_persistent());
        assert_eq!(session.remaining(), secs(30 * DAY));
        for _ in 1..30 * DAY / step {
            site.clock.advance(secs(step));
            assert_eq!(visitor.get("n"), Some(1));
        }
        site.clock.advance(secs(step - 1));
        assert!(site.has(&visitor.id()), "at the store");
        assert_eq!(visitor.get("n"), Some(1));
        site.clock.advance(secs(1));
        assert_eq!(visitor.get("n"), None);
    }
}

#[test]
fn the_cookie_is_kept_for_as_long_and_no_longer_once_that_is_undone() {
    let site = Site::configured(|config| {
        config.remember = secs(7 * DAY);
        // This is for other persistent cookies.
        config.cookie.max_age = Some(secs(60));
    });
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.clock.advance(secs(100));
    let switch = |on: bool| {
        visitor.visit(async |handle| handle.load().await.unwrap().remember(on).unwrap()).1
    };
    assert!(switch(false).is_plain(), "no news");
    assert_eq!(switch(true).attributes(), lasting(7 * DAY - 100));
    assert!(switch(true).is_plain(), "no news");
    assert_eq!(switch(false).attributes(), PLAIN);
    assert!(!is_remembered(&visitor));
    site.clock.advance(secs(1800));
    assert_eq!((visitor.get("n"), site.count()), (None, 0), "it ends as any other");
}

#[test]
fn it_counts_from_the_login_and_survives_new_ids_and_logins_of_the_same_owner() {
    let site = Site::new();
    let visitor = remembered(&site);
    for owner in ["ada", "ada"] {
        site.clock.advance(secs(20 * DAY));
        let (_, reply) = visitor.visit(async |handle| {
            handle.load().await.unwrap().log_in(owner).unwrap();
        });
        assert_eq!(reply.attributes(), lasting(30 * DAY));
    }
    site.clock.advance(secs(DAY));
    let (_, reply) = visitor.visit(async |handle| {
        handle.load().await.unwrap().regenerate().unwrap();
    });
    assert_eq!(reply.attributes(), lasting(29 * DAY));
    site.clock.advance(secs(29 * DAY - 1));
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn a_login_as_another_owner_is_remembered_only_if_it_says_so() {
    for (before, asks) in [(true, true), (true, false), (false, true), (false, false)] {
        let site = Site::new();
        let visitor = after(&site, |session| {
            session.log_in("ada").unwrap();
            session.remember(true).unwrap();
        });
        let login = visitor.begin(Method::POST);
        if before && asks {
            login.session.remember(true).unwrap();
        }
        login.session.log_in("grace").unwrap();
        if !before && asks {
            login.session.remember(true).unwrap();
        }
        let reply = visitor.receive(login.finish().unwrap());
        let wanted = if asks { lasting(30 * DAY) } else { PLAIN.to_owned() };
        assert_eq!(reply.attributes(), wanted);
        assert_eq!(is_remembered(&visitor), asks);
        site.clock.advance(secs(DAY));
        assert_eq!(visitor.begin(Method::GET).session.owner().is_some(), asks);
    }
}

#[test]
fn a_configuration_that_changed_applies_to_sessions_that_exist() {
    let site = Site::new();
    let visitors = [(); 2].map(|()| remembered(&site));
    let with = |days: u64| site.reconfigured(move |config| config.remember = secs(days * DAY));
    let (shorter, longer) = (with(10), with(60));
    site.clock.advance(secs(10 * DAY - 1));
    let texts = visitors.each_ref().map(|visitor| visitor.cookie().unwrap());
    // A use through that server updates the store.
    assert_eq!(Visitor::with_cookie(&longer, &texts[0]).get("n"), Some(1));
    assert_eq!(Visitor::with_cookie(&shorter, &texts[0]).get("n"), Some(1));
    site.clock.advance(secs(1));
    assert_eq!(Visitor::with_cookie(&shorter, &texts[1]).get("n"), None);
    site.clock.advance(secs(50 * DAY - 1));
    assert_eq!(Visitor::with_cookie(&longer, &texts[0]).get("n"), Some(1));
    site.clock.advance(secs(1));
    assert_eq!(Visitor::with_cookie(&longer, &texts[0]).get("n"), None);
}

#[test]
fn a_new_session_may_be_remembered_from_the_start_and_an_empty_one_is_not_stored() {
    let site = Site::new();
    let visitor = site.visitor();
    let (_, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.remember(true).unwrap();
        session.remember(false).unwrap();
        session.remember(true).unwrap();
        assert!(session.is_remembered() && session.is_new());
    });
    assert!(reply.is_plain());
    assert_eq!((site.store.calls(), site.count()), (vec![], 0));
    let (_, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.remember(true).unwrap();
        session.set("n", &1).unwrap();
    });
    assert_eq!(reply.attributes(), lasting(30 * DAY));
    site.clock.advance(secs(30 * DAY - 1));
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn of_the_calls_that_set_a_lifetime_the_last_one_decides() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let short = Lifetime { idle: secs(60), absolute: secs(600) };
    type Call<'c> = (&'c dyn Fn(&LoadedSession), &'c str, u64);
    let calls: [Call<'_>; 6] = [
        (&|session| session.set_lifetime(short).unwrap(), PLAIN, 60),
        (&|session| session.remember(true).unwrap(), &*lasting(30 * DAY), 30 * DAY),
        (&|session| session.set_persistent(false).unwrap(), PLAIN, 30 * DAY),
        (&|session| session.remember(true).unwrap(), &*lasting(30 * DAY), 30 * DAY),
        (&|session| session.set_lifetime(short).unwrap(), PLAIN, 60),
        (&|session| session.remember(false).unwrap(), PLAIN, 60),
    ];
    let mut shown = PLAIN.to_owned();
    for (call, attributes, left) in calls {
        let request = visitor.begin(Method::POST);
        call(&request.session);
        assert_eq!(request.session.remaining(), secs(left));
        let reply = visitor.receive(request.finish().unwrap());
        assert_eq!(reply.set_cookie().is_some(), shown != attributes);
        if reply.set_cookie().is_some() {
            assert_eq!(reply.attributes(), attributes);
        }
        shown = attributes.to_owned();
        assert_eq!(visitor.begin(Method::GET).session.remaining(), secs(left));
    }
}

#[test]
fn a_failed_request_remembers_nobody() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    request.session.remember(true).unwrap();
    let response = request.finish_with(http::StatusCode::INTERNAL_SERVER_ERROR).unwrap();
    assert!(is_silent(&response));
    assert!(!is_remembered(&visitor));
}
