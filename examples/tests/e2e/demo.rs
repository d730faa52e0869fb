//! A running demo server.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::Client;

/// The limit after which a test fails instead of hanging.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The flags for sealed sessions with revocations.
pub(crate) const SEALED: [&str; 4] =
    ["--provider", "cookie", "--source", "ephemeral=true&revocations=memory"];

/// A demo on a free port, with its output. It is killed when dropped.
pub(crate) struct Demo {
    child: Child,
    pub(crate) address: SocketAddr,
    printed: Arc<Printed>,
    #[cfg_attr(not(unix), allow(dead_code, reason = "used where there are signals"))]
    readers: Vec<JoinHandle<()>>,
}

/// The lines that a process has printed so far.
#[derive(Default)]
pub(crate) struct Printed {
    lines: Mutex<String>,
    more: Condvar,
}

/// Returns a command for the demo, without the caller's `RUST_LOG`. The environment variable `DEMO_SERVER` sets the
/// demo's option `--server`, so that all tests can run against both.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    if let Ok(server) = std::env::var("DEMO_SERVER") {
        command.args(["--server", &server]);
    }
    command.env_remove("RUST_LOG").args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Demo {
    /// Starts a demo with these flags.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_logging("info", arguments)
    }

    /// Starts a demo with these flags, and with this `RUST_LOG`.
    pub(crate) fn start_logging(log: &str, arguments: &[&str]) -> Self {
        let mut child = command(&["--listen", "127.0.0.1:0"])
            .args(arguments)
            .env("RUST_LOG", log)
            .spawn()
            .expect("the demo starts");
        let printed = Arc::new(Printed::default());
        let stdout = child.stdout.take().expect("is piped");
        let stderr = child.stderr.take().expect("is piped");
        let readers = vec![printed.collect(stdout), printed.collect(stderr)];
        let line = printed.wait_for("listening on http://");
        let address = line.rsplit('/').next().expect("has a part");
        let address = address.parse().expect("an address and a port");
        Self { child, address, printed, readers }
    }

    /// Returns a visitor who accepts cookies and has none yet.
    pub(crate) fn visitor(&self) -> Client {
        Client::new(self.address)
    }

    /// Returns the number of live sessions.
    pub(crate) fn sessions(&self) -> u64 {
        self.counted().expect("the provider counts")
    }

    /// Returns the number of live sessions, if the provider counts them.
    pub(crate) fn counted(&self) -> Option<u64> {
        let stats: serde_json::Value = self.visitor().get("/stats").json();
        let sessions = stats.get("sessions").expect("the key is there");
        assert!(sessions.is_null() || sessions.is_u64(), "{sessions}");
        sessions.as_u64()
    }

    /// Waits until the demo has printed a line with this text, and returns the first such line.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.printed.wait_for(text)
    }

    /// Waits until the demo has printed `count` lines with this text.
    pub(crate) fn wait_for_lines(&self, text: &str, count: usize) {
        self.printed.wait_for_lines(text, count);
    }

    /// Sends a signal.
    #[cfg(unix)]
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("there is a shell");
        assert!(sent.success());
    }

    /// Waits until the demo has ended after a signal. Returns its status and its whole output.
    #[cfg(unix)]
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().expect("it is our child");
        for reader in self.readers.drain(..) {
            reader.join().expect("reading does not fail");
        }
        let printed = self.printed.lines.lock().unwrap().clone();
        (status, printed)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Printed {
    /// Collects output by lines.
    pub(crate) fn collect(
        self: &Arc<Self>,
        from: impl std::io::Read + Send + 'static,
    ) -> JoinHandle<()> {
        let printed = Arc::clone(self);
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).expect("a pipe can be read") > 0 {
                printed.lines.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
                printed.more.notify_all();
                line.clear();
            }
        })
    }

    /// Waits for a line with this text, and returns the first such line.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_for_lines(text, 1).swap_remove(0)
    }

    /// Waits for `count` lines with this text, and returns all such lines.
    fn wait_for_lines(&self, text: &str, count: usize) -> Vec<String> {
        let found = |lines: &str| -> Vec<String> {
            lines.lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
        };
        let lines = self.lines.lock().unwrap();
        let missing = |lines: &mut String| found(lines).len() < count;
        let (lines, timeout) = self.more.wait_timeout_while(lines, PATIENCE, missing).unwrap();
        assert!(!timeout.timed_out(), "{text:?} was not printed {count} times, only: {lines}");
        found(&lines)
    }
}

/// Runs a demo that ends by itself. Returns its status, stdout and stderr.
pub(crate) fn run(arguments: &[&str]) -> (ExitStatus, String, String) {
    let mut child = command(arguments).spawn().expect("the demo starts");
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().expect("is piped").read_to_string(&mut stdout).expect("UTF-8");
    child.stderr.take().expect("is piped").read_to_string(&mut stderr).expect("UTF-8");
    (child.wait().expect("it is our child"), stdout, stderr)
}
