//! Counts visits, and serves metrics about sessions to Prometheus.
//!
//!     cargo run -p examples --example metrics
//!     curl -b jar -c jar http://127.0.0.1:8080/
//!     curl http://127.0.0.1:8080/metrics          # keep this path from visitors

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use session_core::events::MetricsObserver;
use session_core::{Error, Manager, RequestSession, SessionService};
use tokio::net::TcpListener;

/// The bounds of the histogram's buckets in seconds: from a store in memory to one that is about to time
/// out.
const SECONDS: [f64; 7] = [0.000_01, 0.000_1, 0.001, 0.01, 0.1, 1.0, 10.0];

async fn handle(
    request: Request<Incoming>,
    manager: Manager,
    metrics: PrometheusHandle,
) -> Result<Response<String>, Error> {
    if request.uri().path() == "/metrics" {
        // The live sessions are counted on demand, because some stores have to look at every session.
        MetricsObserver::record_live(&manager).await?;
        return Ok(Response::new(metrics.render()));
    }
    let session = request.session().await?;
    let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    Ok(Response::new(format!("visit {visits}\n")))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    session_memory::init();
    // Without buckets, the exporter would make a summary, which can't be aggregated over servers.
    let metrics = PrometheusBuilder::new().set_buckets(&SECONDS)?.install_recorder()?;
    let manager = Manager::builder().with_observer(MetricsObserver).build()?;
    let inner = {
        let manager = manager.clone();
        service_fn(move |request| handle(request, manager.clone(), metrics.clone()))
    };
    let service = SessionService::new(manager, inner);
    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
