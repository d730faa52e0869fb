//! An inner service for the wrapper, and a response body.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::service::Service;
use session_core::provider::BoxError;

/// A service that calls a closure.
pub(crate) struct Handler<F>(pub(crate) F);

impl<F, Answer> Service<Request<()>> for Handler<F>
where
    F: Fn(Request<()>) -> Answer,
    Answer: Future<Output = Result<Response<Frames>, BoxError>> + Send + 'static,
{
    type Response = Response<Frames>;
    type Error = BoxError;
    type Future = Answer;

    fn call(&self, request: Request<()>) -> Answer {
        (self.0)(request)
    }
}

/// A body with given frames that counts how often it is polled.
#[derive(Default)]
pub(crate) struct Frames {
    pub(crate) frames: VecDeque<Result<Frame<Bytes>, io::Error>>,
    pub(crate) hint: SizeHint,
    pub(crate) polls: Arc<AtomicUsize>,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.polls.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(self.frames.pop_front())
    }

    fn is_end_stream(&self) -> bool {
        self.frames.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        self.hint
    }
}
