//! The server under test, and keys of one's own on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;
use redis::{Client, Cmd, Connection, FromRedisValue, RedisResult, TlsCertificates};
use session_core::SessionKey;
use session_core::provider::Provider;
use session_redis::{RedisConfig, RedisProvider};

/// The server's source string.
pub(crate) fn url() -> String {
    std::env::var("SESSION_REDIS_URL").expect("SESSION_REDIS_URL names no server; run scripts/test")
}

/// A source string with more options.
pub(crate) fn with_options(url: &str, options: &str) -> String {
    match url.contains('?') {
        _ if options.is_empty() => url.to_owned(),
        true => format!("{url}&{options}"),
        false => format!("{url}?{options}"),
    }
}

fn option(name: &str) -> Option<String> {
    let url = url();
    let mut options = url.split_once('?')?.1.split('&');
    options.find_map(|option| Some(option.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// A source string's parts: scheme, user with `@`, hosts.
fn parts(url: &str) -> (String, String, String) {
    let (scheme, rest) = url.split_once("://").expect("a URI has a scheme");
    let authority = rest.split(['/', '?']).next().expect("there is a first part");
    let (user, hosts) = match authority.rsplit_once('@') {
        Some((user, hosts)) => (format!("{user}@"), hosts),
        None => (String::new(), authority),
    };
    (scheme.to_owned(), user, hosts.to_owned())
}

/// Keys with a prefix that nothing else uses, deleted at the end.
pub(crate) struct Server {
    pub(crate) prefix: String,
    /// To each server that has sessions.
    nodes: Mutex<Vec<Connection>>,
}

impl Server {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            prefix: format!("test_{}_{number}:", std::process::id()),
            nodes: Mutex::new(nodes()),
        }
    }

    /// The source string of a provider with this prefix, by some way to the server.
    pub(crate) fn source_at(&self, url: &str, options: &str) -> String {
        let url = with_options(url, &format!("prefix={}", self.prefix));
        with_options(&url, options)
    }

    pub(crate) fn provider(&self, options: &str) -> Arc<dyn Provider> {
        self.provider_at(&url(), options)
    }

    pub(crate) fn provider_at(&self, url: &str, options: &str) -> Arc<dyn Provider> {
        let config = RedisConfig::parse(&self.source_at(url, options));
        Arc::new(RedisProvider::new(config.expect("the source is right")).expect("it opens"))
    }

    /// The name of a session's key.
    pub(crate) fn name(&self, key: &SessionKey) -> String {
        format!("{}{{{key}}}", self.prefix)
    }

    /// Has a command done by the server that has its keys.
    pub(crate) fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let mut error = None;
        for node in self.nodes.lock().iter_mut() {
            match command.query(node) {
                Ok(reply) => return reply,
                Err(why) => error = Some(why),
            }
        }
        panic!("no server takes the command: {error:?}");
    }

    /// Does something with each server that has sessions, one after the other.
    pub(crate) fn each<T>(&self, what: impl FnMut(&mut Connection) -> T) -> Vec<T> {
        self.nodes.lock().iter_mut().map(what).collect()
    }

    /// The names of all keys with the prefix.
    pub(crate) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        for node in self.nodes.lock().iter_mut() {
            let mut scan = redis::cmd("SCAN");
            scan.cursor_arg(0).arg("MATCH").arg(format!("{}*", self.prefix)).arg("COUNT").arg(1000);
            let found = scan.iter::<String>(node).expect("the server works");
            keys.extend(found.map(|key| key.expect("keys are text")));
        }
        keys
    }

    /// Whether there is a cluster.
    pub(crate) fn is_cluster() -> bool {
        option("mode").as_deref() == Some("cluster")
    }

    /// Where the only server is; `None` if there are several.
    pub(crate) fn host() -> Option<String> {
        option("mode").is_none().then(|| parts(&url()).2)
    }

    /// The source string with another address in the server's place.
    pub(crate) fn url_at(address: SocketAddr) -> String {
        let url = url();
        let (scheme, user, hosts) = parts(&url);
        let rest = &url[scheme.len() + 3 + user.len() + hosts.len()..];
        format!("{scheme}://{user}{address}{rest}")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for key in self.keys() {
            self.ask::<u64>(redis::cmd("DEL").arg(key));
        }
    }
}

/// Connects to each server that has sessions.
fn nodes() -> Vec<Connection> {
    let (_, _, hosts) = parts(&url());
    let first = hosts.split(',').next().expect("there is one");
    match option("mode").as_deref() {
        Some("sentinel") => {
            let mut sentinel = open(&format!("redis://{first}")).expect("a Sentinel is there");
            let mut command = redis::cmd("SENTINEL");
            command.arg("GET-MASTER-ADDR-BY-NAME").arg("mymaster");
            let (host, port): (String, u16) = command.query(&mut sentinel).expect("it knows");
            vec![connect(&format!("{host}:{port}"))]
        }
        Some("cluster") => {
            let slots: Vec<(u16, u16, (String, u16))> = redis::cmd("CLUSTER")
                .arg("SLOTS")
                .query::<Vec<(u16, u16, redis::Value)>>(&mut connect(first))
                .expect("it is a cluster")
                .into_iter()
                .map(|(from, to, node)| {
                    let node: (String, u16, redis::Value, redis::Value) =
                        redis::from_redis_value(node).expect("a node has an address");
                    (from, to, (node.0, node.1))
                })
                .collect();
            slots.iter().map(|(_, _, (host, port))| connect(&format!("{host}:{port}"))).collect()
        }
        _ => vec![connect(first)],
    }
}

fn connect(host: &str) -> Connection {
    let (scheme, user, _) = parts(&url());
    open(&format!("{scheme}://{user}{host}")).expect("the server is there")
}

fn open(url: &str) -> RedisResult<Connection> {
    let client = match option("tls_ca") {
        Some(ca) if url.starts_with("rediss") => {
            let root_cert = Some(std::fs::read(ca).expect("the certificate is there"));
            // The provider chooses who encrypts.
            drop(RedisConfig::parse("rediss://h"));
            Client::build_with_tls(url, TlsCertificates { client_tls: None, root_cert })?
        }
        _ => Client::open(url)?,
    };
    client.get_connection()
}
