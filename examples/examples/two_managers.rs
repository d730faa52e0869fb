//! Two sessions in one request: a long-lived one for visitors, and a strict one for staff. Each has its
//! own cookie, lifetime and store. One call finishes both, whatever the handler returns.
//!
//!     cargo run -p examples --example two_managers
//!     curl -b jar -c jar http://127.0.0.1:8080/
//!     curl -b jar -c jar http://127.0.0.1:8080/staff

use std::convert::Infallible;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use session_core::transport::SameSite;
use session_core::{Config, Error, Failure, Manager, Managers, Sessions};
use tokio::net::TcpListener;

async fn visits(sessions: &Sessions, name: &str) -> Result<u64, Error> {
    let session = sessions.get(name).expect("a manager has this name").load().await?;
    session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await
}

async fn serve(
    managers: Managers,
    request: Request<Incoming>,
) -> Result<Response<String>, Infallible> {
    let sessions = managers.start(&request);
    let name = if request.uri().path() == "/staff" { "__Host-staff" } else { "__Host-visitor" };
    let page = async {
        let visits = visits(&sessions, name).await?;
        Ok::<_, Error>(Response::new(format!("{name}: visit {visits}\n")))
    };
    Ok(sessions.respond(page, Failure::response).await)
}

fn managers() -> Result<Managers, Error> {
    let mut visitors = Config::default();
    visitors.cookie.name = "__Host-visitor".into();
    visitors.cookie.persistent = true;
    visitors.idle = Duration::from_secs(30 * 86_400);
    visitors.absolute = Duration::from_secs(90 * 86_400);

    let mut staff = Config::default();
    staff.source = "max_sessions=1000".into();
    staff.cookie.name = "__Host-staff".into();
    staff.cookie.same_site = SameSite::Strict;
    staff.idle = Duration::from_secs(5 * 60);

    Managers::new([Manager::from_config(&visitors)?, Manager::from_config(&staff)?])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let managers = managers()?;
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let managers = managers.clone();
        let service = service_fn(move |request| serve(managers.clone(), request));
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
