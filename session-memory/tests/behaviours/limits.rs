//! Limits of a session.
//!
//! Beyond a limit of size, keys or depth, a typed error is returned before anything is written. A change
//! that makes a session smaller is always allowed, so that a lowered limit locks nobody out.

use session_core::Error;

use crate::support::*;

fn nested(depth: usize) -> serde_json::Value {
    (0..depth).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]))
}

/// Returns what is too large, and the limit.
fn too_large(error: Error) -> (&'static str, usize) {
    match error {
        Error::TooLarge { what, limit } => (what, limit),
        other => panic!("{other:?}"),
    }
}

#[test]
fn over_a_limit_is_a_typed_error_before_anything_is_written() {
    let site = Site::configured(|config| {
        config.limits.bytes = 1000;
        config.limits.keys = 4;
        config.limits.depth = 8;
    });
    let visitor = site.visitor();
    visitor.set("n", 1);
    for stored in [false, true] {
        let visitor = if stored { visitor.tab() } else { site.visitor() };
        site.store.calls();
        let ((), _) = visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            let long = "x".repeat(1000);
            let deep = nested(9);
            let bytes = ("session bytes", 1000);
            let depth = ("value depth", 8);
            assert_eq!(too_large(session.set("s", &long).unwrap_err()), bytes);
            assert_eq!(too_large(session.set("s", &deep).unwrap_err()), depth);
            let update = session.update("s", |_: Option<String>| long.clone()).await;
            assert_eq!(too_large(update.unwrap_err()), bytes);
            let update = session.update("s", |_: Option<serde_json::Value>| nested(9)).await;
            assert_eq!(too_large(update.unwrap_err()), depth);
            assert_eq!(too_large(session.add_flash("f", &long).await.unwrap_err()), bytes);
            // The list of messages adds one level.
            assert_eq!(too_large(session.add_flash("f", &nested(8)).await.unwrap_err()).0, depth.0);
            session.set("deepest", &nested(8)).unwrap();
            session.delete("deepest").unwrap();
            assert_eq!(session.get::<String>("s").unwrap(), None);
        });
        let calls = site.store.calls();
        assert!(calls.iter().all(|call| *call == "load"), "{calls:?}");
    }
    let ((), _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        for key in ["a", "b", "c"] {
            session.set(key, &1).unwrap();
        }
        let keys = ("session keys", 4);
        assert_eq!(too_large(session.set("d", &1).unwrap_err()), keys);
        let update = session.update("d", |_: Option<u64>| 1).await;
        assert_eq!(too_large(update.unwrap_err()), keys);
        assert_eq!(too_large(session.set_persistent(true).unwrap_err()), keys);
        assert!(!session.is_persistent());
        session.delete("a").unwrap();
        session.set("d", &1).unwrap();
        assert_eq!(session.keys(), ["b", "c", "d", "n"]);
    });
}

#[test]
fn an_owner_has_1_to_1024_bytes() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.log_in(&"x".repeat(1024)).unwrap();
        let error = session.log_in(&"y".repeat(1025)).unwrap_err();
        assert_eq!(too_large(error), ("owner bytes", 1024));
        let error = session.label(&"y".repeat(1025)).unwrap_err();
        assert_eq!(too_large(error), ("label bytes", 1024));
        assert_eq!(session.owner(), Some("x".repeat(1024)));
        // An empty owner is most likely a missing form field, and would log everybody in to the same
        // account.
        let error = session.log_in("").unwrap_err();
        assert!(matches!(error, Error::Invalid { what: "owner", .. }), "{error:?}");
        assert_eq!(error.to_string(), "owner is invalid: empty; an owner has 1 to 1,024 bytes");
        assert_eq!(error.status(), 500);
        assert_eq!(session.owner(), Some("x".repeat(1024)));
    });
}

#[test]
fn a_session_may_be_filled_to_the_last_byte() {
    let site = Site::configured(|config| config.limits.bytes = 100);
    let visitor = site.visitor();
    let ((), _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        // The key has two bytes and the value's header two, so 96 bytes fit.
        session.set("kk", &"x".repeat(96)).unwrap();
        assert_eq!(too_large(session.set("kk", &"x".repeat(97)).unwrap_err()).1, 100);
        assert_eq!(too_large(session.set("", &1).unwrap_err()).1, 100);
    });
    let (length, _) = visitor.visit(async |handle| {
        handle.load().await.unwrap().get::<String>("kk").unwrap().unwrap().len()
    });
    assert_eq!(length, 96);
}

#[test]
fn two_requests_that_fill_a_session_together_are_stopped_at_the_store() {
    let site = Site::configured(|config| config.limits.bytes = 100);
    let visitor = site.visitor();
    visitor.set("n", 1);
    let other = visitor.tab();
    let ((), finished) = visitor.try_visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("mine", &"x".repeat(60)).unwrap();
        other.visit(async |handle| {
            handle.load().await.unwrap().set("theirs", &"x".repeat(60)).unwrap();
        });
    });
    assert_eq!(too_large(finished.unwrap_err()), ("session bytes", 100));
    let (keys, _) = visitor.visit(async |handle| handle.load().await.unwrap().keys());
    assert_eq!(keys, ["n", "theirs"]);
}

#[test]
fn a_limit_that_is_lowered_locks_nobody_out() {
    let generous = Site::new();
    let visitor = generous.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        for n in 0..10u64 {
            session.set(&format!("key {n}"), &"x".repeat(500)).unwrap();
        }
        session.set("list", &vec![7u64; 400]).unwrap();
    });
    let strict = generous.reconfigured(|config| {
        config.limits.bytes = 300;
        config.limits.keys = 2;
    });
    let visitor = Visitor::with_cookie(&strict, &visitor.cookie().unwrap());
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(session.get::<String>("key 3").unwrap().unwrap().len(), 500);
        assert_eq!(too_large(session.set("key 3", &"x".repeat(501)).unwrap_err()).1, 300);
        assert_eq!(too_large(session.set("new", &1).unwrap_err()).0, "session bytes");
        session.set("key 3", &"x".repeat(499)).unwrap();
        session.set("key 3", &"x".repeat(400)).unwrap();
        session.delete("key 4").unwrap();
    });
    let (left, _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        let left = session
            .update("list", |list: Option<Vec<u64>>| {
                let mut list = list.unwrap();
                list.pop();
                list
            })
            .await
            .unwrap();
        assert_eq!(session.get::<String>("key 3").unwrap().unwrap().len(), 400);
        assert_eq!(session.keys().len(), 10);
        left.len()
    });
    assert_eq!(left, 399);
}
