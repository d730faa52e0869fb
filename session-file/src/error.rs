//! Errors of the file system as the library's.

use rustix::io::Errno;
use session_core::Error;

/// What failed, with the operating system's error as its source.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed")]
struct Failure {
    doing: &'static str,
    #[source]
    cause: std::io::Error,
}

/// Says what failed, where nothing was changed.
pub(crate) fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::NOSPC | Errno::DQUOT => Error::Full { what: "space on the disk" },
        _ => Error::unavailable(Failure { doing, cause: errno.into() }),
    }
}

/// Says what failed, where it may have been done all the same.
pub(crate) fn in_doubt(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::InDoubt { source: Failure { doing, cause: errno.into() }.into() }
}

/// Says that one step of a change failed that the file system does as a whole: most errors say that
/// it was not done.
pub(crate) fn not_done(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::IO | Errno::INTR => in_doubt(doing)(errno),
        _ => failed(doing)(errno),
    }
}

/// A record that can't be read.
pub(crate) fn unreadable(reason: &'static str) -> Error {
    Error::Unreadable { reason }
}
