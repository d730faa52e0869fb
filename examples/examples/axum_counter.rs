//! Counts a visitor's visits, in an application of axum.
//!
//!     cargo run -p examples --example axum_counter
//!     curl -b jar -c jar http://127.0.0.1:8080/

use axum::Router;
use axum::routing::get;
use session_core::Manager;
use session_tower::SessionLayer;
use session_tower::axum::{Failed, Session};
use tokio::net::TcpListener;

async fn count(session: Session) -> Result<String, Failed> {
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(format!("visit {visits}\n"))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    let sessions = SessionLayer::new(Manager::open("memory", "")?);
    let app = Router::new().route("/", get(count)).layer(sessions);
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    Ok(axum::serve(listener, app).await?)
}
