//! The connections to one server.

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use once_cell::sync::OnceCell;
use parking_lot::RwLock;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, Pipeline, PushInfo, PushKind, RedisError,
    Value,
};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use crate::failure::{self, Cause};
use crate::script;
use crate::single_flight::SingleFlight;

/// A connection that any number of requests share: the server answers them in order.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: MultiplexedConnection,
    /// Turns to true, or loses its sender, when the connection has ended.
    is_closed: watch::Receiver<bool>,
}

impl Connection {
    /// Sends a command and waits for the reply.
    pub(crate) async fn send(&mut self, command: &Cmd) -> Result<Value, RedisError> {
        until_closed(self.is_closed.clone(), self.shared.req_packed_command(command)).await
    }

    /// Sends commands without others in between, and waits for all replies.
    pub(crate) async fn send_all(&mut self, commands: &[Cmd]) -> Result<Vec<Value>, RedisError> {
        let mut pipeline = Pipeline::with_capacity(commands.len());
        for command in commands {
            pipeline.add_command(command.clone());
        }
        let replies = self.shared.req_packed_commands(&pipeline, 0, commands.len());
        until_closed(self.is_closed.clone(), replies).await
    }

    /// Whether the connection is known to have ended.
    fn is_closed(&self) -> bool {
        *self.is_closed.borrow() || self.is_closed.has_changed().is_err()
    }

    fn is(&self, other: &Self) -> bool {
        self.is_closed.same_channel(&other.is_closed)
    }
}

/// Waits for a reply until the connection has ended.
///
/// The client may not report the end: it receives requests through a channel of tokio, and a request that is sent just
/// as the client drops the receiver is never answered while a sender exists, and the request itself has one.
async fn until_closed<T>(
    mut is_closed: watch::Receiver<bool>,
    reply: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    let mut reply = pin!(reply);
    // A dropped sender also means that the connection has ended.
    let closed = pin!(is_closed.wait_for(|is_closed| *is_closed));
    match select(reply.as_mut(), closed).await {
        Either::Left((reply, _)) => reply,
        // The reply may have come before the end.
        Either::Right(_) => reply
            .now_or_never()
            .unwrap_or_else(|| Err(io::Error::from(io::ErrorKind::ConnectionAborted).into())),
    }
}

/// A server and its connections, which are made when they are needed.
pub(crate) struct Node {
    pub(crate) host: String,
    client: Client,
    lanes: Box<[Arc<Lane>]>,
    settings: Settings,
}

#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Runs connections, if the caller has no runtime for them.
    pub(crate) runtime: Handle,
    pub(crate) timeout: Duration,
    pub(crate) connections: usize,
    /// Whether a connection to a replica is an error.
    pub(crate) wants_primary: bool,
    /// Set once a server was asked for its `maxmemory-policy`.
    pub(crate) is_advised: Arc<OnceCell<()>>,
}

#[derive(Default)]
struct Lane {
    current: RwLock<Option<Connection>>,
    connecting: SingleFlight<Connection>,
}

impl Node {
    pub(crate) fn new(client: Client, settings: Settings) -> Self {
        let lanes = (0..settings.connections).map(|_| Arc::default()).collect();
        let host = match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
            _ => String::new(),
        };
        Self { host, client, lanes, settings }
    }

    /// Returns a connection that works as far as is known. Operations with the same number share one.
    ///
    /// A new connection is made on the `callers` runtime, if there is one. Answers then need no switch between threads
    /// to reach the caller.
    pub(crate) async fn connection(
        &self,
        number: usize,
        callers: Option<&Handle>,
    ) -> Result<Connection, Cause> {
        let lane = &self.lanes[number % self.lanes.len()];
        if let Some(connection) = lane.working() {
            return Ok(connection);
        }
        let connecting = || {
            let (lane, client, settings) =
                (Arc::clone(lane), self.client.clone(), self.settings.clone());
            let callers = callers.cloned();
            async move {
                // An earlier attempt may have made it since.
                if let Some(connection) = lane.working() {
                    return Ok(connection);
                }
                let connection = connect_at(callers, client, settings).await?;
                *lane.current.write() = Some(connection.clone());
                Ok(connection)
            }
        };
        lane.connecting.join(&self.settings.runtime, connecting).await
    }

    /// Whether the server has a connection that works as far as is known.
    pub(crate) fn is_connected(&self) -> bool {
        self.lanes.iter().any(|lane| lane.working().is_some())
    }

    pub(crate) fn address(&self) -> &ConnectionAddr {
        self.client.get_connection_info().addr()
    }

    /// Forgets a connection on which an answer was lost.
    pub(crate) fn forget(&self, connection: &Connection) {
        for lane in &self.lanes {
            let mut current = lane.current.write();
            if current.as_ref().is_some_and(|current| current.is(connection)) {
                *current = None;
            }
        }
    }
}

impl Lane {
    fn working(&self) -> Option<Connection> {
        self.current.read().as_ref().filter(|current| !current.is_closed()).cloned()
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("address", self.address()).finish()
    }
}

/// Returns the runtime of an operation's caller, if connections can run there. A multi-threaded one goes on even if
/// the caller blocks its thread.
pub(crate) fn callers_runtime() -> Option<Handle> {
    let callers = Handle::try_current().ok()?;
    (callers.runtime_flavor() == RuntimeFlavor::MultiThread).then_some(callers)
}

/// Connects on the caller's runtime if it is given, otherwise on the one that this is called on. The latter's timer
/// ends the attempt, since the caller's runtime may be blocked.
async fn connect_at(
    callers: Option<Handle>,
    client: Client,
    settings: Settings,
) -> Result<Connection, Cause> {
    let late = |_| Err(Cause::from("no connection within operation_timeout"));
    if let Some(callers) = callers {
        let mut task = callers.spawn(connect(client.clone(), settings.clone()));
        match tokio::time::timeout(settings.timeout, &mut task).await {
            Ok(Ok(connected)) => return connected,
            // The caller's runtime has no I/O or timers, so the task panicked; or the runtime has just ended.
            Ok(Err(_)) => {}
            Err(elapsed) => {
                task.abort();
                return late(elapsed);
            }
        }
    }
    tokio::time::timeout(settings.timeout, connect(client, settings)).await.unwrap_or_else(late)
}

/// Connects, and prepares the server for what it will be sent.
async fn connect(client: Client, settings: Settings) -> Result<Connection, Cause> {
    let (closing, is_closed) = watch::channel(false);
    // The only way to learn that a connection ended before a command was sent on it; it needs RESP3. If the
    // connection's runtime ends, no message is pushed, but this closure and its sender are dropped.
    let on_push = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            closing.send_replace(true);
        }
        Ok::<(), redis::aio::SendError>(())
    };
    // Whole attempts to connect have a time limit of their own, and so have operations.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_push_sender(on_push);
    let shared = client.get_multiplexed_async_connection_with_config(&config).await;
    let shared = shared.map_err(|error| failure::cause(&error))?;
    let mut connection = Connection { shared, is_closed };
    prepare(&mut connection, &settings).await.map(|()| connection)
}

async fn prepare(connection: &mut Connection, settings: &Settings) -> Result<(), Cause> {
    let mut commands: Vec<Cmd> = script::ALL.iter().map(|script| script.load()).collect();
    let wants_advice = settings.is_advised.get().is_none();
    if settings.wants_primary {
        commands.push(redis::cmd("ROLE"));
    }
    if wants_advice {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        commands.push(info);
    }
    let mut replies =
        connection.send_all(&commands).await.map_err(|error| failure::cause(&error))?;
    // Refusals are ignored: a user may lack the permission for `INFO` or `SCRIPT LOAD`.
    if wants_advice
        && let Some(Ok(info)) = replies.pop().map(redis::from_redis_value::<String>)
        && settings.is_advised.set(()).is_ok()
        && let Some(policy) = unsafe_policy(&info)
    {
        tracing::warn!(
            policy,
            "the server has a maxmemory-policy that ends sessions at random when it is full: set noeviction, \
             which refuses new ones, or volatile-ttl or allkeys-lru"
        );
    }
    if settings.wants_primary
        && let Some(Value::Array(role)) = replies.pop()
        && !role.first().is_some_and(|role| is_text(role, "master"))
    {
        return Err(Cause::from("the server is not the primary"));
    }
    Ok(())
}

pub(crate) fn is_text(value: &Value, text: &str) -> bool {
    match value {
        Value::BulkString(bytes) => bytes == text.as_bytes(),
        Value::SimpleString(string) => string == text,
        _ => false,
    }
}

/// Returns the server's `maxmemory-policy` if it evicts at random.
fn unsafe_policy(info: &str) -> Option<&str> {
    let field = |name: &str| {
        info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
    };
    let is_limited = field("maxmemory").is_some_and(|bytes| bytes != "0");
    field("maxmemory_policy").filter(|policy| is_limited && policy.ends_with("-random"))
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_lite::future::block_on;

    use super::*;

    #[test]
    fn no_reply_is_waited_for_longer_than_the_connection_lasts() {
        let (closing, is_closed) = watch::channel(false);
        assert_eq!(block_on(until_closed(is_closed.clone(), ready(Ok(1)))).unwrap(), 1);
        closing.send_replace(true);
        assert_eq!(block_on(until_closed(is_closed.clone(), ready(Ok(1)))).unwrap(), 1);
        block_on(until_closed::<()>(is_closed, pending())).unwrap_err();
        let (closing, is_closed) = watch::channel(false);
        drop(closing);
        block_on(until_closed::<()>(is_closed, pending())).unwrap_err();
    }

    #[test]
    fn a_policy_that_ends_sessions_at_random_is_told() {
        for (maxmemory, policy, wanted) in [
            ("0", "allkeys-random", None),
            ("1000", "allkeys-random", Some("allkeys-random")),
            ("1000", "volatile-random", Some("volatile-random")),
            ("1000", "noeviction", None),
            ("1000", "allkeys-lru", None),
            ("1000", "volatile-ttl", None),
        ] {
            let info = format!(
                "# Memory\r\nused_memory:1\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\n"
            );
            assert_eq!(unsafe_policy(&info), wanted, "{maxmemory} {policy}");
        }
        assert_eq!(unsafe_policy(""), None);
    }
}
