//! Causes of failures, without what must not be shown.

use std::fmt;

use session_core::Error;

/// What the driver reported, in words of ours: databases quote statements and rows.
pub(crate) struct Cause(Box<str>);

impl Cause {
    /// A cause in words.
    pub(crate) fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The cause behind a driver's error. What the database answered is its code alone, which its
    /// manual explains.
    pub(crate) fn of(error: &sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => match error.code() {
                Some(code) => Self::new(format!("the database answered code {code}")),
                None => Self::new("the database refused"),
            },
            sqlx::Error::Io(error) => Self::new(format!("I/O error: {error}")),
            sqlx::Error::Tls(_) => Self::new("TLS could not be established"),
            sqlx::Error::Protocol(_) => Self::new("the database's answer makes no sense"),
            sqlx::Error::PoolTimedOut => Self::new("no connection of the pool became free in time"),
            sqlx::Error::PoolClosed => Self::new("the pool is closed"),
            sqlx::Error::WorkerCrashed => Self::new("the driver's thread ended"),
            sqlx::Error::Configuration(_) => Self::new("the driver does not take these options"),
            _ => Self::new("the driver failed"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Cause {}

/// A record that can't be read.
pub(crate) fn unreadable(reason: &'static str) -> Error {
    Error::Unreadable { reason }
}
