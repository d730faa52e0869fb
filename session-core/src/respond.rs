//! From a request's handler to its response, with the sessions finished on every way out.

use std::error::Error as StdError;
use std::fmt;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use tracing::{debug, error, info, warn};

use crate::error::BoxError;
use crate::{Error, SessionHandle, sessions};

/// Why a request gets another response than its handler's: an error of the handler or of a session, a panic,
/// or a request from another site.
pub struct Failure(BoxError);

impl Failure {
    pub(crate) fn new(error: impl Into<BoxError>) -> Self {
        Self(error.into())
    }

    pub(crate) fn panic() -> Self {
        Self("the handler panicked".into())
    }

    /// Returns what went wrong, as the handler returned it: downcast it to an error type of your own for
    /// statuses that the library can't know. Its text is for the log, not for visitors.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.0
    }

    /// Returns the session error that is the error or among its causes; see [`Error::find`].
    pub fn session_error(&self) -> Option<&Error> {
        Error::find(&*self.0)
    }

    /// Returns the session error's [status](Error::status), or 500 without one.
    pub fn status(&self) -> StatusCode {
        self.session_error().map_or(StatusCode::INTERNAL_SERVER_ERROR, Error::status)
    }

    /// Returns a sentence or two for the visitor, by the [status](Self::status) alone.
    pub fn visitor_text(&self) -> &'static str {
        Error::text_of(self.status())
    }

    /// Returns a response of the [status](Self::status) with the [words for a visitor](Self::visitor_text) as
    /// plain text.
    pub fn response<B: From<String>>(&self) -> Response<B> {
        let mut response = Response::new(format!("{}\n", self.visitor_text()).into());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }

    /// Tells operators what visitors are not told.
    fn log(&self) {
        const REFUSED: &str = "a request was refused, as its session could not be used or saved";
        let error: &(dyn StdError + 'static) = &*self.0;
        match self.session_error().map(Error::status) {
            None => error!(error, "the handler failed"),
            Some(StatusCode::INTERNAL_SERVER_ERROR) => warn!(error, "{REFUSED}"),
            // A limit that visitors meet may be too low.
            Some(StatusCode::PAYLOAD_TOO_LARGE) => info!(error, "{REFUSED}"),
            // Lost races are daily life; a store's failure and a request from elsewhere were logged when
            // they happened.
            Some(_) => debug!(error, "{REFUSED}"),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.0).finish()
    }
}

/// Runs a handler and finishes its sessions on each of its ways out.
pub(crate) async fn respond<B>(
    handles: &[SessionHandle<'_>],
    handler: impl Future<Output = Result<Response<B>, Failure>>,
    error_page: impl FnOnce(&Failure) -> Response<B>,
) -> Response<B> {
    let unfinished = Unfinished(handles);
    // What the handler leaves half done goes with it: of the sessions nothing pending is stored.
    let handled = AssertUnwindSafe(handler).catch_unwind().await;
    let failure = match handled.unwrap_or_else(|_| Err(Failure::panic())) {
        Ok(mut response) => match sessions::finish(handles, &mut response).await {
            Ok(()) => {
                std::mem::forget(unfinished);
                return response;
            }
            Err(errors) => Failure::new(errors),
        },
        Err(failure) => failure,
    };
    failure.log();
    let mut response = error_page(&failure);
    sessions::refuse(handles, &mut response).await;
    std::mem::forget(unfinished);
    response
}

/// Runs a handler unless the request comes from another site.
pub(crate) async fn checked<B, E: Into<BoxError>>(
    handles: &[SessionHandle<'_>],
    handler: impl Future<Output = Result<Response<B>, E>>,
) -> Result<Response<B>, Failure> {
    handles.iter().try_for_each(SessionHandle::check_site).map_err(Failure::new)?;
    handler.await.map_err(Failure::new)
}

/// The sessions of a request without a response. If the client goes away, the request's future is dropped, and
/// no task of the request may store a login or a new id that no response can tell.
struct Unfinished<'h, 'm>(&'h [SessionHandle<'m>]);

impl Drop for Unfinished<'_, '_> {
    fn drop(&mut self) {
        self.0.iter().for_each(SessionHandle::abandon);
    }
}
