//! The operations on files: each system call once, with its flags and what they are for.
//!
//! All go through [`Disk`], so that tests can make any one of them fail. Without faults that is
//! nothing at run time.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use rustix::fs::{self, AtFlags, IFlags, Mode, OFlags, RenameFlags, ResolveFlags, SeekFrom, Stat};
use rustix::io::{self, Errno, ReadWriteFlags};

/// The permissions of a session's file.
pub(crate) const FILE_MODE: u32 = 0o600;
/// The permissions of a directory of the store.
pub(crate) const FOLDER_MODE: u32 = 0o700;

/// The kinds of operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Open,
    Create,
    MakeFolder,
    SpreadFolders,
    Stat,
    SetMode,
    SetTimes,
    Read,
    Write,
    Sync,
    Rename,
    Exchange,
    Unlink,
    List,
    Lock,
}

/// What a test has to say to an operation.
pub(crate) trait Faults: Send + Sync + 'static {
    /// Lets the next operation happen, or makes it fail.
    fn before(&self, _operation: Operation) -> Result<(), Errno> {
        Ok(())
    }

    /// How many of this many bytes the next read or write moves; one at least.
    fn portion(&self, length: usize) -> usize {
        length
    }
}

/// No faults but the disk's own.
pub(crate) struct NoFaults;

impl Faults for NoFaults {}

/// The file system.
pub(crate) struct Disk<F>(pub(crate) F);

impl<F: Faults> Disk<F> {
    /// Does an operation, again if a signal interrupted it.
    fn uninterrupted<T>(
        &self,
        operation: Operation,
        call: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        loop {
            match self.0.before(operation).and_then(|()| call()) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// Opens a directory that is not a symbolic link.
    pub(crate) fn open_folder(&self, dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.uninterrupted(Operation::Open, || fs::openat(&dir, name, flags, Mode::empty()))
    }

    /// Opens a file to read, whatever it is: not through a symbolic link, without waiting for the
    /// other end of a pipe, and without writing the time of access, which a modification time that
    /// lies ahead would bring about at every read.
    pub(crate) fn open_file(&self, dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        self.uninterrupted(Operation::Open, || fs::openat(&dir, name, Self::READ, Mode::empty()))
    }

    const READ: OFlags = OFlags::RDONLY
        .union(OFlags::NOFOLLOW)
        .union(OFlags::NONBLOCK)
        .union(OFlags::NOCTTY)
        .union(OFlags::NOATIME)
        .union(OFlags::CLOEXEC);

    /// Opens a file below a directory as [`open_file`](Self::open_file) does, if the kernel has all
    /// that it needs for that in memory; otherwise [`Errno::AGAIN`].
    pub(crate) fn open_file_cached(&self, dir: impl AsFd, path: &[u8]) -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::CACHED | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        self.uninterrupted(Operation::Open, || {
            fs::openat2(&dir, path, Self::READ, Mode::empty(), resolve)
        })
    }

    /// Makes a file that was not there.
    pub(crate) fn create_file(&self, dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::WRONLY
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        self.uninterrupted(Operation::Create, || fs::openat(&dir, name, flags, mode))
    }

    /// Opens the file that locks are held on; makes it if it is not there.
    pub(crate) fn open_lock_file(&self, dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::NOCTTY
            | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(FILE_MODE);
        self.uninterrupted(Operation::Create, || fs::openat(&dir, name, flags, mode))
    }

    /// Makes a directory, with its mode whatever the umask; [`Errno::EXIST`] if it is there.
    pub(crate) fn make_folder(&self, dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(FOLDER_MODE);
        self.uninterrupted(Operation::MakeFolder, || fs::mkdirat(&dir, name, mode))?;
        self.set_folder_mode(dir, name)
    }

    /// For a folder that is known to be one, in a directory where nobody else may write: it is no
    /// symbolic link.
    pub(crate) fn set_folder_mode(&self, dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(FOLDER_MODE);
        self.uninterrupted(Operation::MakeFolder, || {
            fs::chmodat(&dir, name, mode, AtFlags::empty())
        })
    }

    /// Tells the file system that a directory's folders have nothing to do with each other, so that
    /// those made from now on and their files need not lie together (chattr(1), the attribute `T`).
    pub(crate) fn spread_folders(&self, dir: impl AsFd) -> Result<(), Errno> {
        self.uninterrupted(Operation::SpreadFolders, || {
            let flags = fs::ioctl_getflags(&dir)?;
            match flags.contains(IFlags::TOPDIR) {
                true => Ok(()),
                false => fs::ioctl_setflags(&dir, flags | IFlags::TOPDIR),
            }
        })
    }

    pub(crate) fn stat(&self, file: impl AsFd) -> Result<Stat, Errno> {
        self.uninterrupted(Operation::Stat, || fs::fstat(&file))
    }

    /// What is there under this name, not what a symbolic link points to.
    pub(crate) fn stat_at(&self, dir: impl AsFd, name: &[u8]) -> Result<Stat, Errno> {
        self.uninterrupted(Operation::Stat, || fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW))
    }

    pub(crate) fn set_mode(&self, file: impl AsFd, mode: u32) -> Result<(), Errno> {
        self.uninterrupted(Operation::SetMode, || fs::fchmod(&file, Mode::from_raw_mode(mode)))
    }

    pub(crate) fn set_times(&self, file: impl AsFd, times: &fs::Timestamps) -> Result<(), Errno> {
        self.uninterrupted(Operation::SetTimes, || fs::futimens(&file, times))
    }

    pub(crate) fn set_times_at(
        &self,
        dir: impl AsFd,
        name: &[u8],
        times: &fs::Timestamps,
    ) -> Result<(), Errno> {
        self.uninterrupted(Operation::SetTimes, || {
            fs::utimensat(&dir, name, times, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Fills the buffer from the file's beginning; answers how much of it, less if the file ends.
    pub(crate) fn read(&self, file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        let mut filled = 0;
        while filled < buffer.len() {
            let end = filled + self.0.portion(buffer.len() - filled);
            let result = self
                .0
                .before(Operation::Read)
                .and_then(|()| io::pread(&file, &mut buffer[filled..end], filled as u64));
            match result {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(filled)
    }

    /// Reads the file's beginning if the kernel has it in memory; otherwise [`Errno::AGAIN`], or
    /// another error where the file system can't tell.
    pub(crate) fn read_cached(&self, file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
        self.0.before(Operation::Read)?;
        let end = self.0.portion(buffer.len());
        let mut slices = [IoSliceMut::new(&mut buffer[..end])];
        io::preadv2(&file, &mut slices, 0, ReadWriteFlags::NOWAIT)
    }

    /// Writes all bytes at the file's beginning.
    pub(crate) fn write(&self, file: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
        let mut written = 0;
        while written < bytes.len() {
            let end = written + self.0.portion(bytes.len() - written);
            let result = self
                .0
                .before(Operation::Write)
                .and_then(|()| io::pwrite(&file, &bytes[written..end], written as u64));
            match result {
                // Never seen; without it a file system that does so would keep us here for ever.
                Ok(0) => return Err(Errno::IO),
                Ok(length) => written += length,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Waits until a file or directory is on the disk.
    ///
    /// Not repeated after any error, be it an interruption: the kernel reports a failed write once
    /// and then takes the pages for clean, so that a second fsync succeeds and nothing is there.
    pub(crate) fn sync(&self, file: impl AsFd) -> Result<(), Errno> {
        self.0.before(Operation::Sync)?;
        fs::fsync(file)
    }

    /// Moves a name within a directory or to another one; what had the new name is gone.
    pub(crate) fn rename(
        &self,
        (dir, name): (impl AsFd, &[u8]),
        (new_dir, new_name): (impl AsFd, &[u8]),
    ) -> Result<(), Errno> {
        self.0.before(Operation::Rename)?;
        fs::renameat(dir, name, new_dir, new_name)
    }

    /// Swaps two names of a directory.
    pub(crate) fn exchange(&self, dir: impl AsFd, one: &[u8], two: &[u8]) -> Result<(), Errno> {
        self.0.before(Operation::Exchange)?;
        fs::renameat_with(&dir, one, &dir, two, RenameFlags::EXCHANGE)
    }

    pub(crate) fn unlink(&self, dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
        self.0.before(Operation::Unlink)?;
        fs::unlinkat(dir, name, AtFlags::empty())
    }

    /// Goes to a place in a directory that its listing named.
    pub(crate) fn seek(&self, dir: impl AsFd, place: u64) -> Result<(), Errno> {
        self.uninterrupted(Operation::List, || fs::seek(&dir, SeekFrom::Start(place)))?;
        Ok(())
    }

    /// To be asked before a directory's listing is read on.
    pub(crate) fn list(&self) -> Result<(), Errno> {
        self.uninterrupted(Operation::List, || Ok(()))
    }

    /// Takes the lock on one byte of a file unless another process, or another opening of the file,
    /// has it; tells whether it did.
    ///
    /// The lock belongs to the open file description: it goes when the last process that has it
    /// open dies, and threads and libraries that open the same file don't drop it (fcntl(2), "Open
    /// file description locks").
    pub(crate) fn try_lock(&self, file: impl AsFd, byte: i64) -> Result<bool, Errno> {
        let lock = range(libc::F_WRLCK, byte);
        self.uninterrupted(Operation::Lock, || match fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)) {
            Ok(_) => Ok(true),
            Err(nix::Error::EAGAIN | nix::Error::EACCES) => Ok(false),
            Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
        })
    }

    /// Whether somebody else has the lock on a byte.
    pub(crate) fn is_locked(&self, file: impl AsFd, byte: i64) -> Result<bool, Errno> {
        self.uninterrupted(Operation::Lock, || {
            let mut lock = range(libc::F_WRLCK, byte);
            match fcntl(&file, FcntlArg::F_OFD_GETLK(&mut lock)) {
                Ok(_) => Ok(lock.l_type != libc::F_UNLCK as i16),
                Err(errno) => Err(Errno::from_raw_os_error(errno as i32)),
            }
        })
    }
}

/// Gives back the lock on a byte.
pub(crate) fn unlock(file: impl AsFd, byte: i64) {
    // Splitting a range may need memory; a single byte's lock goes as a whole, which doesn't fail.
    let _ = fcntl(file, FcntlArg::F_OFD_SETLK(&range(libc::F_UNLCK, byte)));
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
