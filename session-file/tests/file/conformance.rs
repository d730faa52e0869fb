//! The conformance suite on two openings of one directory. Each opening has its own locks, like a
//! process.

use std::sync::Arc;

use session_core::conformance::{Capabilities, Harness};
use session_core::provider::Provider;
use session_core::{SessionKey, Timestamp};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::{Scratch, damage, index_entries, store_expiry};

struct Files {
    provider: Arc<FileProvider>,
    another: Arc<FileProvider>,
    rounds: usize,
    scratch: Scratch,
}

impl Files {
    fn new(sync: Durability, rounds: usize) -> Self {
        // The synced store is on a disk; the other one is in memory if possible, because the suite has
        // many small steps.
        let scratch = match sync {
            Durability::Full => Scratch::new(),
            _ => Scratch::in_memory(),
        };
        let open = || {
            let config = FileConfig::new(scratch.path()).with_sync(sync);
            Arc::new(FileProvider::open(config).expect("the store opens"))
        };
        Self { provider: open(), another: open(), rounds, scratch }
    }
}

impl Harness for Files {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::<FileProvider>::clone(&self.provider)
    }

    fn another(&self) -> Arc<dyn Provider> {
        Arc::<FileProvider>::clone(&self.another)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lists: true, ..Capabilities::default() }
    }

    fn rounds(&self) -> usize {
        self.rounds
    }

    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        Some(index_entries(self.scratch.path()).len())
    }

    fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        Some(store_expiry(self.scratch.path(), key))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        damage(self.scratch.path(), key);
        true
    }
}

mod unsynced {
    use super::*;

    session_core::conformance_tests!(Files::new(Durability::None, 1000));
}

mod synced {
    use super::*;

    session_core::conformance_tests!(Files::new(Durability::Full, 100));
}
