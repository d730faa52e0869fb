//! [`MetricsObserver`]: session events as metrics of the crate `metrics`.

use std::time::Duration;

use ::metrics::{counter, gauge, histogram};

use crate::events::{Event, Observer, Operation};
use crate::{Error, Manager};

/// Records session events and store operations with the crate [`metrics`](https://docs.rs/metrics).
///
/// | name | kind | labels |
/// |---|---|---|
/// | `session_created_total` | counter | `login`: `true` or `false` |
/// | `session_new_id_total` | counter | `login`: `true` or `false` |
/// | `session_ended_total` | counter | `reason`: [`Ending::as_str`](crate::events::Ending::as_str) |
/// | `session_purged_total` | counter | |
/// | `session_refused_total` | counter | `reason`: [`Refusal::as_str`](crate::events::Refusal::as_str) |
/// | `session_store_failures_total` | counter | `operation`: [`Operation::as_str`] |
/// | `session_store_seconds` | histogram | `operation`, and `outcome`: `ok` or `error` |
/// | `session_live` | gauge | none; set by [`record_live`](Self::record_live) |
///
/// The example `metrics` exports them to Prometheus.
///
/// ```no_run
/// # fn open() -> Result<(), session_core::Error> {
/// # mod session_memory { pub fn init() {} }
/// session_memory::init();
/// let manager =
///     session_core::Manager::builder().with_observer(session_core::events::MetricsObserver).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MetricsObserver;

impl MetricsObserver {
    /// Sets the gauge `session_live` to [`Manager::count`], which it returns. Some stores look at every
    /// session to count them, so call it rarely: once a minute, for example, or when the metrics are read.
    ///
    /// # Errors
    /// As [`Manager::count`].
    pub async fn record_live(manager: &Manager) -> Result<u64, Error> {
        let count = manager.count().await?;
        gauge!("session_live").set(count as f64);
        Ok(count)
    }
}

impl Observer for MetricsObserver {
    fn event(&self, event: &Event<'_>) {
        let login = |owner: &Option<&str>| if owner.is_some() { "true" } else { "false" };
        match event {
            Event::Created { owner, .. } => {
                counter!("session_created_total", "login" => login(owner)).increment(1);
            }
            Event::NewId { owner, .. } => {
                counter!("session_new_id_total", "login" => login(owner)).increment(1);
            }
            Event::Ended { why, .. } => {
                counter!("session_ended_total", "reason" => why.as_str()).increment(1);
            }
            Event::Purged { count } => counter!("session_purged_total").increment(*count as u64),
            Event::Refused { why, .. } => {
                counter!("session_refused_total", "reason" => why.as_str()).increment(1);
            }
            Event::StoreFailed { operation, .. } => {
                let operation = operation.as_str();
                counter!("session_store_failures_total", "operation" => operation).increment(1);
            }
        }
    }

    fn operation(&self, operation: Operation, took: Duration, succeeded: bool) {
        let outcome = if succeeded { "ok" } else { "error" };
        histogram!("session_store_seconds", "operation" => operation.as_str(), "outcome" => outcome)
            .record(took);
    }
}
