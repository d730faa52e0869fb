//! The index of owners: which sessions an owner has.
//!
//! A session with an owner has an entry in the owner's folder, an empty file that is named by the session's
//! key. The entry is made under the session's lock, before the record that names the owner is there; it is
//! removed under that lock, where the session is gone or has another owner. So a session never lacks its
//! entry, whenever a process is killed. An entry alone says nothing: whoever reads one looks at the session's
//! record, too.

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

/// How often an entry is tried to be made. Each try but the last one met somebody who removed the owner's
/// folder just then, because it was empty.
const TRIES: usize = 100;

const ADDING: &str = "making an entry in the index of owners";
const LISTING: &str = "listing the index of owners";

impl Store {
    /// Makes an owner's entry of a session whose lock is held, and waits until it is on the disk, if it is
    /// to: a record that names the owner may follow.
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

    /// Makes an entry; [`Errno::NOENT`] if its folder was removed meanwhile.
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
        // The folder's name, too: who made it may be at it right now, or was killed before.
        let file = file.map_or(Ok(()), |file| self.sync(file));
        let synced = file.and_then(|()| self.sync(&folder)).and_then(|()| self.sync(&shard));
        if synced.is_err() && is_new {
            // What failed to be written counts as written from now on. The next try begins anew.
            let _ = disk::unlink(&folder, &name.entry());
            let _ = disk::remove_folder(&shard, owner.folder());
        }
        synced
    }

    /// Makes an entry's file, or opens the one that is there. Tells whether it was made.
    fn make_entry(&self, folder: &OwnedFd, entry: &[u8]) -> Result<(Option<OwnedFd>, bool), Errno> {
        match disk::create_file(folder, entry) {
            Ok(file) => {
                disk::set_mode(&file, FILE_MODE)?;
                Ok((Some(file), true))
            }
            // Anything else of this name will do, as nobody reads it.
            Err(Errno::EXIST) if !is_file(&disk::stat_at(folder, entry)?) => Ok((None, false)),
            Err(Errno::EXIST) => {
                let open = |entry: &[u8]| disk::open_file(folder, entry);
                Ok((Some(disk::open_own(folder, entry, FILE_MODE, open)?), false))
            }
            Err(errno) => Err(errno),
        }
    }

    /// Lists a page of an owner's sessions, and removes the entries on it that are stale.
    pub(crate) fn list(&self, owner: &str, page: Page, now: Timestamp) -> Result<Listed, Error> {
        let owner_name = OwnerName::of(owner);
        let opened = self.open_owner(&owner_name).map_err(failed("opening an owner's folder"))?;
        let Some((shard, folder)) = opened else { return Ok(Listed::default()) };
        let mut listing = disk::list(folder).map_err(failed(LISTING))?;
        let size = page.size();
        // One more, to know whether others follow.
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
                        // One that only expired may live by another clock.
                        None => self.is_gone(&name),
                    };
                    // The list is right without; and a collection tells of what can't be removed.
                    let _ = self.remove_stale_entry(folder, &name, is_stale);
                }
                // It is no session.
                Err(Error::Unreadable { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if next.is_none() && sessions.is_empty() {
            let _ = disk::remove_folder(&shard, owner_name.folder());
        }
        Ok(Listed { sessions, next })
    }

    /// Opens an owner's folder and the one that it is in; `None` if the owner has none.
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

    /// Removes an entry if it is stale and nobody is changing its session; tells whether it was removed.
    fn remove_stale_entry(
        &self,
        folder: BorrowedFd<'_>,
        name: &Name,
        is_stale: impl Fn() -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        self.remove_if(name, is_stale, || {
            // That the session is gone or moved is on the disk before its entry goes: it may not be back
            // without the entry after a power cut.
            match self.open_folder(name) {
                Ok(folder) => self.sync(folder).map_err(failed("syncing a folder"))?,
                Err(Error::Gone) => {}
                Err(error) => return Err(error),
            }
            match disk::unlink(folder, &name.entry()) {
                Ok(()) => Ok(true),
                // Not an entry, but a directory with such a name.
                Err(Errno::NOENT | Errno::ISDIR | Errno::PERM) => Ok(false),
                Err(errno) => Err(failed("removing an entry of the index of owners")(errno)),
            }
        })
    }

    /// Whether there is nothing where a session's file would be.
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

/// Where a walk over the index is.
#[derive(Default)]
pub(crate) struct IndexCursor {
    began: bool,
    /// The listings that have begun: of the folder of all owners, of a folder in that, of an owner's folder.
    listings: Vec<Listing>,
}

/// A folder that is being listed.
struct Listing {
    dir: Dir,
    name: Vec<u8>,
    /// Whether nothing was left in it so far.
    is_empty: bool,
}

impl Store {
    /// Removes entries of sessions that are gone, and owners' folders that have no entry, from a place on,
    /// until `look` says that it is enough: it is told of each thing that was looked at, and whether it was
    /// removed. Returns whether the walk came to its end.
    ///
    /// Looks whether a session's file is there, and not into it: the entry of one that has another owner goes
    /// when that one is gone, unless its former owner's list comes first.
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
            // Whatever else is there is none of ours, and is left alone.
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

    /// Leaves a folder at its end, and removes that of an owner who has no sessions.
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

/// Begins to list a folder of the index; `None` if it was removed or is none of ours.
fn enter(dir: impl AsFd + Copy, name: &[u8]) -> Result<Option<Listing>, Error> {
    let folder = match disk::open_own_folder(dir, name) {
        Ok(folder) => folder,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ACCESS | Errno::PERM) => {
            return Ok(None);
        }
        Err(errno) => return Err(failed("opening a folder of the index of owners")(errno)),
    };
    let dir = disk::list(folder).map_err(failed(LISTING))?;
    Ok(Some(Listing { dir, name: name.to_owned(), is_empty: true }))
}
