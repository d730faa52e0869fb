//! The steps of writing a session's file.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use session_core::Error;
use session_core::provider::Record;

use super::Store;
use crate::disk;
use crate::error::{failed, in_doubt, not_done};
use crate::name::{Name, folder_name};
use crate::platform;
use crate::temporary::Temporary;
use crate::{Durability, format};

impl Store {
    /// Opens the folder of a session that is to be stored. All folders were made when the store was
    /// opened, but programs that clean up temporary files may remove empty directories.
    pub(super) fn make_folder(&self, name: &Name) -> Result<OwnedFd, Error> {
        let root = &self.directory.root;
        let opened = disk::open_or_make_folder(root, &folder_name(name.folder()));
        let (folder, is_new) = opened.map_err(failed("opening a folder"))?;
        if is_new {
            self.sync_committed(root)?;
        }
        Ok(folder)
    }

    /// Writes a record to a temporary file in the folder.
    pub(super) fn write<'t>(
        &'t self,
        folder: &'t OwnedFd,
        record: &Record,
        name: &Name,
    ) -> Result<Temporary<'t>, Error> {
        let bytes = format::encode(record, name.key());
        if bytes.len() > self.config.max_bytes {
            return Err(Error::TooLarge {
                what: "bytes of a session's file",
                limit: self.config.max_bytes,
            });
        }
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let temporary = Temporary::create(folder, self.token, serial)?;
        let times = self.times.to_file(record.used, record.expires);
        temporary.fill(&bytes, &times, self.config.sync == Durability::Full)?;
        Ok(temporary)
    }

    /// Renames a temporary file to the session's name. Readers see the old file or the new one.
    pub(super) fn install(
        &self,
        temporary: Temporary<'_>,
        folder: &OwnedFd,
        name: &Name,
        replaces: bool,
    ) -> Result<(), Error> {
        let doing = "installing a session's file";
        if replaces && self.config.sync == Durability::None {
            let swapped = platform::exchange(folder, temporary.name(), name.file());
            if swapped.map_err(not_done(doing))? {
                // When dropped, the temporary file removes the old record, which now has its name.
                return Ok(());
            }
        }
        let renamed = disk::rename((folder, temporary.name()), (folder, name.file()));
        renamed.map_err(not_done(doing))?;
        temporary.moved_away();
        Ok(())
    }

    /// With [`Durability::Full`], waits until a change of a directory is on the disk. The change has
    /// been made, so a failure leaves it in doubt.
    pub(super) fn sync_committed(&self, directory: impl AsFd) -> Result<(), Error> {
        self.sync(directory).map_err(in_doubt("syncing a folder"))
    }

    /// With [`Durability::Full`], waits until a file or directory is on the disk.
    pub(super) fn sync(&self, file: impl AsFd) -> Result<(), Errno> {
        match self.config.sync {
            Durability::Full => disk::sync(file),
            Durability::None => Ok(()),
        }
    }
}
