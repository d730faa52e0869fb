//! The cluster: primary, standby and front.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

/// A running cluster, which is stopped when dropped.
pub(crate) struct Cluster {
    name: String,
    uri: String,
}

impl Cluster {
    /// Starts a cluster. Returns an exit code if that is impossible.
    pub(crate) fn start() -> Result<Self, ExitCode> {
        let name = format!("failover-{}", std::process::id());
        let output = script(&["start", "--standby", "--name", &name])
            .stderr(Stdio::inherit())
            .output()
            .expect("scripts/mongo-server is there");
        if !output.status.success() {
            let code = output.status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
            return Err(ExitCode::from(code));
        }
        let uri = String::from_utf8(output.stdout).expect("a URI").trim().to_owned();
        Ok(Self { name, uri })
    }

    pub(crate) fn uri(&self) -> String {
        self.uri.clone()
    }

    /// Returns the front's host and port.
    pub(crate) fn address(&self) -> String {
        self.uri.trim_start_matches("mongodb://").trim_end_matches('/').to_owned()
    }

    /// Runs a command of `scripts/mongo-server`.
    pub(crate) fn run(&self, command: &str) {
        let done = script(&[command, "--name", &self.name]).stdout(Stdio::null()).status();
        assert!(done.is_ok_and(|done| done.success()), "mongo-server {command} failed");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = script(&["stop", "--name", &self.name]).status();
    }
}

fn script(arguments: &[&str]) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/mongo-server");
    let mut command = Command::new(path);
    command.args(arguments).stdin(Stdio::null());
    command
}
