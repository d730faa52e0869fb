//! The suite, with two ways of collecting, and under encryption.
//!
//! The time limit is a long one: where several requests insert one id at once, which the suite does
//! and chance doesn't, DocumentDB's unique indexes run into deadlocks that take a second each to be
//! found.

use std::sync::Arc;

use mongodb::bson::doc;
use mongodb::options::Hint;
use session_cookie::EncryptedProvider;
use session_core::Timestamp;
use session_core::clock::{Clock as _, SystemClock};
use session_core::conformance::{Capabilities, Harness};
use session_core::provider::Provider;
use session_mongo::mongodb;

use crate::encrypted;
use crate::server::Server;

struct Mongo {
    server: Server,
    options: &'static str,
    wrap: fn(Arc<dyn Provider>) -> Arc<dyn Provider>,
    provider: Arc<dyn Provider>,
    now: Timestamp,
}

impl Mongo {
    fn open(options: &'static str, now: Timestamp) -> Self {
        Self::wrapped(options, now, |provider| provider)
    }

    fn wrapped(
        options: &'static str,
        now: Timestamp,
        wrap: fn(Arc<dyn Provider>) -> Arc<dyn Provider>,
    ) -> Self {
        let server = Server::new();
        let provider = wrap(server.provider(options));
        Self { server, options, wrap, provider, now }
    }

    fn has_ttl(&self) -> bool {
        !self.options.contains("ensure_ttl=false")
    }
}

impl Harness for Mongo {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    /// With connections of its own, as another process has them.
    fn another(&self) -> Arc<dyn Provider> {
        (self.wrap)(self.server.provider(self.options))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            limits: false,
            lists: true,
            purges: !self.has_ttl(),
            ..Capabilities::default()
        }
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn rounds(&self) -> usize {
        40
    }

    /// As counted by the index itself. With TTL, what has expired stays in it for the margin.
    fn index_entries(&self) -> Option<usize> {
        (!self.has_ttl()).then(|| {
            let documents = self.server.documents();
            let owned = documents.count_documents(doc! { "login.owner": { "$exists": true } });
            let owned = owned.hint(Hint::Keys(doc! { "login.owner": 1, "_id": 1 }));
            let entries = self.server.block_on(owned.into_future()).expect("the index is there");
            usize::try_from(entries).expect("it is a small number")
        })
    }
}

/// The timer thread collects; time is what the test says.
mod without_ttl {
    use super::*;

    fn open() -> Mongo {
        Mongo::open(
            "ensure_ttl=false&operation_timeout=1m",
            Timestamp::from_millis(1_800_000_000_123),
        )
    }

    session_core::conformance_tests!(
        #[ignore = "needs a MongoDB server: run scripts/test"]
        open()
    );
}

/// The server collects, by its own clock: expired records stay for the margin.
mod with_ttl {
    use super::*;

    fn open() -> Mongo {
        Mongo::open("ttl_margin=1day&operation_timeout=1m", SystemClock.now())
    }

    session_core::conformance_tests!(
        #[ignore = "needs a MongoDB server: run scripts/test"]
        open()
    );
}

/// Values and owners are encrypted before they come here.
mod encrypted_at_rest {
    use super::*;

    fn open() -> Mongo {
        Mongo::wrapped(
            "ensure_ttl=false&operation_timeout=1m",
            Timestamp::from_millis(1_800_000_000_123),
            |provider| Arc::new(EncryptedProvider::new(provider, encrypted::keys(1))),
        )
    }

    session_core::conformance_tests!(
        #[ignore = "needs a MongoDB server: run scripts/test"]
        open()
    );
}
