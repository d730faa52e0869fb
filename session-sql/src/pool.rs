//! [`Pool`]: connections, which are made when they are needed.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

/// After how long without use a connection is pinged before it is used: a restarted server or a firewall may have
/// dropped it without notice.
const TRUSTED: Duration = Duration::from_secs(1);

/// After how long without use a connection is closed.
const KEPT: Duration = Duration::from_secs(300);

/// Makes connections for a [`Pool`].
pub(crate) trait Connect: Send + Sync + 'static {
    type Connection: Send + 'static;

    /// Makes a connection.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, sqlx::Error>> + Send;

    /// Returns whether a connection can be used again. A trusted one was used a moment ago, and no connection has
    /// failed since.
    fn is_usable(
        &self,
        connection: &mut Self::Connection,
        is_trusted: bool,
    ) -> impl Future<Output = bool> + Send;
}

/// Connections that are lent out one by one, the one that was used last first.
///
/// The driver's own pool sends a message of its own after each use of a connection, and by default before each
/// use, too. This one lets [`Connect`] trust a connection that was used a moment ago, as long as none has failed.
pub(crate) struct Pool<C: Connect> {
    connect: C,
    permits: Semaphore,
    idle: Mutex<VecDeque<Idle<C::Connection>>>,
}

struct Idle<C> {
    connection: C,
    since: Instant,
    is_trusted: bool,
}

impl<C: Connect> Pool<C> {
    /// A pool of this many connections at most.
    pub(crate) fn new(connect: C, most: usize) -> Self {
        Self { connect, permits: Semaphore::new(most), idle: Mutex::default() }
    }

    /// Lends out a connection: one that is there, or a new one. Waits for one if all are lent out.
    pub(crate) async fn lend(&self) -> Result<Lent<'_, C>, sqlx::Error> {
        let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            let idle = self.idle.lock().pop_back();
            let Some(Idle { mut connection, since, is_trusted }) = idle else { break };
            let is_trusted = is_trusted && since.elapsed() < TRUSTED;
            if self.connect.is_usable(&mut connection, is_trusted).await {
                return Ok(Lent { pool: self, connection: Some(connection), _permit: permit });
            }
            // Connections that were idle for longer are dead as well, most likely. To ping each would take too long.
            let mut idle = self.idle.lock();
            let older = idle.partition_point(|idle| idle.since <= since);
            let closed: Vec<_> = idle.drain(..older).collect();
            drop(idle);
            drop(closed);
        }
        let connection = self.connect.connect().await?;
        Ok(Lent { pool: self, connection: Some(connection), _permit: permit })
    }
}

/// A connection on loan. It is closed unless it is [given back](Self::give_back).
pub(crate) struct Lent<'p, C: Connect> {
    pool: &'p Pool<C>,
    /// There until it is given back.
    connection: Option<C::Connection>,
    _permit: SemaphorePermit<'p>,
}

impl<C: Connect> Lent<'_, C> {
    pub(crate) fn connection(&mut self) -> &mut C::Connection {
        self.connection.as_mut().expect("there until it is given back")
    }

    /// Returns the connection to the pool. No statement may be under way on it.
    pub(crate) fn give_back(mut self) {
        let Some(connection) = self.connection.take() else { return };
        let now = Instant::now();
        let mut idle = self.pool.idle.lock();
        idle.push_back(Idle { connection, since: now, is_trusted: true });
        let old = idle.iter().take_while(|idle| now - idle.since > KEPT).count();
        // Closed after the lock is released.
        let closed: Vec<_> = idle.drain(..old).collect();
        drop(idle);
        drop(closed);
    }
}

impl<C: Connect> Drop for Lent<'_, C> {
    /// Closes a connection that was not given back. It has failed, or its operation ran out of time, so others may have
    /// failed too: none is trusted any more.
    fn drop(&mut self) {
        if self.connection.is_some() {
            self.pool.idle.lock().iter_mut().for_each(|idle| idle.is_trusted = false);
        }
    }
}
