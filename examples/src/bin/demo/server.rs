//! The HTTP server: accepts connections and shuts down gracefully.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tracing::{debug, info, warn};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a client may take to send a request's head, and how long a connection may be idle.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the last responses may take to be sent after the last handler has returned.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How long requests in flight may take when the server stops: longer than the slowest route.
const STOP_TIMEOUT: Duration = Duration::from_secs(75);

/// Returns a future that waits for SIGTERM or SIGINT. The signals are handled from now on.
#[cfg(unix)]
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Returns a future that waits for Ctrl-C, which is handled from now on.
#[cfg(windows)]
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = tokio::signal::windows::ctrl_c()?;
    Ok(async move {
        interrupt.recv().await;
    })
}

/// Serves until `stop` completes, then waits for the requests in flight.
pub(crate) async fn serve<S, B>(listener: TcpListener, service: S, stop: impl Future<Output = ()>)
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    let connections = GracefulShutdown::new();
    let (in_flight, mut requests) = watch::channel(0);
    let mut stop = pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Most likely, there are no free file descriptors until a connection ends.
                warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Responses are written at once, so waiting to fill a packet would only delay them.
        let _ = stream.set_nodelay(true);
        let service = Counted { service: service.clone(), in_flight: in_flight.clone() };
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let connection = connections.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                debug!(%error, "a connection failed");
            }
        });
    }
    drop(listener);
    info!("stopping");
    // A client that never completes a request's head has no request in flight to wait for.
    let none_in_flight = async {
        let _ = requests.wait_for(|requests| *requests == 0).await;
        tokio::time::sleep(FLUSH_TIMEOUT).await;
    };
    tokio::select! {
        () = connections.shutdown() => {}
        () = none_in_flight => info!("closed connections that had no request in flight"),
        () = tokio::time::sleep(STOP_TIMEOUT) => warn!("aborted requests that took too long"),
    }
}

/// A service that counts the requests that are being handled.
struct Counted<S> {
    service: S,
    in_flight: watch::Sender<usize>,
}

impl<S: Service<Request<Incoming>>> Service<Request<Incoming>> for Counted<S>
where
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let counted = InFlight::new(self.in_flight.clone());
        let response = self.service.call(request);
        Box::pin(async move {
            let _counted = counted;
            response.await
        })
    }
}

/// Counts one request until it is dropped.
struct InFlight(watch::Sender<usize>);

impl InFlight {
    fn new(requests: watch::Sender<usize>) -> Self {
        requests.send_modify(|requests| *requests += 1);
        Self(requests)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.send_modify(|requests| *requests -= 1);
    }
}
