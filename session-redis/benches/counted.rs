//! A load and a save that changes one value, beside the plain way: GET and SET of the whole record.
//!
//! Both use the same client, the same server and the same bytes for a record, in the same run and round by
//! round in turn, each by one connection. The plain way merges nothing, checks nothing and revives what has
//! ended. A figure is the median of the rounds. `SESSION_REDIS_URL` names the server, which must be a single
//! one; otherwise `scripts/redis-server` starts one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use session_core::provider::{
    Changes, ExpiryChange, Provider, Record, Token, Touch, Values, Verifier,
};
use session_core::{SessionId, Timestamp};
use session_redis::{RedisConfig, RedisProvider};
use tokio::runtime::Runtime;

const ROUNDS: usize = 15;
/// How long one figure is measured.
const ROUND: Duration = Duration::from_millis(300);
const HOUR: Duration = Duration::from_secs(3600);
const HOLDER: Verifier = Verifier::from_bytes([7; 32]);

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // asked by tools that look for tests
    }
    let server = Server::find();
    let runtime = Runtime::new().expect("a runtime starts");
    let prefix = format!("bench_{}:", std::process::id());
    let separator = if server.url.contains('?') { '&' } else { '?' };
    let source = format!("{}{separator}prefix={prefix}", server.url);
    let config = RedisConfig::parse(&source).expect("the source is right");
    let ours = Ours(Arc::new(RedisProvider::new(config).expect("it opens")));
    let client = redis::Client::open(server.url.as_str()).expect("the URL is right");
    let connection = runtime.block_on(client.get_multiplexed_async_connection());
    let plain = Plain { connection: connection.expect("the server is there"), prefix };

    println!(
        "{:>7} {:>4} {:>6}  {:>9} {:>9} {:>6}  {:>10} {:>10}  {:>7} {:>7}  {:>9} {:>9}",
        "clients",
        "keys",
        "value",
        "ours us",
        "plain us",
        "ratio",
        "ours wire",
        "plain wire",
        "memory",
        "plain",
        "script us",
        "SET us"
    );
    for (keys, length) in [(1, 1), (50, 1), (50, 40), (1000, 40)] {
        for clients in [1, 64] {
            compare(&runtime, &ours, &plain, clients, keys, length);
        }
    }
}

/// A way to load a session and save one value.
trait Way: Clone + Send + Sync + 'static {
    fn create(&self, id: &SessionId, record: Record) -> impl Future<Output = ()> + Send;
    fn count(&self, id: &SessionId) -> impl Future<Output = ()> + Send;
    fn name(&self, id: &SessionId) -> String;
}

fn now() -> Timestamp {
    std::time::SystemTime::now().into()
}

/// The changes that a request makes.
fn changes(record: &Record) -> Changes {
    let count = record.values.get("key0").expect("it is there")[0];
    let mut changes = Changes::new();
    changes.set("key0", [(count + 1) % 128]);
    changes
}

#[derive(Clone)]
struct Ours(Arc<RedisProvider>);

impl Way for Ours {
    async fn create(&self, id: &SessionId, record: Record) {
        self.0.create(id, record, now()).await.expect("it is stored");
    }

    async fn count(&self, id: &SessionId) {
        let (token, now) = (Token::from(*id), now());
        let record = self.0.load(&token, now).await.expect("it works").expect("it is live");
        let touch = Touch { used: now, expires: now.saturating_add(HOUR) };
        let changes = changes(&record).with_expiry(ExpiryChange::Extend(touch));
        self.0.save(&token, &record.holder, &changes, now).await.expect("it is saved");
    }

    fn name(&self, id: &SessionId) -> String {
        format!("{}{{{}}}", self.0.config().prefix, id.key())
    }
}

#[derive(Clone)]
struct Plain {
    connection: MultiplexedConnection,
    prefix: String,
}

impl Plain {
    async fn set(&self, id: &SessionId, record: &Record) {
        let mut command = redis::cmd("SET");
        command.arg(self.name(id)).arg(record.to_bytes()).arg("PX").arg(3_600_000);
        command.query_async::<()>(&mut self.connection.clone()).await.expect("it is stored");
    }
}

impl Way for Plain {
    async fn create(&self, id: &SessionId, record: Record) {
        self.set(id, &record).await;
    }

    async fn count(&self, id: &SessionId) {
        let mut command = redis::cmd("GET");
        command.arg(self.name(id));
        let bytes = command.query_async::<Vec<u8>>(&mut self.connection.clone()).await;
        let mut record = Record::from_bytes(&bytes.expect("it is there")).expect("it is one");
        let now = now();
        let touch = Touch { used: now, expires: now.saturating_add(HOUR) };
        let changes = changes(&record).with_expiry(ExpiryChange::Extend(touch));
        record.apply(&HOLDER, &changes, now).expect("it fits");
        self.set(id, &record).await;
    }

    fn name(&self, id: &SessionId) -> String {
        format!("{}p{}", self.prefix, id.key())
    }
}

fn compare(
    runtime: &Runtime,
    ours: &Ours,
    plain: &Plain,
    clients: usize,
    keys: usize,
    length: usize,
) {
    let values = || -> Values {
        // MessagePack's binaries of this length, or a small number.
        let value = |n: usize| match (n, length) {
            (0, _) | (_, 1) => vec![1],
            (_, length) => [&[0xc4, length as u8][..], &vec![7; length]].concat(),
        };
        (0..keys).map(|n| (format!("key{n}"), value(n))).collect()
    };
    let ids: Vec<SessionId> =
        (0..clients).map(|_| SessionId::generate().expect("there is chance")).collect();
    runtime.block_on(async {
        for id in &ids {
            let now = now();
            let record =
                Record { values: values(), ..Record::new(HOLDER, now, now.saturating_add(HOUR)) };
            ours.create(id, record.clone()).await;
            plain.create(id, record).await;
        }
    });
    let (mut our_times, mut plain_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        our_times.push(time(runtime, ours, &ids));
        plain_times.push(time(runtime, plain, &ids));
    }
    let (our_time, plain_time) = (median(our_times), median(plain_times));
    println!(
        "{clients:>7} {keys:>4} {length:>6}  {our_time:>9.1} {plain_time:>9.1} {:>6.2}  {:>10} {:>10}  {:>7} {:>7}  {:>9.1} {:>9.1}",
        our_time / plain_time,
        runtime.block_on(wire(ours, &ids[0], plain)),
        runtime.block_on(wire(plain, &ids[0], plain)),
        runtime.block_on(memory(plain, &ours.name(&ids[0]))),
        runtime.block_on(memory(plain, &plain.name(&ids[0]))),
        runtime.block_on(server_time(ours, &ids[0], plain, "evalsha")),
        runtime.block_on(server_time(plain, &ids[0], plain, "set")),
    );
    runtime.block_on(async {
        for name in ids.iter().flat_map(|id| [ours.name(id), plain.name(id)]) {
            let mut command = redis::cmd("DEL");
            command
                .arg(name)
                .query_async::<()>(&mut plain.connection.clone())
                .await
                .expect("it goes");
        }
    });
}

/// Microseconds for each load and save, while as many clients as there are ids do one after the other.
fn time<W: Way>(runtime: &Runtime, way: &W, ids: &[SessionId]) -> f64 {
    let began = Instant::now();
    let tasks: Vec<_> = ids
        .iter()
        .map(|id| {
            let (way, id) = (way.clone(), *id);
            runtime.spawn(async move {
                let mut done = 0_u32;
                while began.elapsed() < ROUND {
                    way.count(&id).await;
                    done += 1;
                }
                done
            })
        })
        .collect();
    let done: u32 = runtime.block_on(async {
        let mut done = 0;
        for task in tasks {
            done += task.await.expect("no task panics");
        }
        done
    });
    began.elapsed().as_secs_f64() * 1e6 / f64::from(done)
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Bytes to and from the server for a load and a save.
async fn wire<W: Way>(way: &W, id: &SessionId, plain: &Plain) -> u64 {
    const TIMES: u64 = 200;
    let total = async || {
        let mut command = redis::cmd("INFO");
        let info = command.arg("stats").query_async::<String>(&mut plain.connection.clone()).await;
        let info = info.expect("the server tells");
        let field = |name| {
            let mut lines = info.lines();
            let field =
                lines.find_map(|line: &str| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
            field.and_then(|bytes| bytes.parse::<u64>().ok()).expect("there is such a number")
        };
        field("total_net_input_bytes") + field("total_net_output_bytes")
    };
    let before = total().await;
    let asking = total().await - before;
    let before = total().await;
    for _ in 0..TIMES {
        way.count(id).await;
    }
    (total().await - before).saturating_sub(asking) / TIMES
}

/// Microseconds of the server for one of these commands, as a load and a save send it.
async fn server_time<W: Way>(way: &W, id: &SessionId, plain: &Plain, name: &str) -> f64 {
    let mut connection = plain.connection.clone();
    let mut reset = redis::cmd("CONFIG");
    reset.arg("RESETSTAT").query_async::<()>(&mut connection).await.expect("the server does so");
    for _ in 0..200 {
        way.count(id).await;
    }
    let mut command = redis::cmd("INFO");
    let info = command.arg("commandstats").query_async::<String>(&mut connection).await;
    let info = info.expect("the server tells");
    let prefix = format!("cmdstat_{name}:");
    let line = info.lines().find(|line| line.starts_with(&prefix)).expect("it was sent");
    let mean = line.split(',').find_map(|field| field.strip_prefix("usec_per_call="));
    mean.and_then(|mean| mean.parse().ok()).expect("there is such a number")
}

async fn memory(plain: &Plain, name: &str) -> u64 {
    let mut command = redis::cmd("MEMORY");
    command.arg("USAGE").arg(name);
    command.query_async(&mut plain.connection.clone()).await.expect("the key is there")
}

/// The server, ended with the program if it was started by it.
struct Server {
    url: String,
    started: Option<String>,
}

impl Server {
    fn find() -> Self {
        if let Ok(url) = std::env::var("SESSION_REDIS_URL") {
            return Self { url, started: None };
        }
        let name = format!("bench-{}", std::process::id());
        let output = Self::script("start", &name).stderr(Stdio::inherit()).output();
        let output = output.expect("the script runs");
        assert!(output.status.success(), "scripts/redis-server could not start a server");
        let url = String::from_utf8(output.stdout).expect("a URL is text").trim().to_owned();
        Self { url, started: Some(name) }
    }

    fn script(command: &str, name: &str) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/redis-server");
        let mut process = Command::new(script);
        process.args([command, "--name", name]);
        process
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(name) = &self.started {
            let stopped = Self::script("stop", name).status();
            assert!(stopped.is_ok_and(|status| status.success()), "the server stays behind");
        }
    }
}
