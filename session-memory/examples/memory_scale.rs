//! Measures the memory of a million sessions, the time of a new session that evicts another one, and how
//! long a purge of ten million sessions holds a lock.
//!
//!     cargo run --release -p session-memory --example memory_scale
//!
//! Sessions have a 12-byte name and a counter. With owners, each owner has two sessions, and owner and
//! label have 12 bytes each. Bytes are given twice: as requested from the allocator, and on Linux as the
//! growth of the process's resident memory, which includes the allocator's overhead. The peer is
//! tower-sessions' MemoryStore with the same two values.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use session_core::provider::{Changes, Login, Page, Provider as _, Record, Token, Verifier};
use session_core::{Limits, SessionId, Timestamp, value};
use session_memory::{MemoryConfig, MemoryProvider};
use tower_sessions::SessionStore as _;
use tower_sessions::session::{Id, Record as PeerRecord};

const MILLION: usize = 1_000_000;

fn main() {
    let few = std::env::args().any(|argument| argument == "--short");
    let (sessions, purged) = if few { (MILLION / 10, MILLION) } else { (MILLION, 10 * MILLION) };
    ours(sessions, false);
    ours(sessions, true);
    peer(sessions);
    flood(sessions);
    purge(purged);
}

fn ours(sessions: usize, are_owned: bool) {
    let now = Timestamp::from_millis(1_000_000_000_000);
    let store = provider();
    let name = if are_owned { "session-memory, with owners" } else { "session-memory" };
    report(name, sessions, || {
        for n in 0..sessions {
            // The sessions are created over half an hour.
            let expires =
                now.saturating_add(Duration::from_millis(1_800_000 * n as u64 / sessions as u64));
            // Each owner has two sessions.
            let login = are_owned.then(|| login(&format!("user-{:07}", n / 2), now));
            create(&store, now, expires, login);
        }
    });
    if are_owned {
        let owner = format!("user-{:07}", sessions / 4);
        let began = Instant::now();
        for _ in 0..1000 {
            let page = Page { after: None, limit: 10 };
            let listed = block_on(store.list(&owner, page, now)).expect("memory answers");
            assert_eq!(listed.sessions.len(), 2);
        }
        println!("listing an owner's two sessions among them: {:?}", began.elapsed() / 1000);
    }
    drop(store);
}

fn peer(sessions: usize) {
    let store = tower_sessions::MemoryStore::default();
    report("tower-sessions MemoryStore", sessions, || {
        for _ in 0..sessions {
            let mut record = PeerRecord {
                id: Id::default(),
                data: Default::default(),
                expiry_date: (std::time::SystemTime::now() + Duration::from_secs(1800)).into(),
            };
            record.data.insert("name".into(), "ada lovelace".into());
            record.data.insert("count".into(), 1.into());
            block_on(store.create(&mut record)).expect("stores");
        }
    });
    drop(store);
}

/// Measures new sessions in a store with room, and then in the full store, where each one evicts
/// another.
fn flood(sessions: usize) {
    let now = Timestamp::from_millis(1_000_000_000_000);
    let config = MemoryConfig::parse(&format!("max_sessions={sessions}"));
    let store = MemoryProvider::new(config.expect("is a source"));
    for what in ["with room", "in the full store"] {
        let began = Instant::now();
        for n in 0..sessions {
            let now = now.saturating_add(Duration::from_micros(n as u64));
            create(&store, now, now.saturating_add(Duration::from_secs(1800)), None);
        }
        println!("a new session {what}: {:?}", began.elapsed() / sessions as u32);
    }
}

/// Fills a store and prints the memory for each session.
fn report(name: &str, sessions: usize, fill: impl FnOnce()) {
    let resident = resident_bytes();
    let asked = allocation_counter::measure(fill).bytes_current;
    let resident = resident.zip(resident_bytes()).map(|(before, after)| after - before);
    let each = |bytes: i64| bytes as f64 / sessions as f64;
    print!("{name}: {sessions} sessions, {:.0} bytes each asked of the allocator", each(asked));
    match resident {
        Some(resident) => println!(", {:.0} resident", each(resident)),
        None => println!("; what is resident is told on Linux only"),
    }
}

/// Purges slice by slice while another thread measures its own operations, which wait while a lock is
/// held.
fn purge(sessions: usize) {
    let start = Timestamp::from_millis(1_000_000_000_000);
    let later = start.saturating_add(Duration::from_secs(3600));
    let store = provider();
    println!("filling {sessions} sessions, of which half expire");
    let mut live = Vec::new();
    for n in 0..sessions {
        let expires =
            if n % 2 == 0 { start.saturating_add(Duration::from_secs(60)) } else { Timestamp::MAX };
        let id = create(&store, start, expires, None);
        if n % 2 == 1 && live.len() < 1000 {
            live.push(Token::from(id));
        }
    }
    let done = AtomicBool::new(false);
    let (mut waits, purging, removed) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut waits = Vec::with_capacity(1 << 24);
            for token in live.iter().cycle() {
                if done.load(Ordering::Relaxed) || waits.len() == waits.capacity() {
                    break;
                }
                let began = Instant::now();
                let found = block_on(store.load(token, later)).expect("memory answers");
                waits.push(began.elapsed());
                assert!(found.is_some(), "a live session was collected");
            }
            waits
        });
        let began = Instant::now();
        let mut removed = 0;
        loop {
            let slice = store.purge(later, 1000).expect("memory answers");
            removed += slice.removed;
            if !slice.more {
                break;
            }
        }
        let purging = began.elapsed();
        done.store(true, Ordering::Relaxed);
        (reader.join().expect("reads"), purging, removed)
    });
    waits.sort_unstable();
    let at = |share: f64| waits[((waits.len() - 1) as f64 * share) as usize];
    println!("purged {removed} of {sessions} in {purging:?}");
    println!(
        "{} loads meanwhile waited, all included: median {:?}, p99.9 {:?}, p99.999 {:?}, longest {:?}",
        waits.len(),
        at(0.5),
        at(0.999),
        at(0.99999),
        at(1.0)
    );
    println!("longest hold of a lock while purging: {:?}", store.longest_purge_hold());
    println!(
        "longest interruption of two busy threads without a lock, in {WATCHED:?}: {:?}",
        longest_interruption()
    );
}

/// How long two busy threads are observed.
const WATCHED: Duration = Duration::from_secs(2);

/// Returns the longest time that the machine keeps one of two busy threads from running. Such an
/// interruption may be part of the longest hold and the longest wait.
fn longest_interruption() -> Duration {
    let watch = || {
        let began = Instant::now();
        let (mut last, mut longest) = (began, Duration::ZERO);
        while last - began < WATCHED {
            let now = Instant::now();
            longest = longest.max(now - last);
            last = now;
        }
        longest
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(watch);
        watch().max(other.join().expect("watches"))
    })
}

fn provider() -> MemoryProvider {
    let config = MemoryConfig::parse("max_sessions=20000000&max_bytes=20000000000");
    MemoryProvider::new(config.expect("is a source"))
}

/// Returns a login with a label as long as the owner, 12 bytes.
fn login(owner: &str, at: Timestamp) -> Box<Login> {
    Box::new(Login { owner: owner.into(), at, label: "Chrome on CI".into() })
}

fn create(
    store: &MemoryProvider,
    now: Timestamp,
    expires: Timestamp,
    login: Option<Box<Login>>,
) -> SessionId {
    let id = SessionId::generate().expect("generates");
    let limits = Limits::default();
    let mut changes = Changes::new();
    changes.set("name", value::encode("name", "ada lovelace", &limits).expect("encodes"));
    changes.set("count", value::encode("count", &1u64, &limits).expect("encodes"));
    let mut record = Record::new(Verifier::plain(&id, ""), now, expires);
    record.values.apply(&changes, &limits).expect("fits");
    record.login = login;
    block_on(store.create(&id, record, now)).expect("stores");
    id
}

/// Returns the resident memory of this process (proc_pid_statm(5)), if the system has that file.
fn resident_bytes() -> Option<i64> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = pages.split(' ').nth(1).expect("has two numbers").parse().expect("is one");
    Some(pages * 4096)
}
