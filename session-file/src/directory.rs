//! The store's directory: its layout, and the checks when it is opened.
//!
//! ```text
//! DIR                     0700
//! ├── store-1.lock        0600, empty: locks between processes; marks DIR as a store
//! ├── store-1.life-TOKEN  0600, empty: locked while an opening of the store lives (portable way)
//! ├── store-1.stripe-N    0600, empty: locks between processes (portable way)
//! ├── 00                  0700
//! ├── ..
//! ├── ff
//! │   ├── 0a1b...         0600, a session
//! │   └── .new-TOKEN-N    0600, a session that is being written
//! └── owners              0700, the owner index; its content is made when it is needed
//!     └── 2c              0700
//!         └── 3d4e...     0700, an owner: the rest of the digest that begins with 2c
//!             └── ff0a1b... 0600, empty: a session that the owner has or had
//! ```

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path};

use rustix::fs::{self, FileType, Mode, OFlags, Stat, Timespec};
use rustix::io::Errno;
use session_core::Error;

use crate::disk::{self, FILE_MODE, FOLDER_MODE};
use crate::error::failed;
use crate::name::{FOLDERS, folder_name};
use crate::temporary::Temporary;
use crate::times::{FileTimes, LAST_SECOND, modified};

/// The name has the version of the whole layout, so another layout will have another lock file.
const LOCK_FILE: &str = "store-1.lock";

/// The folder of the owner index.
pub(crate) const OWNERS: &[u8] = b"owners";

/// The lock file of the previous layout.
const OLD_LOCK_FILE: &str = "format-1.lock";

/// An open directory that passed the checks.
pub(crate) struct Directory {
    pub(crate) root: OwnedFd,
    pub(crate) lock_file: OwnedFd,
    /// The user who owns everything in the directory.
    pub(crate) user: u32,
}

impl Directory {
    /// Opens the directory and makes missing files and folders in it.
    pub(crate) fn open(path: &Path, sync: bool) -> Result<Self, Error> {
        let root = follow(path)?;
        let user = rustix::process::geteuid().as_raw();
        let stat = disk::stat(&root).map_err(failed("looking at the directory"))?;
        if stat.st_uid != user {
            return Err(refused(
                path,
                format_args!(
                    "belongs to user {}, but the process runs as user {user}",
                    stat.st_uid
                ),
            ));
        }
        if disk::mode(&stat).intersects(Mode::WGRP | Mode::WOTH) {
            return Err(refused(path, "can be written by other users; run chmod 700 on it"));
        }
        if disk::stat_at(&root, OLD_LOCK_FILE.as_bytes()).is_ok() {
            return Err(refused(
                path,
                "holds sessions in the format of an earlier version, which can't be read; empty it, or \
                 choose another directory",
            ));
        }
        if disk::mode(&stat) != FOLDER_MODE {
            // The mode of a directory that has only sessions may be changed, that of another one may
            // not.
            if !is_store_or_empty(&root).map_err(failed("reading the directory"))? {
                return Err(refused(
                    path,
                    "holds other files and can be read by other users; run chmod 700 on it, or choose \
                     another directory",
                ));
            }
            disk::set_mode(&root, FOLDER_MODE).map_err(failed("setting the directory's mode"))?;
        }

        let opened = disk::open_lock_file(&root, LOCK_FILE.as_bytes());
        let lock_file = match opened {
            Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => {
                return Err(refused(
                    path,
                    "has a lock file that is not a regular file of this user",
                ));
            }
            opened => opened.map_err(failed("opening the lock file"))?,
        };
        let stat = disk::stat(&lock_file).map_err(failed("looking at the lock file"))?;
        if !is_file(&stat) || stat.st_uid != user {
            return Err(refused(path, "has a lock file that is not a regular file of this user"));
        }
        if disk::mode(&stat) != FILE_MODE {
            disk::set_mode(&lock_file, FILE_MODE)
                .map_err(failed("setting the lock file's mode"))?;
        }

        let directory = Self { root, lock_file, user };
        directory.make_folders(path)?;
        if sync {
            disk::sync(&directory.root).map_err(failed("syncing the directory"))?;
        }
        Ok(directory)
    }

    fn make_folders(&self, path: &Path) -> Result<(), Error> {
        for folder in 0..FOLDERS {
            self.make_folder(path, &folder_name(folder))?;
        }
        self.make_folder(path, OWNERS)
    }

    fn make_folder(&self, path: &Path, name: &[u8]) -> Result<(), Error> {
        match disk::make_folder(&self.root, name) {
            Ok(()) => return Ok(()),
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(failed("making a folder")(errno)),
        }
        let stat = disk::stat_at(&self.root, name).map_err(failed("looking at a folder"))?;
        let mode = disk::mode(&stat);
        let is_ours = FileType::from_raw_mode(stat.st_mode) == FileType::Directory
            && stat.st_uid == self.user
            && FOLDER_MODE.contains(mode);
        if !is_ours {
            let name = name.escape_ascii();
            return Err(refused(
                path,
                format_args!("contains {name}, which is not a folder of this user with mode 700"),
            ));
        }
        if mode != FOLDER_MODE {
            // A process made the folder under a strict umask and was killed before it set the mode, or
            // is about to set it.
            disk::set_mode_at(&self.root, name, FOLDER_MODE).map_err(failed("opening a folder"))?;
        }
        Ok(())
    }

    /// Finds out which range of times the file system can store.
    pub(crate) fn times(&self, path: &Path, token: u64) -> Result<FileTimes, Error> {
        let doing = "finding out which times the file system can store";
        let folder = disk::open_folder(&self.root, &folder_name(0)).map_err(failed(doing))?;
        let probe = Temporary::create(&folder, token, 0)?;
        let kept = |time| {
            probe.set_times(&modified(time))?;
            disk::stat(probe.file()).map_err(failed(doing))
        };
        let stat = kept(Timespec { tv_sec: 1_600_000_000, tv_nsec: 123_000_000 })?;
        if (stat.st_mtime, stat.st_mtime_nsec) != (1_600_000_000, 123_000_000) {
            return Err(refused(
                path,
                "is on a file system that does not store modification times to the millisecond",
            ));
        }
        let last = kept(Timespec { tv_sec: LAST_SECOND, tv_nsec: 0 })?;
        Ok(FileTimes::up_to(last.st_mtime))
    }
}

/// Opens a directory component by component, so that no symbolic link is followed.
fn follow(path: &Path) -> Result<OwnedFd, Error> {
    if !path.is_absolute() {
        return Err(refused(path, "is relative; write an absolute path"));
    }
    let mut components = path.components();
    components.next();
    let mut at = open_root().map_err(failed("opening the root directory"))?;
    for component in components {
        let name = match component {
            Component::Normal(name) if !name.as_bytes().contains(&0) => name.as_bytes(),
            _ => return Err(refused(path, "has `..` or NUL in its path; write it without")),
        };
        at = match disk::open_folder(&at, name) {
            Ok(next) => next,
            Err(Errno::NOENT) => {
                return Err(refused(path, "is missing; make it, with mode 700, for this user"));
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let stat = disk::stat_at(&at, name).map_err(failed("looking at the directory"))?;
                return Err(match FileType::from_raw_mode(stat.st_mode) {
                    FileType::Symlink => {
                        refused(path, "is reached through a symbolic link; write the real path")
                    }
                    _ => refused(path, "is not a directory"),
                });
            }
            Err(Errno::ACCESS) => return Err(refused(path, "can't be opened by this user")),
            Err(Errno::NAMETOOLONG) => return Err(refused(path, "is too long")),
            Err(errno) => return Err(failed("opening the directory")(errno)),
        };
    }
    Ok(at)
}

fn open_root() -> Result<OwnedFd, Errno> {
    fs::open("/", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn refused(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::config(format_args!("the directory {} {why}", path.display()))
}

/// Returns whether a directory is a store or is empty. What `mkfs` leaves in a new file system doesn't
/// count.
fn is_store_or_empty(root: &OwnedFd) -> Result<bool, Errno> {
    let mut empty = true;
    for entry in fs::Dir::read_from(root)? {
        match entry?.file_name().to_bytes() {
            b"." | b".." | b"lost+found" => {}
            name if name == LOCK_FILE.as_bytes() => return Ok(true),
            _ => empty = false,
        }
    }
    Ok(empty)
}

pub(crate) fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}
