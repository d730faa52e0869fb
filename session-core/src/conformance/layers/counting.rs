//! How often the store is asked.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Operation, layer};
use crate::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderContext, Purged, Record, Token, Touch,
    Verifier,
};
use crate::{Error, SessionId, SessionKey, Timestamp};

/// Counts the operations of a provider.
///
/// Shared between test and manager, it tells what a request cost:
///
/// ```
/// use std::sync::Arc;
/// use session_core::Manager;
/// use session_core::conformance::{Counting, Operation};
/// # fn test(provider: Arc<dyn session_core::provider::Provider>) -> Result<(), session_core::Error> {
/// let counting = Arc::new(Counting::new(provider));
/// let manager = Manager::builder().with_provider(Arc::clone(&counting)).build()?;
/// // requests...
/// assert_eq!(counting.total(), 0);
/// assert_eq!(counting.calls(Operation::Load), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Counting<P> {
    inner: P,
    calls: [AtomicU64; Operation::ALL.len()],
}

impl<P> Counting<P> {
    /// Counts this provider's operations from now on.
    pub fn new(inner: P) -> Self {
        Self { inner, calls: Default::default() }
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.calls[operation as usize].load(Ordering::SeqCst)
    }

    /// How often any operation was called, collection aside.
    pub fn total(&self) -> u64 {
        let all = Operation::ALL.into_iter().filter(|operation| *operation != Operation::Purge);
        all.map(|operation| self.calls(operation)).sum()
    }

    fn around<'a, T>(
        &'a self,
        operation: Operation,
        act: impl FnOnce() -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        self.calls[operation as usize].fetch_add(1, Ordering::SeqCst);
        act()
    }

    fn around_purge(&self, act: impl FnOnce() -> Result<Purged, Error>) -> Result<Purged, Error> {
        self.calls[Operation::Purge as usize].fetch_add(1, Ordering::SeqCst);
        act()
    }
}

layer!(Counting);
