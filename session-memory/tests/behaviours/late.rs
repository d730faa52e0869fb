//! Requests with an id that was replaced a moment ago, or whose session got a new id or ended while they
//! ran.
//!
//! For ten seconds such a request is mute: it sees nothing, stores nothing and sets no cookie, so that
//! the client keeps the new id. A safe request drops its changes; an unsafe one gets `Gone`. After that,
//! the old id counts as unknown. A wrong secret never ends a session, because keys are public.

use http::Method;
use session_core::{Error, SessionId};

use crate::support::*;

/// Gives the visitor's session a new id. Returns another tab with the old id.
fn renewed<'s>(visitor: &Visitor<'s>, by: &str) -> Visitor<'s> {
    let tab = visitor.tab();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        match by {
            "a login" => session.log_in("ada").unwrap(),
            _ => session.regenerate().unwrap(),
        }
    });
    assert!(reply.set_cookie().is_some());
    tab
}

fn give_up_or_add_one(n: Option<u64>) -> Result<Option<u64>, Error> {
    Ok(Some(add_one(n)))
}

#[test]
fn a_request_with_the_old_id_sees_and_stores_nothing_and_gets_no_cookie() {
    for by in ["a login", "a new id"] {
        let here = Site::new();
        let there = here.reconfigured(|_| ());
        let visitor = here.visitor();
        visitor.set("n", 1);
        let old = renewed(&visitor, by);
        for (site, after) in [(&here, 0), (&there, 5_000), (&here, 9_999), (&there, 9_999)] {
            let renewed_at = here.manager.now();
            site.clock.advance(Duration::from_millis(after));
            let old = Visitor::with_cookie(site, &old.id());
            site.store.calls();

            let page = old.begin(Method::GET);
            assert!(page.sees_nothing(), "{by}, after {after} ms");
            assert_ne!(page.session.key().unwrap(), old.key(), "it names no stored session");
            page.session.set("n", &2u64).unwrap();
            assert!(old.receive(page.finish().unwrap()).is_plain(), "{by}, after {after} ms");

            let form = old.begin(Method::POST);
            assert!(form.sees_nothing());
            form.session.set("n", &2u64).unwrap();
            assert!(matches!(form.finish(), Err(Error::Gone)));

            let reader = old.begin(Method::POST);
            assert!(old.receive(reader.finish().unwrap()).is_plain());
            assert_eq!(site.store.calls(), ["load"; 3]);
            site.clock.set(renewed_at);
        }
        assert_eq!((here.manager.stats().superseded, there.manager.stats().superseded), (6, 6));
        assert_eq!((visitor.get("n"), here.count()), (Some(1), 1), "{by}");
    }
}

#[test]
fn after_ten_seconds_or_as_many_as_configured_the_old_id_is_a_strangers() {
    for (configured, window) in [(None, secs(10)), (Some(secs(3)), secs(3))] {
        let site = Site::configured(|config| {
            config.superseded_for = configured.unwrap_or(config.superseded_for);
        });
        let visitor = site.visitor();
        visitor.set("n", 1);
        site.clock.advance(secs(1));
        let old = renewed(&visitor, "a login");
        site.clock.advance(window - Duration::from_millis(1));
        let late = old.begin(Method::POST);
        late.session.set("n", &2u64).unwrap();
        assert!(matches!(late.finish(), Err(Error::Gone)));
        site.clock.advance(Duration::from_millis(1));
        assert_eq!(old.get("n"), None);
        assert!(old.set("n", 2).set_cookie().is_some());
        assert_ne!(old.key(), visitor.key());
        assert_eq!((old.get("n"), visitor.get("n"), site.count()), (Some(2), Some(1), 2));
    }
}

/// The time of the new id is in the future if another server's clock is fast.
#[test]
fn a_clock_that_differs_mutes_nobody_for_longer() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.clock.advance(secs(60));
    let old = renewed(&visitor, "a new id");
    let renewed_at = site.manager.now();
    for (behind, mute) in [(secs(9), true), (secs(10), false), (secs(50), false)] {
        site.clock.set(renewed_at.saturating_sub(behind));
        let page = old.begin(Method::GET);
        assert!(page.sees_nothing());
        page.session.set("n", &2u64).unwrap();
        let response = page.finish().unwrap();
        assert_eq!(is_silent(&response), mute, "{behind:?} behind");
    }
}

#[test]
fn what_must_be_stored_before_a_login_starts_a_session_of_its_own() {
    for method in [Method::GET, Method::POST] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let old = renewed(&visitor, "a login");
        let form = old.begin(method);
        form.session.start_anew().unwrap();
        form.session.set("token", &7u64).unwrap();
        assert!(old.receive(form.finish().unwrap()).set_cookie().is_some());
        assert_ne!(old.key(), visitor.key());
        assert_eq!((old.get("token"), old.get("n")), (Some(7), None));
        assert_eq!((visitor.get("token"), visitor.get("n")), (None, Some(1)));
    }
    // Any other request continues unchanged.
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (n, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.start_anew().unwrap();
        session.get::<u64>("n").unwrap()
    });
    assert!(n == Some(1) && reply.is_plain());
}

/// So that nothing is decided on values that are not stored.
#[test]
fn in_a_mute_request_an_update_computes_and_what_asks_to_be_stored_is_told_gone() {
    for is_superseded in [true, false] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let page = match is_superseded {
            true => renewed(&visitor, "a login").begin(Method::GET),
            false => {
                let page = visitor.begin(Method::GET);
                renewed(&visitor, "a login");
                page
            }
        };
        // A request whose session got a new id while it runs still sees what it loaded, other than one
        // that came with the replaced id.
        let seen = u64::from(!is_superseded);
        let session = &page.session;
        block_on(async {
            assert_eq!(session.update("n", add_one).await.unwrap(), seen + 1);
            assert_eq!(session.get::<u64>("n").unwrap(), Some(seen + 1), "until its end");
            let decided = session.try_update("n", give_up_or_add_one).await;
            assert!(matches!(decided, Err(Error::Gone)), "{decided:?}");
            session.set("n", &9u64).unwrap();
            assert!(matches!(session.save().await, Err(Error::Gone)));
            assert!(matches!(session.reload().await, Err(Error::Gone)));
            session.add_flash("info", "hello").await.unwrap();
        });
        assert!(is_silent(&page.finish().unwrap()));
        assert_eq!((visitor.get("n"), site.count()), (Some(1), 1));
    }
}

#[test]
fn a_safe_request_whose_session_moved_on_drops_its_changes_and_an_unsafe_one_is_told_gone() {
    for logout in [false, true] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let (page, form) = (visitor.begin(Method::GET), visitor.begin(Method::POST));
        match logout {
            true => drop(block_on(visitor.begin(Method::POST).session.destroy())),
            false => drop(renewed(&visitor, "a login")),
        }
        for request in [&page, &form] {
            assert_eq!(request.session.get::<u64>("n").unwrap(), Some(1), "as it was loaded");
            request.session.set("n", &2u64).unwrap();
        }
        assert!(is_silent(&page.finish().unwrap()));
        assert!(matches!(form.finish(), Err(Error::Gone)));
        let tried = block_on(form.session.update("n", add_one));
        assert!(matches!(tried, Err(Error::Gone | Error::Finished)), "{tried:?}");
        assert_eq!(site.manager.stats().dropped, 2);
        let left = (!logout).then_some(1);
        assert_eq!((visitor.get("n"), site.count()), (left, left.unwrap_or(0)));
    }
}

#[test]
fn of_requests_at_once_one_whose_only_change_is_a_new_id_loses_without_an_error() {
    for winner in ["a login", "a new id"] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let alone = visitor.begin(Method::POST);
        let with_a_value = visitor.begin(Method::POST);
        alone.session.regenerate().unwrap();
        with_a_value.session.regenerate().unwrap();
        with_a_value.session.set("n", &2u64).unwrap();
        renewed(&visitor, winner);
        assert!(is_silent(&alone.finish().unwrap()), "the winner's cookie stays");
        assert!(matches!(with_a_value.finish(), Err(Error::Gone)));
        assert_eq!((visitor.get("n"), site.count()), (Some(1), 1), "{winner}");
    }
}

#[test]
fn a_live_key_with_a_wrong_secret_is_an_event_and_ends_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.clock.advance(secs(60));
    let wrong = visitor.token().id().with_new_secret().unwrap().text().to_string();
    let stranger = Visitor::with_cookie(&site, &wrong);
    assert_eq!(stranger.key(), visitor.key());
    assert_eq!(stranger.get("n"), None);
    let key = visitor.key().to_string();
    let events = site.log.text();
    let events = events.lines().filter(|line| line.contains("wrong_secret"));
    assert_eq!(events.filter(|line| line.contains(&key)).count(), 1);
    assert_eq!(site.manager.stats().wrong_secret, 1);
    // Whatever such a visitor does, it has no effect on the session.
    let logout = stranger.begin(Method::POST);
    block_on(logout.session.destroy()).unwrap();
    logout.finish().unwrap();
    stranger.set("n", 2);
    assert_ne!(stranger.key(), visitor.key());
    let login = Visitor::with_cookie(&site, &wrong);
    login.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
    assert_ne!(login.key(), visitor.key());
    assert_eq!(site.manager.stats().wrong_secret, 4);
    assert_eq!((visitor.get("n"), site.count()), (Some(1), 3));
}

#[test]
fn an_unknown_key_is_no_wrong_secret() {
    let site = Site::new();
    assert_eq!(Visitor::with_cookie(&site, UNKNOWN).get("n"), None);
    assert!(SessionId::parse(UNKNOWN).is_some());
    assert_eq!(site.manager.stats().wrong_secret, 0);
}

/// The client has the other request's id or is about to get it, whatever this request starts.
#[test]
fn a_logout_with_a_replaced_id_is_told_so_and_clears_nothing() {
    for first in ["nothing", "start_anew", "log_in"] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let (form, old) = (visitor.begin(Method::POST), renewed(&visitor, "a login"));
        let late = old.begin(Method::POST);
        match first {
            "start_anew" => late.session.start_anew().unwrap(),
            "log_in" => late.session.log_in("ada").unwrap(),
            _ => {}
        }
        assert!(matches!(block_on(late.session.destroy()), Err(Error::Gone)), "{first}");
        assert!(is_silent(&late.finish().unwrap()), "{first}");

        // A request that finds out while it runs that its session got a new id.
        assert!(block_on(form.session.update("n", add_one)).is_err());
        if first == "start_anew" {
            form.session.start_anew().unwrap();
            assert!(matches!(block_on(form.session.destroy()), Err(Error::Gone)));
        }
        assert!(is_silent(&form.finish().unwrap()), "{first}");
        assert_eq!((visitor.get("n"), site.count()), (Some(1), 1), "{first}");
    }
}

#[test]
fn a_page_whose_session_moves_on_while_it_is_made_is_of_one_piece() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in("ada").unwrap();
        session.set("name", "Ada").unwrap();
        session.set("visits", &1u64).unwrap();
    });
    let page = visitor.begin(Method::GET);
    page.session.set("seen", &true).unwrap();
    renewed(&visitor, "a login");
    for visits in [2, 3] {
        assert_eq!(block_on(page.session.update("visits", add_one)).unwrap(), visits);
        assert_eq!(page.session.owner().as_deref(), Some("ada"));
        assert_eq!(page.session.get::<String>("name").unwrap().as_deref(), Some("Ada"));
        assert_eq!(page.session.get::<bool>("seen").unwrap(), Some(true));
    }
    assert!(is_silent(&page.finish().unwrap()));
    assert_eq!((visitor.get("visits"), visitor.get("seen")), (Some(1), None));
}

#[test]
fn a_mute_request_shows_the_times_of_a_new_visitor() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let page = renewed(&visitor, "a login").begin(Method::GET);
    assert_eq!(page.session.created(), site.manager.now());
    assert_eq!(page.session.remaining(), page.session.lifetime().idle);
}

/// A session that never had another secret was never renewed, so a wrong secret is simply unknown.
#[test]
fn a_wrong_secret_of_a_session_that_never_had_another_is_a_strangers_at_once() {
    let site = Site::configured(|config| config.namespace = "a".into());
    let neighbour = site.reconfigured(|config| config.namespace = "b".into());
    let visitor = site.visitor();
    visitor.set("n", 1);
    let wrong = SessionId::parse(visitor.id()).unwrap().with_new_secret().unwrap();
    for (site, id) in [(&site, wrong.text().to_string()), (&neighbour, visitor.id())] {
        let stranger = Visitor::with_cookie(site, &id);
        let logout = stranger.begin(Method::POST);
        block_on(logout.session.destroy()).unwrap();
        assert!(logout.finish().unwrap().headers().contains_key("set-cookie"));
        assert!(stranger.set("x", 1).set_cookie().is_some());
        assert_ne!(stranger.key(), visitor.key());
    }
    assert_eq!(visitor.get("n"), Some(1));
}
