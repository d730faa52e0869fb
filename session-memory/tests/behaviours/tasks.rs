//! Several tasks of one request: one waits for the store while another one continues.
//!
//! What a task is told to be stored is stored. If another owner logs in meanwhile, that owner gets no
//! values of the previous one, and keeps what is set from then on, even if it equals what is being
//! saved.

use futures_lite::future::{yield_now, zip};
use http::Method;

use crate::support::*;

/// Runs `meanwhile` after `operation` began to wait for the store.
fn during(operation: impl Future<Output = ()>, meanwhile: impl FnOnce()) {
    block_on(zip(operation, async {
        yield_now().await;
        meanwhile();
    }));
}

#[test]
fn what_another_owner_sets_while_something_is_on_its_way_is_kept() {
    for on_its_way in ["save", "update", "create"] {
        let site = Site::new();
        let visitor = site.visitor();
        if on_its_way != "create" {
            visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
        }
        let request = visitor.begin(Method::POST);
        let session = &request.session;
        if on_its_way == "create" {
            session.log_in("ada").unwrap();
        }
        if on_its_way != "update" {
            session.set("n", &1u64).unwrap();
        }
        session.set("adas", &1u64).unwrap();
        site.store
            .sabotage_once(if on_its_way == "create" { "create" } else { "save" }, Fault::Late);
        let operation = async {
            match on_its_way {
                "update" => assert_eq!(session.update("n", add_one).await.unwrap(), 1),
                _ => session.save().await.unwrap(),
            }
        };
        during(operation, || {
            session.log_in("bob").unwrap();
            session.set("n", &1u64).unwrap();
        });
        visitor.receive(request.finish().unwrap());
        assert_eq!(visitor.owner().as_deref(), Some("bob"), "{on_its_way}");
        assert_eq!(visitor.get("n"), Some(1), "{on_its_way}");
        if on_its_way != "update" {
            assert_eq!(visitor.get("adas"), None, "{on_its_way}");
        }
    }
}

#[test]
fn a_label_or_a_login_again_while_a_login_is_on_its_way_wipes_nothing() {
    for meanwhile in ["label", "log_in"] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.log_in("ada").unwrap();
            session.set("adas", &1u64).unwrap();
        });
        let request = visitor.begin(Method::POST);
        let session = &request.session;
        session.log_in("bob").unwrap();
        session.set("cart", &1u64).unwrap();
        site.store.sabotage_once("save", Fault::Late);
        during(async { session.save().await.unwrap() }, || match meanwhile {
            "label" => session.label("a browser").unwrap(),
            _ => session.log_in("bob").unwrap(),
        });
        assert_eq!(session.get::<u64>("cart").unwrap(), Some(1), "{meanwhile}");
        visitor.receive(request.finish().unwrap());
        assert_eq!((visitor.get("cart"), visitor.get("adas")), (Some(1), None), "{meanwhile}");
        assert_eq!(visitor.owner().as_deref(), Some("bob"));
    }
}

#[test]
fn an_update_is_computed_anew_when_another_owner_logs_in_meanwhile() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in("ada").unwrap();
        session.set("n", &5u64).unwrap();
    });
    let request = visitor.begin(Method::POST);
    let mut runs = 0;
    let add = |n: Option<u64>| {
        runs += 1;
        if runs == 1 {
            request.session.log_in("bob").unwrap();
        }
        add_one(n)
    };
    assert_eq!(block_on(request.session.update("n", add)).unwrap(), 1);
    visitor.receive(request.finish().unwrap());
    assert_eq!((visitor.owner().as_deref(), visitor.get("n")), (Some("bob"), Some(1)));
}

#[test]
fn a_new_id_that_is_asked_for_while_a_session_is_created_is_given() {
    let site = Site::new();
    let visitor = site.visitor();
    let request = visitor.begin(Method::POST);
    let session = &request.session;
    session.set("n", &1u64).unwrap();
    let first = text_of(session);
    site.store.sabotage_once("create", Fault::Late);
    during(async { session.save().await.unwrap() }, || session.regenerate().unwrap());
    visitor.receive(request.finish().unwrap());
    assert_eq!(visitor.get("n"), Some(1));
    assert_ne!(visitor.id(), first);
    assert_eq!(site.count(), 1);
}
