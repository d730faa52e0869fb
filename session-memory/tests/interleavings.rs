//! The provider's locks and counters under a scheduler that tries orders of steps.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test -p session-memory --test interleavings --target-dir target/shuttle
//! ```
//!
//! The provider has two shards here, and its locks and atomics are the scheduler's own: a deadlock,
//! or an order in which two operations see each other half done, fails the test.
#![cfg(shuttle)]

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use session_core::{
    Changes, Error, ExpiryChange, Provider, Record, SessionId, Timestamp, Token, Values,
};
use session_memory::{MemoryConfig, MemoryProvider};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs a test in orders chosen at random, and in orders that a bug of few steps has little chance
/// to survive (PCT).
fn explore(test: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(test.clone(), 3_000);
    shuttle::check_pct(test, 3_000, 3);
}

fn provider(max_sessions: usize) -> Arc<MemoryProvider> {
    let source = format!("max_sessions={max_sessions}");
    Arc::new(MemoryProvider::new(MemoryConfig::parse(&source).expect("a right source")))
}

/// Even and odd ones live in different shards.
fn id(n: u8) -> SessionId {
    let mut bytes = [0; 32];
    bytes[0] = n;
    SessionId::from_bytes(bytes)
}

fn token(n: u8) -> Token {
    Token::from(id(n))
}

fn record(lives: Duration) -> Record {
    let values: Values = [("a", [1]), ("b", [1])].into_iter().collect();
    Record { created: NOW, expires: NOW.saturating_add(lives), owner: None, values }
}

fn create(provider: &MemoryProvider, n: u8, lives: Duration) {
    block_on(provider.create(&id(n), record(lives), NOW)).expect("there is room");
}

fn found(provider: &MemoryProvider, n: u8) -> Option<Record> {
    block_on(provider.load(&token(n), NOW)).expect("loading works")
}

fn set(key: &str, value: u8) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, [value]);
    changes
}

/// Runs some work for each item at the same time; answers the outcomes in the items' order.
fn together<T: Send + 'static, R: Send + 'static>(
    provider: &Arc<MemoryProvider>,
    items: impl IntoIterator<Item = T>,
    work: impl Fn(&MemoryProvider, T) -> R + Copy + Send + 'static,
) -> Vec<R> {
    let spawn = |item| {
        let provider = Arc::clone(provider);
        thread::spawn(move || work(&provider, item))
    };
    let threads: Vec<_> = items.into_iter().map(spawn).collect();
    threads.into_iter().map(|thread| thread.join().expect("no thread panics")).collect()
}

/// Whether an operation found what it needs.
fn passed<T>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::Gone | Error::Exists | Error::Conflict | Error::Full { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// How many sessions are held, as `Debug` shows; unlike a count, at one moment.
fn held(provider: &MemoryProvider) -> usize {
    let shown = format!("{provider:?}");
    let (_, number) = shown.split_once(" sessions: ").expect("the number is shown");
    let (number, _) = number.split_once(',').expect("and the bytes after it");
    number.parse().expect("it is a number")
}

/// Checks that what is held is what is counted, down to nothing.
fn adds_up(provider: &MemoryProvider, ids: std::ops::Range<u8>) {
    let live = ids.clone().filter(|n| found(provider, *n).is_some()).count();
    assert_eq!(block_on(provider.count(NOW)).expect("counting works"), live as u64);
    for n in ids {
        block_on(provider.destroy(&token(n), NOW)).expect("destroying works");
    }
    while provider.purge(Timestamp::MAX, 10).expect("purging works").more {}
    let shown = format!("{provider:?}");
    assert!(shown.contains("sessions: 0, bytes: 0"), "{shown}");
}

#[test]
fn saves_merge_and_increments_count() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        together(&provider, ["a", "b", "new"], |provider, key| {
            block_on(provider.save(&token(0), &set(key, 7), NOW)).expect("it is live");
            loop {
                let values = found(provider, 0).expect("it is live").values;
                let old = values.get("n");
                let new = set("n", old.map_or(0, |bytes| bytes[0]) + 1).expecting("n", old);
                if passed(block_on(provider.save(&token(0), &new, NOW))) {
                    break;
                }
            }
        });
        let values = found(&provider, 0).expect("it is live").values;
        let wanted = [("a", [7]), ("b", [7]), ("n", [3]), ("new", [7])].into_iter().collect();
        assert_eq!(values, wanted);
        adds_up(&provider, 0..1);
    });
}

#[test]
fn racing_creates_have_one_winner() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, Duration::from_millis(1));
        let won = together(&provider, ["ada", "grace"], |provider, owner| {
            let record = Record { owner: Some(owner.into()), ..record(HOUR) };
            let later = NOW.saturating_add(Duration::from_secs(2));
            passed(block_on(provider.create(&id(0), record, later)))
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let owner = found(&provider, 0).expect("it is live").owner;
        assert_eq!(owner.as_deref(), Some(if won[0] { "ada" } else { "grace" }));
        adds_up(&provider, 0..1);
    });
}

#[test]
fn racing_renames_have_one_winner() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        let won = together(&provider, [1, 2], |provider, new| {
            passed(block_on(provider.rename(&token(0), &id(new), NOW)))
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let live = [0, 1, 2].map(|n| found(&provider, n).is_some());
        assert_eq!(live, [false, won[0], won[1]]);
        adds_up(&provider, 0..3);
    });
}

/// Renames that lock the same two shards from both ends.
#[test]
fn crossing_renames_end() {
    explore(|| {
        let provider = provider(10);
        for n in 0..3 {
            create(&provider, n, HOUR);
        }
        together(&provider, [[0, 3, 1], [1, 0, 3], [2, 1, 0]], |provider, path| {
            for step in path.windows(2) {
                passed(block_on(provider.rename(&token(step[0]), &id(step[1]), NOW)));
            }
        });
        assert_eq!(block_on(provider.count(NOW)).expect("counting works"), 3);
        adds_up(&provider, 0..4);
    });
}

#[test]
fn nothing_brings_back_what_is_destroyed() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        together(&provider, ["save", "touch", "destroy"], |provider, what| {
            let later = NOW.saturating_add(2 * HOUR);
            let changes = set("c", 1).with_expiry(ExpiryChange::Extend(later));
            match what {
                "save" => passed(block_on(provider.save(&token(0), &changes, NOW))),
                "touch" => passed(block_on(provider.touch(&token(0), later, NOW))),
                _ => passed(block_on(provider.destroy(&token(0), NOW))),
            }
        });
        assert_eq!(found(&provider, 0), None);
        adds_up(&provider, 0..1);
    });
}

/// A collector whose clock is ahead, beside a save and a creation under an expired id.
#[test]
fn collection_takes_only_what_is_dead() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        create(&provider, 1, HOUR);
        let outcomes = together(&provider, ["collect", "save", "create"], |provider, what| {
            let ahead = NOW.saturating_add(2 * HOUR);
            let expires = ahead.saturating_add(HOUR);
            let changes = set("a", 5).with_expiry(ExpiryChange::Extend(expires));
            let new = Record { expires, ..record(HOUR) };
            match what {
                "collect" => passed(provider.purge(ahead, 1)),
                "save" => passed(block_on(provider.save(&token(0), &changes, NOW))),
                _ => passed(block_on(provider.create(&id(1), new, ahead))),
            }
        });
        assert_eq!(
            found(&provider, 0).is_some_and(|r| r.values.get("a") == Some(&[5])),
            outcomes[1]
        );
        assert!(
            outcomes[2]
                && found(&provider, 1).is_some_and(|r| r.expires > NOW.saturating_add(HOUR))
        );
        adds_up(&provider, 0..2);
    });
}

/// However many come at once, no more are held than may be; and what expired makes room.
#[test]
fn the_limit_holds_at_every_moment() {
    explore(|| {
        let provider = provider(2);
        create(&provider, 9, Duration::from_millis(1));
        let stored = together(&provider, 0..3, |provider, n| {
            let later = NOW.saturating_add(Duration::from_secs(2));
            let stored = passed(block_on(provider.create(&id(n), record(HOUR), later)));
            assert!(held(provider) <= 2);
            stored
        });
        let stored = stored.into_iter().filter(|stored| *stored).count();
        assert!((1..=2).contains(&stored), "{stored} of 2 are stored");
        adds_up(&provider, 0..3);
    });
}

/// Anything by anyone.
#[test]
fn a_crowd_leaves_a_store_that_adds_up() {
    explore(|| {
        let provider = provider(3);
        together(&provider, 0..3, |provider, _| (0..4).for_each(|_| any(provider)));
        adds_up(&provider, 0..4);
    });
}

fn any(provider: &MemoryProvider) {
    let mut random = thread_rng();
    let (n, other) = (random.gen_range(0..4), random.gen_range(0..4));
    let now = NOW.saturating_add(HOUR / 2 * random.gen_range(0..4));
    let expires = now.saturating_add(HOUR / 2 * random.gen_range(0..4));
    match random.gen_range(0..8) {
        0 | 1 => {
            let record = Record { expires, ..record(HOUR) };
            passed(block_on(provider.create(&id(n), record, now)));
        }
        2 => {
            let changes = set("a longer key", 1).with_expiry(ExpiryChange::Set(expires));
            passed(block_on(provider.save(&token(n), &changes, now)));
        }
        3 => {
            passed(block_on(provider.rename(&token(n), &id(other), now)));
        }
        4 => {
            passed(block_on(provider.touch(&token(n), expires, now)));
        }
        5 => block_on(provider.destroy(&token(n), now)).expect("destroying works"),
        6 => {
            provider.purge(now, 2).expect("purging works");
        }
        _ => {
            block_on(provider.count(now)).expect("counting works");
        }
    }
}
