//! Sessions in this process's memory: the [`session_core`] provider named `"memory"`.
//!
//! The sessions end with the process, and no other process sees them. Use this provider for one server
//! process whose visitors may have to log in again after a restart.
//!
//! # Source string
//! `name=value` pairs joined by `&`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `max_sessions` | 1,000,000 | the maximum number of sessions |
//! | `max_bytes` | 1,073,741,824 (1 GiB) | the maximum number of bytes of all sessions, bookkeeping included |
//!
//! # A full store
//! If a new session or a larger value would exceed a limit, the provider first removes expired sessions.
//! If that makes no room, it evicts sessions that were never loaded after their creation and that have
//! no owner, the oldest first: their clients never came back. So a flood of visitors who don't return
//! cookies can't keep users from being served or logged in. Each evicted session is logged at INFO; the
//! first eviction is logged at WARN as well.
//!
//! A session that was loaded after its creation, or that has an owner, is never evicted. An empty record
//! without an owner isn't either: no visitor has one, but `session-cookie` stores one for each sealed
//! session that ended. If nothing can be evicted, the write fails with
//! [`Error::Full`](session_core::Error::Full) (status 503), and the stored sessions stay. A single
//! session that would take more than `max_bytes` fails with
//! [`Error::TooLarge`](session_core::Error::TooLarge), and nothing is evicted for it.
//!
//! # An owner's sessions
//! The provider lists them by an index of owners. The cost of a list grows with the sessions of its
//! owner, not with those of the store. A session without an owner takes no space in the index.
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
/// Panics if another provider is registered under that name: the program would not get the store that it
/// asks for.
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
