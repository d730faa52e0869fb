//! Listing, ending and limiting a user's sessions; and observers.

use std::sync::Arc;

use http::{Method, Request, Response};
use parking_lot::Mutex;
use session_core::conformance::{Delayed, Task, interleave};
use session_core::events::{Ending, Event, Observer, Operation, Refusal};
use session_core::{Error, LoadedSession, OwnedSession, SessionKey};

use crate::support::*;

/// Logs this owner in with another browser.
fn log_in<'s>(site: &'s Site, owner: &str, label: &str) -> Visitor<'s> {
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in(owner).unwrap();
        session.label(label).unwrap();
    });
    visitor
}

fn sessions_of(site: &Site, owner: &str) -> Vec<OwnedSession> {
    block_on(site.manager.sessions_of(owner)).unwrap()
}

fn keys(sessions: &[OwnedSession]) -> Vec<SessionKey> {
    sessions.iter().map(|session| session.key).collect()
}

#[test]
fn a_user_sees_all_sessions_newest_login_first_and_nobody_elses() {
    let site = Site::new();
    let mut wanted = Vec::new();
    let mut visitors = Vec::new();
    for (label, owner) in [("phone", "ada"), ("desk", "bob"), ("tablet", "ada"), ("tv", "ada")] {
        site.clock.advance(secs(10));
        let visitor = log_in(&site, owner, label);
        if owner == "ada" {
            wanted.insert(0, visitor.key());
        }
        visitors.push(visitor);
    }
    site.visitor().set("n", 1);
    let listed = sessions_of(&site, "ada");
    assert_eq!(keys(&listed), wanted);
    let labels: Vec<_> = listed.iter().map(|session| &*session.label).collect();
    assert_eq!(labels, ["tv", "tablet", "phone"]);
    assert!(listed.iter().all(|session| !session.current));
    // A summary has no secret, and its times are the session's.
    let last = listed[0].clone();
    assert_eq!((last.created, last.used), (site.manager.now(), site.manager.now()));
    assert_eq!(last.authenticated, site.manager.now());
    assert_eq!(last.expires, site.manager.now().saturating_add(secs(1800)));
    assert!(sessions_of(&site, "ad").is_empty() && sessions_of(&site, "").is_empty());

    let here = visitors[0].begin(Method::GET);
    let beside = block_on(site.manager.sessions_beside(&here.session)).unwrap();
    let current: Vec<_> = beside.iter().map(|session| session.current).collect();
    assert_eq!(current, [false, false, true]);
    let stranger = site.visitor().begin(Method::GET);
    assert!(block_on(site.manager.sessions_beside(&stranger.session)).unwrap().is_empty());
}

/// The applications share a store and have users of the same names.
#[test]
fn applications_of_different_namespaces_list_and_end_none_of_each_others() {
    let one = Site::configured(|config| config.namespace = "one".into());
    let other = one.reconfigured(|config| config.namespace = "other".into());
    let plain = one.reconfigured(|_| ());
    let sites = [&one, &other, &plain];
    let visitors = sites.map(|site| log_in(site, "ada", ""));
    // An owner that looks like one in another namespace doesn't help either.
    let sly = log_in(&plain, "one\0ada", "");
    for (site, visitor) in sites.iter().zip(&visitors) {
        assert_eq!(visitor.owner().as_deref(), Some("ada"));
        assert_eq!(keys(&sessions_of(site, "ada")), [visitor.key()]);
        for elsewhere in visitors.iter().filter(|other| other.key() != visitor.key()) {
            assert!(!block_on(site.manager.end("ada", elsewhere.key())).unwrap());
        }
    }
    assert_eq!(block_on(one.manager.end_all("ada")).unwrap(), 1);
    assert_eq!(block_on(plain.manager.end_all("one\0ada")).unwrap(), 1);
    assert_eq!(sly.owner(), None);
    let left = visitors.each_ref().map(|visitor| visitor.owner().is_some());
    assert_eq!(left, [false, true, true]);
}

#[test]
fn what_is_over_by_its_own_or_the_configured_lifetime_is_neither_listed_nor_ended() {
    let site = Site::new();
    let ada = log_in(&site, "ada", "short");
    let remembered = site.visitor();
    remembered.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in("ada").unwrap();
        session.remember(true).unwrap();
    });
    // A remembered session outlives the others' idle time, also in the list.
    site.clock.advance(secs(1799));
    assert_eq!(sessions_of(&site, "ada").len(), 2);
    site.clock.advance(secs(1));
    let left = sessions_of(&site, "ada");
    assert_eq!(keys(&left), [remembered.key()]);
    assert_eq!(left[0].expires.since(site.manager.now()), secs(30 * 86_400 - 1800));
    assert!(!block_on(site.manager.end("ada", ada.key())).unwrap());
    // A shortened lifetime applies to the list as well.
    let strict = site.reconfigured(|config| config.remember = secs(1000));
    assert!(sessions_of(&strict, "ada").is_empty());
    assert!(!block_on(strict.manager.end("ada", remembered.key())).unwrap());
    assert_eq!(block_on(strict.manager.end_all("ada")).unwrap(), 0);
    assert_eq!(sessions_of(&site, "ada").len(), 1);
}

#[test]
fn a_session_is_ended_by_its_key_if_it_is_the_owners() {
    let site = Site::new();
    let [phone, desk, bob] =
        [("ada", "phone"), ("ada", "desk"), ("bob", "tv")].map(|(o, l)| log_in(&site, o, l));
    let nobody = site.visitor();
    nobody.set("n", 1);
    let end = |key| block_on(site.manager.end("ada", key)).unwrap();
    assert!(!end(bob.key()) && !end(nobody.key()) && !end(SessionKey::from_bytes([7; 12])));
    assert_eq!((bob.owner().as_deref(), nobody.get("n")), (Some("bob"), Some(1)));
    assert!(end(phone.key()));
    assert!(!end(phone.key()), "it has ended");
    assert_eq!((phone.owner(), desk.owner().as_deref()), (None, Some("ada")));
    // A request that was under way doesn't bring the session back.
    let slow = desk.begin(Method::POST);
    slow.session.set("n", &1u64).unwrap();
    assert!(end(desk.key()));
    assert!(matches!(slow.finish(), Err(Error::Gone)));
    assert!(sessions_of(&site, "ada").is_empty());
}

#[test]
fn all_others_end_and_all_end() {
    let site = Site::new();
    let visitors: Vec<_> = (0..250).map(|_| log_in(&site, "ada", "")).collect();
    let bob = log_in(&site, "bob", "");
    let here = visitors[100].begin(Method::POST);
    assert_eq!(block_on(site.manager.end_others(&here.session)).unwrap(), 249);
    assert_eq!(keys(&sessions_of(&site, "ada")), [visitors[100].key()]);
    assert_eq!(visitors[100].owner().as_deref(), Some("ada"));
    assert_eq!(visitors[0].owner(), None);
    assert_eq!(block_on(site.manager.end_all("ada")).unwrap(), 1);
    assert_eq!((visitors[100].owner(), bob.owner().as_deref()), (None, Some("bob")));
    let stranger = site.visitor().begin(Method::POST);
    assert_eq!(block_on(site.manager.end_others(&stranger.session)).unwrap(), 0);
}

#[test]
fn a_store_that_fails_while_sessions_are_ended_says_so() {
    let site = Site::new();
    let visitors = [log_in(&site, "ada", ""), log_in(&site, "ada", "")];
    site.store.sabotage_once("destroy", Fault::Down);
    let failed = block_on(site.manager.end_all("ada"));
    assert!(matches!(failed, Err(Error::Unavailable { .. })));
    block_on(site.manager.end_all("ada")).unwrap();
    assert!(visitors.iter().all(|visitor| visitor.owner().is_none()));
    site.store.sabotage("list", Fault::Down);
    assert!(matches!(block_on(site.manager.sessions_of("ada")), Err(Error::Unavailable { .. })));
}

#[test]
fn the_oldest_logins_beyond_the_limit_end() {
    let site = Site::configured(|config| config.sessions_per_owner = 2.try_into().ok());
    let bob = log_in(&site, "bob", "");
    let mut visitors = Vec::new();
    for _ in 0..4 {
        site.clock.advance(secs(1));
        visitors.push(log_in(&site, "ada", ""));
        let live = visitors.iter().filter(|visitor| visitor.owner().is_some()).count();
        assert_eq!(live, visitors.len().min(2));
    }
    assert_eq!(visitors[3].owner().as_deref(), Some("ada"), "the newest is never ended");
    assert_eq!(bob.owner().as_deref(), Some("bob"));
    // A login in an existing session doesn't count as another one, and makes the session the newest.
    site.clock.advance(secs(1));
    visitors[2].visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
    site.clock.advance(secs(1));
    visitors.push(log_in(&site, "ada", ""));
    let live = [2, 3, 4].map(|at: usize| visitors[at].owner().is_some());
    assert_eq!(live, [true, false, true]);
}

#[test]
fn a_login_is_good_although_the_limit_can_not_be_applied() {
    for operation in ["list", "destroy"] {
        let site = Site::configured(|config| config.sessions_per_owner = 1.try_into().ok());
        let first = log_in(&site, "ada", "");
        site.clock.advance(secs(1));
        site.store.sabotage(operation, Fault::Down);
        let second = log_in(&site, "ada", "");
        site.store.mend();
        assert!(first.owner().is_some() && second.owner().is_some());
        assert!(site.log.text().contains("sessions_per_owner"), "{operation}");
        site.clock.advance(secs(1));
        let third = log_in(&site, "ada", "");
        assert_eq!(keys(&sessions_of(&site, "ada")), [third.key()], "the next one looks again");
    }
}

/// An update saves the pending login.
#[test]
fn a_login_that_an_update_stores_counts_for_the_limit() {
    let site = Site::configured(|config| config.sessions_per_owner = 1.try_into().ok());
    let first = log_in(&site, "ada", "");
    site.clock.advance(secs(1));
    let second = site.visitor();
    second.set("n", 1);
    second.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in("ada").unwrap();
        session.update("n", add_one).await.unwrap();
        assert_eq!(keys(&sessions_of(&site, "ada")).len(), 1);
    });
    assert_eq!((first.owner(), second.owner().as_deref()), (None, Some("ada")));
}

/// In thousands of orders of the store's operations, with new visitors and with visitors who have a
/// session.
#[test]
fn of_logins_at_once_at_a_limit_of_one_exactly_one_lives() {
    for seed in 0..3_000 {
        let store = Arc::new(Delayed::new(Store::default(), seed));
        let site = Site::built(
            |config| config.sessions_per_owner = 1.try_into().ok(),
            |builder| builder.with_provider(Arc::clone(&store)),
        );
        let visitors = [site.visitor(), site.visitor(), site.visitor()];
        if seed % 2 == 0 {
            visitors[1].set("n", 1);
        }
        let requests = visitors.each_ref().map(Visitor::request);
        let logins = requests.iter().enumerate().map(|(at, request)| {
            let site = &site;
            let login: Task<'_, Response<()>> = Box::pin(async move {
                let handle = site.manager.start(request);
                // Some logins are at the same time, some are not.
                site.clock.advance(Duration::from_millis(at as u64 * (seed % 3)));
                handle.load().await.unwrap().log_in("ada").unwrap();
                let mut response = Response::new(());
                handle.finish(&mut response).await.unwrap();
                response
            });
            login
        });
        let responses = block_on(interleave(seed, logins.collect()));
        for (visitor, response) in visitors.iter().zip(responses) {
            visitor.receive(response);
        }
        let live = visitors.iter().filter(|visitor| visitor.owner().is_some()).count();
        assert_eq!((live, sessions_of(&site, "ada").len()), (1, 1), "seed {seed}");
    }
}

/// The events that an observer got, as texts.
#[derive(Clone, Debug, Default)]
struct Told {
    events: Arc<Mutex<Vec<String>>>,
    operations: Arc<Mutex<Vec<(Operation, bool)>>>,
    panics: bool,
}

impl Observer for Told {
    fn event(&self, event: &Event<'_>) {
        let word = match event {
            Event::Created { owner, forked_from, .. } => {
                format!("created {owner:?} {}", forked_from.is_some())
            }
            Event::NewId { owner, .. } => format!("new id {owner:?}"),
            Event::Ended { why, .. } => format!("ended {}", why.as_str()),
            Event::Purged { count } => format!("purged {count}"),
            Event::Refused { why, session } => {
                format!("refused {} {}", why.as_str(), session.is_some())
            }
            Event::StoreFailed { operation, .. } => format!("failed {}", operation.as_str()),
            _ => unreachable!("a new kind of event"),
        };
        self.events.lock().push(word);
        assert!(!self.panics, "an observer's own");
    }

    fn operation(&self, operation: Operation, _: Duration, succeeded: bool) {
        self.operations.lock().push((operation, succeeded));
        assert!(!self.panics, "an observer's own");
    }
}

fn observed(told: &Told) -> Site {
    let told = told.clone();
    Site::built(
        |config| config.sessions_per_owner = 2.try_into().ok(),
        |builder| builder.with_observer(told),
    )
}

#[test]
fn an_observer_is_told_of_all_that_happens_with_the_reason() {
    let told = Told::default();
    let site = observed(&told);
    let expect = |wanted: &[&str]| assert_eq!(std::mem::take(&mut *told.events.lock()), wanted);
    let end = async |session: LoadedSession| session.destroy().await.unwrap();

    let visitor = site.visitor();
    visitor.set("n", 1);
    expect(&["created None false"]);
    let old = visitor.tab();
    visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
    expect(&["new id Some(\"ada\")"]);
    old.begin(Method::GET);
    expect(&["refused superseded true"]);
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    expect(&["new id None"]);
    visitor.visit(async |handle| end(handle.load().await.unwrap()).await);
    expect(&["ended logout"]);

    site.clock.advance(secs(60));
    let first = log_in(&site, "ada", "");
    site.clock.advance(secs(1));
    log_in(&site, "ada", "");
    site.clock.advance(secs(1));
    let third = log_in(&site, "ada", "");
    let login = "created Some(\"ada\") false";
    expect(&[login, login, login, "ended limit"]);
    assert!(first.owner().is_none());
    block_on(site.manager.end("ada", third.key())).unwrap();
    expect(&["ended other"]);

    site.clock.advance(secs(60));
    let wrong = log_in(&site, "bob", "");
    site.clock.advance(secs(60));
    let secret = wrong.token().id().with_new_secret().unwrap().text().to_string();
    Visitor::with_cookie(&site, &secret).begin(Method::GET);
    expect(&[login.replace("ada", "bob").as_str(), "refused wrong_secret true"]);
    let mut foreign = Request::builder().method(Method::POST).body(()).unwrap();
    foreign.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    site.manager.start(&foreign).check_site().unwrap_err();
    expect(&["refused cross_site false"]);
    let strict = site.reconfigured(|config| config.idle = secs(30));
    assert!(is_anonymous(&strict, &wrong.request()).0, "another manager's, which nobody observes");
    expect(&[]);

    site.store.sabotage_once("load", Fault::Down);
    block_on(site.manager.start(&wrong.request()).load()).unwrap_err();
    expect(&["failed load"]);
    site.clock.advance(secs(100_000));
    site.manager.collect().unwrap();
    expect(&["purged 2"]);

    let operations = told.operations.lock();
    for operation in [
        Operation::Create,
        Operation::Load,
        Operation::Save,
        Operation::Destroy,
        Operation::List,
        Operation::Purge,
    ] {
        assert!(operations.contains(&(operation, true)), "{operation:?}");
    }
    assert!(operations.contains(&(Operation::Load, false)));
}

#[test]
fn an_observer_that_panics_harms_nothing() {
    let told = Told { panics: true, ..Told::default() };
    let site = observed(&told);
    let visitor = log_in(&site, "ada", "");
    assert_eq!(visitor.owner().as_deref(), Some("ada"));
    assert!(!told.events.lock().is_empty() && !told.operations.lock().is_empty());
    assert!(site.log.text().contains("observer of session events panicked"));
    assert_eq!(site.manager.stats().logins, 1);
    site.clock.advance(secs(100_000));
    assert_eq!(site.manager.collect().unwrap().removed, 1);
}

#[test]
fn an_event_shows_no_owner() {
    let session = SessionKey::from_bytes([7; 12]);
    let owner = Some("nobody-may-read-this");
    for event in [
        Event::Created { session, owner, forked_from: None },
        Event::NewId { session, owner },
        Event::Ended { session, why: Ending::Other },
        Event::Refused { session: Some(session), why: Refusal::Gone },
    ] {
        let shown = format!("{event:?}");
        assert!(!shown.contains("nobody") && shown.contains(&session.to_string()), "{shown}");
    }
}
