//! Reading sessions' files and their metadata.

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

/// The largest file that is read on the caller's thread, which may be a runtime's worker. Reading more
/// takes too long, even from memory.
const CACHED_BYTES: usize = 64 * 1024;

impl Store {
    /// Loads a record if everything needed is in memory and the platform can tell. Otherwise returns
    /// `None`, and the caller has to use [`load`](Self::load).
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
            Err(Errno::NOTDIR | Errno::LOOP) => Err(unreadable("its folder is not a directory")),
            Err(errno) => Err(failed("opening a folder")(errno)),
        }
    }

    /// Returns the expiry of a record according to its file's metadata; `None` if it is expired.
    pub(crate) fn check(&self, stat: &Stat, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        if !is_file(stat) {
            return Err(unreadable("it is not a regular file"));
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
                return Err(unreadable("it is not a regular file"));
            }
            Err(Errno::PERM | Errno::ACCESS) => {
                return Err(unreadable("it can't be opened by this user"));
            }
            Err(errno) => return Err(failed("opening a session's file")(errno)),
        };
        let stat = disk::stat(&file).map_err(failed("looking at a session's file"))?;
        if self.check(&stat, now)?.is_none() {
            return Ok(None);
        }
        // The size was checked: it is at most max_bytes.
        let mut bytes = vec![0; stat.st_size as usize];
        let read = disk::read(&file, &mut bytes);
        let length = read.map_err(failed("reading a session's file"))?;
        self.decode(&bytes[..length], name, &stat).map(Some)
    }

    fn decode(&self, bytes: &[u8], name: &Name, stat: &Stat) -> Result<Record, Error> {
        let expires = self.times.expires(stat).unwrap_or_default();
        let mut record = format::decode(bytes, name.key(), expires)?;
        if platform::TOUCHES_IN_PLACE {
            record.used = record.used.max(self.times.used(stat));
        }
        Ok(record)
    }

    /// Reads the record that a change builds on.
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

    /// Returns whether a name has an expired record. Fails if it has anything else.
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
                // An unreadable file may be a session, and random keys don't collide by chance.
                Ok(Some(_)) | Err(_) => Err(Error::Exists),
            },
        }
    }
}
