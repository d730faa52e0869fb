//! The suite, as it is and under encryption.

use std::sync::Arc;
use std::time::Duration;

use session_cookie::{EncryptedProvider, KeyRing, SecretKey};
use session_core::conformance::{Capabilities, Harness, Proxy};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};

use crate::server::Server;

/// Clocks of the suite's crowds differ by more than an hour.
const OPTIONS: &str = "ttl_margin=75m&operation_timeout=20s";

struct Redis {
    server: Server,
    options: &'static str,
    wrap: fn(Arc<dyn Provider>) -> Arc<dyn Provider>,
    provider: Arc<dyn Provider>,
}

impl Redis {
    fn open(options: &'static str, wrap: fn(Arc<dyn Provider>) -> Arc<dyn Provider>) -> Self {
        let server = Server::new();
        let provider = wrap(server.provider(options));
        Self { server, options, wrap, provider }
    }
}

impl Harness for Redis {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    /// With connections of its own, as another process has them.
    fn another(&self) -> Arc<dyn Provider> {
        (self.wrap)(self.server.provider(self.options))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { count: false, lists: true, purges: false, ..Capabilities::default() }
    }

    fn rounds(&self) -> usize {
        40
    }

    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        let lists = self.server.keys().into_iter().filter(|key| !key.contains('{'));
        Some(lists.map(|list| self.server.ask::<usize>(redis::cmd("ZCARD").arg(list))).sum())
    }

    /// The server counts down what it was told at the time of the last write.
    fn store_expiry(&self, key: &SessionKey, now: Timestamp) -> Option<Timestamp> {
        let left: i64 = self.server.ask(redis::cmd("PTTL").arg(self.server.name(key)));
        let left = u64::try_from(left).expect("the session is there, and expires");
        Some(now.saturating_add(Duration::from_millis(left + 1000)))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        let name = self.server.name(key);
        let mut bytes: Vec<u8> = self.server.ask(redis::cmd("GET").arg(&name));
        bytes.pop().expect("the session is there");
        let set = self.server.ask::<String>(redis::cmd("SET").arg(&name).arg(bytes).arg("KEEPTTL"));
        set == "OK"
    }

    fn through(&self, proxy: &Proxy) -> Option<Arc<dyn Provider>> {
        let url = Server::url_at(proxy.forward_to(Server::host()?));
        let options = "ttl_margin=75m&operation_timeout=1s";
        Some((self.wrap)(self.server.provider_at(&url, options)))
    }
}

mod plain {
    use super::*;

    fn open() -> Redis {
        Redis::open(OPTIONS, |provider| provider)
    }

    session_core::conformance_tests!(
        #[ignore = "needs a Redis server: run scripts/test"]
        open()
    );
}

/// With several connections, among which requests are spread.
mod spread {
    use super::*;

    fn open() -> Redis {
        Redis::open("ttl_margin=75m&operation_timeout=20s&connections=3", |provider| provider)
    }

    session_core::conformance_tests!(
        #[ignore = "needs a Redis server: run scripts/test"]
        open()
    );
}

/// Values and owners are encrypted before they come here.
mod encrypted_at_rest {
    use super::*;

    fn open() -> Redis {
        Redis::open(OPTIONS, |provider| {
            let key = SecretKey::from_bytes([1; SecretKey::BYTES]).expect("it isn't all zeros");
            let keys = KeyRing::new(&[key]).expect("one key is a ring");
            Arc::new(EncryptedProvider::new(provider, keys))
        })
    }

    session_core::conformance_tests!(
        #[ignore = "needs a Redis server: run scripts/test"]
        open()
    );
}
