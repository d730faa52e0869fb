//! The limits of the store.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;
use session_core::provider::{Changes, Login, NewSecret, Provider, Record, Token, Verifier};
use session_core::{Error, SessionId, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_000_000_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn provider(source: &str) -> MemoryProvider {
    MemoryProvider::new(MemoryConfig::parse(source).expect("the source is right"))
}

pub(crate) fn record(lives: Duration, bytes: usize) -> Record {
    let values = [("key", vec![0; bytes])].into_iter().collect();
    Record { values, ..Record::new(Verifier::NOBODY, NOW, NOW.saturating_add(lives)) }
}

/// Stores a record under a new id, with the id's verifier as its holder.
pub(crate) fn create(
    provider: &MemoryProvider,
    record: &Record,
    now: Timestamp,
) -> Result<Token, Error> {
    create_as(provider, SessionId::generate().expect("the system has random numbers"), record, now)
}

fn create_as(
    provider: &MemoryProvider,
    id: SessionId,
    record: &Record,
    now: Timestamp,
) -> Result<Token, Error> {
    let token = Token::from(id);
    let record = Record { holder: provider.verifier(&token, ""), ..record.clone() };
    block_on(provider.create(&id, record, now)).map(|_| token)
}

/// Stores a record whose client comes back, so that it is never evicted.
fn create_used(provider: &MemoryProvider, record: &Record, now: Timestamp) -> Result<Token, Error> {
    let token = create(provider, record, now)?;
    assert!(load(provider, &token, now).is_some());
    Ok(token)
}

/// Saves changes as the client of a token. Returns the token to use from then on.
pub(crate) fn save(
    provider: &MemoryProvider,
    token: &Token,
    changes: &Changes,
    now: Timestamp,
) -> Result<Token, Error> {
    let holder = provider.verifier(token, "");
    block_on(provider.save(token, &holder, changes, now))?;
    let renewed = changes.secret.as_ref().map(|secret| secret.token.clone());
    Ok(renewed.unwrap_or_else(|| token.clone()))
}

/// Loads the record of a token, without its holder.
pub(crate) fn load(provider: &MemoryProvider, token: &Token, now: Timestamp) -> Option<Record> {
    let found = block_on(provider.load(token, now)).expect("loading works");
    let held = found.filter(|record| record.holder == provider.verifier(token, ""));
    held.map(|record| Record { holder: Verifier::NOBODY, ..record })
}

/// Returns changes that give a token's session a new secret.
pub(crate) fn new_secret(provider: &MemoryProvider, token: &Token) -> Changes {
    let token =
        Token::from(provider.renewed_id(token.id()).expect("the system has random numbers"));
    let holder = provider.verifier(&token, "");
    Changes::new().with_secret(NewSecret { token, holder, at: NOW })
}

pub(crate) fn login(owner: &str) -> Option<Box<Login>> {
    Some(Box::new(Login { owner: owner.into(), at: NOW, label: "a device".into() }))
}

pub(crate) fn set(value: Vec<u8>) -> Changes {
    let mut changes = Changes::new();
    changes.set("key", value);
    changes
}

pub(crate) fn destroy(
    provider: &MemoryProvider,
    token: &Token,
    now: Timestamp,
) -> Result<(), Error> {
    block_on(provider.destroy(&token.key(), Timestamp::MAX, now))
}

/// Returns the numbers of stored sessions and bytes that `Debug` shows.
pub(crate) fn held(provider: &MemoryProvider) -> (usize, usize) {
    let shown = format!("{provider:?}");
    let number = |name: &str| {
        let (_, rest) = shown.split_once(&format!(" {name}: ")).expect("it is shown");
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).expect("it is a number")
    };
    (number("sessions"), number("bytes"))
}

/// Destroys all sessions and checks that nothing is accounted for any more.
pub(crate) fn empties(provider: &MemoryProvider, tokens: &[Token]) {
    for token in tokens {
        destroy(provider, token, NOW).expect("destroying works");
    }
    while provider.purge(Timestamp::MAX, 1000).expect("purging works").more {}
    assert_eq!(held(provider), (0, 0));
}

#[test]
fn a_store_with_no_more_sessions_says_so_and_loses_nothing() {
    let provider = provider("max_sessions=50");
    let record = record(HOUR, 10);
    let mut tokens: Vec<Token> =
        (0..50).map(|_| create_used(&provider, &record, NOW).expect("there is room")).collect();
    for _ in 0..3 {
        let result = create_used(&provider, &record, NOW);
        assert!(matches!(result, Err(Error::Full { what: "max_sessions" })), "{result:?}");
    }
    let all = |tokens: &[Token]| {
        tokens.iter().all(|token| load(&provider, token, NOW).as_ref() == Some(&record))
    };
    assert!(all(&tokens), "a stored session is lost");

    let renewal = new_secret(&provider, &tokens[0]);
    tokens[0] = save(&provider, &tokens[0], &renewal, NOW).expect("a new secret needs no room");
    save(&provider, &tokens[1], &set(vec![0; 10]), NOW).expect("nor does a save");
    assert!(all(&tokens));

    destroy(&provider, &tokens[2], NOW).expect("destroying works");
    tokens[2] = create_used(&provider, &record, NOW).expect("there is room again");
    empties(&provider, &tokens);
}

#[test]
fn a_store_with_no_more_bytes_says_so_and_loses_nothing() {
    let provider = provider("max_bytes=100000");
    let record = record(HOUR, 1000);
    let mut tokens = Vec::new();
    let full = loop {
        match create_used(&provider, &record, NOW) {
            Ok(token) => tokens.push(token),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, Error::Full { what: "max_bytes" }), "{full:?}");
    assert!((50..100).contains(&tokens.len()), "{} sessions of 1,000 bytes", tokens.len());
    assert!(held(&provider).1 <= 100_000);

    let token = &tokens[0];
    let result = save(&provider, token, &set(vec![0; 10_000]), NOW);
    assert!(matches!(result, Err(Error::Full { what: "max_bytes" })), "{result:?}");
    let mut changes = set(vec![0; 1000]);
    changes.login = Some(login(&"x".repeat(10_000)));
    let result = save(&provider, token, &changes, NOW);
    assert!(matches!(result, Err(Error::Full { what: "max_bytes" })), "an owner: {result:?}");
    assert_eq!(load(&provider, token, NOW).as_ref(), Some(&record), "the record is as it was");

    save(&provider, token, &set(vec![1; 1000]), NOW).expect("as many bytes fit");
    save(&provider, token, &set(vec![0; 10]), NOW).expect("fewer bytes fit");
    save(&provider, token, &set(vec![0; 900]), NOW).expect("and make room for others");
    empties(&provider, &tokens);
}

#[test]
fn what_expired_makes_room() {
    let provider = provider("max_sessions=50");
    let short = record(HOUR, 10);
    let long = record(24 * HOUR, 10);
    let mut tokens: Vec<Token> =
        (0..25).map(|_| create_used(&provider, &long, NOW).expect("there is room")).collect();
    for _ in 0..25 {
        create_used(&provider, &short, NOW).expect("there is room");
    }
    let later = NOW.saturating_add(2 * HOUR);
    for _ in 0..25 {
        tokens.push(create_used(&provider, &long, later).expect("the expired make room"));
    }
    let result = create_used(&provider, &long, later);
    assert!(matches!(result, Err(Error::Full { .. })), "the living don't: {result:?}");
    for token in &tokens {
        assert!(load(&provider, token, later).is_some());
    }
    empties(&provider, &tokens);
}

#[test]
fn what_expired_makes_room_for_what_grows() {
    let provider = provider("max_bytes=100000");
    let token = create_used(&provider, &record(24 * HOUR, 10), NOW).expect("there is room");
    while create_used(&provider, &record(HOUR, 1000), NOW).is_ok() {}
    let grown = set(vec![0; 50_000]);
    let result = save(&provider, &token, &grown, NOW);
    assert!(matches!(result, Err(Error::Full { .. })), "the living don't: {result:?}");
    let later = NOW.saturating_add(2 * HOUR);
    save(&provider, &token, &grown, later).expect("the expired make room");
    empties(&provider, &[token]);
}

/// Whatever adds and removes records, everything that was reserved is released.
#[test]
fn the_books_balance() {
    let provider = provider("max_sessions=1000");
    let mut tokens = Vec::new();
    for n in 0..300 {
        let mut record = record(HOUR, n * 7 % 400);
        record.login = login("ada").filter(|_| n % 3 == 0);
        let mut token = create(&provider, &record, NOW).expect("there is room");
        for (key, bytes) in [("key", n * 5 % 300), ("other", n % 90), ("key", 1)] {
            let mut changes = set(vec![0; bytes]);
            changes.set(key, vec![1; bytes]);
            changes.login = (n % 2 == 0).then(|| login("somebody else"));
            token = save(&provider, &token, &changes, NOW).expect("there is room");
        }
        let mut changes = Changes::new();
        changes.delete("other");
        changes.login = (n % 4 == 0).then_some(None);
        changes.replace = n % 7 == 0;
        token = save(&provider, &token, &changes, NOW).expect("there is room");
        if n % 5 == 0 {
            let renewal = new_secret(&provider, &token);
            token = save(&provider, &token, &renewal, NOW).expect("it is live");
        }
        let refused = create_as(&provider, *token.id(), &record, NOW);
        assert!(matches!(refused, Err(Error::Exists)), "{refused:?}");
        tokens.push(token);
    }
    assert_eq!(held(&provider).0, 300);
    let (dead, expiring) = tokens.split_at(150);
    // Expired records are replaced by new ones.
    let later = NOW.saturating_add(2 * HOUR);
    let long = record(24 * HOUR, 100);
    let new = create_as(&provider, *expiring[0].id(), &long, later).expect("it is free");
    create_as(&provider, *expiring[1].id(), &long, later).expect("it is free");
    assert_eq!(held(&provider).0, 300);
    destroy(&provider, &new, later).expect("destroying works");
    empties(&provider, dead);
}

#[test]
fn threads_meet_the_limit_exactly() {
    let provider = Arc::new(provider("max_sessions=1000"));
    let stored: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let record = Record { login: login("ada"), ..record(HOUR, 10) };
                    (0..500).filter(|_| create(&provider, &record, NOW).is_ok()).count()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no thread panics")).sum()
    });
    assert_eq!(stored, 1000);
    assert_eq!(block_on(provider.count(NOW)).expect("counting works"), 1000);
    empties(&provider, &[]);
}

/// Measures the work of a collection in slices instead of seconds: with as many live sessions beside the
/// expired ones, a collection takes as many calls, each of which removes as many as it may.
#[test]
fn a_million_living_cost_the_collection_of_a_million_expired_nothing() {
    const EACH: u64 = 1_000_000;
    let provider = provider("max_sessions=2000000&max_bytes=1000000000");
    let create = |n: u64, lives| {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&n.to_be_bytes());
        let record = Record::new(Verifier::NOBODY, NOW, NOW.saturating_add(lives));
        block_on(provider.create(&SessionId::from_bytes(bytes), record, NOW)).map(|_| ())
    };
    for n in 0..EACH {
        create(2 * n, HOUR).expect("there is room");
        create(2 * n + 1, 3 * HOUR).expect("there is room");
    }
    let later = NOW.saturating_add(2 * HOUR);
    for slice in 0..EACH / 1000 {
        let purged = provider.purge(later, 1000).expect("purging works");
        assert_eq!((purged.removed, purged.more), (1000, true), "slice {slice}");
    }
    let purged = provider.purge(later, 1000).expect("purging works");
    assert_eq!((purged.removed, purged.more), (0, false));
    assert_eq!(held(&provider).0, EACH as usize);
    assert_eq!(block_on(provider.count(later)).expect("counting works"), EACH);
}
