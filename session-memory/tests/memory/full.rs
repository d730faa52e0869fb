//! Eviction from a full store: sessions whose clients never came back are evicted, the oldest first. A
//! session that was used again or has an owner is never evicted.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use futures_lite::future::block_on;
use session_core::Error;
use session_core::Timestamp;
use session_core::provider::{Login, Provider as _, Record, Token};
use session_memory::MemoryProvider;
use std::time::Duration;

use crate::limits::*;

/// Stores a session in this second, for a day, whose client may come back.
fn stored(provider: &MemoryProvider, second: u64, login: Option<Box<Login>>) -> Token {
    let now = at(second);
    let record = Record { created: now, login, ..record(24 * HOUR, 10) };
    create(provider, &record, now).expect("others give way")
}

fn at(second: u64) -> Timestamp {
    NOW.saturating_add(Duration::from_secs(second))
}

fn is_there(provider: &MemoryProvider, token: &Token) -> bool {
    load(provider, token, at(1000)).is_some()
}

fn came_back(provider: &MemoryProvider, token: &Token) {
    assert!(is_there(provider, token));
}

fn full<T: std::fmt::Debug>(result: &Result<T, Error>) {
    assert!(matches!(result, Err(Error::Full { .. })), "{result:?}");
}

#[test]
fn sessions_whose_clients_never_came_back_give_way_oldest_first() {
    let provider = provider("max_sessions=100");
    let old: Vec<Token> = (0..100).map(|second| stored(&provider, second, None)).collect();
    for n in 0..60 {
        stored(&provider, 200 + n, None);
        assert_eq!(held(&provider).0, 100, "one gives way for each");
    }
    // Loading a session counts as coming back, so they are loaded only once, at the end.
    for (n, token) in old.iter().enumerate() {
        assert_eq!(is_there(&provider, token), n >= 60, "session {n}");
    }
}

#[test]
fn what_was_used_again_or_has_an_owner_never_gives_way() {
    let provider = provider("max_sessions=100");
    let mut kept = Vec::new();
    for second in 0..100 {
        let owner = login("ada").filter(|_| second % 4 == 1);
        let token = stored(&provider, second, owner);
        match second % 4 {
            0 => came_back(&provider, &token),
            1 => {}
            // The request that created the session logs in.
            2 => {
                let mut changes = new_secret(&provider, &token);
                changes.login = Some(login("grace"));
                kept.push(save(&provider, &token, &changes, at(second)).expect("it is live"));
                continue;
            }
            // The request that created the session saves it again, which doesn't count as coming back.
            _ => {
                save(&provider, &token, &set(vec![1; 10]), at(second)).expect("it is live");
                continue;
            }
        }
        kept.push(token);
    }
    assert_eq!(kept.len(), 75);
    for second in 100..400 {
        stored(&provider, second, None);
    }
    for token in &kept {
        assert!(is_there(&provider, token));
    }
    assert_eq!(held(&provider).0, 100);
}

/// The documented error is returned, and nothing is lost.
#[test]
fn where_everything_was_used_or_has_an_owner_the_store_is_full() {
    let provider = provider("max_sessions=10");
    let used: Vec<Token> = (0..10)
        .map(|second| {
            let token = stored(&provider, second, login("ada").filter(|_| second % 2 == 0));
            came_back(&provider, &token);
            token
        })
        .collect();
    let anyone = Record { login: login("grace"), ..record(HOUR, 10) };
    full(&create(&provider, &record(HOUR, 10), at(20)));
    full(&create(&provider, &anyone, at(20)));
    for token in &used {
        assert!(is_there(&provider, token));
    }
    destroy(&provider, &used[3], at(20)).expect("destroying works");
    create(&provider, &anyone, at(20)).expect("there is room again");
}

/// Expired sessions are removed first.
#[test]
fn nothing_gives_way_while_something_has_expired() {
    let provider = provider("max_sessions=10");
    let living: Vec<Token> = (0..5).map(|second| stored(&provider, second, None)).collect();
    for _ in 0..5 {
        let short = record(Duration::from_secs(60), 10);
        create(&provider, &short, NOW).expect("there is room");
    }
    for second in 100..105 {
        stored(&provider, second, None);
    }
    for token in &living {
        assert!(is_there(&provider, token));
    }
}

#[test]
fn they_give_way_to_bytes_too_but_none_to_its_own_growth() {
    let provider = provider("max_bytes=100000");
    let user = stored(&provider, 0, login("ada"));
    let mut never = Vec::new();
    while held(&provider).1 < 95_000 {
        never.push(stored(&provider, never.len() as u64 + 1, None));
    }
    save(&provider, &user, &set(vec![1; 50_000]), at(900)).expect("others give way");
    assert!(held(&provider).1 <= 100_000);
    // For a session that grows, all other sessions may be evicted, but not the session itself.
    let own = never.pop().expect("there are some");
    save(&provider, &own, &set(vec![1; 45_000]), at(900)).expect("all others give way");
    full(&save(&provider, &own, &set(vec![1; 60_000]), at(900)));
    assert!(is_there(&provider, &own) && is_there(&provider, &user));
    for token in &never {
        assert!(!is_there(&provider, token));
    }
}

/// Nothing is evicted for a session that would never fit.
#[test]
fn a_session_larger_than_the_store_is_refused_at_once() {
    let provider = provider("max_bytes=60000");
    let tokens: Vec<Token> = (0..100).map(|second| stored(&provider, second, None)).collect();
    let large = create(&provider, &record(HOUR, 60_000), at(200));
    assert!(matches!(large, Err(Error::TooLarge { limit: 60_000, .. })), "{large:?}");
    let grown = save(&provider, &tokens[0], &set(vec![0; 60_000]), at(200));
    assert!(matches!(grown, Err(Error::TooLarge { limit: 60_000, .. })), "{grown:?}");
    for token in &tokens {
        assert!(is_there(&provider, token));
    }
}

/// The entry for the end of a sealed session is an empty record. If it were evicted, the session would
/// live again.
#[test]
fn an_empty_record_is_never_forgotten() {
    let provider = provider("max_sessions=10");
    let entries: Vec<Token> = (0..10)
        .map(|_| {
            let entry = Record { values: Default::default(), ..record(24 * HOUR, 0) };
            create(&provider, &entry, NOW).expect("there is room")
        })
        .collect();
    full(&create(&provider, &record(HOUR, 10), at(1)));
    for token in &entries {
        assert!(is_there(&provider, token));
    }
}

/// Many threads store sessions, of which some come back and some have an owner.
#[test]
fn threads_keep_to_the_limit_and_lose_nothing_that_is_kept() {
    const LIMIT: usize = 500;
    let provider = provider(&format!("max_sessions={LIMIT}"));
    let done = AtomicBool::new(false);
    let kept: Vec<Token> = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut looks = 0;
            while !done.load(Ordering::Relaxed) {
                assert!(held(&provider).0 <= LIMIT);
                looks += 1;
            }
            looks
        });
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let provider = &provider;
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    for n in 0..2000u64 {
                        let owner = login("ada").filter(|_| n % 100 == 1);
                        let is_owned = owner.is_some();
                        let record = Record { login: owner, ..record(24 * HOUR, 10) };
                        let token = create(provider, &record, at(n)).expect("others give way");
                        // It may have been evicted before, but not after it came back.
                        if is_owned || n % 100 == thread && is_there(provider, &token) {
                            kept.push(token);
                        }
                    }
                    kept
                })
            })
            .collect();
        let kept = threads.into_iter().flat_map(|thread| thread.join().expect("no panic"));
        let kept = kept.collect();
        done.store(true, Ordering::Relaxed);
        assert!(watch.join().expect("the limit holds") > 0);
        kept
    });
    assert!(kept.len() > 8 * 20, "{}", kept.len());
    for token in &kept {
        assert!(is_there(&provider, token));
    }
    assert_eq!(held(&provider).0, LIMIT);
    assert_eq!(block_on(provider.count(at(1000))).expect("counting works"), LIMIT as u64);
    empties(&provider, &[]);
}
