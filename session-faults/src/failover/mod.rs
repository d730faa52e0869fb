//! Breaks a database server under load repeatedly, and counts what was lost.
//!
//! A script of this repository sets up a primary and its standbys (or replicas). Two processes save, update, log in,
//! regenerate ids and log out through proxies. Meanwhile each round causes each fault once. In the end everything
//! that was acknowledged is looked up.

mod cluster;
mod ledger;
mod proxy;
mod verdict;
mod worker;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use session_core::provider::{Changes, Provider, Record, Verifier};
use session_core::{Error, SessionId, Timestamp};

use cluster::Cluster;
use ledger::Ledger;
use verdict::Verdict;
use worker::Worker;

pub use proxy::Link;

/// A time at which all sessions are live.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const EXPIRES: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// How long the load runs between two faults.
const CALM: Duration = Duration::from_millis(300);

/// A kind of database server, and how it fails.
#[derive(Debug)]
pub struct Database {
    /// The script in `scripts` that runs it. `start` prints a URI with the host and port of each server to
    /// which clients connect.
    pub script: &'static str,
    /// Whether clients, standbys and watching servers (Sentinels) learn the servers' addresses from one another. Then
    /// `start --announce 127.0.0.2` makes them learn the addresses of proxies there, `servers` prints the address
    /// that each server listens on, and `primary` prints the primary's.
    pub announces: bool,
    /// The ways in which it is set up. Each is tested with all faults.
    pub modes: &'static [Mode],
    /// Opens a provider on a source string.
    pub open: fn(source: &str) -> Arc<dyn Provider>,
    /// The faults, in the order in which they happen.
    pub faults: &'static [Fault],
}

/// A way in which a database is set up and used.
#[derive(Debug)]
pub struct Mode {
    /// The name in the results.
    pub name: &'static str,
    /// The arguments of the script's `start`.
    pub start: &'static [&'static str],
    /// The options of the source string, which are appended to the URI.
    pub options: &'static str,
    /// Whether a fault may undo what was acknowledged. What was undone is counted in any case. Whatever was applied
    /// partially or twice is a failure in any case.
    pub may_lose: bool,
}

/// A fault of a database server.
#[derive(Debug)]
pub struct Fault {
    /// The name in the results.
    pub name: &'static str,
    /// Causes the fault and repairs it.
    pub steps: &'static [Step],
    /// Restores everything else, once the store works again.
    pub restore: &'static [Step],
}

impl Fault {
    /// For a while, the clients' connections are closed, and new ones are closed at once.
    pub const CLIENTS_CUT_OFF: Self = Self {
        name: "clients cut off",
        steps: &[Step::Link(Link::Closed), Step::Pause, Step::Link(Link::Open)],
        restore: &[],
    };

    /// For a while, what arrives by the clients' connections is held back.
    pub const NETWORK_SILENT: Self = Self {
        name: "network silent",
        steps: &[Step::Link(Link::Silent), Step::Pause, Step::Link(Link::Open)],
        restore: &[],
    };
}

/// A step of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Runs a command of the script.
    Run(&'static str),
    /// Waits, alternately shorter and longer than the default time limit of an operation.
    Pause,
    /// Changes the clients' connections to all servers.
    Link(Link),
    /// Makes all connections to the primary silent.
    CutOff,
    /// Makes the connections of other servers to the primary silent, but not those of clients.
    CutOffServers,
    /// Opens all connections to all servers.
    Reconnect,
}

/// The main function of a failover program: `failover [--rounds N] [--mode NAME] [--apart]`. By default, it runs one
/// round in each mode. With `--apart`, each fault happens to a database of its own, and its losses are reported
/// separately.
///
/// The exit code is 1 if anything was applied partially or twice, or, unless the mode allows it, was lost or
/// came back. It is 3 if this machine can't run a server.
pub fn main(database: &Database) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut arguments: &[&str] = &arguments.iter().map(String::as_str).collect::<Vec<_>>();
    if let ["worker", number, source] = arguments {
        let provider = (database.open)(source);
        return worker::work(number.parse().expect("a number"), &provider);
    }
    let (mut rounds, mut wanted, mut is_apart) = (1, None, false);
    loop {
        arguments = match arguments {
            ["--rounds", number, others @ ..] => {
                rounds = number.parse().expect("--rounds takes a number");
                others
            }
            ["--mode", name, others @ ..] => {
                wanted = Some(*name);
                others
            }
            ["--apart", others @ ..] => {
                is_apart = true;
                others
            }
            _ => break,
        };
    }
    let is_wanted = |mode: &&Mode| wanted.is_none_or(|wanted| wanted == mode.name);
    let modes: Vec<&Mode> = database.modes.iter().filter(is_wanted).collect();
    if !arguments.is_empty() || modes.is_empty() {
        let names: Vec<_> = database.modes.iter().map(|mode| mode.name).collect();
        eprintln!("usage: failover [--rounds N] [--mode NAME] [--apart]");
        eprintln!("modes: {}", names.join("; "));
        return ExitCode::from(2);
    }
    let mut verdicts = Vec::new();
    for mode in modes {
        for faults in database.faults.chunks(if is_apart { 1 } else { database.faults.len() }) {
            match run(database, mode, faults, rounds) {
                Ok(verdict) => verdicts.push((mode, faults, verdict)),
                Err(code) => return code,
            }
        }
    }
    println!(
        "\n{:<28}{:<34}{:>13}{:>10}{:>8}{:>9}{:>13}",
        "mode", "fault", "acknowledged", "in doubt", "lost", "revived", "half logins"
    );
    for (mode, faults, verdict) in &verdicts {
        println!(
            "{:<28}{:<34}{:>13}{:>10}{:>8}{:>9}{:>13}",
            mode.name,
            if let [fault] = faults { fault.name } else { "all" },
            verdict.acknowledged,
            verdict.doubtful,
            verdict.lost,
            verdict.revived,
            verdict.halves
        );
    }
    let is_good = |(mode, _, verdict): &(&Mode, _, Verdict)| verdict.is_good(mode.may_lose);
    if verdicts.iter().all(is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Returns a record without values that this id opens.
fn record(id: &SessionId) -> Record {
    Record::new(holder(id), NOW, EXPIRES)
}

/// Returns the verifier of this id.
fn holder(id: &SessionId) -> Verifier {
    Verifier::digest(id, "")
}

/// Returns a number as a value, in MessagePack.
fn encoded_number(number: u64) -> Vec<u8> {
    [&[0xcf][..], &number.to_be_bytes()].concat()
}

/// Returns the number that a value is, and zero if there is none.
fn decoded_number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |value| u64::from_be_bytes(value[1..].try_into().expect("8 bytes")))
}

fn run(
    database: &Database,
    mode: &Mode,
    faults: &[Fault],
    rounds: usize,
) -> Result<Verdict, ExitCode> {
    let cluster = Cluster::start(database, mode)?;
    let source = cluster.source_through_proxies();
    let mut probe = Probe::new((database.open)(&source), mode.may_lose);
    let workers: Vec<Worker> = (0..2).map(|number| Worker::start(number, &source)).collect();
    let began = Instant::now();
    let mut times: Vec<_> = faults.iter().map(|fault| (fault, Vec::new(), Vec::new())).collect();
    for round in 0..rounds {
        let pause = Duration::from_millis(if round.is_multiple_of(2) { 700 } else { 3500 });
        for (fault, outages, recoveries) in &mut times {
            std::thread::sleep(CALM);
            let broken = Instant::now();
            cluster.go_through(fault.steps, pause);
            let repaired = Instant::now();
            let back = probe.until_it_works();
            outages.push(back - broken);
            recoveries.push(back - repaired);
            let (mode, Fault { name, restore, .. }) = (mode.name, fault);
            let (round, time) = (round + 1, back - broken);
            eprintln!("{mode}, round {round} of {rounds}, {name}: back after {time:?}");
            cluster.go_through(restore, pause);
        }
    }
    std::thread::sleep(CALM);
    let books: Vec<Ledger> = workers.into_iter().map(Worker::stop).collect();
    let lasted = began.elapsed();

    println!(
        "\n{:<34}{:>6}  back after the fault began      after it was repaired",
        mode.name, "times"
    );
    for (fault, outages, recoveries) in &mut times {
        let (name, number) = (fault.name, outages.len());
        println!("{name:<34}{number:>6}  {}  {}", spread(outages), spread(recoveries));
    }
    Ok(Verdict::reach(&books, &*(database.open)(&cluster.source()), lasted))
}

/// Returns the shortest, median and longest of the times.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let show = |time: Option<&Duration>| time.copied().unwrap_or_default().as_millis();
    let (first, middle, last) = (times.first(), times.get(times.len() / 2), times.last());
    format!("{:>6} {:>6} {:>6} ms", show(first), show(middle), show(last))
}

/// A session for checking whether the store works.
struct Probe {
    provider: Arc<dyn Provider>,
    id: SessionId,
    may_lose: bool,
}

impl Probe {
    fn new(provider: Arc<dyn Provider>, may_lose: bool) -> Self {
        let id = SessionId::generate().expect("an id");
        block_on(provider.create(&id, record(&id), NOW)).expect("the store works at first");
        Self { provider, id, may_lose }
    }

    /// Saves until a save is acknowledged. Returns the time of that.
    fn until_it_works(&mut self) -> Instant {
        let mut changes = Changes::new();
        changes.set("n", [1]);
        loop {
            let (token, holder) = (self.id.into(), holder(&self.id));
            match block_on(self.provider.save(&token, &holder, &changes, NOW)) {
                Ok(_) => return Instant::now(),
                Err(Error::Unavailable { .. } | Error::InDoubt { .. }) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(Error::Gone) if self.may_lose => {
                    self.id = SessionId::generate().expect("an id");
                    // If this fails, the next save is `Gone` again.
                    let _ = block_on(self.provider.create(&self.id, record(&self.id), NOW));
                }
                Err(error) => panic!("the probe's session is lost: {error}"),
            }
        }
    }
}
