//! [`UpdateQueues`]: atomic updates of one session wait here for each other, in the order of their arrival,
//! so that they don't conflict at the store.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_lock::{Mutex, MutexGuardArc};
use futures_lite::future::or;

use crate::{Error, SessionKey};

/// The longest time that an update waits in its queue: enough for more than two thousand updates of 10 ms
/// each.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(30);

/// A queue for each session that is being updated in this process.
///
/// The queues only reduce conflicts at the store, which alone guarantees atomicity. Updates of one session
/// run in the order of their arrival and don't delay updates of other sessions.
#[derive(Default)]
pub(crate) struct UpdateQueues(parking_lot::Mutex<HashMap<SessionKey, Arc<Mutex<()>>>>);

/// The head of a session's queue, until the guard is dropped.
pub(crate) struct QueueGuard<'q> {
    queues: &'q UpdateQueues,
    key: SessionKey,
    lock: Option<MutexGuardArc<()>>,
    /// Whether this update waited for others of the session, so that values loaded earlier are stale.
    pub(crate) waited: bool,
}

impl UpdateQueues {
    /// Waits for the head of a session's queue, for 30 s at most.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after 30 s.
    pub(crate) async fn enter(&self, key: SessionKey) -> Result<QueueGuard<'_>, Error> {
        // Declared before `queue`, so that it is dropped after it, and removes the queue if nobody else
        // waits.
        let mut guard = QueueGuard { queues: self, key, lock: None, waited: false };
        let queue = Arc::clone(self.0.lock().entry(key).or_default());
        guard.lock = queue.try_lock_arc();
        if guard.lock.is_none() {
            guard.waited = true;
            let turn = async { Some(queue.lock_arc().await) };
            let timeout = async {
                futures_timer::Delay::new(UPDATE_TIMEOUT).await;
                None
            };
            guard.lock = or(turn, timeout).await;
            if guard.lock.is_none() {
                return Err(Error::unavailable("too many updates of one session wait"));
            }
        }
        Ok(guard)
    }
}

impl Drop for QueueGuard<'_> {
    /// Leaves the queue, and removes it if nobody waits in it.
    fn drop(&mut self) {
        self.lock = None;
        let mut queues = self.queues.0.lock();
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
        }
    }
}
