//! `count` and `purge`.

use crate::Error;
use crate::conformance::Harness;
use crate::conformance::expect::expect_eq;
use crate::conformance::sample::{HOUR, empty, record, set, until};
use crate::conformance::store::Store;
use crate::provider::{Changes, ExpiryChange, Token};

/// The count is of sessions that live at that instant, whatever happened to the others.
pub fn count_knows_the_live_sessions(harness: &dyn Harness) {
    let store = Store::open(harness);
    let count = |now| store.count(now).expect("counting works");
    expect_eq!(count(store.now), 0, "sessions in an empty store");
    let short: Vec<Token> = (0..5).map(|_| store.stored(&empty(store.now, HOUR))).collect();
    let long: Vec<Token> = (0..7).map(|_| store.stored(&empty(store.now, 2 * HOUR))).collect();
    expect_eq!(count(store.now), 12, "sessions, after 12 were created");
    expect_eq!(
        store.another().count(store.now).expect("counting works"),
        12,
        "sessions, by another handle"
    );
    expect_eq!(
        (count(store.after(HOUR)), count(store.after(2 * HOUR))),
        (7, 0),
        "sessions when 5 and when all 12 have expired"
    );
    store.destroy(&short[0], store.now).expect("destroying works");
    store.renew(&long[0], store.now).expect("a live session gets a new secret");
    store.saved(&long[1], &set("a", 1));
    store.touch(&short[1], store.after(3 * HOUR), store.now).expect("touching works");
    expect_eq!(count(store.now), 11, "sessions, after one of 12 was destroyed");
    expect_eq!(
        (count(store.after(HOUR)), count(store.after(2 * HOUR))),
        (8, 1),
        "sessions, one of which was touched to expire later"
    );
}

/// A provider that can't count says so, and one that can is right about an empty store.
pub fn count_is_unsupported_or_right(harness: &dyn Harness) {
    let store = Store::open(harness);
    match store.count(store.now) {
        Ok(count) => assert!(
            store.can.count && count == 0,
            "an empty store has {count} sessions, and the capability count is {}",
            store.can.count
        ),
        Err(Error::Unsupported { .. }) => {
            assert!(!store.can.count, "declared to count, and it returns Unsupported");
        }
        Err(error) => panic!("counting returns {error:?}"),
    }
}

/// A collection removes expired records from the store and reports their number. Afterwards, not even a clock that is
/// behind finds them.
pub fn purging_removes_all_that_expired(harness: &dyn Harness) {
    let store = Store::open(harness);
    let tokens: Vec<Token> = (0..100).map(|_| store.stored(&record(store.now))).collect();
    assert!(
        tokens.iter().all(|token| store.found(token).is_some()),
        "a record that was stored is not found"
    );
    expect_eq!(store.drain(store.much_later(), 1000), 100, "records removed, of 100 that expired");
    assert!(
        tokens.iter().all(|token| store.found(token).is_none()),
        "a record that was collected is found by a clock that is behind"
    );
    expect_eq!(store.drain(store.much_later(), 1000), 0, "records removed by a second collection");
}

/// A collection removes no live record, even if it has only a millisecond left.
pub fn purging_leaves_the_living(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let living: Vec<Token> = (0..50).map(|_| store.stored(&record)).collect();
    for _ in 0..50 {
        store.stored(&empty(store.now, HOUR / 4));
    }
    let last = store.after(HOUR - crate::conformance::sample::MILLI);
    expect_eq!(store.drain(last, 10), 50, "records removed, of 50 that expired");
    for token in &living {
        expect_eq!(
            store.found_at(token, last),
            Some(record.clone()),
            "a live record, after a collection a millisecond before its expiry"
        );
    }
}

/// A collection goes by the expiry that touches, saves and new secrets left.
pub fn purging_goes_by_the_newest_expiry(harness: &dyn Harness) {
    let store = Store::open(harness);
    let (late, later) = (store.after(10 * HOUR), store.after(24 * HOUR));
    let set = |expires| Changes::new().with_expiry(ExpiryChange::Set(until(expires)));
    let touched = store.touch(&store.stored(&record(store.now)), later, store.now);
    let renewed = store.stored(&record(store.now));
    let renewed = store.touch(&renewed, later, store.now).expect("touching works");
    let living = [
        touched.expect("touching works"),
        store.renew(&renewed, store.now).expect("a live session gets a new secret"),
        store.saved(&store.stored(&record(store.now)), &set(later)),
        store.saved(&store.stored(&empty(store.now, 24 * HOUR)), &Changes::new()),
    ];
    let dead = [
        store.saved(&store.stored(&empty(store.now, 24 * HOUR)), &set(store.after(HOUR))),
        store.renew(&store.stored(&record(store.now)), store.now).expect("it is live still"),
    ];
    expect_eq!(store.drain(late, 1), dead.len(), "records removed, of some whose expiry was moved");
    assert!(
        living.iter().all(|token| store.found_at(token, late).is_some()),
        "a collection has removed a record whose expiry was moved beyond it"
    );
    assert!(
        dead.iter().all(|token| store.found(token).is_none()),
        "a collection has left a record that has expired"
    );
}

/// One call removes about as many as it is told to, and says that more remain while they do.
pub fn purging_comes_in_slices(harness: &dyn Harness) {
    let store = Store::open(harness);
    let tokens: Vec<Token> = (0..200).map(|_| store.stored(&record(store.now))).collect();
    let mut removed = 0;
    for _ in 0..10_000 {
        let slice = store.purge(store.much_later(), 10);
        assert!(slice.removed <= 20, "one slice of about 10 removes {}", slice.removed);
        removed += slice.removed;
        assert!(
            slice.more || removed == tokens.len(),
            "a slice says that nothing remains, after {removed} of {} records",
            tokens.len()
        );
        if !slice.more {
            break;
        }
    }
    expect_eq!(removed, tokens.len(), "records removed, all slices together");
}

/// The key of a record that was collected can be used again.
pub fn a_purged_key_can_be_created_again(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let later = store.much_later();
    store.drain(later, 10);
    let new = empty(later, HOUR);
    let token = store.create(token.id(), &new, later).expect("the key is free");
    store.drain(later, 10);
    expect_eq!(store.found_at(&token, later), Some(new), "the new record, after a collection");
}

/// A collection removes nothing, and ends, if nothing has expired or nothing is stored.
pub fn purging_an_empty_store_does_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    expect_eq!(store.drain(store.much_later(), 10), 0, "records removed from an empty store");
    let token = store.stored(&record(store.now));
    expect_eq!(store.drain(store.now, 10), 0, "records removed where none has expired");
    assert!(store.found(&token).is_some(), "a collection has removed a live record");
}
