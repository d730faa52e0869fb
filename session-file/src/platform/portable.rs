//! The operations as every Unix has them.

use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, Dir, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::disk;
use crate::faults::Operation;

/// There is no portable flag that keeps reads from updating the time of access.
pub(crate) const READ: OFlags = OFlags::empty();

/// Whether a touch only sets the file's times. It does not here: each read updates the time of access,
/// so a session that is read often would look recently touched, and would never be touched. The file is
/// rewritten instead.
pub(crate) const TOUCHES_IN_PLACE: bool = false;

/// Waits until a file or directory is on the disk.
pub(crate) fn sync(file: impl AsFd) -> Result<(), Errno> {
    // On Apple's systems fsync waits only until the drive has received the data, which may still be lost
    // in a power cut (fsync(2) there).
    #[cfg(target_vendor = "apple")]
    return fs::fcntl_fullfsync(file);
    #[cfg(not(target_vendor = "apple"))]
    fs::fsync(file)
}

/// Always fails, because there is no portable way to tell whether opening would wait for the disk.
pub(crate) fn open_file_cached(_dir: impl AsFd, _path: &[u8]) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// Always fails; see [`open_file_cached`].
pub(crate) fn read_cached(_file: impl AsFd, _buffer: &mut [u8]) -> Result<usize, Errno> {
    Err(Errno::NOSYS)
}

/// Returns `false`, because files can't be swapped portably. The caller renames them.
pub(crate) fn exchange(_dir: impl AsFd, _one: &[u8], _two: &[u8]) -> Result<bool, Errno> {
    Ok(false)
}

/// The prefix of the names of the stripes' lock files.
const STRIPE: &str = "store-1.stripe-";
/// The prefix of the names of the files whose locks show that an opening of the store lives.
const LIFE: &str = "store-1.life-";

/// The locks of an opening of the store. Each is on its own file beside the lock file, which is made
/// when it is first needed.
///
/// A lock (flock(2)) belongs to the open file description, so it is released when the last process that
/// has the description open dies. It covers a whole file, which is opened anew for each lock.
pub(crate) struct Locks {
    root: OwnedFd,
    file: OwnedFd,
    /// The name of the file that shows that this opening lives, and the open file.
    life: Option<(String, OwnedFd)>,
}

/// A lock, released when dropped, as that closes its open file description.
pub(crate) struct Lock<'l> {
    _file: OwnedFd,
    _locks: PhantomData<&'l Locks>,
}

impl Locks {
    /// Opens the locks, and removes files of openings that died.
    pub(crate) fn open(root: &OwnedFd, lock_file: OwnedFd) -> Result<Self, Errno> {
        let root = disk::open_folder(root, b".")?;
        let locks = Self { root, file: lock_file, life: None };
        for entry in Dir::read_from(&locks.root)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if !name.starts_with(LIFE.as_bytes()) {
                continue;
            }
            match locks.unheld(name) {
                // The file stays locked until it is removed, so a process that opened it meanwhile
                // doesn't get the lock.
                Ok(Some(_locked)) => locks.remove(name)?,
                Ok(None) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(locks)
    }

    /// Returns the lock file.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Takes a stripe's lock unless another opening of the store has it.
    pub(crate) fn try_lock(&self, stripe: usize) -> Result<Option<Lock<'_>>, Errno> {
        let file = self.try_file(format!("{STRIPE}{stripe:03x}").as_bytes())?;
        Ok(file.map(|file| Lock { _file: file, _locks: PhantomData }))
    }

    /// Locks this token for as long as these locks are open, which shows other openings that this one
    /// lives. Returns `false` if another opening has the token.
    pub(crate) fn claim(&mut self, token: u64) -> Result<bool, Errno> {
        let name = life(token);
        self.life = self.try_file(name.as_bytes())?.map(|file| (name, file));
        Ok(self.life.is_some())
    }

    /// Returns whether another opening has this token.
    pub(crate) fn lives(&self, token: u64) -> Result<bool, Errno> {
        match self.unheld(life(token).as_bytes()) {
            Ok(file) => Ok(file.is_none()),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Makes and locks a file. Returns `None` if another opening has locked it.
    fn try_file(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let file = self.open_own(name, |name| disk::open_lock_file(&self.root, name))?;
        if !try_flock(&file, FlockOperation::NonBlockingLockExclusive)? {
            return Ok(None);
        }
        let stat = disk::stat(&file)?;
        if disk::mode(&stat) != disk::FILE_MODE {
            disk::set_mode(&file, disk::FILE_MODE)?;
        }
        // A lock on a file that was removed after it was opened excludes nobody, as others make a new
        // file.
        Ok((stat.st_nlink != 0).then_some(file))
    }

    /// Takes a shared lock on a file. Returns `None` if another opening has an exclusive one.
    fn unheld(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let file = self.open_own(name, |name| disk::open_file(&self.root, name))?;
        Ok(try_flock(&file, FlockOperation::NonBlockingLockShared)?.then_some(file))
    }

    /// Opens a file of the store; see [`disk::open_own`].
    fn open_own(
        &self,
        name: &[u8],
        open: impl Fn(&[u8]) -> Result<OwnedFd, Errno>,
    ) -> Result<OwnedFd, Errno> {
        disk::open_own(&self.root, name, disk::FILE_MODE, open)
    }

    fn remove(&self, name: &[u8]) -> Result<(), Errno> {
        match disk::unlink(&self.root, name) {
            Err(Errno::NOENT) => Ok(()),
            result => result,
        }
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        if let Some((name, _)) = &self.life {
            // If this fails, the next opening removes the file.
            let _ = self.remove(name.as_bytes());
        }
    }
}

fn life(token: u64) -> String {
    format!("{LIFE}{token:016x}")
}

fn try_flock(file: &OwnedFd, operation: FlockOperation) -> Result<bool, Errno> {
    disk::uninterrupted(Operation::Lock, || match fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(errno) => Err(errno),
    })
}
