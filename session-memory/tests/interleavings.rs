//! The provider's locks and counters under shuttle, a scheduler that tries different schedules.
//!
//! ```text
//! RUSTFLAGS="--cfg shuttle" cargo test -p session-memory --test interleavings --target-dir target/shuttle
//! ```
//!
//! The provider has two shards here, and uses shuttle's locks and atomics. A deadlock fails the test,
//! and so does a schedule in which one operation sees another one half done.
#![cfg(shuttle)]

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use session_core::provider::{
    Changes, ExpiryChange, Login, NewSecret, Page, Provider, Record, Token, Touch, Values, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

/// Runs a test in random schedules, and in schedules that find bugs of few steps with high probability
/// (PCT).
fn explore(test: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(test.clone(), 3_000);
    shuttle::check_pct(test, 3_000, 3);
}

fn provider(max_sessions: usize) -> Arc<MemoryProvider> {
    let source = format!("max_sessions={max_sessions}");
    Arc::new(MemoryProvider::new(MemoryConfig::parse(&source).expect("a right source")))
}

/// Returns the id of a session with this secret. Even and odd sessions are in different shards.
fn id_with(session: u8, secret: u8) -> SessionId {
    let mut bytes = [0; 32];
    (bytes[0], bytes[31]) = (session, secret);
    SessionId::from_bytes(bytes)
}

fn id(n: u8) -> SessionId {
    id_with(n, 0)
}

fn token(n: u8) -> Token {
    Token::from(id(n))
}

fn holder(id: SessionId) -> Verifier {
    Verifier::plain(&id, "")
}

fn record(n: u8, lives: Duration) -> Record {
    let mut record = Record::new(holder(id(n)), NOW, NOW.saturating_add(lives));
    record.values = [("a", [1]), ("b", [1])].into_iter().collect();
    record
}

fn until(expires: Timestamp) -> Touch {
    Touch { used: NOW, expires }
}

fn create(provider: &MemoryProvider, n: u8, lives: Duration) {
    block_on(provider.create(&id(n), record(n, lives), NOW)).expect("there is room");
}

/// Saves as the holder of a session's first secret.
fn save(provider: &MemoryProvider, n: u8, changes: &Changes, now: Timestamp) -> bool {
    passed(block_on(provider.save(&token(n), &holder(id(n)), changes, now)))
}

fn destroy(provider: &MemoryProvider, n: u8) {
    block_on(provider.destroy(&id(n).key(), Timestamp::MAX, NOW)).expect("destroying works");
}

fn found(provider: &MemoryProvider, n: u8) -> Option<Record> {
    block_on(provider.load(&token(n), NOW)).expect("loading works")
}

fn set(key: &str, value: u8) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, [value]);
    changes
}

/// Returns the changes of a login of this owner, with this new secret for the session.
fn login(session: u8, secret: u8, owner: &str) -> Changes {
    let id = id_with(session, secret);
    let new = NewSecret { token: id.into(), holder: holder(id), at: NOW };
    Changes::new().with_login(Some(login_of(owner))).with_secret(new)
}

/// Returns a login whose label is the owner.
fn login_of(owner: &str) -> Box<Login> {
    Box::new(Login { owner: owner.into(), at: NOW, label: owner.into() })
}

fn owned(n: u8, owner: &str, lives: Duration) -> Record {
    Record { login: Some(login_of(owner)), ..record(n, lives) }
}

/// Returns the keys in an owner's list, read by pages of this limit. Checks that it has no other owner's
/// sessions.
fn listed(provider: &MemoryProvider, owner: &str, limit: usize, now: Timestamp) -> Vec<SessionKey> {
    let mut keys = Vec::new();
    let mut page = Page { after: None, limit };
    loop {
        let listed = block_on(provider.list(owner, page, now)).expect("listing works");
        for summary in listed.sessions {
            assert_eq!(*summary.label, *owner);
            assert!(keys.last() < Some(&summary.key), "once, in order");
            keys.push(summary.key);
        }
        page.after = listed.next;
        if page.after.is_none() {
            return keys;
        }
    }
}

fn keys(ids: impl IntoIterator<Item = u8>) -> Vec<SessionKey> {
    ids.into_iter().map(|n| id(n).key()).collect()
}

/// Runs `work` for each item concurrently. Returns the results in the items' order.
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

/// Returns whether an operation found its session.
fn passed<T>(result: Result<T, Error>) -> bool {
    match result {
        Ok(_) => true,
        Err(Error::Gone | Error::Exists | Error::Conflict | Error::Full { .. }) => false,
        Err(error) => panic!("{error:?}"),
    }
}

/// Returns the number of stored sessions that `Debug` shows, which unlike a count is exact at one
/// moment.
fn held(provider: &MemoryProvider) -> usize {
    let shown = format!("{provider:?}");
    let (_, number) = shown.split_once(" sessions: ").expect("the number is shown");
    let (number, _) = number.split_once(',').expect("and the bytes after it");
    number.parse().expect("it is a number")
}

/// Checks that the numbers of stored, counted and listed sessions agree, until all are removed.
fn adds_up(provider: &MemoryProvider, ids: std::ops::Range<u8>) {
    for owner in ["ada", "grace"] {
        let owns = |n: &u8| found(provider, *n).is_some_and(|r| r.owner() == Some(owner));
        assert_eq!(listed(provider, owner, 2, NOW), keys(ids.clone().filter(owns)), "{owner}");
    }
    let live = ids.clone().filter(|n| found(provider, *n).is_some()).count();
    assert_eq!(block_on(provider.count(NOW)).expect("counting works"), live as u64);
    for n in ids {
        destroy(provider, n);
    }
    while provider.purge(Timestamp::MAX, 10).expect("purging works").more {}
    let shown = format!("{provider:?}");
    assert!(shown.contains("sessions: 0, bytes: 0"), "{shown}");
    assert_eq!(provider.indexed_sessions(), 0);
}

#[test]
fn saves_merge_and_increments_count() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        together(&provider, ["a", "b", "new"], |provider, key| {
            assert!(save(provider, 0, &set(key, 7), NOW));
            loop {
                let values = found(provider, 0).expect("it is live").values;
                let old = values.get("n");
                let new = set("n", old.map_or(0, |bytes| bytes[0]) + 1).expecting("n", old);
                if save(provider, 0, &new, NOW) {
                    break;
                }
            }
        });
        let values = found(&provider, 0).expect("it is live").values;
        let wanted: Values =
            [("a", [7]), ("b", [7]), ("n", [3]), ("new", [7])].into_iter().collect();
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
            let record = owned(0, owner, HOUR);
            let later = NOW.saturating_add(Duration::from_secs(2));
            passed(block_on(provider.create(&id(0), record, later)))
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1);
        let stored = found(&provider, 0).expect("it is live");
        assert_eq!(stored.owner(), Some(if won[0] { "ada" } else { "grace" }));
        adds_up(&provider, 0..1);
    });
}

/// Two logins concurrently with a change under the old id, which is applied before both or refused.
#[test]
fn racing_logins_have_one_winner_and_the_old_id_saves_nothing_after_it() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        let outcomes = together(&provider, ["ada", "grace", ""], |provider, owner| match owner {
            "" => (save(provider, 0, &set("a", 9), NOW), found(provider, 0)),
            _ => {
                let secret = owner.as_bytes()[0];
                let mut changes = login(0, secret, owner);
                changes.set(owner, [1]);
                let won = save(provider, 0, &changes, NOW);
                let seen = found(provider, 0);
                // Again, as after a lost reply.
                assert_eq!(save(provider, 0, &changes, NOW), won);
                (won, seen)
            }
        });
        assert_ne!(outcomes[0].0, outcomes[1].0, "one login wins");
        let winner = if outcomes[0].0 { "ada" } else { "grace" };
        let stored = found(&provider, 0).expect("it is live");
        assert!(stored.holder == holder(id_with(0, winner.as_bytes()[0])));
        for (_, seen) in outcomes.iter().chain([&(true, Some(stored.clone()))]) {
            // The new secret is never there without the login and its value, nor the other way round.
            let seen = seen.as_ref().expect("it is live");
            let is_new = seen.holder == stored.holder;
            assert_eq!(seen.owner(), is_new.then_some(winner));
            for owner in ["ada", "grace"] {
                assert_eq!(seen.values.get(owner).is_some(), is_new && owner == winner);
            }
        }
        let a = if outcomes[2].0 { 9 } else { 1 };
        assert_eq!(stored.values.get("a"), Some(&[a][..]));
        assert!(!save(&provider, 0, &set("a", 3), NOW), "the old id is refused from now on");
        adds_up(&provider, 0..1);
    });
}

/// If a session gets a new id while its logout runs, the logout ends it.
#[test]
fn a_logout_ends_the_session_whatever_its_secret_is_by_then() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        together(&provider, ["login", "logout", "logout"], |provider, what| match what {
            "login" => drop(save(provider, 0, &login(0, 1, "ada"), NOW)),
            _ => destroy(provider, 0),
        });
        assert_eq!(found(&provider, 0), None);
        adds_up(&provider, 0..1);
    });
}

#[test]
fn a_touch_beside_a_save_loses_neither() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        let later = NOW.saturating_add(2 * HOUR);
        together(&provider, ["touch", "save"], move |provider, what| {
            let touch = Touch { used: NOW.saturating_add(HOUR / 2), expires: later };
            match what {
                "touch" => passed(block_on(provider.touch(&token(0), touch, NOW))),
                _ => save(provider, 0, &set("a", 5), NOW),
            };
        });
        let stored = found(&provider, 0).expect("it is live");
        assert_eq!((stored.used, stored.expires), (NOW.saturating_add(HOUR / 2), later));
        assert_eq!(stored.values.get("a"), Some(&[5][..]));
        adds_up(&provider, 0..1);
    });
}

#[test]
fn nothing_brings_back_what_is_destroyed() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        together(&provider, ["save", "touch", "destroy"], |provider, what| {
            let later = NOW.saturating_add(2 * HOUR);
            let changes = set("c", 1).with_expiry(ExpiryChange::Extend(until(later)));
            match what {
                "save" => drop(save(provider, 0, &changes, NOW)),
                "touch" => drop(passed(block_on(provider.touch(&token(0), until(later), NOW)))),
                _ => destroy(provider, 0),
            }
        });
        assert_eq!(found(&provider, 0), None);
        adds_up(&provider, 0..1);
    });
}

/// A collection with a fast clock, concurrently with a save and with a creation under an expired id.
#[test]
fn collection_takes_only_what_is_dead() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        create(&provider, 1, HOUR);
        let outcomes = together(&provider, ["collect", "save", "create"], |provider, what| {
            let ahead = NOW.saturating_add(2 * HOUR);
            let expires = ahead.saturating_add(HOUR);
            let changes = set("a", 5).with_expiry(ExpiryChange::Extend(until(expires)));
            let new = Record { expires, ..record(1, HOUR) };
            match what {
                "collect" => passed(provider.purge(ahead, 1)),
                "save" => save(provider, 0, &changes, NOW),
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

/// However many sessions are created at once, the limit is never exceeded, and expired ones make room.
#[test]
fn the_limit_holds_at_every_moment() {
    explore(|| {
        let provider = provider(2);
        create(&provider, 9, Duration::from_millis(1));
        let stored = together(&provider, 0..3, |provider, n| {
            let later = NOW.saturating_add(Duration::from_secs(2));
            let record = owned(n, "ada", HOUR);
            let stored = passed(block_on(provider.create(&id(n), record, later)));
            assert!(held(provider) <= 2);
            stored
        });
        let stored = stored.into_iter().filter(|stored| *stored).count();
        assert!((1..=2).contains(&stored), "{stored} of 2 are stored");
        adds_up(&provider, 0..3);
    });
}

/// New sessions concurrently with a client that comes back: its session is never evicted, and the limit
/// holds.
#[test]
fn what_came_back_never_gives_way() {
    explore(|| {
        let provider = provider(2);
        create(&provider, 0, HOUR);
        create(&provider, 1, HOUR);
        let seen = together(&provider, 1..4, |provider, n| match n {
            1 => found(provider, 1).is_some(),
            _ => {
                let stored = passed(block_on(provider.create(&id(n), record(n, HOUR), NOW)));
                assert!(held(provider) <= 2);
                stored
            }
        });
        assert!(!seen[0] || found(&provider, 1).is_some(), "it came back, and was lost");
        assert!(seen[1] || seen[2], "one of two finds a session that gives way");
        adds_up(&provider, 0..4);
    });
}

/// A list is read page by page while sessions get new ids, log in again or as another owner, end and are
/// collected.
#[test]
fn a_list_beside_changes_has_each_living_session_once() {
    explore(|| {
        let provider = provider(10);
        for n in 0..6 {
            let lives = if n == 4 { Duration::from_millis(1) } else { HOUR };
            let record = owned(n, if n == 5 { "grace" } else { "ada" }, lives);
            block_on(provider.create(&id(n), record, NOW)).expect("there is room");
        }
        let later = NOW.saturating_add(Duration::from_secs(2));
        together(
            &provider,
            ["adas", "graces", "again", "others"],
            move |provider, what| match what {
                "adas" => {
                    let list = listed(provider, "ada", 1, later);
                    assert!(keys([0, 1]).iter().all(|key| list.contains(key)), "{list:?}");
                    assert!(!list.contains(&id(4).key()), "it has expired");
                }
                "graces" => drop(listed(provider, "grace", 2, later)),
                "again" => {
                    assert!(save(provider, 0, &login(0, 1, "ada"), NOW));
                    assert!(save(provider, 2, &login(2, 1, "grace"), NOW));
                }
                _ => {
                    destroy(provider, 3);
                    assert!(save(provider, 5, &login(5, 1, "ada"), NOW));
                    passed(provider.purge(later, 10));
                }
            },
        );
        assert_eq!(listed(&provider, "ada", 2, later), keys([0, 1, 5]));
        assert_eq!(listed(&provider, "grace", 2, later), keys([2]));
        adds_up(&provider, 0..6);
    });
}

/// Logins as two owners concurrently with an end: the session is in its owner's list, or in none.
#[test]
fn racing_logins_leave_the_session_in_one_list() {
    explore(|| {
        let provider = provider(10);
        create(&provider, 0, HOUR);
        create(&provider, 1, HOUR);
        together(&provider, ["ada", "grace", "end"], |provider, owner| match owner {
            "end" => destroy(provider, 1),
            _ => {
                let secret = owner.as_bytes()[0];
                for n in 0..2 {
                    save(provider, n, &login(n, secret, owner), NOW);
                    listed(provider, owner, 2, NOW);
                }
            }
        });
        let owner = found(&provider, 0).expect("it is live").login.expect("one login wins").owner;
        assert_eq!(listed(&provider, &owner, 2, NOW), keys([0]));
        assert_eq!(provider.indexed_sessions(), 1);
        adds_up(&provider, 0..2);
    });
}

/// In a full store, one session is evicted for another one while somebody logs in to it.
#[test]
fn what_gives_way_is_in_no_list() {
    explore(|| {
        let provider = provider(2);
        create(&provider, 0, HOUR);
        create(&provider, 1, HOUR);
        let done = together(&provider, 0..3, |provider, n| match n {
            0 => save(provider, 0, &login(0, 1, "ada"), NOW),
            1 => listed(provider, "ada", 1, NOW).len() <= 1,
            _ => {
                let record = owned(n, "grace", HOUR);
                passed(block_on(provider.create(&id(n), record, NOW)))
            }
        });
        assert!(done[1] && done[2], "the other one gives way");
        let is_in = done[0];
        assert_eq!(listed(&provider, "ada", 2, NOW), keys([0].into_iter().filter(|_| is_in)));
        assert_eq!(listed(&provider, "grace", 2, NOW), keys([2]));
        adds_up(&provider, 0..3);
    });
}

/// Any operations by several threads.
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
    let (n, secret) = (random.gen_range(0..4), random.gen_range(0..3));
    let now = NOW.saturating_add(HOUR / 2 * random.gen_range(0..4));
    let expires = now.saturating_add(HOUR / 2 * random.gen_range(0..4));
    let held = holder(id_with(n, random.gen_range(0..3)));
    let owner = ["ada", "grace"][random.gen_range(0..2)];
    match random.gen_range(0..9) {
        0 | 1 => {
            let login = Some(login_of(owner)).filter(|_| secret == 0);
            let record = Record { expires, login, ..record(n, HOUR) };
            passed(block_on(provider.create(&id(n), record, now)));
        }
        2 => {
            let changes = set("a longer key", 1).with_expiry(ExpiryChange::Set(until(expires)));
            passed(block_on(provider.save(&token(n), &held, &changes, now)));
        }
        3 => {
            let changes = login(n, secret, owner).replacing();
            passed(block_on(provider.save(&token(n), &held, &changes, now)));
        }
        4 => {
            passed(block_on(provider.touch(&token(n), until(expires), now)));
        }
        5 => destroy(provider, n),
        6 => drop(listed(provider, owner, 1, now)),
        7 => {
            provider.purge(now, 2).expect("purging works");
        }
        _ => {
            block_on(provider.count(now)).expect("counting works");
        }
    }
}
