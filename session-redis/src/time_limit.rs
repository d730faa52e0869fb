//! Time limits of operations.
//!
//! A timer for each operation would wake the runtime that it belongs to, twice for each: to learn of the
//! limit, and to forget it. Here one task looks from time to time whether an operation is late, and sleeps
//! when there has been none for a while.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;
use tokio::runtime::Handle;
use tokio::sync::Notify;

/// For how many looks without an operation it goes on.
const IDLE_LOOKS: u32 = 50;

#[derive(Clone)]
pub(crate) struct TimeLimits(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Slab<(Instant, Waker)>>,
    /// Whether the task sleeps until it is told.
    sleeps: AtomicBool,
    wake: Notify,
}

impl TimeLimits {
    /// Begins to look after operations that may take about so long: late ones are told within a
    /// twentieth of it.
    pub(crate) fn start(runtime: &Handle, limit: Duration) -> Self {
        let every = (limit / 20).clamp(Duration::from_millis(1), Duration::from_millis(100));
        let shared = Arc::<Shared>::default();
        runtime.spawn(look(Arc::clone(&shared), every));
        Self(shared)
    }

    /// Ends at this time, or a little later.
    pub(crate) fn reached(&self, deadline: Instant) -> Reached<'_> {
        Reached { shared: &self.0, deadline, place: None }
    }
}

async fn look(shared: Arc<Shared>, every: Duration) {
    let mut idle = 0;
    loop {
        tokio::time::sleep(every).await;
        let now = Instant::now();
        let (late, is_idle) = {
            let waiting = shared.waiting.lock();
            let late = waiting.iter().filter(|(_, (deadline, _))| *deadline <= now);
            (late.map(|(_, (_, waker))| waker.clone()).collect::<Vec<_>>(), waiting.is_empty())
        };
        late.into_iter().for_each(Waker::wake);
        idle = if is_idle { idle + 1 } else { 0 };
        if idle == IDLE_LOOKS {
            idle = 0;
            shared.sleeps.store(true, Ordering::SeqCst);
            // An operation that came before that doesn't wake us.
            if shared.waiting.lock().is_empty() {
                shared.wake.notified().await;
            }
            shared.sleeps.store(false, Ordering::SeqCst);
        }
    }
}

pub(crate) struct Reached<'t> {
    shared: &'t Shared,
    deadline: Instant,
    place: Option<usize>,
}

impl Future for Reached<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.deadline <= Instant::now() {
            return Poll::Ready(());
        }
        let mut waiting = self.shared.waiting.lock();
        match self.place {
            Some(place) => waiting[place].1.clone_from(context.waker()),
            None => {
                let place = waiting.insert((self.deadline, context.waker().clone()));
                drop(waiting);
                self.place = Some(place);
                if self.shared.sleeps.swap(false, Ordering::SeqCst) {
                    self.shared.wake.notify_one();
                }
            }
        }
        Poll::Pending
    }
}

impl Drop for Reached<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.shared.waiting.lock().remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;

    #[test]
    fn what_is_late_is_told_at_once_and_after_a_pause() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let limits = TimeLimits::start(runtime.handle(), Duration::from_millis(20));
        for _ in 0..3 {
            let deadline = Instant::now() + Duration::from_millis(5);
            block_on(limits.reached(deadline));
            assert!(Instant::now() >= deadline);
            // Until the task sleeps, so that the next one has to wake it.
            while !limits.0.sleeps.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
        }
        block_on(limits.reached(Instant::now()));
        assert!(limits.0.waiting.lock().is_empty());
    }
}
