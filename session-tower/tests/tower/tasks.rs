//! Handlers that go on after the response: WebSockets and server-sent events hold a session.

use std::convert::Infallible;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::response::sse::{Event, Sse};
use axum::routing::{any, get, post};
use futures_util::{SinkExt as _, Stream, StreamExt as _, stream};
use http::Request;
use http::header::{COOKIE, ORIGIN};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use session_core::{Error, LoadedSession};
use session_tower::SessionLayer;
use session_tower::axum::{Failed, Owner, Session};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, duplex};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{WebSocketStream, tungstenite};
use tower::ServiceExt as _;

use crate::support::{Site, Visitor};

async fn log_in(session: Session) -> Result<(), Failed> {
    session.log_in("ada")?;
    session.set("n", &1)?;
    Ok(())
}

async fn log_out(session: Session) -> Result<(), Failed> {
    session.destroy().await?;
    Ok(())
}

async fn n(session: Session) -> Result<String, Failed> {
    Ok(session.get::<u32>("n")?.unwrap_or(0).to_string())
}

async fn socket(owner: Owner, upgrade: WebSocketUpgrade) -> Response {
    let session = owner.session().clone().into_inner();
    upgrade.on_upgrade(move |socket| talk(socket, session))
}

/// Counts what comes, in the session, until that has ended.
async fn talk(mut socket: WebSocket, session: LoadedSession) {
    while let Some(Ok(Message::Text(text))) = socket.recv().await {
        let answer = match session.reload().await {
            Ok(()) => {
                let n = session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await;
                format!("{} {text} {}", session.owner().unwrap_or_default(), n.expect("is stored"))
            }
            Err(Error::Gone) => return,
            Err(error) => error.to_string(),
        };
        if socket.send(Message::Text(answer.into())).await.is_err() {
            return;
        }
    }
}

/// An event a minute, until the session ends.
async fn events(session: Session) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let session = session.into_inner();
    Sse::new(stream::unfold(session, |session| async move {
        tokio::time::sleep(Duration::from_secs(60)).await;
        match session.reload().await {
            Ok(()) => {
                let n: u32 = session.get("n").expect("is a number").unwrap_or(0);
                Some((Ok(Event::default().data(n.to_string())), session))
            }
            Err(_) => None,
        }
    }))
}

fn app(site: &Site) -> Router {
    Router::new()
        .route("/", get(n))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/socket", any(socket)) // HTTP/2 asks by CONNECT
        .route("/events", get(events))
        .layer(SessionLayer::new(site.manager.clone()))
}

type Socket<S = DuplexStream> = WebSocketStream<S>;

async fn connect(
    app: &Router,
    headers: &[(http::HeaderName, &str)],
) -> tungstenite::Result<Socket> {
    let (client, server) = duplex(64 * 1024);
    let service = TowerToHyperService::new(app.clone());
    tokio::spawn(async move {
        let connection = hyper::server::conn::http1::Builder::new();
        let connection = connection.serve_connection(TokioIo::new(server), service);
        let _ = connection.with_upgrades().await;
    });
    let mut request = "ws://here/socket".into_client_request()?;
    for (name, value) in headers {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    Ok(tokio_tungstenite::client_async(request, client).await?.0)
}

async fn say<S>(socket: &mut Socket<S>, text: &str) -> Option<String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(tungstenite::Message::text(text)).await.unwrap();
    match socket.next().await? {
        Ok(tungstenite::Message::Text(text)) => Some(text.to_string()),
        _ => None,
    }
}

#[tokio::test]
async fn a_websocket_holds_the_session_until_it_ends() {
    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    let refused = connect(&app, &[]).await.unwrap_err();
    assert!(matches!(&refused, tungstenite::Error::Http(r) if r.status() == 401), "{refused:?}");
    visitor.post(&app, "/login").await.expect(200);
    let cookie = visitor.cookie();
    let mut socket = connect(&app, &[(COOKIE, &cookie)]).await.unwrap();
    assert_eq!(say(&mut socket, "hi").await.unwrap(), "ada hi 2");
    assert_eq!(say(&mut socket, "hi").await.unwrap(), "ada hi 3");
    assert_eq!(visitor.get(&app, "/").await.expect(200), "3");
    site.store.fail(Some("load"));
    let down = say(&mut socket, "hi").await.unwrap();
    assert_eq!(down, "the session store is unavailable; retry later");
    site.store.fail(None);
    visitor.post(&app, "/logout").await.expect(200);
    assert_eq!(say(&mut socket, "hi").await, None);
}

#[tokio::test]
async fn another_site_opens_no_websocket() {
    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    visitor.post(&app, "/login").await.expect(200);
    let cookie = visitor.cookie();
    let refused = connect(&app, &[(COOKIE, &cookie), (ORIGIN, "http://evil.example")]).await;
    let refused = refused.unwrap_err();
    assert!(matches!(&refused, tungstenite::Error::Http(r) if r.status() == 403), "{refused:?}");
    let mut own = connect(&app, &[(COOKIE, &cookie), (ORIGIN, "http://here")]).await.unwrap();
    assert_eq!(say(&mut own, "hi").await.unwrap(), "ada hi 2");
}

/// A WebSocket over HTTP/2 is a stream of it, asked for by CONNECT (RFC 8441).
#[tokio::test]
async fn a_websocket_over_http_2_is_as_one_over_http_1() {
    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    visitor.post(&app, "/login").await.expect(200);
    let (client, server) = duplex(64 * 1024);
    let service = TowerToHyperService::new(app.clone());
    tokio::spawn(async move {
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ =
            builder.enable_connect_protocol().serve_connection(TokioIo::new(server), service).await;
    });
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(client))
            .await
            .unwrap();
    tokio::spawn(connection);
    let mut connect = async |origin: &str, cookie: String| {
        let request = Request::connect("http://here/socket")
            .extension(hyper::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header(ORIGIN, origin)
            .header(COOKIE, cookie);
        sender.ready().await.unwrap();
        sender.send_request(request.body(Body::empty()).unwrap()).await.unwrap()
    };
    // The server's settings say that it may; they are there with the first response.
    assert_eq!(connect("http://evil.example", visitor.cookie()).await.status(), 403);
    assert_eq!(connect("http://here", String::new()).await.status(), 401);
    let response = connect("http://here", visitor.cookie()).await;
    assert_eq!(response.status(), 200);
    let stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    let role = tungstenite::protocol::Role::Client;
    let mut socket = WebSocketStream::from_raw_socket(stream, role, None).await;
    assert_eq!(say(&mut socket, "hi").await.unwrap(), "ada hi 2");
    visitor.post(&app, "/logout").await.expect(200);
    assert_eq!(say(&mut socket, "hi").await, None);
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_events_ends_with_the_session() {
    async fn event(body: &mut Body) -> Option<String> {
        let frame = body.frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(frame.to_vec()).unwrap())
    }

    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    visitor.post(&app, "/login").await.expect(200);
    let response = app.clone().oneshot(visitor.request("GET", "/events")).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body();
    for _ in 0..5 {
        assert_eq!(event(&mut body).await.unwrap(), "data: 1\n\n");
    }
    visitor.post(&app, "/logout").await.expect(200);
    assert_eq!(event(&mut body).await, None);
}
