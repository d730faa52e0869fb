//! The suite, plain, through a pool of the application's, and under encryption.

use std::sync::Arc;

use session_cookie::{EncryptedProvider, KeyRing, SecretKey};
use session_core::conformance::{Capabilities, Harness};
use session_core::provider::Provider;
use session_sql::sqlx::Row as _;

use crate::server::{Server, pooler_uri};

/// Crowds wait for each other, on a machine that does other things, too.
const OPTIONS: &str = "operation_timeout=1m&set=synchronous_commit:off";

struct Postgres {
    options: &'static str,
    wrap: fn(Arc<dyn Provider>) -> Arc<dyn Provider>,
    provider: Arc<dyn Provider>,
    server: Server,
}

impl Postgres {
    fn open(options: &'static str) -> Self {
        Self::on(Server::new(), options, |provider| provider)
    }

    /// Through a pooler, to which a setting of the server can't be passed.
    fn pooled() -> Self {
        let options = "operation_timeout=1m&pooler=true";
        Self::on(Server::behind(pooler_uri()), options, |provider| provider)
    }

    fn on(
        server: Server,
        options: &'static str,
        wrap: fn(Arc<dyn Provider>) -> Arc<dyn Provider>,
    ) -> Self {
        let provider = wrap(server.provider(options));
        Self { options, wrap, provider, server }
    }
}

impl Harness for Postgres {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    /// With connections of its own, as another process has them.
    fn another(&self) -> Arc<dyn Provider> {
        (self.wrap)(self.server.provider(self.options))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lists: true, ..Capabilities::default() }
    }

    fn rounds(&self) -> usize {
        40
    }

    fn index_entries(&self) -> Option<usize> {
        let rows = self.server.query("SELECT count(*) FROM @ WHERE owner IS NOT NULL");
        Some(usize::try_from(rows[0].get::<i64, _>(0)).expect("it is a small number"))
    }
}

mod plain {
    use super::*;

    session_core::conformance_tests!(
        #[ignore = "needs a PostgreSQL server: run scripts/test"]
        Postgres::open(OPTIONS)
    );
}

/// Through PgBouncer, which gives each transaction another one of the server's connections.
mod pooled {
    use super::*;

    session_core::conformance_tests!(
        #[ignore = "needs PgBouncer in front of a PostgreSQL server: run scripts/test"]
        Postgres::pooled()
    );
}

/// Values and owners are encrypted before they come here.
mod encrypted_at_rest {
    use super::*;

    fn encrypted(provider: Arc<dyn Provider>) -> Arc<dyn Provider> {
        let key = SecretKey::from_bytes([1; SecretKey::BYTES]).expect("it isn't all zeros");
        let keys = KeyRing::new(&[key]).expect("one key is a ring");
        Arc::new(EncryptedProvider::new(provider, keys))
    }

    session_core::conformance_tests!(
        #[ignore = "needs a PostgreSQL server: run scripts/test"]
        Postgres::on(Server::new(), OPTIONS, encrypted)
    );
}
