//! Threads for what blocks.
//!
//! To wake a thread that sleeps, and then to be woken by it, takes longer than all else that a
//! change does that doesn't wait for the disk. So where a job is likely to end soon, both sides stay
//! awake for a moment: the thread looks for the next job, and whoever waits asks again, as long as
//! this is the only job. With many jobs nobody has to be woken for each, and the processors have
//! better things to do.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use parking_lot::{Condvar, Mutex, MutexGuard};
use session_core::Error;

/// The most threads. As many changes wait for the disk at once, and the more they are, the more of
/// them a journal writes together.
const THREADS: usize = 256;

/// How long a thread sleeps before it ends.
const IDLE: Duration = Duration::from_secs(1);

/// How long both sides stay awake: twice what a change takes that doesn't wait for the disk.
const MOMENT: Duration = Duration::from_micros(50);

/// How long a job is likely to take.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// A few system calls on what is in memory.
    Soon,
    /// It waits for the disk, or looks at very much.
    Later,
}

static POOL: Pool = Pool {
    state: Mutex::new(State { jobs: VecDeque::new(), threads: 0, asleep: 0, watched: false }),
    queued: AtomicUsize::new(0),
    unfinished: AtomicUsize::new(0),
    wanted: Condvar::new(),
};

struct Pool {
    state: Mutex<State>,
    /// The number of jobs that no thread has taken, for the one that watches.
    queued: AtomicUsize,
    /// The number of jobs that have not ended.
    unfinished: AtomicUsize,
    wanted: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    threads: usize,
    /// Threads that sleep, or were called and don't know yet.
    asleep: usize,
    /// Whether a thread stays awake for the next job.
    watched: bool,
}

struct Job {
    run: Box<dyn FnOnce() + Send>,
    ends: Ends,
}

/// Counts a job for as long as it has not ended.
struct Unfinished;

impl Unfinished {
    fn new() -> Self {
        POOL.unfinished.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        POOL.unfinished.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs on another thread what blocks.
///
/// # Cancellation
/// A job that no thread has taken yet is not done; another one goes on to its end.
///
/// # Panics
/// If the job does.
pub(crate) async fn run<T: Send + 'static>(
    ends: Ends,
    job: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, mut receiver) = oneshot::channel();
    let unfinished = Unfinished::new();
    let run = Box::new(move || {
        if !sender.is_canceled() {
            let result = catch_unwind(AssertUnwindSafe(job));
            // First this, so that whoever hears of the end and starts another job finds it alone.
            drop(unfinished);
            let _ = sender.send(result);
        }
    });
    POOL.submit(Job { run, ends });

    let asking_ends = (ends == Ends::Soon).then(|| Instant::now() + MOMENT);
    let answer = poll_fn(|context| {
        let polled = Pin::new(&mut receiver).poll(context);
        if polled.is_pending()
            && asking_ends.is_some_and(|end| POOL.is_alone() && Instant::now() < end)
        {
            // The job's thread may be waiting for this processor.
            thread::yield_now();
            context.waker().wake_by_ref();
        }
        polled
    });
    match answer.await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => resume_unwind(panic),
        Err(oneshot::Canceled) => Err(Error::unavailable("no thread can be started")),
    }
}

impl Pool {
    fn is_alone(&self) -> bool {
        self.unfinished.load(Ordering::Relaxed) <= 1
    }

    fn submit(&'static self, job: Job) {
        let mut state = self.state.lock();
        state.jobs.push_back(job);
        self.queued.store(state.jobs.len(), Ordering::Relaxed);
        let untaken = state.jobs.len() - usize::from(state.watched);
        if untaken == 0 {
            // The thread that watches sees it.
        } else if untaken <= state.asleep {
            self.wanted.notify_one();
        } else if state.threads < THREADS {
            let thread = thread::Builder::new().name("session-file".to_owned());
            if thread.spawn(|| self.work()).is_ok() {
                state.threads += 1;
            } else if state.threads == 0 {
                // Nobody would come for it. Dropped unlocked: that wakes whoever asked.
                let abandoned = std::mem::take(&mut state.jobs);
                drop(state);
                drop(abandoned);
            }
        }
    }

    /// What a thread does until it has slept for long enough.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            let mut ended = Ends::Later;
            while let Some(job) = state.jobs.pop_front() {
                self.queued.store(state.jobs.len(), Ordering::Relaxed);
                ended = job.ends;
                MutexGuard::unlocked(&mut state, job.run);
            }
            if ended == Ends::Soon && !state.watched {
                state.watched = true;
                MutexGuard::unlocked(&mut state, || self.watch());
                state.watched = false;
                if !state.jobs.is_empty() {
                    continue;
                }
            }
            state.asleep += 1;
            let slept = self.wanted.wait_for(&mut state, IDLE);
            state.asleep -= 1;
            // Counted as asleep until here: a job that came meanwhile may have been left to it.
            if slept.timed_out() && state.jobs.is_empty() {
                state.threads -= 1;
                return;
            }
        }
    }

    /// Waits for a job, but not for long.
    fn watch(&self) {
        let end = Instant::now() + MOMENT;
        while self.queued.load(Ordering::Relaxed) == 0 && Instant::now() < end {
            thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use futures_lite::future::block_on;

    use super::*;

    const BOTH: [Ends; 2] = [Ends::Soon, Ends::Later];

    /// Jobs one after another, from several threads at once.
    #[test]
    fn every_job_answers_whoever_asked() {
        for ends in BOTH {
            thread::scope(|scope| {
                for client in 0..8 {
                    scope.spawn(move || {
                        for number in 0..500 {
                            let answer = block_on(run(ends, move || Ok((client, number))));
                            assert_eq!(answer.expect("is done"), (client, number));
                        }
                    });
                }
            });
        }
    }

    /// None waits in the queue for one that waits for it.
    #[test]
    fn jobs_that_block_get_a_thread_each() {
        for ends in BOTH {
            let together = &*Box::leak(Box::new(Barrier::new(THREADS / 4)));
            let wait = || {
                together.wait();
                Ok(())
            };
            thread::scope(|scope| {
                for _ in 0..THREADS / 4 {
                    scope.spawn(|| block_on(run(ends, wait)).expect("is done"));
                }
            });
        }
    }

    #[test]
    fn a_panic_comes_to_whoever_asked_and_harms_no_other() {
        for ends in BOTH {
            let job = || -> Result<(), Error> { panic!("of a test") };
            let caught = catch_unwind(|| block_on(run(ends, job)));
            let panic = caught.expect_err("goes on").downcast::<&str>().expect("is text");
            assert_eq!(*panic, "of a test");
            block_on(run(ends, || Ok(()))).expect("is done");
        }
    }
}
