//! Two threads at one session.
//!
//! Each case repeats a race many times; the threads start together, each with a handle of its own
//! onto the store where the harness has one.

use std::sync::Barrier;
use std::thread;

use crate::conformance::Harness;
use crate::conformance::sample::{HOUR, empty, id, number, record, set};
use crate::conformance::store::Store;
use crate::{Error, ExpiryChange, Record, Token};

/// Runs two closures at the same time, each with a handle onto the store.
fn race<A: Send, B: Send>(
    store: &Store<'_>,
    one: impl FnOnce(&Store<'_>) -> A + Send,
    two: impl FnOnce(&Store<'_>) -> B + Send,
) -> (A, B) {
    let (start, other) = (Barrier::new(2), store.another());
    thread::scope(|scope| {
        let first = scope.spawn(|| {
            start.wait();
            one(store)
        });
        start.wait();
        let second = two(&other);
        (first.join().expect("the other thread does not panic"), second)
    })
}

/// Whether an operation that raced another found its record; any other error is one too many.
pub(crate) fn passed<T>(result: &Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::Gone | Error::Exists) => false,
        Err(error) => panic!("a race answers {error:?}"),
    }
}

/// Of racing creations under one id, one succeeds, and its record is the stored one.
pub fn racing_creates_have_one_winner(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = |n: u64| Record {
        values: [("n", number(n))].into_iter().collect(),
        ..empty(store.now, HOUR)
    };
    for round in 0..harness.rounds() {
        let id = id();
        let (one, two) = race(
            &store,
            |store| passed(&store.create(&id, &record(1), store.now)),
            |store| passed(&store.create(&id, &record(2), store.now)),
        );
        assert!(one != two, "round {round}: {} winners", usize::from(one) + usize::from(two));
        let winner = if one { record(1) } else { record(2) };
        assert_eq!(store.found(&id.into()), Some(winner), "round {round}");
    }
}

/// Of racing renames of one session one succeeds, the other finds it gone, and one record is live.
pub fn racing_renames_have_one_winner(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    for round in 0..harness.rounds() {
        let old = store.stored(&record);
        let ids = (id(), id());
        let (one, two) = race(
            &store,
            |store| passed(&store.rename(&old, &ids.0, store.now)),
            |store| passed(&store.rename(&old, &ids.1, store.now)),
        );
        assert!(one != two, "round {round}: {} winners", usize::from(one) + usize::from(two));
        let found = [old, ids.0.into(), ids.1.into()].map(|token| store.found(&token));
        let live = one.then(|| record.clone());
        assert_eq!(found, [None, live, two.then(|| record.clone())], "round {round}");
    }
}

/// Of racing renames of two sessions to one id one succeeds, and the other session stays.
pub fn racing_renames_to_one_id_have_one_winner(harness: &dyn Harness) {
    let store = Store::open(harness);
    let grace = Record { owner: Some("grace".into()), ..record(store.now) };
    for round in 0..harness.rounds() {
        let (a, b) = (store.stored(&record(store.now)), store.stored(&grace));
        let id = id();
        let (one, two) = race(
            &store,
            |store| passed(&store.rename(&a, &id, store.now)),
            |store| passed(&store.rename(&b, &id, store.now)),
        );
        assert!(one != two, "round {round}: {} winners", usize::from(one) + usize::from(two));
        let found = [&a, &b, &Token::from(id)].map(|token| store.found(token));
        let (ada, grace) = (Some(record(store.now)), Some(grace.clone()));
        let wanted = if one { [None, grace, ada] } else { [ada, None, grace] };
        assert_eq!(found, wanted, "round {round}");
    }
}

/// Whichever comes first, a save and a destroy end without a record.
pub fn a_save_that_races_a_destroy_brings_nothing_back(harness: &dyn Harness) {
    let store = Store::open(harness);
    let changes = set("a", 5).with_expiry(ExpiryChange::Extend(store.after(2 * HOUR)));
    for round in 0..harness.rounds() {
        let token = store.stored(&record(store.now));
        race(
            &store,
            |store| passed(&store.save(&token, &changes, store.now)),
            |store| store.destroy(&token, store.now).expect("destroying works"),
        );
        assert_eq!(store.found(&token), None, "round {round}");
    }
}

/// Whichever comes first, a touch and a destroy end without a record.
pub fn a_touch_that_races_a_destroy_brings_nothing_back(harness: &dyn Harness) {
    let store = Store::open(harness);
    for round in 0..harness.rounds() {
        let token = store.stored(&record(store.now));
        race(
            &store,
            |store| passed(&store.touch(&token, store.after(2 * HOUR), store.now)),
            |store| store.destroy(&token, store.now).expect("destroying works"),
        );
        assert_eq!(store.found(&token), None, "round {round}");
    }
}

/// A save either precedes the rename and moves with it, or is gone and writes nothing.
pub fn a_save_that_races_a_rename_is_whole_or_gone(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let mut changes = set("a", 5);
    changes.set("new", number(6));
    for round in 0..harness.rounds() {
        let (old, new_id) = (store.stored(&record), id());
        let (saved, renamed) = race(
            &store,
            |store| passed(&store.save(&old, &changes, store.now)),
            |store| store.rename(&old, &new_id, store.now).expect("nothing else moves it"),
        );
        assert_eq!(store.found(&old), None, "round {round}: the old id");
        let mut wanted = record.clone();
        if saved {
            wanted.apply(&changes, store.now).expect("it fits");
        }
        assert_eq!(store.found(&renamed), Some(wanted), "round {round}: saved is {saved}");
    }
}

/// A rename either precedes the destruction of its old id, and the session lives on, or is gone.
pub fn a_rename_that_races_a_destroy_is_whole_or_gone(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    for round in 0..harness.rounds() {
        let (old, new_id) = (store.stored(&record), id());
        let (renamed, ()) = race(
            &store,
            |store| passed(&store.rename(&old, &new_id, store.now)),
            |store| store.destroy(&old, store.now).expect("destroying works"),
        );
        let found = (store.found(&old), store.found(&new_id.into()));
        assert_eq!(found, (None, renamed.then(|| record.clone())), "round {round}");
    }
}

/// A collector whose clock is ahead takes a record, or leaves it whole where a save has extended
/// it: never does a save that passed lose its record.
pub fn a_save_that_races_a_purge_is_whole_or_gone(harness: &dyn Harness) {
    let store = Store::open(harness);
    let (behind, ahead) = (store.after(HOUR / 2), store.much_later());
    let later = store.after(24 * HOUR);
    for round in 0..harness.rounds() {
        let token = store.stored(&record(store.now));
        let by_touch = round % 2 == 0;
        let (saved, _) = race(
            &store,
            |store| match by_touch {
                true => passed(&store.touch(&token, later, behind)),
                false => {
                    let changes = set("a", 5).with_expiry(ExpiryChange::Extend(later));
                    passed(&store.save(&token, &changes, behind))
                }
            },
            |store| store.purge(ahead, 10),
        );
        let found = store.found_at(&token, ahead);
        assert_eq!(found.is_some(), saved, "round {round}: passed is {saved}");
        if let Some(found) = found {
            let value = number(if by_touch { 1 } else { 5 });
            assert_eq!((found.values.len(), found.values.get("a")), (3, Some(&value[..])));
            store.destroy(&token, ahead).expect("destroying works");
        }
    }
}

/// A new record is not taken for the expired one that had its id.
pub fn a_create_that_races_a_purge_stays(harness: &dyn Harness) {
    let store = Store::open(harness);
    let later = store.much_later();
    let new = empty(later, HOUR);
    for round in 0..harness.rounds() {
        let old = store.stored(&record(store.now));
        let (created, _) = race(
            &store,
            |store| store.create(old.id(), &new, later).map(|_| ()),
            |store| store.purge(later, 10),
        );
        created.expect("an expired record is no record");
        assert_eq!(store.found_at(&old, later), Some(new.clone()), "round {round}");
        store.destroy(&old, later).expect("destroying works");
    }
}
