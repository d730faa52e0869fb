//! Describes the driver's errors as text that may be shown.

use session_core::Error;

/// Describes the driver's error. Messages of databases are left out, because they quote statements and rows; the code
/// is explained in the database's manual.
pub(crate) fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("the database answered code {code}"),
            None => "the database refused".to_owned(),
        },
        sqlx::Error::Io(error) => format!("I/O error: {error}"),
        sqlx::Error::Tls(_) => "TLS could not be established".to_owned(),
        sqlx::Error::Protocol(_) => "the database's answer makes no sense".to_owned(),
        sqlx::Error::PoolTimedOut => "no connection of the pool became free in time".to_owned(),
        sqlx::Error::PoolClosed => "the pool is closed".to_owned(),
        sqlx::Error::WorkerCrashed => "the driver's thread ended".to_owned(),
        sqlx::Error::Configuration(_) => "the driver does not take these options".to_owned(),
        _ => "the driver failed".to_owned(),
    }
}

/// A record that can't be read.
pub(crate) fn unreadable(reason: &'static str) -> Error {
    Error::Unreadable { reason }
}
