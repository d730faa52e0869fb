//! The file operations that are the same on all systems: one function for each system call, with its
//! flags. Those that differ are in [`platform`].

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{self, AtFlags, Dir, Mode, OFlags, Stat};
use rustix::io::{self, Errno};

use crate::faults::{Operation, before, portion};
use crate::platform;

/// The permissions of a session's file.
pub(crate) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// The permissions of the store's directory and its folders.
pub(crate) const FOLDER_MODE: Mode = Mode::RWXU;

/// The flags for opening a file of any kind to read: symbolic links are not followed, and opening a pipe
/// doesn't wait for its other end.
pub(crate) const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC)
    .union(platform::READ);

/// Performs an operation, and repeats it if a signal interrupted it.
pub(crate) fn uninterrupted<T>(
    operation: Operation,
    call: impl Fn() -> Result<T, Errno>,
) -> Result<T, Errno> {
    loop {
        match before(operation).and_then(|()| call()) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Opens a directory that is not a symbolic link.
pub(crate) fn open_folder(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    uninterrupted(Operation::Open, || fs::openat(&dir, name, flags, Mode::empty()))
}

/// Opens a folder of the store; makes it if it is missing. Returns whether it was missing.
pub(crate) fn open_or_make_folder(
    dir: impl AsFd + Copy,
    name: &[u8],
) -> Result<(OwnedFd, bool), Errno> {
    match open_own_folder(dir, name) {
        Err(Errno::NOENT) => {}
        opened => return opened.map(|folder| (folder, false)),
    }
    match make_folder(dir, name) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    open_own_folder(dir, name).map(|folder| (folder, true))
}

/// Opens a folder of the store; see [`open_own`].
pub(crate) fn open_own_folder(dir: impl AsFd + Copy, name: &[u8]) -> Result<OwnedFd, Errno> {
    open_own(dir, name, FOLDER_MODE, |name| open_folder(dir, name))
}

/// Opens a file or folder of the store. If a strict umask removed its permissions, they are set first:
/// the process that made it was killed before it set the mode, or is about to set it.
pub(crate) fn open_own(
    dir: impl AsFd,
    name: &[u8],
    mode: Mode,
    open: impl Fn(&[u8]) -> Result<OwnedFd, Errno>,
) -> Result<OwnedFd, Errno> {
    match open(name) {
        Err(Errno::ACCESS) => {
            set_mode_at(dir, name, mode)?;
            open(name)
        }
        opened => opened,
    }
}

/// Opens a file to read; see [`READ`].
pub(crate) fn open_file(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    uninterrupted(Operation::Open, || fs::openat(&dir, name, READ, Mode::empty()))
}

/// Makes a new file; [`Errno::EXIST`] if there is one.
pub(crate) fn create_file(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::EXCL
        | OFlags::NOFOLLOW
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    uninterrupted(Operation::Create, || fs::openat(&dir, name, flags, FILE_MODE))
}

/// Opens a lock file; makes it if it is missing.
pub(crate) fn open_lock_file(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDWR
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    uninterrupted(Operation::Create, || fs::openat(&dir, name, flags, FILE_MODE))
}

/// Makes a directory and sets its mode, whatever the umask; [`Errno::EXIST`] if there is one.
pub(crate) fn make_folder(dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    uninterrupted(Operation::MakeFolder, || fs::mkdirat(&dir, name, FOLDER_MODE))?;
    set_mode_at(dir, name, FOLDER_MODE)
}

/// Sets the mode of a file or folder of the store. It is known not to be a symbolic link, as nobody else
/// may write to its directory.
pub(crate) fn set_mode_at(dir: impl AsFd, name: &[u8], mode: Mode) -> Result<(), Errno> {
    uninterrupted(Operation::SetMode, || fs::chmodat(&dir, name, mode, AtFlags::empty()))
}

pub(crate) fn set_mode(file: impl AsFd, mode: Mode) -> Result<(), Errno> {
    uninterrupted(Operation::SetMode, || fs::fchmod(&file, mode))
}

pub(crate) fn stat(file: impl AsFd) -> Result<Stat, Errno> {
    uninterrupted(Operation::Stat, || fs::fstat(&file))
}

/// Returns the metadata of a name; for a symbolic link, those of the link itself.
pub(crate) fn stat_at(dir: impl AsFd, name: &[u8]) -> Result<Stat, Errno> {
    uninterrupted(Operation::Stat, || fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW))
}

/// Returns a file's permissions.
pub(crate) fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode)
}

pub(crate) fn set_times(file: impl AsFd, times: &fs::Timestamps) -> Result<(), Errno> {
    uninterrupted(Operation::SetTimes, || fs::futimens(&file, times))
}

pub(crate) fn set_times_at(
    dir: impl AsFd,
    name: &[u8],
    times: &fs::Timestamps,
) -> Result<(), Errno> {
    uninterrupted(Operation::SetTimes, || {
        fs::utimensat(&dir, name, times, AtFlags::SYMLINK_NOFOLLOW)
    })
}

/// Fills the buffer from the file's beginning. Returns the number of bytes read, which is less than the
/// buffer's if the file ends before.
pub(crate) fn read(file: impl AsFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        let end = filled + portion(buffer.len() - filled);
        let result = before(Operation::Read)
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

/// Writes all bytes at the file's beginning.
pub(crate) fn write(file: impl AsFd, bytes: &[u8]) -> Result<(), Errno> {
    let mut written = 0;
    while written < bytes.len() {
        let end = written + portion(bytes.len() - written);
        let result = before(Operation::Write)
            .and_then(|()| io::pwrite(&file, &bytes[written..end], written as u64));
        match result {
            // This has never been seen. Without this check, a file system that does it would cause an
            // endless loop.
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
/// It is not repeated after an error, not even after an interruption: the kernel reports a failed write
/// once and then marks the pages as clean, so a second fsync would succeed although the data are not on
/// the disk.
pub(crate) fn sync(file: impl AsFd) -> Result<(), Errno> {
    before(Operation::Sync)?;
    platform::sync(file)
}

/// Renames a file, within a directory or to another one. A file that had the new name is removed.
pub(crate) fn rename(
    (dir, name): (impl AsFd, &[u8]),
    (new_dir, new_name): (impl AsFd, &[u8]),
) -> Result<(), Errno> {
    before(Operation::Rename)?;
    fs::renameat(dir, name, new_dir, new_name)
}

pub(crate) fn unlink(dir: impl AsFd, name: &[u8]) -> Result<(), Errno> {
    before(Operation::Unlink)?;
    fs::unlinkat(dir, name, AtFlags::empty())
}

/// Removes a directory if it is empty. Returns whether it is gone.
pub(crate) fn remove_folder(dir: impl AsFd, name: &[u8]) -> Result<bool, Errno> {
    before(Operation::RemoveFolder)?;
    match fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        // The error for a directory that isn't empty differs between systems.
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Starts to list an open directory.
pub(crate) fn list(dir: OwnedFd) -> Result<Dir, Errno> {
    before(Operation::List)?;
    Dir::new(dir)
}
