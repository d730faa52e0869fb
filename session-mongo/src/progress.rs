//! How far a write came before it failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::options::ClientOptions;

const IDLE: u8 = 0;
/// A write waits for a connection.
const WAITING: u8 = 1;
/// A write has a connection: it may be on its way.
const REACHED: u8 = 2;

/// Whether an operation's write can have reached the server.
///
/// The driver reports a lost connection in the same way whether a command was lost with it or not,
/// and a deadline of ours knows even less. But it says when an operation has got a connection, in
/// the task of that operation.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

tokio::task_local! {
    /// The progress of the operation that this task performs.
    static CURRENT: Arc<Progress>;
}

impl Progress {
    /// Runs an operation that has this progress.
    pub(crate) fn follow<F: Future>(
        self: Arc<Self>,
        operation: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self, operation)
    }

    /// A write begins. With `doubt`, an earlier attempt of it may have been applied.
    pub(crate) fn begin(doubt: bool) {
        Self::set(if doubt { REACHED } else { WAITING });
    }

    /// The write's outcome is known.
    pub(crate) fn settle() {
        Self::set(IDLE);
    }

    /// Whether this task's write may have reached the server.
    pub(crate) fn current_reached() -> bool {
        CURRENT.try_with(|progress| progress.reached()).unwrap_or(true)
    }

    /// Whether the write may have reached the server.
    pub(crate) fn reached(&self) -> bool {
        self.0.load(Ordering::Acquire) == REACHED
    }

    fn set(state: u8) {
        // Outside of an operation there is nothing to follow.
        let _ = CURRENT.try_with(|progress| progress.0.store(state, Ordering::Release));
    }

    /// Makes the driver tell. A handler that the program has set hears of the events too.
    pub(crate) fn install(options: &mut ClientOptions) {
        let other = options.cmap_event_handler.take();
        options.cmap_event_handler = Some(EventHandler::callback(move |event| {
            if matches!(event, CmapEvent::ConnectionCheckedOut(_)) {
                let _ = CURRENT.try_with(|progress| {
                    let state = &progress.0;
                    state.compare_exchange(WAITING, REACHED, Ordering::AcqRel, Ordering::Acquire)
                });
            }
            match &other {
                Some(EventHandler::Callback(callback)) => callback(event),
                Some(EventHandler::AsyncCallback(callback)) => {
                    tokio::spawn(callback(event));
                }
                // As the driver does: a channel that is full delays its events.
                Some(EventHandler::TokioMpsc(sender)) => {
                    let sender = sender.clone();
                    tokio::spawn(async move { sender.send(event).await });
                }
                _ => {}
            }
        }));
    }
}
