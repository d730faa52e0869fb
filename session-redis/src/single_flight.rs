//! [`SingleFlight`]: work that is done once for all operations that wait for it.

use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::failure::Cause;

/// Runs work once at a time, for all operations that need its result.
///
/// The work goes on when the operations that wait for it give up. If it ended with the operation that began it, the
/// next one would begin it again with less time left, and under load no attempt would ever finish.
pub(crate) struct SingleFlight<T>(Mutex<Option<Flight<T>>>);

struct Flight<T> {
    task: AbortHandle,
    result: Shared<BoxFuture<'static, Result<T, Cause>>>,
}

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone + Send + Sync + 'static> SingleFlight<T> {
    /// Waits for the result of the work that is under way, or begins the work on this runtime. Results are not kept:
    /// the caller first looks at what the last work has stored.
    pub(crate) async fn join<W>(
        &self,
        runtime: &Handle,
        work: impl FnOnce() -> W,
    ) -> Result<T, Cause>
    where
        W: Future<Output = Result<T, Cause>> + Send + 'static,
    {
        let result = {
            let mut current = self.0.lock();
            match &*current {
                Some(flight) if !flight.task.is_finished() => flight.result.clone(),
                _ => {
                    let task = runtime.spawn(work());
                    let abort = task.abort_handle();
                    let ended = |ended| match ended {
                        Ok(result) => result,
                        Err(_) => Err(Cause::from("the client failed")),
                    };
                    let result = task.map(ended).boxed().shared();
                    *current = Some(Flight { task: abort, result: result.clone() });
                    result
                }
            }
        };
        result.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, or, yield_now};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    #[test]
    fn work_goes_on_without_those_who_wait_and_is_done_anew_afterwards() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let flight = SingleFlight::default();
        let (begun, go) = (Arc::<AtomicU32>::default(), Arc::<Notify>::default());
        let work = || {
            let (begun, go) = (Arc::clone(&begun), Arc::clone(&go));
            async move {
                let number = begun.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                match number {
                    1 => Err(Cause::from("it fails")),
                    number => Ok(number),
                }
            }
        };
        let join = || flight.join(runtime.handle(), work);
        for _ in 0..3 {
            let gives_up = async {
                yield_now().await;
                Ok(9)
            };
            assert_eq!(block_on(or(join(), gives_up)).ok(), Some(9));
        }
        let both = block_on(async {
            let (first, second) = (join(), join());
            go.notify_one();
            futures_util::future::join(first, second).await
        });
        assert_eq!((both.0.ok(), both.1.ok()), (Some(0), Some(0)));
        for (number, wanted) in [(1, None), (2, Some(2))] {
            go.notify_one();
            assert_eq!(block_on(join()).ok(), wanted);
            assert_eq!(begun.load(Ordering::SeqCst), number + 1);
        }
    }
}
