//! Server-sent events for logged-in users, which end with the session.
//!
//!     cargo run -p examples --example events
//!     curl -b jar -c jar -X POST http://127.0.0.1:8080/login
//!     curl -b jar -N http://127.0.0.1:8080/events
//!     curl -b jar -c jar -X POST http://127.0.0.1:8080/logout     # in another terminal

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Either;
use http_body_util::channel::{Channel, Sender};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use session_core::{Error, LoadedSession, Manager, RequestSession, SessionService};
use tokio::net::TcpListener;

type Body = Either<String, Channel<Bytes, Error>>;

/// Sends the remaining time of the session each second, until the client disconnects or the session
/// ends. Nothing is saved at the end.
async fn send_events(session: LoadedSession, mut events: Sender<Bytes, Error>) {
    let mut every = tokio::time::interval(Duration::from_secs(1));
    loop {
        every.tick().await;
        // Checks that the session is still live, so that nothing is sent after a logout. `reload` is not
        // a use: the stream does not keep the session alive.
        let event = match session.reload().await {
            Ok(()) => format!("data: {} s left\n\n", session.remaining().as_secs()),
            Err(Error::Gone) => "event: end\ndata: the session has ended\n\n".to_owned(),
            Err(error) => return events.abort(error),
        };
        let is_end = event.starts_with("event: end");
        if events.send_data(event.into()).await.is_err() || is_end {
            return;
        }
    }
}

async fn handle(request: Request<Incoming>) -> Result<Response<Body>, Error> {
    let session = request.session().await?;
    let text = |text: &str| Response::new(Either::Left(text.to_owned()));
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/login") => {
            session.log_in("ada")?;
            Ok(text("logged in\n"))
        }
        (&Method::POST, "/logout") => {
            session.destroy().await?;
            Ok(text("logged out\n"))
        }
        _ if session.owner().is_none() => {
            let mut response = text("log in first\n");
            *response.status_mut() = StatusCode::FORBIDDEN;
            Ok(response)
        }
        _ => {
            let (events, body) = Channel::new(1);
            tokio::spawn(send_events(session, events));
            let mut response = Response::new(Either::Right(body));
            let kind = HeaderValue::from_static("text/event-stream");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            Ok(response)
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let service = SessionService::new(Manager::open("memory", "")?, service_fn(handle));
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
