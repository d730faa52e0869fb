//! From a request's handler to its response, with the sessions finished on every way out.

use std::error::Error as StdError;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::header::{CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{Response, StatusCode};
use tracing::{debug, error, info, warn};

use crate::error::BoxError;
use crate::{Error, SessionHandle, sessions};

/// Why a request gets another response than its handler's: an error of the handler or of a session, a panic,
/// or a request from another site. Clones share the error.
///
/// ```
/// use http::Response;
/// use session_core::Failure;
///
/// /// The page of a site for requests that failed.
/// fn error_page(failure: &Failure) -> Response<String> {
///     let page = format!("<!doctype html><title>Sorry</title><p>{}", failure.visitor_text());
///     let mut response = Response::new(page);
///     *response.status_mut() = failure.status();
///     response
/// }
/// # futures_lite::future::block_on(async {
/// # session_memory::init();
/// # let manager = session_core::Manager::open("memory", "").unwrap();
///
/// let handle = manager.start(&http::Request::new(()));
/// let handler = async { Err::<Response<String>, _>("the printer is on fire") };
/// let response = handle.respond(handler, error_page).await;
/// assert_eq!(response.status(), 500);
/// assert!(!response.body().contains("fire")); // it is in the log
/// # });
/// ```
#[derive(Clone)]
pub struct Failure {
    error: Arc<dyn StdError + Send + Sync>,
    status: StatusCode,
}

impl Failure {
    /// Returns the failure of a handler that returned this error.
    ///
    /// A handler that can return only responses, as axum's, puts the failure into its response's extensions. The
    /// wrapper then drops pending changes, logs the error, and makes the response itself or lets the
    /// [error page](crate::ServiceWrapper::with_error_page) make it.
    ///
    /// ```
    /// use http::Response;
    /// use session_core::{Error, Failure};
    ///
    /// let failure = Failure::new(Error::Gone);
    /// let mut response: Response<String> = failure.response();
    /// assert_eq!(response.status(), 409);
    /// response.extensions_mut().insert(failure);
    /// ```
    pub fn new(error: impl Into<BoxError>) -> Self {
        let error: Arc<dyn StdError + Send + Sync> = error.into().into();
        let status = Error::status_in(&*error).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self { error, status }
    }

    pub(crate) fn panic() -> Self {
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        let error = BoxError::from("the handler, or a provider, panicked");
        Self { error: error.into(), status }
    }

    /// Returns what went wrong, as the handler returned it: downcast it to an error type of your own for
    /// statuses that the library can't know. Its text is for the log, not for visitors.
    pub fn error(&self) -> &(dyn StdError + Send + Sync + 'static) {
        &*self.error
    }

    /// Returns the session error that is the error or among its causes; see [`Error::find`].
    pub fn session_error(&self) -> Option<&Error> {
        Error::find(&*self.error)
    }

    /// Returns the [status](Error::status) of the session error that is the error or among its causes, or 500
    /// without one.
    ///
    /// A session error that is wrapped in a transparent error type, such as `anyhow::Error` or one with
    /// `#[error(transparent)]`, is recognized by its text. That works for [`Error::Gone`], [`Error::Conflict`],
    /// [`Error::CrossSite`], [`Error::NotLoggedIn`], [`Error::Unavailable`], [`Error::InDoubt`],
    /// [`Error::Full`] and [`Error::TooLarge`].
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns a sentence or two for the visitor, by the [status](Self::status) alone.
    pub fn visitor_text(&self) -> &'static str {
        Error::text_of(self.status)
    }

    /// Returns a response of the [status](Self::status) with the [words for a visitor](Self::visitor_text) as
    /// plain text.
    pub fn response<B: From<String>>(&self) -> Response<B> {
        let mut response = Response::new(format!("{}\n", self.visitor_text()).into());
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 15.5.2, requires one. Browsers ask for no password if they don't know the scheme.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Cookie"));
        }
        response
    }

    /// Logs the error, which visitors don't see.
    fn log(&self) {
        const REFUSED: &str = "a request was refused, as its session could not be used or saved";
        let error: &(dyn StdError + 'static) = &*self.error;
        match self.status {
            StatusCode::INTERNAL_SERVER_ERROR if self.session_error().is_none() => {
                error!(error, "the handler failed");
            }
            StatusCode::INTERNAL_SERVER_ERROR => warn!(error, "{REFUSED}"),
            // A limit that visitors meet may be too low.
            StatusCode::PAYLOAD_TOO_LARGE => info!(error, "{REFUSED}"),
            // Lost races are daily life; a store's failure and a request from elsewhere were logged when
            // they happened.
            _ => debug!(error, "{REFUSED}"),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failure").field(&self.error).finish()
    }
}

/// Runs a handler and finishes its sessions on each of its ways out.
pub(crate) async fn respond<B>(
    handles: &[SessionHandle<'_>],
    unfinished: Unfinished<impl Fn()>,
    handler: impl Future<Output = Result<Response<B>, Failure>>,
    error_page: impl FnOnce(&Failure) -> Response<B>,
) -> Response<B> {
    // A panic drops the pending changes.
    let finished = AssertUnwindSafe(async {
        let mut response = handler.await?;
        if let Some(failure) = response.extensions_mut().remove() {
            return Err(failure);
        }
        match sessions::finish(handles, &mut response).await {
            Ok(()) => Ok(response),
            Err(errors) => Err(Failure::new(errors)),
        }
    });
    let finished = finished.catch_unwind().await.unwrap_or_else(|_| Err(Failure::panic()));
    let response = match finished {
        Ok(response) => response,
        Err(failure) => {
            failure.log();
            let mut response = error_page(&failure);
            // Boxed, because otherwise every request's future would have room for it.
            Box::pin(sessions::refuse(handles, &mut response)).await;
            response
        }
    };
    unfinished.done();
    response
}

/// Runs a handler unless the request comes from another site.
pub(crate) async fn checked<B, E: Into<BoxError>>(
    handles: &[SessionHandle<'_>],
    handler: impl Future<Output = Result<Response<B>, E>>,
) -> Result<Response<B>, Failure> {
    sessions::check_site(handles).map_err(Failure::new)?;
    handler.await.map_err(Failure::new)
}

/// Guard that abandons the sessions if the request's future is dropped, as when the client goes away. From then
/// on, no task of the request may store a login or a new id, because no response can send it.
pub(crate) struct Unfinished<F: Fn()>(Option<F>);

impl<F: Fn()> Unfinished<F> {
    pub(crate) fn new(abandon: F) -> Self {
        Self(Some(abandon))
    }

    fn done(mut self) {
        self.0 = None;
    }
}

impl<F: Fn()> Drop for Unfinished<F> {
    fn drop(&mut self) {
        if let Some(abandon) = &self.0 {
            abandon();
        }
    }
}

/// Abandons each of the sessions.
pub(crate) fn abandon(handles: &[SessionHandle<'_>]) {
    handles.iter().for_each(SessionHandle::abandon);
}
