//! What only Linux can do.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{self, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{self, Errno, ReadWriteFlags};

use crate::disk;
use crate::faults::{Operation, before, portion};

/// Reading doesn't write the time of access, which it would do each time, as the modification time
/// lies ahead.
pub(crate) const READ: OFlags = OFlags::NOATIME;

/// Whether a touch can be the file's times: reading leaves the time of access alone.
pub(crate) const TOUCHES_IN_PLACE: bool = true;

/// Waits until a file or directory is on the disk.
pub(crate) fn sync(file: impl AsFd) -> Result<(), Errno> {
    fs::fsync(file)
}

/// Opens a file below a directory to read, if the kernel has all that it needs for that in memory;
/// otherwise [`Errno::AGAIN`], or another error where the kernel can't tell.
pub(crate) fn open_file_cached(dir: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    disk::uninterrupted(Operation::Open, || {
        fs::openat2(&dir, path, disk::READ, Mode::empty(), resolve)
    })
}

/// Reads the file's beginning if the kernel has it in memory; otherwise [`Errno::AGAIN`], or another
/// error where the file system can't tell.
pub(crate) fn read_cached(file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    before(Operation::Read)?;
    let end = portion(buffer.len());
    let mut slices = [IoSliceMut::new(&mut buffer[..end])];
    io::preadv2(&file, &mut slices, 0, ReadWriteFlags::NOWAIT)
}

/// Swaps two names of a directory; `false` where the file system can't.
///
/// For replacing a file that nobody waits for: ext4 writes a file to the disk before it is renamed
/// over another one, for programs that forget to sync. Files that are swapped are left alone.
pub(crate) fn exchange(dir: impl AsFd, one: &[u8], two: &[u8]) -> Result<bool, Errno> {
    let swapped = before(Operation::Exchange)
        .and_then(|()| fs::renameat_with(&dir, one, &dir, two, RenameFlags::EXCHANGE));
    match swapped {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Where in the lock file the bytes begin that processes hold for as long as they have the store
/// open.
const LIVES: i64 = 1 << 62;

/// The locks of an opening of the store: on single bytes of the lock file.
///
/// A lock belongs to the open file description: it goes when the last process that has it open
/// dies, and threads and libraries that open the same file don't drop it (fcntl(2), "Open file
/// description locks").
pub(crate) struct Locks {
    file: OwnedFd,
}

/// A lock on a byte, given back when dropped.
pub(crate) struct Lock<'l> {
    file: &'l OwnedFd,
    byte: i64,
}

impl Locks {
    pub(crate) fn open(_root: &OwnedFd, lock_file: OwnedFd) -> Result<Self, Errno> {
        Ok(Self { file: lock_file })
    }

    /// The lock file.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Takes a stripe's lock unless another opening of the store has it.
    pub(crate) fn try_lock(&self, stripe: usize) -> Result<Option<Lock<'_>>, Errno> {
        let byte = stripe as i64;
        Ok(self.try_byte(byte)?.then_some(Lock { file: &self.file, byte }))
    }

    /// Shows other openings that the one with this token lives, for as long as these locks are open;
    /// `false` if another one shows it.
    pub(crate) fn claim(&mut self, token: u64) -> Result<bool, Errno> {
        self.try_byte(life(token))
    }

    /// Whether another opening has this token.
    pub(crate) fn lives(&self, token: u64) -> Result<bool, Errno> {
        disk::uninterrupted(Operation::Lock, || {
            let mut lock = range(libc::F_WRLCK, life(token));
            match fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut lock)) {
                Ok(_) => Ok(lock.l_type != libc::F_UNLCK as i16),
                Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
            }
        })
    }

    fn try_byte(&self, byte: i64) -> Result<bool, Errno> {
        let lock = range(libc::F_WRLCK, byte);
        disk::uninterrupted(Operation::Lock, || {
            match fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock)) {
                Ok(_) => Ok(true),
                Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
                Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
            }
        })
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        // Splitting a range may need memory; a single byte's lock goes as a whole, which doesn't
        // fail.
        let _ = fcntl(self.file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, self.byte)));
    }
}

fn life(token: u64) -> i64 {
    // The last byte of a file has no end that could be locked up to.
    LIVES + (token & (u64::MAX >> 3)) as i64
}

fn range(kind: libc::c_int, byte: i64) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: byte,
        l_len: 1,
        l_pid: 0,
    }
}
