//! Several threads at one session.
//!
//! Each case repeats a race many times; the threads start together, each with a handle of its own
//! onto the store where the harness has one.

use std::sync::Barrier;
use std::thread;

use crate::conformance::Harness;
use crate::conformance::random::Random;
use crate::conformance::sample::{HOUR, empty, id, number, record, set, to_number};
use crate::conformance::store::Store;
use crate::{Changes, Error, ExpiryChange, Record, SessionId, Token};

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

/// Runs a closure on this many threads at the same time.
fn crowd(store: &Store<'_>, threads: usize, work: impl Fn(&Store<'_>, usize) + Sync) {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for number in 0..threads {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                let view = store.another();
                start.wait();
                work(if number % 2 == 0 { store } else { &view }, number);
            });
        }
    });
}

/// Whether an operation that raced another found its record; any other error is one too many.
fn passed<T>(result: &Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::Gone | Error::Exists) => false,
        Err(error) => panic!("a race answers {error:?}"),
    }
}

/// No save of one key undoes a save of another.
pub fn racing_saves_of_different_keys_all_survive(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let rounds = harness.rounds().div_ceil(4) as u64;
    let keys = ["a", "b", "new", "newer"];
    crowd(&store, keys.len(), |view, thread| {
        for n in 1..=rounds {
            view.saved(&token, &set(keys[thread], n));
            let found = view.found(&token).expect("the record is there");
            assert_eq!(found.values.get(keys[thread]), Some(&number(n)[..]), "its own save");
        }
    });
    let found = store.found(&token).expect("the record is there");
    for key in keys {
        assert_eq!(found.values.get(key), Some(&number(rounds)[..]), "the key {key:?}");
    }
    assert_eq!(found.values.get("c"), Some(&number(3)[..]), "the key that nobody saved");
}

/// Of many increments by compare-and-save, none is lost and none counts twice.
pub fn racing_increments_lose_none(harness: &dyn Harness) {
    const THREADS: usize = 4;
    let store = Store::open(harness);
    let token = store.stored(&empty(store.now, HOUR));
    let rounds = harness.rounds().div_ceil(THREADS);
    crowd(&store, THREADS, |view, _| {
        for _ in 0..rounds {
            loop {
                let found = view.found(&token).expect("the record is there");
                let old = found.values.get("n");
                let new = old.map_or(0, to_number) + 1;
                match view.save(&token, &set("n", new).expecting("n", old), store.now) {
                    Ok(_) => break,
                    Err(Error::Conflict) => thread::yield_now(),
                    Err(error) => panic!("an increment answers {error:?}"),
                }
            }
        }
    });
    let found = store.found(&token).expect("the record is there");
    assert_eq!(found.values.get("n").map(to_number), Some((THREADS * rounds) as u64));
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

/// After any number of threads did anything to a few sessions, the count is of what can be loaded,
/// and all of it can be destroyed and collected.
pub fn a_crowd_leaves_a_store_that_adds_up(harness: &dyn Harness) {
    let store = Store::open(harness);
    let ids: Vec<SessionId> = (0..8).map(|_| id()).collect();
    crowd(&store, 4, |view, thread| {
        let random = Random::new(thread as u64);
        for _ in 0..harness.rounds() {
            let token = Token::from(*random.pick(&ids));
            let now = store.after(HOUR / 8 * random.below(10) as u32);
            let expires = now.saturating_add(HOUR / 8 * random.below(10) as u32);
            match random.below(8) {
                0 | 1 => {
                    let record = Record { expires, ..record(now) };
                    passed(&view.create(token.id(), &record, now));
                }
                2 => {
                    let changes = set("a", 5).with_expiry(ExpiryChange::Set(expires));
                    passed(&view.save(&token, &changes, now));
                }
                3 => {
                    let new_id = random.pick(&ids);
                    // Nobody renames a session to itself; what happens then is not promised.
                    if new_id != token.id() {
                        passed(&view.rename(&token, new_id, now));
                    }
                }
                4 => {
                    passed(&view.touch(&token, expires, now));
                }
                5 => view.destroy(&token, now).expect("destroying works"),
                6 => {
                    view.purge(now, 2);
                }
                _ => {
                    let mut changes = Changes::new();
                    changes.delete("a");
                    changes.set("b", vec![0xc0; 1]);
                    passed(&view.save(&token, &changes, now));
                }
            }
        }
    });
    let live = ids.iter().filter(|id| store.found(&Token::from(**id)).is_some()).count();
    assert_eq!(store.count(store.now).expect("counting works"), live as u64);
    let token = |id: &SessionId| Token::from(*id);
    for id in &ids {
        store.destroy(&token(id), store.now).expect("destroying works");
        assert_eq!(store.found(&token(id)), None);
    }
    assert_eq!(store.drain(store.after(48 * HOUR), 3), 0, "nothing is left to collect");
    assert_eq!(store.count(store.now).expect("counting works"), 0);
}
