//! Where operations run.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_lite::future;
use futures_timer::Delay;
use session_core::Error;
#[cfg(feature = "postgres")]
use tokio::runtime::Handle;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Whether an operation may have written something without knowing that it did. The operation updates it as it runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doubt(Arc<AtomicBool>);

impl Doubt {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    pub(crate) fn set(&self, doubt: bool) {
        self.0.store(doubt, Ordering::Release);
    }
}

/// Runs operations, each as a task of its own and within the time limit.
///
/// The driver wants a tokio runtime that lives as long as its connections. The caller may be on
/// another executor, on the timer thread, or on a runtime that ends before the provider does (as
/// in tests); so there is one here. An operation whose request is dropped half-way is completed, which
/// doesn't cost the connection that it was using.
pub(crate) struct Worker {
    limit: Duration,
    place: Place,
}

enum Place {
    Own(Option<Own>),
    /// The runtime of the application, whose pool is used.
    #[cfg(feature = "postgres")]
    Applications(Handle),
}

struct Own {
    runtime: Runtime,
    /// Each operation has a clone.
    operation: mpsc::Sender<Infallible>,
    /// Ends with the last clone.
    operations: mpsc::Receiver<Infallible>,
}

impl Worker {
    /// A worker with a runtime of its own.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the operating system has no threads left.
    pub(crate) fn new(name: &'static str, limit: Duration) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name(name)
            .enable_all()
            .build()
            .map_err(Error::unavailable)?;
        let (operation, operations) = mpsc::channel(1);
        Ok(Self { limit, place: Place::Own(Some(Own { runtime, operation, operations })) })
    }

    /// A worker on a runtime of the application.
    #[cfg(feature = "postgres")]
    pub(crate) fn on(handle: Handle, limit: Duration) -> Self {
        Self { limit, place: Place::Applications(handle) }
    }

    /// Runs an operation to its end, or to the end of the time limit.
    ///
    /// # Cancellation
    /// An operation that has begun is completed.
    pub(crate) async fn perform<T, F>(&self, operation: impl FnOnce(Doubt) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let doubt = Doubt::default();
        let (limit, running) = (self.limit, operation(doubt.clone()));
        let task = match &self.place {
            Place::Own(own) => {
                let own = own.as_ref().expect("there until dropped");
                let alive = own.operation.clone();
                own.runtime.spawn(async move {
                    let _alive = alive;
                    tokio::time::timeout(limit, running).await
                })
            }
            #[cfg(feature = "postgres")]
            Place::Applications(handle) => {
                handle.spawn(async move { tokio::time::timeout(limit, running).await })
            }
        };
        let cause = match task.await {
            Ok(Ok(result)) => return result,
            Ok(Err(_)) => "no answer within operation_timeout",
            Err(error) if error.is_panic() => "the driver failed",
            Err(_) => "the runtime of the pool that was handed over has ended",
        };
        Err(match doubt.get() {
            true => Error::in_doubt(cause),
            false => Error::unavailable(cause),
        })
    }

    /// Runs an operation, and blocks this thread meanwhile.
    ///
    /// # Errors
    /// The operation's own. [`Error::Unavailable`] if it is called on a thread that the operation needs, which is one
    /// of the application's runtime.
    pub(crate) fn block_on<T>(
        &self,
        operation: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        // The operation itself ends within the limit, unless this thread is the one that has to run it.
        let late = async {
            Delay::new(self.limit + self.limit / 4).await;
            Err(Error::unavailable(
                "no answer within operation_timeout; was this called on a thread of the runtime that runs it?",
            ))
        };
        future::block_on(future::or(operation, late))
    }
}

impl Drop for Worker {
    /// Lets operations end without waiting for them, because this thread may be a worker of another runtime, which
    /// must not block.
    fn drop(&mut self) {
        let own = match &mut self.place {
            Place::Own(own) => own.take(),
            #[cfg(feature = "postgres")]
            Place::Applications(_) => None,
        };
        let Some(Own { runtime, operation, mut operations }) = own else { return };
        let runtime = Background(Some(runtime));
        let limit = self.limit;
        let end = move || {
            let Background(Some(runtime)) = &runtime else { return };
            runtime.block_on(async move {
                drop(operation);
                let ended = async { while operations.recv().await.is_some() {} };
                // Fails if the database doesn't answer.
                let _ = tokio::time::timeout(limit, ended).await;
            });
        };
        // If no thread can be started, dropping the closure aborts the operations.
        let _ = std::thread::Builder::new().name("session-sql-end".into()).spawn(end);
    }
}

/// A runtime that can be dropped anywhere, on another runtime's worker too.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
