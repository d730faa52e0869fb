//! UpdateQueues in which the atomic updates of a session wait for each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_lock::{Mutex, MutexGuardArc};
use futures_lite::future::or;

use crate::{Error, SessionKey};

/// The longest that an update waits for its turn: longer than two thousand updates of 10 ms take.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(30);

/// A queue for each session that is being updated in this process.
///
/// A queue spares conflicts at the store; it decides nothing. Updates of one session take turns in the
/// order of their arrival, and hold up no other session's.
#[derive(Default)]
pub(crate) struct UpdateQueues(parking_lot::Mutex<HashMap<SessionKey, Arc<Mutex<()>>>>);

/// A place at the head of a queue, until dropped.
pub(crate) struct QueueGuard<'q> {
    queues: &'q UpdateQueues,
    key: SessionKey,
    guard: Option<MutexGuardArc<()>>,
    /// Whether other updates of the session went before: what was loaded earlier is stale.
    pub(crate) waited: bool,
}

impl UpdateQueues {
    /// Waits for the head of a session's queue.
    ///
    /// # Errors
    /// [`Error::Unavailable`] after 30 s.
    pub(crate) async fn enter(&self, key: SessionKey) -> Result<QueueGuard<'_>, Error> {
        // Declared before the queue, so that it is dropped after it, and removes a queue that nobody needs.
        let mut place = QueueGuard { queues: self, key, guard: None, waited: false };
        let queue = Arc::clone(self.0.lock().entry(key).or_default());
        place.guard = queue.try_lock_arc();
        if place.guard.is_none() {
            place.waited = true;
            let turn = async { Some(queue.lock_arc().await) };
            let patience = async {
                futures_timer::Delay::new(UPDATE_TIMEOUT).await;
                None
            };
            place.guard = or(turn, patience).await;
            if place.guard.is_none() {
                return Err(Error::unavailable("too many updates of one session wait"));
            }
        }
        Ok(place)
    }
}

impl Drop for QueueGuard<'_> {
    /// Removes a queue in which nobody waits.
    fn drop(&mut self) {
        self.guard = None;
        let mut queues = self.queues.0.lock();
        if queues.get(&self.key).is_some_and(|queue| Arc::strong_count(queue) == 1) {
            queues.remove(&self.key);
        }
    }
}
