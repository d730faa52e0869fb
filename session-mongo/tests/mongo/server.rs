//! The server under test, and a new collection on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mongodb::bson::Document;
use mongodb::options::ClientOptions;
use session_core::provider::Provider;
use session_mongo::mongodb::{self, Client, Collection};
use session_mongo::{MongoConfig, MongoProvider};
use tokio::runtime::Runtime;

use crate::proxy::{Pose, Proxy};

/// Returns the server's URI.
pub(crate) fn uri() -> String {
    std::env::var("SESSION_MONGO_URI").expect("SESSION_MONGO_URI names no server; run scripts/test")
}

/// Returns a URI with more options.
pub(crate) fn with_options(uri: &str, options: &str) -> String {
    match uri.split_once("://").map(|(_, rest)| rest) {
        _ if options.is_empty() => uri.to_owned(),
        Some(rest) if rest.contains('?') => format!("{uri}&{options}"),
        Some(rest) if rest.contains('/') => format!("{uri}?{options}"),
        _ => format!("{uri}/?{options}"),
    }
}

/// A collection that nothing else uses, which is dropped at the end.
pub(crate) struct Server {
    pub(crate) collection: String,
    runtime: Runtime,
    client: Client,
}

impl Server {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let collection = format!("test_{}_{number}", std::process::id());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        let client = runtime.block_on(async {
            let mut options = ClientOptions::parse(uri()).await.expect("the URI is right");
            options.server_selection_timeout = Some(Duration::from_secs(10));
            Client::with_options(options).expect("the options are right")
        });
        Self { collection, runtime, client }
    }

    /// Returns the source string of a provider on this collection.
    pub(crate) fn source(&self, options: &str) -> String {
        self.source_at(&uri(), options)
    }

    /// Returns the source string of a provider on this collection, through another URI.
    pub(crate) fn source_at(&self, uri: &str, options: &str) -> String {
        let uri = with_options(uri, &format!("collection={}", self.collection));
        with_options(&uri, options)
    }

    pub(crate) fn config(&self, options: &str) -> MongoConfig {
        MongoConfig::parse(&self.source(options)).expect("the source is right")
    }

    pub(crate) fn provider(&self, options: &str) -> Arc<dyn Provider> {
        Arc::new(MongoProvider::new(self.config(options)).expect("a provider opens"))
    }

    /// Returns a provider on this collection, through another URI.
    pub(crate) fn provider_at(&self, uri: &str, options: &str) -> Arc<dyn Provider> {
        let config = MongoConfig::parse(&self.source_at(uri, options));
        Arc::new(MongoProvider::new(config.expect("the source is right")).expect("it opens"))
    }

    /// Starts a proxy to the server's first host.
    pub(crate) fn proxy(&self, pose: Pose) -> Proxy {
        let host = self.host();
        self.block_on(async { Proxy::start(&host, pose).await.expect("a proxy starts") })
    }

    /// The server's first host, with its port.
    pub(crate) fn host(&self) -> String {
        let options = self.block_on(ClientOptions::parse(uri()).into_future());
        options.expect("the URI is right").hosts[0].to_string()
    }

    /// Returns the URI with the proxy in place of the hosts.
    pub(crate) fn uri_through(&self, proxy: &Proxy) -> String {
        self.uri_at(proxy.address)
    }

    /// The URI with another address in the hosts' place.
    pub(crate) fn uri_at(&self, address: SocketAddr) -> String {
        let uri = uri();
        let (scheme, rest) = uri.split_once("://").expect("a URI has a scheme");
        let (hosts, options) = rest.split_once('/').unwrap_or((rest, ""));
        let user = hosts.rsplit_once('@').map(|(user, _)| format!("{user}@")).unwrap_or_default();
        let (database, query) = options.split_once('?').unwrap_or((options, ""));
        let kept: String = query
            .split('&')
            .filter(|option| !option.is_empty() && !option.to_lowercase().starts_with("replicaset"))
            .map(|option| format!("&{option}"))
            .collect();
        format!("{scheme}://{user}{address}/{database}?directConnection=true{kept}")
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub(crate) fn database(&self) -> mongodb::Database {
        self.client.default_database().unwrap_or_else(|| self.client.database("sessions"))
    }

    /// Returns the driver's collection.
    pub(crate) fn documents(&self) -> Collection<Document> {
        self.database().collection(&self.collection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let dropped = self.block_on(self.documents().drop().into_future());
        if !std::thread::panicking() {
            dropped.expect("the collection is dropped");
        }
    }
}
