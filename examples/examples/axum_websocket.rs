//! A WebSocket of axum that holds a session: it knows who is logged in, counts in the session, and ends with it.
//!
//!     cargo run -p examples --example axum_websocket
//!
//! Then open http://127.0.0.1:8080/ in two tabs of a browser, and log out in one.

use std::time::Duration;

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::{Html, Redirect, Response};
use axum::routing::{get, post};
use session_core::{Error, LoadedSession, Manager};
use session_tower::SessionLayer;
use session_tower::axum::{Failed, Owner, Session};
use tokio::net::TcpListener;

/// How long a silent socket goes on after its session has ended.
const CHECK_EVERY: Duration = Duration::from_secs(10);

const LOGIN: &str = "<!doctype html><title>Echo</title><form method=post action=/login>\
    <button>Log in as ada</button></form>";
const ECHO: &str = "<!doctype html><title>Echo</title>\
    <form id=say><input id=text autofocus> <button>Say</button></form><pre id=heard></pre>\
    <form method=post action=/logout><button>Log out</button></form>\
    <script>
    const socket = new WebSocket('/socket');
    const hear = text => heard.append(text + '\\n');
    socket.onmessage = event => hear(event.data);
    socket.onclose = () => hear('The session has ended.');
    say.onsubmit = event => { event.preventDefault(); socket.send(text.value); text.value = ''; };
    </script>";

async fn home(user: Option<Owner>) -> Html<&'static str> {
    Html(if user.is_some() { ECHO } else { LOGIN })
}

/// A login of any application: see `axum_login`.
async fn log_in(session: Session) -> Result<Redirect, Failed> {
    session.log_in("ada")?;
    Ok(Redirect::to("/"))
}

async fn log_out(session: Session) -> Result<Redirect, Failed> {
    session.destroy().await?;
    Ok(Redirect::to("/"))
}

/// A stranger's handshake is 401, and another site's 403 before it is here.
async fn socket(user: Owner, upgrade: WebSocketUpgrade) -> Response {
    let session = user.session().clone().into_inner();
    upgrade.on_upgrade(move |socket| talk(socket, session))
}

/// Repeats what is said, with its number in the session, until that has ended.
async fn talk(mut socket: WebSocket, session: LoadedSession) {
    let mut check = tokio::time::interval(CHECK_EVERY);
    loop {
        let said = tokio::select! {
            said = socket.recv() => match said {
                Some(Ok(Message::Text(text))) => Some(text),
                Some(Ok(Message::Binary(_) | Message::Ping(_) | Message::Pong(_))) => continue,
                _ => return,
            },
            _ = check.tick() => None,
        };
        let echo = match echo(&session, said.as_deref()).await {
            Ok(echo) => echo,
            // The visitor logged out, or logged in anew; or somebody ended the session from elsewhere.
            Err(Error::Gone) => return,
            Err(error) => Some(error.visitor_text().to_owned()),
        };
        if let Some(echo) = echo
            && socket.send(Message::Text(echo.into())).await.is_err()
        {
            return;
        }
    }
}

async fn echo(session: &LoadedSession, said: Option<&str>) -> Result<Option<String>, Error> {
    session.reload().await?; // what other requests changed, or that it has ended
    let Some(said) = said else { return Ok(None) };
    let n = session.update("said", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(Some(format!("{n}. {}: {said}", session.owner().unwrap_or_default())))
}

fn app(manager: Manager) -> Router {
    Router::new()
        .route("/", get(home))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/socket", get(socket))
        .layer(SessionLayer::new(manager))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let app = app(Manager::open("memory", "")?);
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, app).await?)
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::{SinkExt as _, StreamExt as _};
    use hyper::Request;
    use hyper::header::{COOKIE, SET_COOKIE};
    use tokio::net::TcpStream;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
    use tokio_tungstenite::{WebSocketStream, client_async, tungstenite};
    use tower::ServiceExt as _;

    use super::*;

    async fn say(socket: &mut WebSocketStream<TcpStream>, text: &str) -> Option<String> {
        socket.send(tungstenite::Message::text(text)).await.unwrap();
        match socket.next().await? {
            Ok(tungstenite::Message::Text(text)) => Some(text.to_string()),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_socket_counts_in_the_session_and_ends_with_it() {
        session_memory::init();
        let app = app(Manager::open("memory", "").unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = axum::serve(listener, app.clone());
        tokio::spawn(async move { server.await });
        let post = |path: &str, cookie: &str| {
            let request = Request::post(path).header(COOKIE, cookie).body(Body::empty()).unwrap();
            app.clone().oneshot(request)
        };
        let connect = async |cookie: &str| {
            let mut request = format!("ws://{address}/socket").into_client_request().unwrap();
            request.headers_mut().insert(COOKIE, cookie.parse().unwrap());
            let stream = TcpStream::connect(address).await.unwrap();
            client_async(request, stream).await.map(|(socket, _)| socket)
        };
        let refused = connect("").await.unwrap_err();
        assert!(matches!(&refused, tungstenite::Error::Http(r) if r.status() == 401), "{refused}");
        let logged_in = post("/login", "").await.unwrap();
        let cookie = logged_in.headers()[SET_COOKIE].to_str().unwrap().split(';').next().unwrap();
        let (mut one, mut other) = (connect(cookie).await.unwrap(), connect(cookie).await.unwrap());
        assert_eq!(say(&mut one, "hello").await.unwrap(), "1. ada: hello");
        assert_eq!(say(&mut other, "hi").await.unwrap(), "2. ada: hi");
        post("/logout", cookie).await.unwrap();
        assert_eq!(say(&mut one, "still there?").await, None);
    }
}
