//! What every Unix can do.

use std::marker::PhantomData;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, Dir, FlockOperation, OFlags};
use rustix::io::Errno;

use crate::disk;
use crate::faults::Operation;

/// How reading could leave the time of access alone.
pub(crate) const READ: OFlags = OFlags::empty();

/// Whether a touch can be the file's times. Each read moves the time of access, and a session that is read
/// often would look as if it had just been touched, and never be: the file is written anew.
pub(crate) const TOUCHES_IN_PLACE: bool = false;

/// Waits until a file or directory is on the disk.
pub(crate) fn sync(file: impl AsFd) -> Result<(), Errno> {
    // On Apple's systems fsync waits until the disk has what was written, not until it would keep
    // that through a power cut (fsync(2) there).
    #[cfg(target_vendor = "apple")]
    return fs::fcntl_fullfsync(file);
    #[cfg(not(target_vendor = "apple"))]
    fs::fsync(file)
}

/// Never opens a file: whether the kernel would have to wait for the disk can't be told.
pub(crate) fn open_file_cached(_dir: impl AsFd, _path: &[u8]) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

/// Never reads.
pub(crate) fn read_cached(_file: impl AsFd, _buffer: &mut [u8]) -> Result<usize, Errno> {
    Err(Errno::NOSYS)
}

/// Never swaps files: they are renamed.
pub(crate) fn exchange(_dir: impl AsFd, _one: &[u8], _two: &[u8]) -> Result<bool, Errno> {
    Ok(false)
}

/// How the files begin whose locks keep the changes of a stripe apart.
const STRIPE: &str = "store-1.stripe-";
/// How the files begin whose locks show that an opening of the store lives.
const LIFE: &str = "store-1.life-";

/// The locks of an opening of the store: each on a file of its own beside the lock file, made when
/// it is wanted first.
///
/// A lock (flock(2)) belongs to the open file description, so it goes when the last process that
/// has it open dies. It is for a whole file, which is opened anew for each lock.
pub(crate) struct Locks {
    root: OwnedFd,
    file: OwnedFd,
    /// The file that shows that this opening lives, with its name.
    life: Option<(String, OwnedFd)>,
}

/// A lock, given back when dropped: with the last handle of its open file description.
pub(crate) struct Lock<'l> {
    _file: OwnedFd,
    _locks: PhantomData<&'l Locks>,
}

impl Locks {
    /// Opens them, and removes what openings left that died.
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
                // Locked until it is gone: who opened it meanwhile doesn't get the lock.
                Ok(Some(_locked)) => locks.remove(name)?,
                Ok(None) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(locks)
    }

    /// The lock file.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Takes a stripe's lock unless another opening of the store has it.
    pub(crate) fn try_lock(&self, stripe: usize) -> Result<Option<Lock<'_>>, Errno> {
        let file = self.try_file(format!("{STRIPE}{stripe:03x}").as_bytes())?;
        Ok(file.map(|file| Lock { _file: file, _locks: PhantomData }))
    }

    /// Shows other openings that the one with this token lives, for as long as these locks are open;
    /// `false` if another one shows it.
    pub(crate) fn claim(&mut self, token: u64) -> Result<bool, Errno> {
        let name = life(token);
        self.life = self.try_file(name.as_bytes())?.map(|file| (name, file));
        Ok(self.life.is_some())
    }

    /// Whether another opening has this token.
    pub(crate) fn lives(&self, token: u64) -> Result<bool, Errno> {
        match self.unheld(life(token).as_bytes()) {
            Ok(file) => Ok(file.is_none()),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    /// Makes and locks a file unless somebody else has locked it.
    fn try_file(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let file = self.open_own(name, |name| disk::open_lock_file(&self.root, name))?;
        if !try_flock(&file, FlockOperation::NonBlockingLockExclusive)? {
            return Ok(None);
        }
        let stat = disk::stat(&file)?;
        if disk::mode(&stat) != disk::FILE_MODE {
            disk::set_mode(&file, disk::FILE_MODE)?;
        }
        // One that was removed after it was opened keeps nobody out: others have another one.
        Ok((stat.st_nlink != 0).then_some(file))
    }

    /// Locks a file together with others who look at it; `None` if somebody has it alone.
    fn unheld(&self, name: &[u8]) -> Result<Option<OwnedFd>, Errno> {
        let file = self.open_own(name, |name| disk::open_file(&self.root, name))?;
        Ok(try_flock(&file, FlockOperation::NonBlockingLockShared)?.then_some(file))
    }

    /// Opens a file of ours; see [`disk::open_own`].
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
            // What stays is removed by the next opening.
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
