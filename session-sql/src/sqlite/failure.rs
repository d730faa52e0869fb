//! Classifies SQLite's errors.

use session_core::Error;

use crate::failure::cause;

// The primary result codes, of https://www.sqlite.org/rescode.html.
pub(crate) const STATEMENT: i32 = 1;
pub(crate) const BUSY: i32 = 5;
const READONLY: i32 = 8;
const IO: i32 = 10;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANNOT_OPEN: i32 = 14;
const NO_DATABASE: i32 = 26;

/// Returns SQLite's primary result code.
pub(crate) fn code(error: &sqlx::Error) -> Option<i32> {
    let extended: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(extended & 0xff)
}

/// Returns the error of an operation that wrote nothing.
pub(crate) fn unavailable(error: &sqlx::Error) -> Error {
    let told = match code(error) {
        Some(FULL) => return Error::Full { what: "space on the disk" },
        Some(BUSY) => "another process had the database locked for as long as operation_timeout",
        Some(READONLY) => "the database can't be written",
        Some(CORRUPT | NO_DATABASE) => "the database's file is damaged",
        Some(CANNOT_OPEN) => "the database's file can't be opened",
        _ => return Error::unavailable(cause(error)),
    };
    Error::unavailable(told)
}

/// Returns the error of a failed commit.
pub(crate) fn of_commit(error: &sqlx::Error) -> Error {
    match code(error) {
        // It may have reached the disk.
        Some(IO) | None => Error::in_doubt(cause(error)),
        _ => unavailable(error),
    }
}

/// Returns the error of opening the database. If no later attempt can succeed, it is [`Error::Config`].
pub(crate) fn at_open(error: &sqlx::Error) -> Error {
    let code = match error {
        sqlx::Error::Io(_) => Some(CANNOT_OPEN),
        _ => code(error),
    };
    match code {
        Some(CORRUPT | NO_DATABASE) => {
            Error::config("the file that path names is not a SQLite database, or a damaged one")
        }
        Some(READONLY) => Error::config("the database that path names can't be written"),
        Some(CANNOT_OPEN) => Error::config(
            "the file that path names can't be opened; its directory must be there, and both writable",
        ),
        _ => unavailable(error),
    }
}
