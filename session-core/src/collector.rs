//! The timer thread that removes expired sessions.

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

/// How many records a provider is asked to remove at a time. Small, so that the thread sees its
/// end coming.
const SLICE: usize = 1000;

/// How long one round may work before it sleeps as long again, so that a backlog doesn't take a
/// processor for itself.
const BUDGET: Duration = Duration::from_millis(50);

/// Collects expired sessions on a thread of its own.
#[derive(Debug)]
pub(crate) struct Collector {
    work: Arc<Work>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread holds: not the manager, which could not be dropped then.
#[derive(Debug)]
struct Work {
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    events: Arc<Events>,
    stopping: AtomicBool,
    /// Guards nothing but the sleep.
    sleep: Mutex<()>,
    wake: Condvar,
}

impl Collector {
    /// Starts the thread; none if `every` is zero.
    pub(crate) fn start(
        provider: Arc<dyn Provider>,
        clock: Arc<dyn Clock>,
        events: Arc<Events>,
        every: Duration,
    ) -> Result<Self, Error> {
        let work = Arc::new(Work {
            provider,
            clock,
            events,
            stopping: AtomicBool::new(false),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
        });
        let thread = if every.is_zero() {
            None
        } else {
            let work = Arc::clone(&work);
            let thread =
                thread::Builder::new().name("session-gc".into()).spawn(move || work.run(every));
            Some(thread.map_err(Error::unavailable)?)
        };
        Ok(Self { work, thread: Mutex::new(thread) })
    }

    /// One whole collection, on the caller's thread.
    pub(crate) fn collect(&self) -> Result<Purged, Error> {
        self.work.drain(|| false)
    }

    pub(crate) fn stop(&self) {
        self.work.stopping.store(true, Ordering::Release);
        // Taken so that the thread is either asleep or has yet to look at the flag.
        drop(self.work.sleep.lock());
        self.work.wake.notify_all();
    }

    pub(crate) fn join(&self) {
        // Locked until the thread has ended, so that everyone who asks waits for it.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            // It catches its panics; there is nothing to hand on.
            let _ = thread.join();
        }
    }
}

impl Drop for Collector {
    /// Asks the thread to end, without waiting: the last clone may be dropped on a runtime's worker.
    fn drop(&mut self) {
        self.stop();
    }
}

impl Work {
    fn run(&self, every: Duration) {
        while self.nap(jittered(every)) {
            // A provider's panic is its own affair: the next round may do better.
            match catch_unwind(AssertUnwindSafe(|| self.drain(|| self.stopped()))) {
                Ok(Ok(_)) => {}
                // It was told.
                Ok(Err(_)) => {}
                Err(_) => {
                    self.events.counters.purge_failures.add(1);
                    error!("session provider panicked in purge; trying again later");
                }
            }
        }
    }

    /// Purges slice by slice until nothing remains or `stop` says so.
    fn drain(&self, stop: impl Fn() -> bool) -> Result<Purged, Error> {
        let mut total = Purged { removed: 0, more: true };
        let mut began = Instant::now();
        while total.more && !stop() {
            let slice = self.purge()?;
            total = Purged { removed: total.removed + slice.removed, more: slice.more };
            if slice.more && began.elapsed() >= BUDGET {
                self.nap(began.elapsed());
                began = Instant::now();
            }
        }
        Ok(total)
    }

    /// Purges a slice, and tells of it.
    fn purge(&self) -> Result<Purged, Error> {
        let (now, began) = (self.clock.now(), Instant::now());
        let purged = self.provider.purge(now, SLICE);
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

    /// Sleeps, or wakes early to end; tells whether to go on.
    fn nap(&self, time: Duration) -> bool {
        let mut sleep = self.sleep.lock();
        // A time too far ahead to be represented is no time at all.
        let until = Instant::now().checked_add(time);
        while !self.stopped() {
            let timed_out = match until {
                Some(until) => self.wake.wait_until(&mut sleep, until).timed_out(),
                None => {
                    self.wake.wait(&mut sleep);
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

/// The time, give or take a tenth: servers started together don't collect together.
fn jittered(every: Duration) -> Duration {
    let tenth = every / 10;
    (every - tenth).saturating_add(tenth.mul_f64(2.0 * rand::rng().random::<f64>()).min(2 * tenth))
}
