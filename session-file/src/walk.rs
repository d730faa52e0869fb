//! Counting and collecting: walks over all sessions' files that open none.

use std::ops::ControlFlow;
use std::os::fd::BorrowedFd;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;
use session_core::provider::Purged;
use session_core::{Error, Timestamp};

use crate::directory::is_file;
use crate::disk;
use crate::error::failed;
use crate::name::{FOLDERS, Name, folder_name};
use crate::store::{IndexCursor, Store};
use crate::temporary::maker;

/// How many files a slice of a collection looks at, which takes a few milliseconds.
const SLICE: usize = 4096;

/// The position of a walk.
#[derive(Default)]
pub(crate) struct Cursor {
    folder: usize,
    /// The folder's listing, if it has begun. It stays open and remembers its position, which is the
    /// only portable way to stop and continue within a folder.
    listing: Option<Dir>,
    /// The position in the owner index, which is walked after the sessions.
    index: IndexCursor,
}

impl Store {
    /// Counts the live records. Reads each file's metadata.
    pub(crate) fn count(&self, now: Timestamp) -> Result<u64, Error> {
        let mut live = 0;
        self.walk(&mut Cursor::default(), |folder, number, file| {
            if Name::read(number, file).is_some() {
                match disk::stat_at(folder, file) {
                    Ok(stat) => live += u64::from(matches!(self.check(&stat, now), Ok(Some(_)))),
                    Err(Errno::NOENT) => {}
                    Err(errno) => return Err(failed("looking at a session's file")(errno)),
                }
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(live)
    }

    /// Removes expired records and abandoned temporary files, then stale entries of the owner index, in
    /// one slice of the store.
    pub(crate) fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let mut cursor = self.cursor.lock();
        let mut removed = 0;
        let mut looked_at = 0;
        // The last maker that was found dead, because files of one process are usually adjacent.
        let mut dead = None;
        let ended = self.walk(&mut cursor, |folder, number, file| {
            looked_at += 1;
            if let Some(name) = Name::read(number, file) {
                removed += usize::from(self.remove_expired(folder, &name, now)?);
            } else if let Some(token) = maker(file)
                && token != self.token
                && (dead == Some(token) || !self.locks.lives(token)?)
            {
                dead = Some(token);
                self.remove(folder, file)?;
            }
            let enough = removed >= limit || looked_at >= SLICE;
            Ok(if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let mut trimmed = 0;
        let ended = ended
            && self.collect_entries(&mut cursor.index, |is_removed| {
                looked_at += 1;
                trimmed += usize::from(is_removed);
                let enough = trimmed >= limit || looked_at >= SLICE;
                if enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        if ended {
            *cursor = Cursor::default();
        }
        Ok(Purged { removed, more: !ended })
    }

    /// Calls `visit` for every regular file from the cursor on. Returns whether the walk reached the
    /// end. Otherwise, also after an error, the cursor is where to continue.
    fn walk(
        &self,
        cursor: &mut Cursor,
        mut visit: impl FnMut(BorrowedFd<'_>, usize, &[u8]) -> Result<ControlFlow<()>, Error>,
    ) -> Result<bool, Error> {
        let doing = "listing a folder";
        while cursor.folder < FOLDERS {
            if cursor.listing.is_none() {
                cursor.listing = self.enter(cursor.folder)?;
            }
            while let Some(listing) = &mut cursor.listing
                && let Some(entry) = listing.read()
            {
                let entry = entry.map_err(failed(doing))?;
                // Anything else is not the store's, and is left alone.
                if !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
                    continue;
                }
                let folder = listing.fd().map_err(failed(doing))?;
                let file = entry.file_name().to_bytes();
                if visit(folder, cursor.folder, file)?.is_break() {
                    return Ok(false);
                }
            }
            (cursor.folder, cursor.listing) = (cursor.folder + 1, None);
        }
        Ok(true)
    }

    /// Starts to list a folder. Returns `None` if there is none.
    fn enter(&self, folder: usize) -> Result<Option<Dir>, Error> {
        match disk::open_folder(&self.directory.root, &folder_name(folder)) {
            Ok(folder) => disk::list(folder).map(Some).map_err(failed("listing a folder")),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(failed("opening a folder")(errno)),
        }
    }

    /// Removes a file if it is expired. Returns whether it was removed. The content doesn't matter: a
    /// file that can't be read is removed when it has expired, too.
    fn remove_expired(
        &self,
        folder: BorrowedFd<'_>,
        name: &Name,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let is_expired =
            || match disk::stat_at(folder, name.file()) {
                Ok(stat) => Ok(is_file(&stat)
                    && self.times.expires(&stat).is_some_and(|expires| expires <= now)),
                Err(Errno::NOENT) => Ok(false),
                Err(errno) => Err(failed("looking at a session's file")(errno)),
            };
        self.remove_if(name, is_expired, || self.remove(folder, name.file()))
    }

    /// Calls `remove` if `condition` holds and nobody is changing the session. Returns whether something
    /// was removed.
    pub(crate) fn remove_if(
        &self,
        name: &Name,
        condition: impl Fn() -> Result<bool, Error>,
        remove: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        if !condition()? {
            return Ok(false);
        }
        // A session that is being changed is in use. If it is not, the next collection finds it.
        let Some(queued) = self.locks.try_queue(name) else { return Ok(false) };
        let Some(_held) = self.locks.try_hold(queued)? else { return Ok(false) };
        // The condition is checked again, because the session could change until the lock was taken.
        Ok(condition()? && remove()?)
    }

    fn remove(&self, folder: BorrowedFd<'_>, file: &[u8]) -> Result<bool, Error> {
        match disk::unlink(folder, file) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(failed("removing a file")(errno)),
        }
    }
}
