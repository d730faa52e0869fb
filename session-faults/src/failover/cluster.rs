//! The cluster: a primary, its standbys, what is in front of them, and a proxy for each address that clients use.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use super::proxy::{Link, Peer, Proxy};
use super::{Database, Mode, Step};

/// The host of the proxies whose addresses servers announce to clients. Each has its server's port.
const ANNOUNCED: &str = "127.0.0.2";

const BOTH: [Peer; 2] = [Peer::Client, Peer::Server];

/// A running cluster, which is stopped when dropped.
pub(super) struct Cluster {
    script: &'static str,
    options: &'static str,
    name: String,
    uri: String,
    /// The proxies to the hosts of the URI.
    named: Vec<Proxy>,
    /// The proxies to the servers whose addresses clients learn from those hosts.
    announced: Vec<Proxy>,
}

impl Cluster {
    /// Starts a cluster. Returns an exit code if that is impossible.
    pub(super) fn start(database: &Database, mode: &Mode) -> Result<Self, ExitCode> {
        let script = database.script;
        let name = format!("failover-{}", std::process::id());
        let mut start = command(script, "start", &name);
        start.args(mode.start).stderr(Stdio::inherit());
        if database.announces {
            start.args(["--announce", ANNOUNCED]);
        }
        let output = start.output().expect("the script is there");
        if !output.status.success() {
            let code = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Err(ExitCode::from(code));
        }
        let uri = String::from_utf8(output.stdout).expect("a URI").trim().to_owned();
        let (_, hosts, _) = parts(&uri);
        let named = hosts.split(',').map(|host| Proxy::start("127.0.0.1:0", host)).collect();
        let options = mode.options;
        let mut cluster = Self { script, options, name, uri, named, announced: Vec::new() };
        if database.announces {
            let announce = |server: &str| {
                let (_, port) = server.rsplit_once(':').expect("a port");
                Proxy::start(&format!("{ANNOUNCED}:{port}"), server)
            };
            cluster.announced = cluster.run("servers").lines().map(announce).collect();
            cluster.run("rejoin");
        }
        Ok(cluster)
    }

    /// Returns the source string of a provider.
    pub(super) fn source(&self) -> String {
        self.with_options(&self.uri)
    }

    /// Returns the source string of a provider that connects to the proxies.
    pub(super) fn source_through_proxies(&self) -> String {
        let (before, _, after) = parts(&self.uri);
        let hosts: Vec<_> = self.named.iter().map(|proxy| proxy.address.to_string()).collect();
        self.with_options(&format!("{before}{}{after}", hosts.join(",")))
    }

    fn with_options(&self, uri: &str) -> String {
        let separator = if uri.contains('?') { '&' } else { '?' };
        format!("{uri}{separator}{}", self.options)
    }

    pub(super) fn go_through(&self, steps: &[Step], pause: Duration) {
        let all = || self.named.iter().chain(&self.announced);
        let cut_off = |peers: &[Peer]| {
            let primary = self.run("primary");
            let proxy = self.announced.iter().find(|proxy| proxy.server == primary.trim());
            proxy.expect("the primary has a proxy").set_link(peers, Link::Silent);
        };
        for step in steps {
            match step {
                Step::Run(what) => drop(self.run(what)),
                Step::Pause => std::thread::sleep(pause),
                Step::Link(link) => all().for_each(|proxy| proxy.set_link(&[Peer::Client], *link)),
                Step::CutOff => cut_off(&BOTH),
                Step::CutOffServers => cut_off(&[Peer::Server]),
                Step::Reconnect => all().for_each(|proxy| proxy.set_link(&BOTH, Link::Open)),
            }
        }
    }

    /// Runs a command of the script. Returns what it prints.
    fn run(&self, what: &str) -> String {
        let output = command(self.script, what, &self.name).stderr(Stdio::inherit()).output();
        let output = output.expect("the script is there");
        assert!(output.status.success(), "{} {what} failed", self.script);
        String::from_utf8(output.stdout).expect("text")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = command(self.script, "stop", &self.name).status();
    }
}

/// Splits a URI into what is before its hosts, its hosts, and what is after them.
fn parts(uri: &str) -> (&str, &str, &str) {
    let start = uri.find("://").expect("a URI has a scheme") + 3;
    let end = uri[start..].find('/').map_or(uri.len(), |at| start + at);
    let start = uri[start..end].rfind('@').map_or(start, |at| start + at + 1);
    (&uri[..start], &uri[start..end], &uri[end..])
}

fn command(script: &str, what: &str, name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(script);
    let mut command = Command::new(path);
    command.args([what, "--name", name]).stdin(Stdio::null());
    command
}
