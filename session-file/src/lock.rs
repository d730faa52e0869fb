//! Locks: one change of a session at a time.
//!
//! Each session belongs to a stripe, and changes of a stripe's sessions exclude each other. Within the
//! process they wait for the stripe's asynchronous mutex, so waiting takes no thread. Between processes,
//! the holder of the mutex takes the stripe's lock, which is platform-specific. Reads take neither.
//!
//! Order of locks: the mutex first, then the lock between processes.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_lock::{Mutex, MutexGuardArc};
use session_core::Error;

use crate::disk;
use crate::error::failed;
use crate::name::{Name, STRIPES};
use crate::platform;

/// How long a change waits for another process. A process that works holds a lock for a few disk writes,
/// and the lock of a process that dies is released at once. Only a stopped or frozen process holds it
/// for so long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause between two attempts to get a lock.
const MAX_PAUSE: Duration = Duration::from_millis(2);

/// The locks of an open store.
pub(crate) struct Locks {
    processes: platform::Locks,
    stripes: Box<[Arc<Mutex<()>>]>,
    timeout: Duration,
}

/// The guard of a stripe's mutex.
pub(crate) struct Queued {
    stripe: usize,
    _mutex: MutexGuardArc<()>,
    deadline: Instant,
}

/// The guards of a stripe's mutex and of its lock between processes: the right to change the stripe's
/// sessions.
pub(crate) struct Held<'l> {
    /// Declared first, so that it is dropped before the mutex.
    _lock: platform::Lock<'l>,
    _queued: Queued,
}

impl Locks {
    /// Opens the locks of the store with this directory and lock file.
    pub(crate) fn open(root: &OwnedFd, lock_file: OwnedFd) -> Result<Self, Error> {
        let processes = platform::Locks::open(root, lock_file).map_err(failed(OPENING))?;
        let stripes = (0..STRIPES).map(|_| Arc::default()).collect();
        Ok(Self { processes, stripes, timeout: LOCK_TIMEOUT })
    }

    /// Sets how long a change waits for another process. Tests don't wait.
    #[cfg(test)]
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Waits for the mutex of the session's stripe.
    pub(crate) async fn queue(&self, name: &Name) -> Queued {
        let deadline = Instant::now() + self.timeout;
        let stripe = name.stripe();
        Queued { stripe, _mutex: self.stripes[stripe].lock_arc().await, deadline }
    }

    /// Takes the mutex of the session's stripe if it is free.
    pub(crate) fn try_queue(&self, name: &Name) -> Option<Queued> {
        let stripe = name.stripe();
        let mutex = self.stripes[stripe].try_lock_arc()?;
        // The deadline is now: a collection doesn't wait, as it comes back later.
        Some(Queued { stripe, _mutex: mutex, deadline: Instant::now() })
    }

    /// Takes the stripe's lock between processes; waits for it until the deadline.
    pub(crate) fn hold(&self, queued: Queued) -> Result<Held<'_>, Error> {
        let mut pause = Duration::from_micros(20);
        loop {
            if let Some(lock) = self.try_lock(queued.stripe)? {
                return Ok(Held { _lock: lock, _queued: queued });
            }
            if Instant::now() >= queued.deadline {
                return Err(Error::unavailable("another process holds the session's lock"));
            }
            // There is no way to wait for such a lock with a time limit, so this polls.
            thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Takes the stripe's lock between processes if it is free.
    pub(crate) fn try_hold(&self, queued: Queued) -> Result<Option<Held<'_>>, Error> {
        let lock = self.try_lock(queued.stripe)?;
        Ok(lock.map(|lock| Held { _lock: lock, _queued: queued }))
    }

    fn try_lock(&self, stripe: usize) -> Result<Option<platform::Lock<'_>>, Error> {
        let lock = self.processes.try_lock(stripe).map_err(failed("locking a session"))?;
        if lock.is_some() {
            self.check()?;
        }
        Ok(lock)
    }

    /// Checks that the lock file still has a name. If it was removed, processes that open the store
    /// later have another lock file, and locks on this one don't exclude them.
    fn check(&self) -> Result<(), Error> {
        let stat = disk::stat(self.processes.file()).map_err(failed("looking at the lock file"))?;
        match stat.st_nlink {
            0 => Err(Error::unavailable("the store's lock file was removed; restart the process")),
            _ => Ok(()),
        }
    }

    /// Locks this token, which shows that this opening of the store lives. Returns `false` if another
    /// opening has the token.
    pub(crate) fn claim(&mut self, token: u64) -> Result<bool, Error> {
        self.processes.claim(token).map_err(failed(OPENING))
    }

    /// Returns whether another opening of the store has this token.
    pub(crate) fn lives(&self, token: u64) -> Result<bool, Error> {
        self.processes.lives(token).map_err(failed("looking at a lock"))
    }
}

const OPENING: &str = "opening the store's locks";
