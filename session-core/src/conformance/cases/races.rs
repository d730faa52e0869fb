//! Two threads that use one session.
//!
//! Each case repeats a race many times. The threads start together, each with its own handle if the harness has more
//! than one.

use std::sync::Barrier;
use std::thread;

use super::threads::join;
use crate::Error;
use crate::conformance::Harness;
use crate::conformance::expect::expect_eq;
use crate::conformance::sample::{HOUR, empty, login, number, record, set, until};
use crate::conformance::store::Store;
use crate::provider::{ExpiryChange, Record};

/// Runs two closures at the same time, each with a handle onto the store.
pub(crate) fn race<A: Send, B: Send>(
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
        (join(first), second)
    })
}

/// Returns whether an operation found its record. Any error but `Gone` and `Exists` fails the case.
pub(crate) fn passed<T>(result: &Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::Gone | Error::Exists) => false,
        Err(error) => panic!("a race returns {error:?}"),
    }
}

/// Of racing creations under one key, one succeeds, and its record is the stored one.
pub fn racing_creates_have_one_winner(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = |n: u64| Record {
        values: [("n", number(n))].into_iter().collect(),
        ..empty(store.now, HOUR)
    };
    for round in 0..harness.rounds() {
        let id = store.new_id();
        let (one, two) = race(
            &store,
            |store| passed(&store.create(&id, &record(1), store.now)),
            |store| passed(&store.create(&id, &record(2), store.now)),
        );
        assert!(
            one != two,
            "round {round}: of two creations under one key, {} succeed",
            usize::from(one) + usize::from(two)
        );
        let winner = if one { record(1) } else { record(2) };
        expect_eq!(
            store.found(&store.provider().issue(id)),
            Some(winner),
            "round {round}: the record, of the creation that succeeded"
        );
    }
}

/// Of racing new secrets one wins, the other finds the session gone, and the winner's client holds it.
pub fn racing_new_secrets_have_one_winner(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    for round in 0..harness.rounds() {
        let old = store.stored(&record);
        let changes = |n| store.with_secret(&old, set("n", n), store.now);
        let (first, second) = (changes(1), changes(2));
        let (one, two) = race(
            &store,
            |store| store.save(&old, &first, store.now),
            |store| store.save(&old, &second, store.now),
        );
        let (first_won, second_won) = (passed(&one), passed(&two));
        assert!(
            first_won != second_won,
            "round {round}: of two new secrets by one old one, {} succeed",
            usize::from(first_won) + usize::from(second_won)
        );
        let token = |changes: &crate::provider::Changes| {
            changes.secret.as_ref().expect("there is one").token.clone()
        };
        let (winner, loser, n) = match (one, two) {
            (Ok(winner), _) => (winner, token(&second), 1),
            (_, two) => (two.expect("one of them wins"), token(&first), 2),
        };
        let found = store.found(&winner).expect("the winner holds the session");
        expect_eq!(
            found.values.get("n"),
            Some(&number(n)[..]),
            "round {round}: the value of the save that won"
        );
        expect_eq!(
            (store.found(&loser), store.found(&old)),
            (None, None),
            "round {round}: what the secret that lost and the old one open"
        );
    }
}

/// Whichever comes first, a save and a destroy end without a record.
pub fn a_save_that_races_a_destroy_brings_nothing_back(harness: &dyn Harness) {
    let store = Store::open(harness);
    let changes = set("a", 5).with_expiry(ExpiryChange::Extend(until(store.after(2 * HOUR))));
    for round in 0..harness.rounds() {
        let token = store.stored(&record(store.now));
        race(
            &store,
            |store| passed(&store.save(&token, &changes, store.now)),
            |store| store.destroy(&token, store.now).expect("destroying works"),
        );
        expect_eq!(
            store.found(&token),
            None,
            "round {round}: the record, after a destroy beside a save"
        );
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
        expect_eq!(
            store.found(&token),
            None,
            "round {round}: the record, after a destroy beside a touch"
        );
    }
}

/// A save either precedes the login and is kept, or is gone and writes nothing.
pub fn a_save_that_races_a_login_is_whole_or_gone(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = Record { login: None, ..record(store.now) };
    let mut changes = set("a", 5);
    changes.set("new", number(6));
    for round in 0..harness.rounds() {
        let old = store.stored(&record);
        let mut entry = set("user", 7);
        entry.login = Some(login("grace", store.now));
        let entry = store.with_secret(&old, entry, store.now);
        let (saved, new) = race(
            &store,
            |store| passed(&store.save(&old, &changes, store.now)),
            |store| store.save(&old, &entry, store.now).expect("nothing else renews it"),
        );
        expect_eq!(
            store.found(&old),
            None,
            "round {round}: what the old secret opens after a login"
        );
        let mut wanted = record.clone();
        if saved {
            wanted.apply(&wanted.holder.clone(), &changes, store.now).expect("it fits");
        }
        let holder = wanted.holder;
        wanted.apply(&holder, &entry, store.now).expect("it fits");
        let wanted = Record { holder, ..wanted };
        expect_eq!(
            store.found(&new),
            Some(wanted),
            "round {round}: the record after a login, beside a save that returned success: {saved}"
        );
    }
}

/// Whichever comes first, a new secret and a destroy end without a record: the destroy goes by the key.
pub fn a_new_secret_that_races_a_destroy_brings_nothing_back(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    for round in 0..harness.rounds() {
        let old = store.stored(&record);
        let changes = store.with_secret(&old, set("a", 5), store.now);
        race(
            &store,
            |store| passed(&store.save(&old, &changes, store.now)),
            |store| store.destroy(&old, store.now).expect("destroying works"),
        );
        let left = store.load(&old, store.now).expect("loading works");
        expect_eq!(left, None, "round {round}: the record, after a destroy beside a new secret");
    }
}

/// A collection whose clock is ahead removes a record, or leaves it whole if a save has extended it. A save that
/// succeeds never loses its record.
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
                    let changes = set("a", 5).with_expiry(ExpiryChange::Extend(until(later)));
                    passed(&store.save(&token, &changes, behind))
                }
            },
            |store| store.purge(ahead, 10),
        );
        let found = store.found_at(&token, ahead);
        expect_eq!(
            found.is_some(),
            saved,
            "round {round}: whether the record is there, as the save or touch beside a collection has returned"
        );
        if let Some(found) = found {
            let value = number(if by_touch { 1 } else { 5 });
            expect_eq!(
                (found.values.len(), found.values.get("a")),
                (3, Some(&value[..])),
                "round {round}: the number of keys, and the value of one, after a save beside a collection"
            );
            store.destroy(&token, ahead).expect("destroying works");
        }
    }
}

/// A collection doesn't mistake a new record for the expired one that had its key.
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
        expect_eq!(
            store.found_at(&old, later),
            Some(new.clone()),
            "round {round}: the record that was created beside a collection"
        );
        store.destroy(&old, later).expect("destroying works");
    }
}
