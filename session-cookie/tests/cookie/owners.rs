//! Lists of an owner whose sessions were encrypted under several keys.

use std::sync::Arc;

use futures_lite::future::block_on;
use session_cookie::{EncryptedProvider, KeyRing};
use session_core::conformance::{Counting, Operation};
use session_core::provider::{Changes, Login, Page, Provider, Record, Summary, Token};
use session_core::{SessionId, SessionKey, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::site::{START, key};

type Store = Arc<Counting<MemoryProvider>>;
type Encrypted = EncryptedProvider<Store>;

fn store() -> Store {
    Arc::new(Counting::new(MemoryProvider::new(MemoryConfig::default())))
}

/// Returns a server with these keys.
fn server(store: &Store, keys: &[u8]) -> Encrypted {
    let keys: Vec<_> = keys.iter().map(|n| key(*n)).collect();
    EncryptedProvider::new(Arc::clone(store), KeyRing::new(&keys).expect("the keys are right"))
}

/// Stores a session with a unique label.
fn log_in(server: &Encrypted, owner: &str) -> Token {
    let id = SessionId::generate().expect("the system has random numbers");
    let token = Token::from(id);
    let login = Login { owner: owner.into(), at: START, label: label_of(id.key()).into() };
    let mut record = Record::new(server.verifier(&token, ""), START, Timestamp::MAX);
    record.login = Some(Box::new(login));
    block_on(server.create(&id, record, START)).expect("there is room");
    token
}

fn label_of(key: SessionKey) -> String {
    format!("the device with {key}")
}

/// Returns Ada's sessions from pages of this limit. Checks that each has its label.
fn listed(server: &Encrypted, limit: usize) -> Vec<SessionKey> {
    let mut all: Vec<Summary> = Vec::new();
    let mut page = Page { after: None, limit };
    loop {
        let listed = block_on(server.list("ada", page, START)).expect("listing works");
        assert!(listed.sessions.len() <= limit);
        all.extend(listed.sessions);
        page.after = listed.next;
        if page.after.is_none() {
            assert!(all.iter().all(|summary| *summary.label == label_of(summary.key)));
            return all.iter().map(|summary| summary.key).collect();
        }
    }
}

fn keys<'a>(tokens: impl IntoIterator<Item = &'a Token>) -> Vec<SessionKey> {
    let mut keys: Vec<_> = tokens.into_iter().map(Token::key).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn a_list_has_the_sessions_of_all_keys_in_the_order_of_the_sessions() {
    let store = store();
    let [before, during, after] = [&[1][..], &[2, 1], &[2]].map(|keys| server(&store, keys));
    let old: Vec<Token> = (0..9).map(|_| log_in(&before, "ada")).collect();
    let new: Vec<Token> = (0..6).map(|_| log_in(&during, "ada")).collect();
    log_in(&before, "grace");
    log_in(&during, "grace");
    let all = keys(old.iter().chain(&new));
    for limit in [1, 2, 7, 14, 15, 16, 100] {
        assert_eq!(listed(&during, limit), all, "pages of {limit}");
    }
    assert_eq!(listed(&before, 2), keys(&old), "the old key alone");
    assert_eq!(listed(&after, 2), keys(&new), "the new key alone");

    for token in &old[..4] {
        let note = block_on(during.load(token, START)).expect("loading works").unwrap().note;
        assert!(during.is_outdated(&note));
        let mut changes = Changes::new();
        changes.seen = note;
        let holder = during.verifier(token, "");
        block_on(during.save(token, &holder, &changes, START)).expect("it is live");
    }
    for limit in [1, 7, 100] {
        assert_eq!(listed(&during, limit), all, "pages of {limit} after some were saved");
    }
    assert_eq!(listed(&after, 2), keys(new.iter().chain(&old[..4])));
    assert_eq!(listed(&before, 2), keys(&old[4..]));
}

/// With one key, a page is one query to the store. With several keys, it is one query for each, and
/// another one for all but the last.
#[test]
fn a_page_is_one_query_for_a_ring_of_one_key() {
    for (ring, queries) in [(&[1][..], 1), (&[2, 1], 3), (&[3, 2, 1], 5)] {
        let store = store();
        let server = server(&store, ring);
        log_in(&server, "ada");
        listed(&server, 10);
        assert_eq!(store.calls(Operation::List), queries, "{} keys", ring.len());
    }
}

/// An attacker who can write to the store puts an owner's digest into new records.
#[test]
fn what_cannot_be_read_is_not_listed() {
    let store = store();
    let server = server(&store, &[1]);
    let adas = log_in(&server, "ada");
    let stored = block_on(store.load(&adas, START)).expect("loading works").expect("it is live");
    let login = stored.login.clone().expect("somebody is logged in");
    for label in [&*login.label, "", "Firefox", "not base64!"] {
        let id = SessionId::generate().expect("the system has random numbers");
        let login = Some(Box::new(Login { label: label.into(), ..(*login).clone() }));
        let forged = Record { login, ..stored.clone() };
        block_on(store.create(&id, forged, START)).expect("there is room");
    }
    assert_eq!(listed(&server, 2), keys([&adas]));
}

/// During a rotation this server has the newest key first, and the other one doesn't. The other server
/// saves a session that the oldest key encrypted while this one lists.
#[test]
fn a_session_that_moves_between_two_later_keys_is_listed() {
    use session_core::provider::{Listed, Purged, Touch, Verifier};
    use session_core::{Error, provider::Answer, provider::ProviderFuture};
    use std::sync::Mutex;

    type Hook = Box<dyn FnOnce() + Send>;
    /// Calls a hook after a number of lists.
    struct Between(Store, Mutex<(usize, Option<Hook>)>);
    impl std::fmt::Debug for Between {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Between")
        }
    }
    impl Provider for Between {
        fn create<'a>(
            &'a self,
            id: &'a SessionId,
            record: Record,
            now: Timestamp,
        ) -> Answer<'a, Option<Token>> {
            self.0.create(id, record, now)
        }
        fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
            self.0.load(token, now)
        }
        fn save<'a>(
            &'a self,
            token: &'a Token,
            holder: &'a Verifier,
            changes: &'a Changes,
            now: Timestamp,
        ) -> Answer<'a, Option<Token>> {
            self.0.save(token, holder, changes, now)
        }
        fn touch<'a>(
            &'a self,
            token: &'a Token,
            touch: Touch,
            now: Timestamp,
        ) -> Answer<'a, Option<Token>> {
            self.0.touch(token, touch, now)
        }
        fn destroy<'a>(
            &'a self,
            key: &'a SessionKey,
            until: Timestamp,
            now: Timestamp,
        ) -> Answer<'a, ()> {
            self.0.destroy(key, until, now)
        }
        fn lists(&self) -> bool {
            true
        }
        fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
            ProviderFuture::boxed(async move {
                let listed = self.0.list(owner, page, now).await;
                let mut hook = self.1.lock().unwrap();
                hook.0 = hook.0.saturating_sub(1);
                if hook.0 == 0
                    && let Some(run) = hook.1.take()
                {
                    run();
                }
                listed
            })
        }
        fn count(&self, now: Timestamp) -> Answer<'_, u64> {
            self.0.count(now)
        }
        fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
            self.0.purge(now, limit)
        }
    }

    let store = store();
    // 1 is the old key, 2 the current one, 3 the next.
    let other = server(&store, &[2, 3, 1]);
    let token = log_in(&server(&store, &[1]), "ada");
    let key_of_it = token.key();
    let hook: Hook = Box::new(move || {
        let note = block_on(other.load(&token, START)).unwrap().unwrap().note;
        let mut changes = Changes::new();
        changes.seen = note;
        let holder = other.verifier(&token, "");
        block_on(other.save(&token, &holder, &changes, START)).unwrap();
    });
    let between = Between(Arc::clone(&store), Mutex::new((2, Some(hook))));
    let keys: Vec<_> = [3, 2, 1].iter().map(|n| key(*n)).collect();
    let here = EncryptedProvider::new(between, KeyRing::new(&keys).unwrap());
    let page = Page { after: None, limit: 100 };
    let listed = block_on(here.list("ada", page, START)).unwrap();
    assert_eq!(listed.sessions.iter().map(|s| s.key).collect::<Vec<_>>(), [key_of_it]);
}
