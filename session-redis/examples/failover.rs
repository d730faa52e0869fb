//! What a failover loses: workers create, save, log in and end sessions, while the primary is killed or stands
//! still and Sentinel makes its replica the primary. Afterwards, what is stored is compared with what was
//! acknowledged, with and without waiting for the replica.
//!
//! Fails if a login is stored in part, and with `wait=1` if anything that was acknowledged is lost or
//! back. Needs `scripts/redis-server`.

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use session_core::provider::{Changes, Login, NewSecret, Provider, Record, Token, Verifier};
use session_core::{Error, SessionId, Timestamp};
use session_redis::{RedisConfig, RedisProvider};

const WORKERS: usize = 16;
const BEFORE: Duration = Duration::from_secs(2);
const AFTER: Duration = Duration::from_secs(3);
/// How long Sentinel may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// After which time there is another primary, and the old one may come back as its replica.
const PROMOTED: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    println!(
        "{:<8} {:>4} {:>8} {:>8} {:>11} {:>9} {:>5} {:>7} {:>5}",
        "primary", "wait", "done", "in doubt", "unavailable", "outage", "lost", "revived", "half"
    );
    let mut is_good = true;
    for way in ["killed", "frozen"] {
        for wait in [0, 1] {
            let verdict = run(way, wait);
            is_good &= verdict.half == 0 && (wait == 0 || verdict.lost + verdict.revived == 0);
        }
    }
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[derive(Default)]
struct Verdict {
    lost: usize,
    revived: usize,
    half: usize,
}

/// What the workers have seen.
#[derive(Default)]
struct Counts {
    done: AtomicU64,
    in_doubt: AtomicU64,
    unavailable: AtomicU64,
}

fn run(way: &str, wait: u32) -> Verdict {
    let servers = Servers::start(wait);
    let provider = Arc::new(servers.provider(wait));
    let (counts, is_over) = (Arc::<Counts>::default(), Arc::<AtomicBool>::default());
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (provider, counts) = (Arc::clone(&provider), Arc::clone(&counts));
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || work(&*provider, &counts, &is_over))
        })
        .collect();
    thread::sleep(BEFORE);
    servers.tell(if way == "killed" { "kill-primary" } else { "freeze-primary" });
    let began = Instant::now();
    let done = || counts.done.load(Ordering::Relaxed);
    // What is under way ends, or meets its time limit; only another primary does more than that.
    thread::sleep(Duration::from_millis(500));
    let before = done();
    let back = if way == "killed" { "revive-primary" } else { "thaw-primary" };
    if wait > 0 {
        // There has to be a replica again: until then, each write is in doubt.
        thread::sleep(PROMOTED);
        servers.tell(back);
    }
    while done() < before + 20 * WORKERS as u64 {
        assert!(began.elapsed() < PATIENCE, "nothing works after a failover");
        thread::sleep(Duration::from_millis(10));
    }
    let outage = began.elapsed();
    if wait == 0 {
        servers.tell(back);
    }
    thread::sleep(AFTER);
    is_over.store(true, Ordering::Relaxed);
    let sessions = workers.into_iter().flat_map(|worker| worker.join().expect("no worker panics"));
    let mut verdict = Verdict::default();
    let fresh = servers.provider(0);
    for session in sessions.collect::<Vec<_>>() {
        session.judge(&fresh, &mut verdict);
    }
    println!(
        "{way:<8} {wait:>4} {:>8} {:>8} {:>11} {:>8.1}s {:>5} {:>7} {:>5}",
        done(),
        counts.in_doubt.load(Ordering::Relaxed),
        counts.unavailable.load(Ordering::Relaxed),
        outage.as_secs_f64(),
        verdict.lost,
        verdict.revived,
        verdict.half
    );
    verdict
}

/// A session as its worker knows it.
struct Session {
    token: Token,
    holder: Verifier,
    /// The last number of which it is known that it was stored, and the last one that may have been.
    stored: u32,
    tried: u32,
    /// Whether its owner is logged in, and whether nobody knows.
    is_in: bool,
    is_in_doubt: bool,
    end: End,
}

#[derive(PartialEq)]
enum End {
    None,
    InDoubt,
    Done,
}

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

fn holder(n: u32) -> Verifier {
    Verifier::from_bytes([u8::from(n > 0) + 1; 32])
}

/// Whether an outcome says that it was done; `None` if it is not known.
fn settled<T>(outcome: Result<T, Error>, counts: &Counts) -> Option<bool> {
    let (counter, settled) = match outcome {
        Ok(_) => (&counts.done, Some(true)),
        Err(Error::InDoubt { .. }) => (&counts.in_doubt, None),
        Err(Error::Unavailable { .. }) => (&counts.unavailable, Some(false)),
        // By a failover: what it was built on is lost.
        Err(Error::Gone) => return Some(false),
        Err(error) => panic!("{error:?}"),
    };
    counter.fetch_add(1, Ordering::Relaxed);
    settled
}

fn work(provider: &dyn Provider, counts: &Counts, is_over: &AtomicBool) -> Vec<Session> {
    let mut sessions = Vec::new();
    while !is_over.load(Ordering::Relaxed) {
        let id = SessionId::generate().expect("there is chance");
        let expires = now().saturating_add(Duration::from_secs(3600));
        let values = [("n", number(0))].into_iter().collect();
        let record = Record { values, ..Record::new(holder(0), now(), expires) };
        match settled(block_on(provider.create(&id, record, now())), counts) {
            Some(true) => {}
            _ => continue,
        }
        let mut session = Session {
            token: id.into(),
            holder: holder(0),
            stored: 0,
            tried: 0,
            is_in: false,
            is_in_doubt: false,
            end: End::None,
        };
        for n in 1..20 {
            if is_over.load(Ordering::Relaxed) || session.is_in_doubt {
                break;
            }
            let mut changes = Changes::new();
            changes.set("n", number(n));
            let logs_in = n == 10;
            if logs_in {
                changes.set("user", [1]);
                let login = Login { owner: "ada".into(), at: now(), label: "".into() };
                changes = changes.with_login(Some(Box::new(login))).with_secret(NewSecret {
                    token: session.token.clone(),
                    holder: holder(1),
                    at: now(),
                });
            }
            session.tried = n;
            let saved = provider.save(&session.token, &session.holder, &changes, now());
            match settled(block_on(saved), counts) {
                Some(true) => session.stored = n,
                Some(false) => continue,
                None => session.is_in_doubt = logs_in,
            }
            if logs_in && !session.is_in_doubt {
                (session.is_in, session.holder) = (true, holder(1));
            }
        }
        if sessions.len() % 2 == 0 && !session.is_in_doubt {
            let key = session.token.key();
            let ended = provider.destroy(&key, now(), now());
            session.end = match settled(block_on(ended), counts) {
                Some(true) => End::Done,
                Some(false) => End::None,
                None => End::InDoubt,
            };
        }
        sessions.push(session);
    }
    sessions
}

/// A number in MessagePack.
fn number(n: u32) -> Vec<u8> {
    [&[0xce][..], &n.to_be_bytes()].concat()
}

impl Session {
    fn judge(&self, provider: &dyn Provider, verdict: &mut Verdict) {
        let found = block_on(provider.load(&self.token, now())).expect("the new primary works");
        let Some(record) = found else {
            verdict.lost += usize::from(self.end == End::None);
            return;
        };
        verdict.revived += usize::from(self.end == End::Done);
        let parts = [
            record.login.is_some(),
            record.values.get("user").is_some(),
            record.holder == holder(1),
        ];
        verdict.half += usize::from(parts.iter().any(|part| *part != parts[0]));
        let n = record.values.get("n").and_then(|n| n.get(1..)?.try_into().ok());
        let n = n.map_or(u32::MAX, u32::from_be_bytes);
        assert!(n <= self.tried, "{n} was never stored: {} at most", self.tried);
        if self.end == End::None {
            verdict.lost += usize::from(n < self.stored || (self.is_in && !parts[0]));
        }
    }
}

/// A primary, its replica and a Sentinel, ended with the run.
struct Servers {
    name: String,
    url: String,
}

impl Servers {
    fn start(wait: u32) -> Self {
        let name = format!("failover-{}-{wait}", std::process::id());
        let output = script(&["start", "--sentinel", "--name", &name]).output();
        let output = output.expect("the script runs");
        assert!(output.status.success(), "scripts/redis-server could not start the servers");
        let url = String::from_utf8(output.stdout).expect("a URL is text").trim().to_owned();
        Self { name, url }
    }

    fn provider(&self, wait: u32) -> RedisProvider {
        let config = RedisConfig::parse(&format!("{}&wait={wait}&operation_timeout=1s", self.url));
        RedisProvider::new(config.expect("the source is right")).expect("it opens")
    }

    fn tell(&self, command: &str) {
        let status = script(&[command, "--name", &self.name]).status();
        assert!(status.is_ok_and(|status| status.success()), "{command} failed");
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.tell("stop");
    }
}

fn script(arguments: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/redis-server");
    let mut command = Command::new(script);
    command.args(arguments).stderr(Stdio::inherit());
    command
}
