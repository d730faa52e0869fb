//! How much the store holds, and may hold.

use session_core::Error;
use session_core::provider::{Login, Values};

use crate::MemoryConfig;
use crate::shard::Slot;
use crate::sync::{AtomicUsize, Ordering};

/// What a session takes beside its values and owner: entry, table, order, allocator. Measured by
/// the example `scale`.
const OVERHEAD: usize = 168;

/// What an owner adds beside the login: the session's entry in the index. Measured by the same example.
const INDEX_ENTRY: usize = 32;

/// Sessions and bytes held: moved before something is added and after it was removed, so that the
/// limits hold at every moment.
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

    /// Checks that a session of so many bytes can be stored once there is room, so that none gives way
    /// for nothing.
    pub(crate) fn check(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.config.max_bytes;
        if bytes > limit {
            return Err(Error::TooLarge { what: "max_bytes of all sessions", limit });
        }
        Ok(())
    }

    /// Accounts for sessions and bytes to come; `Full` if there is no room.
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

    /// Gives back what was reserved. Nothing to give back is the rule for changes, and is no reason
    /// for processors to fight over the counters.
    pub(crate) fn release(&self, sessions: usize, bytes: usize) {
        for (counter, n) in [(&self.sessions, sessions), (&self.bytes, bytes)] {
            if n > 0 {
                counter.fetch_sub(n, Ordering::Relaxed);
            }
        }
    }
}

/// The bytes that a session takes, all included.
pub(crate) fn cost(slot: &Slot) -> usize {
    cost_of(slot.login(), slot.values())
}

/// The bytes that a session with this login and these values takes, all included.
pub(crate) fn cost_of(login: Option<&Login>, values: &Values) -> usize {
    let login = login.map_or(0, |login| {
        INDEX_ENTRY + size_of::<Login>() + login.owner.len() + login.label.len()
    });
    OVERHEAD + values.memory() + login
}
