//! Sessions around a hyper service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;
use tracing::{debug, info, warn};

use crate::error::BoxError;
#[cfg(feature = "rewrite")]
use crate::rewrite::{Rewriter, RewrittenBody};
use crate::{Error, Manager, Sessions};

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
/// Under [`AutoTransport`](crate::transport::AutoTransport), a browser that returned the cookie and
/// still asks for a URL with an id in it is sent to the same URL without: see
/// [`SessionHandle::clean_url`](crate::SessionHandle::clean_url). The inner service's future is
/// dropped then, before it was polled.
///
/// An inner service that fails with a [session error](Error) becomes a response of that error's
/// [status](Error::status) with [words for a visitor](Error::visitor_text), and so does a failure to save:
/// `503` for a store that is down. Pending changes are dropped, and the client is told what was stored
/// before, as [`refuse`](crate::SessionHandle::refuse) does. What operators want to know of it is logged.
/// Other errors of the inner service are handed on.
#[derive(Clone, Debug)]
pub struct SessionService<S> {
    managers: Arc<[Manager]>,
    inner: S,
}

impl<S> SessionService<S> {
    /// Wraps `inner` with the sessions of one manager.
    pub fn new(manager: Manager, inner: S) -> Self {
        Self::with_managers([manager], inner)
    }

    /// Wraps `inner` with the sessions of several managers, whose names at the client differ.
    ///
    /// # Panics
    /// If two have the same name: one would read and overwrite the other's ids.
    pub fn with_managers(managers: impl IntoIterator<Item = Manager>, inner: S) -> Self {
        let managers: Arc<[Manager]> = managers.into_iter().collect();
        let mut names: Vec<&str> = managers.iter().flat_map(Manager::names).collect();
        names.sort_unstable();
        for pair in names.windows(2) {
            assert!(pair[0] != pair[1], "two managers are named {:?} at the client", pair[0]);
        }
        Self { managers, inner }
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
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        let sessions = Sessions::start(&self.managers, &request);
        request.extensions_mut().insert(sessions.clone());
        #[cfg(feature = "rewrite")]
        let has_body = *request.method() != http::Method::HEAD;
        let answer = self.inner.call(request);
        Box::pin(async move {
            let handled = match sessions.clean_url().await {
                Some(url) => Ok(redirect(&url)),
                None => answer.await.map(|response| response.map(SessionBody::inner)),
            };
            // The inner service's own error need not be `Send`.
            let mut response = match handled.map_err(Into::into) {
                Ok(response) => response,
                Err(error) => {
                    let error = error.downcast::<Error>()?;
                    log_refusal(&error);
                    return Ok(refused(&error, &sessions).await);
                }
            };
            let finished = match sessions.store(response.status()).await {
                Ok(()) => sessions.announce(&mut response),
                Err(errors) => Err(errors),
            };
            match finished {
                Ok(()) => {
                    #[cfg(feature = "rewrite")]
                    let response = rewrite(response, &sessions, has_body);
                    Ok(response)
                }
                Err(errors) => {
                    errors.iter().for_each(|(_, error)| log_refusal(error));
                    Ok(refused(errors.first(), &sessions).await)
                }
            }
        })
    }
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

/// Tells operators what visitors are not told: why a request was refused.
fn log_refusal(error: &Error) {
    const REFUSED: &str = "a request was refused, as its session could not be used or saved";
    let status = error.status();
    let error: &dyn std::error::Error = error;
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => warn!(error, "{REFUSED}"),
        // A limit that visitors meet may be too low.
        StatusCode::PAYLOAD_TOO_LARGE => info!(error, "{REFUSED}"),
        // Lost races are daily life, and a store's failure was logged when it happened.
        _ => debug!(error, "{REFUSED}"),
    }
}

/// The response in place of one whose session could not be loaded or saved: one line of text, with what the
/// clients have to be told of what the handler stored, such as a new id.
async fn refused<R>(error: &Error, sessions: &Sessions) -> Response<SessionBody<R>> {
    let status = error.status();
    let line = format!("{}\n", error.visitor_text());
    let mut response = Response::new(SessionBody(Inner::Text(Some(line.into()))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Its URL may have an id in it.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    sessions.refuse(&mut response).await;
    response
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
