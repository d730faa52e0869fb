//! One change at a time for a session.
//!
//! A session's changes exclude each other by its stripe: within the process they queue at a mutex,
//! asynchronously, so that those who wait take no thread; among processes the holder of the mutex
//! takes the stripe's lock among processes, which is the platform's. Readers take none of both.
//!
//! Order: mutexes before locks among processes, lower stripes before higher ones.

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
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two tries to get a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// The locks of an open store.
pub(crate) struct Locks {
    processes: platform::Locks,
    stripes: Box<[Arc<Mutex<()>>]>,
    patience: Duration,
}

/// One or two mutexes held, in ascending order.
pub(crate) struct Queued {
    stripes: [Option<(usize, MutexGuardArc<()>)>; 2],
    patience: Instant,
}

/// The right to change one or two sessions.
pub(crate) struct Held<'l> {
    /// Dropped before the mutexes.
    locks: [Option<platform::Lock<'l>>; 2],
    queued: Queued,
}

impl Locks {
    /// Opens the locks of the store in a directory, whose lock file this is.
    pub(crate) fn open(root: &OwnedFd, lock_file: OwnedFd) -> Result<Self, Error> {
        let processes = platform::Locks::open(root, lock_file).map_err(failed(OPENING))?;
        let stripes = (0..STRIPES).map(|_| Arc::default()).collect();
        Ok(Self { processes, stripes, patience: PATIENCE })
    }

    /// These locks with another patience. Tests have none.
    #[cfg(test)]
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Waits until no other change of this session is under way in this process.
    pub(crate) async fn queue(&self, name: &Name) -> Queued {
        self.queue_both(name, name).await
    }

    /// The same for two sessions.
    pub(crate) async fn queue_both(&self, one: &Name, two: &Name) -> Queued {
        let patience = Instant::now() + self.patience;
        let (one, two) = (one.stripe().min(two.stripe()), one.stripe().max(two.stripe()));
        let first = self.stripes[one].lock_arc().await;
        let second = match one == two {
            true => None,
            false => Some((two, self.stripes[two].lock_arc().await)),
        };
        Queued { stripes: [Some((one, first)), second], patience }
    }

    /// What [`queue`](Self::queue) answers, if there is no need to wait.
    pub(crate) fn try_queue(&self, name: &Name) -> Option<Queued> {
        let first = self.stripes[name.stripe()].try_lock_arc()?;
        // No patience: who only collects comes again.
        Some(Queued { stripes: [Some((name.stripe(), first)), None], patience: Instant::now() })
    }

    /// Keeps other processes out, too. Waits if need be.
    pub(crate) fn hold(&self, queued: Queued) -> Result<Held<'_>, Error> {
        let patience = queued.patience;
        let mut held = Held { locks: [None, None], queued };
        for (lock, queued) in held.locks.iter_mut().zip(&held.queued.stripes) {
            let Some((stripe, _)) = queued else { continue };
            let mut pause = Duration::from_micros(20);
            *lock = loop {
                if let Some(lock) = self.try_lock(*stripe)? {
                    break Some(lock);
                }
                if Instant::now() >= patience {
                    return Err(Error::unavailable("another process holds the session's lock"));
                }
                // A lock that can be waited for with a limit does not exist.
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            };
        }
        Ok(held)
    }

    /// Keeps other processes out if that needs no waiting.
    pub(crate) fn try_hold(&self, queued: Queued) -> Result<Option<Held<'_>>, Error> {
        let Some((stripe, _)) = &queued.stripes[0] else { return Ok(None) };
        let lock = self.try_lock(*stripe)?;
        Ok(lock.map(|lock| Held { locks: [Some(lock), None], queued }))
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
