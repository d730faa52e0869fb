//! Breaks a database server under load repeatedly, and counts what was lost.
//!
//! A script of this repository sets up a primary and a synchronous standby. Two processes save, update, log
//! in, regenerate ids and log out through proxies. Meanwhile each round causes each fault once. In the end
//! everything that was acknowledged is looked up.

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
    /// The script in `scripts` that runs it. `start --standby` prints a URI with the host and port of each
    /// server to which clients connect.
    pub script: &'static str,
    /// The options of the source string, which are appended to the URI.
    pub options: &'static str,
    /// Opens a provider on a source string.
    pub open: fn(source: &str) -> Arc<dyn Provider>,
    /// The faults, in the order in which they happen.
    pub faults: &'static [Fault],
}

/// A fault of a database server.
#[derive(Debug)]
pub struct Fault {
    /// The name in the results.
    pub name: &'static str,
    /// Causes the fault and repairs it.
    pub steps: &'static [Step],
    /// Restores the standby, once the store works again.
    pub restore: &'static [Step],
}

/// A step of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Runs a command of the script.
    Run(&'static str),
    /// Waits, alternately shorter and longer than the default time limit of an operation.
    Pause,
    /// Changes the connections to all servers.
    Link(Link),
}

/// The main function of a failover program: `failover [--rounds N]`, by default one round.
///
/// The exit code is 1 if anything was lost, came back or was applied partially, and 3 if this machine can't
/// run a server.
pub fn main(database: &Database) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => run(database, 1),
        ["--rounds", rounds] => run(database, rounds.parse().expect("--rounds takes a number")),
        ["worker", number, source] => {
            let provider = (database.open)(source);
            worker::work(number.parse().expect("a number"), &provider)
        }
        _ => {
            eprintln!("usage: failover [--rounds N]");
            ExitCode::from(2)
        }
    }
}

/// Returns a record without values that this id opens.
fn record(id: &SessionId) -> Record {
    Record::new(holder(id), NOW, EXPIRES)
}

/// Returns the verifier of this id.
fn holder(id: &SessionId) -> Verifier {
    Verifier::digest(id, "")
}

fn run(database: &Database, rounds: usize) -> ExitCode {
    let cluster = match Cluster::start(database) {
        Ok(cluster) => cluster,
        Err(code) => return code,
    };
    let source = cluster.source_through_proxies();
    let probe = Probe::new((database.open)(&source));
    let workers: Vec<Worker> = (0..2).map(|number| Worker::start(number, &source)).collect();
    let began = Instant::now();
    let mut times: Vec<_> =
        database.faults.iter().map(|fault| (fault, Vec::new(), Vec::new())).collect();
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
            let Fault { name, restore, .. } = fault;
            eprintln!("round {} of {rounds}, {name}: back after {:?}", round + 1, back - broken);
            cluster.go_through(restore, pause);
        }
    }
    std::thread::sleep(CALM);
    let books: Vec<Ledger> = workers.into_iter().map(Worker::stop).collect();
    let lasted = began.elapsed();

    println!(
        "{:<34}{:>6}  back after the fault began      after it was repaired",
        "fault", "times"
    );
    for (fault, outages, recoveries) in &mut times {
        let (name, number) = (fault.name, outages.len());
        println!("{name:<34}{number:>6}  {}  {}", spread(outages), spread(recoveries));
    }
    verdict::pronounce(&books, &*(database.open)(&cluster.source()), lasted)
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
}

impl Probe {
    fn new(provider: Arc<dyn Provider>) -> Self {
        let id = SessionId::generate().expect("an id");
        block_on(provider.create(&id, record(&id), NOW)).expect("the store works at first");
        Self { provider, id }
    }

    /// Saves until a save is acknowledged. Returns the time of that.
    fn until_it_works(&self) -> Instant {
        let (token, holder) = (self.id.into(), holder(&self.id));
        let mut changes = Changes::new();
        changes.set("n", [1]);
        loop {
            match block_on(self.provider.save(&token, &holder, &changes, NOW)) {
                Ok(_) => return Instant::now(),
                Err(Error::Unavailable { .. } | Error::InDoubt { .. }) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("the probe's session is lost: {error}"),
            }
        }
    }
}
