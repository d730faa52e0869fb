//! The driver's client, on the provider's own runtime.

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mongodb::bson::RawDocumentBuf;
use mongodb::options::{
    Acknowledgment, ClientOptions, CollectionOptions, ReadPreference, SelectionCriteria,
    WriteConcern,
};
use mongodb::{Client as Driver, Collection};
use session_core::Error;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OnceCell, mpsc};

use crate::failure;
use crate::write::Sessions;
use crate::{MongoConfig, index};

/// The collection, whose documents the driver does not parse.
pub(crate) type Documents = Collection<RawDocumentBuf>;

/// How long an operation waits for a usable server, unless the URI says otherwise.
const SERVER_SELECTION: Duration = Duration::from_secs(3);

/// Whether an operation reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Performs operations within the time limit. Connects when it is first used.
///
/// The driver needs a tokio runtime that lives as long as its connections. The caller may run on another
/// executor, on the timer thread, or on a runtime that ends before the provider does (as in tests), so
/// the client has its own runtime. Each operation runs as a task there, so a request that is dropped
/// half-way doesn't lose the connection that it was using.
pub(crate) struct Client {
    /// `None` only after [`Drop`].
    running: Option<Running>,
}

/// The runtime, and the state that its tasks share.
struct Running {
    shared: Arc<Shared>,
    runtime: Background,
    /// Each running operation has a clone.
    operation: mpsc::Sender<Infallible>,
    /// Closes when the last operation has dropped its clone.
    operations: mpsc::Receiver<Infallible>,
}

struct Shared {
    config: MongoConfig,
    documents: OnceCell<Documents>,
    /// Set once the collection was checked and has its indexes.
    ready: OnceCell<()>,
}

impl Client {
    pub(crate) fn new(config: MongoConfig) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("session-mongo")
            .enable_all()
            .build()
            .map_err(Error::unavailable)?;
        let shared = Shared { config, documents: OnceCell::new(), ready: OnceCell::new() };
        let (operation, operations) = mpsc::channel(1);
        let shared = Arc::new(shared);
        let runtime = Background(Some(runtime));
        Ok(Self { running: Some(Running { shared, runtime, operation, operations }) })
    }

    pub(crate) fn config(&self) -> &MongoConfig {
        &self.running().shared.config
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("is present until dropped")
    }

    /// Performs an operation within the time limit.
    ///
    /// # Cancellation
    /// If the future is dropped, an operation that has begun is completed in the background.
    pub(crate) async fn perform<T, F>(
        &self,
        access: Access,
        operation: impl FnOnce(Sessions) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let in_doubt = Arc::new(AtomicBool::new(false));
        let running = self.running();
        let shared = Arc::clone(&running.shared);
        // A little more than the driver's own time-out, so that the driver reports first: it knows
        // whether the command was sent.
        let limit = self.config().operation_timeout.mul_f64(1.05);
        let alive = running.operation.clone();
        let writing = Arc::clone(&in_doubt);
        let task = async move {
            let _alive = alive;
            let whole =
                async move { operation(Sessions::new(shared.documents().await?, writing)).await };
            tokio::time::timeout(limit, whole).await
        };
        let cause = match running.runtime.get().spawn(task).await {
            Ok(Ok(result)) => return result,
            Ok(Err(_)) => "no reply within operation_timeout",
            Err(_) => "the driver failed",
        };
        Err(match access {
            Access::Write if in_doubt.load(Ordering::Acquire) => Error::in_doubt(cause),
            _ => Error::unavailable(cause),
        })
    }

    /// Like [`perform`](Self::perform), for a thread that may block, whether or not it is a worker of a
    /// runtime.
    pub(crate) fn perform_blocking<T, F>(
        &self,
        access: Access,
        operation: impl FnOnce(Sessions) -> F + Send + 'static,
    ) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        futures_lite::future::block_on(self.perform(access, operation))
    }
}

impl Shared {
    /// Returns the collection, connected and indexed. If a step fails, the next operation tries it
    /// again.
    async fn documents(&self) -> Result<Documents, Error> {
        let documents = self.documents.get_or_try_init(|| self.connect()).await?;
        self.ready.get_or_try_init(|| index::prepare(documents, &self.config)).await?;
        Ok(documents.clone())
    }

    /// Makes the driver's client, which connects in the background.
    async fn connect(&self) -> Result<Documents, Error> {
        let config = &self.config;
        // This looks up DNS names for `mongodb+srv` URIs, and does no I/O for others.
        let mut options = ClientOptions::parse(config.uri.clone())
            .await
            .map_err(|error| failure::of_read(&error))?;
        let limit = config.operation_timeout;
        let selection = options.server_selection_timeout.unwrap_or(SERVER_SELECTION);
        options.server_selection_timeout = Some(selection.min(limit));
        options.connect_timeout.get_or_insert(limit);
        options.app_name.get_or_insert_with(|| "session-mongo".to_owned());
        if let Some(adjust) = &config.adjust {
            adjust(&mut options);
        }

        let mut concern = options.write_concern.take().unwrap_or_default();
        concern = WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(concern.w_timeout.unwrap_or(limit))
            .build();
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let collection = CollectionOptions::builder()
            .write_concern(concern)
            .selection_criteria(primary)
            .read_concern(options.read_concern.clone())
            .build();
        let driver = Driver::with_options(options).map_err(|error| failure::of_read(&error))?;
        let database = driver.default_database();
        let database = database.unwrap_or_else(|| driver.database(MongoConfig::DATABASE));
        Ok(database.collection_with_options(&config.collection, collection))
    }
}

impl Drop for Client {
    /// Lets running operations end and closes the connections in the background. It does not wait,
    /// because the caller may be a worker of another runtime, which must not block.
    fn drop(&mut self) {
        let Some(Running { shared, runtime, operation, mut operations }) = self.running.take()
        else {
            return;
        };
        let shutdown = move || {
            runtime.get().block_on(async move {
                let limit = shared.config.operation_timeout;
                let end = async move {
                    drop(operation);
                    while operations.recv().await.is_some() {}
                    if let Some(documents) = shared.documents.get() {
                        documents.client().clone().shutdown().immediate(true).await;
                    }
                };
                // On a time-out the connections are dropped without a clean shutdown.
                let _ = tokio::time::timeout(limit, end).await;
            });
        };
        // If the system has no thread left, there is no clean shutdown.
        let _ = std::thread::Builder::new().name("session-mongo-end".into()).spawn(shutdown);
    }
}

/// A runtime that can be dropped anywhere, also on another runtime's worker.
struct Background(Option<Runtime>);

impl Background {
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("is present until dropped")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", self.config()).finish_non_exhaustive()
    }
}
