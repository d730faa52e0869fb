//! Classifies errors of the server and of the driver.

use session_core::Error;
use sqlx::postgres::{PgDatabaseError, PgSeverity};

use crate::failure::cause;

/// What is known about a statement that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It had no effect, for a reason that passes: it was never sent, or was rolled back.
    Unsent,
    /// It had no effect.
    Refused,
    /// It may have been applied.
    Unknown,
}

/// The server's SQLSTATE.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// Returns what is known about a statement that the driver reports as failed. It is [`Unknown`](Fate::Unknown) unless
/// it certainly had no effect.
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
        // A wrong password, or a missing database: the connection was never established.
        ("28" | "3D", _) => Fate::Refused,
        // Completion unknown; and what poolers also report when they have lost a connection.
        (_, "40003" | "57P01" | "57P02") | ("08" | "58" | "XX", _) => Fate::Unknown,
        // An error rolls the statement's transaction back. Anything more severe ends the connection, at any point.
        _ if is_error(error) => Fate::Refused,
        _ => Fate::Unknown,
    }
}

/// Whether the severity of the server's report is `ERROR`, and not `FATAL` or `PANIC`.
fn is_error(error: &sqlx::Error) -> bool {
    let answer = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>());
    answer.is_some_and(|answer| answer.severity() == PgSeverity::Error)
}

/// Whether the error is due to the statement, so that the connection can be used again.
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

/// Whether a table is missing.
pub(crate) fn lacks_table(error: &sqlx::Error) -> bool {
    code(error).as_deref() == Some("42P01")
}

/// Returns the error of an operation that wrote nothing.
pub(crate) fn unavailable(error: &sqlx::Error) -> Error {
    match code(error).as_deref() {
        Some("53100") => Error::Full { what: "space on the server's disk" },
        Some("42501") => Error::unavailable("the database user lacks a right on the table (42501)"),
        _ => Error::unavailable(cause(error)),
    }
}
