//! Sessions in files: the [`session_core`] provider named `"file"`.
//!
//! The sessions survive the process and, by default, a power cut. Use this provider for one machine with
//! one or more processes that share a directory on a local file system of Linux or macOS. On other
//! systems the crate compiles, but opening the provider fails with
//! [`Error::Config`](session_core::Error::Config).
//!
//! # Source string
//! `name=value` pairs joined by `&`, percent-encoded:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `path` | required | the directory: an absolute path; it must exist and be used for nothing else |
//! | `sync` | `full` | `full`: acknowledged changes survive a power cut; `none`: they survive the end of the process |
//! | `max_bytes` | 1,048,576 (1 MiB) | the maximum size of a session's file; see [`FileConfig::max_bytes`] |
//!
//! The directory must belong to the user who runs the program. Its mode is set to 0700. A directory that
//! is missing, belongs to another user, can be written by other users, or is reached through a symbolic
//! link is refused.
//!
//! ```no_run
//! session_file::init();
//! let manager = session_core::Manager::open("file", "path=/var/lib/app/sessions")?;
//! # Ok::<(), session_core::Error>(())
//! ```
//!
//! # Operation
//! - A session is one file. Its path is the session's key in hexadecimal: two digits name the folder, 22
//!   the file. Its modification time is the expiry, so backups and copies must preserve modification
//!   times (`cp -a`, `rsync -t`, `tar`).
//! - Anyone who can read the directory sees keys, values, owners and labels, but no secret: a file has
//!   the digest of its session's secret, from which no id can be made. `encrypted+file` (crate
//!   `session-cookie`) encrypts values, owners and labels.
//! - A save writes a new file and renames it over the old one, so values, a login and a new id are
//!   stored together or not at all, even if the process is killed. The next collection removes temporary
//!   files of killed processes.
//! - On Linux a touch only sets the file's times; the time of access is the last use. If a program reads
//!   the file without `O_NOATIME`, such as a backup, that looks like a use, which is harmless. On macOS
//!   a touch rewrites the file.
//! - `count` and a complete collection read the metadata of every file, which takes about a microsecond
//!   each; a collection takes a few more for each session that has an owner. With millions of sessions,
//!   choose a longer `gc_every`.
//! - A file that can't be read, because it is damaged, not a regular file, of another user, or not of
//!   mode 0600, is not a session. It stays until it has expired.
//! - If the disk is full, writes fail with [`Error::Full`](session_core::Error::Full). A failed write
//!   leaves the old record as it was.
//! - With `sync=full`, concurrent changes wait for the disk at the same time, each for its own file, so
//!   the kernel can combine the writes. Each one occupies a thread.
//! - Disk operations run on the threads of the crate `blocking`, which the process shares with other
//!   users of that crate: at most 500, unless the environment variable `BLOCKING_MAX_THREADS` says
//!   otherwise.
//! - With `sync=none`, a power cut may lose a session that was written in the last half minute or so, or
//!   remove a session from its owner's list if the owner logged in during that time. All processes that
//!   share a directory should have the same `sync`.
//! - The folder `owners` is the index for `list`: it has a folder for each owner with sessions, named by
//!   a digest of the owner, and in that an empty file for each session. A login makes this file before
//!   it writes the session; with `sync=full`, the file is on the disk by then. Saves by the same owner,
//!   touches, and sessions without an owner cost nothing in the index. Back it up together with the
//!   sessions: a session whose file in the index is missing is not listed.
//! - A session that ends or gets another owner leaves its file in the index. The next list of the former
//!   owner removes it; if the session is gone, a collection removes it as well.
//! - A directory with sessions in an earlier format is refused.

mod config;
#[cfg(unix)]
mod directory;
#[cfg(unix)]
mod disk;
#[cfg(unix)]
mod error;
#[cfg(unix)]
mod faults;
#[cfg(unix)]
mod format;
#[cfg(unix)]
mod lock;
#[cfg(unix)]
mod name;
#[cfg(unix)]
mod platform;
#[cfg(unix)]
mod provider;
#[cfg(unix)]
mod store;
#[cfg(unix)]
mod temporary;
#[cfg(unix)]
mod times;
#[cfg(not(unix))]
mod unsupported;
#[cfg(unix)]
mod walk;

use std::sync::Arc;

use once_cell::sync::OnceCell;

pub use config::{Durability, FileConfig};
#[cfg(unix)]
pub use provider::FileProvider;
#[cfg(not(unix))]
pub use unsupported::FileProvider;

/// Registers the provider under the name `"file"`. Calling it again does nothing.
///
/// # Panics
/// If another provider is registered under that name: the program would not get the store that it asks
/// for.
pub fn init() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        let open =
            |source: &str| Ok(Arc::new(FileProvider::open(FileConfig::parse(source)?)?) as _);
        if let Err(error) = session_core::provider::register("file", open) {
            panic!("{error}");
        }
    });
}
