//! The conformance suite, plain and through layers.

use std::sync::Arc;

use session_core::conformance::{Capabilities, Harness};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};

/// A store with layers around it.
struct Memory {
    store: Arc<MemoryProvider>,
    provider: Arc<dyn Provider>,
}

impl Memory {
    fn through<P: Provider>(layers: impl FnOnce(Arc<MemoryProvider>) -> P) -> Self {
        let store = Arc::new(MemoryProvider::new(MemoryConfig::default()));
        Self { provider: Arc::new(layers(Arc::clone(&store))), store }
    }
}

// No hook to damage a record: what is in the process's memory is never read from bytes.
impl Harness for Memory {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::clone(&self.provider)
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
}

mod plain {
    session_core::conformance_tests!(super::Memory::through(|store| store));
}

mod through_layers {
    use session_core::conformance::{Counting, Delayed, Faulty};

    // Futures that wait, and layers that must have no effect.
    session_core::conformance_tests!(super::Memory::through(|store| {
        Counting::new(Faulty::new(Delayed::new(store, 42)))
    }));
}
