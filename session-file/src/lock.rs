//! One change at a time for a session.
//!
//! A session's changes exclude each other by its stripe: within the process they queue at a mutex,
//! asynchronously, so that those who wait take no thread; among processes the holder of the mutex
//! takes the stripe's lock among processes, which is the platform's. Readers take neither.
//!
//! Order: the mutex before the lock among processes.

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

/// How long a change waits for another process. One that works holds a lock for some writes to the
/// disk, and one that dies for no time at all: only one that was stopped or frozen holds it for so
/// long.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest pause between two tries to get a lock.
const MAX_PAUSE: Duration = Duration::from_millis(2);

/// The locks of an open store.
pub(crate) struct Locks {
    processes: platform::Locks,
    stripes: Box<[Arc<Mutex<()>>]>,
    timeout: Duration,
}

/// A stripe's mutex, held.
pub(crate) struct Queued {
    stripe: usize,
    _mutex: MutexGuardArc<()>,
    deadline: Instant,
}

/// The right to change a session.
pub(crate) struct Held<'l> {
    /// Dropped before the mutex.
    _lock: platform::Lock<'l>,
    _queued: Queued,
}

impl Locks {
    /// Opens the locks of the store in a directory, whose lock file this is.
    pub(crate) fn open(root: &OwnedFd, lock_file: OwnedFd) -> Result<Self, Error> {
        let processes = platform::Locks::open(root, lock_file).map_err(failed(OPENING))?;
        let stripes = (0..STRIPES).map(|_| Arc::default()).collect();
        Ok(Self { processes, stripes, timeout: LOCK_TIMEOUT })
    }

    /// These locks with another patience. Tests have none.
    #[cfg(test)]
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    /// Waits until no other change of this session is under way in this process.
    pub(crate) async fn queue(&self, name: &Name) -> Queued {
        let deadline = Instant::now() + self.timeout;
        let stripe = name.stripe();
        Queued { stripe, _mutex: self.stripes[stripe].lock_arc().await, deadline }
    }

    /// The same, if there is no need to wait.
    pub(crate) fn try_queue(&self, name: &Name) -> Option<Queued> {
        let stripe = name.stripe();
        let mutex = self.stripes[stripe].try_lock_arc()?;
        // No patience: who only collects comes again.
        Some(Queued { stripe, _mutex: mutex, deadline: Instant::now() })
    }

    /// Keeps other processes out, too. Waits if need be.
    pub(crate) fn hold(&self, queued: Queued) -> Result<Held<'_>, Error> {
        let mut pause = Duration::from_micros(20);
        loop {
            if let Some(lock) = self.try_lock(queued.stripe)? {
                return Ok(Held { _lock: lock, _queued: queued });
            }
            if Instant::now() >= queued.deadline {
                return Err(Error::unavailable("another process holds the session's lock"));
            }
            // A lock that can be waited for with a limit does not exist.
            thread::sleep(pause);
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Keeps other processes out if that needs no waiting.
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

    /// Whether a lock keeps others out. Where something else removed the lock file, those who open
    /// the store from then on have another one.
    fn check(&self) -> Result<(), Error> {
        let stat = disk::stat(self.processes.file()).map_err(failed("looking at the lock file"))?;
        match stat.st_nlink {
            0 => Err(Error::unavailable(
                "the lock file was removed; restart to go on with a new one",
            )),
            _ => Ok(()),
        }
    }

    /// Shows others that whoever has this token lives; `false` if somebody else shows it.
    pub(crate) fn claim(&mut self, token: u64) -> Result<bool, Error> {
        self.processes.claim(token).map_err(failed(OPENING))
    }

    /// Whether another opening of the store has this token.
    pub(crate) fn lives(&self, token: u64) -> Result<bool, Error> {
        self.processes.lives(token).map_err(failed("looking at a lock"))
    }
}

const OPENING: &str = "opening the store's locks";
