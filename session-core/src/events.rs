//! What happens to sessions, as counters, the log and an observer are told of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, error, info, warn};

use crate::stats::Counters;
use crate::{Error, SessionKey};

#[cfg(feature = "metrics")]
pub use crate::metrics::MetricsObserver;

/// Something that happened to a session, or to the store.
///
/// Sessions are named by their keys, which open nothing. `Debug` leaves owners out.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A session was stored for the first time.
    Created {
        /// Its key.
        session: SessionKey,
        /// Who logged in with it, if it begins with a login.
        owner: Option<&'a str>,
        /// The session that this login was made in, where it lost a race and went on in one of its own.
        forked_from: Option<SessionKey>,
    },
    /// A session got a new id.
    NewId {
        /// Its key, which stays.
        session: SessionKey,
        /// Who logged in with it, if it was a login.
        owner: Option<&'a str>,
    },
    /// A session ended, and was removed from the store unless that removes the expired later. Of two that end
    /// the same session at once, both may be told of. Sessions that a store lets go by itself, as a full one in
    /// memory does, are in its own log only.
    Ended {
        /// Its key.
        session: SessionKey,
        /// Why it ended.
        why: Ending,
    },
    /// Collection removed expired sessions from the store.
    Purged {
        /// How many.
        count: usize,
    },
    /// A request was refused, or saw nothing of the session whose key it came with.
    Refused {
        /// The key that it came with, where one is known.
        session: Option<SessionKey>,
        /// Why it was refused.
        why: Refusal,
    },
    /// An operation at the store failed, as that is down, full or in doubt.
    StoreFailed {
        /// Which one.
        operation: Operation,
        /// How it failed.
        error: &'a Error,
        /// How long it took.
        took: Duration,
    },
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ending {
    /// Its client logged out: the handler destroyed it.
    Logout,
    /// Its client sent the ids of several live sessions, and a login or logout ended them.
    Several,
    /// It was ended by its owner, from another one, or by the application.
    Other,
    /// Its owner logged in more often than `sessions_per_owner` allows.
    Limit,
    /// It was not used for longer than `idle`. Told where its client comes back before the store has let it end,
    /// at each such request; most idle sessions are only [purged](Event::Purged), or are gone already.
    Idle,
    /// It reached the end of its absolute lifetime. As of [`Idle`](Self::Idle), only what a request still meets
    /// is told.
    Absolute,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// Its id was replaced a moment ago.
    Superseded,
    /// The key of a live session came with a secret that is not its own.
    WrongSecret,
    /// The id of a session that is kept in a cookie came in a URL.
    IdInUrl,
    /// It came with the ids of several live sessions.
    Several,
    /// Its session ended or got a new id while it ran.
    Gone,
    /// It was unsafe and came from another site.
    CrossSite,
    /// Its session has times that lie far in the future, so its age is not known: a clock was set back, or
    /// another server's is fast. Told at each such request.
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
    /// The reason in a word, for logs and metrics.
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
    /// The reason in a word, for logs and metrics.
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
    /// All of them.
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

    /// Whether it changes what is stored.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Load | Self::List | Self::Count)
    }

    /// The operation's name, for logs and metrics.
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

/// Is told what happens to a manager's sessions: for an audit log, for metrics, for a message to a user whose
/// account somebody logs in to.
///
/// It is called where the event happens, on the request's task or the timer thread, so it must not wait: hand
/// what takes time to a channel. It must not use the session of the request. A panic is caught and logged.
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
///             // Nobody may listen any more.
///             let _ = self.0.send(format!("{owner} logged in, session {session}"));
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + fmt::Debug + 'static {
    /// Takes note of an event.
    fn event(&self, event: &Event<'_>);

    /// Takes note of an operation at the store that succeeded, or failed for a reason that is daily life, such
    /// as a lost race. One that failed otherwise is an [event](Event::StoreFailed), too. Does nothing by
    /// default.
    fn operation(&self, _operation: Operation, _took: Duration, _succeeded: bool) {}
}

/// Who is told of what happens.
#[derive(Debug, Default)]
pub(crate) struct Events {
    pub(crate) counters: Counters,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

impl Events {
    /// Counts an event, logs it, and tells the observer.
    pub(crate) fn emit(&self, event: &Event<'_>) {
        self.count(event);
        log(event);
        self.observe(|observer| observer.event(event));
    }

    /// Tells the observer of an operation.
    pub(crate) fn record_duration(&self, operation: Operation, took: Duration, succeeded: bool) {
        self.observe(|observer| observer.operation(operation, took, succeeded));
    }

    fn observe(&self, tell: impl FnOnce(&dyn Observer)) {
        let Some(observer) = &self.observer else { return };
        // What an observer does is no request's fault.
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
            info!(%session, reason = why.as_str(), "session beyond its lifetime");
        }
        Event::Ended { session, why } => info!(%session, reason = why.as_str(), "session ended"),
        Event::Purged { count } => debug!(removed = count, "collected expired sessions"),
        Event::Refused { session: Some(session), why } => match why {
            Refusal::Superseded => {
                debug!(%session, "request with an id that was replaced a moment ago");
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
