//! Sessions around a hyper service.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;

use crate::error::BoxError;
use crate::transport::RequestHead;
use crate::wrapper::ServiceFuture;
use crate::{Failure, Managers, ServiceWrapper, SessionBody};

/// Wraps a hyper [`Service`] with sessions: see [`ServiceWrapper`] for what it does with requests and responses.
///
/// Services of tower and axum are wrapped by the layer of the crate `session-tower`.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    wrapper: ServiceWrapper,
    inner: S,
}

impl<S> SessionService<S> {
    /// Wraps `inner` with the sessions of one [`Manager`](crate::Manager), or of several [`Managers`].
    pub fn new(managers: impl Into<Managers>, inner: S) -> Self {
        Self { wrapper: ServiceWrapper::new(managers), inner }
    }

    /// Makes the responses to requests that failed, in place of a line of plain text: for pages in the
    /// visitor's language and the site's design, JSON where a script asks, or statuses for the errors of your
    /// own handlers. If it panics, the line of text is sent.
    ///
    /// ```
    /// # fn wrap<S>(manager: session_core::Manager, app: S) -> session_core::SessionService<S> {
    /// use http::Response;
    /// use session_core::SessionService;
    ///
    /// SessionService::new(manager, app).with_error_page(|failure, request| {
    ///     let text = failure.visitor_text();
    ///     let page = match request.uri.path().starts_with("/api/") {
    ///         true => format!("{{\"error\": \"{text}\"}}"),
    ///         false => format!("<!doctype html><title>Sorry</title><p>{text}"),
    ///     };
    ///     let mut response = Response::new(page.into());
    ///     *response.status_mut() = failure.status();
    ///     response
    /// })
    /// # }
    /// ```
    #[must_use]
    pub fn with_error_page<F>(mut self, error_page: F) -> Self
    where
        F: Fn(&Failure, RequestHead<'_>) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.wrapper = self.wrapper.with_error_page(error_page);
        self
    }
}

impl<S, B, R> Service<Request<B>> for SessionService<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<SessionBody<R>>;
    type Error = Infallible;
    type Future = ServiceFuture<R>;

    fn call(&self, request: Request<B>) -> Self::Future {
        self.wrapper.call(request, |request| Ok(self.inner.call(request)))
    }
}
