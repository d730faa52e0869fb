//! The conformance suite with and without TTL, and with encryption.
//!
//! The time limit is long: if several requests insert one id at once, which the suite does, DocumentDB's
//! unique indexes run into deadlocks that take a second each to detect.

use std::sync::Arc;

use std::time::Duration;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::options::Hint;
use session_cookie::EncryptedProvider;
use session_core::clock::{Clock as _, SystemClock};
use session_core::conformance::{Capabilities, Harness, Proxy};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};
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

    /// The filter that finds a session.
    fn document(key: &SessionKey) -> Document {
        doc! { "_id": Binary { subtype: BinarySubtype::Generic, bytes: key.as_bytes().into() } }
    }

    fn has_ttl(&self) -> bool {
        !self.options.contains("ensure_ttl=false")
    }
}

impl Harness for Mongo {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    /// Another provider with its own connections, like another process.
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

    /// Counts the entries by the index. With TTL, expired documents stay in it for the margin.
    fn index_entries(&self, now: Timestamp) -> Option<usize> {
        let mut owned = doc! { "login.owner": { "$exists": true } };
        if self.has_ttl() {
            let expired = now.saturating_sub(MARGIN).as_millis();
            let expired = i64::try_from(expired).expect("it is a time of a test");
            owned.insert("expires", doc! { "$gt": DateTime::from_millis(expired) });
        }
        let documents = self.server.documents();
        let counted = documents.count_documents(owned);
        let counted = counted.hint(Hint::Keys(doc! { "login.owner": 1, "_id": 1 }));
        let entries = self.server.block_on(counted.into_future()).expect("the index is there");
        Some(usize::try_from(entries).expect("it is a small number"))
    }

    /// The field that the TTL index is on, and the timer thread goes by; with the index's margin.
    fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        let documents = self.server.documents();
        let found = self.server.block_on(documents.find_one(Self::document(key)).into_future());
        let document = found.expect("the server works").expect("the document is there");
        let expires = document.get_datetime("expires").expect("it is a date").timestamp_millis();
        let expires = Timestamp::from_millis(expires.try_into().expect("it is later than 1970"));
        let margin = if self.has_ttl() { MARGIN } else { Duration::ZERO };
        Some(expires.saturating_add(margin))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        let documents = self.server.documents();
        let damage = documents.update_one(Self::document(key), doc! { "$set": { "values": "?" } });
        let damaged = self.server.block_on(damage.into_future()).expect("the server works");
        damaged.matched_count == 1
    }

    fn through(&self, proxy: &Proxy) -> Option<Arc<dyn Provider>> {
        let uri = self.server.uri_at(proxy.forward_to(self.server.host()));
        // Without a server, each operation waits for one until its time is over.
        let options = self.options.replace("operation_timeout=1m", "operation_timeout=1s");
        Some((self.wrap)(self.server.provider_at(&uri, &options)))
    }
}

/// How long the server leaves what has expired, where it collects.
const MARGIN: Duration = Duration::from_secs(24 * 60 * 60);

/// The timer thread collects, by the test's clock.
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

/// The server collects, by its own clock, so expired records stay for the margin.
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

/// Values and owners are encrypted before they are sent.
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
