//! Logins.
//!
//! A login is one save with the new id, the owner and what the request set. All concurrent logins from
//! one old id succeed. Whatever fails before the save leaves the old id valid. What the store
//! acknowledged is sent to the client, whatever the response's status. The absolute lifetime counts from
//! the login.

use http::{Method, Request, Response, StatusCode};
use hyper::service::Service as _;
use session_core::provider::BoxError;
use session_core::{Error, Lifetime, Managers, SessionService, Sessions};

use crate::support::*;

/// Returns a visitor with an anonymous session that has something in the cart.
fn shopper(site: &Site) -> Visitor<'_> {
    let visitor = site.visitor();
    visitor.set("cart", 3);
    visitor
}

/// Returns a request with a login that is not finished yet.
fn login(visitor: &Visitor<'_>, owner: &str) -> Underway {
    let request = visitor.begin(Method::POST);
    request.session.log_in(owner).unwrap();
    request
}

/// Checks that a response logs its client in, and puts the cookie into the jar.
fn receive(visitor: &Visitor<'_>, response: Response<()>, name: &str) {
    assert!(visitor.receive(response).set_cookie().is_some(), "a login sets a cookie");
    assert_eq!(visitor.owner().as_deref(), Some(name));
}

#[test]
fn logins_at_once_all_succeed_and_keep_what_they_loaded() {
    for number in [2, 3, 10] {
        let site = Site::new();
        let visitor = shopper(&site);
        let old = visitor.id();
        let tabs: Vec<_> = (0..number).map(|_| visitor.tab()).collect();
        let logins: Vec<_> = tabs.iter().map(|tab| login(tab, "ada")).collect();
        for (n, (tab, login)) in tabs.iter().zip(&logins).enumerate() {
            login.session.set("own", &(n as u64)).unwrap();
            receive(tab, login.finish().unwrap(), "ada");
        }
        for (n, tab) in tabs.iter().enumerate() {
            assert_eq!((tab.get("cart"), tab.get("own")), (Some(3), Some(n as u64)));
        }
        assert!(!site.has(&old));
        assert_eq!(site.count(), number);
        let stats = site.manager.stats();
        assert_eq!((stats.logins, stats.forked, stats.gone), (number, number - 1, 0));
    }
}

#[test]
fn logins_at_once_as_different_owners_share_nothing() {
    let site = Site::new();
    let visitor = shopper(&site);
    let tabs = [visitor.tab(), visitor.tab()];
    let logins = [login(&tabs[0], "ada"), login(&tabs[1], "grace")];
    logins[0].session.set("mine", &1u64).unwrap();
    receive(&tabs[0], logins[0].finish().unwrap(), "ada");
    receive(&tabs[1], logins[1].finish().unwrap(), "grace");
    assert_eq!((tabs[0].get("cart"), tabs[0].get("mine")), (Some(3), Some(1)));
    assert_eq!((tabs[1].get("cart"), tabs[1].get("mine")), (None, None), "it starts empty");
}

/// In any order, and with any kind of write.
#[test]
fn a_login_that_loses_to_a_new_id_keeps_what_it_loaded_and_one_that_loses_to_a_logout_starts_empty()
{
    for is_logout in [false, true] {
        for by in ["finish", "save", "update"] {
            let site = Site::new();
            let visitor = shopper(&site);
            let login = login(&visitor, "ada");
            login.session.set("own", &1u64).unwrap();
            let other = visitor.tab();
            other.visit(async |handle| {
                let session = handle.load().await.unwrap();
                match is_logout {
                    true => session.destroy().await.unwrap(),
                    false => session.regenerate().unwrap(),
                }
            });
            match by {
                "save" => block_on(login.session.save()).unwrap(),
                "update" => {
                    let one = block_on(
                        login.session.update("logins", |n: Option<u64>| n.unwrap_or(0) + 1),
                    );
                    assert_eq!(one.unwrap(), 1);
                }
                _ => {}
            }
            receive(&visitor, login.finish().unwrap(), "ada");
            assert_eq!(visitor.get("cart"), (!is_logout).then_some(3), "{by}");
            assert_eq!(visitor.get("own"), Some(1), "what the login set itself stays: {by}");
            assert_eq!(visitor.get("logins"), (by == "update").then_some(1));
            assert_eq!(site.count(), if is_logout { 1 } else { 2 });
        }
    }
}

#[test]
fn a_login_after_a_lost_response_succeeds_at_once_and_starts_empty() {
    for method in [Method::POST, Method::GET] {
        let site = Site::new();
        let visitor = shopper(&site);
        let lost = login(&visitor, "ada");
        lost.session.set("second factor", &1u64).unwrap();
        lost.finish().unwrap();
        let again = visitor.begin(method);
        assert!(again.sees_nothing());
        again.session.log_in("ada").unwrap();
        receive(&visitor, again.finish().unwrap(), "ada");
        assert_eq!((visitor.get("cart"), visitor.get("second factor")), (None, None));
    }
}

/// The form is loaded first, and stores a token.
#[test]
fn a_login_whose_form_needs_a_session_succeeds_after_a_lost_response() {
    let site = Site::new();
    let visitor = shopper(&site);
    login(&visitor, "ada").finish().unwrap();
    let form = visitor.begin(Method::GET);
    form.session.start_anew().unwrap();
    form.session.set("token", &7u64).unwrap();
    visitor.receive(form.finish().unwrap());
    let submitted = login(&visitor, "ada");
    assert_eq!(submitted.session.get::<u64>("token").unwrap(), Some(7));
    receive(&visitor, submitted.finish().unwrap(), "ada");
}

#[test]
fn a_login_as_another_owner_takes_nothing_over() {
    let site = Site::new();
    let visitor = shopper(&site);
    let first = login(&visitor, "ada");
    let short = Lifetime { idle: secs(60), absolute: secs(600) };
    first.session.set_lifetime(short).unwrap();
    first.session.label("a device").unwrap();
    block_on(first.session.add_flash("info", "hello, ada")).unwrap();
    receive(&visitor, first.finish().unwrap(), "ada");
    let key = visitor.key();

    let tab = visitor.tab();
    let second = login(&visitor, "grace");
    assert_eq!(second.session.keys(), [""; 0], "from the login on");
    second.session.set("own", &1u64).unwrap();
    tab.set("added meanwhile", 5);
    receive(&visitor, second.finish().unwrap(), "grace");
    assert_eq!(visitor.key(), key);
    let session = visitor.begin(Method::GET).session;
    assert_eq!(session.keys(), ["own"]);
    assert_ne!(session.lifetime(), short);
    let messages = block_on(session.take_flash::<String>("info")).unwrap();
    assert!(messages.is_empty());
    let stored = site.store.peek(&visitor.token(), site.manager.now()).unwrap();
    assert_eq!(&*stored.login.unwrap().label, "");
}

#[test]
fn a_login_is_one_load_and_one_save() {
    let site = Site::new();
    let visitor = shopper(&site);
    site.store.calls();
    let login = login(&visitor, "ada");
    login.session.label("a device").unwrap();
    login.session.set("own", &1u64).unwrap();
    login.session.delete("cart").unwrap();
    login.finish().unwrap();
    assert_eq!(site.store.calls(), ["load", "save"]);
}

#[test]
fn a_login_or_a_new_id_that_cannot_be_saved_leaves_the_old_id_as_it_was() {
    for fault in [Fault::Down, Fault::Full, Fault::DoubtBefore] {
        for is_login in [true, false] {
            let site = Site::new();
            let visitor = shopper(&site);
            let request = visitor.begin(Method::POST);
            match is_login {
                true => request.session.log_in("ada").unwrap(),
                false => request.session.regenerate().unwrap(),
            }
            request.session.set("cart", &4u64).unwrap();
            let new = text_of(&request.session);
            site.store.sabotage("save", fault);
            let error = request.finish().unwrap_err();
            assert_eq!(error.status(), 503, "{fault:?}");
            site.store.mend();
            assert!(!site.has(&new) && site.has(&visitor.id()), "{fault:?}");
            assert_eq!((visitor.get("cart"), visitor.owner()), (Some(3), None));
            // The changes are kept for another attempt, under the same new id.
            let reply = visitor.receive(request.finish().unwrap());
            assert!(reply.set_cookie().is_some());
            assert_eq!((visitor.id(), visitor.get("cart")), (new, Some(4)));
            assert_eq!(visitor.owner().as_deref(), is_login.then_some("ada"));
        }
    }
}

#[test]
fn a_login_of_unknown_outcome_is_repeated_once() {
    for fault in [Fault::DoubtBefore, Fault::DoubtAfter] {
        let site = Site::new();
        let visitor = shopper(&site);
        let login = login(&visitor, "ada");
        site.store.calls();
        site.store.sabotage_once("save", fault);
        receive(&visitor, login.finish().unwrap(), "ada");
        assert_eq!(site.store.calls()[..2], ["save", "save"], "{fault:?}");
        assert_eq!((visitor.get("cart"), site.count()), (Some(3), 1));
        assert_eq!(site.manager.stats().logins, 1);
    }
}

#[test]
fn a_login_whose_outcome_stays_unknown_sets_no_cookie_and_a_retry_succeeds() {
    for fault in [Fault::DoubtBefore, Fault::DoubtAfter] {
        for is_same_request in [true, false] {
            let site = Site::new();
            let visitor = shopper(&site);
            let first = login(&visitor, "ada");
            site.store.sabotage("save", fault);
            let error = first.finish().unwrap_err();
            assert!(matches!(error, Error::InDoubt { .. }), "{error:?}");
            assert_eq!(error.status(), 503);
            site.store.mend();
            let again = if is_same_request { first } else { login(&visitor, "ada") };
            receive(&visitor, again.finish().unwrap(), "ada");
        }
    }
}

#[test]
fn a_first_login_of_unknown_outcome_makes_one_session() {
    for fault in [Fault::DoubtBefore, Fault::DoubtAfter] {
        let site = Site::new();
        let visitor = site.visitor();
        let login = login(&visitor, "ada");
        site.store.sabotage_once("create", fault);
        receive(&visitor, login.finish().unwrap(), "ada");
        assert_eq!(site.count(), 1, "{fault:?}");
    }
}

/// By hand: the response's status tells whether the handler failed.
#[test]
fn a_response_that_says_the_handler_failed_drops_what_is_pending() {
    for (status, is_dropped) in [
        (500, true),
        (503, true),
        (599, true),
        (408, true),
        (200, false),
        (404, false),
        (409, false),
    ] {
        let site = Site::new();
        let visitor = shopper(&site);
        let stored = shopper(&site);
        let old = visitor.id();
        let status = StatusCode::from_u16(status).unwrap();
        let request = login(&visitor, "ada");
        request.session.set("cart", &4u64).unwrap();
        visitor.receive(request.finish_with(status).unwrap());
        assert_eq!(visitor.id() == old, is_dropped, "{status}");
        assert_eq!(visitor.get("cart"), Some(if is_dropped { 3 } else { 4 }), "{status}");
        assert_eq!(visitor.owner().is_none(), is_dropped, "{status}");

        // A new session is not created then.
        let stranger = site.visitor();
        let request = login(&stranger, "ada");
        stranger.receive(request.finish_with(status).unwrap());
        assert_eq!(stranger.cookie().is_none(), is_dropped, "{status}");

        // Operations that acted at once stay, and their cookie is set.
        let old = stored.id();
        let request = login(&stored, "ada");
        block_on(request.session.save()).unwrap();
        request.session.set("cart", &5u64).unwrap();
        receive(&stored, request.finish_with(status).unwrap(), "ada");
        assert_ne!(stored.id(), old, "{status}");
        assert_eq!(stored.get("cart"), Some(if is_dropped { 3 } else { 5 }), "{status}");
    }
}

fn sessions(request: &Request<()>) -> Sessions {
    request.extensions().get::<Sessions>().expect("the wrapper puts them there").clone()
}

/// With the wrapper: an error of any type, a status, a panic.
#[test]
fn a_handler_that_fails_after_its_login_leaves_the_old_id_as_it_was() {
    for failure in ["session error", "other error", "status", "panic"] {
        let site = Site::new();
        let visitor = shopper(&site);
        let handler = Handler(move |request: Request<()>| async move {
            let sessions = sessions(&request);
            let session = sessions.only().unwrap().load().await?;
            session.log_in("ada")?;
            session.set("cart", &4u64)?;
            match failure {
                "session error" => Err(BoxError::from(Error::Conflict)),
                "other error" => Err("mine".into()),
                "status" => Ok(Response::builder().status(502).body(Frames::default())?),
                _ => panic!("a handler's own"),
            }
        });
        let service = SessionService::new(site.manager.clone(), handler);
        let response = block_on(service.call(visitor.request())).unwrap();
        let status = match failure {
            "session error" => 409,
            "status" => 502,
            _ => 500,
        };
        assert_eq!(response.status().as_u16(), status);
        assert!(visitor.receive(response.map(drop)).set_cookie().is_none());
        assert_eq!((visitor.get("cart"), visitor.owner()), (Some(3), None), "{failure}");
        assert_eq!(site.count(), 1);
    }
}

#[test]
fn another_managers_store_that_is_down_costs_no_login() {
    for order in [[0, 1], [1, 0]] {
        let sites = ["__Host-shop", "__Host-admin"]
            .map(|name| Site::configured(|config| config.cookie.name = name.into()));
        let visitor = shopper(&sites[0]);
        sites[1].store.sabotage("create", Fault::Down);
        let handler = Handler(async |request: Request<()>| {
            let sessions = sessions(&request);
            sessions.get("__Host-shop").unwrap().load().await?.log_in("ada")?;
            sessions.get("__Host-admin").unwrap().load().await?.set("n", &1)?;
            Ok(Response::new(Frames::default()))
        });
        let managers = order.map(|at| sites[at].manager.clone());
        let service = SessionService::new(Managers::new(managers).unwrap(), handler);
        let response = block_on(service.call(visitor.request())).unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        // The login was stored, and its cookie is set.
        receive(&visitor, response.map(drop), "ada");
        assert_eq!(visitor.get("cart"), Some(3));
    }
}

/// The client disconnects at any point where the login waits for the store.
#[test]
fn a_login_that_is_dropped_before_its_save_leaves_the_old_id_as_it_was() {
    let site = Site::new();
    let visitor = shopper(&site);
    let request = login(&visitor, "ada");
    site.store.sabotage("save", Fault::StallBefore);
    let mut response = Response::new(());
    let finishing = request.handle.finish(&mut response);
    assert!(block_on(futures_lite::future::poll_once(finishing)).is_none());
    drop(request);
    site.store.mend();
    assert_eq!((visitor.get("cart"), visitor.owner()), (Some(3), None));
}

#[test]
fn the_absolute_lifetime_counts_from_the_login() {
    const HOUR: u64 = 3600;
    let site = Site::configured(|config| {
        config.idle = secs(12 * HOUR);
        config.absolute = secs(12 * HOUR);
    });
    let visitor = shopper(&site);
    let created = site.manager.now();
    for round in 1..=3 {
        site.clock.advance(secs(11 * HOUR));
        let login = login(&visitor, "ada");
        assert_eq!(login.session.remaining(), secs(12 * HOUR));
        assert_eq!(login.session.created(), created);
        receive(&visitor, login.finish().unwrap(), "ada");
        assert_eq!(visitor.get("cart"), Some(3), "round {round}");
    }
    site.clock.advance(secs(12 * HOUR) - Duration::from_millis(1));
    assert_eq!(visitor.owner().as_deref(), Some("ada"));
    site.clock.advance(Duration::from_millis(1));
    assert_eq!((visitor.owner(), site.count()), (None, 0));
}

/// A new id alone doesn't restart the absolute lifetime.
#[test]
fn a_new_id_without_a_login_prolongs_no_absolute_lifetime() {
    const HOUR: u64 = 3600;
    let site = Site::configured(|config| config.idle = config.absolute);
    let visitor = shopper(&site);
    site.clock.advance(secs(11 * HOUR));
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    site.clock.advance(secs(HOUR) - Duration::from_millis(1));
    assert_eq!(visitor.get("cart"), Some(3));
    site.clock.advance(Duration::from_millis(1));
    assert_eq!(visitor.get("cart"), None);
}

#[test]
fn a_fresh_login_is_told_from_an_old_one() {
    let site = Site::new();
    let visitor = shopper(&site);
    let fresh =
        |visitor: &Visitor<'_>| visitor.begin(Method::GET).session.authenticated_within(secs(300));
    assert!(!fresh(&visitor), "nobody is logged in");
    receive(&visitor, login(&visitor, "ada").finish().unwrap(), "ada");
    site.clock.advance(secs(300));
    assert!(fresh(&visitor));
    site.clock.advance(Duration::from_millis(1));
    assert!(!fresh(&visitor));
    receive(&visitor, login(&visitor, "ada").finish().unwrap(), "ada");
    assert!(fresh(&visitor));
}

/// The new session doesn't get the value that the handler had set before the update.
#[test]
fn a_login_as_another_owner_takes_along_no_value_from_before_an_update() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in("ada").unwrap();
        session.set("n", &5u64).unwrap();
    });
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &5u64).unwrap();
        session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
        session.log_in("bob").unwrap();
    });
    assert_eq!(visitor.get("n"), None);
}
