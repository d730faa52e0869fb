//! The suite, on two openings of one file: each has connections of its own, as processes have.

use std::sync::Arc;
use std::time::Duration;

use session_cookie::{EncryptedProvider, KeyRing, SecretKey};
use session_core::conformance::{Capabilities, Harness};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};
use session_sql::sqlite::{Durability, SqliteProvider};
use session_sql::sqlx::Row as _;

use crate::scratch::Scratch;

struct Sqlite {
    provider: Arc<dyn Provider>,
    another: Arc<dyn Provider>,
    rounds: usize,
    scratch: Scratch,
}

impl Sqlite {
    fn new(sync: Durability, rounds: usize) -> Self {
        Self::wrapped(sync, rounds, |provider| provider)
    }

    fn wrapped(
        sync: Durability,
        rounds: usize,
        wrap: fn(Arc<dyn Provider>) -> Arc<dyn Provider>,
    ) -> Self {
        let scratch = match sync {
            Durability::Full => Scratch::new(),
            _ => Scratch::in_memory(),
        };
        let open = || {
            let config = scratch.config().with_sync(sync);
            // Crowds wait for each other, on a machine that does other things, too.
            let config = config.with_operation_timeout(Duration::from_secs(60));
            wrap(Arc::new(SqliteProvider::open(config).expect("the database opens")))
        };
        Self { provider: open(), another: open(), rounds, scratch }
    }
}

impl Harness for Sqlite {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    fn another(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.another)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lists: true, ..Capabilities::default() }
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        let counted =
            "SELECT count(*) FROM sessions INDEXED BY sessions_owner WHERE owner IS NOT NULL";
        let entries: i64 = self.scratch.query(counted)[0].get(0);
        Some(usize::try_from(entries).expect("it is a small number"))
    }

    /// A collection removes the row from when on both are over.
    fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        let found = format!("SELECT max(due, expires) FROM sessions WHERE key = {}", literal(key));
        let expiry: i64 = self.scratch.query(&found)[0].get(0);
        Some(Timestamp::from_millis(expiry.try_into().expect("it is later than 1970")))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        let damage = format!("UPDATE sessions SET data = x'' WHERE key = {}", literal(key));
        self.scratch.query(&format!("{damage} RETURNING 1")).len() == 1
    }
}

/// A key as SQLite writes it.
fn literal(key: &SessionKey) -> String {
    let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("x'{hex}'")
}

mod unsynced {
    use super::*;

    session_core::conformance_tests!(Sqlite::new(Durability::None, 100));
}

mod synced {
    use super::*;

    session_core::conformance_tests!(Sqlite::new(Durability::Full, 20));
}

/// Values and owners are encrypted before they come here.
mod encrypted_at_rest {
    use super::*;

    fn encrypted(provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
        let key = SecretKey::from_bytes([1; SecretKey::BYTES]).expect("it isn't all zeros");
        let keys = KeyRing::new(&[key]).expect("one key is a ring");
        Arc::new(EncryptedProvider::new(provider, keys))
    }

    session_core::conformance_tests!(Sqlite::wrapped(Durability::None, 40, encrypted));
}
