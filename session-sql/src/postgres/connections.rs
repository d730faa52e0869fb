//! Connections to the primary, from the provider's own pool or from the application's.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, Postgres};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::PostgresConfig;
use crate::pool::{Connect, Lent, Pool};

/// The pool that connections come from.
pub(crate) enum Connections {
    Own(Pool<Hosts>),
    Applications(PgPool),
}

impl Connections {
    pub(crate) async fn lend(&self) -> Result<Connection<'_>, sqlx::Error> {
        match self {
            Self::Own(pool) => Ok(Connection::Own(pool.lend().await?)),
            Self::Applications(pool) => Ok(Connection::Applications(pool.acquire().await?)),
        }
    }
}

/// A connection on loan. It is closed if it is dropped while a statement is under way.
pub(crate) enum Connection<'p> {
    Own(Lent<'p, Hosts>),
    Applications(PoolConnection<Postgres>),
}

impl Connection<'_> {
    pub(crate) fn get(&mut self) -> &mut PgConnection {
        match self {
            Self::Own(lent) => lent.connection(),
            Self::Applications(lent) => lent,
        }
    }

    /// Returns the connection to its pool. No statement may be under way on it.
    pub(crate) fn give_back(self) {
        match self {
            Self::Own(lent) => lent.give_back(),
            Self::Applications(lent) => drop(lent),
        }
    }

    /// Closes the connection.
    pub(crate) fn close(self) {
        if let Self::Applications(mut lent) = self {
            lent.close_on_drop();
        }
    }
}

/// The servers that the URI names. Where it names several, one of them takes writes.
pub(crate) struct Hosts {
    hosts: Vec<PgConnectOptions>,
    /// The first query on a new connection, which returns whether the server is a standby.
    prepare: String,
    /// The index of the host that accepted writes last.
    last: AtomicUsize,
    /// The time limit for connecting to one host.
    limit: Duration,
}

impl Hosts {
    pub(crate) fn new(config: &PostgresConfig) -> Self {
        let mut prepare = "SELECT pg_is_in_recovery()".to_owned();
        // Through a pooler, each transaction sets it, because other clients share the server's connection.
        if !config.pooler {
            _ = write!(prepare, ", {}", limit_statements(config.operation_timeout, false));
        }
        let hosts = config.hosts.clone();
        // So that there is time left for the other hosts and for the operation.
        let attempts = u32::try_from(hosts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let limit = config.operation_timeout / attempts;
        Self { hosts, prepare, last: AtomicUsize::new(0), limit }
    }

    async fn connect_to(&self, host: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
        let mut connection = host.connect().await?;
        let asked = sqlx::raw_sql(AssertSqlSafe(&*self.prepare)).fetch_one(&mut connection);
        let is_standby: bool = asked.await?.try_get(0)?;
        // A standby that is the only host can at least serve reads.
        match is_standby && self.hosts.len() > 1 {
            true => Err(failed("the server is a standby")),
            false => Ok(connection),
        }
    }
}

/// Returns an expression that makes the server end statements after this time, unless the server, the user or the
/// source string has set a `statement_timeout` already. Without it, abandoned statements that wait for a lock would use
/// up the server's connections.
pub(crate) fn limit_statements(limit: Duration, is_local: bool) -> String {
    format!(
        "CASE WHEN current_setting('statement_timeout') = '0' \
         THEN set_config('statement_timeout', '{}', {is_local}) END",
        limit.as_millis()
    )
}

impl Connect for Hosts {
    type Connection = PgConnection;

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let first = self.last.load(Ordering::Relaxed);
        let mut result = Err(failed("the URI names no server"));
        for attempt in 0..self.hosts.len() {
            let at = (first + attempt) % self.hosts.len();
            let connect = tokio::time::timeout(self.limit, self.connect_to(&self.hosts[at]));
            match connect.await.unwrap_or_else(|_| Err(failed("the server doesn't answer"))) {
                Ok(connection) => {
                    self.last.store(at, Ordering::Relaxed);
                    return Ok(connection);
                }
                Err(error) => result = Err(error),
            }
        }
        result
    }

    async fn is_usable(&self, connection: &mut PgConnection, is_trusted: bool) -> bool {
        let ping = tokio::time::timeout(self.limit / 2, connection.ping());
        is_trusted || ping.await.is_ok_and(|answer| answer.is_ok())
    }
}

fn failed(text: &'static str) -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::other(text))
}
