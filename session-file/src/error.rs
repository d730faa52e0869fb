//! Translates errors of the file system.

use rustix::io::Errno;
use session_core::Error;

/// A failed step, with the operating system's error as its source.
#[derive(Debug, thiserror::Error)]
#[error("{doing} failed")]
struct Failure {
    doing: &'static str,
    #[source]
    cause: std::io::Error,
}

/// Makes the error of a failed step after which nothing has changed.
pub(crate) fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::NOSPC | Errno::DQUOT => Error::Full { what: "space on the disk" },
        _ => Error::unavailable(Failure { doing, cause: errno.into() }),
    }
}

/// Makes the error of a failed step whose effect may have happened nonetheless.
pub(crate) fn in_doubt(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::in_doubt(Failure { doing, cause: errno.into() })
}

/// Makes the error of a failed step that the file system performs atomically. Most errors mean that it
/// was not performed.
pub(crate) fn not_done(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| match errno {
        Errno::IO | Errno::INTR => in_doubt(doing)(errno),
        _ => failed(doing)(errno),
    }
}

/// Makes the error of a record that can't be read.
pub(crate) fn unreadable(reason: &'static str) -> Error {
    Error::Unreadable { reason }
}
