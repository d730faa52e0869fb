//! Failures of loads, saves and new ids.
//!
//! A store that is down is an error, never an empty session. A new id that can't be saved is not sent,
//! and the changes are kept for another attempt. An unreadable record is reported once and treated as
//! absent. An existing id is never overwritten, and a failure of the random generator is an error.

use futures_lite::future::poll_once;
use http::header::SET_COOKIE;
use http::{Request, Response, StatusCode};
use session_core::provider::Token;
use session_core::{Error, Managers, SessionHandle, SessionId};

use crate::support::*;

#[test]
fn a_store_that_fails_while_saving_is_an_error_and_the_response_is_untouched() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("kept", 1);
    for (operation, visitor) in [("create", site.visitor()), ("save", visitor.tab())] {
        site.store.sabotage(operation, Fault::Down);
        let mut response = Response::builder().header("x-mine", "1").body(()).unwrap();
        let request = visitor.request();
        block_on(async {
            let handle = site.manager.start(&request);
            handle.load().await.unwrap().set("n", &1u64).unwrap();
            let error = handle.finish(&mut response).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            assert_eq!(error.status(), 503);
            assert_eq!(response.headers().len(), 1);
            assert_eq!(
                site.store
                    .peek(&visitor_token(&visitor), site.manager.now())
                    .map(|r| r.values.len()),
                visitor.cookie().map(|_| 1)
            );

            // The changes are kept for another attempt.
            site.store.mend();
            handle.finish(&mut response).await.unwrap();
        });
        visitor.receive(response);
        assert_eq!(visitor.get("n"), Some(1), "{operation}");
    }
    assert_eq!(visitor.get("kept"), Some(1));
    assert_eq!(site.manager.stats().unavailable, 2);
}

fn visitor_token(visitor: &Visitor<'_>) -> Token {
    let id = visitor.cookie().and_then(|text| SessionId::parse(&text));
    id.unwrap_or(SessionId::from_bytes([0; 32])).into()
}

#[test]
fn a_store_that_is_down_while_loading_is_an_error_and_never_an_empty_session() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.sabotage("load", Fault::Down);
    let (error, reply) = visitor.visit(async |handle| handle.load().await.map(|_| ()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { .. }));
    assert!(reply.is_plain());
    site.store.mend();
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn a_new_id_is_announced_even_if_the_first_try_to_save_failed() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let old = visitor.id();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.regenerate().unwrap();
        session.set("n", &2u64).unwrap();
        site.store.sabotage("save", Fault::Down);
        handle.finish(&mut Response::new(())).await.unwrap_err();
        site.store.mend();
        // The session stays loaded, with its changes.
        assert_eq!(session.get::<u64>("n").unwrap(), Some(2));
        assert!(site.has(&old), "the id that the client has is as good as before");
    });
    assert!(reply.set_cookie().is_some());
    assert_ne!(visitor.id(), old);
    assert_eq!(visitor.get("n"), Some(2));
}

#[test]
fn what_a_failed_save_kept_is_not_lost_in_silence() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    visitor.visit(async |handle| {
        handle.load().await.unwrap().set("n", &2u64).unwrap();
        site.store.sabotage("save", Fault::Down);
        handle.finish(&mut Response::new(())).await.unwrap_err();
        site.store.mend();
        let other = site.manager.start_owned(&visitor.request());
        other.load().await.unwrap().destroy().await.unwrap();
        let lost = handle.finish(&mut Response::new(())).await;
        assert!(matches!(lost, Err(Error::Gone)), "{lost:?}");
        assert!(handle.load().await.unwrap().is_new());
    });
    assert_eq!((site.manager.stats().gone, site.count()), (1, 0));
}

/// Logs in, stores that by an update, sets another value, and fails.
async fn log_in_and_fail(handle: &SessionHandle<'_>) {
    let session = handle.load().await.unwrap();
    session.log_in("ada").unwrap();
    session.update("n", |_: Option<u64>| 1).await.unwrap();
    session.set("pending", &1u64).unwrap();
}

/// The old id is invalid in the store already, so without the new cookie the visitor would be logged
/// out.
#[test]
fn the_response_in_place_of_one_that_could_not_be_finished_tells_what_was_stored() {
    for fault in [Fault::Down, Fault::Full, Fault::StallBefore] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 0);
        let request = visitor.request();
        let response = block_on(async {
            let handle = site.manager.start(&request);
            log_in_and_fail(&handle).await;
            site.store.sabotage("save", fault);
            let mut response = Response::new(());
            match fault {
                // The application has its own time-out.
                Fault::StallBefore => {
                    assert!(poll_once(handle.finish(&mut response)).await.is_none());
                }
                _ => drop(handle.finish(&mut response).await.unwrap_err()),
            }
            assert!(response.headers().is_empty());
            let mut refusal = Response::new(());
            poll_once(handle.refuse(&mut refusal)).await.expect("nothing is left to be stored");
            refusal
        });
        site.store.mend();
        visitor.receive(response);
        let (owner, _) = visitor.visit(async |handle| handle.load().await.unwrap().owner());
        assert_eq!(owner.as_deref(), Some("ada"), "{fault:?}");
        assert_eq!((visitor.get("n"), visitor.get("pending")), (Some(1), None));
    }
}

/// Unlike a 5xx, a 409 may be a handler's ordinary response, so the status alone drops nothing.
#[test]
fn a_refused_request_stores_nothing_more_whatever_the_status() {
    for status in [StatusCode::CONFLICT, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::OK] {
        let sites = ["__Host-shop", "__Host-admin"]
            .map(|name| Site::configured(|config| config.cookie.name = name.into()));
        let managers = sites.each_ref().map(|site| site.manager.clone());
        let sessions = Managers::new(managers).unwrap().start(&Request::new(()));
        let mut response = Response::builder().status(status).body(()).unwrap();
        block_on(async {
            log_in_and_fail(sessions.get("__Host-shop").unwrap()).await;
            let other = sessions.get("__Host-admin").unwrap().load().await.unwrap();
            other.set("n", &1u64).unwrap();
            other.save().await.unwrap();
            other.set("pending", &1u64).unwrap();
            sessions.refuse(&mut response).await;
        });
        assert_eq!((sites[0].count(), sites[1].count()), (0, 1), "only one was stored: {status}");
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies.len(), 1);
        let text = cookies[0].to_str().unwrap().split([';', '=']).nth(1).unwrap();
        let visitor = Visitor::with_cookie(&sites[1], text);
        assert_eq!((visitor.get("n"), visitor.get("pending")), (Some(1), None));
    }
}

#[test]
fn a_session_can_be_ended_in_a_full_store() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    for operation in ["create", "save"] {
        site.store.sabotage(operation, Fault::Full);
    }
    let (ended, _) = visitor.visit(async |handle| handle.load().await.unwrap().destroy().await);
    ended.unwrap();
    assert_eq!((visitor.cookie(), site.count()), (None, 0));
}

/// The values that were read are right. The next request touches the session again, this one doesn't.
#[test]
fn a_touch_that_fails_fails_no_request() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.clock.advance(secs(600));
    site.store.sabotage("touch", Fault::Down);
    assert_eq!(visitor.get("n"), Some(1));
    assert_eq!(site.manager.stats().unavailable, 1);
    site.store.calls();
    visitor.visit(async |handle| {
        handle.load().await.unwrap();
        for _ in 0..2 {
            handle.finish(&mut Response::new(())).await.unwrap();
        }
    });
    assert_eq!(site.store.calls(), ["load", "touch"]);
    site.store.mend();
    assert_eq!(visitor.get("n"), Some(1));
    assert_eq!(site.store.calls(), ["load", "touch"]);
}

#[test]
fn an_unreadable_record_is_reported_once_and_treated_as_absent() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.sabotage("load", Fault::Unreadable);
    assert_eq!(visitor.get("n"), None);
    assert_eq!(visitor.get("n"), None);
    assert_eq!(site.manager.stats().unreadable, 2);
    let key = visitor.key().to_string();
    let reports = site.log.text();
    let reports = reports.lines().filter(|line| line.contains("WARN") && line.contains(&key));
    assert_eq!(reports.count(), 1);
}

#[test]
fn a_forced_collision_of_ids_is_retried_and_overwrites_nobody() {
    let texts = [[1; 32], [1; 32], [2; 32]];
    let ids = parking_lot::Mutex::new(texts.into_iter());
    let site = Site::built(
        |_| (),
        |builder| {
            builder.with_id_source(move || {
                Ok(SessionId::from_bytes(ids.lock().next().expect("enough ids")))
            })
        },
    );
    let (one, two) = (site.visitor(), site.visitor());
    one.set("n", 1);
    two.set("n", 2);
    assert_eq!(site.store.calls(), ["create", "create", "create"]);
    assert_eq!(two.key(), SessionId::from_bytes([2; 32]).key());
    assert_eq!((one.get("n"), two.get("n"), site.count()), (Some(1), Some(2), 2));
}

#[test]
fn a_generator_that_fails_fails_the_call_and_nothing_is_stored() {
    let site = Site::built(
        |_| (),
        |builder| builder.with_id_source(|| Err(Error::Random { source: "no entropy".into() })),
    );
    let visitor = site.visitor();
    let (id, reply) = visitor.try_visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        session.id().unwrap_err()
    });
    assert!(matches!(id, Error::Random { .. }));
    assert!(matches!(reply.unwrap_err(), Error::Random { .. }));
    assert_eq!(site.count(), 0);
}
