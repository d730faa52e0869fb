//! Breaks a database under load repeatedly, and counts what was lost.
//!
//! ```sh
//! cargo run --release -p session-mongo --example failover               # short
//! cargo run --release -p session-mongo --example failover -- --rounds 30
//! ```
//!
//! `scripts/mongo-server` sets up a primary and a synchronous standby behind FerretDB (the front). Two
//! processes save, update, log in, regenerate ids and log out through a proxy. Meanwhile each round
//! kills the primary and promotes the standby, freezes the primary and fences it, kills the front,
//! freezes it, and disconnects the clients in two ways. In the end everything that was acknowledged is
//! looked up. The exit code is 1 if anything was lost, came back or was applied partially, and 3 if this
//! machine can't run a server.

mod cluster;
mod ledger;
#[path = "../../tests/mongo/proxy.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod proxy;
mod verdict;
mod worker;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use session_core::provider::{Changes, Provider, Record, Verifier};
use session_core::{Error, SessionId, Timestamp};
use session_mongo::{MongoConfig, MongoProvider};

use cluster::Cluster;
use proxy::{Link, Pose, Proxy};
use worker::Worker;

/// A time at which all sessions are live.
pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
pub(crate) const EXPIRES: Timestamp = Timestamp::from_millis(1_900_000_000_000);

/// How long the load runs between two faults.
const CALM: Duration = Duration::from_millis(300);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        [] => run(1),
        ["--rounds", rounds] => run(rounds.parse().expect("--rounds takes a number")),
        ["worker", number, source] => worker::work(number.parse().expect("a number"), source),
        _ => {
            eprintln!("usage: failover [--rounds N]");
            ExitCode::from(2)
        }
    }
}

/// Returns a record without values that this id opens.
pub(crate) fn record(id: &SessionId) -> Record {
    Record::new(holder(id), NOW, EXPIRES)
}

/// Returns the verifier of this id.
pub(crate) fn holder(id: &SessionId) -> Verifier {
    Verifier::digest(id, "")
}

/// A fault of the store.
#[derive(Clone, Copy, Debug)]
enum Fault {
    KillPrimary,
    FreezeAndFencePrimary,
    KillFront,
    FreezeFront,
    CutOff,
    Blackhole,
}

const FAULTS: [Fault; 6] = [
    Fault::KillPrimary,
    Fault::FreezeAndFencePrimary,
    Fault::KillFront,
    Fault::FreezeFront,
    Fault::CutOff,
    Fault::Blackhole,
];

impl Fault {
    /// Causes the fault and repairs it. Returns the time of the repair.
    fn happen(self, cluster: &Cluster, proxy: &Proxy, round: usize) -> Instant {
        // Alternately shorter and longer than the time limit of an operation.
        let pause = Duration::from_millis(if round.is_multiple_of(2) { 700 } else { 3500 });
        match self {
            Self::KillPrimary => {
                cluster.run("kill-primary");
                cluster.run("promote");
            }
            Self::FreezeAndFencePrimary => {
                cluster.run("freeze-primary");
                std::thread::sleep(pause);
                cluster.run("promote");
                cluster.run("fence-primary");
            }
            Self::KillFront => {
                cluster.run("kill-front");
                cluster.run("start-front");
            }
            Self::FreezeFront => {
                cluster.run("freeze-front");
                std::thread::sleep(pause);
                cluster.run("thaw-front");
            }
            Self::CutOff => {
                proxy.set_link(Link::Closed);
                std::thread::sleep(pause);
                proxy.set_link(Link::Open);
            }
            Self::Blackhole => {
                proxy.set_link(Link::Silent);
                std::thread::sleep(pause);
                proxy.set_link(Link::Open);
            }
        }
        Instant::now()
    }

    fn needs_rejoin(self) -> bool {
        matches!(self, Self::KillPrimary | Self::FreezeAndFencePrimary)
    }
}

fn run(rounds: usize) -> ExitCode {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(code) => return code,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let proxy = runtime.block_on(Proxy::start(&cluster.address(), Pose::Itself));
    let proxy = proxy.expect("a proxy starts");
    let source = format!("mongodb://{}/?directConnection=true&maxPoolSize=32", proxy.address);
    let probe = Probe::new(&source);
    probe.first();

    let workers: Vec<Worker> = (0..2).map(|number| Worker::start(number, &source)).collect();
    let began = Instant::now();
    let mut times: Vec<(Fault, Vec<Duration>, Vec<Duration>)> =
        FAULTS.iter().map(|fault| (*fault, Vec::new(), Vec::new())).collect();
    for round in 0..rounds {
        for (fault, outages, recoveries) in &mut times {
            std::thread::sleep(CALM);
            let broken = Instant::now();
            let repaired = fault.happen(&cluster, &proxy, round);
            let back = probe.until_it_works();
            outages.push(back - broken);
            recoveries.push(back - repaired);
            eprintln!("round {} of {rounds}, {fault:?}: back after {:?}", round + 1, back - broken);
            if fault.needs_rejoin() {
                cluster.run("rejoin");
            }
        }
    }
    std::thread::sleep(CALM);
    let books: Vec<ledger::Ledger> = workers.into_iter().map(Worker::stop).collect();
    let lasted = began.elapsed();

    println!(
        "{:<24}{:>6}  back after the fault began      after it was repaired",
        "fault", "times"
    );
    for (fault, outages, recoveries) in &mut times {
        println!(
            "{:<24}{:>6}  {}  {}",
            format!("{fault:?}"),
            outages.len(),
            spread(outages),
            spread(recoveries)
        );
    }
    let direct = Probe::new(&cluster.uri());
    verdict::pronounce(&books, &direct, lasted)
}

/// Returns the shortest, median and longest of the times.
fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let show = |time: Option<&Duration>| time.copied().unwrap_or_default().as_millis();
    let (first, middle, last) = (times.first(), times.get(times.len() / 2), times.last());
    format!("{:>6} {:>6} {:>6} ms", show(first), show(middle), show(last))
}

/// A session for checking whether the store works.
pub(crate) struct Probe {
    pub(crate) provider: MongoProvider,
    id: SessionId,
}

impl Probe {
    fn new(source: &str) -> Self {
        let config = MongoConfig::parse(source).expect("the source is right");
        let provider = MongoProvider::new(config).expect("a provider opens");
        Self { provider, id: SessionId::generate().expect("an id") }
    }

    fn first(&self) {
        let created = self.provider.create(&self.id, record(&self.id), NOW);
        futures_lite::future::block_on(created).expect("the store works at first");
    }

    /// Saves until a save is acknowledged. Returns the time of that.
    fn until_it_works(&self) -> Instant {
        let (token, holder) = (self.id.into(), holder(&self.id));
        let mut changes = Changes::new();
        changes.set("n", [1]);
        loop {
            match futures_lite::future::block_on(self.provider.save(&token, &holder, &changes, NOW))
            {
                Ok(_) => return Instant::now(),
                Err(Error::Unavailable { .. } | Error::InDoubt { .. }) => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => panic!("the probe's session is lost: {error}"),
            }
        }
    }
}
