//! Sessions in this process's memory: the [`session_core`] provider named `"memory"`.
//!
//! They end with the process, and no other process sees them: for one server whose visitors may be
//! asked to log in again after a restart.
//!
//! # Source string
//! `name=value` pairs joined by `&`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `max_sessions` | 1,000,000 | how many sessions are held |
//! | `max_bytes` | 1,073,741,824 (1 GiB) | how many bytes all sessions take, bookkeeping included |
//!
//! # A full store
//! Where a new session or a larger value would exceed these limits, expired sessions are removed. If that
//! makes no room, sessions give way whose clients never came back, the oldest first: nobody has loaded them
//! since they were created, and nobody is logged in. So a flood of visitors who take no cookie keeps no user
//! from being served or logged in. Each session that gives way is logged at INFO, and the first one is a
//! warning.
//!
//! A session that was loaded after its creation, or has an owner, never gives way. Nor does an empty record
//! without an owner: visitors have none, it is what `session-cookie` remembers of sealed sessions that ended.
//! If nothing else is left, the write fails with [`Error::Full`](session_core::Error::Full), a 503, and what
//! is stored stays. A single session that would take more than `max_bytes` is
//! [`Error::TooLarge`](session_core::Error::TooLarge), and nothing gives way to it.
//!
//! # An owner's sessions
//! An index of owners lists them, at a cost that grows with the sessions of that owner and not with those of
//! the store. A session without an owner takes nothing in it.
//!
//! ```
//! session_memory::init();
//! let manager = session_core::Manager::open("memory", "max_sessions=50000")?;
//! # Ok::<(), session_core::Error>(())
//! ```

mod capacity;
mod config;
mod owner_index;
mod provider;
mod shard;
mod sync;

use std::sync::Arc;

use once_cell::sync::OnceCell;

pub use config::MemoryConfig;
pub use provider::MemoryProvider;

/// Registers the provider under the name `"memory"`. Calling it again does nothing.
///
/// # Panics
/// If something else was registered under that name before: the program would not get the store
/// it asks for.
pub fn init() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        let open =
            |source: &str| Ok(Arc::new(MemoryProvider::new(MemoryConfig::parse(source)?)) as _);
        if let Err(error) = session_core::provider::register("memory", open) {
            panic!("{error}");
        }
    });
}
