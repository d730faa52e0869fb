//! The variants, and the rounds in which they take turns.

use std::fs;
use std::thread;
use std::time::Instant;

use session_core::Manager;

use crate::scratch::Scratch;
use crate::ways::{self, Way};

const ROUNDS: usize = 15;
pub(crate) const CLIENTS: usize = 64;

/// A variant with its requests.
struct Variant {
    name: &'static str,
    /// The number of requests in a round: few if each waits for the disk.
    requests: usize,
    way: Way,
}

pub(crate) fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // asked by tools that look for tests
    }
    session_file::init();
    session_memory::init();
    let scratch = Scratch::new();
    let directory = |name: &str| {
        let path = scratch.path().join(name);
        fs::create_dir(&path).expect("is new");
        path
    };
    let file = |sync: &str| {
        let source = format!("path={}&sync={sync}", directory(sync).display());
        Way::library("file", &source)
    };
    let variant = |name, requests, way| Variant { name, requests, way };
    // An fsync would also wait for the unwritten data of the variants that don't sync, so the durable
    // variants are measured separately.
    let hasty = [
        variant("memory", 2000, Way::library("memory", "")),
        variant("sync=none", 500, file("none")),
        variant("plain", 500, Way::plain(&directory("plain"), false)),
        variant("system calls", 500, Way::bare(&directory("bare"), false)),
    ];
    let durable = [
        variant("sync=full", 100, file("full")),
        variant("plain durable", 100, Way::plain(&directory("plain durable"), true)),
        variant("  system calls", 100, Way::bare(&directory("bare durable"), true)),
    ];

    println!("a counted request in microseconds, median of {ROUNDS} rounds\n");
    println!("{:<15} {:>10} {:>16} {:>10}", "", "read only", "one client", "a visitor");
    one_after_another(&hasty);
    rustix::fs::sync();
    one_after_another(&durable);
    println!("\n(one client: {CLIENTS} sessions in turn; a visitor: one session again and again)");

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("the runtime starts");
    let [memory, none, ..] = &hasty;
    let [full, plain, bare] = &durable;
    println!("\n{CLIENTS} clients at once, a session each, microseconds for a request");
    let many = [memory, none, full];
    for (variant, time) in many.iter().zip(in_turn(&many, |many| many.many_clients(&runtime))) {
        println!("{:<15} {time:>10.1}", variant.name);
    }
    rustix::fs::sync();
    let ways: [&dyn Fn() -> f64; 4] =
        [&|| full.one_client(), &|| plain.one_client(), &|| bare.many_threads(), &|| {
            full.many_clients(&runtime)
        }];
    let [alone, plain, floor, together] = *in_turn(&ways, |way| way()) else { panic!("four ways") };
    println!(
        "\ndurable requests of {CLIENTS} clients at once, {together:.0} microseconds; the system \
         calls alone, {floor:.0}\nagainst one after another\n\
         {:.1} times the throughput of the same store, {alone:.0} microseconds\n\
         {:.1} times that of the plain durable way, {plain:.0} microseconds",
        alone / together,
        plain / together,
    );
}

/// Prints the times of sequential requests.
fn one_after_another(variants: &[Variant]) {
    let measures: [fn(&Variant) -> f64; 3] =
        [Variant::reading, Variant::one_client, Variant::one_session];
    let columns = measures.map(|measure| in_turn(variants, measure));
    for (at, Variant { name, .. }) in variants.iter().enumerate() {
        let [read, client, visitor] = columns.each_ref().map(|column| column[at]);
        println!("{name:<15} {read:>10.1} {client:>16.1} {visitor:>10.1}");
    }
}

/// Returns the medians of a measure for several variants, which take turns.
fn in_turn<V>(variants: &[V], measure: impl Fn(&V) -> f64) -> Vec<f64> {
    let mut times = vec![Vec::new(); variants.len()];
    for _ in 0..ROUNDS {
        for (variant, times) in variants.iter().zip(&mut times) {
            times.push(measure(variant));
        }
    }
    times.into_iter().map(median).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn micros(start: Instant, requests: usize) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / requests as f64
}

impl Variant {
    fn one_client(&self) -> f64 {
        self.each(|request| self.way.count(request % CLIENTS))
    }

    fn one_session(&self) -> f64 {
        self.each(|_| self.way.count(0))
    }

    fn reading(&self) -> f64 {
        self.each(|request| self.way.read(request % CLIENTS))
    }

    fn each(&self, request: impl Fn(usize)) -> f64 {
        let start = Instant::now();
        (0..self.requests).for_each(request);
        micros(start, self.requests)
    }

    /// Returns the number of requests of one of many clients. It is large enough that the end of a
    /// round, when some clients have finished, matters little.
    fn share(&self) -> usize {
        self.requests / 2
    }

    fn many_clients(&self, runtime: &tokio::runtime::Runtime) -> f64 {
        let Way::Library(manager, cookies) = &self.way else { panic!("only for the library") };
        let share = self.share();
        let count = |manager: Manager, cookie| async move {
            for _ in 0..share {
                ways::count(&manager, &cookie).await;
            }
        };
        let start = Instant::now();
        let clients: Vec<_> = cookies
            .iter()
            .map(|cookie| runtime.spawn(count(manager.clone(), cookie.clone())))
            .collect();
        for client in clients {
            runtime.block_on(client).expect("the client counts");
        }
        micros(start, share * CLIENTS)
    }

    fn many_threads(&self) -> f64 {
        let start = Instant::now();
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || (0..self.share()).for_each(|_| self.way.count(client)));
            }
        });
        micros(start, self.share() * CLIENTS)
    }
}
