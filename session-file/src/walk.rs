//! Counting and collecting: walks over all sessions that open none.

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

/// How many files a slice of the collection looks at: a few milliseconds' worth.
const SLICE: usize = 4096;

/// Where a walk is.
#[derive(Default)]
pub(crate) struct Cursor {
    folder: usize,
    /// The folder's listing, if it has begun. Kept open, it remembers by itself where it is, which is
    /// the only way to stop and go on within a folder that all systems have.
    listing: Option<Dir>,
    /// Where in the index of owners, which follows the sessions.
    index: IndexCursor,
}

impl Store {
    /// The number of live records. Looks at each file's metadata.
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

    /// Removes expired records and stray temporaries, then what is stale in the index of owners, in a slice
    /// of the store.
    pub(crate) fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let mut cursor = self.cursor.lock();
        let mut removed = 0;
        let mut looked_at = 0;
        // The last temporary's maker that was found dead: strays of one process come together.
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

    /// Hands every regular file from a place on to `visit`; tells whether the walk came to its end,
    /// and leaves in `place` where to go on otherwise, be it after an error.
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
                // Whatever else is there is none of ours, and is left alone.
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

    /// Begins to list a folder; `None` if there is none.
    fn enter(&self, folder: usize) -> Result<Option<Dir>, Error> {
        match disk::open_folder(&self.directory.root, &folder_name(folder)) {
            Ok(folder) => disk::list(folder).map(Some).map_err(failed("listing a folder")),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(failed("opening a folder")(errno)),
        }
    }

    /// Removes a file if it is expired, and tells whether it was. Whatever its content: what can't
    /// be read goes, too, when its time has come.
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

    /// Removes something if the session's state is such, and nobody is changing it. Tells whether it was
    /// removed.
    pub(crate) fn remove_if(
        &self,
        name: &Name,
        condition: impl Fn() -> Result<bool, Error>,
        remove: impl FnOnce() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        if !condition()? {
            return Ok(false);
        }
        // A session that somebody is changing is in use; and if not, it is found the next time.
        let Some(queued) = self.locks.try_queue(name) else { return Ok(false) };
        let Some(_held) = self.locks.try_hold(queued)? else { return Ok(false) };
        // Looked at again: until now it could be changed.
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
