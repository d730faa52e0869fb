//! The server under test, and a table of one's own on it.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use session_core::provider::Provider;
use session_sql::postgres::{PostgresConfig, PostgresProvider};
use session_sql::sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use session_sql::sqlx::{AssertSqlSafe, Connection as _, raw_sql};
use tokio::runtime::Runtime;

use crate::proxy::Proxy;

/// The server's URI.
pub(crate) fn uri() -> String {
    std::env::var("SESSION_POSTGRES_URI")
        .expect("SESSION_POSTGRES_URI names no server; run scripts/test")
}

/// The URI of a pooler in front of the server, in transaction mode.
pub(crate) fn pooler_uri() -> String {
    std::env::var("SESSION_POSTGRES_POOLER_URI")
        .expect("SESSION_POSTGRES_POOLER_URI names no pooler; run scripts/test")
}

/// A URI with more options.
pub(crate) fn with_options(uri: &str, options: &str) -> String {
    match uri {
        _ if options.is_empty() => uri.to_owned(),
        uri if uri.contains('?') => format!("{uri}&{options}"),
        uri => format!("{uri}?{options}"),
    }
}

/// A table that nothing else uses, dropped at the end.
pub(crate) struct Server {
    pub(crate) table: String,
    /// Where providers connect to.
    uri: String,
    runtime: Runtime,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::behind(uri())
    }

    /// With providers that connect through a pooler at this URI.
    pub(crate) fn behind(uri: String) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let table = format!("test_{}_{number}", std::process::id());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime starts");
        Self { table, uri, runtime }
    }

    /// The source string of a provider on this table.
    pub(crate) fn source(&self, options: &str) -> String {
        let uri = with_options(&self.uri, &format!("table={}", self.table));
        with_options(&uri, options)
    }

    pub(crate) fn config(&self, options: &str) -> PostgresConfig {
        PostgresConfig::parse(&self.source(options)).expect("the source is right")
    }

    pub(crate) fn provider(&self, options: &str) -> Arc<dyn Provider> {
        Arc::new(PostgresProvider::new(self.config(options)).expect("a provider opens"))
    }

    /// The server's address, as `host:port`.
    pub(crate) fn address() -> String {
        let options: PgConnectOptions = uri().parse().expect("the URI is right");
        format!("{}:{}", options.get_host(), options.get_port())
    }

    /// A proxy to the server, which has to listen on TCP.
    pub(crate) fn proxy(&self) -> Proxy {
        let server = Self::address().to_socket_addrs().expect("the host has an address");
        Proxy::to(server.into_iter().next().expect("it has one"))
    }

    /// The source string of a provider that goes through a proxy at this address.
    fn source_through(&self, proxy: SocketAddr, options: &str) -> String {
        let uri = uri();
        let (scheme, rest) = uri.split_once("://").expect("a URI has a scheme");
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let user = authority.rsplit_once('@').map_or("", |(user, _)| user);
        let at = if user.is_empty() { "" } else { "@" };
        let uri = format!("{scheme}://{user}{at}{proxy}/{path}");
        let uri = with_options(&uri, &format!("table={}&sslmode=disable", self.table));
        with_options(&uri, options)
    }

    /// A provider that goes through a proxy at this address.
    pub(crate) fn provider_through(&self, proxy: SocketAddr, options: &str) -> Arc<dyn Provider> {
        let config = PostgresConfig::parse(&self.source_through(proxy, options));
        Arc::new(PostgresProvider::new(config.expect("the source is right")).expect("it opens"))
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// What a statement of another program returns, with the table's name in the place of `@`.
    pub(crate) fn query(&self, text: &str) -> Vec<PgRow> {
        self.block_on(async {
            let mut connection = PgConnection::connect(&uri()).await.expect("the server is there");
            let text = text.replace('@', &self.table);
            let rows = raw_sql(AssertSqlSafe(text)).fetch_all(&mut connection).await;
            connection.close().await.expect("the connection closes");
            rows.expect("the statement is right")
        })
    }
}

impl Server {
    /// Runs `f` while another program's transaction has done this.
    pub(crate) fn locking(&self, text: &str, f: impl FnOnce()) {
        let mut connection = self.block_on(PgConnection::connect(&uri())).expect("it is there");
        let text = format!("BEGIN; {}", text.replace('@', &self.table));
        let locked = raw_sql(AssertSqlSafe(text)).execute(&mut connection);
        self.block_on(locked).expect("the statement is right");
        f();
        self.block_on(connection.close()).expect("the connection closes");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.query("DROP TABLE IF EXISTS @, @_version");
        }
    }
}
