//! Counts each visitor's visits, with the wrapper that finishes sessions and responds to errors.
//!
//!     cargo run -p examples --example wrapper
//!     curl -b jar -c jar http://127.0.0.1:8080/

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use session_core::{Error, Manager, RequestSession, SessionService};
use tokio::net::TcpListener;

async fn count(request: Request<Incoming>) -> Result<Response<String>, Error> {
    let session = request.session().await?;
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(Response::new(format!("visit {visits}\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let service = SessionService::new(Manager::open("memory", "")?, service_fn(count));
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
