//! The owner index: the sessions of each owner.
//!
//! A session with an owner has an entry in the owner's folder: an empty file that is named by the
//! session's key. The entry is made under the session's lock, before the record that names the owner is
//! written. It is removed under the same lock if the session is gone or has another owner. So a session
//! never lacks its entry, even if a process is killed at any point. An entry alone proves nothing: a
//! reader also looks at the session's record.

use std::collections::BinaryHeap;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{Dir, FileType};
use rustix::io::Errno;
use session_core::provider::{Listed, Page};
use session_core::{Error, Timestamp};

use super::Store;
use crate::directory::{OWNERS, is_file};
use crate::disk::{self, FILE_MODE};
use crate::error::failed;
use crate::name::{Name, OwnerName, folder_name};

/// Attempts to make an entry. Each attempt but the last one met another process that was just removing
/// the owner's empty folder.
const TRIES: usize = 100;

const ADDING: &str = "making an entry in the owner index";
const LISTING: &str = "listing the owner index";

impl Store {
    /// Makes the entry of a session, whose lock is held, in its owner's folder. With `sync=full` it waits
    /// until the entry is on the disk, because the record that names the owner is written next.
    pub(super) fn add_entry(&self, owner: &str, name: &Name) -> Result<(), Error> {
        let owner = OwnerName::of(owner);
        for _ in 0..TRIES {
            match self.try_add_entry(&owner, name) {
                Err(Errno::NOENT) => {}
                added => return added.map_err(failed(ADDING)),
            }
        }
        Err(failed(ADDING)(Errno::NOENT))
    }

    /// Makes an entry. Returns [`Errno::NOENT`] if its folder was removed meanwhile.
    fn try_add_entry(&self, owner: &OwnerName, name: &Name) -> Result<(), Errno> {
        let root = &self.directory.root;
        let (owners, is_new) = disk::open_or_make_folder(root, OWNERS)?;
        if is_new {
            self.sync(root)?;
        }
        let (shard, is_new) = disk::open_or_make_folder(&owners, &folder_name(owner.shard()))?;
        let is_synced = &self.synced_shards[owner.shard()];
        if is_new || !is_synced.load(Ordering::Relaxed) {
            self.sync(&owners)?;
            is_synced.store(true, Ordering::Relaxed);
        }
        let (folder, _) = disk::open_or_make_folder(&shard, owner.folder())?;
        let (file, is_new) = self.make_entry(&folder, &name.entry())?;
        // The folder's name is synced as well, because the process that made it may not have done so
        // yet, or was killed before.
        let file = file.map_or(Ok(()), |file| self.sync(file));
        let synced = file.and_then(|()| self.sync(&folder)).and_then(|()| self.sync(&shard));
        if synced.is_err() && is_new {
            // After a failed sync, the kernel treats the data as written. The next attempt has to begin
            // anew.
            let _ = disk::unlink(&folder, &name.entry());
            let _ = disk::remove_folder(&shard, owner.folder());
        }
        synced
    }

    /// Makes an entry's file, or opens the existing one. Returns whether it was made.
    fn make_entry(&self, folder: &OwnedFd, entry: &[u8]) -> Result<(Option<OwnedFd>, bool), Errno> {
        match disk::create_file(folder, entry) {
            Ok(file) => {
                disk::set_mode(&file, FILE_MODE)?;
                Ok((Some(file), true))
            }
            // Anything else with this name serves as well, because the content isn't read.
            Err(Errno::EXIST) if !is_file(&disk::stat_at(folder, entry)?) => Ok((None, false)),
            Err(Errno::EXIST) => {
                let open = |entry: &[u8]| disk::open_file(folder, entry);
                Ok((Some(disk::open_own(folder, entry, FILE_MODE, open)?), false))
            }
            Err(errno) => Err(errno),
        }
    }

    /// Lists a page of an owner's sessions, and removes the stale entries on it.
    pub(crate) fn list(&self, owner: &str, page: Page, now: Timestamp) -> Result<Listed, Error> {
        let owner_name = OwnerName::of(owner);
        let opened = self.open_owner(&owner_name).map_err(failed("opening an owner's folder"))?;
        let Some((shard, folder)) = opened else { return Ok(Listed::default()) };
        let mut listing = disk::list(folder).map_err(failed(LISTING))?;
        let size = page.size();
        // One more than the page holds, to tell whether another page follows.
        let mut first = BinaryHeap::with_capacity(size + 2);
        while let Some(entry) = listing.read() {
            let entry = entry.map_err(failed(LISTING))?;
            let name = Name::read_entry(entry.file_name().to_bytes());
            if let Some(key) = name.map(|name| name.key()).filter(|key| Some(*key) > page.after) {
                first.push(key);
                if first.len() > size + 1 {
                    first.pop();
                }
            }
        }
        let folder = listing.fd().map_err(failed(LISTING))?;
        let mut keys = first.into_sorted_vec();
        let next = page.cut(&mut keys, |key| Some(*key));

        let mut sessions = Vec::with_capacity(keys.len());
        for key in &keys {
            let name = Name::of(*key);
            match self.load(&name, now) {
                Ok(Some(record)) if record.owner() == Some(owner) => {
                    sessions.extend(record.summary(*key));
                }
                Ok(_) => {
                    let is_stale = || match self.load(&name, now)? {
                        Some(record) => Ok(record.owner() != Some(owner)),
                        // An expired session may still be live by another process's clock.
                        None => self.is_gone(&name),
                    };
                    // A failure doesn't matter for the list, and a collection reports what can't be
                    // removed.
                    let _ = self.remove_stale_entry(folder, &name, is_stale);
                }
                // An unreadable file is not a session.
                Err(Error::Unreadable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if next.is_none() && sessions.is_empty() {
            let _ = disk::remove_folder(&shard, owner_name.folder());
        }
        Ok(Listed { sessions, next })
    }

    /// Opens an owner's folder and its parent. Returns `None` if the owner has none.
    fn open_owner(&self, owner: &OwnerName) -> Result<Option<(OwnedFd, OwnedFd)>, Errno> {
        let open = || {
            let owners = disk::open_own_folder(&self.directory.root, OWNERS)?;
            let shard = disk::open_own_folder(&owners, &folder_name(owner.shard()))?;
            let folder = disk::open_own_folder(&shard, owner.folder())?;
            Ok((shard, folder))
        };
        match open() {
            Err(Errno::NOENT) => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// Removes an entry if it is stale and nobody is changing its session. Returns whether it was
    /// removed.
    fn remove_stale_entry(
        &self,
        folder: BorrowedFd<'_>,
        name: &Name,
        is_stale: impl Fn() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        self.remove_if(name, is_stale, || {
            // The session's removal or new owner must be on the disk before its entry is removed.
            // Otherwise a power cut could bring the session back without the entry.
            match self.open_folder(name) {
                Ok(folder) => self.sync(folder).map_err(failed("syncing a folder"))?,
                Err(Error::Gone) => {}
                Err(error) => return Err(error),
            }
            match disk::unlink(folder, &name.entry()) {
                Ok(()) => Ok(true),
                // It is gone already, or it is a directory with such a name.
                Err(Errno::NOENT | Errno::ISDIR | Errno::PERM) => Ok(false),
                Err(errno) => Err(failed("removing an entry of the owner index")(errno)),
            }
        })
    }

    /// Returns whether a session's file is missing.
    fn is_gone(&self, name: &Name) -> Result<bool, Error> {
        let folder = match self.open_folder(name) {
            Err(Error::Gone) => return Ok(true),
            folder => folder?,
        };
        match disk::stat_at(&folder, name.file()) {
            Ok(_) => Ok(false),
            Err(Errno::NOENT) => Ok(true),
            Err(errno) => Err(failed("looking at a session's file")(errno)),
        }
    }
}

/// The position of a walk over the index.
#[derive(Default)]
pub(crate) struct IndexCursor {
    began: bool,
    /// The open listings: of the folder `owners`, of a folder in it, and of an owner's folder.
    listings: Vec<Listing>,
}

/// A folder that is being listed.
struct Listing {
    dir: Dir,
    name: Vec<u8>,
    /// Whether everything in the folder so far was removed.
    is_empty: bool,
}

impl Store {
    /// Removes entries of sessions that are gone, and owners' folders without entries, from the cursor
    /// on, until `look` breaks. `look` is called for each thing, with whether it was removed. Returns
    /// whether the walk reached the end.
    ///
    /// It only checks whether a session's file exists. If a session got another owner, its former
    /// owner's entry is removed when the session is gone, or earlier by a list of the former owner.
    pub(crate) fn collect_entries(
        &self,
        cursor: &mut IndexCursor,
        mut look: impl FnMut(bool) -> ControlFlow<()>,
    ) -> Result<bool, Error> {
        if !cursor.began {
            cursor.listings.extend(enter(&self.directory.root, OWNERS)?);
            cursor.began = true;
        }
        while let depth = cursor.listings.len()
            && let Some(listing) = cursor.listings.last_mut()
        {
            let Some(entry) = listing.dir.read() else {
                self.leave(cursor)?;
                continue;
            };
            let entry = entry.map_err(failed(LISTING))?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let folder = listing.dir.fd().map_err(failed(LISTING))?;
            let (mut inner, mut removed) = (None, false);
            // Anything else is not the store's, and is left alone.
            match depth {
                1 if OwnerName::is_shard(name) => inner = enter(folder, name)?,
                2 if OwnerName::is_folder(name) => inner = enter(folder, name)?,
                3 if matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) => {
                    if let Some(name) = Name::read_entry(name) {
                        removed = self.remove_stale_entry(folder, &name, || self.is_gone(&name))?;
                    }
                }
                _ => {}
            }
            listing.is_empty &= removed;
            cursor.listings.extend(inner);
            if look(removed).is_break() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Closes a finished listing, and removes the folder of an owner without entries.
    fn leave(&self, cursor: &mut IndexCursor) -> Result<(), Error> {
        let Some(left) = cursor.listings.pop() else { return Ok(()) };
        if let [_, shard] = &cursor.listings[..]
            && left.is_empty
        {
            let shard = shard.dir.fd().map_err(failed(LISTING))?;
            let removed = disk::remove_folder(shard, &left.name);
            removed.map_err(failed("removing an owner's folder"))?;
        }
        Ok(())
    }
}

/// Starts to list a folder of the index. Returns `None` if it was removed or is not the store's.
fn enter(dir: impl AsFd + Copy, name: &[u8]) -> Result<Option<Listing>, Error> {
    let folder = match disk::open_own_folder(dir, name) {
        Ok(folder) => folder,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => {
            return Ok(None);
        }
        Err(errno) => return Err(failed("opening a folder of the owner index")(errno)),
    };
    let dir = disk::list(folder).map_err(failed(LISTING))?;
    Ok(Some(Listing { dir, name: name.to_owned(), is_empty: true }))
}
