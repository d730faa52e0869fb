//! Servers in the tests' process: applications with sessions, and other sites.

use std::error::Error as StdError;
use std::net::SocketAddr;

use bytes::Bytes;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use session_core::{Error, LoadedSession, Manager, RequestSession};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};

use crate::client::Client;

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// A server on a free port. It stops when dropped.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    _runtime: Runtime,
}

impl Site {
    pub(crate) fn start<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_io().build();
        let runtime = runtime.expect("a thread can be started");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("is bound");
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let connection = http1::Builder::new();
                let connection = connection.serve_connection(TokioIo::new(stream), service.clone());
                // A client may disconnect at any time.
                tokio::spawn(async move { drop(connection.await) });
            }
        });
        Self { address, _runtime: runtime }
    }

    /// Returns a visitor who accepts cookies and has none yet.
    pub(crate) fn visitor(&self) -> Client {
        Client::new(self.address)
    }
}

/// Returns a manager with sessions in memory and this configuration.
pub(crate) fn manager(configuration: &str) -> Manager {
    session_memory::init();
    let config = toml::from_str(configuration).expect("a configuration");
    Manager::from_config(&config).expect("the configuration is valid")
}

/// Loads the session of a request that came through the wrapper.
pub(crate) async fn session<B>(request: &Request<B>) -> Result<LoadedSession, Error> {
    request.session().await
}

/// Returns a response with one header.
pub(crate) fn with_header(name: HeaderName, value: &str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    let value = HeaderValue::try_from(value).expect("ASCII");
    response.headers_mut().insert(name, value);
    response
}
/// Returns a redirect with GET.
pub(crate) fn see_other(location: &str) -> Response<String> {
    let mut response = with_header(hyper::header::LOCATION, location, String::new());
    *response.status_mut() = StatusCode::SEE_OTHER;
    response
}

pub(crate) fn html(page: String) -> Response<String> {
    with_header(hyper::header::CONTENT_TYPE, "text/html; charset=utf-8", page)
}
