//! Sessions around a hyper service.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;

use crate::error::BoxError;
use crate::respond::{self, Unfinished};
#[cfg(feature = "rewrite")]
use crate::rewrite::{Rewriter, RewrittenBody};
use crate::transport::RequestHead;
use crate::{Failure, Managers, Sessions};

/// Wraps a hyper [`Service`] with sessions.
///
/// It puts the request's [`Sessions`] into its extensions and finishes them when the inner service
/// has responded: everything is saved before the response's head is sent. Bodies pass through
/// untouched, streaming or not.
///
/// With the feature `rewrite`, HTML pages for visitors whose id is in URLs are the exception: as
/// they stream by, the id is put into `a[href]`, `area[href]`, `frame[src]`, `iframe[src]`, the
/// `action` of forms that post, a hidden input of forms that don't, and `meta` refreshes, as far as
/// these lead to the application itself. Compressed pages are left alone, with a warning.
///
/// With the transport [`Auto`](crate::transport::TransportKind::Auto), a browser that returned the cookie and
/// still asks for a URL with an id in it is sent to the same URL without: see
/// [`SessionHandle::clean_url`](crate::SessionHandle::clean_url). The inner service's future is
/// dropped then, before it was polled.
///
/// An unsafe request from another site is refused before the inner service is called: see
/// [`SessionHandle::check_site`](crate::SessionHandle::check_site).
///
/// All that goes wrong becomes a response, as hyper would end the connection without one: an error of the
/// inner service, whatever its type, a panic in it, a failure to save. Pending changes are dropped, the client
/// is told what was stored before, and the error is logged. The response has the
/// [status](Failure::status) of the session error that is the error or among its causes, such as 503 for a
/// store that is down, or else 500, and [words for a visitor](Failure::visitor_text). An
/// [error page](Self::with_error_page) of your own takes their place.
#[derive(Clone)]
pub struct SessionService<S> {
    managers: Managers,
    inner: S,
    error_page: Option<Arc<ErrorPage>>,
}

type ErrorPage = dyn Fn(&Failure, RequestHead<'_>) -> Response<Bytes> + Send + Sync;

impl<S> SessionService<S> {
    /// Wraps `inner` with the sessions of one [`Manager`](crate::Manager), or of several [`Managers`].
    pub fn new(managers: impl Into<Managers>, inner: S) -> Self {
        Self { managers: managers.into(), inner, error_page: None }
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
        self.error_page = Some(Arc::new(error_page));
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
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let error_page = self.error_page.clone().map(|page| (page, head(&request)));
        // A transport of the application's own may panic as well.
        let Ok(sessions) = catch_unwind(AssertUnwindSafe(|| self.managers.start(&request))) else {
            let response = page(&Failure::panic(), error_page);
            return Box::pin(std::future::ready(Ok(response)));
        };
        // Already here, as the future may be dropped before it is polled.
        let abandoned = sessions.clone();
        let unfinished = Unfinished::new(move || respond::abandon(abandoned.handles()));
        #[cfg(feature = "rewrite")]
        let has_body = *request.method() != http::Method::HEAD;
        // A service may do its work in the call already, before its future is there.
        let checked = sessions.check_site();
        let called = checked.map_err(Failure::new).and_then(|()| {
            request.extensions_mut().insert(sessions.clone());
            let call = AssertUnwindSafe(|| self.inner.call(request));
            catch_unwind(call).map_err(|_| Failure::panic())
        });
        Box::pin(async move {
            let handles = sessions.handles();
            let handler = async {
                let answer = called?;
                match sessions.clean_url().await {
                    Some(url) => Ok(redirect(&url)),
                    // The inner service's own error need not be `Send`.
                    None => match answer.await {
                        Ok(response) => Ok(response.map(SessionBody::inner)),
                        Err(error) => Err(Failure::new(error)),
                    },
                }
            };
            let page = |failure: &Failure| page(failure, error_page);
            let response = respond::respond(handles, unfinished, handler, page).await;
            #[cfg(feature = "rewrite")]
            let response = rewrite(response, &sessions, has_body);
            Ok(response)
        })
    }
}

impl<S: fmt::Debug> fmt::Debug for SessionService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService")
            .field("managers", &self.managers)
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}

/// The head of a request, for an error page.
fn head<B>(request: &Request<B>) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method().clone();
    parts.uri = request.uri().clone();
    parts.headers = request.headers().clone();
    parts
}

/// The response to a request that failed.
fn page<R>(
    failure: &Failure,
    error_page: Option<(Arc<ErrorPage>, Parts)>,
) -> Response<SessionBody<R>> {
    let own = error_page.and_then(|(page, head)| {
        catch_unwind(AssertUnwindSafe(|| page(failure, (&head).into()))).ok()
    });
    let response = own.unwrap_or_else(|| failure.response::<Bytes>());
    response.map(|text| SessionBody(Inner::Text(Some(text))))
}

/// The response that sends a browser to a clean URL.
fn redirect<R>(url: &str) -> Response<SessionBody<R>> {
    let mut response = Response::new(SessionBody(Inner::Text(None)));
    // It was in a request's target, so it fits; if not, the page comes with its next request.
    if let Ok(location) = HeaderValue::try_from(url) {
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Puts ids into the response as it goes by, if it is a page and ids belong there. The answer to a
/// HEAD request has the headers of such a page.
#[cfg(feature = "rewrite")]
fn rewrite<R>(
    mut response: Response<SessionBody<R>>,
    sessions: &Sessions,
    has_body: bool,
) -> Response<SessionBody<R>> {
    // In this order: of the headers only those of a page to be rewritten are changed.
    let Some(rewriter) = sessions.rewriter() else { return response };
    let status = response.status();
    match crate::rewrite::prepare(status, response.headers_mut()) {
        true if has_body => response.map(|body| body.rewritten(rewriter)),
        _ => response,
    }
}

/// The inner service's body, or the wrapper's own line of text.
pub struct SessionBody<B>(Inner<B>);

enum Inner<B> {
    Handler(Pin<Box<B>>),
    #[cfg(feature = "rewrite")]
    Page(Box<RewrittenBody<B>>),
    Text(Option<Bytes>),
}

impl<B> SessionBody<B> {
    fn inner(body: B) -> Self {
        Self(Inner::Handler(Box::pin(body)))
    }

    #[cfg(feature = "rewrite")]
    fn rewritten(self, rewriter: Rewriter) -> Self {
        match self.0 {
            Inner::Handler(body) => Self(Inner::Page(Box::new(RewrittenBody::new(body, rewriter)))),
            other => Self(other),
        }
    }
}

impl<B: Body<Data = Bytes>> Body for SessionBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match &mut self.0 {
            Inner::Handler(body) => body.as_mut().poll_frame(context),
            #[cfg(feature = "rewrite")]
            Inner::Page(body) => body.poll_frame(context),
            Inner::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Handler(body) => body.is_end_stream(),
            #[cfg(feature = "rewrite")]
            Inner::Page(body) => body.is_end_stream(),
            Inner::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Handler(body) => body.size_hint(),
            // It becomes longer, by how much its links tell.
            #[cfg(feature = "rewrite")]
            Inner::Page(_) => SizeHint::default(),
            Inner::Text(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
        }
    }
}

impl<B> fmt::Debug for SessionBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Inner::Handler(_) => "SessionBody::Handler",
            #[cfg(feature = "rewrite")]
            Inner::Page(_) => "SessionBody::Page",
            Inner::Text(_) => "SessionBody::Text",
        })
    }
}
