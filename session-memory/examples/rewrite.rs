//! Measures the rewriting of pages with ids: the throughput of a page of 1 MB with and without
//! rewriting, and the memory that a page takes.
//!
//!     cargo run --release -p session-memory --example rewrite

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, Empty};
use hyper::service::{Service as _, service_fn};
use session_core::provider::BoxError;
use session_core::transport::TransportKind;
use session_core::{Config, Manager, SessionService, Sessions};

const MB: usize = 1 << 20;

/// Returns a part of a page: 3 KB with ten links and a form.
fn part() -> Bytes {
    let text =
        "<p class=\"text\">Words &amp; <b>more</b> words, as pages have them. </p>\n".repeat(3);
    let link = "<a href=\"/articles/some-title?page=2&amp;order=date#comments\">a link</a>\n";
    let form = "<form action=\"/search\"><input name=\"q\"><button>Search</button></form>\n";
    [(text + link).repeat(10).as_str(), form].concat().into()
}

/// A page of this many bytes in frames.
struct Page {
    left: usize,
    part: Bytes,
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.part.slice(..self.left.min(self.part.len()));
        self.left -= frame.len();
        Poll::Ready((!frame.is_empty()).then(|| Ok(Frame::data(frame))))
    }
}

/// Serves one page to a new visitor. Returns the number of bytes that arrived.
fn serve(manager: &Manager, size: usize, part: &Bytes) -> usize {
    let name = manager.name().to_owned();
    let part = part.clone();
    let service = service_fn(move |request: Request<Empty<Bytes>>| {
        let (name, part) = (name.clone(), part.clone());
        async move {
            let sessions: &Sessions = request.extensions().get().expect("the wrapper is around");
            sessions.get(&name).expect("is ours").load().await?.set("n", &1)?;
            let mut response = Response::new(Page { left: size, part });
            let html = HeaderValue::from_static("text/html; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, html);
            Ok::<_, BoxError>(response)
        }
    });
    futures_lite::future::block_on(async {
        let service = SessionService::new(manager.clone(), service);
        let mut body = service.call(Request::new(Empty::new())).await.expect("a page").into_body();
        let mut arrived = 0;
        while let Some(frame) = body.frame().await {
            arrived += frame.expect("a frame").into_data().map_or(0, |data| data.len());
        }
        arrived
    })
}

fn main() -> Result<(), BoxError> {
    session_memory::init();
    let manager = |transport| {
        let mut config = Config::default();
        config.transport = transport;
        config.gc_every = Duration::ZERO;
        Manager::from_config(&config)
    };
    let (plain, rewritten) = (manager(TransportKind::Cookie)?, manager(TransportKind::Url)?);
    let part = part();
    let rate = |manager: &Manager, rounds: u32| {
        let start = Instant::now();
        let arrived: usize = (0..rounds).map(|_| serve(manager, MB, &part)).sum();
        (start.elapsed() / rounds, arrived / rounds as usize)
    };
    rate(&rewritten, 20);
    let (as_it_is, bytes) = rate(&plain, 2000);
    println!("1 MB as it is:   {as_it_is:>10.1?}, {bytes} bytes arrive");
    let (with_ids, bytes) = rate(&rewritten, 200);
    let throughput = 1.0 / with_ids.as_secs_f64();
    println!("1 MB with ids:   {with_ids:>10.1?}, {bytes} bytes arrive, {throughput:.0} MB/s");
    for size in [MB, 4 * MB, 16 * MB, 64 * MB] {
        let used = allocation_counter::measure(|| {
            serve(&rewritten, size, &part);
        });
        println!("{:>2} MB with ids:  {:>7} bytes of memory at most", size / MB, used.bytes_max);
    }
    Ok(())
}
