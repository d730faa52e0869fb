//! Sessions around a tower service.

use std::convert::Infallible;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use session_core::provider::BoxError;
use session_core::transport::RequestHead;
use session_core::{Failure, Managers, ServiceFuture, ServiceWrapper, SessionBody};
use tower_layer::Layer;
use tower_service::Service;

/// Puts sessions around a service: see [`ServiceWrapper`] for what that does with requests and responses.
///
/// ```
/// # fn app() -> Result<axum::Router, session_core::Error> {
/// use axum::Router;
/// use axum::routing::get;
/// use session_core::Manager;
/// use session_tower::SessionLayer;
///
/// session_memory::init();
/// let manager = Manager::open("memory", "")?;
/// let app = Router::new().route("/", get("hello")).layer(SessionLayer::new(manager));
/// # Ok(app)
/// # }
/// # app().unwrap();
/// ```
///
/// # Order
/// - Compression belongs outside of this layer if ids go into pages (feature `rewrite`), because a compressed page
///   can't be read. Otherwise it may stand on either side.
/// - Timeouts, limits of the request's body and catchers of panics may stand on either side. A future that is dropped
///   and a response of status 5xx or 408 leave nothing of the request in the store. A 413 of a layer inside counts as
///   a handler's: what the handler changed before is saved.
/// - CORS belongs outside: a preflight then asks for no session, and a script may read why its request was refused.
///   The origins that it allows must also be named in `cross_site.trusted`.
/// - One layer serves several [`Managers`]. If two layers are around each other, the handler has the sessions of the
///   inner one only, and if the outer one can't save, its error response has no cookie of the inner one.
/// - A middleware between this layer and the handlers that replaces responses carries their extensions over: see
///   [`Failed`](crate::axum::Failed). It is simpler to style errors by an [error page](Self::with_error_page).
/// - In a nested router of axum, paths are those that browsers send (with the feature `axum`). Other routers that cut
///   off a part of the path belong inside of this layer.
#[derive(Clone, Debug)]
pub struct SessionLayer {
    wrapper: ServiceWrapper,
}

impl SessionLayer {
    /// A layer with the sessions of one [`Manager`](session_core::Manager), or of several [`Managers`].
    pub fn new(managers: impl Into<Managers>) -> Self {
        Self { wrapper: ServiceWrapper::new(managers) }
    }

    /// Makes the responses to requests that failed, in place of a line of plain text: for pages in the
    /// visitor's language and the site's design, JSON where a script asks, or statuses for the errors of your
    /// own handlers. If it panics, the line of text is sent.
    ///
    /// ```
    /// # fn layer(manager: session_core::Manager) -> session_tower::SessionLayer {
    /// use http::Response;
    /// use session_tower::SessionLayer;
    ///
    /// SessionLayer::new(manager).with_error_page(|failure, request| {
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

impl<S> Layer<S> for SessionLayer {
    type Service = SessionService<S>;

    fn layer(&self, inner: S) -> SessionService<S> {
        SessionService { wrapper: self.wrapper.clone(), inner, not_ready: None }
    }
}

/// A service with sessions around it, made by [`SessionLayer`].
///
/// It never fails: every error becomes a response. It is ready when the inner service is. If the inner service's
/// `poll_ready` fails or panics, this is the response to the next request, and the inner service is not called for
/// it. The call goes to the same inner service that was ready, so that need not be `Clone`.
pub struct SessionService<S> {
    wrapper: ServiceWrapper,
    inner: S,
    /// The error of the inner service's last `poll_ready`, until a request takes it.
    not_ready: Option<BoxError>,
}

// A clone's inner service has not been asked whether it is ready.
impl<S: Clone> Clone for SessionService<S> {
    fn clone(&self) -> Self {
        Self { wrapper: self.wrapper.clone(), inner: self.inner.clone(), not_ready: None }
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

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.not_ready.is_none() {
            let asked = catch_unwind(AssertUnwindSafe(|| self.inner.poll_ready(context)));
            self.not_ready = match asked {
                Ok(asked) => ready!(asked).err().map(Into::into),
                Err(_) => Some("the service panicked when it was asked whether it is ready".into()),
            };
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let not_ready = self.not_ready.take();
        let inner = &mut self.inner;
        // In a nested router of axum, the request's own target is only the rest.
        #[cfg(feature = "axum")]
        let target =
            request.extensions().get::<::axum::extract::OriginalUri>().map(|uri| uri.0.clone());
        #[cfg(not(feature = "axum"))]
        let target: Option<http::Uri> = None;
        self.wrapper.call_at(target.as_ref(), request, |request| match not_ready {
            None => Ok(inner.call(request)),
            Some(error) => Err(error),
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("wrapper", &self.wrapper)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
