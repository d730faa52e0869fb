//! Sessions in files: the [`session_core`] provider named `"file"`.
//!
//! They survive the process and, by default, the power cut: for one machine with one or many
//! processes that share a directory on a local file system of Linux or macOS. On other systems the
//! crate compiles, and opening the provider is an [`Error::Config`](session_core::Error::Config).
//!
//! # Source string
//! `name=value` pairs joined by `&`, percent-encoded:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `path` | required | the directory: absolute, there already, and used for nothing else |
//! | `sync` | `full` | `full`: what is acknowledged survives a power cut; `none`: it survives the process |
//! | `max_bytes` | 1,048,576 (1 MiB) | the largest file of a session; see [`FileConfig::max_bytes`] |
//!
//! The directory belongs to the user who runs the program and can't be written by others; it is
//! given mode 0700. One that is missing, is somebody else's, can be written by others or is reached
//! through a symbolic link is refused.
//!
//! ```no_run
//! session_file::init();
//! let manager = session_core::Manager::open("file", "path=/var/lib/app/sessions")?;
//! # Ok::<(), session_core::Error>(())
//! ```
//!
//! # Operation
//! - A session is one file. Its path is the session's key in hexadecimal: two digits name the folder, 22 the
//!   file. Its modification time is the expiry, so back up and copy with modification times preserved
//!   (`cp -a`, `rsync -t`, `tar`).
//! - Whoever can read the directory sees keys, values, owners and labels, and no secret: a file has the
//!   digest of its session's secret, so no id can be made from it. `encrypted+file` (crate `session-cookie`)
//!   encrypts values, owners and labels.
//! - A save writes a new file and gives it the old one's name, so values, a login and a new id arrive
//!   together or not at all, whenever the process is killed. Of a file that a killed process left half
//!   written, the next collection gets rid.
//! - On Linux a touch sets the file's times and nothing else, and the time of access is the last use: what
//!   reads the file without `O_NOATIME`, a backup for instance, looks like a use, which is harmless. On macOS a
//!   touch writes the file anew.
//! - `count` looks at every file's metadata, and so does a round of collection: about a microsecond
//!   each, and a few more in a collection for each session that has an owner. With millions of sessions
//!   choose a longer `gc_every`.
//! - A file that can't be read, because it is damaged, not a regular file, not the user's own or not
//!   of mode 0600, is no session; it is left where it is until its time has come.
//! - A disk without space is [`Error::Full`](session_core::Error::Full). A write that failed leaves the old
//!   value as it was.
//! - With `sync=full`, changes that are made at the same time wait for the disk at the same time,
//!   each on its own file, and the kernel writes for all of them at once; a thread waits for each.
//! - Disk work runs on the threads of the crate `blocking`, which the process shares with whatever
//!   else uses that crate: 500 at most unless the variable `BLOCKING_MAX_THREADS` says otherwise.
//! - With `sync=none`, a power cut may take a session as a whole, if it was written in the last
//!   half minute or so, or leave it out of its owner's list, if the owner logged in then. All processes
//!   that share a directory should have the same `sync`.
//! - The folder `owners` is the index for `list`: a folder for each owner who has sessions, named by a
//!   digest of the owner, and in it an empty file for each session. A login makes that file before it
//!   writes the session, with `sync=full` on the disk; saves by the same owner, touches, and sessions
//!   without an owner have no cost there. Back it up together with the sessions: a session without its
//!   empty file is not listed.
//! - A session that ends, or gets another owner, leaves its file in the index. The next list of that owner
//!   removes it; once the session is gone, a collection does, too.
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
/// If something else was registered under that name before: the program would not get the store
/// it asks for.
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
