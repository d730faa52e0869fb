//! The conformance suite, with the documented limitations.

use std::sync::Arc;

use session_cookie::{
    CookieConfig, CookieProvider, EncryptedProvider, KeyRing, Mode, SignedProvider,
};
use session_core::Config;
use session_core::conformance::{Capabilities, Case, Delayed, Harness};
use session_core::provider::{Provider, ProviderContext};
use session_core::transport::CookieOptions;
use session_file::{Durability, FileConfig, FileProvider};
use session_memory::{MemoryConfig, MemoryProvider};

use crate::rotation::Scratch;
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
        Self { store, handles, rounds }
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
        Capabilities { lists: true, ..Capabilities::default() }
    }

    fn index_entries(&self) -> Option<usize> {
        Some(self.store.indexed_sessions())
    }

    fn rounds(&self) -> usize {
        self.rounds
    }
}

mod signed_ids {
    session_core::conformance_tests!(super::OverMemory::new(2_000, super::SignedProvider::new));
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

/// Two openings of one directory with the same keys, like two processes.
struct OverFiles<P> {
    provider: Arc<P>,
    another: Arc<P>,
    _directory: Scratch,
}

impl<P> OverFiles<P> {
    fn new(wrap: impl Fn(FileProvider, KeyRing) -> P) -> Self {
        let (directory, keys) = (Scratch::new(), keys());
        let open = || {
            let config = FileConfig::new(&directory.0).with_sync(Durability::None);
            let files = FileProvider::open(config).expect("the store opens");
            Arc::new(wrap(files, keys.clone()))
        };
        Self { provider: open(), another: open(), _directory: directory }
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
}

mod signed_ids_over_files {
    session_core::conformance_tests!(super::OverFiles::new(super::SignedProvider::new));
}

mod encrypted_at_rest_over_files {
    session_core::conformance_tests!(super::OverFiles::new(super::EncryptedProvider::new));
}
