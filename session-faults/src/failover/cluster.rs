//! The cluster: primary, standby, what is in front of them, and a proxy for each address of clients.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use super::proxy::Proxy;
use super::{Database, Step};

/// A running cluster, which is stopped when dropped.
pub(super) struct Cluster {
    script: &'static str,
    options: &'static str,
    name: String,
    uri: String,
    proxies: Vec<Proxy>,
}

impl Cluster {
    /// Starts a cluster. Returns an exit code if that is impossible.
    pub(super) fn start(database: &Database) -> Result<Self, ExitCode> {
        let Database { script, options, .. } = *database;
        let name = format!("failover-{}", std::process::id());
        let output = command(script, &["start", "--standby", "--name", &name])
            .stderr(Stdio::inherit())
            .output()
            .expect("the script is there");
        if !output.status.success() {
            let code = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Err(ExitCode::from(code));
        }
        let uri = String::from_utf8(output.stdout).expect("a URI").trim().to_owned();
        let (_, hosts, _) = parts(&uri);
        let proxies = hosts.split(',').map(Proxy::start).collect();
        Ok(Self { script, options, name, uri, proxies })
    }

    /// Returns the source string of a provider.
    pub(super) fn source(&self) -> String {
        format!("{}?{}", self.uri, self.options)
    }

    /// Returns the source string of a provider that connects to the proxies.
    pub(super) fn source_through_proxies(&self) -> String {
        let (before, _, after) = parts(&self.uri);
        let hosts: Vec<_> = self.proxies.iter().map(|proxy| proxy.address.to_string()).collect();
        format!("{before}{}{after}?{}", hosts.join(","), self.options)
    }

    pub(super) fn go_through(&self, steps: &[Step], pause: Duration) {
        for step in steps {
            match step {
                Step::Run(what) => {
                    let command = command(self.script, &[what, "--name", &self.name])
                        .stdout(Stdio::null())
                        .status();
                    let is_done = command.is_ok_and(|status| status.success());
                    assert!(is_done, "{} {what} failed", self.script);
                }
                Step::Pause => std::thread::sleep(pause),
                Step::Link(link) => self.proxies.iter().for_each(|proxy| proxy.set_link(*link)),
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = command(self.script, &["stop", "--name", &self.name]).status();
    }
}

/// Splits a URI into what is before its hosts, its hosts, and what is after them.
fn parts(uri: &str) -> (&str, &str, &str) {
    let start = uri.find("://").expect("a URI has a scheme") + 3;
    let end = uri[start..].find('/').map_or(uri.len(), |at| start + at);
    let start = uri[start..end].rfind('@').map_or(start, |at| start + at + 1);
    (&uri[..start], &uri[start..end], &uri[end..])
}

fn command(script: &str, arguments: &[&str]) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts").join(script);
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    command
}
