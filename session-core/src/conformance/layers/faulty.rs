//! A store that fails.

use parking_lot::Mutex;

use super::{Operation, layer};
use crate::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderContext, ProviderFuture, Purged, Record,
    Token, Touch, Verifier,
};
use crate::{Error, SessionId, SessionKey, Timestamp};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not carried out: [`Error::Unavailable`].
    NotDone,
    /// It is carried out, and the answer is lost: [`Error::InDoubt`], or for one that writes
    /// nothing [`Error::Unavailable`].
    Unanswered,
    /// It is not carried out, and nobody can tell: [`Error::InDoubt`], or for one that writes nothing
    /// [`Error::Unavailable`].
    Undelivered,
}

/// Fails operations of a provider as told; without being told, none.
#[derive(Debug)]
pub struct Faulty<P> {
    inner: P,
    plan: Mutex<Plan>,
}

#[derive(Debug, Default)]
struct Plan {
    /// How many operations pass before the fault, and which it is.
    next: Option<(usize, Fault)>,
    /// How often the fault happens after its first time.
    more: usize,
    down: bool,
}

impl<P> Faulty<P> {
    /// This provider, without faults so far.
    pub fn new(inner: P) -> Self {
        Self { inner, plan: Mutex::default() }
    }

    /// Fails one operation: the next one after `passing` others.
    pub fn fail_after(&self, passing: usize, fault: Fault) {
        *self.plan.lock() = Plan { next: Some((passing, fault)), ..Plan::default() };
    }

    /// Fails the next operations, this many.
    pub fn fail_times(&self, times: usize, fault: Fault) {
        let next = (times > 0).then_some((0, fault));
        *self.plan.lock() = Plan { next, more: times.saturating_sub(1), ..Plan::default() };
    }

    /// Whether a fault that was ordered has yet to happen.
    pub fn is_pending(&self) -> bool {
        self.plan.lock().next.is_some()
    }

    /// Cancels a fault that was ordered and has yet to happen.
    pub fn cancel(&self) {
        self.plan.lock().next = None;
    }

    /// Fails all operations with [`Error::Unavailable`], or stops doing so.
    pub fn set_down(&self, down: bool) {
        self.plan.lock().down = down;
    }

    /// What is to happen to an operation that begins now.
    fn fault(&self) -> Option<Fault> {
        let mut plan = self.plan.lock();
        if plan.down {
            return Some(Fault::NotDone);
        }
        let (passing, fault) = plan.next?;
        if let Some(passing) = passing.checked_sub(1) {
            plan.next = Some((passing, fault));
            return None;
        }
        plan.next = plan.more.checked_sub(1).map(|more| {
            plan.more = more;
            (0, fault)
        });
        Some(fault)
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        act: impl FnOnce() -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T>
    where
        P: Sync,
    {
        ProviderFuture::boxed(async move {
            match self.fault() {
                None => act().await,
                Some(Fault::NotDone) => Err(Error::unavailable(CAUSE)),
                Some(fault) => {
                    if fault == Fault::Unanswered {
                        act().await?;
                    }
                    match operation.writes() {
                        true => Err(Error::in_doubt(CAUSE)),
                        false => Err(Error::unavailable(CAUSE)),
                    }
                }
            }
        })
    }

    fn around_purge(&self, act: impl FnOnce() -> Result<Purged, Error>) -> Result<Purged, Error> {
        match self.fault() {
            None => act(),
            Some(Fault::NotDone) => Err(Error::unavailable(CAUSE)),
            Some(fault) => {
                if fault == Fault::Unanswered {
                    act()?;
                }
                Err(Error::in_doubt(CAUSE))
            }
        }
    }
}

const CAUSE: &str = "a fault that the test ordered";

layer!(Faulty);
