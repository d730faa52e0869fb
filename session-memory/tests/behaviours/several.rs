//! Several different ids under the cookie's name: from an old path or domain, from changed attributes,
//! or from a planted cookie.
//!
//! If exactly one of them is live, it is used, wherever it stands. If several are live, none is trusted:
//! the request is mute, and a login or logout ends all the presented ones, so that nobody is locked out.
//! Of more than four ids, the last four are looked up.

use http::header::{COOKIE, HeaderValue};
use http::{Method, Request};
use session_core::{Error, SessionId};

use crate::support::*;

/// Returns a request with these ids in one `Cookie` header.
fn with(method: Method, ids: &[&str]) -> Request<()> {
    let pairs: Vec<_> = ids.iter().map(|id| format!("__Host-id={id}")).collect();
    let mut request = Request::new(());
    *request.method_mut() = method;
    request.headers_mut().insert(COOKIE, HeaderValue::try_from(pairs.join("; ")).unwrap());
    request
}

fn begin(site: &Site, ids: &[&str]) -> Underway {
    Underway::of(site, &with(Method::POST, ids))
}

/// Returns two visitors with a session each, whose ids are no longer new.
fn two(site: &Site) -> [Visitor<'_>; 2] {
    let visitors = [1, 2].map(|n| {
        let visitor = site.visitor();
        visitor.set("n", n);
        visitor
    });
    site.clock.advance(secs(60));
    visitors
}

#[test]
fn one_live_session_is_used_wherever_its_id_stands() {
    let site = Site::new();
    let [live, other] = two(&site);
    let superseded = other.id();
    other.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    let wrong = SessionId::parse(other.id()).unwrap().with_new_secret().unwrap();
    let (live_id, wrong) = (live.id(), wrong.text().to_string());
    for rest in [UNKNOWN, "junk", &superseded, &wrong] {
        for ids in [[&*live_id, rest], [rest, &*live_id]] {
            let request = begin(&site, &ids);
            assert_eq!(request.session.get::<u64>("n").unwrap(), Some(1), "beside {rest}");
            assert!(is_silent(&request.finish().unwrap()));
        }
    }
    // The session can be changed and logged in.
    let request = begin(&site, &[UNKNOWN, &live_id]);
    request.session.set("n", &3u64).unwrap();
    request.session.log_in("ada").unwrap();
    assert!(live.receive(request.finish().unwrap()).set_cookie().is_some());
    assert_eq!((live.get("n"), site.count()), (Some(3), 2));
}

#[test]
fn without_a_live_one_a_superseded_one_counts_and_else_the_visitor_is_new() {
    let site = Site::new();
    let [visitor, _] = two(&site);
    let old = visitor.id();
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    for ids in [[&*old, UNKNOWN], [UNKNOWN, &*old], [&*old, "junk"]] {
        let request = begin(&site, &ids);
        request.session.set("n", &3u64).unwrap();
        assert!(matches!(request.finish(), Err(Error::Gone)));
    }
    site.clock.advance(secs(10));
    let request = begin(&site, &[&old, UNKNOWN]);
    assert!(request.sees_nothing());
    request.session.set("n", &3u64).unwrap();
    let anew = site.visitor();
    assert!(anew.receive(request.finish().unwrap()).set_cookie().is_some());
    assert_eq!((anew.get("n"), site.count()), (Some(3), 3));
}

#[test]
fn of_several_live_ones_none_is_seen_and_nothing_is_stored() {
    let site = Site::new();
    let [one, two] = two(&site);
    let ids = [&*one.id(), UNKNOWN, &*two.id()];
    for _ in 0..10 {
        let form = begin(&site, &ids);
        assert!(form.sees_nothing());
        form.session.set("n", &3u64).unwrap();
        assert!(matches!(form.finish(), Err(Error::Gone)));
        let page = Underway::of(&site, &with(Method::GET, &ids));
        page.session.set("n", &3u64).unwrap();
        page.session.regenerate().unwrap();
        assert!(is_silent(&page.finish().unwrap()));
    }
    assert_eq!((one.get("n"), two.get("n"), site.count()), (Some(1), Some(2), 2));
}

#[test]
fn a_login_from_there_works_at_once_and_ends_what_was_presented() {
    for (method, is_down) in [(Method::POST, false), (Method::GET, false), (Method::POST, true)] {
        let site = Site::new();
        let [one, two] = two(&site);
        let bystander = site.visitor();
        bystander.set("n", 9);
        let ids = [&*one.id(), &*two.id()];
        let login = Underway::of(&site, &with(method, &ids));
        login.session.log_in("ada").unwrap();
        login.session.set("own", &4u64).unwrap();
        if is_down {
            // The login succeeds although the others can't be ended.
            site.store.sabotage("destroy", Fault::Down);
        }
        let visitor = site.visitor();
        assert!(visitor.receive(login.finish().unwrap()).set_cookie().is_some());
        site.store.mend();
        assert_eq!((visitor.get("own"), visitor.get("n")), (Some(4), None), "it starts empty");
        assert_eq!(ids.map(|id| site.has(id)), [is_down; 2]);
        assert_eq!(bystander.get("n"), Some(9));
        if !is_down {
            // The browser may keep sending one of the old cookies.
            let next = begin(&site, &[ids[0], &visitor.id(), ids[1]]);
            assert_eq!(next.session.owner().as_deref(), Some("ada"));
            assert!(is_silent(&next.finish().unwrap()));
            assert_eq!(site.count(), 2);
        }
    }
}

#[test]
fn a_logout_from_there_ends_what_was_presented_and_clears_the_cookie() {
    let site = Site::new();
    let [one, two] = two(&site);
    let ids = [&*one.id(), &*two.id()];
    let logout = begin(&site, &ids);
    block_on(logout.session.destroy()).unwrap();
    assert_eq!(ids.map(|id| site.has(id)), [false; 2]);
    let reply = one.receive(logout.finish().unwrap());
    assert!(reply.attributes().contains("Max-Age=0"));
    assert_eq!(site.count(), 0);
}

#[test]
fn however_often_such_a_request_starts_anew_one_record_is_made() {
    let site = Site::new();
    let [one, two] = two(&site);
    let (one, two) = (one.id(), two.id());
    // The browser keeps one cookie for each path, and gets a new one beside them.
    let mut anew = None::<Visitor<'_>>;
    for n in 0..5u64 {
        let own = anew.as_ref().map(Visitor::id);
        let ids: Vec<&str> = [&*one, &*two].into_iter().chain(own.as_deref()).collect();
        let form = begin(&site, &ids);
        form.session.start_anew().unwrap();
        form.session.set("token", &n).unwrap();
        let visitor = anew.unwrap_or_else(|| site.visitor());
        visitor.receive(form.finish().unwrap());
        assert_eq!((visitor.get("token"), site.count()), (Some(n), 1));
        anew = Some(visitor);
    }
}

#[test]
fn of_more_than_four_the_last_four_are_looked_up() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let id = visitor.id();
    let strangers: Vec<_> =
        (1..=6).map(|n| SessionId::from_bytes([n; 32]).text().to_string()).collect();
    for place in 0..=6 {
        let mut ids: Vec<&str> = strangers.iter().map(String::as_str).collect();
        ids.insert(place, &id);
        site.store.calls();
        let request = begin(&site, &ids);
        let found = request.session.get::<u64>("n").unwrap();
        assert_eq!(found, (place >= 3).then_some(1), "at {place}");
        assert_eq!(site.store.calls(), ["load"; 4]);
    }
    assert!(site.log.text().contains("more ids than are looked up"));
}

/// The same id twice counts as one id.
#[test]
fn the_same_id_twice_is_looked_up_once() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    let id = visitor.id();
    let request = begin(&site, &[&id, &id]);
    assert_eq!(request.session.get::<u64>("n").unwrap(), Some(1));
    assert_eq!(site.store.calls(), ["load"]);
}

#[test]
fn a_cookie_that_is_configured_anew_logs_nobody_out_and_locks_nobody_out() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
    let anew = site.reconfigured(|config| config.cookie.partitioned = true);
    let old = visitor.id();
    // The browser keeps the new cookie beside the old one, and sends both.
    let request = Underway::of(&anew, &with(Method::POST, &[&old]));
    assert_eq!(request.session.owner().as_deref(), Some("ada"));
    request.session.log_in("ada").unwrap();
    let moved = anew.visitor();
    assert!(moved.receive(request.finish().unwrap()).attributes().contains("Partitioned"));
    for wait in [0, 60, 1200] {
        site.clock.advance(secs(wait));
        for ids in [[&*old, &*moved.id()], [&*moved.id(), &*old]] {
            let request = Underway::of(&anew, &with(Method::GET, &ids));
            assert_eq!(request.session.owner().as_deref(), Some("ada"), "after {wait} s");
        }
    }
    assert_eq!(site.count(), 1);
}

#[test]
fn a_logout_after_a_start_or_a_login_of_its_own_ends_all_that_were_presented() {
    for first in ["start_anew", "log_in"] {
        let site = Site::new();
        let [one, other] = two(&site);
        let request = begin(&site, &[&one.id(), &other.id()]);
        match first {
            "start_anew" => request.session.start_anew().unwrap(),
            _ => request.session.log_in("ada").unwrap(),
        }
        block_on(request.session.destroy()).unwrap();
        assert!(one.receive(request.finish().unwrap()).set_cookie().is_some(), "{first}");
        assert_eq!((one.cookie(), site.count()), (None, 0), "{first}");
    }
}

#[test]
fn a_login_that_fails_ends_none_of_them() {
    let site = Site::new();
    let [one, other] = two(&site);
    site.store.sabotage("create", Fault::Full);
    let request = begin(&site, &[&one.id(), &other.id()]);
    request.session.log_in("ada").unwrap();
    assert!(matches!(request.finish(), Err(Error::Full { .. })));
    site.store.mend();
    assert_eq!((one.get("n"), other.get("n")), (Some(1), Some(2)));
}
