//! What the server's errors mean for a session.

use session_core::Error;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::failure::cause;

/// What became of a statement that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not done, for a reason that passes: it never got there, or was taken back.
    Unsent,
    /// Certainly not done.
    Refused,
    /// Done or not, nobody knows.
    Unknown,
}

/// The server's SQLSTATE.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// What became of a statement that the driver reports as failed. Whatever isn't known to have written nothing
/// is [`Unknown`](Fate::Unknown).
///
/// The codes are in appendix A of PostgreSQL's manual.
pub(crate) fn fate(error: &sqlx::Error) -> Fate {
    match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Encode(_) => {
            return Fate::Refused;
        }
        _ => {}
    }
    let Some(code) = code(error) else { return Fate::Unknown };
    match (code.get(..2).unwrap_or_default(), &*code) {
        // Serialization failure, deadlock, a standby that was a primary, a statement that is not prepared any
        // more, one that was prepared before the table changed, a table that is not there, which the next attempt
        // makes, and a server that takes no connections yet, or no more of them.
        (_, "40001" | "40P01" | "25006" | "26000" | "0A000" | "42P01" | "57P03" | "53300") => {
            Fate::Unsent
        }
        // A wrong password, and a database that isn't there, end the connection before it is one.
        ("28" | "3D", _) => Fate::Refused,
        // Completion unknown; and what poolers, too, say of a connection that they lost.
        (_, "40003" | "57P01" | "57P02") | ("08" | "58" | "XX", _) => Fate::Unknown,
        // An error ends the statement's transaction; what is worse ends the connection, in the middle of anything.
        _ if is_error(error) => Fate::Refused,
        _ => Fate::Unknown,
    }
}

/// Whether the server reports an error, and nothing worse.
fn is_error(error: &sqlx::Error) -> bool {
    let answer = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
    answer.is_some_and(|answer| answer.severity() == PgSeverity::Error)
}

/// Whether the connection is as good as before: another one would have told the same.
pub(crate) fn is_of_the_statement(error: &sqlx::Error) -> bool {
    let code = code(error).unwrap_or_default();
    let is_of_the_connection = match (code.get(..2).unwrap_or_default(), &*code) {
        // A standby, and statements that have to be prepared anew.
        (_, "25006" | "26000" | "42P05" | "0A000") => true,
        // The connection, the system, the server itself.
        ("08" | "58" | "XX", _) => true,
        _ => false,
    };
    is_error(error) && !is_of_the_connection
}

/// Whether a table is not there.
pub(crate) fn lacks_table(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("42P01")
}

/// The error of what wrote nothing.
pub(crate) fn unavailable(error: &sqlx::Error) -> Error {
    match code(error).as_deref() {
        Some("53100") => Error::Full { what: "space on the server's disk" },
        Some("42501") => Error::unavailable("the database user lacks a right on the table (42501)"),
        _ => Error::unavailable(cause(error)),
    }
}
