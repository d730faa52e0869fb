//! What the driver's errors mean for a session.

use std::fmt;

use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use session_core::Error;
use session_core::provider::BoxError;

use crate::document::MAX_BYTES;

/// A unique index forbids it.
const DUPLICATE_KEY: i32 = 11000;
/// A field on the way to the one to be changed is not a document.
const PATH_NOT_VIABLE: i32 = 28;
/// The document would be larger than MongoDB's documents may be, as the various places say it; the last
/// one is DocumentDB's SQLSTATE (M003A) as a number.
const TOO_LARGE: [i32; 4] = [10334, 17419, 17420, 285_999_133];

/// Another transaction was in the way, and the server took this one back: nothing is written, and
/// the next try may pass. MongoDB's is 112, and it tries again itself; servers on PostgreSQL answer
/// that one's SQLSTATE as a number (40001 and 40P01).
const WRITE_CONFLICTS: [i32; 3] = [112, 16_777_220, 16_908_292];

/// Replies that a server gives instead of writing: it is no primary (10107, 13435, 10058), doesn't
/// let us (13, 18, 20, 391, 8000), doesn't understand (2, 9, 14, 17, 40, 52, 59, 72, 73, 115),
/// or it has too much to do (462, 16500).
///
/// With any other reply the write may have happened: an interrupted server may have written and not
/// yet replicated, and a server in front of another one may have lost that one's answer.
const REFUSALS: [i32; 20] =
    [10107, 13435, 10058, 13, 18, 20, 391, 8000, 2, 9, 14, 17, 40, 52, 59, 72, 73, 115, 462, 16500];

/// What became of a write that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Not written, for a reason that passes: it never got there, or was taken back.
    Unsent,
    /// Certainly not written.
    Refused,
    /// Written or not, nobody knows.
    Unknown,
}

/// What became of a write that the driver reports as failed. Whatever isn't known to have written nothing
/// is [`Unknown`](Fate::Unknown).
///
/// The driver's own retries keep the error of the attempt that may have written, if there was one.
pub(crate) fn fate(error: &DriverError) -> Fate {
    match &*error.kind {
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Shutdown => Fate::Refused,
        // The driver labels what fails while a connection is made, before anything is sent by it.
        ErrorKind::Io(_) if error.contains_label(mongodb::error::SYSTEM_OVERLOADED_ERROR) => {
            Fate::Unsent
        }
        _ if error.contains_label(mongodb::error::NO_WRITES_PERFORMED) => Fate::Refused,
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => Fate::Unknown,
        _ => match code(error) {
            Some(DUPLICATE_KEY | PATH_NOT_VIABLE) => Fate::Refused,
            Some(code) if WRITE_CONFLICTS.contains(&code) => Fate::Unsent,
            Some(code) if REFUSALS.contains(&code) => Fate::Refused,
            Some(code) if is_size(code) => Fate::Refused,
            _ => Fate::Unknown,
        },
    }
}

/// The server's code for why it did not write.
fn code(error: &DriverError) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(error) => Some(error.code),
        ErrorKind::Write(WriteFailure::WriteError(error)) => Some(error.code),
        ErrorKind::InsertMany(error) => error.write_errors.as_ref()?.first().map(|e| e.code),
        _ => None,
    }
}

fn is_size(code: i32) -> bool {
    TOO_LARGE.contains(&code)
}

/// Whether a unique index was in the way.
pub(crate) fn is_duplicate_key(error: &DriverError) -> bool {
    code(error) == Some(DUPLICATE_KEY)
}

/// Whether the server itself said no to a command.
pub(crate) fn is_reply(error: &DriverError) -> bool {
    matches!(&*error.kind, ErrorKind::Command(_))
}

/// Whether the error is one of these that a server answers.
pub(crate) fn is_code(error: &DriverError, codes: &[i32]) -> bool {
    code(error).is_some_and(|code| codes.contains(&code))
}

/// The error of an operation that only reads.
pub(crate) fn of_read(error: &DriverError) -> Error {
    Error::unavailable(Cause::of(error))
}

/// The error of an operation that writes.
pub(crate) fn of_write(error: &DriverError, fate: Fate) -> Error {
    match code(error) {
        Some(PATH_NOT_VIABLE) => return Error::Gone,
        Some(DUPLICATE_KEY) => return Error::Exists,
        Some(code) if is_size(code) => {
            return Error::TooLarge { what: "session bytes", limit: MAX_BYTES };
        }
        _ => {}
    }
    match fate {
        Fate::Unsent | Fate::Refused => Error::unavailable(Cause::of(error)),
        Fate::Unknown => in_doubt(Cause::of(error)),
    }
}

/// A write whose outcome is not known.
pub(crate) fn in_doubt(cause: impl Into<BoxError>) -> Error {
    Error::InDoubt { source: cause.into() }
}

/// What the driver reported, without what must not be shown.
///
/// The driver's own text quotes the server's, and servers quote the command (`not authorized to
/// execute { update: ... }`): values and digests. So a server's error is its code and name alone;
/// both are in MongoDB's manual.
pub(crate) struct Cause(Box<str>);

impl Cause {
    /// A cause in words.
    pub(crate) fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The cause behind a driver's error.
    pub(crate) fn of(error: &DriverError) -> Self {
        let text = match &*error.kind {
            // These tell which servers are known and why they can't be used.
            ErrorKind::ServerSelection { message, .. }
            | ErrorKind::ConnectionPoolCleared { message, .. } => {
                without_replies(message).to_owned()
            }
            ErrorKind::DnsResolve { message, .. } => format!("DNS lookup failed: {message}"),
            ErrorKind::Io(cause) => format!("I/O error: {cause}"),
            ErrorKind::Authentication { .. } => "authentication failed".to_owned(),
            ErrorKind::Command(error) => refused(error.code, &error.code_name),
            ErrorKind::Write(WriteFailure::WriteError(error)) => {
                refused(error.code, error.code_name.as_deref().unwrap_or_default())
            }
            ErrorKind::Write(WriteFailure::WriteConcernError(error)) => {
                format!("not confirmed by a majority: {}", refused(error.code, &error.code_name))
            }
            ErrorKind::InvalidResponse { .. } => "the server's answer makes no sense".to_owned(),
            ErrorKind::InvalidTlsConfig { message, .. } => format!("TLS: {message}"),
            ErrorKind::IncompatibleServer { message, .. } => message.clone(),
            _ => "the driver failed".to_owned(),
        };
        Self(text.into())
    }
}

fn refused(code: i32, name: &str) -> String {
    if name.is_empty() {
        format!("the server answered code {code}")
    } else {
        format!("the server answered code {code} ({name})")
    }
}

/// Cuts off where the driver's text goes on to quote a server's reply.
fn without_replies(message: &str) -> &str {
    let end = ["server response:", "Command failed:"].iter().filter_map(|text| message.find(text));
    &message[..end.min().unwrap_or(message.len())]
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
