//! Writes with retries.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::ReadConcern;
use session_core::Error;

use crate::client::Documents;
use crate::failure::{self, WriteOutcome};

/// The most attempts of a write. The time limit ends them too.
const TRIES: u32 = 4;

/// The pause before the first retry, in which the connection pool can recover. It doubles with each
/// retry.
const PAUSE: Duration = Duration::from_millis(10);

/// The collection, for one operation.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) documents: Documents,
    /// Whether a write of this operation may have been applied although no reply said so.
    in_doubt: Arc<AtomicBool>,
}

/// Whether a write that may have been applied can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idempotency {
    /// Applying the write twice has the same effect as applying it once, whatever other requests do in
    /// between.
    Idempotent,
    /// A retry could overwrite what another request has changed in between.
    NotIdempotent,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    error: DriverError,
    outcome: WriteOutcome,
    /// Whether an attempt before the one that failed may have been applied.
    repeated: bool,
}

impl WriteFailure {
    /// Returns whether there is already a document with the same `_id`.
    pub(crate) fn is_duplicate_key(&self) -> bool {
        failure::is_duplicate_key(&self.error)
    }

    /// Returns whether that document may be the one that an earlier attempt inserted.
    pub(crate) fn is_repeated(&self) -> bool {
        self.repeated
    }
}

impl From<WriteFailure> for Error {
    fn from(failure: WriteFailure) -> Self {
        // That the last attempt was refused doesn't tell whether an earlier one was applied.
        let outcome = if failure.repeated { WriteOutcome::Unknown } else { failure.outcome };
        failure::of_write(&failure.error, outcome)
    }
}

impl Sessions {
    /// Makes the handle of an operation, which sets `in_doubt` while it may have written.
    pub(crate) fn new(documents: Documents, in_doubt: Arc<AtomicBool>) -> Self {
        Self { documents, in_doubt }
    }

    /// Returns whether this filter finds a document. Only the document's `_id` is read.
    ///
    /// # Errors
    /// [`Error::InDoubt`] if a write of this operation is in doubt, otherwise [`Error::Unavailable`].
    pub(crate) async fn has(&self, filter: Document) -> Result<bool, Error> {
        match self.documents.find_one(filter).projection(doc! { "_id": 1 }).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if self.is_in_doubt() => Err(Error::in_doubt(failure::cause(&error))),
            Err(error) => Err(failure::of_read(&error)),
        }
    }

    /// Returns whether a write of this operation may have been applied although no reply said so.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }

    /// Checks that a majority has the document that an earlier attempt wrote.
    pub(crate) async fn confirm(&self, filter: Document) -> Result<(), Error> {
        let find = self.documents.find_one(filter).projection(doc! { "_id": 1 });
        match find.read_concern(ReadConcern::majority()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::in_doubt("not confirmed by a majority")),
            Err(error) => Err(Error::in_doubt(failure::cause(&error))),
        }
    }

    /// Sends a write. Retries it if it was not applied for a temporary reason, and if it may have been
    /// applied and is idempotent.
    ///
    /// The driver retries a write once and safely if the server keeps a record of writes, which a
    /// replica set or a sharded cluster does and a standalone server doesn't. These retries are for
    /// standalone servers, and for failures that the driver's one retry doesn't solve.
    pub(crate) async fn write<T, F>(
        &self,
        idempotency: Idempotency,
        attempt: impl Fn(Documents) -> F,
    ) -> Result<T, WriteFailure>
    where
        F: Future<Output = Result<T, DriverError>>,
    {
        // An earlier write of this operation may be in doubt.
        let mut doubt = self.is_in_doubt();
        let mut tries = 0;
        loop {
            self.in_doubt.store(true, Ordering::Release);
            let error = match attempt(self.documents.clone()).await {
                Ok(done) => {
                    // After a retry, the caller may have to check what the first attempt did.
                    self.in_doubt.store(doubt, Ordering::Release);
                    return Ok(done);
                }
                Err(error) => error,
            };
            let outcome = failure::outcome(&error);
            tries += 1;
            let again = match outcome {
                WriteOutcome::Retryable => true,
                WriteOutcome::Unknown => idempotency == Idempotency::Idempotent,
                WriteOutcome::Refused => false,
            };
            let repeated = doubt;
            doubt |= outcome == WriteOutcome::Unknown;
            self.in_doubt.store(doubt, Ordering::Release);
            if !again || tries == TRIES {
                return Err(WriteFailure { error, outcome, repeated });
            }
            tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
        }
    }
}
