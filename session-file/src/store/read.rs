//! Reading sessions' files, and what their metadata says.

use std::os::fd::OwnedFd;

use rustix::fs::Stat;
use rustix::io::Errno;
use session_core::provider::Record;
use session_core::{Error, Timestamp};

use super::Store;
use crate::directory::is_file;
use crate::disk::{self, FILE_MODE};
use crate::error::{failed, unreadable};
use crate::format;
use crate::name::{Name, folder_name};
use crate::platform;

/// The largest file that is read where a runtime's worker may be waiting: beyond it, even what is
/// in memory takes time.
const CACHED_BYTES: usize = 64 * 1024;

impl Store {
    /// Returns the answer at once if all that is needed is in memory and the platform can tell;
    /// `None` if [`load`](Self::load) has to look.
    pub(crate) fn load_cached(
        &self,
        name: &Name,
        now: Timestamp,
    ) -> Option<Result<Option<Record>, Error>> {
        let file = match platform::open_file_cached(&self.directory.root, name.path()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Some(Ok(None)),
            Err(_) => return None,
        };
        let stat = disk::stat(&file).ok()?;
        let length = match self.check(&stat, now) {
            Ok(Some(_)) => stat.st_size as usize,
            Ok(None) => return Some(Ok(None)),
            Err(error) => return Some(Err(error)),
        };
        if length > CACHED_BYTES {
            return None;
        }
        let mut bytes = vec![0; length];
        match platform::read_cached(&file, &mut bytes) {
            Ok(read) if read == length => Some(self.decode(&bytes, name, &stat).map(Some)),
            _ => None,
        }
    }

    pub(crate) fn load(&self, name: &Name, now: Timestamp) -> Result<Option<Record>, Error> {
        match disk::open_folder(&self.directory.root, &folder_name(name.folder())) {
            Ok(folder) => self.read(&folder, name, now),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => Err(unreadable("its folder is none")),
            Err(errno) => Err(failed("opening a folder")(errno)),
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
        if disk::mode(stat) != FILE_MODE {
            return Err(unreadable("its mode is not 600"));
        }
        let Some(expires) = self.times.expires(stat) else {
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
        let file = match disk::open_file(folder, name.file()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(unreadable("it is a symbolic link")),
            Err(Errno::NXIO | Errno::NODEV | Errno::OPNOTSUPP) => {
                return Err(unreadable("it is no regular file"));
            }
            Err(Errno::PERM | Errno::ACCESS) => return Err(unreadable("it may not be read")),
            Err(errno) => return Err(failed("opening a session's file")(errno)),
        };
        let stat = disk::stat(&file).map_err(failed("looking at a session's file"))?;
        if self.check(&stat, now)?.is_none() {
            return Ok(None);
        }
        // Checked: no more than max_bytes.
        let mut bytes = vec![0; stat.st_size as usize];
        let read = disk::read(&file, &mut bytes);
        let length = read.map_err(failed("reading a session's file"))?;
        self.decode(&bytes[..length], name, &stat).map(Some)
    }

    fn decode(&self, bytes: &[u8], name: &Name, stat: &Stat) -> Result<Record, Error> {
        let expires = self.times.expires(stat).unwrap_or_default();
        let mut record = format::decode(bytes, name.key(), expires).map_err(unreadable)?;
        if platform::TOUCHES_IN_PLACE {
            record.used = record.used.max(self.times.used(stat));
        }
        Ok(record)
    }

    /// The record that a change builds on.
    pub(super) fn read_live(
        &self,
        folder: &OwnedFd,
        name: &Name,
        now: Timestamp,
    ) -> Result<Record, Error> {
        match self.read(folder, name, now) {
            Ok(Some(record)) => Ok(record),
            Ok(None) | Err(Error::Unreadable { .. }) => Err(Error::Gone),
            Err(error) => Err(error),
        }
    }

    /// Whether a name has an expired record; an error if it has anything else.
    pub(super) fn check_free(
        &self,
        folder: &OwnedFd,
        name: &Name,
        now: Timestamp,
    ) -> Result<bool, Error> {
        match disk::stat_at(folder, name.file()) {
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("looking at a session's file")(errno)),
            Ok(stat) => match self.check(&stat, now) {
                Ok(None) => Ok(true),
                // What can't be read is somebody's, and keys don't meet by chance.
                Ok(Some(_)) | Err(_) => Err(Error::Exists),
            },
        }
    }
}
