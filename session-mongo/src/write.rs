//! Writes, and what to do when one fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::{Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::ReadConcern;
use session_core::Error;

use crate::client::Documents;
use crate::failure::{self, Cause, WriteOutcome};

/// How often a write is tried in all. The time limit ends it too.
const TRIES: u32 = 4;

/// The pause before the first repetition, in which a pool recovers; doubled with each one.
const PAUSE: Duration = Duration::from_millis(10);

/// The collection as one operation uses it.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    pub(crate) documents: Documents,
    /// Whether a write of this operation may have been applied without our knowing.
    in_doubt: Arc<AtomicBool>,
}

/// Whether a write that may have been applied can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idempotency {
    /// Applied twice, it leaves what once would have left, whatever others did in between.
    Idempotent,
    /// In between, another request may have changed what a repetition would overwrite.
    NotIdempotent,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    error: DriverError,
    outcome: WriteOutcome,
    /// Whether an earlier attempt than the one that failed may have been applied.
    repeated: bool,
}

impl WriteFailure {
    /// Whether a document of the same `_id` is in the way.
    pub(crate) fn is_duplicate_key(&self) -> bool {
        failure::is_duplicate_key(&self.error)
    }

    /// Whether what is in the way may be what an earlier attempt left.
    pub(crate) fn is_repeated(&self) -> bool {
        self.repeated
    }
}

impl From<WriteFailure> for Error {
    fn from(failure: WriteFailure) -> Self {
        // A refusal of the last attempt says nothing of the ones before.
        let outcome = if failure.repeated { WriteOutcome::Unknown } else { failure.outcome };
        failure::of_write(&failure.error, outcome)
    }
}

impl Sessions {
    /// The collection for an operation that tells by `unsettled` whether it may have written.
    pub(crate) fn new(documents: Documents, in_doubt: Arc<AtomicBool>) -> Self {
        Self { documents, in_doubt }
    }

    /// Whether there is a document that this filter finds; asks for no more.
    ///
    /// # Errors
    /// In doubt if a write of this operation is.
    pub(crate) async fn has(&self, filter: Document) -> Result<bool, Error> {
        match self.documents.find_one(filter).projection(doc! { "_id": 1 }).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if self.is_in_doubt() => Err(failure::in_doubt(Cause::of(&error))),
            Err(error) => Err(failure::of_read(&error)),
        }
    }

    /// Whether an attempt of this operation may have been applied without our knowing.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::Acquire)
    }

    /// Acknowledges what an earlier attempt of a write left, if a majority has it.
    pub(crate) async fn confirm(&self, filter: Document) -> Result<(), Error> {
        let find = self.documents.find_one(filter).projection(doc! { "_id": 1 });
        match find.read_concern(ReadConcern::majority()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(failure::in_doubt(Cause::new("not confirmed by a majority"))),
            Err(error) => Err(failure::in_doubt(Cause::of(&error))),
        }
    }

    /// Sends a write, and again if it was certainly not applied, or if it may have been and repeating it
    /// does no harm.
    ///
    /// The driver repeats writes itself, without doubt, where the server keeps a record of them: a
    /// replica set or a sharded cluster does, a standalone server doesn't. This is for the latter, and
    /// for what the driver's single repetition leaves.
    pub(crate) async fn write<T, F>(
        &self,
        idempotency: Idempotency,
        attempt: impl Fn(Documents) -> F,
    ) -> Result<T, WriteFailure>
    where
        F: Future<Output = Result<T, DriverError>>,
    {
        // An earlier write of the operation may have left it in doubt.
        let mut doubt = self.is_in_doubt();
        let mut tries = 0;
        loop {
            self.in_doubt.store(true, Ordering::Release);
            let error = match attempt(self.documents.clone()).await {
                Ok(done) => {
                    // After a repetition, the caller may have to look what the first attempt left.
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
