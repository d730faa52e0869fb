//! A user's sessions when clocks differ, requests race, the store fails or its replies are lost; and the
//! events that an observer gets.

use std::sync::Arc;

use http::header::{COOKIE, HeaderValue};
use http::{Method, Request, StatusCode};
use parking_lot::Mutex;
use session_core::SessionKey;
use session_core::events::{Event, Observer, Operation};

use crate::support::*;

fn log_in<'s>(site: &'s Site, owner: &str) -> Visitor<'s> {
    let visitor = site.visitor();
    visitor.visit(async |handle| handle.load().await.unwrap().log_in(owner).unwrap());
    visitor
}

fn keys_of(site: &Site, owner: &str) -> Vec<SessionKey> {
    block_on(site.manager.sessions_of(owner)).unwrap().iter().map(|s| s.key).collect()
}

fn limited(limit: u32) -> Site {
    Site::configured(|config| config.sessions_per_owner = limit.try_into().ok())
}

#[derive(Clone, Debug, Default)]
struct Told {
    events: Arc<Mutex<Vec<String>>>,
    operations: Arc<Mutex<Vec<Operation>>>,
}

impl Observer for Told {
    fn event(&self, event: &Event<'_>) {
        let word = match event {
            Event::Created { owner, .. } => format!("created {}", owner.unwrap_or("-")),
            Event::NewId { owner, .. } => format!("new id {}", owner.unwrap_or("-")),
            Event::Ended { why, .. } => format!("ended {}", why.as_str()),
            Event::Refused { why, .. } => format!("refused {}", why.as_str()),
            other => format!("{other:?}"),
        };
        self.events.lock().push(word);
    }

    fn operation(&self, operation: Operation, _: Duration, _: bool) {
        self.operations.lock().push(operation);
    }
}

impl Told {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.events.lock())
    }
}

fn observed(told: &Told, limit: u32) -> Site {
    let told = told.clone();
    Site::built(
        |config| config.sessions_per_owner = limit.try_into().ok(),
        |builder| builder.with_observer(told),
    )
}

/// A session from the future counts as ended when it is loaded, but is the newest one in the list.
#[test]
fn a_clock_that_is_set_back_locks_nobody_out_by_the_limit() {
    let site = limited(1);
    let right = site.manager.now();
    site.clock.advance(secs(3600));
    log_in(&site, "ada");
    site.clock.set(right);
    let again = log_in(&site, "ada");
    assert_eq!(again.owner().as_deref(), Some("ada"), "the session from the future takes no place");
}

#[test]
fn a_session_of_an_unknown_age_is_not_listed_and_is_ended_with_all() {
    let site = Site::new();
    let right = site.manager.now();
    site.clock.advance(secs(61));
    let visitor = log_in(&site, "ada");
    site.clock.set(right);
    assert_eq!(visitor.owner(), None, "of unknown age");
    let listed = keys_of(&site, "ada");
    let ended = block_on(site.manager.end_all("ada")).unwrap();
    // Without `end_all`, it would be live again two seconds later on this server, and on the other
    // server all the time.
    site.clock.advance(secs(2));
    assert_eq!((listed.len(), visitor.owner().as_deref(), ended), (0, None, 1));
}

/// The limit counts only sessions that stay live: those that the client presented are ended by the login
/// itself.
#[test]
fn the_limit_ends_no_more_than_it_has_to() {
    let told = Told::default();
    let site = observed(&told, 2);
    let elsewhere = log_in(&site, "ada");
    site.clock.advance(secs(1));
    let here = log_in(&site, "ada");
    let planted = site.visitor();
    planted.set("n", 1);
    site.clock.advance(secs(1));
    let mut request = Request::builder().method(Method::POST).body(()).unwrap();
    let name = site.manager.name();
    let cookies = format!("{name}={}; {name}={}", here.id(), planted.id());
    request.headers_mut().insert(COOKIE, HeaderValue::try_from(cookies).unwrap());
    told.take();
    let login = Underway::of(&site, &request);
    login.session.log_in("ada").unwrap();
    login.finish().unwrap();
    let live = keys_of(&site, "ada").len();
    assert_eq!((live, elsewhere.owner().as_deref()), (2, Some("ada")), "{:?}", told.take());
}

/// The store's reply to the login was lost twice; the client gets the new id nonetheless.
#[test]
fn a_login_that_turns_out_to_be_stored_is_told_and_limited() {
    for way in ["reload", "update", "refuse"] {
        let told = Told::default();
        let site = observed(&told, 1);
        let first = log_in(&site, "ada");
        site.clock.advance(secs(1));
        let second = site.visitor();
        second.set("n", 1);
        told.take();
        let request = second.begin(Method::POST);
        request.session.log_in("ada").unwrap();
        site.store.sabotage_once("save", Fault::DoubtAfter);
        site.store.sabotage_once("save", Fault::DoubtAfter);
        block_on(request.session.save()).unwrap_err();
        let status = match way {
            "reload" => block_on(request.session.reload()).map(|()| StatusCode::OK).unwrap(),
            "update" => {
                block_on(request.session.update("n", add_one)).map(|_| StatusCode::OK).unwrap()
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        second.receive(request.finish_with(status).unwrap());
        assert_eq!(second.owner().as_deref(), Some("ada"), "{way}");
        let mut events = told.take();
        events.retain(|event| !event.starts_with("StoreFailed"));
        let seen = (events, site.manager.stats().logins, first.owner());
        let wanted = ["new id ada".to_owned(), "ended limit".to_owned()];
        assert_eq!((&seen.0[..], seen.1, seen.2), (&wanted[..], 2, None), "{way}");
    }
}

/// A thief has the id from before the login, and asks for a new one at the same time.
#[test]
fn end_others_keeps_only_the_session_that_is_the_current_one_in_the_end() {
    let site = Site::new();
    let user = log_in(&site, "ada");
    let thief = user.tab();
    let request = user.begin(Method::POST);
    request.session.log_in("ada").unwrap();
    thief.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    block_on(site.manager.end_others(&request.session)).unwrap();
    user.receive(request.finish().unwrap());
    assert_eq!(user.owner().as_deref(), Some("ada"));
    assert_eq!((keys_of(&site, "ada"), thief.owner()), (vec![user.key()], None));
}

/// The id was replaced after this request had loaded the session, so the request must not end the
/// others.
#[test]
fn end_others_asks_whether_the_session_is_still_the_clients() {
    let site = Site::new();
    let user = log_in(&site, "ada");
    let thief = user.tab();
    let request = user.begin(Method::POST);
    thief.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    let ended = block_on(site.manager.end_others(&request.session));
    assert!(ended.is_err() || thief.owner().is_none(), "{ended:?}, and the thief stays");
}

/// The request's session was just ended by the user.
#[test]
fn an_ended_session_ends_no_others() {
    let site = Site::new();
    let user = log_in(&site, "ada");
    let thief = log_in(&site, "ada").begin(Method::POST);
    let here = user.begin(Method::POST);
    assert_eq!(block_on(site.manager.end_others(&here.session)).unwrap(), 1);
    site.clock.advance(secs(60));
    let listed = block_on(site.manager.sessions_beside(&thief.session)).map(|all| all.len());
    let ended = block_on(site.manager.end_others(&thief.session));
    assert_eq!(user.owner().as_deref(), Some("ada"), "{listed:?} {ended:?}");
}

/// `end_others` fails in a mute request, as `destroy` does.
#[test]
fn a_mute_request_is_told_that_it_ended_nothing() {
    let site = Site::new();
    let user = log_in(&site, "ada");
    log_in(&site, "ada");
    let old = user.tab();
    user.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    let ended = block_on(site.manager.end_others(&old.begin(Method::POST).session));
    assert!(ended.is_err(), "{ended:?}, though two sessions of the owner live");
}

/// The list shows the expiry by the shorter lifetime, as a load does.
#[test]
fn the_list_says_when_a_session_ends_by_a_lifetime_that_became_shorter() {
    let site = Site::new();
    let visitor = log_in(&site, "ada");
    let strict = site.reconfigured(|config| config.idle = secs(600));
    site.clock.advance(secs(30));
    let request = Underway::of(&strict, &visitor.request());
    let listed = block_on(strict.manager.sessions_of("ada")).unwrap();
    assert_eq!(listed[0].expires.since(strict.manager.now()), request.session.remaining());
}

/// `remember` may be shorter than `absolute`; the configuration only warns of it.
#[test]
fn a_remembered_session_that_is_over_is_not_listed() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in("ada").unwrap();
        session.remember(true).unwrap();
    });
    let strict = site.reconfigured(|config| config.remember = secs(100));
    site.clock.advance(secs(200));
    assert!(is_anonymous(&strict, &visitor.request()).0);
    assert!(keys_of(&strict, "ada").is_empty());
}

/// A new id with a label is reported as a new id, not as a login.
#[test]
fn a_label_with_a_new_id_is_no_login() {
    let told = Told::default();
    let site = observed(&told, 5);
    let visitor = log_in(&site, "ada");
    told.take();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.regenerate().unwrap();
        session.label("phone").unwrap();
    });
    assert_eq!((told.take(), site.manager.stats().logins), (vec!["new id -".to_owned()], 1));
}

/// A stream reloads its session after the visitor has got a new id. That is not an attack.
#[test]
fn a_reload_after_a_login_is_no_wrong_secret() {
    let told = Told::default();
    let site = observed(&told, 5);
    let visitor = log_in(&site, "ada");
    let stream = visitor.begin(Method::GET);
    stream.finish().unwrap();
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    site.clock.advance(secs(60));
    told.take();
    block_on(stream.session.reload()).unwrap_err();
    let stats = site.manager.stats();
    assert_eq!((told.take(), stats.wrong_secret), (vec!["refused gone".to_owned()], 0));
}

#[test]
fn counting_is_an_operation_like_the_others() {
    let told = Told::default();
    let site = observed(&told, 5);
    block_on(site.manager.count()).unwrap();
    assert_eq!(told.operations.lock().len(), 1);
}

/// The clock stands still here, as a wall clock may.
#[test]
fn both_times_of_a_failed_operation_agree() {
    #[derive(Clone, Debug, Default)]
    struct Times(Arc<Mutex<Vec<Duration>>>);
    impl Observer for Times {
        fn event(&self, event: &Event<'_>) {
            if let Event::StoreFailed { took, .. } = event {
                self.0.lock().push(*took);
            }
        }
        fn operation(&self, _: Operation, took: Duration, _: bool) {
            self.0.lock().push(took);
        }
    }
    let times = Times::default();
    let observer = times.clone();
    let site = Site::built(|_| (), |builder| builder.with_observer(observer));
    site.store.sabotage("list", Fault::Down);
    block_on(site.manager.sessions_of("ada")).unwrap_err();
    let times = times.0.lock();
    assert_eq!(times[0], times[1]);
}

/// One of forty sessions can't be ended now.
#[test]
fn one_failure_keeps_no_other_session_from_being_ended() {
    let site = Site::new();
    for _ in 0..40 {
        log_in(&site, "ada");
    }
    site.store.sabotage_once("destroy", Fault::Down);
    block_on(site.manager.end_all("ada")).unwrap_err();
    assert_eq!(keys_of(&site, "ada").len(), 1);
}

/// The observer calls the manager from within an event.
#[test]
fn an_observer_may_use_the_manager() {
    #[derive(Clone, Debug, Default)]
    struct Ends(Arc<Mutex<Option<session_core::Manager>>>);
    impl Observer for Ends {
        fn event(&self, event: &Event<'_>) {
            if let Event::Created { owner: Some(owner), .. } = event {
                let manager = self.0.lock().clone().unwrap();
                block_on(manager.end_all(owner)).unwrap();
            }
        }
    }
    let ends = Ends::default();
    let observer = ends.clone();
    let site = Site::built(|_| (), |builder| builder.with_observer(observer));
    *ends.0.lock() = Some(site.manager.clone());
    let visitor = log_in(&site, "ada");
    assert_eq!(visitor.owner(), None);
    *ends.0.lock() = None;
}

#[test]
fn owners_of_any_unicode_have_lists_of_their_own() {
    let site = Site::new();
    let owners = ["\u{e9}", "e\u{301}", "\0", "\0\0", "a\0", "a", "A", " a", "\u{feff}a", "a\0b"];
    for owner in owners {
        let visitor = log_in(&site, owner);
        assert_eq!(visitor.owner().as_deref(), Some(owner));
    }
    for owner in owners {
        assert_eq!(keys_of(&site, owner).len(), 1, "{owner:?}");
    }
}

/// The record is damaged, but a store whose list reads only times and labels still lists it.
#[test]
fn an_unreadable_session_that_is_listed_can_be_ended() {
    let site = Site::new();
    let key = log_in(&site, "ada").key();
    site.store.sabotage("load", Fault::Unreadable);
    assert_eq!(keys_of(&site, "ada"), [key]);
    site.store.calls();
    let ended = block_on(site.manager.end_all("ada")).unwrap();
    let calls = site.store.calls();
    assert_eq!((ended, keys_of(&site, "ada").len()), (1, 0), "{calls:?}");
}

/// A task loads the session again, like a WebSocket whose messages count as uses.
#[test]
fn a_load_after_a_login_elsewhere_is_no_wrong_secret() {
    let told = Told::default();
    let site = observed(&told, 5);
    let visitor = log_in(&site, "ada");
    let stream = visitor.begin(Method::GET);
    stream.finish().unwrap();
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    site.clock.advance(secs(60));
    told.take();
    drop(block_on(stream.handle.load()));
    assert_eq!(
        (told.take(), site.manager.stats().wrong_secret),
        (vec!["refused gone".to_owned()], 0)
    );
}

/// The handler fails while a task's save is under way.
#[test]
fn a_login_that_is_stored_while_the_request_fails_is_told_once() {
    let told = Told::default();
    let site = observed(&told, 5);
    let visitor = site.visitor();
    visitor.set("n", 1);
    told.take();
    let request = visitor.begin(Method::POST);
    request.session.log_in("ada").unwrap();
    site.store.sabotage_once("save", Fault::Late);
    let mut response = http::Response::new(());
    let (saved, ()) = block_on(futures_lite::future::zip(
        request.session.save(),
        request.handle.refuse(&mut response),
    ));
    saved.unwrap();
    visitor.receive(response);
    assert_eq!(visitor.owner().as_deref(), Some("ada"));
    assert_eq!(told.take(), ["new id ada"]);
}

/// The login that lost its race was dropped because the store was down.
#[test]
fn a_session_that_begins_after_a_lost_login_was_dropped_is_no_fork() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (one, two) = (visitor.begin(Method::POST), visitor.begin(Method::POST));
    one.session.log_in("ada").unwrap();
    one.finish().unwrap();
    two.session.log_in("ada").unwrap();
    site.store.sabotage_once("create", Fault::Down);
    block_on(two.session.save()).unwrap_err();
    block_on(two.session.destroy()).unwrap_err();
    two.session.set("x", &1u64).unwrap();
    two.finish().unwrap();
    let stats = site.manager.stats();
    assert_eq!((stats.logins, stats.forked), (1, 0));
}
