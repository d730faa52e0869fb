//! Sessions around a hyper service.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;
use tracing::debug;

use crate::error::BoxError;
use crate::{Error, Manager, Sessions};

/// Wraps a hyper [`Service`] with sessions.
///
/// It puts the request's [`Sessions`] into its extensions and finishes them when the inner service
/// answered: everything is saved before the response's head is sent. Bodies pass through
/// untouched, streaming or not.
///
/// An inner service that fails with a [session error](Error) becomes a response of that error's
/// [status](Error::status), and so does a failure to save: `503` for a store that is down, without
/// a `Set-Cookie` for the session that failed. Other errors of the inner service are handed on.
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
    pub fn with_managers(managers: impl IntoIterator<Item = Manager>, inner: S) -> Self {
        Self { managers: managers.into_iter().collect(), inner }
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
        let answer = self.inner.call(request);
        Box::pin(async move {
            let mut response = match answer.await {
                Ok(response) => response,
                Err(error) => {
                    return match error.into().downcast::<Error>() {
                        Ok(error) => Ok(refusal(&error)),
                        Err(error) => Err(error),
                    };
                }
            };
            let errors = match sessions.store().await {
                Ok(()) => match sessions.announce(&mut response, None) {
                    Ok(()) => return Ok(response.map(SessionBody::inner)),
                    Err(errors) => errors,
                },
                Err(errors) => errors,
            };
            debug!(error = %errors, "sessions could not be saved");
            let mut refusal = refusal(errors.first());
            // One session's failure is none of another's, whose new id the client must learn. What
            // fails here is among the errors already.
            let _ = sessions.announce(&mut refusal, Some(&errors));
            Ok(refusal)
        })
    }
}

/// The response in place of one whose session could not be loaded or saved: one line of text.
fn refusal<R>(error: &Error) -> Response<SessionBody<R>> {
    let mut response =
        Response::new(SessionBody(Inner::Text(Some(Bytes::from(format!("{error}\n"))))));
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The inner service's body, or the wrapper's own line of text.
pub struct SessionBody<B>(Inner<B>);

enum Inner<B> {
    Handler(Pin<Box<B>>),
    Text(Option<Bytes>),
}

impl<B> SessionBody<B> {
    fn inner(body: B) -> Self {
        Self(Inner::Handler(Box::pin(body)))
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
            Inner::Text(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Handler(body) => body.is_end_stream(),
            Inner::Text(text) => text.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Handler(body) => body.size_hint(),
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
            Inner::Text(_) => "SessionBody::Text",
        })
    }
}
