//! Many threads at few sessions, each with a handle of its own where the harness has one.

use std::sync::Barrier;
use std::thread;

use super::races::passed;
use crate::conformance::Harness;
use crate::conformance::random::Random;
use crate::conformance::sample::{HOUR, empty, number, record, set, to_number, until};
use crate::conformance::store::Store;
use crate::provider::{Changes, ExpiryChange, Record, Token};
use crate::{Error, SessionId};

/// Runs a closure on this many threads at the same time.
pub(crate) fn crowd(store: &Store<'_>, threads: usize, work: impl Fn(&Store<'_>, usize) + Sync) {
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

/// No save of one key undoes a save of another.
pub fn racing_saves_of_different_keys_all_survive(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let rounds = harness.rounds() as u64;
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
    let rounds = harness.rounds();
    crowd(&store, THREADS, |view, _| {
        for _ in 0..rounds {
            loop {
                let found = view.found(&token).expect("the record is there");
                let old = found.values.get("n");
                let new = old.map_or(0, to_number) + 1;
                match view.save(&token, &set("n", new).expecting("n", old), store.now) {
                    Ok(_) => break,
                    Err(Error::Conflict) => thread::yield_now(),
                    Err(error) => panic!("an increment returns {error:?}"),
                }
            }
        }
    });
    let found = store.found(&token).expect("the record is there");
    assert_eq!(
        found.values.get("n").map(to_number),
        Some((THREADS * rounds) as u64),
        "increments that were acknowledged"
    );
}

/// After any number of threads did anything to a few sessions, the count is of what can be loaded,
/// and all of it can be destroyed and collected.
pub fn a_crowd_leaves_a_store_that_adds_up(harness: &dyn Harness) {
    let store = Store::open(harness);
    let ids: Vec<SessionId> = (0..8).map(|_| store.new_id()).collect();
    crowd(&store, 4, |view, thread| {
        let random = Random::new(thread as u64);
        for _ in 0..harness.rounds() {
            let token = view.provider().issue(*random.pick(&ids));
            let now = store.after(HOUR / 8 * random.below(10) as u32);
            let expires = now.saturating_add(HOUR / 8 * random.below(10) as u32);
            match random.below(8) {
                0 | 1 => {
                    let record = Record { expires, ..record(now) };
                    passed(&view.create(token.id(), &record, now));
                }
                2 => {
                    let changes = set("a", 5).with_expiry(ExpiryChange::Set(until(expires)));
                    passed(&view.save(&token, &changes, now));
                }
                3 => {
                    // A new secret and back: others go on with the ids that all threads know.
                    if let Ok(renewed) = view.renew(&token, now) {
                        let back = crate::provider::NewSecret {
                            holder: view.holder(&token),
                            token: token.clone(),
                            at: now,
                        };
                        let back = Changes::new().with_secret(back);
                        passed(&view.save(&renewed, &back, now));
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
    let token = |id: &SessionId| -> Token { store.provider().issue(*id) };
    let loaded = |id: &SessionId| store.load(&token(id), store.now).expect("loading works");
    let live = ids.iter().filter(|id| loaded(id).is_some()).count();
    assert_eq!(
        store.count(store.now).expect("counting works"),
        live as u64,
        "sessions counted, and found one by one"
    );
    for id in &ids {
        store.destroy(&token(id), store.now).expect("destroying works");
        assert_eq!(loaded(id), None);
    }
    assert_eq!(store.drain(store.after(48 * HOUR), 3), 0, "nothing is left to collect");
    assert_eq!(
        store.count(store.now).expect("counting works"),
        0,
        "sessions, after all have ended"
    );
}
