//! One change at a time for a session.
//!
//! A session's changes exclude each other by its stripe: within the process they queue at a mutex,
//! asynchronously, so that those who wait take no thread; among processes the holder of the mutex
//! takes a lock on one byte of the lock file. Readers take none of both.
//!
//! Order: mutexes before byte locks, lower stripes before higher ones.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_lock::{Mutex, MutexGuardArc};
use session_core::Error;

use crate::disk::{self, Disk, Faults};
use crate::error::failed;
use crate::name::{Name, STRIPES};

/// How long a change waits for another process. One that works holds a lock for some writes to the
/// disk, and one that dies for no time at all: only one that was stopped or frozen holds it for so
/// long.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest pause between two tries to get a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(2);

/// Where in the lock file the bytes begin that processes hold for as long as they have the store
/// open.
const LIVES: i64 = 1 << 62;

/// The locks of an open store.
pub(crate) struct Locks {
    file: OwnedFd,
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
    locks: &'l Locks,
    /// Bytes locked so far; the mutexes outlast them.
    bytes: usize,
    queued: Queued,
}

impl Locks {
    pub(crate) fn new(file: OwnedFd) -> Self {
        let stripes = (0..STRIPES).map(|_| Arc::default()).collect();
        Self { file, stripes, patience: PATIENCE }
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
    pub(crate) fn hold<F: Faults>(
        &self,
        disk: &Disk<F>,
        queued: Queued,
    ) -> Result<Held<'_>, Error> {
        let patience = queued.patience;
        let mut held = Held { locks: self, bytes: 0, queued };
        let mut pause = Duration::from_micros(20);
        while let Some(Some((stripe, _))) = held.queued.stripes.get(held.bytes) {
            if disk.try_lock(&self.file, *stripe as i64).map_err(failed("locking a session"))? {
                held.bytes += 1;
                self.check(disk)?;
            } else if Instant::now() < patience {
                // A lock that can be waited for with a limit does not exist.
                thread::sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            } else {
                return Err(Error::unavailable("another process holds the session's lock"));
            }
        }
        Ok(held)
    }

    /// Keeps other processes out if that needs no waiting.
    pub(crate) fn try_hold<F: Faults>(
        &self,
        disk: &Disk<F>,
        queued: Queued,
    ) -> Result<Option<Held<'_>>, Error> {
        let Some((stripe, _)) = &queued.stripes[0] else { return Ok(None) };
        let locked = disk.try_lock(&self.file, *stripe as i64);
        if !locked.map_err(failed("locking a session"))? {
            return Ok(None);
        }
        let held = Held { locks: self, bytes: 1, queued };
        self.check(disk)?;
        Ok(Some(held))
    }

    /// Whether the lock keeps others out. Where something else removed the lock file, those who open
    /// the store from then on have another one.
    fn check<F: Faults>(&self, disk: &Disk<F>) -> Result<(), Error> {
        match disk.stat(&self.file).map_err(failed("looking at the lock file"))?.st_nlink {
            0 => Err(Error::unavailable(
                "the lock file was removed; restart to go on with a new one",
            )),
            _ => Ok(()),
        }
    }

    /// Shows others that whoever has this token lives; `false` if somebody else shows it.
    pub(crate) fn claim<F: Faults>(&self, disk: &Disk<F>, token: u64) -> Result<bool, Error> {
        disk.try_lock(&self.file, life(token)).map_err(failed("locking the store"))
    }

    /// Whether another opening of the store has this token.
    pub(crate) fn lives<F: Faults>(&self, disk: &Disk<F>, token: u64) -> Result<bool, Error> {
        disk.is_locked(&self.file, life(token)).map_err(failed("looking at a lock"))
    }
}

fn life(token: u64) -> i64 {
    // The last byte of a file has no end that could be locked up to.
    LIVES + (token & (u64::MAX >> 3)) as i64
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        for (stripe, _) in self.queued.stripes.iter().take(self.bytes).flatten() {
            disk::unlock(&self.locks.file, *stripe as i64);
        }
    }
}
