//! The body of a response that went through a wrapper.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

#[cfg(feature = "rewrite")]
use crate::rewrite::{Rewriter, RewrittenBody};

/// The body of a wrapped service's response: the inner service's, or the wrapper's own page. The default is empty.
pub struct SessionBody<B>(Inner<B>);

enum Inner<B> {
    Handler(Pin<Box<B>>),
    #[cfg(feature = "rewrite")]
    Page(Box<RewrittenBody<B>>),
    Text(Option<Bytes>),
}

impl<B> SessionBody<B> {
    pub(crate) fn of_handler(body: B) -> Self {
        Self(Inner::Handler(Box::pin(body)))
    }

    /// Makes a body of the wrapper's own page.
    pub(crate) fn page(text: Bytes) -> Self {
        Self(Inner::Text(Some(text)))
    }

    #[cfg(feature = "rewrite")]
    pub(crate) fn rewritten(self, rewriter: Rewriter) -> Self {
        match self.0 {
            Inner::Handler(body) => Self(Inner::Page(Box::new(RewrittenBody::new(body, rewriter)))),
            other => Self(other),
        }
    }
}

// Layers outside that respond themselves, such as tower-http's timeout, need an empty body.
impl<B> Default for SessionBody<B> {
    fn default() -> Self {
        Self(Inner::Text(None))
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
            // The length is unknown until the links are read.
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
