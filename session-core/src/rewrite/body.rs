//! [`RewrittenBody`]: the response body that rewrites another body's page.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use super::{Rewriter, STEP};

/// The frames of another body, with ids in the page. It waits for the next frame only, and buffers at most
/// one step of the page beyond what the [`Rewriter`] holds back.
pub(crate) struct RewrittenBody<B> {
    body: Pin<Box<B>>,
    rewriter: Rewriter,
    /// The rest of the last frame.
    input: Bytes,
    trailers: Option<Frame<Bytes>>,
    ended: bool,
}

impl<B: Body<Data = Bytes>> RewrittenBody<B> {
    pub(crate) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        loop {
            let output = if !self.input.is_empty() {
                let step = self.input.split_to(self.input.len().min(STEP));
                self.rewriter.feed(step)
            } else if self.ended {
                return Poll::Ready(self.trailers.take().map(Ok));
            } else {
                match ready!(self.body.as_mut().poll_frame(context)) {
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => {
                            self.input = data;
                            continue;
                        }
                        Err(trailers) => {
                            self.trailers = Some(trailers);
                            self.end()
                        }
                    },
                    Some(Err(error)) => {
                        self.ended = true;
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => self.end(),
                }
            };
            if !output.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(output))));
            }
        }
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.ended && self.input.is_empty() && self.trailers.is_none()
    }

    fn end(&mut self) -> Bytes {
        self.ended = true;
        self.rewriter.finish()
    }
}

impl<B> RewrittenBody<B> {
    pub(crate) fn new(body: Pin<Box<B>>, rewriter: Rewriter) -> Self {
        Self { body, rewriter, input: Bytes::new(), trailers: None, ended: false }
    }
}
