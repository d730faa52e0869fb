//! Files on their way to become sessions' files.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;

use rustix::fs::Timestamps;
use session_core::Error;

use crate::disk::{self, FILE_MODE};
use crate::error::failed;

/// How temporaries' names begin; no session's file does.
const PREFIX: &str = ".new-";

/// A temporary in a session's folder: gone when dropped, if it was not installed.
///
/// Its name tells which opening of the store made it, so that a collection knows the strays of
/// processes that died from the files of those that live.
pub(crate) struct Temporary<'t> {
    folder: &'t OwnedFd,
    name: String,
    file: OwnedFd,
    /// Whether the name has to be removed in the end.
    there: bool,
}

impl<'t> Temporary<'t> {
    /// Makes an empty one, with the mode that sessions' files have, whatever the umask.
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

    /// Writes all that is to be in it. The times last: writing moves them.
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

    /// It has another name now, and what had this one is gone.
    pub(crate) fn moved_away(mut self) {
        self.there = false;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.there {
            // What can't be removed now is a stray when this process has ended.
            let _ = disk::unlink(self.folder, self.name.as_bytes());
        }
    }
}

/// The token of the opening that made a temporary of this name; `None` if that is no temporary.
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
