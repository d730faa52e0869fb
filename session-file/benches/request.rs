//! What a counted request costs: the session is loaded, a number in it goes up, and it is saved.
//!
//! All variants run in one process, round by round in turn, so that whatever else the machine does
//! hits all alike. A figure is the median of the rounds; the ratios are what to look at.
//!
//! The plain way is what a store in files usually does: read the whole file and decode it, encode
//! all of it and write it over the old one, with nothing that keeps two requests apart. The plain
//! durable way writes a new file, fsyncs it, renames it and fsyncs the directory, one request after
//! another.
//!
//! The directory is made in the one for temporary files (`TMPDIR`), whose file system decides.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use futures_lite::future::block_on;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use session_core::{Manager, value};

#[path = "../tests/file/scratch.rs"]
mod scratch;

use scratch::Scratch;

const ROUNDS: usize = 15;
const CLIENTS: usize = 64;

/// One way of counting.
struct Variant {
    name: &'static str,
    /// Requests in a round: few where each waits for the disk.
    requests: usize,
    way: Way,
}

enum Way {
    Library(Manager, Vec<HeaderValue>),
    Plain { files: Vec<PathBuf>, durable: bool },
}

fn main() {
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
    let source = |sync: &str| format!("path={}&sync={sync}", directory(sync).display());
    let variants = [
        Variant { name: "memory", requests: 2000, way: Way::library("memory", "") },
        Variant { name: "sync=none", requests: 500, way: Way::library("file", &source("none")) },
        Variant { name: "plain", requests: 500, way: Way::plain(&directory("plain"), false) },
        Variant { name: "sync=full", requests: 100, way: Way::library("file", &source("full")) },
        Variant {
            name: "plain durable",
            requests: 100,
            way: Way::plain(&directory("durable"), true),
        },
    ];
    println!("a counted request in microseconds, median of {ROUNDS} rounds\n");
    println!("{:<15} {:>10} {:>16} {:>10}", "", "read only", "one client", "a visitor");
    let mut columns = [const { Vec::new() }; 3];
    let measures: [fn(&Variant) -> f64; 3] =
        [Variant::reading, Variant::one_client, |variant| variant.one_session(variant.requests)];
    // What the plain way leaves to be written would be waited for by the next fsync: the ones that
    // wait for the disk are measured apart.
    let (hasty, durable) = variants.split_at(3);
    for (measure, column) in measures.iter().zip(&mut columns) {
        *column = in_turn(hasty, measure);
        rustix::fs::sync();
        column.extend(in_turn(durable, measure));
    }
    for (at, variant) in variants.iter().enumerate() {
        println!(
            "{:<15} {:>10.1} {:>16.1} {:>10.1}",
            variant.name, columns[0][at], columns[1][at], columns[2][at]
        );
    }
    println!(
        "\n(one client: {CLIENTS} sessions in turn; a visitor: one session again and again)\n\
         plain against sync=none: {:.1}, and for one visitor {:.1}",
        columns[1][2] / columns[1][1],
        columns[2][2] / columns[2][1]
    );

    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .expect("the runtime starts");
    let many: Vec<&Variant> =
        variants.iter().filter(|variant| matches!(variant.way, Way::Library(..))).collect();
    let throughput = in_turn(&many, |variant| runtime.block_on(variant.many_clients()));
    println!("\n{CLIENTS} clients at once, a session each, microseconds for a request");
    for (variant, time) in many.iter().zip(&throughput) {
        println!("{:<15} {time:>10.1}", variant.name);
    }
    rustix::fs::sync();
    let ways: [&dyn Fn() -> f64; 3] =
        [&|| variants[3].one_client(), &|| variants[4].one_client(), &|| {
            runtime.block_on(variants[3].many_clients())
        }];
    let [alone, plain, together] = *in_turn(&ways, |way| way()) else { panic!("three ways") };
    println!(
        "\ndurable requests of {CLIENTS} clients at once, {together:.0} microseconds, against one \
         after another\n{:.1} times the throughput of the same store, {alone:.0} microseconds\n\
         {:.1} times that of the plain durable way, {plain:.0} microseconds",
        alone / together,
        plain / together,
    );
}

/// The medians of a measure of several variants, taken in turn.
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
        let start = Instant::now();
        for request in 0..self.requests {
            self.way.count(request % CLIENTS);
        }
        micros(start, self.requests)
    }

    fn one_session(&self, requests: usize) -> f64 {
        let start = Instant::now();
        for _ in 0..requests {
            self.way.count(0);
        }
        micros(start, requests)
    }

    fn reading(&self) -> f64 {
        let start = Instant::now();
        for request in 0..self.requests {
            self.way.read(request % CLIENTS);
        }
        micros(start, self.requests)
    }

    async fn many_clients(&self) -> f64 {
        let Way::Library(manager, cookies) = &self.way else { panic!("only for the library") };
        let each = self.requests.div_ceil(10);
        let start = Instant::now();
        let clients: Vec<_> = cookies
            .iter()
            .map(|cookie| {
                let (manager, cookie) = (manager.clone(), cookie.clone());
                tokio::spawn(async move {
                    for _ in 0..each {
                        count(&manager, &cookie).await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.expect("the client counts");
        }
        micros(start, each * CLIENTS)
    }
}

impl Way {
    fn library(provider: &str, source: &str) -> Self {
        let manager = Manager::open(provider, source).expect("opens");
        let cookies = (0..CLIENTS).map(|_| block_on(visitor(&manager))).collect();
        Self::Library(manager, cookies)
    }

    fn plain(directory: &Path, durable: bool) -> Self {
        let files: Vec<_> =
            (0..CLIENTS).map(|n| directory.join(format!("session_{n:043}"))).collect();
        for file in &files {
            let values = BTreeMap::from([("name", name_value()), ("count", number_value(0))]);
            fs::write(file, plain_encoded(&values)).expect("is written");
        }
        Self::Plain { files, durable }
    }

    fn count(&self, number: usize) {
        match self {
            Self::Library(manager, cookies) => block_on(count(manager, &cookies[number])),
            Self::Plain { files, durable } => {
                let read = fs::read(&files[number]).expect("is read");
                let mut values = plain_decoded(&read);
                let old = decoded_number(&values["count"]);
                values.insert("count", number_value(old + 1));
                let bytes = plain_encoded(&values);
                if *durable {
                    durably(&files[number], &bytes).expect("is written");
                } else {
                    fs::write(&files[number], bytes).expect("is written");
                }
            }
        }
    }

    fn read(&self, number: usize) {
        match self {
            Self::Library(manager, cookies) => block_on(read(manager, &cookies[number])),
            Self::Plain { files, .. } => {
                let read = fs::read(&files[number]).expect("is read");
                black_box(decoded_number(&plain_decoded(&read)["count"]));
            }
        }
    }
}

fn durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().expect("is in a directory"))?.sync_all()
}

fn name_value() -> Box<[u8]> {
    value::encode("name", "ada lovelace", &Default::default()).expect("is a value")
}

fn number_value(n: u64) -> Box<[u8]> {
    value::encode("count", &n, &Default::default()).expect("is a value")
}

fn decoded_number(bytes: &[u8]) -> u64 {
    value::decode("count", bytes, &Default::default()).expect("is a number")
}

fn plain_encoded(values: &BTreeMap<&str, Box<[u8]>>) -> Vec<u8> {
    rmp_serde::to_vec(values).expect("is encoded")
}

fn plain_decoded(bytes: &[u8]) -> BTreeMap<&str, Box<[u8]>> {
    rmp_serde::from_slice(bytes).expect("is decoded")
}

fn request(cookie: &HeaderValue) -> Request<()> {
    let mut request = Request::new(());
    request.headers_mut().insert(COOKIE, cookie.clone());
    request
}

/// The cookie of a new visitor.
async fn visitor(manager: &Manager) -> HeaderValue {
    let request = Request::new(());
    let handle = manager.start(&request);
    let session = handle.load().await.expect("starts");
    session.set("name", &"ada lovelace").expect("is set");
    session.set("count", &0u64).expect("is set");
    let mut response = Response::new(());
    handle.finish(&mut response).await.expect("is stored");
    let set = response.headers()[SET_COOKIE].to_str().expect("is text");
    set.split(';').next().expect("has a pair").parse().expect("is a header value")
}

async fn count(manager: &Manager, cookie: &HeaderValue) {
    let request = request(cookie);
    let handle = manager.start(&request);
    let session = handle.load().await.expect("loads");
    let count: u64 = session.get("count").expect("is a number").expect("is there");
    session.set("count", &(count + 1)).expect("is set");
    let mut response = Response::new(());
    handle.finish(&mut response).await.expect("is stored");
    black_box(response);
}

async fn read(manager: &Manager, cookie: &HeaderValue) {
    let request = request(cookie);
    let handle = manager.start(&request);
    let session = handle.load().await.expect("loads");
    black_box(session.get::<u64>("count").expect("is a number").expect("is there"));
    let mut response = Response::new(());
    handle.finish(&mut response).await.expect("has nothing to do");
    black_box(response);
}
