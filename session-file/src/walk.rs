//! Counting and collecting: walks over all sessions that open none.

use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;
use session_core::{Error, Purged, Timestamp};

use crate::directory::is_file;
use crate::disk::Faults;
use crate::error::failed;
use crate::name::{FOLDERS, Name, folder_name};
use crate::store::Store;
use crate::temporary::maker;

/// How many files a slice of the collection looks at: a few milliseconds' worth.
const SLICE: usize = 4096;

/// The bytes of a listing that are read at a time.
const LISTING: usize = 16 * 1024;

/// Where a walk is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Place {
    folder: usize,
    /// The place within the folder's listing, as the file system names it.
    entry: u64,
}

/// Whether a walk goes on.
enum Then {
    Continue,
    Stop,
}

impl<F: Faults> Store<F> {
    /// The number of live records. Looks at each file's metadata.
    pub(crate) fn count(&self, now: Timestamp) -> Result<u64, Error> {
        let mut live = 0;
        self.walk(&mut Place::default(), |folder, number, file| {
            if Name::read(number, file).is_some() {
                match self.disk.stat_at(folder, file) {
                    Ok(stat) => live += u64::from(matches!(self.check(&stat, now), Ok(Some(_)))),
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(failed("looking at a session's file")(errno)),
                }
            }
            Ok(Then::Continue)
        })?;
        Ok(live)
    }

    /// Removes expired records and stray temporaries in a slice of the store.
    pub(crate) fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let mut place = self.place.lock();
        let mut removed = 0;
        let mut looked_at = 0;
        // The last temporary's maker that was found dead: strays of one process come together.
        let mut dead = None;
        let ended = self.walk(&mut place, |folder, number, file| {
            looked_at += 1;
            if let Some(name) = Name::read(number, file) {
                removed += usize::from(self.remove_expired(folder, &name, now)?);
            } else if let Some(token) = maker(file)
                && token != self.token
                && (dead == Some(token) || !self.locks.lives(&self.disk, token)?)
            {
                dead = Some(token);
                self.remove(folder, file)?;
            }
            let enough = removed >= limit || looked_at >= SLICE;
            Ok(if enough { Then::Stop } else { Then::Continue })
        })?;
        if ended {
            *place = Place::default();
        }
        Ok(Purged { removed, more: !ended })
    }

    /// Hands every regular file from a place on to `visit`; tells whether the walk came to its end,
    /// and leaves in `place` where to go on otherwise, be it after an error.
    fn walk(
        &self,
        place: &mut Place,
        mut visit: impl FnMut(&OwnedFd, usize, &[u8]) -> Result<Then, Error>,
    ) -> Result<bool, Error> {
        let doing = "listing a folder";
        let mut buffer = [MaybeUninit::uninit(); LISTING];
        while place.folder < FOLDERS {
            let opened = self.disk.open_folder(&self.directory.root, &folder_name(place.folder));
            match opened {
                Ok(folder) => {
                    if place.entry != 0 {
                        self.disk.seek(&folder, place.entry).map_err(failed(doing))?;
                    }
                    let mut entries = RawDir::new(&folder, &mut buffer);
                    loop {
                        if entries.is_buffer_empty() {
                            self.disk.list().map_err(failed(doing))?;
                        }
                        let Some(entry) = entries.next() else { break };
                        let entry = entry.map_err(failed(doing))?;
                        place.entry = entry.next_entry_cookie();
                        // Whatever else is there is none of ours, and is left alone.
                        let may_be_file =
                            matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown);
                        let file = entry.file_name().to_bytes();
                        if may_be_file && matches!(visit(&folder, place.folder, file)?, Then::Stop)
                        {
                            return Ok(false);
                        }
                    }
                }
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => return Err(failed("opening a folder")(errno)),
            }
            *place = Place { folder: place.folder + 1, entry: 0 };
        }
        Ok(true)
    }

    /// Removes a file if it is expired, and tells whether it was. Whatever its content: what can't
    /// be read goes, too, when its time has come.
    fn remove_expired(&self, folder: &OwnedFd, name: &Name, now: Timestamp) -> Result<bool, Error> {
        let is_expired = || match self.disk.stat_at(folder, name.file()) {
            Ok(stat) => Ok(is_file(&stat)
                && self.expiries.of_file(&stat).is_some_and(|expires| expires <= now)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("looking at a session's file")(errno)),
        };
        if !is_expired()? {
            return Ok(false);
        }
        // A session that somebody is changing is in use; and if not, it is found the next time.
        let Some(queued) = self.locks.try_queue(name) else { return Ok(false) };
        let Some(_held) = self.locks.try_hold(&self.disk, queued)? else { return Ok(false) };
        // Looked at again: until now it could be changed.
        Ok(is_expired()? && self.remove(folder, name.file())?)
    }

    fn remove(&self, folder: &OwnedFd, file: &[u8]) -> Result<bool, Error> {
        match self.disk.unlink(folder, file) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("removing a file")(errno)),
        }
    }
}
