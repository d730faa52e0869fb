//! A user sees their sessions in all browsers, and ends the others.
//!
//!     cargo run -p examples --example devices
//!     curl -c phone  -d '' -A Phone  http://127.0.0.1:8080/login
//!     curl -c laptop -d '' -A Laptop http://127.0.0.1:8080/login
//!     curl -b phone  http://127.0.0.1:8080/
//!     curl -b phone  -d '' http://127.0.0.1:8080/end-others
//!     curl -b laptop http://127.0.0.1:8080/

use hyper::body::Incoming;
use hyper::header::USER_AGENT;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Method, Request, Response};
use hyper_util::rt::TokioIo;
use session_core::{Error, LoadedSession, Manager, RequestSession, SessionService};
use tokio::net::TcpListener;

/// Lists a user's sessions: label, last use, and whether it is this browser's.
async fn devices(manager: &Manager, session: &LoadedSession) -> Result<Response<String>, Error> {
    let mut list = String::new();
    for other in manager.sessions_beside(session).await? {
        let here = if other.current { " (this one)" } else { "" };
        list += &format!("{} {}{here}, used at {}\n", other.key, other.label, other.used.as_secs());
    }
    Ok(Response::new(list))
}

/// Ends all other sessions of the user, as after a change of password.
async fn end_others(manager: &Manager, session: &LoadedSession) -> Result<Response<String>, Error> {
    let ended = manager.end_others(session).await?;
    Ok(Response::new(format!("ended {ended}\n")))
}

/// Call this only after the password was verified. The session's label is the browser's `User-Agent`.
fn log_in(session: &LoadedSession, headers: &HeaderMap) -> Result<Response<String>, Error> {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    session.log_in("ada")?;
    session.label(&agent.chars().take(100).collect::<String>())?;
    Ok(Response::new("logged in\n".into()))
}

async fn handle(request: Request<Incoming>, manager: Manager) -> Result<Response<String>, Error> {
    let session = request.session().await?;
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/login") => log_in(&session, request.headers()),
        (&Method::POST, "/end-others") => end_others(&manager, &session).await,
        _ => devices(&manager, &session).await,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let manager = Manager::open("memory", "")?;
    let inner = {
        let manager = manager.clone();
        service_fn(move |request| handle(request, manager.clone()))
    };
    let service = SessionService::new(manager, inner);
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
