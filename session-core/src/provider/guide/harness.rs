use std::sync::Arc;
use std::time::Duration;

use session_core::conformance::{Capabilities, Harness, Proxy};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};

/// A server for one test, and the provider on it.
pub(crate) struct BlobStore {
    server: Server,
    provider: Arc<dyn Provider>,
}

impl BlobStore {
    /// Starts a server with an empty store. Dropping the value stops it.
    pub(crate) fn new() -> Self {
        let server = Server::start();
        let provider = open(server.address(), Duration::from_secs(20));
        Self { server, provider }
    }
}

impl Harness for BlobStore {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
    }

    /// With connections of its own, as another process has them.
    fn another(&self) -> Arc<dyn Provider> {
        open(self.server.address(), Duration::from_secs(20))
    }

    /// The server's timers remove expired blobs, so there is no index of expiries to count or collect by.
    fn capabilities(&self) -> Capabilities {
        Capabilities { count: false, purges: false, ..Capabilities::default() }
    }

    /// Each operation takes two requests over the network.
    fn rounds(&self) -> usize {
        100
    }

    /// The server counts down, so this adds the time that is left to the time of the last write.
    fn store_expiry(&self, key: &SessionKey, now: Timestamp) -> Option<Timestamp> {
        Some(now.saturating_add(self.server.time_left(key)))
    }

    /// Writes half of the blob, and leaves the timer as it is.
    fn damage(&self, key: &SessionKey) -> bool {
        self.server.truncate(key);
        true
    }

    /// Connects to the proxy instead of the server, with a short time limit, because cases wait for it.
    fn through(&self, proxy: &Proxy) -> Option<Arc<dyn Provider>> {
        let address = proxy.forward_to(self.server.address().to_string());
        Some(open(address, Duration::from_millis(500)))
    }
}

session_core::conformance_tests!(BlobStore::new());
