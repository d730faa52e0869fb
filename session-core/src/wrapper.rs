//! Sessions around a service, whatever the service's trait.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HeaderValue, LOCATION};
use http::request::Parts;
use http::{Request, Response, StatusCode, Uri};
use http_body::Body;

#[cfg(feature = "rewrite")]
use crate::Sessions;
use crate::error::BoxError;
use crate::respond::{self, Unfinished};
use crate::response_headers::forbid_caching;
use crate::transport::RequestHead;
use crate::{Failure, Managers, SessionBody};

/// What every wrapper around a service does: [`SessionService`](crate::SessionService) around hyper's services, and the
/// layer of `session-tower` around tower's. For the trait of another framework, call [`call`](Self::call) in it.
///
/// It puts the request's [`Sessions`](crate::Sessions) into its extensions and finishes them when the inner service
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
/// Every failure becomes a response, because a server would close the connection without one: an error of the
/// inner service, whatever its type, a panic in it, a failure to save. Pending changes are dropped, the client
/// is told what was stored before, and the error is logged. The response has the
/// [status](Failure::status) of the session error that is the error or among its causes, such as 503 for a
/// store that is down, or else 500, and [words for a visitor](Failure::visitor_text). An
/// [error page](Self::with_error_page) of the application's own takes their place.
///
/// A response with a [`Failure`] among its extensions is treated as that failure, for frameworks whose handlers can't
/// return errors.
///
/// ```
/// # futures_lite::future::block_on(async {
/// # session_memory::init();
/// use std::convert::Infallible;
///
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use session_core::{Error, Manager, RequestSession, ServiceWrapper};
///
/// async fn count(request: Request<()>) -> Result<Response<Full<Bytes>>, Error> {
///     let session = request.session().await?;
///     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
///     Ok(Response::new(Full::from(format!("visit {visits}"))))
/// }
///
/// let wrapper = ServiceWrapper::new(Manager::open("memory", "")?);
/// let response = wrapper.call(Request::new(()), |request| Ok(count(request))).await;
/// let Ok(response): Result<_, Infallible> = response;
/// assert!(response.headers().contains_key("set-cookie"));
/// # Ok::<_, session_core::Error>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct ServiceWrapper {
    managers: Managers,
    error_page: Option<Arc<ErrorPage>>,
}

type ErrorPage = dyn Fn(&Failure, RequestHead<'_>) -> Response<Bytes> + Send + Sync;

/// The future of a wrapped service's response, which never fails: see [`ServiceWrapper`].
pub type ServiceFuture<R> =
    Pin<Box<dyn Future<Output = Result<Response<SessionBody<R>>, Infallible>> + Send>>;

impl ServiceWrapper {
    /// Returns a wrapper with the sessions of one [`Manager`](crate::Manager), or of several [`Managers`].
    pub fn new(managers: impl Into<Managers>) -> Self {
        Self { managers: managers.into(), error_page: None }
    }

    /// Makes the responses to requests that failed, in place of a line of plain text. If it panics, the line of
    /// text is sent.
    #[must_use]
    pub fn with_error_page<F>(mut self, error_page: F) -> Self
    where
        F: Fn(&Failure, RequestHead<'_>) -> Response<Bytes> + Send + Sync + 'static,
    {
        self.error_page = Some(Arc::new(error_page));
        self
    }

    /// Calls the inner service with a request, unless another site sent it, and returns the future of its finished
    /// response.
    ///
    /// `call` runs before this function returns, so it may borrow the service. It returns an error if the service is
    /// not ready.
    pub fn call<B, F, R, E>(
        &self,
        request: Request<B>,
        call: impl FnOnce(Request<B>) -> Result<F, BoxError>,
    ) -> ServiceFuture<R>
    where
        F: Future<Output = Result<Response<R>, E>> + Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        E: Into<BoxError>,
    {
        self.call_at(None, request, call)
    }

    /// Like [`call`](Self::call), for a router that hands requests on with a part of their path cut off: `target` is
    /// the target as the client sent it. Trusted paths, ids in URLs and the error page go by it.
    pub fn call_at<B, F, R, E>(
        &self,
        target: Option<&Uri>,
        mut request: Request<B>,
        call: impl FnOnce(Request<B>) -> Result<F, BoxError>,
    ) -> ServiceFuture<R>
    where
        F: Future<Output = Result<Response<R>, E>> + Send + 'static,
        R: Body<Data = Bytes> + Send + 'static,
        E: Into<BoxError>,
    {
        let mut seen = RequestHead::from(&request);
        if let Some(target) = target {
            seen.uri = target;
        }
        let error_page = self.error_page.clone().map(|page| Box::new((page, head(seen))));
        // A transport of the application's own may panic as well.
        let Ok(sessions) = catch_unwind(AssertUnwindSafe(|| self.managers.start(seen))) else {
            let mut response = page(&Failure::panic(), error_page);
            forbid_caching(response.headers_mut());
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
            let called = catch_unwind(AssertUnwindSafe(|| call(request)));
            called.map_err(|_| Failure::panic())?.map_err(Failure::new)
        });
        Box::pin(async move {
            let handles = sessions.handles();
            let handler = async {
                let answer = called?;
                match sessions.clean_url().await {
                    Some(url) => Ok(redirect(&url)),
                    // The inner service's own error need not be `Send`.
                    None => match answer.await {
                        Ok(response) => Ok(response.map(SessionBody::of_handler)),
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

impl fmt::Debug for ServiceWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceWrapper").field("managers", &self.managers).finish_non_exhaustive()
    }
}

/// Returns the head of a request, for an error page.
fn head(request: RequestHead<'_>) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = request.method.clone();
    parts.uri = request.uri.clone();
    parts.headers = request.headers.clone();
    parts
}

/// Returns the response to a request that failed.
fn page<R>(
    failure: &Failure,
    error_page: Option<Box<(Arc<ErrorPage>, Parts)>>,
) -> Response<SessionBody<R>> {
    let own = error_page.and_then(|asked| {
        let (page, head) = *asked;
        catch_unwind(AssertUnwindSafe(|| page(failure, (&head).into()))).ok()
    });
    let response = own.unwrap_or_else(|| failure.response::<Bytes>());
    response.map(SessionBody::page)
}

/// Returns the response that redirects a browser to a clean URL.
fn redirect<R>(url: &str) -> Response<SessionBody<R>> {
    let mut response = Response::new(SessionBody::default());
    // It was in a request's target, so it fits; if not, the page comes with its next request.
    if let Ok(location) = HeaderValue::try_from(url) {
        *response.status_mut() = StatusCode::SEE_OTHER;
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// Rewrites an HTML response as it is streamed. The response to a HEAD request only gets the headers of a
/// rewritten page.
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
