//! Logs visitors in and out, with the wrapper that starts and finishes sessions around a service.
//!
//!     cargo run -p examples --example login
//!
//! Then open http://127.0.0.1:8080/ in a browser.

use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use session_core::{Error, LoadedSession, Manager, RequestSession, SessionService};
use tokio::net::TcpListener;

/// The wrapper turns an error into a response with the error's status: 503 if the store is down.
async fn handle(request: Request<Incoming>) -> Result<Response<String>, Error> {
    let (parts, body) = request.into_parts();
    let session = parts.session().await?;
    match (parts.method, parts.uri.path()) {
        (Method::POST, "/login") => match name(body).await {
            Some(name) => log_in(&session, &name),
            None => Ok(bad_request()),
        },
        (Method::POST, "/logout") => log_out(&session).await,
        _ => Ok(home(session.owner())),
    }
}

/// Call this only after the password was verified.
fn log_in(session: &LoadedSession, user: &str) -> Result<Response<String>, Error> {
    session.log_in(user)?; // gives the session a new id, in the save at the end of the request
    Ok(to_home())
}

async fn log_out(session: &LoadedSession) -> Result<Response<String>, Error> {
    session.destroy().await?; // ends the session at once; the response clears the cookie
    Ok(to_home())
}

/// Returns the name in a login form. Returns `None` if there is none, or if the form is too long.
async fn name(body: Incoming) -> Option<String> {
    let form = Limited::new(body, 1024).collect().await.ok()?.to_bytes();
    let name = str::from_utf8(&form).ok()?.strip_prefix("name=")?.replace('+', " ");
    let name = urlencoding::decode(&name).ok()?.trim().to_owned();
    (!name.is_empty()).then_some(name)
}

const LOGIN: &str = "<form method=post action=/login>\
    <label>Name <input name=name required></label> <button>Log in</button></form>";
const LOGOUT: &str = "<form method=post action=/logout><button>Log out</button></form>";

fn home(user: Option<String>) -> Response<String> {
    let mut page = Response::new(match user {
        Some(name) => format!("Hello, {}. {LOGOUT}", name.replace(['<', '&'], "")),
        None => LOGIN.to_owned(),
    });
    let html = HeaderValue::from_static("text/html; charset=utf-8");
    page.headers_mut().insert(CONTENT_TYPE, html);
    page
}

fn to_home() -> Response<String> {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SEE_OTHER;
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("/"));
    response
}

fn bad_request() -> Response<String> {
    let mut response = Response::new("enter a name\n".to_owned());
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response
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
