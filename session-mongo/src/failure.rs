//! Translates the driver's errors.

use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use session_core::Error;

use crate::document::MAX_BYTES;

/// A unique index has the key already.
const DUPLICATE_KEY: i32 = 11000;
/// A parent of the field to be changed is not a document.
const PATH_NOT_VIABLE: i32 = 28;
/// The document would exceed MongoDB's limit, as different parts of the server report it. The last code
/// is DocumentDB's SQLSTATE (M003A) as a number.
const TOO_LARGE: [i32; 4] = [10334, 17419, 17420, 285_999_133];

/// The write conflicted with another transaction and was rolled back: nothing is written, and a retry
/// may succeed. MongoDB's code is 112, and MongoDB retries by itself. Servers on PostgreSQL return its
/// SQLSTATE as a number (40001 and 40P01).
const WRITE_CONFLICTS: [i32; 3] = [112, 16_777_220, 16_908_292];

/// Codes of replies that a server sends instead of writing: it is not a primary (10107, 13435, 10058),
/// the user is not authorized (13, 18, 20, 391, 8000), the command is not supported (2, 9, 14, 17, 40,
/// 52, 59, 72, 73, 115), or the server is overloaded (462, 16500).
///
/// After any other error reply, the write may have been applied: an interrupted server may have written
/// without having replicated yet, and a proxy may have lost the reply of the server behind it.
const REFUSALS: [i32; 20] =
    [10107, 13435, 10058, 13, 18, 20, 391, 8000, 2, 9, 14, 17, 40, 52, 59, 72, 73, 115, 462, 16500];

/// The outcome of a failed write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteOutcome {
    /// Not written, for a temporary reason: the command was not sent, or was rolled back.
    Retryable,
    /// Not written. The write is not retried.
    Refused,
    /// The write may have been applied, or may still be.
    Unknown,
}

/// Returns the outcome of a write that the driver reports as failed: [`Unknown`](WriteOutcome::Unknown)
/// unless it is known that nothing was written.
///
/// If the driver has retried the write, it returns the error of the attempt that may have written, if
/// there was one.
pub(crate) fn outcome(error: &DriverError) -> WriteOutcome {
    match &*error.kind {
        ErrorKind::ServerSelection { .. }
        | ErrorKind::Authentication { .. }
        | ErrorKind::DnsResolve { .. }
        | ErrorKind::InvalidArgument { .. }
        | ErrorKind::InvalidTlsConfig { .. }
        | ErrorKind::IncompatibleServer { .. }
        | ErrorKind::SessionsNotSupported
        | ErrorKind::Shutdown => WriteOutcome::Refused,
        // The driver uses this label for failures while a connection is being made, before anything is
        // sent on it.
        ErrorKind::Io(_) if error.contains_label(mongodb::error::SYSTEM_OVERLOADED_ERROR) => {
            WriteOutcome::Retryable
        }
        _ if error.contains_label(mongodb::error::NO_WRITES_PERFORMED) => WriteOutcome::Refused,
        ErrorKind::Write(WriteFailure::WriteConcernError(_)) => WriteOutcome::Unknown,
        _ => match code(error) {
            Some(DUPLICATE_KEY | PATH_NOT_VIABLE) => WriteOutcome::Refused,
            Some(code) if WRITE_CONFLICTS.contains(&code) => WriteOutcome::Retryable,
            Some(code) if REFUSALS.contains(&code) => WriteOutcome::Refused,
            Some(code) if is_size(code) => WriteOutcome::Refused,
            _ => WriteOutcome::Unknown,
        },
    }
}

/// Returns the server's error code.
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

/// Returns whether the write failed because of a unique index.
pub(crate) fn is_duplicate_key(error: &DriverError) -> bool {
    code(error) == Some(DUPLICATE_KEY)
}

/// Returns whether the error is the server's reply to a command.
pub(crate) fn is_reply(error: &DriverError) -> bool {
    matches!(&*error.kind, ErrorKind::Command(_))
}

/// Returns whether the server's error code is one of these.
pub(crate) fn is_code(error: &DriverError, codes: &[i32]) -> bool {
    code(error).is_some_and(|code| codes.contains(&code))
}

/// Returns the error of an operation that only reads.
pub(crate) fn of_read(error: &DriverError) -> Error {
    Error::unavailable(cause(error))
}

/// Returns the error of an operation that writes.
pub(crate) fn of_write(error: &DriverError, outcome: WriteOutcome) -> Error {
    match code(error) {
        Some(PATH_NOT_VIABLE) => return Error::Gone,
        Some(DUPLICATE_KEY) => return Error::Exists,
        Some(code) if is_size(code) => {
            return Error::TooLarge { what: "session bytes", limit: MAX_BYTES };
        }
        _ => {}
    }
    match outcome {
        WriteOutcome::Retryable | WriteOutcome::Refused => Error::unavailable(cause(error)),
        WriteOutcome::Unknown => Error::in_doubt(cause(error)),
    }
}

/// Returns the driver's error as text that may be shown.
///
/// The driver's text quotes the server's, and servers quote the command (`not authorized to execute {
/// update: ... }`), which has values and digests in it. So a server's error is reduced to its code and
/// name, which MongoDB's manual explains.
pub(crate) fn cause(error: &DriverError) -> String {
    match &*error.kind {
        // These messages list the known servers and why each can't be used.
        ErrorKind::ServerSelection { message, .. }
        | ErrorKind::ConnectionPoolCleared { message, .. } => without_replies(message).to_owned(),
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
        ErrorKind::InvalidResponse { .. } => "the server's reply is invalid".to_owned(),
        ErrorKind::InvalidTlsConfig { message, .. } => format!("TLS: {message}"),
        ErrorKind::IncompatibleServer { message, .. } => message.clone(),
        _ => "the driver failed".to_owned(),
    }
}

fn refused(code: i32, name: &str) -> String {
    if name.is_empty() {
        format!("the server returned error code {code}")
    } else {
        format!("the server returned error code {code} ({name})")
    }
}

/// Cuts off the part of the driver's text that quotes a server's reply.
fn without_replies(message: &str) -> &str {
    let end = ["server response:", "Command failed:"].iter().filter_map(|text| message.find(text));
    &message[..end.min().unwrap_or(message.len())]
}
