//! [`Collector`]: the timer thread that removes expired sessions from the store (garbage collection).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rand::RngExt as _;
use tracing::error;

use crate::Error;
use crate::clock::Clock;
use crate::events::{Event, Events, Operation};
use crate::provider::{Provider, Purged};

/// The number of records that a provider is asked to remove at a time. It is small, so that the thread stops
/// soon when it is asked to.
const BATCH_SIZE: usize = 1000;

/// How long the thread works before it sleeps for the same time, so that a backlog does not occupy a
/// processor.
const MAX_BUSY: Duration = Duration::from_millis(50);

/// Removes expired sessions on a thread of its own.
#[derive(Debug)]
pub(crate) struct Collector {
    worker: Arc<Worker>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The state of the thread. It does not hold the manager, because a manager is dropped with its last clone.
#[derive(Debug)]
struct Worker {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
    stopping: AtomicBool,
    /// Guards no data; [`wake`](Self::wake) needs a mutex.
    sleep_lock: Mutex<()>,
    wake: Condvar,
}

impl Collector {
    /// Starts the thread, unless `every` is zero.
    pub(crate) fn start(
        provider: Arc<dyn Provider>,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
        every: Duration,
    ) -> Result<Self, Error> {
        let worker = Arc::new(Worker {
            provider,
            clock,
            events,
            stopping: AtomicBool::new(false),
            sleep_lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let thread = if every.is_zero() {
            None
        } else {
            let worker = Arc::clone(&worker);
            let thread =
                thread::Builder::new().name("session-gc".into()).spawn(move || worker.run(every));
            Some(thread.map_err(Error::unavailable)?)
        };
        Ok(Self { worker, thread: Mutex::new(thread) })
    }

    /// Removes all expired sessions, on the caller's thread.
    pub(crate) fn collect(&self) -> Result<Purged, Error> {
        self.worker.purge_all(|| false)
    }

    pub(crate) fn stop(&self) {
        self.worker.stopping.store(true, Ordering::Release);
        // Locked once, so that the thread either sleeps and is woken, or has yet to read the flag.
        drop(self.worker.sleep_lock.lock());
        self.worker.wake.notify_all();
    }

    pub(crate) fn join(&self) {
        // Locked until the thread has ended, so that concurrent callers wait for it, too.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            // The thread catches its panics, so there is nothing to propagate.
            let _ = thread.join();
        }
    }
}

impl Drop for Collector {
    /// Asks the thread to end without waiting for it, because the last clone may be dropped on a worker
    /// thread of an async runtime.
    fn drop(&mut self) {
        self.stop();
    }
}

impl Worker {
    fn run(&self, every: Duration) {
        while self.sleep(jittered(every)) {
            // A panic in the provider does not end the thread; the next round may succeed.
            match catch_unwind(AssertUnwindSafe(|| self.purge_all(|| self.stopped()))) {
                Ok(Ok(_)) => {}
                // The failure was reported as an event.
                Ok(Err(_)) => {}
                Err(_) => {
                    self.events.counters.purge_failures.add(1);
                    error!("session provider panicked in purge; trying again later");
                }
            }
        }
    }

    /// Removes expired sessions batch by batch, until none remain or `stop` returns true.
    fn purge_all(&self, stop: impl Fn() -> bool) -> Result<Purged, Error> {
        let mut total = Purged { removed: 0, more: true };
        let mut began = Instant::now();
        while total.more && !stop() {
            let batch = self.purge_batch()?;
            total = Purged { removed: total.removed + batch.removed, more: batch.more };
            if batch.more && began.elapsed() >= MAX_BUSY {
                self.sleep(began.elapsed());
                began = Instant::now();
            }
        }
        Ok(total)
    }

    /// Removes one batch of expired sessions, and reports the result.
    fn purge_batch(&self) -> Result<Purged, Error> {
        let (now, began) = (self.clock.now(), Instant::now());
        let purged = self.provider.purge(now, BATCH_SIZE);
        let took = began.elapsed();
        self.events.record_duration(Operation::Purge, took, purged.is_ok());
        match &purged {
            Ok(purged) if purged.removed > 0 => {
                self.events.emit(&Event::Purged { count: purged.removed });
            }
            Ok(_) => {}
            Err(error) => {
                let operation = Operation::Purge;
                self.events.emit(&Event::StoreFailed { operation, error, took });
            }
        }
        purged
    }

    /// Sleeps for `time`, or until the thread is asked to stop. Returns whether to continue.
    fn sleep(&self, time: Duration) -> bool {
        let mut guard = self.sleep_lock.lock();
        // An instant too far ahead to be represented means to sleep until the thread is asked to stop.
        let until = Instant::now().checked_add(time);
        while !self.stopped() {
            let timed_out = match until {
                Some(until) => self.wake.wait_until(&mut guard, until).timed_out(),
                None => {
                    self.wake.wait(&mut guard);
                    false
                }
            };
            if timed_out {
                break;
            }
        }
        !self.stopped()
    }

    fn stopped(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}

/// Returns `every` plus or minus a random tenth, so that servers that were started together don't purge at
/// the same time.
fn jittered(every: Duration) -> Duration {
    let tenth = every / 10;
    (every - tenth).saturating_add(tenth.mul_f64(2.0 * rand::rng().random::<f64>()).min(2 * tenth))
}
