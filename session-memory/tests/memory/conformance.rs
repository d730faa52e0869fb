//! The suite, plain and through layers.

use std::sync::Arc;

use session_core::Provider;
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
