//! The operations that need Linux.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{self, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::{self, Errno, ReadWriteFlags};

use crate::disk;
use crate::faults::{Operation, before, portion};

/// Reads don't update the time of access. Otherwise each read would, as the modification time lies in
/// the future.
pub(crate) const READ: OFlags = OFlags::NOATIME;

/// Whether a touch only sets the file's times. It does here, because reads don't change the time of
/// access.
pub(crate) const TOUCHES_IN_PLACE: bool = true;

/// Waits until a file or directory is on the disk.
pub(crate) fn sync(file: impl AsFd) -> Result<(), Errno> {
    fs::fsync(file)
}

/// Opens a file below a directory to read if the kernel needs no disk access for that; otherwise returns
/// [`Errno::AGAIN`], or another error if the kernel can't tell.
pub(crate) fn open_file_cached(dir: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    disk::uninterrupted(Operation::Open, || {
        fs::openat2(&dir, path, disk::READ, Mode::empty(), resolve)
    })
}

/// Reads the file's beginning if the kernel has it in memory; otherwise returns [`Errno::AGAIN`], or
/// another error if the file system can't tell.
pub(crate) fn read_cached(file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    before(Operation::Read)?;
    let end = portion(buffer.len());
    let mut slices = [IoSliceMut::new(&mut buffer[..end])];
    io::preadv2(&file, &mut slices, 0, ReadWriteFlags::NOWAIT)
}

/// Swaps the files of two names in a directory. Returns `false` if the file system can't.
///
/// For replacing a file without waiting for the disk: when a file is renamed over another one, ext4
/// first writes it to the disk, for programs that forget to sync. It doesn't do that for swapped files.
pub(crate) fn exchange(dir: impl AsFd, one: &[u8], two: &[u8]) -> Result<bool, Errno> {
    let swapped = before(Operation::Exchange)
        .and_then(|()| fs::renameat_with(&dir, one, &dir, two, RenameFlags::EXCHANGE));
    match swapped {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// The offset in the lock file of the bytes that show which openings of the store live.
const LIVES: i64 = 1 << 62;

/// The locks of an opening of the store, each on one byte of the lock file.
///
/// A lock belongs to the open file description. It is released when the last process that has the
/// description open dies, and not when threads or libraries open and close the same file (fcntl(2),
/// "Open file description locks").
pub(crate) struct Locks {
    file: OwnedFd,
}

/// A lock on a byte, released when dropped.
pub(crate) struct Lock<'l> {
    file: &'l OwnedFd,
    byte: i64,
}

impl Locks {
    pub(crate) fn open(_root: &OwnedFd, lock_file: OwnedFd) -> Result<Self, Errno> {
        Ok(Self { file: lock_file })
    }

    /// Returns the lock file.
    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Takes a stripe's lock unless another opening of the store has it.
    pub(crate) fn try_lock(&self, stripe: usize) -> Result<Option<Lock<'_>>, Errno> {
        let byte = stripe as i64;
        Ok(self.try_byte(byte)?.then_some(Lock { file: &self.file, byte }))
    }

    /// Locks this token for as long as these locks are open, which shows other openings that this one
    /// lives. Returns `false` if another opening has the token.
    pub(crate) fn claim(&mut self, token: u64) -> Result<bool, Errno> {
        self.try_byte(life(token))
    }

    /// Returns whether another opening has this token.
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
        // Unlocking can fail only if it splits a locked range, which needs memory. This lock is one
        // byte.
        let _ = fcntl(self.file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, self.byte)));
    }
}

fn life(token: u64) -> i64 {
    // The highest offset can't be locked, because a lock's end must be representable too.
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
