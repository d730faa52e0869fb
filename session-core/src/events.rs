//! [`Event`] and [`Observer`]: what happens to sessions and at the store, for audit logs and metrics. Every
//! event is counted, logged and passed to the observer here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::stats::Counters;
use crate::{Error, SessionKey};

#[cfg(feature = "metrics")]
pub use crate::metrics::MetricsObserver;

/// Something that happened to a session or at the store.
///
/// Events contain the keys of sessions, which are not secret. `Debug` leaves owners out.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A session was stored for the first time.
    Created {
        /// The session's key.
        session: SessionKey,
        /// The owner, if the session began with a login.
        owner: Option<&'a str>,
        /// The session in which the login was made, if it lost a race there and got a session of its own.
        forked_from: Option<SessionKey>,
    },
    /// A session got a new id.
    NewId {
        /// The session's key, which stays the same.
        session: SessionKey,
        /// The owner, if the new id is due to a login.
        owner: Option<&'a str>,
    },
    /// A session ended. Destroyed sessions are removed from the store; expired ones may be removed later. If
    /// two requests end the same session at once, both may emit this event. Sessions that a store evicts,
    /// such as a full store in memory, are only in that store's log.
    Ended {
        /// The session's key.
        session: SessionKey,
        /// Why the session ended.
        why: Ending,
    },
    /// The timer thread, or [`Manager::collect`](crate::Manager::collect), removed expired sessions from the
    /// store.
    Purged {
        /// The number of sessions.
        count: usize,
    },
    /// A request was refused, or its id did not open a session.
    Refused {
        /// The session's key, if it is known.
        session: Option<SessionKey>,
        /// Why the request was refused.
        why: Refusal,
    },
    /// A store operation failed because the store is down, full or in doubt.
    StoreFailed {
        /// The operation.
        operation: Operation,
        /// The error.
        error: &'a Error,
        /// How long the operation took.
        took: Duration,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// A handler destroyed the session, usually for a logout.
    Logout,
    /// The client sent the ids of several live sessions, and a login or logout ended them.
    Several,
    /// The owner ended the session from another one, or the application ended it.
    Other,
    /// The owner has more sessions than `sessions_per_owner` allows.
    Limit,
    /// The session was not used for `idle`. Emitted only if a request presents the session before the store
    /// has removed it, and then for each such request; most idle sessions are only [purged](Event::Purged).
    Idle,
    /// The session's absolute lifetime ended. Emitted only if a request presents the session, as for
    /// [`Idle`](Self::Idle).
    Absolute,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The id was replaced less than `superseded_for` ago.
    Superseded,
    /// The key is of a live session, and the secret is wrong.
    WrongSecret,
    /// The id was in a URL, but the session does not accept ids in URLs.
    IdInUrl,
    /// The request has the ids of several live sessions.
    Several,
    /// The session ended or got a new id while the request ran.
    Gone,
    /// The request is unsafe and comes from another site.
    CrossSite,
    /// The session's times are far in the future, so its age is unknown: a clock was set back, or another
    /// server's clock is fast. Emitted for each such request.
    Clock,
}

/// An operation of a provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// [`Provider::create`](crate::provider::Provider::create).
    Create,
    /// [`Provider::load`](crate::provider::Provider::load).
    Load,
    /// [`Provider::save`](crate::provider::Provider::save).
    Save,
    /// [`Provider::touch`](crate::provider::Provider::touch).
    Touch,
    /// [`Provider::destroy`](crate::provider::Provider::destroy).
    Destroy,
    /// [`Provider::list`](crate::provider::Provider::list).
    List,
    /// [`Provider::count`](crate::provider::Provider::count).
    Count,
    /// [`Provider::purge`](crate::provider::Provider::purge).
    Purge,
}

impl Ending {
    /// Returns the reason as one word, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Several => "several",
            Self::Other => "other",
            Self::Limit => "limit",
            Self::Idle => "idle",
            Self::Absolute => "absolute",
        }
    }
}

impl Refusal {
    /// Returns the reason as one word, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::WrongSecret => "wrong_secret",
            Self::IdInUrl => "id_in_url",
            Self::Several => "several",
            Self::Gone => "gone",
            Self::CrossSite => "cross_site",
            Self::Clock => "clock",
        }
    }
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Load,
        Self::Save,
        Self::Touch,
        Self::Destroy,
        Self::List,
        Self::Count,
        Self::Purge,
    ];

    /// Returns whether the operation changes what is stored.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Load | Self::List | Self::Count)
    }

    /// Returns the operation's name, for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Load => "load",
            Self::Save => "save",
            Self::Touch => "touch",
            Self::Destroy => "destroy",
            Self::List => "list",
            Self::Count => "count",
            Self::Purge => "purge",
        }
    }
}

impl fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created { session, owner, forked_from } => f
                .debug_struct("Created")
                .field("session", session)
                .field("login", &owner.is_some())
                .field("forked_from", forked_from)
                .finish(),
            Self::NewId { session, owner } => f
                .debug_struct("NewId")
                .field("session", session)
                .field("login", &owner.is_some())
                .finish(),
            Self::Ended { session, why } => {
                f.debug_struct("Ended").field("session", session).field("why", why).finish()
            }
            Self::Purged { count } => f.debug_struct("Purged").field("count", count).finish(),
            Self::Refused { session, why } => {
                f.debug_struct("Refused").field("session", session).field("why", why).finish()
            }
            Self::StoreFailed { operation, error, took } => f
                .debug_struct("StoreFailed")
                .field("operation", operation)
                .field("error", error)
                .field("took", took)
                .finish(),
        }
    }
}

/// Receives the events of a manager: for an audit log, for metrics, or for a message to a user to whose
/// account somebody logged in.
///
/// It is called on the request's task or the timer thread, so it must not block: send slow work to another
/// thread. It must not use the request's session. A panic is caught and logged.
///
/// ```
/// use session_core::events::{Event, Observer};
///
/// /// Writes an audit log of logins.
/// #[derive(Debug)]
/// struct Audit(std::sync::mpsc::Sender<String>);
///
/// impl Observer for Audit {
///     fn event(&self, event: &Event<'_>) {
///         if let Event::Created { session, owner: Some(owner), .. }
///         | Event::NewId { session, owner: Some(owner) } = event
///         {
///             // The receiver may be gone.
///             let _ = self.0.send(format!("{owner} logged in, session {session}"));
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + fmt::Debug + 'static {
    /// Receives an event.
    fn event(&self, event: &Event<'_>);

    /// Receives the result of a store operation: whether it succeeded or failed, also for expected failures
    /// such as a lost race. Failures of the store are also emitted as an [event](Event::StoreFailed). Does
    /// nothing by default.
    fn operation(&self, _operation: Operation, _took: Duration, _succeeded: bool) {}
}

/// The receivers of events: the counters and the observer.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) counters: Counters,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Events {
    /// Counts an event, logs it, and passes it to the observer.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.count(event);
        log(event);
        self.observe(|observer| observer.event(event));
    }

    /// Passes the result of a store operation to the observer.
    pub(crate) fn record_duration(&self, operation: Operation, took: Duration, succeeded: bool) {
        self.observe(|observer| observer.operation(operation, took, succeeded));
    }

    fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        let Some(observer) = &self.observer else { return };
        // A panic in the observer must not fail the request.
        if catch_unwind(AssertUnwindSafe(|| tell(&**observer))).is_err() {
            error!("the observer of session events panicked");
        }
    }

    fn count(&self, event: &Event<'_>) {
        let counters = &self.counters;
        match event {
            Event::Created { owner, forked_from, .. } => {
                counters.created.add(1);
                counters.logins.add(u64::from(owner.is_some()));
                counters.forked.add(u64::from(forked_from.is_some()));
            }
            Event::NewId { owner, .. } => {
                counters.regenerated.add(1);
                counters.logins.add(u64::from(owner.is_some()));
            }
            Event::Ended { why: Ending::Idle | Ending::Absolute, .. } => {
                counters.expired.add(1);
            }
            Event::Ended { .. } => counters.destroyed.add(1),
            Event::Purged { count } => counters.purged.add(*count as u64),
            Event::Refused { why, .. } => match why {
                Refusal::Superseded => counters.superseded.add(1),
                Refusal::WrongSecret => counters.wrong_secret.add(1),
                Refusal::Gone => counters.gone.add(1),
                Refusal::CrossSite => counters.cross_site.add(1),
                Refusal::Clock => counters.expired.add(1),
                Refusal::IdInUrl | Refusal::Several => {}
            },
            Event::StoreFailed { operation: Operation::Purge, .. } => {
                counters.purge_failures.add(1);
            }
            Event::StoreFailed { .. } => counters.unavailable.add(1),
        }
    }
}

fn log(event: &Event<'_>) {
    match *event {
        Event::Created { session, owner: Some(_), forked_from: Some(from) } => {
            info!(%session, %from, "session created by a login that lost a race");
        }
        Event::Created { session, owner: Some(_), forked_from: None } => {
            info!(%session, "session created by a login");
        }
        Event::Created { session, owner: None, .. } => debug!(%session, "session created"),
        Event::NewId { session, owner } => {
            info!(%session, login = owner.is_some(), "session has a new id");
        }
        Event::Ended { session, why: why @ (Ending::Idle | Ending::Absolute) } => {
            info!(%session, reason = why.as_str(), "session expired");
        }
        Event::Ended { session, why } => info!(%session, reason = why.as_str(), "session ended"),
        Event::Purged { count } => debug!(removed = count, "collected expired sessions"),
        Event::Refused { session: Some(session), why } => match why {
            Refusal::Superseded => {
                debug!(%session, "request with a superseded id");
            }
            Refusal::Gone => debug!(%session, "session ended or got a new id meanwhile"),
            _ => info!(%session, reason = why.as_str(), "request refused"),
        },
        Event::Refused { session: None, why } => info!(reason = why.as_str(), "request refused"),
        Event::StoreFailed { operation: Operation::Purge, error, .. } => {
            let error: &dyn std::error::Error = error;
            error!(error, "collection of expired sessions failed; trying again later");
        }
        Event::StoreFailed { operation, error, took } => {
            let error: &dyn std::error::Error = error;
            warn!(error, operation = operation.as_str(), ?took, "session store failed");
        }
    }
}
