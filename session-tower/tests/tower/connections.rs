//! Real connections of HTTP/1.1 and HTTP/2: one after another on the same, early responses, long streams.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{COOKIE, SET_COOKIE};
use http::{Request, Response};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use session_tower::SessionLayer;
use session_tower::axum::{Failed, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Site, Visitor};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    Http1,
    Http2,
}

const VERSIONS: [Version; 2] = [Version::Http1, Version::Http2];

/// Serves an application on one end of a connection, and returns the other.
fn serve(version: Version, app: Router) -> DuplexStream {
    let (client, server) = duplex(64 * 1024);
    let service = TowerToHyperService::new(app);
    let io = TokioIo::new(server);
    // A client may go away at any time.
    match version {
        Version::Http1 => tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
        }),
        Version::Http2 => tokio::spawn(async move {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(io, service).await;
        }),
    };
    client
}

/// A client's side of a connection.
enum Connection {
    Http1(hyper::client::conn::http1::SendRequest<Body>),
    Http2(hyper::client::conn::http2::SendRequest<Body>),
}

impl Connection {
    async fn open(version: Version, app: Router) -> Self {
        let io = TokioIo::new(serve(version, app));
        match version {
            Version::Http1 => {
                let (sender, connection) =
                    hyper::client::conn::http1::handshake(io).await.expect("shakes hands");
                tokio::spawn(connection);
                Self::Http1(sender)
            }
            Version::Http2 => {
                let executor = TokioExecutor::new();
                let (sender, connection) = hyper::client::conn::http2::handshake(executor, io)
                    .await
                    .expect("shakes hands");
                tokio::spawn(connection);
                Self::Http2(sender)
            }
        }
    }

    async fn send(&mut self, request: Request<Body>) -> Response<Incoming> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await.expect("is open");
                sender.send_request(request).await.expect("responds")
            }
            Self::Http2(sender) => {
                sender.ready().await.expect("is open");
                sender.send_request(request).await.expect("responds")
            }
        }
    }
}

fn request(visitor: &Visitor, method: &str, path: &str, body: Body) -> Request<Body> {
    let mut request = visitor.request(method, &format!("http://here{path}")).map(|_| body);
    request.headers_mut().insert("host", "here".parse().unwrap());
    request
}

async fn text(response: Response<Incoming>) -> String {
    let bytes = response.into_body().collect().await.expect("ends").to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn count(session: Session) -> Result<String, Failed> {
    Ok(session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?.to_string())
}

async fn count_and_fail(session: Session) -> Result<String, Failed> {
    session.set("n", &100)?;
    Err("out of paper".into())
}

/// Responds without a look at what is uploaded.
async fn early(session: Session, _unread: Body) -> Result<String, Failed> {
    session.set("n", &7)?;
    Ok("early".into())
}

fn app(site: &Site) -> Router {
    Router::new()
        .route("/", post(count))
        .route("/fail", post(count_and_fail))
        .route("/early", post(early))
        .layer(SessionLayer::new(site.manager.clone()))
}

#[tokio::test]
async fn requests_of_one_connection_have_their_own_sessions() {
    for version in VERSIONS {
        let site = Site::new();
        let mut connection = Connection::open(version, app(&site)).await;
        let mut visitors = [Visitor::default(), Visitor::default()];
        for wanted in ["1", "2", "3"] {
            for visitor in &mut visitors {
                let response = connection.send(request(visitor, "POST", "/", Body::empty())).await;
                visitor.keep(response.headers());
                assert_eq!(text(response).await, wanted, "{version:?}");
                // A request that fails doesn't end the connection.
                let failed =
                    connection.send(request(visitor, "POST", "/fail", Body::empty())).await;
                assert_eq!(failed.status(), 500);
                assert!(!failed.headers().contains_key(SET_COOKIE));
                text(failed).await;
            }
        }
        assert_eq!(site.manager.count().await.unwrap(), 2, "{version:?}");
    }
}

/// The head is that of GET, cookie and length included, also where the request fails.
#[tokio::test]
async fn a_head_request_has_the_same_head_and_no_body() {
    let site = Site::new();
    let handlers = Router::new()
        .route("/", get(count))
        .route("/fail", get(count_and_fail))
        .layer(SessionLayer::new(site.manager.clone()));
    for version in VERSIONS {
        for (path, status) in [("/", 200), ("/fail", 500)] {
            let mut lengths = Vec::new();
            for method in ["GET", "HEAD"] {
                let mut connection = Connection::open(version, handlers.clone()).await;
                let visitor = Visitor::default();
                let response =
                    connection.send(request(&visitor, method, path, Body::empty())).await;
                assert_eq!(response.status(), status, "{version:?} {method} {path}");
                let has_cookie = response.headers().contains_key(SET_COOKIE);
                assert_eq!(has_cookie, status == 200, "{version:?} {method} {path}");
                let length = response.headers()["content-length"].clone();
                let body = text(response).await;
                assert_eq!(body.is_empty(), method == "HEAD", "{body}");
                lengths.push(length);
            }
            assert_eq!(lengths[0], lengths[1], "{version:?} {path}");
        }
    }
}

/// HTTP/2 has them on one connection; of increments none is lost.
#[tokio::test]
async fn requests_at_once_on_one_connection_merge() {
    let site = Site::new();
    let mut connection = Connection::open(Version::Http2, app(&site)).await;
    let mut visitor = Visitor::default();
    let first = connection.send(request(&visitor, "POST", "/", Body::empty())).await;
    visitor.keep(first.headers());
    let Connection::Http2(sender) = connection else { unreachable!() };
    let requests = (0..50).map(|_| {
        let (mut sender, request) = (sender.clone(), request(&visitor, "POST", "/", Body::empty()));
        async move { sender.send_request(request).await.expect("responds").status() }
    });
    let statuses: Vec<_> = stream::iter(requests).buffer_unordered(50).collect().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let mut connection = Connection::Http2(sender);
    let last = connection.send(request(&visitor, "POST", "/", Body::empty())).await;
    assert_eq!(text(last).await, "52");
}

/// The response is there, saved and with its cookie, while the client still sends.
#[tokio::test]
async fn a_response_does_not_wait_for_the_upload() {
    for version in VERSIONS {
        let site = Site::new();
        let mut connection = Connection::open(version, app(&site)).await;
        let (chunks, upload) = mpsc::channel::<Result<Bytes, Infallible>>(1);
        let body = Body::from_stream(ReceiverStream::new(upload));
        chunks.send(Ok(Bytes::from_static(b"the first bytes"))).await.unwrap();
        let mut visitor = Visitor::default();
        let response = connection.send(request(&visitor, "POST", "/early", body)).await;
        assert_eq!(response.status(), 200, "{version:?}");
        visitor.keep(response.headers());
        assert!(visitor.has_cookie(), "{version:?}");
        assert_eq!(site.store.calls(), ["create"], "{version:?}");
        assert_eq!(text(response).await, "early");
        drop(chunks);
    }
}

/// By the bytes: the client announces more than it ever sends.
#[tokio::test]
async fn an_upload_that_is_never_finished_gets_its_response() {
    let site = Site::new();
    let mut client = serve(Version::Http1, app(&site));
    let head = "POST /early HTTP/1.1\r\nhost: here\r\ncontent-length: 1000000\r\n\r\nsome";
    client.write_all(head.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"early") {
        assert!(client.read_buf(&mut response).await.unwrap() > 0);
    }
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("\r\nset-cookie: __Host-id="), "{response}");
    drop(client);
    assert_eq!(site.manager.count().await.unwrap(), 1);
}

/// A body that takes ten minutes: the head is there at once, the session is saved by then, and again at the end.
#[tokio::test(start_paused = true)]
async fn a_body_may_stream_for_minutes() {
    const MINUTES: u32 = 10;

    async fn report(session: Session) -> Result<Response<Body>, Failed> {
        session.set("report", "begun")?;
        let session = session.into_inner();
        let lines = stream::unfold((session, 0), |(session, minute)| async move {
            if minute == MINUTES {
                return None;
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
            session.reload().await.expect("it lives");
            if minute == MINUTES - 1 {
                session.set("report", "done").expect("has room");
                session.save().await.expect("is stored");
            }
            let line = Frame::data(Bytes::from(format!("minute {minute}\n")));
            Some((Ok::<_, Infallible>(line), (session, minute + 1)))
        });
        Ok(Response::new(Body::new(StreamBody::new(lines))))
    }

    async fn state(session: Session) -> Result<String, Failed> {
        Ok(session.get("report")?.unwrap_or_default())
    }

    for version in VERSIONS {
        let site = Site::new();
        let app = Router::new()
            .route("/", get(state))
            .route("/report", post(report))
            .layer(SessionLayer::new(site.manager.clone()));
        let mut connection = Connection::open(version, app.clone()).await;
        let mut visitor = Visitor::default();
        let begin = tokio::time::Instant::now();
        let response = connection.send(request(&visitor, "POST", "/report", Body::empty())).await;
        assert!(begin.elapsed() < Duration::from_secs(1), "{version:?}");
        visitor.keep(response.headers());
        assert_eq!(visitor.get(&app, "/").await.expect(200), "begun", "{version:?}");
        let report = text(response).await;
        assert_eq!(report.lines().count(), 10, "{version:?}");
        assert!(begin.elapsed() >= Duration::from_secs(600), "{version:?}");
        assert_eq!(visitor.get(&app, "/").await.expect(200), "done", "{version:?}");
    }
}

/// A cookie that HTTP/2 splits into several headers (RFC 9113, section 8.2.3).
#[tokio::test]
async fn cookies_in_several_headers_are_one() {
    let site = Site::new();
    let mut connection = Connection::open(Version::Http2, app(&site)).await;
    let mut visitor = Visitor::default();
    let first = connection.send(request(&visitor, "POST", "/", Body::empty())).await;
    visitor.keep(first.headers());
    let mut second = request(&Visitor::default(), "POST", "/", Body::empty());
    for cookie in ["a=b".to_owned(), visitor.cookie(), "c=d".to_owned()] {
        second.headers_mut().append(COOKIE, cookie.parse().unwrap());
    }
    assert_eq!(text(connection.send(second).await).await, "2");
}
