//! Temporary files, which are renamed to sessions' files.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::Timestamps;
use session_core::Error;

use crate::disk::{self, FILE_MODE};
use crate::error::failed;

/// The prefix of the names of temporary files. No session's file has it.
const PREFIX: &str = ".new-";

/// A temporary file in a session's folder. It is removed when dropped, unless it was installed.
///
/// The name has the token of the opening of the store that made the file, so that a collection can
/// distinguish files of processes that died from those of running ones.
pub(crate) struct Temporary<'t> {
    folder: &'t OwnedFd,
    name: String,
    file: OwnedFd,
    /// Whether the file still has this name, which has to be removed when dropped.
    there: bool,
}

impl<'t> Temporary<'t> {
    /// Makes an empty temporary file with the mode of sessions' files, whatever the umask.
    pub(crate) fn create(folder: &'t OwnedFd, token: u64, serial: u64) -> Result<Self, Error> {
        let mut name = String::with_capacity(PREFIX.len() + 33);
        let _ = write!(name, "{PREFIX}{token:016x}-{serial:x}");
        let made = disk::create_file(folder, name.as_bytes());
        let file = made.map_err(failed("making a temporary file"))?;
        let temporary = Self { folder, name, file, there: true };
        let stat = disk::stat(&temporary.file).map_err(failed("looking at a temporary file"))?;
        if disk::mode(&stat) != FILE_MODE {
            let set = disk::set_mode(&temporary.file, FILE_MODE);
            set.map_err(failed("setting a temporary file's mode"))?;
        }
        Ok(temporary)
    }

    pub(crate) fn file(&self) -> &OwnedFd {
        &self.file
    }

    /// Writes the whole content, then sets the times, because writing changes them.
    pub(crate) fn fill(&self, bytes: &[u8], times: &Timestamps, sync: bool) -> Result<(), Error> {
        disk::write(&self.file, bytes).map_err(failed("writing a temporary file"))?;
        self.set_times(times)?;
        if sync {
            disk::sync(&self.file).map_err(failed("syncing a temporary file"))?;
        }
        Ok(())
    }

    pub(crate) fn set_times(&self, times: &Timestamps) -> Result<(), Error> {
        let set = disk::set_times(&self.file, times);
        set.map_err(failed("setting a temporary file's times"))
    }

    pub(crate) fn name(&self) -> &[u8] {
        self.name.as_bytes()
    }

    /// Records that the file was renamed.
    pub(crate) fn moved_away(mut self) {
        self.there = false;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.there {
            // If this fails, a collection removes the file once this process has ended.
            let _ = disk::unlink(self.folder, self.name.as_bytes());
        }
    }
}

/// Returns the token of the opening that made a temporary file; `None` if this is not the name of one.
pub(crate) fn maker(name: &[u8]) -> Option<u64> {
    let name = std::str::from_utf8(name).ok()?;
    let (token, serial) = name.strip_prefix(PREFIX)?.split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if token.len() != 16 || serial.is_empty() || !is_number(token) || !is_number(serial) {
        return None;
    }
    u64::from_str_radix(token, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_temporaries_have_a_maker() {
        assert_eq!(maker(b".new-00000000000000ff-1a"), Some(255));
        for name in [
            &b".new-"[..],
            b".new-00000000000000ff",
            b".new-00000000000000ff-",
            b".new-00000000000000ff-x",
            b".new-+0000000000000ff-1",
            b".new-ff-1",
            b".new-00000000000000ff-1-\xff",
            b"new-00000000000000ff-1",
            b".",
            b"",
        ] {
            assert_eq!(maker(name), None, "{}", name.escape_ascii());
        }
    }
}
