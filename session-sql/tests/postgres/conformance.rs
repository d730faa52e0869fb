//! The suite, plain, through a pool of the application's, and under encryption.

use std::sync::Arc;

use session_cookie::{EncryptedProvider, KeyRing, SecretKey};
use session_core::conformance::{Capabilities, Harness, Proxy};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};
use session_sql::sqlx::Row as _;

use crate::sample::hex;
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

    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        let rows = self.server.query("SELECT count(*) FROM @ WHERE owner IS NOT NULL");
        Some(usize::try_from(rows[0].get::<i64, _>(0)).expect("it is a small number"))
    }

    /// A collection removes the row from when on both are over.
    fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        let found = format!("SELECT greatest(due, expires) FROM @ WHERE key = '{}'", hex(key));
        let expiry: i64 = self.server.query(&found)[0].get(0);
        Some(Timestamp::from_millis(expiry.try_into().expect("it is later than 1970")))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        let damage = "UPDATE @ SET data = array_append(data, 'x'::bytea)";
        let damaged =
            self.server.query(&format!("{damage} WHERE key = '{}' RETURNING 1", hex(key)));
        damaged.len() == 1
    }

    fn through(&self, proxy: &Proxy) -> Option<Arc<dyn Provider>> {
        let address = proxy.forward_to(Server::address());
        let options = self.options.replace("operation_timeout=1m", "operation_timeout=1s");
        Some((self.wrap)(self.server.provider_through(address, &options)))
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
