//! Logs visitors in and out, with the wrapper that loads and finishes sessions around a service.
//!
//!     cargo run -p examples --example login
//!
//! Then open http://127.0.0.1:8080/ in a browser.

use std::error::Error;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, LOCATION};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use session_core::{Manager, SessionService, Sessions};
use tokio::net::TcpListener;

type BoxError = Box<dyn Error + Send + Sync>;

/// A session error becomes a response of its status: 503 where the store is down.
async fn handle(request: Request<Incoming>) -> Result<Response<String>, BoxError> {
    let (parts, body) = request.into_parts();
    let sessions = parts.extensions.get::<Sessions>().expect("the wrapper puts them there");
    let session = sessions.get("__Host-id").expect("it is the manager's").load().await?;
    match (parts.method, parts.uri.path()) {
        (Method::POST, "/login") => {
            let form = String::from_utf8(body.collect().await?.to_bytes().into())?;
            let name = form.strip_prefix("name=").unwrap_or_default().replace('+', " ");
            session.set("user", urlencoding::decode(&name)?.trim())?;
            session.regenerate().await?; // whoever knew the old id is not logged in
            to_home()
        }
        (Method::POST, "/logout") => {
            session.destroy().await?;
            to_home()
        }
        _ => {
            let page = match session.get::<String>("user")? {
                Some(name) => format!("Hello, {}. {LOGOUT}", name.replace(['<', '&'], "")),
                None => LOGIN.to_owned(),
            };
            Ok(Response::builder().header(CONTENT_TYPE, "text/html; charset=utf-8").body(page)?)
        }
    }
}

const LOGIN: &str = "<form method=post action=/login>\
    <label>Name <input name=name required></label> <button>Log in</button></form>";
const LOGOUT: &str = "<form method=post action=/logout><button>Log out</button></form>";

fn to_home() -> Result<Response<String>, BoxError> {
    let response = Response::builder().status(StatusCode::SEE_OTHER).header(LOCATION, "/");
    Ok(response.body(String::new())?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    session_memory::init();
    let service = SessionService::new(Manager::open("memory", "")?, service_fn(handle));
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
