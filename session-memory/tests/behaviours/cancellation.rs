//! Futures that are dropped while they wait for the store.
//!
//! The stored record is the old one or the new one, never anything in between. What was not saved is
//! kept for another attempt.

use http::Response;
use session_core::SessionHandle;

use crate::support::*;

/// Returns the stored value of "n" under the handle's id.
async fn stored(site: &Site, handle: &SessionHandle<'_>) -> Option<u64> {
    let id = handle.load().await.unwrap().id().unwrap();
    let record = site.store.peek(&id.into(), site.manager.now())?;
    // A small number is encoded as itself.
    record.values.get("n").map(|bytes| u64::from(bytes[0]))
}

#[test]
fn a_finish_that_is_dropped_stores_all_or_nothing_and_can_be_tried_again() {
    for (operation, fault, between) in [
        ("create", Fault::StallBefore, None),
        ("create", Fault::StallAfter, Some(2)),
        ("save", Fault::StallBefore, Some(1)),
        ("save", Fault::StallAfter, Some(2)),
    ] {
        let site = Site::new();
        let visitor = site.visitor();
        if operation == "save" {
            visitor.set("n", 1);
        }
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set("n", &2u64).unwrap();
            session.set("m", &2u64).unwrap();
            let id = session.id().unwrap();
            site.store.sabotage(operation, fault);
            let mut response = Response::new(());
            drop_midway(handle.finish(&mut response));
            assert!(response.headers().is_empty());
            site.store.mend();

            let record = site.store.peek(&id.into(), site.manager.now());
            let n = record.as_ref().and_then(|record| record.values.get("n"));
            assert_eq!(n.map(|bytes| u64::from(bytes[0])), between, "{operation} {fault:?}");
            let m = record.as_ref().and_then(|record| record.values.get("m"));
            assert_eq!(m.is_some(), between == Some(2));
        });
        assert_eq!((visitor.get("n"), visitor.get("m")), (Some(2), Some(2)), "{operation}");
    }
}

#[test]
fn after_a_dropped_finish_the_handler_may_go_on_with_its_changes() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &2u64).unwrap();
        site.store.sabotage("save", Fault::StallBefore);
        drop_midway(handle.finish(&mut Response::new(())));
        site.store.mend();
        let session = handle.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(2));
        assert_eq!(stored(&site, handle).await, Some(1));
        session.set("m", &3u64).unwrap();
    });
    assert_eq!((visitor.get("n"), visitor.get("m")), (Some(2), Some(3)));
}

#[test]
fn a_touch_or_load_that_is_dropped_does_no_harm() {
    for (operation, fault) in [
        ("load", Fault::StallBefore),
        ("load", Fault::StallAfter),
        ("touch", Fault::StallBefore),
        ("touch", Fault::StallAfter),
    ] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        site.clock.advance(secs(600));
        visitor.visit(async |handle| {
            site.store.sabotage(operation, fault);
            drop_midway(handle.load());
            site.store.mend();
            assert_eq!(handle.load().await.unwrap().get::<u64>("n").unwrap(), Some(1));
        });
        let record = site.store.peek(&visitor.token(), site.manager.now()).unwrap();
        assert_eq!(record.expires, site.manager.now().saturating_add(secs(1800)));
    }
}

#[test]
fn an_update_that_is_dropped_is_done_or_not_and_others_go_on() {
    for (fault, wanted) in [(Fault::StallBefore, 1), (Fault::StallAfter, 2)] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let other = visitor.tab();
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            site.store.sabotage("save", fault);
            drop_midway(session.update("n", |n: Option<u64>| n.unwrap() + 1));
            site.store.mend();
            assert_eq!(other.get("n"), Some(wanted));
            // The queue of updates is free for this request and for others.
            session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
            other.visit(async |handle| {
                let session = handle.load().await.unwrap();
                session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
            });
        });
        assert_eq!(visitor.get("n"), Some(wanted + 2));
    }
}

#[test]
fn a_login_or_destroy_that_is_dropped_has_happened_or_not() {
    for (fault, acted) in [(Fault::StallBefore, false), (Fault::StallAfter, true)] {
        for operation in ["save", "destroy"] {
            let site = Site::new();
            let visitor = site.visitor();
            visitor.set("n", 1);
            let id = visitor.id();
            let request = visitor.request();
            block_on(async {
                let handle = site.manager.start(&request);
                let session = handle.load().await.unwrap();
                site.store.sabotage(operation, fault);
                match operation {
                    "save" => {
                        session.log_in("ada").unwrap();
                        drop_midway(handle.finish(&mut Response::new(())));
                    }
                    _ => drop_midway(session.destroy()),
                }
                site.store.mend();
            });
            assert_eq!(site.has(&id), !acted, "{operation}");
            let left = operation == "save" || !acted;
            assert_eq!(site.count(), u64::from(left), "{operation}");
            assert_eq!(visitor.get("n").is_some(), !acted, "{operation}");
        }
    }
}
