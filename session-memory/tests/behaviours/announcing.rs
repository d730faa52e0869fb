//! Renewal of cookies.
//!
//! A cookie with a Max-Age is set again in each third of its Max-Age when the client navigates, so that
//! it never ends for a regular visitor. Any cookie is set again once when its configured attributes
//! change. Background requests, and requests that lost their session to a login, don't set it: their
//! response may arrive after the login's.

use http::header::HeaderValue;
use http::{Method, Request};
use session_core::Config;
use session_core::transport::SameSite;

use crate::support::*;

const DAY: u64 = 86_400;

/// Configures cookies of 30 days, for sessions of a year.
fn monthly(config: &mut Config) {
    config.cookie.persistent = true;
    config.cookie.max_age = Some(secs(30 * DAY));
    (config.idle, config.absolute) = (secs(365 * DAY), secs(365 * DAY));
}

/// Returns a request with these Fetch Metadata headers.
fn fetch<'s>(site: &'s Site, visitor: &Visitor<'s>, mode: &str, dest: &str) -> Request<()> {
    assert_eq!(site.manager.name(), "__Host-id");
    let mut request = visitor.request();
    *request.method_mut() = Method::GET;
    for (name, value) in [("sec-fetch-mode", mode), ("sec-fetch-dest", dest)] {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// Returns whether the response to a request that reads sets the visitor's cookie.
fn is_announced(site: &Site, visitor: &Visitor<'_>, request: &Request<()>) -> bool {
    let page = Underway::of(site, request);
    assert!(!page.session.is_new());
    let before = visitor.cookie();
    let reply = visitor.receive(page.finish().unwrap());
    assert_eq!(visitor.cookie(), before, "the same id");
    reply.set_cookie().is_some()
}

fn navigates(site: &Site, visitor: &Visitor<'_>) -> bool {
    is_announced(site, visitor, &fetch(site, visitor, "navigate", "document"))
}

fn polls(site: &Site, visitor: &Visitor<'_>) -> bool {
    is_announced(site, visitor, &fetch(site, visitor, "cors", "empty"))
}

#[test]
fn a_client_that_keeps_navigating_is_told_before_two_thirds_of_the_max_age_are_gone() {
    // The times between two visits, with a background poll before each.
    for step in [3600, DAY, 3 * DAY + 7, 10 * DAY - 1] {
        let site = Site::configured(monthly);
        let visitor = site.visitor();
        assert!(visitor.set("n", 1).attributes().ends_with("; Max-Age=2592000"));
        let (mut told, mut times) = (site.manager.now(), 0);
        let end = told.saturating_add(secs(340 * DAY));
        while site.manager.now() < end {
            site.clock.advance(secs(step / 2));
            assert!(!polls(&site, &visitor), "in the background");
            site.clock.advance(secs(step - step / 2));
            if navigates(&site, &visitor) {
                told = site.manager.now();
                times += 1;
            }
            assert!(site.manager.now().since(told) < secs(20 * DAY), "every {step} s");
        }
        assert!((33..=35).contains(&times), "{times} times, every {step} s");
    }
}

#[test]
fn it_costs_one_save_in_a_third() {
    let site = Site::configured(|config| {
        monthly(config);
        config.touch_every = Some(secs(300 * DAY));
    });
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.clock.advance(secs(10 * DAY) - Duration::from_millis(1));
    site.store.calls();
    for (wait, calls) in [(0, vec!["load"]), (1, vec!["load", "save"]), (1, vec!["load"])] {
        site.clock.advance(Duration::from_millis(wait));
        assert_eq!(navigates(&site, &visitor), calls.len() == 2);
        assert_eq!(site.store.calls(), calls);
    }
    // A save renews the cookie as well.
    site.clock.advance(secs(10 * DAY));
    site.store.calls();
    assert!(visitor.set("n", 2).set_cookie().is_some());
    assert_eq!(site.store.calls(), ["load", "save"]);
    // A new id renews it, too.
    site.clock.advance(secs(10 * DAY));
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    assert!(!navigates(&site, &visitor));
}

#[test]
fn what_is_left_of_the_session_is_told_in_thirds_too() {
    let site = Site::configured(|config| config.idle = secs(30 * DAY));
    let visitor = site.visitor();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in("ada").unwrap();
        session.remember(true).unwrap();
    });
    assert!(reply.attributes().ends_with("; Max-Age=2592000"));
    let mut told = Vec::new();
    for day in 1..30 {
        site.clock.advance(secs(DAY));
        let page = visitor.begin(Method::GET);
        if let Some(cookie) = visitor.receive(page.finish().unwrap()).set_cookie() {
            assert!(cookie.ends_with(&format!("; Max-Age={}", (30 - day) * DAY)), "{cookie}");
            told.push(day);
        }
    }
    assert_eq!(told, [10, 20]);
}

/// Browsers keep no cookie for longer.
#[test]
fn a_max_age_beyond_four_hundred_days_is_told_in_thirds_of_these() {
    let site = Site::configured(|config| {
        config.cookie.persistent = true;
        (config.idle, config.absolute) = (Duration::MAX, Duration::MAX);
    });
    let visitor = site.visitor();
    visitor.set("n", 1);
    for (days, told) in [(133, false), (1, true), (132, false), (1, true), (134, true)] {
        site.clock.advance(secs(days * DAY));
        assert_eq!(navigates(&site, &visitor), told);
    }
}

#[test]
fn a_cookie_that_ends_with_the_browser_is_never_told_again() {
    let site = Site::configured(|config| {
        (config.idle, config.absolute) = (secs(365 * DAY), secs(365 * DAY));
        config.cookie.max_age = Some(secs(DAY));
    });
    let visitor = site.visitor();
    visitor.set("n", 1);
    for _ in 0..300 {
        site.clock.advance(secs(DAY));
        assert!(!navigates(&site, &visitor));
    }
}

#[test]
fn a_request_in_the_background_announces_nothing() {
    let site = Site::configured(monthly);
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.clock.advance(secs(15 * DAY));
    for (mode, dest) in [
        ("cors", "empty"),
        ("no-cors", "image"),
        ("same-origin", "empty"),
        ("navigate", "iframe"),
        ("navigate", "empty"),
        ("websocket", "websocket"),
    ] {
        assert!(
            !is_announced(&site, &visitor, &fetch(&site, &visitor, mode, dest)),
            "{mode} {dest}"
        );
    }
    // A background request that stores something doesn't renew it either.
    let mut request = fetch(&site, &visitor, "cors", "empty");
    *request.method_mut() = Method::POST;
    let form = Underway::of(&site, &request);
    form.session.set("n", &2u64).unwrap();
    assert!(visitor.receive(form.finish().unwrap()).is_plain());
    // A client without Fetch Metadata sends one request after the other.
    assert!(is_announced(&site, &visitor, &visitor.request()));
}

#[test]
fn a_request_that_saw_the_secret_change_announces_nothing() {
    for (method, stores) in [(Method::GET, false), (Method::POST, false), (Method::GET, true)] {
        let site = Site::configured(monthly);
        let visitor = site.visitor();
        visitor.set("n", 1);
        site.clock.advance(secs(15 * DAY));
        let page = visitor.begin(method);
        if stores {
            page.session.set("n", &2u64).unwrap();
        }
        let login = visitor.begin(Method::POST);
        login.session.log_in("ada").unwrap();
        visitor.receive(login.finish().unwrap());
        assert!(is_silent(&page.finish().unwrap()), "it had nothing to save");
        let session = visitor.begin(Method::GET).session;
        assert_eq!(session.owner().as_deref(), Some("ada"));
        assert!(!navigates(&site, &visitor), "the login told it");
    }
}

/// If the store fails to record the renewal, the page succeeds nonetheless.
#[test]
fn a_store_that_fails_for_it_alone_fails_no_page() {
    for fault in [Fault::Down, Fault::Full, Fault::DoubtBefore] {
        let site = Site::configured(monthly);
        let visitor = site.visitor();
        visitor.set("n", 1);
        site.clock.advance(secs(15 * DAY));
        site.store.sabotage("save", fault);
        assert!(!navigates(&site, &visitor), "{fault:?}");
        let form = visitor.begin(Method::POST);
        form.session.set("n", &2u64).unwrap();
        assert!(form.finish().is_err(), "it had something to save: {fault:?}");
        site.store.mend();
        assert!(navigates(&site, &visitor), "{fault:?}");
        assert_eq!(visitor.get("n"), Some(1));
    }
}

#[test]
fn attributes_that_are_configured_differently_are_told_once() {
    type Edit = fn(&mut Config);
    let edits: [(Edit, &str); 8] = [
        (|config| config.cookie.path = "/app".into(), "Path=/app; Secure; HttpOnly; SameSite=Lax"),
        (
            |config| config.cookie.domain = Some("example.com".into()),
            "Path=/; Domain=example.com; Secure; HttpOnly; SameSite=Lax",
        ),
        (|config| config.cookie.secure = false, "Path=/; HttpOnly; SameSite=Lax"),
        (|config| config.cookie.http_only = false, "Path=/; Secure; SameSite=Lax"),
        (
            |config| config.cookie.same_site = SameSite::Strict,
            "Path=/; Secure; HttpOnly; SameSite=Strict",
        ),
        (
            |config| config.cookie.partitioned = true,
            "Path=/; Secure; HttpOnly; SameSite=Lax; Partitioned",
        ),
        (
            |config| config.cookie.persistent = true,
            "Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=43200",
        ),
        (|config| config.cookie.max_age = Some(secs(60)), ""),
    ];
    for (edit, attributes) in edits {
        let site = Site::configured(|config| config.cookie.name = "id".into());
        let visitor = site.visitor();
        visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
        let anew = site.reconfigured(|config| {
            config.cookie.name = "id".into();
            edit(config);
        });
        let visitor = Visitor::with_cookie(&anew, &visitor.cookie().unwrap());
        let page = visitor.begin(Method::GET);
        let reply = visitor.receive(page.finish().unwrap());
        match reply.set_cookie() {
            Some(_) => assert_eq!(reply.attributes(), attributes),
            // A cookie that ends with the browser has no Max-Age.
            None => assert_eq!(attributes, ""),
        }
        for method in [Method::GET, Method::POST] {
            let next = visitor.begin(method);
            assert_eq!(next.session.owner().as_deref(), Some("ada"));
            assert!(visitor.receive(next.finish().unwrap()).is_plain(), "told twice: {attributes}");
        }
    }
}

/// A changed Max-Age counts as a changed attribute, too.
#[test]
fn a_max_age_that_is_configured_differently_is_told_once() {
    let site = Site::configured(|config| config.cookie.persistent = true);
    let visitor = site.visitor();
    visitor.set("n", 1);
    for (max_age, wanted) in [(None, 7200), (Some(secs(600)), 600), (Some(secs(601)), 601)] {
        let anew = site.reconfigured(|config| {
            config.cookie.persistent = true;
            config.absolute = secs(7200);
            config.cookie.max_age = max_age;
        });
        let visitor = Visitor::with_cookie(&anew, &visitor.cookie().unwrap());
        let page = visitor.begin(Method::GET);
        let reply = visitor.receive(page.finish().unwrap());
        assert!(reply.attributes().ends_with(&format!("; Max-Age={wanted}")), "{reply:?}");
        let page = visitor.begin(Method::GET);
        assert!(visitor.receive(page.finish().unwrap()).is_plain());
    }
}

/// The browser keeps the cookie of the new configuration beside the old one, and sends both.
#[test]
fn a_cookie_that_moved_logs_nobody_out_and_locks_nobody_out() {
    let edits: [fn(&mut Config); 3] = [
        |config| config.cookie.partitioned = true,
        |config| config.cookie.path = "/app".into(),
        |config| config.cookie.domain = Some("example.com".into()),
    ];
    for edit in edits {
        let site = Site::configured(|config| config.cookie.name = "id".into());
        let visitor = site.visitor();
        visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
        let old = visitor.cookie().unwrap();
        let anew = site.reconfigured(|config| {
            config.cookie.name = "id".into();
            edit(config);
        });
        let moved = Visitor::with_cookie(&anew, &old);
        let begin = |method: Method| {
            let own = moved.cookie().unwrap_or_default();
            let mut request = Request::new(());
            *request.method_mut() = method;
            let both = format!("id={own}; id={old}");
            request.headers_mut().insert("cookie", HeaderValue::try_from(both).unwrap());
            Underway::of(&anew, &request)
        };
        let page = begin(Method::GET);
        assert!(moved.receive(page.finish().unwrap()).set_cookie().is_some());
        for wait in [0, 60, 1200] {
            site.clock.advance(secs(wait));
            let page = begin(Method::GET);
            assert_eq!(page.session.owner().as_deref(), Some("ada"), "after {wait} s");
            assert!(moved.receive(page.finish().unwrap()).is_plain());
        }
        let login = begin(Method::POST);
        login.session.log_in("ada").unwrap();
        assert!(moved.receive(login.finish().unwrap()).set_cookie().is_some());
        assert_ne!(moved.cookie(), Some(old.clone()));
        for wait in [0, 60] {
            site.clock.advance(secs(wait));
            let page = begin(Method::GET);
            assert_eq!(page.session.owner().as_deref(), Some("ada"), "{wait} s after a new login");
        }
        let logout = begin(Method::POST);
        block_on(logout.session.destroy()).unwrap();
        moved.receive(logout.finish().unwrap());
        assert_eq!((begin(Method::GET).sees_nothing(), site.count()), (true, 0));
    }
}
