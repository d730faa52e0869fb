//! Operations at the servers: where they are sent, what is repeated, and for how long.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use session_core::Error;
use tokio::runtime::{Builder, Runtime};

use crate::RedisConfig;
use crate::connection::{self, Connection, Node, Settings};
use crate::failure::{self, Cause, Refusal};
use crate::script::Request;
use crate::time_limit::TimeLimits;
use crate::topology::Topology;

/// How often an operation is tried in all, if a server refuses it for a reason that passes, or if a server can't be
/// reached and another one may take its place. The time limit may end it earlier.
const TRIES: u32 = 5;

/// How often an operation is repeated after its answer was lost, if that is harmless.
const REPETITIONS: u32 = 2;

/// The pause before the second try, doubled with each one.
const PAUSE: Duration = Duration::from_millis(20);

/// What an operation does to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// An operation, as it is sent first and as it is repeated after its answer was lost.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) access: Access,
    pub(crate) first: Request<'a>,
    /// `None` if a repetition could do harm.
    pub(crate) again: Option<Request<'a>>,
    /// Operations with the same number share a connection.
    pub(crate) lane: usize,
}

impl<'a> Operation<'a> {
    /// An operation that has the same effect however often it is applied.
    pub(crate) fn repeatable(access: Access, request: Request<'a>, lane: usize) -> Self {
        Self { access, first: request, again: Some(request), lane }
    }
}

/// Performs operations.
///
/// The caller may be on any executor, on the timer thread, or on a runtime that ends before the provider does,
/// so this has a runtime of its own.
pub(crate) struct Client {
    config: Arc<RedisConfig>,
    topology: Topology,
    limits: TimeLimits,
    runtime: Background,
}

/// How far an operation has come, for its error when its time is over.
#[derive(Default)]
struct Progress {
    /// The server that it was last meant for.
    node: Option<Arc<Node>>,
    /// The connection on which it waits for an answer, and since when.
    sent: Option<(Connection, Instant)>,
    /// Whether the answer of an earlier attempt was lost.
    is_lost: bool,
}

impl Client {
    pub(crate) fn new(config: RedisConfig) -> Result<Self, Error> {
        config.check()?;
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("session-redis")
            .enable_all()
            .build()
            .map_err(Error::unavailable)?;
        let runtime = Background(Some(runtime));
        let config = Arc::new(config);
        let settings = Settings {
            runtime: runtime.get().handle().clone(),
            timeout: config.operation_timeout,
            connections: config.connections,
            wants_primary: false,
            is_advised: Arc::default(),
        };
        let topology = Topology::new(Arc::clone(&config), settings)?;
        let limits = TimeLimits::start(runtime.get().handle(), config.operation_timeout);
        Ok(Self { config, topology, limits, runtime })
    }

    pub(crate) fn config(&self) -> &RedisConfig {
        &self.config
    }

    /// Whether keys of different slots may be in one command.
    pub(crate) fn is_one_server(&self) -> bool {
        self.topology.is_one_server()
    }

    /// The time at which an operation that begins now has to end.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.config.operation_timeout
    }

    /// Performs an operation. Returns the reply, which is never a server's error.
    ///
    /// # Cancellation
    /// The server completes what was sent.
    pub(crate) async fn perform(
        &self,
        operation: Operation<'_>,
        deadline: Instant,
    ) -> Result<Value, Error> {
        let progress = Mutex::new(Progress::default());
        let late = async {
            self.limits.reached(deadline).await;
            let Progress { node, sent, is_lost } = std::mem::take(&mut *progress.lock());
            let is_sent = sent.is_some();
            if let Some(node) = node {
                match sent {
                    None => self.topology.suspect(&node),
                    // A request that got its connection late says little about the connection.
                    Some((connection, since))
                        if since.elapsed() >= self.config.operation_timeout / 2 =>
                    {
                        self.lose(&node, &connection);
                    }
                    Some(_) => {}
                }
            }
            let cause = Cause::from("no answer within operation_timeout");
            Err(unknown(operation.access, is_sent || is_lost, cause))
        };
        or(self.attempt(&operation, &progress), late).await
    }

    async fn attempt(
        &self,
        operation: &Operation<'_>,
        progress: &Mutex<Progress>,
    ) -> Result<Value, Error> {
        let Operation { access, first, again, lane } = *operation;
        let mut request = first;
        let (mut tries, mut repetitions, mut is_whole) = (0, 0, false);
        let callers = connection::callers_runtime();
        // A node that another one named, and whether that is for this command only (`ASK`).
        let mut redirected: Option<(String, u16, bool)> = None;
        loop {
            let fails = |cause| unknown(access, repetitions > 0, cause);
            let (node, asks) = match redirected.take() {
                Some((host, port, is_for_now)) => match self.topology.at(&host, port) {
                    Ok(Some(node)) => (Ok(node), is_for_now),
                    _ => {
                        return Err(fails(Cause::from(
                            "the server is a node of a cluster: the source has to say mode=cluster",
                        )));
                    }
                },
                None => (self.topology.node(request.keys[0], callers.as_ref()).await, false),
            };
            let connected = match node {
                Ok(node) => {
                    progress.lock().node = Some(Arc::clone(&node));
                    let connected = node.connection(lane, callers.as_ref()).await;
                    connected
                        .map(|connection| (Arc::clone(&node), connection))
                        .inspect_err(|_| self.topology.suspect(&node))
                }
                Err(cause) => Err(cause),
            };
            let (node, mut connection) = match connected {
                Ok(connected) => connected,
                Err(cause) => {
                    tries += 1;
                    if tries == TRIES || matches!(self.topology, Topology::Single(_)) {
                        return Err(fails(cause));
                    }
                    self.pause(tries).await;
                    continue;
                }
            };

            progress.lock().sent = Some((connection.clone(), Instant::now()));
            let replied = self.send(&mut connection, access, &request, asks, is_whole).await;
            progress.lock().sent = None;
            let (reply, replicas) = match replied {
                Ok(replied) => replied,
                Err(cause) => {
                    self.lose(&node, &connection);
                    repetitions += 1;
                    progress.lock().is_lost = true;
                    match again {
                        Some(again) if repetitions <= REPETITIONS => request = again,
                        _ => return Err(unknown(access, true, cause)),
                    }
                    continue;
                }
            };
            let Value::ServerError(error) = reply else {
                // A script that wrote nothing has nothing that a replica could lack.
                let is_refused = matches!(reply, Value::Int(n) if n != 1);
                if access == Access::Write && replicas < self.config.wait && !is_refused {
                    // Its replicas may already follow another primary.
                    self.topology.suspect(&node);
                    let cause = format!("{replicas} of {} replicas have it", self.config.wait);
                    return Err(Error::in_doubt(cause));
                }
                return Ok(reply);
            };
            let cause = failure::refused(&error);
            match failure::refusal(&error, &node.host) {
                Refusal::UnknownScript if !is_whole => is_whole = true,
                Refusal::Elsewhere { host, port, is_for_now } if tries < TRIES => {
                    tries += 1;
                    if !is_for_now {
                        self.topology.moved(request.keys[0], &host, port)?;
                    }
                    redirected = Some((host, port, is_for_now));
                    // Two redirections can be necessary. After more, the nodes don't agree yet.
                    if tries > 2 {
                        self.pause(tries - 2).await;
                    }
                }
                // On a new connection, because the host's name may belong to another server by now.
                Refusal::NotPrimary if tries < TRIES - 1 => {
                    tries += 1;
                    self.lose(&node, &connection);
                    self.pause(tries).await;
                }
                Refusal::NotNow if tries < TRIES - 1 => {
                    tries += 1;
                    self.topology.suspect(&node);
                    self.pause(tries).await;
                }
                Refusal::Full if repetitions == 0 => return Err(Error::Full { what: "maxmemory" }),
                Refusal::WrongType if access == Access::Read => {
                    let reason = "the key holds something else than a session";
                    return Err(Error::Unreadable { reason });
                }
                _ => return Err(fails(cause)),
            }
        }
    }

    /// Sends a request. Returns the reply, and how many replicas have what was written.
    async fn send(
        &self,
        connection: &mut Connection,
        access: Access,
        request: &Request<'_>,
        asks: bool,
        is_whole: bool,
    ) -> Result<(Value, u32), Cause> {
        let command = request.encode(is_whole);
        let waits = access == Access::Write && self.config.wait > 0;
        if !asks && !waits {
            let reply = connection.send(&command).await;
            return reply.map(|reply| (reply, 0)).map_err(|error| failure::cause(&error));
        }
        let mut commands: Vec<Cmd> = Vec::with_capacity(3);
        if asks {
            commands.push(redis::cmd("ASKING"));
        }
        commands.push(command);
        if waits {
            let mut wait = redis::cmd("WAIT");
            wait.arg(self.config.wait).arg(self.config.operation_timeout.as_millis() as u64);
            commands.push(wait);
        }
        let replies =
            connection.send_all(&commands).await.map_err(|error| failure::cause(&error))?;
        let mut replies = replies.into_iter().skip(usize::from(asks));
        let reply =
            replies.next().ok_or_else(|| Cause::from("the server's answer makes no sense"))?;
        let replicas = match replies.next() {
            Some(Value::Int(replicas)) => u32::try_from(replicas).unwrap_or(0),
            _ => 0,
        };
        Ok((reply, replicas))
    }

    /// Forgets a connection on which an answer was lost, and suspects its server.
    fn lose(&self, node: &Arc<Node>, connection: &Connection) {
        node.forget(connection);
        self.topology.suspect(node);
    }

    async fn pause(&self, tries: u32) {
        // On any executor: the timer is our runtime's.
        let sleep = {
            let _inside = self.runtime.get().enter();
            tokio::time::sleep(PAUSE * 2_u32.pow(tries - 1))
        };
        sleep.await;
    }
}

/// The error of an operation that failed, which may have been done if it `may_be_done`.
fn unknown(access: Access, may_be_done: bool, cause: Cause) -> Error {
    match access {
        Access::Write if may_be_done => Error::in_doubt(cause),
        _ => Error::unavailable(cause),
    }
}

/// A runtime that can be dropped anywhere, on another runtime's worker too.
struct Background(Option<Runtime>);

impl Background {
    fn get(&self) -> &Runtime {
        self.0.as_ref().expect("there until dropped")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}
