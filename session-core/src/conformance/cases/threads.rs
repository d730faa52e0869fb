//! Many threads that use few sessions, each with its own handle if the harness has more than one.

use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread::{self, ScopedJoinHandle};

use super::races::passed;
use crate::conformance::Harness;
use crate::conformance::expect::expect_eq;
use crate::conformance::random::Random;
use crate::conformance::sample::{HOUR, empty, number, record, set, to_number, until};
use crate::conformance::store::Store;
use crate::provider::{Changes, ExpiryChange, Record, Token};
use crate::{Error, SessionId};

/// Runs a closure on this many threads at the same time.
pub(crate) fn crowd(store: &Store<'_>, threads: usize, work: impl Fn(&Store<'_>, usize) + Sync) {
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        let thread = |number| {
            let (start, work) = (&start, &work);
            scope.spawn(move || {
                let view = store.another();
                start.wait();
                work(if number % 2 == 0 { store } else { &view }, number);
            })
        };
        let threads: Vec<_> = (0..threads).map(thread).collect();
        threads.into_iter().for_each(join);
    });
}

/// Waits for a thread. If it panicked, panics with the same message, which the scope's own panic wouldn't have.
pub(crate) fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
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
            expect_eq!(
                found.values.get(keys[thread]),
                Some(&number(n)[..]),
                "the value of {:?}, right after a save of it",
                keys[thread]
            );
        }
    });
    let found = store.found(&token).expect("the record is there");
    for key in keys {
        expect_eq!(
            found.values.get(key),
            Some(&number(rounds)[..]),
            "the value of {key:?}, after all saves"
        );
    }
    expect_eq!(
        found.values.get("c"),
        Some(&number(3)[..]),
        "the value of \"c\", which nobody saved"
    );
}

/// Of many increments by compare-and-save, none is lost and none counts twice. Each comes to an end, because a load
/// finds what the save before it has stored.
pub fn racing_increments_lose_none(harness: &dyn Harness) {
    const THREADS: usize = 4;
    let store = Store::open(harness);
    let token = store.stored(&empty(store.now, HOUR));
    let rounds = harness.rounds();
    // A conflict means that another thread has incremented between the load and the save.
    let most = 10 * THREADS * rounds;
    crowd(&store, THREADS, |view, _| {
        let mut conflicts = 0;
        for _ in 0..rounds {
            loop {
                let found = view.found(&token).expect("the record is there");
                let old = found.values.get("n");
                let new = old.map_or(0, to_number) + 1;
                match view.save(&token, &set("n", new).expecting("n", old), store.now) {
                    Ok(_) => break,
                    Err(Error::Conflict) => {
                        conflicts += 1;
                        assert!(
                            conflicts < most,
                            "{conflicts} increments were a Conflict, and other threads make {} in all: the \
                             save does not find the value that the load returned, {old:?}. Does a load \
                             return a stale record?",
                            (THREADS - 1) * rounds
                        );
                        thread::yield_now();
                    }
                    Err(error) => panic!("an increment returns {error:?}"),
                }
            }
        }
    });
    let found = store.found(&token).expect("the record is there");
    expect_eq!(
        found.values.get("n").map(to_number),
        Some((THREADS * rounds) as u64),
        "the number, after that many increments were acknowledged"
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
    expect_eq!(
        store.count(store.now).expect("counting works"),
        live as u64,
        "sessions counted, where as many are found one by one"
    );
    for id in &ids {
        store.destroy(&token(id), store.now).expect("destroying works");
        expect_eq!(loaded(id), None, "a session that was destroyed");
    }
    expect_eq!(
        store.drain(store.after(48 * HOUR), 3),
        0,
        "records left to collect, after all sessions were destroyed"
    );
    expect_eq!(
        store.count(store.now).expect("counting works"),
        0,
        "sessions counted, after all were destroyed"
    );
}
