//! A server that only one test uses.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use redis::{Client, Cmd, Connection, FromRedisValue};
use session_core::provider::Provider;
use session_redis::{RedisConfig, RedisProvider};

/// A server that only one test uses. It is stopped when dropped.
pub(crate) struct OwnServer {
    pub(crate) port: u16,
    child: Option<Child>,
    is_node: bool,
    /// The folder for the files of replicas and of nodes of a cluster.
    folder: PathBuf,
}

impl OwnServer {
    pub(crate) fn start() -> Self {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let port = free.local_addr().expect("it has an address").port();
        drop(free);
        Self::start_at(port, false)
    }

    /// Starts a node of a cluster that knows no other node yet.
    pub(crate) fn start_node() -> Self {
        // Nodes use another port, 10,000 above this one, which must be below the kernel's range for clients.
        let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        let port = loop {
            let port = rand::random_range(10_000..19_000);
            if is_free(port) && is_free(port + 10_000) {
                break port;
            }
        };
        Self::start_at(port, true)
    }

    fn start_at(port: u16, is_node: bool) -> Self {
        let folder =
            std::env::temp_dir().join(format!("session-redis-{}-{port}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("there is room");
        let mut own = Self { port, child: None, is_node, folder };
        own.revive();
        own
    }

    pub(crate) fn revive(&mut self) {
        let server = std::env::var("SESSION_REDIS_SERVER").unwrap_or("redis-server".into());
        let port = self.port.to_string();
        let mut command = Command::new(server);
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]);
        command.arg("--dir").arg(&self.folder);
        if self.is_node {
            command.args(["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"]);
        }
        let mut child =
            command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the server starts");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        self.child = Some(child);
        let mut lines = output.lines().map_while(Result::ok);
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.contains("eady to accept connections"))
        {
            said.push(lines.next().unwrap_or_else(|| panic!("it didn't start: {said:?}")));
        }
        std::thread::spawn(move || lines.for_each(drop));
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it has ended");
        }
    }

    /// Sends the process a signal.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.expect("kill runs").success(), "{name}");
    }

    pub(crate) fn provider(&self, options: &str) -> Arc<dyn Provider> {
        let config = RedisConfig::parse(&format!("redis://127.0.0.1:{}?{options}", self.port));
        Arc::new(RedisProvider::new(config.expect("the source is right")).expect("it opens"))
    }

    pub(crate) fn connection(&self) -> Connection {
        let client = Client::open(format!("redis://127.0.0.1:{}", self.port));
        client.expect("the address is one").get_connection().expect("the server is there")
    }

    pub(crate) fn ask<T: FromRedisValue>(&self, command: &mut Cmd) -> T {
        command.query(&mut self.connection()).expect("the server takes it")
    }

    pub(crate) fn configure(&self, name: &str, value: &str) {
        self.ask::<()>(redis::cmd("CONFIG").arg("SET").arg(name).arg(value));
    }

    /// Ends all connections but the one that sends the command.
    pub(crate) fn close_all(&self) {
        self.ask::<u64>(redis::cmd("CLIENT").arg("KILL").arg("SKIPME").arg("yes"));
    }
}

impl Drop for OwnServer {
    fn drop(&mut self) {
        self.kill();
        // What is left is in a folder for what may be lost.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
