//! The conformance suite, with the documented limitations.

use std::sync::Arc;

use futures_lite::future::block_on;
use session_cookie::{
    CookieConfig, CookieProvider, EncryptedProvider, KeyRing, Mode, SignedProvider,
};
use session_core::conformance::{Capabilities, Case, Delayed, Harness};
use session_core::provider::{Changes, Provider, ProviderContext, Record, Secret};
use session_core::transport::CookieOptions;
use session_core::{Config, SessionId, SessionKey, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::site::key;

/// Returns the capabilities of a provider that stores at the client.
fn at_the_client() -> Capabilities {
    Capabilities {
        count: false,
        merges: false,
        checks_holder: false,
        by_key: false,
        notices_taken_keys: false,
        stable_token: false,
        revokes: false,
        purges: false,
        namespaces: false,
        hides_secrets: false,
        max_bytes: 2_700,
        ..Capabilities::default()
    }
}

struct Sealed {
    provider: Arc<CookieProvider>,
    config: CookieConfig,
}

impl Sealed {
    fn new(mode: Mode, revokes: bool) -> Self {
        let mut config = CookieConfig::new(keys());
        config.mode = mode;
        if revokes {
            config.revocations = Some(Arc::new(memory()));
        }
        Self { provider: Arc::new(opened(config.clone())), config }
    }
}

/// Returns a provider, configured as a manager with the default configuration does it.
fn opened(config: CookieConfig) -> CookieProvider {
    let provider = CookieProvider::new(config);
    provider
        .configure(&ProviderContext::new(
            &CookieOptions::default().name,
            Config::default().lifetime(),
        ))
        .expect("a cookie's name is fine");
    provider
}

// No hooks: no store keeps the records, which are in the clients' cookies. `hostile` damages those.
impl Harness for Sealed {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::<CookieProvider>::clone(&self.provider)
    }

    /// Another process shares the keys and the store of revocations.
    fn another(&self) -> Arc<dyn Provider> {
        Arc::new(opened(self.config.clone()))
    }

    fn capabilities(&self) -> Capabilities {
        let revokes = self.config.revocations.is_some();
        Capabilities { revokes, checks_holder: revokes, ..at_the_client() }
    }
}

mod encrypted {
    session_core::conformance_tests!(super::Sealed::new(super::Mode::Encrypted, false));
}

mod signed {
    session_core::conformance_tests!(super::Sealed::new(super::Mode::Signed, false));
}

mod with_revocations {
    session_core::conformance_tests!(super::Sealed::new(super::Mode::Encrypted, true));
}

fn memory() -> MemoryProvider {
    MemoryProvider::new(MemoryConfig::default())
}

fn keys() -> KeyRing {
    KeyRing::ephemeral().expect("the system has random numbers")
}

/// The providers of two processes over one store in memory.
struct OverMemory {
    store: Arc<MemoryProvider>,
    handles: [Arc<dyn Provider>; 2],
    rounds: usize,
    is_encrypted: bool,
}

impl OverMemory {
    /// Encryption is slow in debug builds, so there are fewer rounds.
    fn new<P: Provider>(rounds: usize, wrap: impl Fn(Arc<MemoryProvider>, KeyRing) -> P) -> Self {
        let keys = keys();
        Self::with_keys(rounds, [keys.clone(), keys], wrap)
    }

    fn with_keys<P: Provider>(
        rounds: usize,
        keys: [KeyRing; 2],
        wrap: impl Fn(Arc<MemoryProvider>, KeyRing) -> P,
    ) -> Self {
        let store = Arc::new(memory());
        let open = |keys| Arc::new(wrap(Arc::clone(&store), keys)) as Arc<dyn Provider>;
        let handles = keys.map(open);
        Self { store, handles, rounds, is_encrypted: true }
    }
}

impl Harness for OverMemory {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.handles[0])
    }

    fn another(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.handles[1])
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lists: true, hides_secrets: false, ..Capabilities::default() }
    }

    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        Some(self.store.indexed_sessions())
    }

    fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        Some(self.store.collected_from(key).expect("the session is there"))
    }

    /// A store in memory is damaged by what it keeps for a provider before it: one whose ciphertexts are none.
    fn damage(&self, key: &SessionKey) -> bool {
        if !self.is_encrypted {
            return false;
        }
        let token = SessionId::new(*key, Secret::from_bytes([0; Secret::BYTES])).into();
        let now = self.now();
        block_on(async {
            let stored = self.store.load(&token, now).await.expect("loading works");
            let Record { holder, values, .. } = stored.expect("the session is there");
            let mut changes = Changes::new();
            for (stored, value) in values.iter() {
                let mut value = value.to_vec();
                *value.last_mut().expect("a value has bytes") ^= 1;
                changes.set(stored, value);
            }
            self.store.save(&token, &holder, &changes, now).await.expect("saving works");
        });
        true
    }

    fn rounds(&self) -> usize {
        self.rounds
    }
}

mod signed_ids {
    use super::{OverMemory, SignedProvider};

    session_core::conformance_tests!(OverMemory {
        is_encrypted: false,
        ..OverMemory::new(2_000, SignedProvider::new)
    });
}

mod encrypted_at_rest {
    session_core::conformance_tests!(super::OverMemory::new(200, super::EncryptedProvider::new));
}

mod encrypted_at_rest_in_a_slow_store {
    use super::*;

    session_core::conformance_tests!(OverMemory::new(100, |store, keys| {
        EncryptedProvider::new(Delayed::new(store, 7), keys)
    }));
}

/// While a new key is rolled out, some servers have it before the old one and some behind, and each
/// re-encrypts what it saves under its own first key. This doesn't run the whole suite: two such servers
/// that save one session concurrently re-encrypt it alternately, and a save may give up with a conflict.
#[test]
fn lists_are_whole_while_a_new_key_is_rolled_out() {
    let ring = |keys: [u8; 2]| KeyRing::new(&keys.map(key)).expect("the keys are right");
    for name in [
        "a_list_shows_what_is_stored_of_each_session",
        "a_list_comes_in_pages_in_the_order_of_the_keys",
        "a_page_of_any_limit_is_bounded",
        "a_page_begins_behind_a_session_that_is_gone",
        "what_ended_is_not_listed",
        "a_session_is_in_its_last_owners_list",
        "no_owner_is_taken_for_another",
        "an_index_of_owners_does_not_grow",
        "a_list_beside_changes_has_each_living_session_once",
        "a_login_that_races_anything_is_in_the_right_list",
    ] {
        let servers = OverMemory::with_keys(200, [ring([1, 2]), ring([2, 1])], |store, keys| {
            EncryptedProvider::new(Delayed::new(store, 7), keys)
        });
        Case::named(name).run(&servers);
    }
}

#[cfg(unix)]
mod over_files {
    use session_file::{Durability, FileConfig, FileProvider};

    use super::*;
    use crate::scratch::{self, Scratch};

    /// Two openings of one directory, as two processes have them, with the same keys.
    struct OverFiles<P> {
        provider: Arc<P>,
        another: Arc<P>,
        directory: Scratch,
    }

    impl<P> OverFiles<P> {
        fn new(wrap: impl Fn(FileProvider, KeyRing) -> P) -> Self {
            let (directory, keys) = (Scratch::in_memory(), keys());
            let open = || {
                let config = FileConfig::new(directory.path()).with_sync(Durability::None);
                let files = FileProvider::open(config).expect("the store opens");
                Arc::new(wrap(files, keys.clone()))
            };
            Self { provider: open(), another: open(), directory }
        }
    }

    impl<P: Provider> Harness for OverFiles<P> {
        fn provider(&self) -> Arc<dyn Provider> {
            self.provider.provider()
        }

        fn another(&self) -> Arc<dyn Provider> {
            self.another.provider()
        }

        fn capabilities(&self) -> Capabilities {
            Capabilities { lists: true, ..Capabilities::default() }
        }

        fn rounds(&self) -> usize {
            100
        }

        fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
            Some(scratch::store_expiry(self.directory.path(), key))
        }

        fn damage(&self, key: &SessionKey) -> bool {
            scratch::damage(self.directory.path(), key);
            true
        }
    }

    mod signed_ids {
        session_core::conformance_tests!(super::OverFiles::new(super::SignedProvider::new));
    }

    mod encrypted_at_rest {
        session_core::conformance_tests!(super::OverFiles::new(super::EncryptedProvider::new));
    }
}
