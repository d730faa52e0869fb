//! What the server's errors mean for a session.

use session_core::Error;

use crate::failure::{Cause, Fate};

/// The server's SQLSTATE.
pub(crate) fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error()?.code().map(|code| code.into_owned())
}

/// What became of a statement that the driver reports as failed. Whatever isn't known to have written nothing
/// is [`Unknown`](Fate::Unknown).
///
/// The codes are in appendix A of PostgreSQL's manual.
pub(crate) fn fate(error: &sqlx::Error) -> Fate {
    let Some(code) = code(error) else {
        return match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Encode(_) => {
                Fate::Refused
            }
            _ => Fate::Unknown,
        };
    };
    match (code.get(..2).unwrap_or_default(), &*code) {
        // Serialization failure, deadlock, a standby that was a primary, a statement that is not prepared any
        // more, one that was prepared before the table changed, and a server that takes no connections yet, or
        // no more of them.
        (_, "40001" | "40P01" | "25006" | "26000" | "0A000" | "57P03" | "53300") => Fate::Unsent,
        (_, "40003") => Fate::Unknown,
        // What the server says of a statement before it is done: its data, constraints, authorization, names,
        // resources, limits, objects that are not ready, and a statement that it cancelled.
        ("22" | "23" | "25" | "28" | "3D" | "3F" | "40" | "42" | "44" | "53" | "54" | "55", _)
        | (_, "57014") => Fate::Refused,
        _ => Fate::Unknown,
    }
}

/// Whether the connection is as good as before.
pub(crate) fn is_of_the_statement(error: &sqlx::Error) -> bool {
    matches!(code(error).as_deref(), Some("40001" | "40P01" | "57014"))
}

/// The error of what wrote nothing.
pub(crate) fn unavailable(error: &sqlx::Error) -> Error {
    match code(error).as_deref() {
        Some("53100") => Error::Full { what: "space on the server's disk" },
        _ => Error::unavailable(Cause::of(error)),
    }
}
