//! Writes, and what to do when one fails.

use std::time::Duration;

use mongodb::error::Error as DriverError;
use session_core::Error;

use crate::failure::{self, Fate};
use crate::progress::Progress;

/// How often a write is tried in all. The time limit ends it too.
const TRIES: u32 = 4;

/// The pause before the first repetition, in which a pool recovers; doubled with each one.
const PAUSE: Duration = Duration::from_millis(10);

/// Whether a write that may have been applied can be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Applied twice, it leaves what once would have left, whatever others did in between.
    Harmless,
    /// In between, another request may have changed what a repetition would overwrite.
    Harmful,
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct WriteFailure {
    pub(crate) error: DriverError,
    fate: Fate,
}

impl WriteFailure {
    /// Whether an attempt may have been applied after all.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.fate == Fate::Unknown
    }
}

impl From<WriteFailure> for Error {
    fn from(failure: WriteFailure) -> Self {
        failure::of_write(&failure.error, failure.fate)
    }
}

/// A write that was answered.
#[derive(Debug)]
pub(crate) struct Written<T> {
    pub(crate) answer: T,
    /// Whether an earlier attempt may have been applied before this one.
    pub(crate) repeated: bool,
}

/// Sends a write, and again if it never left, or if it may have been applied and repeating it does
/// no harm.
///
/// The driver repeats writes itself, without doubt, where the server keeps book of them: a replica
/// set or a sharded cluster does, a standalone server doesn't. This is for the latter, and for what
/// the driver's single repetition leaves.
pub(crate) async fn write<T, F>(
    repeat: Repeat,
    attempt: impl Fn() -> F,
) -> Result<Written<T>, WriteFailure>
where
    F: Future<Output = Result<T, DriverError>>,
{
    let mut doubt = false;
    let mut tries = 0;
    loop {
        Progress::begin(doubt);
        let error = match attempt().await {
            Ok(answer) => {
                // After a repetition, the caller may have to look what the first attempt left.
                if !doubt {
                    Progress::settle();
                }
                return Ok(Written { answer, repeated: doubt });
            }
            Err(error) => error,
        };
        let fate = failure::fate(&error, Progress::current_reached());
        tries += 1;
        let again = match fate {
            Fate::Unsent => true,
            Fate::Unknown => repeat == Repeat::Harmless,
            Fate::Refused => false,
        };
        doubt |= fate == Fate::Unknown;
        if !again || tries == TRIES {
            if !doubt {
                Progress::settle();
            }
            let fate = if doubt { Fate::Unknown } else { fate };
            return Err(WriteFailure { error, fate });
        }
        Progress::begin(doubt);
        tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1)).await;
    }
}
