//! The suite, plain and through layers.

use std::sync::Arc;

use session_core::provider::Provider;
use session_memory::{MemoryConfig, MemoryProvider};

fn memory() -> Arc<MemoryProvider> {
    Arc::new(MemoryProvider::new(MemoryConfig::default()))
}

mod plain {
    session_core::conformance_tests!(super::memory());
}

mod through_dyn {
    use super::*;

    fn boxed() -> Arc<Arc<dyn Provider>> {
        Arc::new(memory())
    }

    session_core::conformance_tests!(boxed());
}

mod through_layers {
    use super::*;
    use session_core::conformance::{Counting, Delayed, Faulty};

    /// Futures that wait, and layers that are not to be noticed.
    fn layered() -> Arc<Counting<Faulty<Delayed<Arc<MemoryProvider>>>>> {
        Arc::new(Counting::new(Faulty::new(Delayed::new(memory(), 42))))
    }

    session_core::conformance_tests!(layered());
}
