//! Writes in doubt: the store's reply was lost, or the future was dropped.
//!
//! The request continues from what is certain. An update that succeeds is stored and counted once. What
//! a finished request has set is stored. A pending login succeeds. Nobody gets values that were stored
//! with another owner.

use http::{Method, StatusCode};
use session_core::Error;

use crate::support::*;

/// Another request adds a hundred to "n".
fn rival_adds(visitor: &Visitor<'_>) {
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 100).await.unwrap();
    });
}

#[test]
fn an_update_after_one_that_was_dropped_is_stored() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    request.session.regenerate().unwrap();
    site.store.sabotage_once("save", Fault::DoubtAfter);
    site.store.sabotage_once("load", Fault::StallBefore);
    drop_midway(request.session.update("a", add_one));
    assert_eq!(block_on(request.session.update("b", add_one)).unwrap(), 1);
    visitor.receive(request.finish().unwrap());
    assert_eq!((visitor.get("n"), visitor.get("b")), (Some(1), Some(1)));
}

#[test]
fn an_update_after_a_new_id_in_doubt_counts_once() {
    for fault in [Fault::StallBefore, Fault::StallAfter] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let request = visitor.begin(Method::POST);
        request.session.regenerate().unwrap();
        site.store.sabotage_once("save", fault);
        drop_midway(request.session.save());
        for n in [2, 3] {
            assert_eq!(block_on(request.session.update("n", add_one)).unwrap(), n, "{fault:?}");
        }
        visitor.receive(request.finish().unwrap());
        assert_eq!(visitor.get("n"), Some(3), "{fault:?}");
    }
}

/// The handler fails, and the request continues in another session of the same visitor.
#[test]
fn a_doubt_misleads_no_update_after_a_failure() {
    for update in [false, true] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let request = visitor.begin(Method::POST);
        request.session.regenerate().unwrap();
        if update {
            rival_adds(&visitor);
        }
        site.store.sabotage_once("save", Fault::DoubtBefore);
        if update {
            // The repeated save is a conflict, and the load after it doesn't complete.
            site.store.sabotage_once("load", Fault::StallBefore);
            drop_midway(request.session.update("n", add_one));
        } else {
            site.store.sabotage_once("save", Fault::StallBefore);
            drop_midway(request.session.save());
        }
        site.store.mend();
        visitor.receive(request.finish_with(StatusCode::INTERNAL_SERVER_ERROR).unwrap());
        let session = block_on(request.handle.load()).unwrap();
        rival_adds(&visitor);
        let n = block_on(session.update("n", add_one)).unwrap();
        assert_eq!(visitor.get("n"), Some(n));
        assert_eq!(block_on(session.update("m", add_one)).unwrap(), 1);
        assert_eq!(visitor.get("m"), Some(1));
    }
}

#[test]
fn a_login_whose_update_was_dropped_in_doubt_succeeds() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    request.session.log_in("ada").unwrap();
    rival_adds(&visitor);
    site.store.sabotage_once("save", Fault::DoubtBefore);
    site.store.sabotage_once("load", Fault::StallBefore);
    drop_midway(request.session.update("n", add_one));
    visitor.receive(request.finish().unwrap());
    let owner = visitor.owner();
    assert_eq!((owner.as_deref(), visitor.get("n")), (Some("ada"), Some(101)));
}

#[test]
fn what_was_stored_with_an_owner_in_doubt_is_not_anothers() {
    for reloads in [false, true] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let request = visitor.begin(Method::POST);
        request.session.log_in("ada").unwrap();
        request.session.set("adas", &1u64).unwrap();
        site.store.sabotage_once("save", Fault::StallAfter);
        drop_midway(request.session.save());
        request.session.log_in("bob").unwrap();
        request.session.set("bobs", &2u64).unwrap();
        if reloads {
            block_on(request.session.reload()).unwrap();
        }
        visitor.receive(request.finish().unwrap());
        let owner = visitor.owner();
        assert_eq!(owner.as_deref(), Some("bob"));
        let found = (visitor.get("adas"), visitor.get("bobs"), visitor.get("n"));
        assert_eq!(found, (None, Some(2), None), "reloads: {reloads}");
    }
}

#[test]
fn a_value_that_is_set_back_after_a_save_in_doubt_is_stored() {
    for is_dropped in [false, true] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let request = visitor.begin(Method::POST);
        request.session.set("n", &2u64).unwrap();
        if is_dropped {
            site.store.sabotage_once("save", Fault::StallAfter);
            drop_midway(request.session.save());
            block_on(request.session.update("other", add_one)).unwrap();
        } else {
            site.store.sabotage_once("save", Fault::DoubtAfter);
            let saved = block_on(request.session.save());
            assert!(matches!(saved, Err(Error::InDoubt { .. })));
        }
        request.session.set("n", &1u64).unwrap();
        request.finish().unwrap();
        assert_eq!(visitor.get("n"), Some(1), "dropped: {is_dropped}");
    }
}

#[test]
fn a_new_session_whose_creation_was_dropped_is_found_again() {
    let site = Site::new();
    let visitor = site.visitor();
    let request = visitor.begin(Method::POST);
    request.session.log_in("ada").unwrap();
    site.store.sabotage_once("create", Fault::StallAfter);
    drop_midway(request.session.save());
    request.session.set("n", &1u64).unwrap();
    visitor.receive(request.finish().unwrap());
    assert_eq!((visitor.get("n"), site.count()), (Some(1), 1), "one login, one session");
}

/// The login lost its race, and the store went down before the request could find that out.
#[test]
fn the_response_in_place_of_a_failed_one_is_finished_without_the_store() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (request, other) = (visitor.begin(Method::POST), visitor.begin(Method::POST));
    request.session.log_in("ada").unwrap();
    other.session.log_in("ada").unwrap();
    other.finish().unwrap();
    site.store.sabotage("load", Fault::Down);
    assert!(matches!(request.finish(), Err(Error::Unavailable { .. })));
    site.store.calls();
    let refused = request.finish_with(StatusCode::SERVICE_UNAVAILABLE).unwrap();
    assert!(is_silent(&refused));
    assert!(site.store.calls().is_empty());
}

/// The response that replaces the failed one looks up whether the new id is stored.
#[test]
fn a_new_id_in_doubt_is_told_by_the_response_in_place_of_the_failed_one() {
    for (repeated, stored) in
        [(Some(Fault::Down), true), (Some(Fault::DoubtBefore), true), (None, true), (None, false)]
    {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let request = visitor.begin(Method::POST);
        request.session.log_in("ada").unwrap();
        match repeated {
            Some(fault) => {
                site.store.sabotage_once("save", Fault::DoubtAfter);
                site.store.sabotage_once("save", fault);
                assert!(request.finish().is_err());
            }
            None => {
                let fault = if stored { Fault::StallAfter } else { Fault::StallBefore };
                site.store.sabotage_once("save", fault);
                drop_midway(request.session.save());
            }
        }
        let mut response = http::Response::new(());
        *response.status_mut() = StatusCode::CONFLICT;
        block_on(request.handle.refuse(&mut response));
        assert_eq!(visitor.receive(response).set_cookie().is_some(), stored, "{repeated:?}");
        site.clock.advance(secs(60));
        assert_eq!(visitor.get("n"), Some(1), "{repeated:?}");
    }
}

#[test]
fn a_creation_in_doubt_for_one_owner_is_not_anothers() {
    let site = Site::new();
    let visitor = site.visitor();
    let request = visitor.begin(Method::POST);
    request.session.log_in("ada").unwrap();
    request.session.set("adas", &1u64).unwrap();
    site.store.sabotage_once("create", Fault::StallAfter);
    drop_midway(request.session.save());
    request.session.log_in("bob").unwrap();
    visitor.receive(request.finish().unwrap());
    let owner = visitor.owner();
    assert_eq!((owner.as_deref(), visitor.get("adas")), (Some("bob"), None));
}
