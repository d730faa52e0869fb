//! The store: the operations on sessions' files.

mod owners;
mod read;
mod write;

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::Mutex;
use rustix::fs::FileType;
use rustix::io::Errno;
use session_core::provider::{Changes, Record, Touch, Verifier};
use session_core::{Error, SessionId, Timestamp};

use crate::directory::Directory;
use crate::disk;
use crate::error::{failed, not_done};
use crate::lock::{Held, Locks, Queued};
use crate::name::{FOLDERS, Name, folder_name};
use crate::platform;
use crate::times::FileTimes;
use crate::walk::Cursor;
use crate::{Durability, FileConfig};
pub(crate) use owners::IndexCursor;

/// An open store. Its functions block.
///
/// A change takes the guard that [`Locks::queue`] returned, and holds the session's lock until the
/// change is visible. It releases the lock before it waits for the disk, so that the next change of the
/// session can share the wait. That is safe: a later change of the session syncs the same folder
/// afterwards, which also covers the earlier change.
pub(crate) struct Store {
    pub(crate) directory: Directory,
    pub(crate) locks: Locks,
    pub(crate) times: FileTimes,
    /// Where the next slice of a collection starts.
    pub(crate) cursor: Mutex<Cursor>,
    /// Identifies this opening of the store.
    pub(crate) token: u64,
    config: FileConfig,
    /// The number of the next temporary file.
    serial: AtomicU64,
    /// Which folders of the owner index are known to be on the disk.
    synced_shards: [AtomicBool; FOLDERS],
}

impl Store {
    pub(crate) fn open(config: FileConfig) -> Result<Self, Error> {
        let directory = Directory::open(&config.path, config.sync == Durability::Full)?;
        let lock_file = directory.lock_file.try_clone().map_err(Error::unavailable)?;
        let mut locks = Locks::open(&directory.root, lock_file)?;
        let token = loop {
            let token = random()?;
            if locks.claim(token)? {
                break token;
            }
        };
        let times = directory.times(&config.path, token)?;
        Ok(Self {
            directory,
            locks,
            times,
            cursor: Mutex::default(),
            token,
            config,
            serial: AtomicU64::new(1),
            synced_shards: [const { AtomicBool::new(false) }; FOLDERS],
        })
    }

    pub(crate) fn config(&self) -> &FileConfig {
        &self.config
    }

    pub(crate) fn create(
        &self,
        queued: Queued,
        name: &Name,
        record: &Record,
        now: Timestamp,
    ) -> Result<(), Error> {
        let held = self.hold(queued)?;
        let folder = self.make_folder(name)?;
        let expired = self.check_free(&folder, name, now)?;
        let temporary = self.write(&folder, record, name)?;
        if let Some(owner) = record.owner() {
            self.add_entry(owner, name)?;
        }
        self.install(temporary, &folder, name, expired)?;
        drop(held);
        self.sync_committed(&folder)
    }

    pub(crate) fn save(
        &self,
        queued: Queued,
        name: &Name,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        let held = self.hold(queued)?;
        let folder = self.open_folder(name)?;
        let mut record = self.read_live(&folder, name, now)?;
        let login = changes.login.as_ref().and_then(Option::as_deref);
        let new_owner = login.map(|login| &*login.owner).filter(|new| record.owner() != Some(new));
        record.apply(holder, changes, now)?;
        let temporary = self.write(&folder, &record, name)?;
        if let Some(owner) = new_owner {
            self.add_entry(owner, name)?;
        }
        self.install(temporary, &folder, name, true)?;
        drop(held);
        self.sync_committed(&folder)
    }

    pub(crate) fn destroy(&self, queued: Queued, name: &Name) -> Result<(), Error> {
        let held = self.hold(queued)?;
        let folder = match self.open_folder(name) {
            Err(Error::Gone) => return Ok(()),
            folder => folder?,
        };
        match disk::unlink(&folder, name.file()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // A directory is not a session, so there is nothing to remove. The error for it differs
            // between systems.
            Err(Errno::ISDIR | Errno::PERM) if self.is_folder(&folder, name)? => {}
            Err(errno) => return Err(not_done("removing a session's file")(errno)),
        }
        drop(held);
        // Also if the file was gone already: the request that removed it may still be waiting for the
        // disk.
        self.sync_committed(&folder)
    }

    /// Moves the last use and the expiry forward. It doesn't wait for the disk, whatever the durability:
    /// after a power cut, the session would only expire somewhat earlier.
    pub(crate) fn touch(
        &self,
        queued: Queued,
        name: &Name,
        touch: Touch,
        now: Timestamp,
    ) -> Result<(), Error> {
        let _held = self.hold(queued)?;
        let folder = self.open_folder(name)?;
        if platform::TOUCHES_IN_PLACE {
            self.touch_in_place(&folder, name, touch, now)
        } else {
            self.touch_anew(&folder, name, touch, now)
        }
    }

    /// Sets the file's times without reading its content.
    fn touch_in_place(
        &self,
        folder: &OwnedFd,
        name: &Name,
        touch: Touch,
        now: Timestamp,
    ) -> Result<(), Error> {
        let stat = match disk::stat_at(folder, name.file()) {
            Err(Errno::NOENT) => return Err(Error::Gone),
            stat => stat.map_err(failed("looking at a session's file"))?,
        };
        let expires = match self.check(&stat, now) {
            Ok(Some(expires)) => expires,
            Ok(None) | Err(Error::Unreadable { .. }) => return Err(Error::Gone),
            Err(error) => return Err(error),
        };
        let used = self.times.used(&stat);
        if used >= touch.used && expires >= touch.expires {
            return Ok(());
        }
        let times = self.times.to_file(used.max(touch.used), expires.max(touch.expires));
        let set = disk::set_times_at(folder, name.file(), &times);
        set.map_err(not_done("setting a session's times"))
    }

    /// Rewrites the file.
    fn touch_anew(
        &self,
        folder: &OwnedFd,
        name: &Name,
        touch: Touch,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut record = self.read_live(folder, name, now)?;
        let before = (record.used, record.expires);
        record.touch(touch, now)?;
        if before == (record.used, record.expires) {
            return Ok(());
        }
        let temporary = self.write(folder, &record, name)?;
        self.install(temporary, folder, name, true)
    }

    fn is_folder(&self, folder: &OwnedFd, name: &Name) -> Result<bool, Error> {
        match disk::stat_at(folder, name.file()) {
            Ok(stat) => Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
            Err(errno) => Err(failed("looking at a session's file")(errno)),
        }
    }

    fn hold(&self, queued: Queued) -> Result<Held<'_>, Error> {
        self.locks.hold(queued)
    }

    /// Opens the folder of a session that is to be changed. If there is none, the session is gone.
    fn open_folder(&self, name: &Name) -> Result<OwnedFd, Error> {
        match disk::open_folder(&self.directory.root, &folder_name(name.folder())) {
            Err(Errno::NOENT) => Err(Error::Gone),
            folder => folder.map_err(failed("opening a folder")),
        }
    }
}

/// Returns a random number for an opening of the store.
fn random() -> Result<u64, Error> {
    let id = SessionId::generate()?;
    let bytes = id.secret().as_bytes().first_chunk().expect("a secret has 20 bytes");
    Ok(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
