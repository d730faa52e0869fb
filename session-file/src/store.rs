//! A session's operations on the disk, step by step.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use rustix::fs::Stat;
use rustix::io::Errno;
use session_core::{Changes, Error, Record, SessionId, Timestamp};

use crate::directory::{Directory, is_file};
use crate::disk::{Disk, FILE_MODE, Faults, NoFaults};
use crate::error::{failed, in_doubt, not_done, unreadable};
use crate::expiry::Expiries;
use crate::format;
use crate::lock::{Held, Locks, Queued};
use crate::name::{Name, folder_name};
use crate::temporary::Temporary;
use crate::walk::Place;
use crate::{Durability, FileConfig};

/// The largest file that is read where a runtime's worker may be waiting: beyond it, even what is
/// in memory takes time.
const CACHED_BYTES: usize = 64 * 1024;

/// An open store. Its functions block.
///
/// Changes take what [`Locks::queue`] answered and keep it until the change is visible. That it
/// is on the disk is waited for after that, so that the next change of the same session can share
/// the wait: whoever builds on a change that is not on the disk yet waits for a later fsync of the
/// same folder, which covers both.
pub(crate) struct Store<F: Faults = NoFaults> {
    pub(crate) disk: Disk<F>,
    pub(crate) directory: Directory,
    pub(crate) locks: Locks,
    pub(crate) expiries: Expiries,
    /// Where the next slice of the collection starts.
    pub(crate) place: Mutex<Place>,
    /// Tells this opening of the store from all others.
    pub(crate) token: u64,
    config: FileConfig,
    /// The number of the next temporary.
    serial: AtomicU64,
    /// Whether the file system can tell what is in memory, and swap files.
    reads_cached: AtomicBool,
    exchanges: AtomicBool,
}

impl<F: Faults> Store<F> {
    pub(crate) fn open(config: FileConfig, disk: Disk<F>) -> Result<Self, Error> {
        let directory = Directory::open(&disk, &config.path, config.sync == Durability::Full)?;
        let lock_file = directory.lock_file.try_clone().map_err(Error::unavailable)?;
        let locks = Locks::new(lock_file);
        let token = loop {
            let token = random()?;
            if locks.claim(&disk, token)? {
                break token;
            }
        };
        let expiries = directory.expiries(&disk, &config.path, token)?;
        Ok(Self {
            disk,
            directory,
            locks,
            expiries,
            place: Mutex::default(),
            token,
            config,
            serial: AtomicU64::new(1),
            reads_cached: AtomicBool::new(true),
            exchanges: AtomicBool::new(true),
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
        let temporary = self.write(&folder, record, name, None)?;
        self.install(temporary, &folder, name, expired)?;
        drop(held);
        self.settle(&folder)
    }

    /// Answers at once if all that is needed is in memory; `None` if [`load`](Self::load) has to
    /// look.
    pub(crate) fn load_cached(
        &self,
        name: &Name,
        now: Timestamp,
    ) -> Option<Result<Option<Record>, Error>> {
        if !self.reads_cached.load(Ordering::Relaxed) {
            return None;
        }
        let file = match self.disk.open_file_cached(&self.directory.root, name.path()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Some(Ok(None)),
            Err(_) => return None,
        };
        let stat = self.disk.stat(&file).ok()?;
        let length = match self.check(&stat, now) {
            Ok(Some(_)) => stat.st_size as usize,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        if length > CACHED_BYTES {
            return None;
        }
        let mut bytes = vec![0; length];
        match self.disk.read_cached(&file, &mut bytes) {
            Ok(read) if read == length => Some(self.decode(&bytes, name, &stat).map(Some)),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.reads_cached.store(false, Ordering::Relaxed);
                None
            }
            _ => None,
        }
    }

    pub(crate) fn load(&self, name: &Name, now: Timestamp) -> Result<Option<Record>, Error> {
        match self.disk.open_folder(&self.directory.root, &folder_name(name.folder())) {
            Ok(folder) => self.read(&folder, name, now),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(unreadable("its folder is none")),
            Err(errno) => Err(failed("opening a folder")(errno)),
        }
    }

    pub(crate) fn save(
        &self,
        queued: Queued,
        name: &Name,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        let held = self.hold(queued)?;
        let folder = self.open_folder(name)?;
        let mut record = self.read_live(&folder, name, now)?;
        record.apply(changes, now)?;
        let temporary = self.write(&folder, &record, name, None)?;
        self.install(temporary, &folder, name, true)?;
        drop(held);
        self.settle(&folder)
    }

    /// Moves a record to a new id.
    ///
    /// Two steps, of which the second is the move. First the file is replaced by one that may be
    /// read under both ids; then it is moved from the old name to the new one, which file systems
    /// do as a whole. So after a crash the session is there under exactly one id. Copying to the
    /// new name and removing the old one would leave a moment with two sessions, or with none.
    pub(crate) fn rename(
        &self,
        queued: Queued,
        name: &Name,
        new_name: &Name,
        now: Timestamp,
    ) -> Result<(), Error> {
        let held = self.hold(queued)?;
        let folder = self.open_folder(name)?;
        let record = self.read_live(&folder, name, now)?;
        let new_folder = self.make_folder(new_name)?;
        if name == new_name {
            return Err(Error::Exists);
        }
        self.check_free(&new_folder, new_name, now)?;
        let temporary = self.write(&folder, &record, name, Some(new_name))?;
        self.install(temporary, &folder, name, true)?;
        let moved = self.disk.rename((&folder, name.file()), (&new_folder, new_name.file()));
        moved.map_err(not_done("moving a session's file"))?;
        drop(held);
        self.settle(&new_folder)?;
        self.settle(&folder)
    }

    pub(crate) fn destroy(&self, queued: Queued, name: &Name) -> Result<(), Error> {
        let held = self.hold(queued)?;
        let folder = match self.open_folder(name) {
            Err(Error::Gone) => return Ok(()),
            folder => folder?,
        };
        match self.disk.unlink(&folder, name.file()) {
            // A directory is not a session, and was none before.
            Ok(()) | Err(Errno::NOENT | Errno::ISDIR) => {}
            Err(errno) => return Err(not_done("removing a session's file")(errno)),
        }
        drop(held);
        // Also where it was gone: whoever removed it may still be waiting for the disk.
        self.settle(&folder)
    }

    /// Moves the expiry. Not waited for, whatever the durability: after a power cut the session
    /// would end somewhat earlier.
    pub(crate) fn touch(
        &self,
        queued: Queued,
        name: &Name,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<(), Error> {
        let _held = self.hold(queued)?;
        let folder = self.open_folder(name)?;
        let stat = match self.disk.stat_at(&folder, name.file()) {
            Err(Errno::NOENT) => return Err(Error::Gone),
            stat => stat.map_err(failed("looking at a session's file"))?,
        };
        match self.check(&stat, now) {
            Ok(Some(stored)) if stored >= expires => return Ok(()),
            Ok(Some(_)) => {}
            Ok(None) | Err(Error::Unreadable { .. }) => return Err(Error::Gone),
            Err(error) => return Err(error),
        }
        let times = self.expiries.to_file(expires);
        let set = self.disk.set_times_at(&folder, name.file(), &times);
        set.map_err(not_done("setting a session's expiry"))
    }

    fn hold(&self, queued: Queued) -> Result<Held<'_>, Error> {
        self.locks.hold(&self.disk, queued)
    }

    /// The folder of a session that is to be changed; without one it is gone.
    fn open_folder(&self, name: &Name) -> Result<OwnedFd, Error> {
        match self.disk.open_folder(&self.directory.root, &folder_name(name.folder())) {
            Err(Errno::NOENT) => Err(Error::Gone),
            folder => folder.map_err(failed("opening a folder")),
        }
    }

    /// The folder of a session that is to be stored. All were made when the store was opened, but
    /// what cleans up directories for temporary files removes empty ones.
    fn make_folder(&self, name: &Name) -> Result<OwnedFd, Error> {
        match self.open_folder(name) {
            Err(Error::Gone) => {}
            folder => return folder,
        }
        match self.disk.make_folder(&self.directory.root, &folder_name(name.folder())) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("making a folder")(errno)),
        }
        self.settle(&self.directory.root)?;
        match self.open_folder(name) {
            Err(Error::Gone) => Err(failed("opening a folder")(Errno::NOENT)),
            folder => folder,
        }
    }

    /// Whether a name has an expired record; an error if it has anything else.
    fn check_free(&self, folder: &OwnedFd, name: &Name, now: Timestamp) -> Result<bool, Error> {
        match self.disk.stat_at(folder, name.file()) {
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("looking at a session's file")(errno)),
            Ok(stat) => match self.check(&stat, now) {
                Ok(None) => Ok(true),
                // What can't be read is somebody's, and ids that meet by chance don't exist.
                Ok(Some(_)) | Err(_) => Err(Error::Exists),
            },
        }
    }

    /// The expiry of a live record, going by its file's metadata; `None` if it is expired.
    pub(crate) fn check(&self, stat: &Stat, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        if !is_file(stat) {
            return Err(unreadable("it is no regular file"));
        }
        if stat.st_uid != self.directory.user {
            return Err(unreadable("it belongs to another user"));
        }
        if stat.st_mode & 0o7777 != FILE_MODE {
            return Err(unreadable("its mode is not 600"));
        }
        let Some(expires) = self.expiries.of_file(stat) else {
            return Err(unreadable("its expiry is out of range"));
        };
        if expires <= now {
            return Ok(None);
        }
        match usize::try_from(stat.st_size) {
            Ok(length) if length > self.config.max_bytes => {
                Err(unreadable("it is larger than max_bytes"))
            }
            Ok(length) if length >= format::HEADER => Ok(Some(expires)),
            _ => Err(unreadable("it is cut short")),
        }
    }

    fn read(&self, folder: &OwnedFd, name: &Name, now: Timestamp) -> Result<Option<Record>, Error> {
        let file = match self.disk.open_file(folder, name.file()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(unreadable("it is a symbolic link")),
            Err(Errno::NXIO | Errno::NODEV) => return Err(unreadable("it is no regular file")),
            Err(Errno::PERM | Errno::ACCESS) => return Err(unreadable("it may not be read")),
            Err(errno) => return Err(failed("opening a session's file")(errno)),
        };
        let stat = self.disk.stat(&file).map_err(failed("looking at a session's file"))?;
        if self.check(&stat, now)?.is_none() {
            return Ok(None);
        }
        // Checked: no more than max_bytes.
        let mut bytes = vec![0; stat.st_size as usize];
        let read = self.disk.read(&file, &mut bytes);
        let length = read.map_err(failed("reading a session's file"))?;
        self.decode(&bytes[..length], name, &stat).map(Some)
    }

    fn decode(&self, bytes: &[u8], name: &Name, stat: &Stat) -> Result<Record, Error> {
        let expires = self.expiries.of_file(stat).unwrap_or_default();
        format::decode(bytes, name.digest(), expires).map_err(unreadable)
    }

    /// The record that a change builds on.
    fn read_live(&self, folder: &OwnedFd, name: &Name, now: Timestamp) -> Result<Record, Error> {
        match self.read(folder, name, now) {
            Ok(Some(record)) => Ok(record),
            Ok(None) | Err(Error::Unreadable { .. }) => Err(Error::Gone),
            Err(error) => Err(error),
        }
    }

    /// Writes a record to a temporary in the folder.
    fn write<'t>(
        &'t self,
        folder: &'t OwnedFd,
        record: &Record,
        name: &Name,
        next: Option<&Name>,
    ) -> Result<Temporary<'t, F>, Error> {
        if format::encoded_len(record) > self.config.max_bytes {
            return Err(Error::TooLarge {
                what: "bytes of a session's file",
                limit: self.config.max_bytes,
            });
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = Temporary::create(&self.disk, folder, self.token, serial)?;
        let bytes = format::encode(record, name.digest(), next.map(Name::digest));
        let times = self.expiries.to_file(record.expires);
        temporary.fill(&bytes, &times, self.config.sync == Durability::Full)?;
        Ok(temporary)
    }

    /// Gives a temporary the session's name, all at once for whoever reads.
    fn install(
        &self,
        temporary: Temporary<'_, F>,
        folder: &OwnedFd,
        name: &Name,
        replaces: bool,
    ) -> Result<(), Error> {
        let doing = "installing a session's file";
        // Ext4 writes a file to the disk before it is renamed over another one. That is for
        // programs that forget to sync; here it costs more than all the rest of a save that is
        // meant not to wait. Files that are swapped are left alone.
        if replaces
            && self.config.sync == Durability::None
            && self.exchanges.load(Ordering::Relaxed)
        {
            match self.disk.exchange(folder, temporary.name(), name.file()) {
                // Dropped, it removes the old record's file.
                Ok(()) => return Ok(()),
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                    self.exchanges.store(false, Ordering::Relaxed);
                }
                Err(errno) => return Err(not_done(doing)(errno)),
            }
        }
        let renamed = self.disk.rename((folder, temporary.name()), (folder, name.file()));
        renamed.map_err(not_done(doing))?;
        temporary.moved_away();
        Ok(())
    }

    /// Waits until a change of a directory is on the disk, if it is to.
    fn settle(&self, directory: impl AsFd) -> Result<(), Error> {
        match self.config.sync {
            Durability::Full => self.disk.sync(directory).map_err(in_doubt("syncing a folder")),
            Durability::None => Ok(()),
        }
    }
}

/// A number that no other opening of a store has.
fn random() -> Result<u64, Error> {
    let id = SessionId::generate()?;
    let (bytes, _) = id.as_bytes().split_first_chunk().expect("an id has 32 bytes");
    Ok(u64::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests;
