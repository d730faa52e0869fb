//! [`Store`]: runs statements, and repeats failed ones.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use session_core::Error;
use sqlx::postgres::{PgConnection, PgRow};
use tokio::sync::Mutex;

use super::connections::Connections;
use super::failure::Fate;
use super::statement::Statement;
use super::{PostgresConfig, failure, schema};
use crate::failure::cause;
use crate::worker::Doubt;

/// The pause before the first repetition. It doubles with each one.
const PAUSE: Duration = Duration::from_millis(10);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_millis(160);

/// What a statement does, and whether it can be sent again after its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    /// A write that can be applied twice with the same result, whatever others did in between.
    Repeatable,
    /// A write whose repetition could overwrite what another request has changed in between.
    Once,
}

/// The table, and the connections to it.
pub(crate) struct Store {
    pub(crate) config: PostgresConfig,
    pub(crate) connections: Connections,
    /// Whether the table existed at the last check.
    is_ready: AtomicBool,
    /// Held during the check.
    preparing: Mutex<()>,
}

impl Store {
    pub(crate) fn new(config: PostgresConfig, connections: Connections) -> Self {
        Self { config, connections, is_ready: AtomicBool::new(false), preparing: Mutex::default() }
    }

    /// Creates the table if it is missing.
    async fn prepare(&self, connection: &mut PgConnection) -> Result<(), Error> {
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _one = self.preparing.lock().await;
        if !self.is_ready.load(Ordering::Acquire) {
            schema::prepare(connection, &self.config.table).await?;
            self.is_ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Runs a statement. Repeats it within the time limit if it had no effect for a reason that passes, or if it may
    /// have been applied and repeating it is harmless. `statement` makes the statement, and is told whether an earlier
    /// attempt may have been applied.
    pub(crate) async fn run(
        &self,
        access: Access,
        doubt: &Doubt,
        statement: impl Fn(bool) -> Statement,
    ) -> Result<Vec<PgRow>, Error> {
        // A little before the time limit, whose error has no cause.
        let end = Instant::now() + self.config.operation_timeout.mul_f64(0.9);
        let mut pause = PAUSE;
        loop {
            let before = doubt.get();
            let (fate, error) = match self.attempt(access, doubt, statement(before)).await {
                Ok(rows) => {
                    doubt.set(before);
                    return Ok(rows);
                }
                Err(Failure::Told(error)) => return Err(error),
                Err(Failure::Driver(fate, error)) => (fate, error),
            };
            let again = match fate {
                Fate::Unsent => true,
                Fate::Unknown => access != Access::Once,
                Fate::Refused => false,
            };
            let is_in_doubt = access != Access::Read && (before || fate == Fate::Unknown);
            doubt.set(is_in_doubt);
            if !again || Instant::now() + pause > end {
                return Err(match is_in_doubt {
                    true => Error::in_doubt(cause(&error)),
                    false => failure::unavailable(&error),
                });
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
        }
    }

    async fn attempt(
        &self,
        access: Access,
        doubt: &Doubt,
        statement: Statement,
    ) -> Result<Vec<PgRow>, Failure> {
        let unsent = |error| match failure::fate(&error) {
            Fate::Unknown => Failure::Driver(Fate::Unsent, error),
            fate => Failure::Driver(fate, error),
        };
        let mut connection = self.connections.lend().await.map_err(unsent)?;
        self.prepare(connection.get()).await.map_err(Failure::Told)?;
        let mut may_be_applied = false;
        let applying = || {
            may_be_applied = true;
            doubt.set(doubt.get() || access != Access::Read);
        };
        let ran = statement.run(connection.get(), &self.config, applying).await;
        match ran {
            Ok(rows) => {
                connection.give_back();
                Ok(rows)
            }
            Err(error) => {
                if failure::lacks_table(&error) {
                    self.is_ready.store(false, Ordering::Release);
                }
                match failure::is_of_the_statement(&error) {
                    true => connection.give_back(),
                    false => connection.close(),
                }
                Err(match may_be_applied {
                    true => Failure::Driver(failure::fate(&error), error),
                    false => unsent(error),
                })
            }
        }
    }
}

/// Why an attempt failed.
enum Failure {
    Driver(Fate, sqlx::Error),
    /// The error for the caller.
    Told(Error),
}
