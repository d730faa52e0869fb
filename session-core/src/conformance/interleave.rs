//! Several futures in one order of many.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

use super::random::Random;

/// A future for [`interleave`].
pub type Task<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs several futures to their end on one thread, polled in an order that the seed decides;
/// returns their outcomes.
///
/// Only futures that were woken are polled. So futures that wait for nothing but each other and a
/// [`Delayed`](crate::conformance::Delayed) provider take the same course for the same seed, and
/// others, that wait for a real store, still get a random one.
pub async fn interleave<T>(seed: u64, tasks: Vec<Task<'_, T>>) -> Vec<T> {
    let random = Random::new(seed);
    let mut entries: Vec<Entry<'_, T>> = tasks.into_iter().map(Entry::new).collect();
    poll_fn(|context| {
        for entry in &entries {
            *entry.alarm.outer.lock() = Some(context.waker().clone());
        }
        loop {
            let mut ready: Vec<_> = entries.iter_mut().filter(|entry| entry.is_ready()).collect();
            if ready.is_empty() {
                break;
            }
            let chosen = random.below(ready.len());
            ready[chosen].poll();
        }
        match entries.iter().all(|entry| entry.task.is_none()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    entries.into_iter().filter_map(|entry| entry.outcome).collect()
}

/// Polls a future at most this often and then drops it; `None` if it had not ended by then.
pub async fn abandon_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = Box::pin(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

struct Entry<'a, T> {
    task: Option<Task<'a, T>>,
    outcome: Option<T>,
    alarm: Arc<Alarm>,
}

impl<'a, T> Entry<'a, T> {
    fn new(task: Task<'a, T>) -> Self {
        let alarm = Alarm { woken: AtomicBool::new(true), outer: Mutex::default() };
        Self { task: Some(task), outcome: None, alarm: Arc::new(alarm) }
    }

    fn is_ready(&self) -> bool {
        self.task.is_some() && self.alarm.woken.load(Ordering::Acquire)
    }

    fn poll(&mut self) {
        let Some(task) = &mut self.task else { return };
        self.alarm.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&self.alarm));
        if let Poll::Ready(outcome) = task.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.outcome = Some(outcome);
            self.task = None;
        }
    }
}

/// Notes that a task was woken, and wakes the executor around all of them.
struct Alarm {
    woken: AtomicBool,
    outer: Mutex<Option<Waker>>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let outer = self.outer.lock().clone();
        if let Some(outer) = outer {
            outer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, yield_now};

    /// The order in which three tasks of two steps each take their steps.
    fn order(seed: u64) -> Vec<usize> {
        let steps = Mutex::new(Vec::new());
        let tasks: Vec<Task<'_, usize>> = (0..3)
            .map(|task| {
                let steps = &steps;
                Box::pin(async move {
                    for _ in 0..2 {
                        steps.lock().push(task);
                        yield_now().await;
                    }
                    task
                }) as Task<'_, usize>
            })
            .collect();
        assert_eq!(block_on(interleave(seed, tasks)), [0, 1, 2]);
        steps.into_inner()
    }

    #[test]
    fn a_seed_is_an_order_and_seeds_find_all_of_them() {
        let orders: std::collections::BTreeSet<_> = (0..2000).map(order).collect();
        assert_eq!(orders.len(), 90, "6! / (2! 2! 2!)");
        assert_eq!(order(7), order(7));
    }

    #[test]
    fn an_abandoned_future_takes_no_further_step() {
        for polls in 0..4 {
            let mut steps = 0;
            let done = block_on(abandon_after(polls, async {
                for _ in 0..2 {
                    steps += 1;
                    yield_now().await;
                }
            }));
            assert_eq!((steps, done.is_some()), (polls.min(2), polls == 3));
        }
    }
}
