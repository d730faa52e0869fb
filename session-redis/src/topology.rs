//! [`Topology`]: finds the server that has a session.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use redis::{Client, Value};
use session_core::Error;
use tokio::runtime::Handle;

use crate::RedisConfig;
use crate::config::Mode;
use crate::connection::{Node, Settings};
use crate::failure::{self, Cause};
use crate::single_flight::SingleFlight;

/// How many slots a cluster has.
const SLOTS: u16 = 16_384;

/// The time limit for asking one Sentinel or one node about the other servers.
const ASKING: Duration = Duration::from_millis(500);

/// The servers, as far as they are known.
pub(crate) enum Topology {
    Single(Arc<Node>),
    Sentinel(Arc<Sentinel>),
    Cluster(Arc<Cluster>),
}

impl Topology {
    pub(crate) fn new(config: Arc<RedisConfig>, settings: Settings) -> Result<Self, Error> {
        Ok(match &config.mode {
            Mode::Single => {
                let client = config.client(config.hosts[0].clone())?;
                Self::Single(Arc::new(Node::new(client, settings)))
            }
            Mode::Sentinel { service, .. } => Self::Sentinel(Arc::new(Sentinel {
                sentinels: config.sentinels()?,
                service: service.clone(),
                settings: Settings { wants_primary: true, ..settings },
                primary: RwLock::default(),
                asking: Asking::default(),
                config,
            })),
            Mode::Cluster => {
                let seeds = config.hosts.iter().map(|host| config.client(host.clone()));
                let seeds = seeds.map(|client| Ok(Arc::new(Node::new(client?, settings.clone()))));
                let seeds = seeds.collect::<Result<_, Error>>()?;
                Self::Cluster(Arc::new(Cluster {
                    seeds,
                    settings,
                    config,
                    map: RwLock::default(),
                    asking: Asking::default(),
                }))
            }
        })
    }

    /// Whether keys of different slots may be in one command.
    pub(crate) fn is_one_server(&self) -> bool {
        !matches!(self, Self::Cluster(_))
    }

    /// The server that has a key.
    pub(crate) async fn node(
        &self,
        key: &[u8],
        callers: Option<&Handle>,
    ) -> Result<Arc<Node>, Cause> {
        match self {
            Self::Single(node) => Ok(Arc::clone(node)),
            Self::Sentinel(sentinel) => sentinel.primary(callers).await,
            Self::Cluster(cluster) => cluster.node(slot(key), callers).await,
        }
    }

    /// Records that another node now has the key's slot (`MOVED`).
    pub(crate) fn moved(&self, key: &[u8], host: &str, port: u16) -> Result<(), Error> {
        if let Self::Cluster(cluster) = self {
            let node = cluster.at(host, port)?;
            cluster.map.write().slots.insert(slot(key), node);
            cluster.asking.outdate();
        }
        Ok(())
    }

    /// Returns the node at an address that another node has named; `None` if there is no cluster.
    pub(crate) fn at(&self, host: &str, port: u16) -> Result<Option<Arc<Node>>, Error> {
        match self {
            Self::Cluster(cluster) => cluster.at(host, port).map(Some),
            _ => Ok(None),
        }
    }

    /// Records that a server failed. With Sentinels or in a cluster, the next operation asks where the primaries are.
    pub(crate) fn suspect(&self, node: &Arc<Node>) {
        match self {
            Self::Single(_) => {}
            Self::Sentinel(sentinel) => {
                let primary = sentinel.primary.read();
                if primary.as_ref().is_some_and(|primary| Arc::ptr_eq(primary, node)) {
                    sentinel.asking.outdate();
                }
            }
            Self::Cluster(cluster) => cluster.asking.outdate(),
        }
    }
}

/// Whether servers have to be asked about the others, and the request that is under way.
struct Asking<T> {
    is_outdated: Arc<AtomicBool>,
    flight: SingleFlight<T>,
}

impl<T> Default for Asking<T> {
    fn default() -> Self {
        Self { is_outdated: Arc::new(AtomicBool::new(true)), flight: SingleFlight::default() }
    }
}

impl<T: Clone + Send + Sync + 'static> Asking<T> {
    /// Marks the last answer as outdated.
    fn outdate(&self) {
        self.is_outdated.store(true, Ordering::Release);
    }

    fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Acquire)
    }

    async fn ask<Q>(&self, runtime: &Handle, question: impl FnOnce() -> Q) -> Result<T, Cause>
    where
        Q: Future<Output = Result<T, Cause>> + Send + 'static,
    {
        let asking = || {
            let (is_outdated, question) = (Arc::clone(&self.is_outdated), question());
            async move {
                // Before the question: what marks it as outdated meanwhile may be newer than the answer.
                is_outdated.store(false, Ordering::Release);
                question.await.inspect_err(|_| is_outdated.store(true, Ordering::Release))
            }
        };
        self.flight.join(runtime, asking).await
    }
}

/// The primary of a service, as Sentinels name it.
pub(crate) struct Sentinel {
    sentinels: Vec<Client>,
    service: String,
    settings: Settings,
    config: Arc<RedisConfig>,
    primary: RwLock<Option<Arc<Node>>>,
    asking: Asking<Arc<Node>>,
}

impl Sentinel {
    async fn primary(self: &Arc<Self>, callers: Option<&Handle>) -> Result<Arc<Node>, Cause> {
        if !self.asking.is_outdated()
            && let Some(primary) = self.primary.read().clone()
        {
            return Ok(primary);
        }
        let ask = || {
            let (this, callers) = (Arc::clone(self), callers.cloned());
            async move { this.ask(callers.as_ref()).await }
        };
        self.asking.ask(&self.settings.runtime, ask).await
    }

    /// Asks the Sentinels, one after the other, for a primary that can be connected to.
    async fn ask(&self, callers: Option<&Handle>) -> Result<Arc<Node>, Cause> {
        let mut cause = Cause::from("no Sentinel knows the service");
        for sentinel in &self.sentinels {
            let asking = async {
                let mut connection = sentinel.get_multiplexed_async_connection().await?;
                let mut command = redis::cmd("SENTINEL");
                command.arg("GET-MASTER-ADDR-BY-NAME").arg(&self.service);
                command.query_async::<Option<(String, u16)>>(&mut connection).await
            };
            match tokio::time::timeout(ASKING, asking).await {
                Ok(Ok(Some((host, port)))) => {
                    let node = self.at(&host, port)?;
                    // Sentinels name a failed primary until another one is elected.
                    match node.connection(0, callers).await {
                        Ok(_) => {
                            *self.primary.write() = Some(Arc::clone(&node));
                            return Ok(node);
                        }
                        Err(why) => cause = why,
                    }
                }
                Ok(Ok(None)) => {}
                Ok(Err(error)) => cause = failure::cause(&error),
                Err(_) => cause = Cause::from("a Sentinel doesn't answer"),
            }
        }
        Err(cause)
    }

    /// Returns the server at this address, which is the known primary if its address is the same.
    fn at(&self, host: &str, port: u16) -> Result<Arc<Node>, Cause> {
        let client = self.config.client_at(host, port);
        let client = client.map_err(|_| Cause::from("the primary's address can't be used"))?;
        let known = self.primary.read().clone();
        let known = known.filter(|known| known.address() == client.get_connection_info().addr());
        Ok(known.unwrap_or_else(|| Arc::new(Node::new(client, self.settings.clone()))))
    }
}

/// A cluster: its nodes, and which of them has which slots.
pub(crate) struct Cluster {
    seeds: Vec<Arc<Node>>,
    settings: Settings,
    config: Arc<RedisConfig>,
    map: RwLock<Map>,
    asking: Asking<()>,
}

#[derive(Default)]
struct Map {
    nodes: HashMap<(String, u16), Arc<Node>>,
    slots: HashMap<u16, Arc<Node>>,
}

impl Cluster {
    async fn node(
        self: &Arc<Self>,
        slot: u16,
        callers: Option<&Handle>,
    ) -> Result<Arc<Node>, Cause> {
        let known = || self.map.read().slots.get(&slot).cloned();
        if !self.asking.is_outdated()
            && let Some(node) = known()
        {
            return Ok(node);
        }
        let ask = || {
            let (this, callers) = (Arc::clone(self), callers.cloned());
            async move { this.ask(callers.as_ref()).await }
        };
        self.asking.ask(&self.settings.runtime, ask).await?;
        known().ok_or_else(|| Cause::from("no node of the cluster has the slot"))
    }

    fn at(&self, host: &str, port: u16) -> Result<Arc<Node>, Error> {
        let address = (host.to_owned(), port);
        let mut map = self.map.write();
        if let Some(node) = map.nodes.get(&address) {
            return Ok(Arc::clone(node));
        }
        let node = Node::new(self.config.client_at(host, port)?, self.settings.clone());
        let node = Arc::new(node);
        map.nodes.insert(address, Arc::clone(&node));
        Ok(node)
    }

    /// Asks one node after the other for the map of slots, those with a connection first.
    async fn ask(&self, callers: Option<&Handle>) -> Result<(), Cause> {
        let mut known: Vec<_> = self.map.read().nodes.values().cloned().collect();
        known.sort_by_key(|node| !node.is_connected());
        let mut cause = Cause::from("no node of the cluster is known");
        for node in known.iter().chain(&self.seeds) {
            let asking = async {
                let mut connection = node.connection(0, callers).await?;
                let mut command = redis::cmd("CLUSTER");
                command.arg("SLOTS");
                connection.send(&command).await.map_err(|error| failure::cause(&error))
            };
            match tokio::time::timeout(ASKING, asking).await {
                Ok(Ok(reply)) => {
                    let ranges = ranges(&reply, &node.host);
                    if ranges.is_empty() {
                        cause = Cause::from("the server is no node of a cluster, or has no slots");
                        continue;
                    }
                    return self.adopt(ranges);
                }
                Ok(Err(why)) => cause = why,
                Err(_) => cause = Cause::from("a node of the cluster doesn't answer"),
            }
        }
        Err(cause)
    }

    fn adopt(&self, ranges: Vec<Range>) -> Result<(), Cause> {
        let mut slots = HashMap::with_capacity(SLOTS.into());
        let mut addresses = Vec::new();
        for Range { first, last, host, port } in ranges {
            let node = self.at(&host, port);
            let node = node.map_err(|_| Cause::from("a node's address can't be used"))?;
            slots.extend((first..=last).map(|slot| (slot, Arc::clone(&node))));
            addresses.push((host, port));
        }
        let mut map = self.map.write();
        map.slots = slots;
        map.nodes.retain(|address, _| addresses.contains(address));
        Ok(())
    }
}

/// Slots that one node has.
#[derive(Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    host: String,
    port: u16,
}

/// Parses the reply of `CLUSTER SLOTS`. A node without a host is on the host that was asked.
fn ranges(reply: &Value, asked: &str) -> Vec<Range> {
    let Value::Array(ranges) = reply else { return Vec::new() };
    let range = |range: &Value| -> Option<Range> {
        let Value::Array(parts) = range else { return None };
        let [Value::Int(first), Value::Int(last), Value::Array(primary), ..] = &parts[..] else {
            return None;
        };
        let [host, Value::Int(port), ..] = &primary[..] else { return None };
        let host = match host {
            Value::BulkString(host) if !host.is_empty() => String::from_utf8(host.clone()).ok()?,
            _ => asked.to_owned(),
        };
        let slot = |n: &i64| u16::try_from(*n).ok().filter(|slot| *slot < SLOTS);
        Some(Range { first: slot(first)?, last: slot(last)?, host, port: (*port).try_into().ok()? })
    };
    ranges.iter().filter_map(range).collect()
}

/// Returns the slot of a key: the hash of what is between the first `{` and the next `}`, or of the whole key if that
/// is empty or missing.
pub(crate) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')? + 1;
        let length = key[open..].iter().position(|byte| *byte == b'}')?;
        (length > 0).then(|| &key[open..open + length])
    };
    // CRC-16/XMODEM.
    let crc = tag().unwrap_or(key).iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `CLUSTER KEYSLOT` says.
    #[test]
    fn slots_are_the_clusters() {
        for (key, wanted) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("a{foo}", 12_182),
            ("foo{}{bar}", 8_363),
            ("", 0),
        ] {
            assert_eq!(slot(key.as_bytes()), wanted, "{key:?}");
        }
    }

    #[test]
    fn a_map_of_slots_is_read_as_far_as_it_makes_sense() {
        let text = |text: &str| Value::BulkString(text.into());
        let node = |host: Value, port| Value::Array(vec![host, Value::Int(port), text("id")]);
        let range = |first, last, node: Value| {
            Value::Array(vec![Value::Int(first), Value::Int(last), node.clone(), node])
        };
        let reply = Value::Array(vec![
            range(0, 5, node(text("h"), 1)),
            range(6, 7, node(Value::Nil, 2)),
            range(8, 16_384, node(text("h"), 3)),
            range(8, 9, node(text("h"), 99_999)),
            Value::Nil,
        ]);
        let wanted = |first, last, host: &str, port| Range { first, last, host: host.into(), port };
        assert_eq!(ranges(&reply, "me"), [wanted(0, 5, "h", 1), wanted(6, 7, "me", 2)]);
        assert_eq!(ranges(&Value::Nil, "me"), []);
    }
}
