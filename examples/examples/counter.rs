//! Counts each visitor's visits.
//!
//!     cargo run -p examples --example counter
//!     curl -b jar -c jar http://127.0.0.1:8080/

use std::convert::Infallible;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use session_core::{Error, Failure, Manager, SessionHandle};
use tokio::net::TcpListener;

async fn count(handle: &SessionHandle<'_>) -> Result<Response<String>, Error> {
    let session = handle.load().await?; // one load
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(Response::new(format!("visit {visits}\n")))
}

async fn serve(
    manager: Manager,
    request: Request<Incoming>,
) -> Result<Response<String>, Infallible> {
    let handle = manager.start(&request); // no I/O
    // Saves the session and sets the cookie. Responds to errors as well, with 503 if the store is down.
    Ok(handle.respond(count(&handle), Failure::response).await)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let manager = Manager::open("memory", "")?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let manager = manager.clone();
        let service = service_fn(move |request| serve(manager.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
