//! Accounting of sessions and bytes against the store's limits.

use session_core::Error;
use session_core::provider::{Login, Values};

use crate::MemoryConfig;
use crate::shard::Slot;
use crate::sync::{AtomicUsize, Ordering};

/// Bytes that a session takes beside its values and login: the slab entry, the hash table, the expiry
/// order and the allocator's overhead. Measured by the example `scale`.
const OVERHEAD: usize = 168;

/// Bytes that an owner adds beside the login: the session's entry in the owner index. Measured by the
/// example `scale`.
const INDEX_ENTRY: usize = 32;

/// Counts the stored sessions and bytes. The counters are raised before a record is added and lowered
/// after it was removed, so the limits hold at every moment.
#[derive(Debug)]
pub(crate) struct Capacity {
    config: MemoryConfig,
    sessions: AtomicUsize,
    bytes: AtomicUsize,
}

impl Capacity {
    pub(crate) fn new(config: MemoryConfig) -> Self {
        Self { config, sessions: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// Checks that a session of this many bytes fits into an empty store. Otherwise other sessions would
    /// be evicted in vain.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.config.max_bytes;
        if bytes > limit {
            return Err(Error::TooLarge { what: "max_bytes of all sessions", limit });
        }
        Ok(())
    }

    /// Reserves room for sessions and bytes.
    ///
    /// # Errors
    /// [`Error::Full`] if a limit would be exceeded; nothing is reserved then.
    pub(crate) fn reserve(&self, sessions: usize, bytes: usize) -> Result<(), Error> {
        let MemoryConfig { max_sessions, max_bytes, .. } = self.config;
        let add = |counter: &AtomicUsize, n: usize, most: usize| {
            let enough = |held: usize| held.checked_add(n).filter(|sum| *sum <= most);
            n == 0 || counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_ok()
        };
        if !add(&self.sessions, sessions, max_sessions) {
            return Err(Error::Full { what: "max_sessions" });
        }
        if !add(&self.bytes, bytes, max_bytes) {
            self.sessions.fetch_sub(sessions, Ordering::Relaxed);
            return Err(Error::Full { what: "max_bytes" });
        }
        Ok(())
    }

    /// Releases reserved sessions and bytes. Most changes release nothing, and then the counters' cache
    /// line is not written.
    pub(crate) fn release(&self, sessions: usize, bytes: usize) {
        for (counter, n) in [(&self.sessions, sessions), (&self.bytes, bytes)] {
            if n > 0 {
                counter.fetch_sub(n, Ordering::Relaxed);
            }
        }
    }
}

/// Returns the bytes that a stored session takes, bookkeeping included.
pub(crate) fn cost(slot: &Slot) -> usize {
    cost_of(slot.login(), slot.values())
}

/// Returns the bytes that a session with this login and these values takes, bookkeeping included.
pub(crate) fn cost_of(login: Option<&Login>, values: &Values) -> usize {
    let login = login.map_or(0, |login| {
        INDEX_ENTRY + size_of::<Login>() + login.owner.len() + login.label.len()
    });
    OVERHEAD + values.memory() + login
}
