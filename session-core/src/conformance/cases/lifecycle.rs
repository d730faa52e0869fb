//! Renaming and destroying.

use crate::conformance::Harness;
use crate::conformance::sample::{HOUR, empty, id, number, record, set};
use crate::conformance::store::Store;
use crate::{Error, Record, Token};

/// The new id has everything that the old one had.
pub fn a_rename_moves_everything(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let new_id = id();
    let token = store.rename(&store.stored(&record), &new_id, store.now).expect("renaming works");
    assert_eq!(*token.id(), new_id);
    assert_eq!(store.found(&token), Some(record.clone()));
    let token = store.saved(&token, &set("a", 10));
    let found = store.found(&token).expect("the record is there");
    assert_eq!(found.values.get("a"), Some(&number(10)[..]), "saved under the new id");
    assert_eq!(store.found_at(&token, record.expires), None, "with the old expiry");
}

/// After a rename the old id is gone for every operation, and destroying it does no harm.
pub fn the_old_id_is_dead_after_a_rename(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let old = store.stored(&record);
    let new = store.rename(&old, &id(), store.now).expect("renaming works");
    for view in [&store, &store.another()] {
        assert_eq!(view.found(&old), None, "loaded");
        let result = view.save(&old, &set("a", 5), store.now);
        assert!(matches!(result, Err(Error::Gone)), "saved: {result:?}");
        let result = view.touch(&old, store.after(2 * HOUR), store.now);
        assert!(matches!(result, Err(Error::Gone)), "touched: {result:?}");
        let result = view.rename(&old, &id(), store.now);
        assert!(matches!(result, Err(Error::Gone)), "renamed: {result:?}");
    }
    store.destroy(&old, store.now).expect("destroying what is gone is no error");
    assert_eq!(store.found(&new), Some(record), "the new id is as it was");
    if store.can.count {
        assert_eq!(store.count(store.now).expect("counting works"), 1);
    }
}

/// A rename to a live record's id is [`Error::Exists`], and both records stay as they are.
pub fn a_taken_id_refuses_a_rename(harness: &dyn Harness) {
    let store = Store::open(harness);
    let first = record(store.now);
    let second = Record { owner: Some("grace".into()), ..empty(store.now, HOUR) };
    let (one, two) = (store.stored(&first), store.stored(&second));
    let result = store.rename(&one, two.id(), store.now);
    assert!(matches!(result, Err(Error::Exists)), "{result:?}");
    assert_eq!((store.found(&one), store.found(&two)), (Some(first), Some(second)));
}

/// A rename to an expired record's id works and leaves nothing of that record.
pub fn an_expired_record_does_not_refuse_a_rename(harness: &dyn Harness) {
    let store = Store::open(harness);
    let short = store.stored(&record(store.now));
    let record = Record { owner: None, ..empty(store.now, 10 * HOUR) };
    let later = store.much_later();
    let token = store.rename(&store.stored(&record), short.id(), later);
    let token = token.expect("an expired record is no record");
    assert_eq!(store.found_at(&token, later), Some(record.clone()));
    store.drain(later, 10);
    assert_eq!(store.found_at(&token, later), Some(record), "after a collection");
}

/// Renaming what was never there, or is no more, is [`Error::Gone`] and stores nothing.
pub fn a_rename_never_creates(harness: &dyn Harness) {
    let store = Store::open(harness);
    let destroyed = store.stored(&record(store.now));
    store.destroy(&destroyed, store.now).expect("destroying works");
    for (what, token) in [("unknown", Token::from(id())), ("destroyed", destroyed)] {
        let new_id = id();
        let result = store.rename(&token, &new_id, store.now);
        assert!(matches!(result, Err(Error::Gone)), "{what}: {result:?}");
        assert_eq!(store.found(&new_id.into()), None, "{what}");
        let result = store.touch(&token, store.after(2 * HOUR), store.now);
        assert!(matches!(result, Err(Error::Gone)), "{what}, touched: {result:?}");
        assert_eq!(store.found(&token), None, "{what}");
    }
}

/// An id that a rename left is free, and a record may go back to it.
pub fn an_old_id_can_be_used_again(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let old = store.stored(&record);
    let new = store.rename(&old, &id(), store.now).expect("renaming works");
    let back = store.rename(&new, old.id(), store.now).expect("renaming back works");
    assert_eq!((store.found(&back), store.found(&new)), (Some(record.clone()), None));
    let again = store.create(new.id(), &empty(store.now, HOUR), store.now).expect("the id is free");
    assert_eq!(store.found(&again), Some(empty(store.now, HOUR)));
    assert_eq!(store.found(&back), Some(record));
}

/// A destroyed session is gone for every operation, through every handle.
pub fn destroying_is_final(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    store.destroy(&token, store.now).expect("destroying works");
    for view in [&store, &store.another()] {
        assert_eq!(view.found(&token), None, "loaded");
        let result = view.save(&token, &set("a", 5), store.now);
        assert!(matches!(result, Err(Error::Gone)), "saved: {result:?}");
        let result = view.touch(&token, store.after(2 * HOUR), store.now);
        assert!(matches!(result, Err(Error::Gone)), "touched: {result:?}");
        let result = view.rename(&token, &id(), store.now);
        assert!(matches!(result, Err(Error::Gone)), "renamed: {result:?}");
        assert_eq!(view.found(&token), None, "brought back");
    }
    if store.can.count {
        assert_eq!(store.count(store.now).expect("counting works"), 0);
    }
}

/// Destroying twice, or what was never there, is no error.
pub fn destroying_is_idempotent(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    for _ in 0..2 {
        store.destroy(&token, store.now).expect("destroying works");
        store.another().destroy(&token, store.now).expect("destroying works");
    }
    store.destroy(&id().into(), store.now).expect("what was never there is no error");
    assert!(!store.can.revokes || store.found(&token).is_none());
}

/// Other sessions, even of the same owner, live on.
pub fn destroying_ends_one_session_only(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let tokens: Vec<Token> = (0..8).map(|_| store.stored(&record)).collect();
    for token in tokens.iter().step_by(2) {
        store.destroy(token, store.now).expect("destroying works");
    }
    for token in tokens.iter().skip(1).step_by(2) {
        assert_eq!(store.found(token), Some(record.clone()));
    }
}

/// A new record under a destroyed one's id has nothing of that.
pub fn a_destroyed_id_starts_from_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let old = store.stored(&record(store.now));
    store.destroy(&old, store.now).expect("destroying works");
    let new = empty(store.now, 2 * HOUR);
    let token = store.create(old.id(), &new, store.now).expect("the id is free");
    assert_eq!(store.found(&token), Some(new));
}

/// A provider that declares a limit has it; one that can do more says so.
pub fn declared_limits_are_real(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    if !store.can.shared_store {
        store.saved(&token, &set("a", 10));
        let token = store.saved(&token, &set("b", 20));
        let found = store.found(&token).expect("the record is there");
        assert_eq!(found.values.get("a"), Some(&number(1)[..]), "saves by one token merge");
    }
    if !store.can.revokes {
        store.destroy(&token, store.now).expect("destroying works");
        assert!(store.found(&token).is_some(), "a destroyed session is dead at once");
    }
}
