//! [`Error`]: what can fail, with the HTTP status and the text for visitors of each error.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::StatusCode;

use crate::FinishErrors;

/// A boxed error of another library.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// Why an operation on a session, a provider or a manager failed.
///
/// A missing session is not an error: a provider's `load` returns `None`, and so does `get` for a key without
/// a value. No message contains an id, a value or a password.
///
/// ```
/// use http::{Response, StatusCode};
/// use session_core::Error;
///
/// let error = Error::Gone;
/// let mut response = Response::new(error.visitor_text());
/// *response.status_mut() = error.status();
/// assert_eq!(response.status(), StatusCode::CONFLICT);
/// assert_eq!(*response.body(), "This page is out of date. Please reload it and try again.");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The session ended or got a new id after this request presented it. Nothing was written.
    #[error("the session ended or got a new id meanwhile")]
    Gone,

    /// The stored value is no longer the one that the change is based on. Nothing was written.
    #[error("the stored value changed meanwhile; read it again and retry")]
    Conflict,

    /// The store already has a live record of this key. Nothing was written.
    #[error("a session of this key exists already; retry with a new id")]
    Exists,

    /// The change would make the session exceed a limit. Nothing was written.
    #[error(
        "{what} would exceed the limit of {limit}; store less in the session, or raise the limit"
    )]
    TooLarge {
        /// What is too large: `"session bytes"`, `"session keys"` or `"value depth"`, for example.
        what: &'static str,
        /// The limit, in the unit that `what` names.
        limit: usize,
    },

    /// The store has reached its configured capacity. Nothing was written.
    #[error("the store is full ({what}); raise its limit, or shorten the sessions' lifetime")]
    Full {
        /// The option that limits the store, as named in the provider's documentation.
        what: &'static str,
    },

    /// The stored value is not of the requested type. The session stays usable.
    ///
    /// The decoder's message is left out, because it quotes the value.
    #[error("the value of {key:?} is not of the type {wanted}")]
    Decode {
        /// The key.
        key: Box<str>,
        /// The requested Rust type.
        wanted: &'static str,
    },

    /// The value can't be encoded as MessagePack. Nothing was changed.
    #[error("the value for {key:?} of the type {given} can't be encoded")]
    Encode {
        /// The key.
        key: Box<str>,
        /// The Rust type of the value.
        given: &'static str,
    },

    /// An argument is invalid. Nothing was changed.
    #[error("{what} is invalid: {reason}")]
    Invalid {
        /// The argument, such as `"owner"`.
        what: &'static str,
        /// What is wrong with the argument, and which ones are valid.
        reason: &'static str,
    },

    /// The provider does not support the operation.
    #[error("this provider does not support {what}")]
    Unsupported {
        /// The operation.
        what: &'static str,
    },

    /// The store can't be reached or does not respond. Nothing was written, as far as is known. A later
    /// attempt may succeed.
    #[error("the session store is unavailable; retry later")]
    Unavailable {
        /// The error of the store or of the connection to it.
        #[source]
        source: BoxError,
    },

    /// It is unknown whether a write happened: it was sent to the store, and the store's answer was lost.
    #[error("the outcome of the write is unknown; load the session again to see")]
    InDoubt {
        /// The error of the store or of the connection to it.
        #[source]
        source: BoxError,
    },

    /// A stored record can't be read: it is damaged, of an unknown version, or not a record at all. The
    /// manager logs this once and treats the session as absent.
    #[error("the stored record can't be read: {reason}")]
    Unreadable {
        /// What is wrong with the record.
        reason: &'static str,
    },

    /// The response is finished, so nothing would store the change.
    #[error(
        "the response is finished; to change the session in a task, reload it before and save it afterwards"
    )]
    Finished,

    /// The request is unsafe and comes from another site (see [`CrossSiteOptions`](crate::CrossSiteOptions)).
    #[error(
        "the request comes from another site; if that site may send it, add it to cross_site.trusted"
    )]
    CrossSite,

    /// The page is for a user who is logged in, or who logged in a moment ago, and the visitor is not one. The
    /// extractors of `session-tower` return it.
    #[error("nobody is logged in, or the login is older than the page allows")]
    NotLoggedIn,

    /// The request has no session of this name: the handler is not wrapped in a `SessionService` or
    /// `SessionLayer`, or the
    /// wrapper's managers have other names.
    #[error(
        "the request has no such session (it has: {}); wrap the service in SessionService or SessionLayer, and ask for one of \
         several sessions by its name", list(.names)
    )]
    NoSession {
        /// The names of the sessions that the request has.
        names: Box<[String]>,
    },

    /// The response's head was already sent, so the client can't be sent the id of a new session, a new id or
    /// a login.
    #[error(
        "the response's head was already sent; create the session, change its id or log in before that"
    )]
    HeadSent,

    /// The configuration or a source string is wrong.
    #[error("{0}")]
    Config(String),

    /// No provider is registered under this name.
    #[error("no session provider is named {name:?} (registered: {}); check the spelling, or call the provider crate's init() first", list(.known))]
    UnknownProvider {
        /// The unknown name.
        name: Box<str>,
        /// The registered names, sorted.
        known: Box<[String]>,
    },

    /// Another provider is already registered under this name.
    #[error("a session provider named {name:?} is registered already; choose another name")]
    DuplicateProvider {
        /// The name.
        name: Box<str>,
    },

    /// The operating system's random generator failed, so no id could be made.
    #[error("the operating system's random generator failed")]
    Random {
        /// The generator's error.
        #[source]
        source: BoxError,
    },
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// Returns an error and its chain of sources.
fn causes<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

impl Error {
    /// Returns a configuration error with this message.
    pub fn config(message: impl fmt::Display) -> Self {
        Self::Config(message.to_string())
    }

    /// Returns an [`Error::Unavailable`] with the store's error as its source.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable { source: source.into() }
    }

    /// Returns an [`Error::InDoubt`] with the store's error as its source.
    pub fn in_doubt(source: impl Into<BoxError>) -> Self {
        Self::InDoubt { source: source.into() }
    }

    /// Returns the session error that an application's error is, or has among its sources.
    ///
    /// ```
    /// use session_core::Error;
    ///
    /// #[derive(Debug, thiserror::Error)]
    /// enum AppError {
    ///     #[error("the session")]
    ///     Session(#[from] Error),
    ///     #[error("no such page")]
    ///     NotFound,
    /// }
    ///
    /// let error = AppError::from(Error::Gone);
    /// assert!(matches!(Error::find(&error), Some(Error::Gone)));
    /// assert!(Error::find(&AppError::NotFound).is_none());
    /// ```
    ///
    /// It follows [`source`](StdError::source). Wrappers that pass on the session error's source instead of
    /// the session error, such as `anyhow::Error` and `#[error(transparent)]`, hide the session error;
    /// [`Failure::status`](crate::Failure::status) still returns its status.
    pub fn find<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        causes(error).find_map(Self::of)
    }

    /// Returns the status of the session error that an application's error is, has among its sources, or
    /// hides in a transparent wrapper, which is recognized by its text.
    pub(crate) fn status_in(error: &(dyn StdError + 'static)) -> Option<StatusCode> {
        causes(error).find_map(|error| {
            let status = Self::of(error).map(Self::status);
            status.or_else(|| Self::status_told_by(&error.to_string()))
        })
    }

    /// Returns the status of the session error with this text, unless it is 500.
    fn status_told_by(text: &str) -> Option<StatusCode> {
        let unknown = || BoxError::from("");
        let fixed = [
            Self::Gone,
            Self::Conflict,
            Self::CrossSite,
            Self::NotLoggedIn,
            Self::Unavailable { source: unknown() },
            Self::InDoubt { source: unknown() },
        ];
        let told = fixed.iter().find(|error| error.to_string() == text).map(Self::status);
        // The texts of these errors contain the limit.
        let has = |start, end| text.starts_with(start) && text.ends_with(end);
        let is_full = has("the store is full (", "or shorten the sessions' lifetime");
        let is_too_large = text.contains(" would exceed the limit of ")
            && text.ends_with("store less in the session, or raise the limit");
        told.or(is_full.then_some(StatusCode::SERVICE_UNAVAILABLE))
            .or(is_too_large.then_some(StatusCode::PAYLOAD_TOO_LARGE))
    }

    /// Returns the error itself as a session error, also if it is one in an `Arc`, a `Box` or an `io::Error`.
    fn of<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        let shared = || error.downcast_ref::<Arc<Self>>().map(|shared| &**shared);
        let boxed = || error.downcast_ref::<Box<Self>>().map(|boxed| &**boxed);
        let finish = || error.downcast_ref::<FinishErrors>().map(FinishErrors::first);
        let io = || {
            let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
            Self::of(inner)
        };
        error.downcast_ref().or_else(shared).or_else(boxed).or_else(finish).or_else(io)
    }

    /// Returns the text for the visitor whose request failed with this error: one or two sentences that
    /// depend only on the [status](Self::status), and contain no limit, option, key, type or store. `Display`
    /// is for developers and operators, and belongs in the log.
    ///
    /// ```
    /// let error = session_core::Error::Gone;
    /// assert_eq!(error.visitor_text(), "This page is out of date. Please reload it and try again.");
    /// ```
    pub fn visitor_text(&self) -> &'static str {
        Self::text_of(self.status())
    }

    pub(crate) fn text_of(status: StatusCode) -> &'static str {
        match status {
            StatusCode::UNAUTHORIZED => "Please log in and try again.",
            StatusCode::FORBIDDEN => {
                "This was sent by another site, so nothing was done. Please open this site and try again."
            }
            StatusCode::CONFLICT => "This page is out of date. Please reload it and try again.",
            StatusCode::PAYLOAD_TOO_LARGE => {
                "That is more than can be kept here. Please shorten it and try again."
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                "This does not work right now. Please try again in a moment."
            }
            _ => "Something went wrong here. Please try again later.",
        }
    }

    /// Returns the HTTP status of this error (RFC 9110, section 15).
    ///
    /// `401` if a login is needed, `403` for another site's request, `409` if the request lost a race with another one,
    /// `413` if a limit would be exceeded, `503` if the store is down, full or in doubt, `500` for all other errors.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotLoggedIn => StatusCode::UNAUTHORIZED,
            Self::CrossSite => StatusCode::FORBIDDEN,
            Self::Gone | Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unavailable { .. } | Self::InDoubt { .. } | Self::Full { .. } => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_provider_lists_the_known_ones_and_the_way_out() {
        let error = Error::UnknownProvider {
            name: "mango".into(),
            known: ["file".into(), "memory".into()].into(),
        };
        assert_eq!(
            error.to_string(),
            "no session provider is named \"mango\" (registered: file, memory); \
             check the spelling, or call the provider crate's init() first"
        );
    }

    #[test]
    fn a_cause_is_in_the_source_and_not_in_the_message() {
        let error = Error::unavailable("connection refused");
        assert_eq!(error.to_string(), "the session store is unavailable; retry later");
        assert_eq!(error.source().expect("has a cause").to_string(), "connection refused");
    }

    /// Returns every kind of error, with words that no visitor should read.
    fn all() -> Vec<Error> {
        let all = vec![
            Error::Gone,
            Error::Conflict,
            Error::Exists,
            Error::TooLarge { what: "session bytes", limit: 65_536 },
            Error::Full { what: "max_sessions" },
            Error::Decode { key: "salary".into(), wanted: "u64" },
            Error::Encode { key: "salary".into(), given: "u64" },
            Error::Unsupported { what: "list" },
            Error::Invalid { what: "owner", reason: "empty; an owner has 1 to 1,024 bytes" },
            Error::unavailable("mongodb://db.internal"),
            Error::InDoubt { source: "mongodb://db.internal".into() },
            Error::Unreadable { reason: "the checksum differs" },
            Error::Finished,
            Error::CrossSite,
            Error::NoSession { names: ["__Host-id".into()].into() },
            Error::HeadSent,
            Error::config("option \"path\" is missing"),
            Error::UnknownProvider { name: "mango".into(), known: ["memory".into()].into() },
            Error::DuplicateProvider { name: "memory".into() },
            Error::Random { source: "getrandom".into() },
            Error::NotLoggedIn,
        ];
        // A new kind of error does not compile before it has a number here, and the test fails before it is
        // in the list.
        let number = |error: &Error| match error {
            Error::Gone => 0,
            Error::Conflict => 1,
            Error::Exists => 2,
            Error::TooLarge { .. } => 3,
            Error::Full { .. } => 4,
            Error::Decode { .. } => 5,
            Error::Encode { .. } => 6,
            Error::Unsupported { .. } => 7,
            Error::Invalid { .. } => 8,
            Error::Unavailable { .. } => 9,
            Error::InDoubt { .. } => 10,
            Error::Unreadable { .. } => 11,
            Error::Finished => 12,
            Error::CrossSite => 13,
            Error::NoSession { .. } => 14,
            Error::HeadSent => 15,
            Error::Config(_) => 16,
            Error::UnknownProvider { .. } => 17,
            Error::DuplicateProvider { .. } => 18,
            Error::Random { .. } => 19,
            Error::NotLoggedIn => 20,
        };
        assert!(all.iter().map(number).eq(0..21));
        all
    }

    /// A session error in each kind of wrapper that applications use.
    #[test]
    fn a_session_error_is_found_in_an_applications_own() {
        #[derive(Debug, thiserror::Error)]
        enum App {
            #[error("from")]
            From(#[from] Error),
            #[error("boxed")]
            Boxed(#[source] Box<Error>),
            #[error("shared")]
            Shared(#[source] Arc<Error>),
            #[error("of any kind")]
            Any(#[source] BoxError),
            #[error("alone")]
            Alone,
        }

        let io = std::io::Error::other(Error::Gone);
        for error in [
            App::From(Error::Gone),
            App::Boxed(Box::new(Error::Gone)),
            App::Shared(Arc::new(Error::Gone)),
            App::Any(Box::new(App::From(Error::Gone))),
            App::Any(Box::new(io)),
            App::Any(Box::new(std::io::Error::other(Arc::new(Error::Gone)))),
        ] {
            assert!(matches!(Error::find(&error), Some(Error::Gone)), "{error:?}");
        }
        let deep = (0..100).fold(App::From(Error::Gone), |inner, _| App::Any(Box::new(inner)));
        assert!(matches!(Error::find(&deep), Some(Error::Gone)));
        for error in [App::Alone, App::Any("gone".into()), App::Any(Box::new(std::fmt::Error))] {
            assert!(Error::find(&error).is_none(), "{error:?}");
        }
    }

    /// Transparent wrappers show the text of the error in them.
    #[test]
    fn each_status_is_known_by_the_text() {
        for error in all() {
            let known = Error::status_told_by(&error.to_string());
            let status = Some(error.status()).filter(|status| *status != 500);
            assert_eq!(known, status, "{error}");
        }
        assert_eq!(Error::status_told_by("no such page"), None);
    }

    #[test]
    fn a_visitor_is_told_what_to_do_and_nothing_else() {
        for error in all() {
            let text = error.visitor_text();
            let lower = text.to_lowercase();
            for word in [
                "limit", "option", "key", "type", "store", "session", "bytes", "memory",
                "provider", "value", "cookie", "server", "database", "salary", "u64", "mongo",
                "max_", "_", "\"",
            ] {
                assert!(!lower.contains(word), "{error:?} tells the visitor {text:?}");
            }
            assert!(!text.contains(|c: char| c.is_ascii_digit()), "{text}");
            assert!(text.contains("Please ") && text.ends_with('.'), "{text}");
        }
    }

    /// Every provider call returns a result by value, so the error should be small.
    #[test]
    fn an_error_stays_small() {
        assert!(size_of::<Error>() <= 40, "{}", size_of::<Error>());
    }
}
