//! What the uses of one handle share.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};

use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use crate::state::State;

/// What the uses of one handle share: nothing until the first load.
///
/// The state is made where it stays: it is large enough for a move to be felt in a request that only
/// reads.
#[derive(Default)]
pub(crate) struct Core {
    loaded: AtomicBool,
    state: Mutex<Option<State>>,
}

impl Core {
    /// Whether there was a load. A handle without one is done with by this look.
    #[inline]
    pub(crate) fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    /// Puts the state there, unless another task was faster: its state is the one then.
    #[inline]
    pub(crate) fn fill(&self, state: impl FnOnce() -> State) {
        self.state.lock().get_or_insert_with(state);
        self.loaded.store(true, Ordering::Release);
    }

    /// The state, after a load.
    #[inline]
    pub(crate) fn lock(&self) -> MappedMutexGuard<'_, State> {
        MutexGuard::map(self.state.lock(), |state| {
            state.as_mut().expect("a session is viewed after its load")
        })
    }

    /// Waits for the right to operate at the store: one operation of a handle at a time.
    ///
    /// It is a flag beside what it guards, because its taking and the look at the state that
    /// follows are one locking then.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.busy {
                if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                    state.waiting.push(context.waker().clone());
                }
                return Poll::Pending;
            }
            Poll::Ready(self.turn_of(&mut state))
        })
        .await
    }

    /// The right to operate at the store, which nobody has.
    pub(crate) fn turn_of(&self, state: &mut State) -> Turn<'_> {
        state.busy = true;
        Turn(Some(self))
    }
}

/// The right to operate at the store, until ended or dropped.
pub(crate) struct Turn<'h>(Option<&'h Core>);

impl Turn<'_> {
    /// Ends it in the same locking as the last look at the state.
    pub(crate) fn end(mut self, mut state: MappedMutexGuard<'_, State>) {
        self.0 = None;
        state.busy = false;
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        // All of them: one that was dropped meanwhile would swallow a single waking.
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(core) = self.0 {
            Turn(None).end(core.lock());
        }
    }
}
