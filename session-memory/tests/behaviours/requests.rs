//! The store calls of a request, and the cookie in its response.
//!
//! An unused session causes no store call and no cookie. A session that gets its first value sets
//! exactly one `Set-Cookie`. Reading, and storing an equal value, set no cookie and write nothing. A new
//! session that is destroyed leaves no trace.

use crate::support::*;

#[test]
fn a_session_that_is_not_used_costs_no_store_call_and_no_header() {
    let site = Site::new();
    let known = site.visitor();
    known.set("n", 1);
    site.store.calls();
    for visitor in [site.visitor(), known.tab(), Visitor::with_cookie(&site, UNKNOWN)] {
        let ((), reply) = visitor.visit(async |_| ());
        assert!(reply.is_plain(), "{reply:?}");
        assert_eq!(site.store.calls(), [""; 0]);
    }
}

#[test]
fn an_empty_new_session_is_neither_stored_nor_announced() {
    let site = Site::new();
    let visitor = site.visitor();
    let (is_new, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.delete("nothing").unwrap();
        session.clear().unwrap();
        session.set("n", &1).unwrap();
        session.delete("n").unwrap();
        session.regenerate().unwrap();
        session.is_new()
    });
    assert!(is_new && reply.is_plain());
    assert_eq!(site.store.calls(), [""; 0]);
    assert_eq!(site.count(), 0);
}

#[test]
fn the_first_value_is_announced_once_with_all_attributes_and_read_by_the_next_request() {
    let site = Site::new();
    let visitor = site.visitor();
    let reply = visitor.set("n", 7);
    let text = visitor.cookie().unwrap();
    assert_eq!(
        reply.set_cookie().unwrap(),
        format!("__Host-id={text}; Path=/; Secure; HttpOnly; SameSite=Lax")
    );
    assert_eq!(text, visitor.id());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("vary"), Some("Cookie"));
    assert_eq!(site.store.calls(), ["create"]);
    assert_eq!(visitor.get("n"), Some(7));
    assert_eq!(site.store.calls(), ["load"]);
    assert_eq!(site.manager.stats().created, 1);
}

#[test]
fn reading_sends_no_cookie_and_writes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    let (keys, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        assert_eq!(session.get::<u64>("absent").unwrap(), None);
        assert!(!session.is_new());
        session.keys()
    });
    assert_eq!(keys, ["n"]);
    assert!(reply.is_plain(), "{reply:?}");
    assert_eq!(site.store.calls(), ["load"]);
}

#[test]
fn an_equal_value_writes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    assert!(visitor.set("n", 1).is_plain());
    assert_eq!(site.store.calls(), ["load"]);
    // A value that was changed back is equal as well, and so is a deleted key that didn't exist.
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &2).unwrap();
        session.delete("n").unwrap();
        session.set("n", &1u64).unwrap();
        session.delete("absent").unwrap();
    });
    assert!(reply.is_plain());
    assert_eq!(site.store.calls(), ["load"]);
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    let (n, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.update("n", |n: Option<u64>| n.unwrap()).await.unwrap()
    });
    assert_eq!(n, 1);
    assert!(reply.is_plain());
    assert!(site.store.calls().iter().all(|call| *call == "load"));
}

#[test]
fn a_changed_value_is_saved_without_a_cookie() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    assert!(visitor.set("n", 2).is_plain());
    assert_eq!(site.store.calls(), ["load", "save"]);
    assert_eq!(visitor.get("n"), Some(2));
}

#[test]
fn several_writes_of_a_request_are_one_store_call_and_one_cookie() {
    let site = Site::new();
    let visitor = site.visitor();
    let ((), reply) = visitor.visit(async |handle| {
        for n in 0..20u64 {
            handle.load().await.unwrap().set(&format!("key {n}"), &n).unwrap();
        }
    });
    assert!(reply.set_cookie().is_some());
    assert_eq!(site.store.calls(), ["create"]);
}

#[test]
fn saving_and_regenerating_within_a_request_is_one_cookie_still() {
    let site = Site::new();
    let visitor = site.visitor();
    let (ids, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1u64).unwrap();
        session.save().await.unwrap();
        let first = text_of(&session);
        session.regenerate().unwrap();
        session.save().await.unwrap();
        let second = text_of(&session);
        session.regenerate().unwrap();
        session.set("n", &2u64).unwrap();
        [first, second]
    });
    assert!(reply.set_cookie().is_some());
    assert!(!ids.contains(&visitor.id()) && ids[0] != ids[1]);
    assert!(!site.has(&ids[0]) && !site.has(&ids[1]));
    assert_eq!((visitor.get("n"), site.count()), (Some(2), 1));
}

#[test]
fn a_new_session_that_is_destroyed_leaves_no_cookie_and_no_record() {
    let site = Site::new();
    let visitor = site.visitor();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        session.destroy().await.unwrap();
        assert!(session.is_new());
    });
    assert!(reply.is_plain());
    assert_eq!(site.store.calls(), [""; 0]);
    // The session was stored already, but its cookie was never set.
    let (id, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        session.save().await.unwrap();
        let id = text_of(&session);
        session.destroy().await.unwrap();
        id
    });
    assert!(reply.is_plain());
    assert!(!site.has(&id));
    assert_eq!(site.count(), 0);
}

#[test]
fn destroyed_and_started_again_in_one_request_has_a_fresh_id() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("old", 1);
    let old = visitor.id();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.destroy().await.unwrap();
        assert_eq!(session.get::<u64>("old").unwrap(), None);
        assert_ne!(text_of(&session), old);
        session.set("new", &2u64).unwrap();
    });
    assert!(reply.set_cookie().is_some());
    assert_ne!(visitor.id(), old);
    assert!(!site.has(&old));
    assert_eq!((visitor.get("old"), visitor.get("new")), (None, Some(2)));
    assert_eq!(site.count(), 1);
}

#[test]
fn destroying_twice_is_fine() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.destroy().await.unwrap();
        session.destroy().await.unwrap();
    });
    assert!(reply.attributes().contains("Max-Age=0"));
    assert_eq!(site.manager.stats().destroyed, 1);
}

#[test]
fn the_id_of_a_new_session_is_known_before_it_is_stored() {
    let site = Site::new();
    let visitor = site.visitor();
    let (id, _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        let id = text_of(&session);
        assert_eq!(text_of(&session), id);
        assert!(session.is_new() && !site.has(&id));
        session.set("n", &1).unwrap();
        assert_eq!(text_of(&session), id);
        id
    });
    assert_eq!(visitor.id(), id);
    assert!(site.has(&id));
    // Asking for the key is not a use: nothing is stored.
    let other = site.visitor();
    let (_, reply) = other.visit(async |handle| handle.load().await.unwrap().id().unwrap());
    assert!(reply.is_plain());
    assert_eq!(site.count(), 1);
}
