//! Measures loading a session and saving one of its values: PostgreSQL beside tower-sessions' store on the same
//! server, and SQLite beside files.
//!
//! All variants take turns round by round, so that other load on the machine affects all of them alike. A
//! figure is the median of the rounds, in operations (a load and a save) per second. The ratios matter more
//! than the absolute figures.
//!
//! `published` is `tower-sessions-sqlx-store` as its documentation shows it, whose pool tests each connection
//! before each use; `untested` is the same without that. Both upsert the whole session as one value, without
//! a condition. `SESSION_POSTGRES_URI` names the server; without it, `scripts/postgres-server` starts one. No
//! variant waits for the disk.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use session_core::provider::{Changes, Provider, Record, Token, Verifier};
use session_core::{SessionId, Timestamp};
use session_file::{FileConfig, FileProvider};
use session_sql::postgres::{PostgresConfig, PostgresProvider};
use session_sql::sqlite::{self, SqliteConfig, SqliteProvider};
use tokio::runtime::Runtime;
use tower_sessions_core::SessionStore as _;
use tower_sessions_core::session::{Id, Record as PeerRecord};
use tower_sessions_sqlx_store::PostgresStore;
use tower_sessions_sqlx_store::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tower_sessions_sqlx_store::sqlx::{self, ConnectOptions as _, Executor as _};

const ROUNDS: usize = 9;
/// How long one figure is measured.
const ROUND: Duration = Duration::from_millis(700);
/// The number of connections of each.
const POOL: u32 = 16;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // asked by tools that look for tests
    }
    let runtime = Runtime::new().expect("a runtime starts");
    let server = Server::find();
    let name = format!("bench_{}", std::process::id());
    let options = format!("table={name}&max_connections={POOL}&set=synchronous_commit:off");
    let separator = if server.uri.contains('?') { "&" } else { "?" };
    let config = PostgresConfig::parse(&format!("{}{separator}{options}", server.uri));
    let ours = PostgresProvider::new(config.expect("the source is right"));
    let sites = [
        Site::Ours(Arc::new(ours.expect("a provider opens"))),
        Site::Peer(runtime.block_on(peer(&server.uri, &name, true))),
        Site::Peer(runtime.block_on(peer(&server.uri, &name, false))),
    ];
    compare(&runtime, ["postgres", "published", "untested"], &sites);
    drop(sites);
    runtime.block_on(drop_tables(&server.uri, &name));

    let folders = ["files", "database"].map(Folder::new);
    let file = FileConfig::new(&folders[0].0).with_sync(session_file::Durability::None);
    let database = SqliteConfig::new(folders[1].0.join("db")).with_sync(sqlite::Durability::None);
    let sites = [
        Site::Ours(Arc::new(SqliteProvider::open(database).expect("the database opens"))),
        Site::Ours(Arc::new(FileProvider::open(file).expect("the store opens"))),
    ];
    compare(&runtime, ["sqlite", "file"], &sites);
}

/// A store under measurement.
#[derive(Clone)]
enum Site {
    Ours(Arc<dyn Provider>),
    Peer(PostgresStore),
}

/// A session.
#[derive(Clone, Copy)]
enum Visitor {
    Ours(SessionId),
    Peer(Id),
}

impl Site {
    /// Creates a session with this many keys.
    async fn visitor(&self, keys: usize) -> Visitor {
        let names = (0..keys).map(|key| format!("key{key}"));
        match self {
            Self::Ours(provider) => {
                let id = SessionId::generate().expect("an id");
                let mut record = Record::new(Verifier::digest(&id, ""), now(), later());
                record.values = names.map(|name| (name, *b"\xactwelve bytes")).collect();
                provider.create(&id, record, now()).await.expect("it is stored");
                Visitor::Ours(id)
            }
            Self::Peer(store) => {
                let data = names.map(|name| (name, "twelve bytes".into())).collect();
                let expiry_date = time::OffsetDateTime::now_utc() + time::Duration::hours(1);
                let mut record = PeerRecord { id: Id::default(), data, expiry_date };
                store.create(&mut record).await.expect("it is stored");
                Visitor::Peer(record.id)
            }
        }
    }

    /// Loads a session and saves one of its values.
    async fn load_and_save(&self, visitor: Visitor, count: u32) {
        match (self, visitor) {
            (Self::Ours(provider), Visitor::Ours(id)) => {
                let token = Token::from(id);
                let found = provider.load(&token, now()).await.expect("the store works");
                let holder = found.expect("the session is there").holder;
                let mut changes = Changes::new();
                // As MessagePack, a number of four bytes.
                changes.set("key0", [&[0xce][..], &count.to_be_bytes()].concat());
                provider.save(&token, &holder, &changes, now()).await.expect("it is saved");
            }
            (Self::Peer(store), Visitor::Peer(id)) => {
                let found = store.load(&id).await.expect("the store works");
                let mut record = found.expect("the session is there");
                record.data.insert("key0".into(), count.into());
                store.save(&record).await.expect("it is saved");
            }
            _ => unreachable!("visitors stay at their site"),
        }
    }
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("it is after 1970");
    Timestamp::from_millis(now.as_millis().try_into().expect("it is in range"))
}

fn later() -> Timestamp {
    now().saturating_add(Duration::from_secs(3600))
}

/// Prints how many operations per second each site performs, and how many times as many the first one performs
/// as each of the others.
fn compare<const SITES: usize>(runtime: &Runtime, names: [&str; SITES], sites: &[Site; SITES]) {
    print!("{:>8} {:>5} ", "visitors", "keys");
    names.iter().for_each(|name| print!(" {name:>10}"));
    names[1..].iter().for_each(|name| print!(" {:>10}", format!("/{name}")));
    println!();
    for visitors in [1, 64] {
        for keys in [1, 50] {
            let all = async |site: &Site| {
                let mut all = Vec::new();
                for _ in 0..visitors {
                    all.push(site.visitor(keys).await);
                }
                all
            };
            let ready = sites.each_ref().map(|site| runtime.block_on(all(site)));
            let mut rates = [const { Vec::new() }; SITES];
            for _ in 0..ROUNDS {
                for ((site, visitors), rates) in sites.iter().zip(&ready).zip(&mut rates) {
                    rates.push(rate(runtime, site, visitors));
                }
            }
            let rates = rates.map(median);
            print!("{visitors:>8} {keys:>5} ");
            rates.iter().for_each(|rate| print!(" {rate:>10.0}"));
            rates[1..].iter().for_each(|rate| print!(" {:>10.2}", rates[0] / rate));
            println!();
        }
    }
}

/// Returns the operations per second of visitors who each start one after the other.
fn rate(runtime: &Runtime, site: &Site, visitors: &[Visitor]) -> f64 {
    let began = Instant::now();
    let tasks: Vec<_> = visitors
        .iter()
        .map(|visitor| {
            let (site, visitor) = (site.clone(), *visitor);
            runtime.spawn(async move {
                let mut count = 0;
                while began.elapsed() < ROUND {
                    site.load_and_save(visitor, count).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let total: u32 = tasks.into_iter().map(|task| runtime.block_on(task).expect("succeeds")).sum();
    f64::from(total) / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Opens the peer's store, with or without its pool's test of connections.
async fn peer(uri: &str, name: &str, tested: bool) -> PostgresStore {
    let options: PgConnectOptions = uri.parse().expect("the URI is right");
    let pool = PgPoolOptions::new().max_connections(POOL).test_before_acquire(tested);
    let pool = pool.connect_with(options.options([("synchronous_commit", "off")])).await;
    let store = PostgresStore::new(pool.expect("the server is there"));
    let store = store.with_schema_name(name).expect("the name is right");
    let store = store.with_table_name(if tested { "published" } else { "untested" });
    let store = store.expect("the name is right");
    store.migrate().await.expect("the table is made");
    store
}

async fn drop_tables(uri: &str, name: &str) {
    let options: PgConnectOptions = uri.parse().expect("the URI is right");
    let mut connection = options.connect().await.expect("the server is there");
    for text in
        [format!("DROP TABLE {name}, {name}_version"), format!("DROP SCHEMA {name} CASCADE")]
    {
        connection.execute(sqlx::query(&text)).await.expect("the statement is right");
    }
}

/// A new folder, removed with its content when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder =
            Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).expect("the folder is new");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The server. It is stopped when dropped if it was started here.
struct Server {
    uri: String,
    started: bool,
}

impl Server {
    fn find() -> Self {
        if let Ok(uri) = std::env::var("SESSION_POSTGRES_URI") {
            return Self { uri, started: false };
        }
        let output = script("start").stderr(Stdio::inherit()).output();
        let output = output.expect("scripts/postgres-server is there");
        assert!(output.status.success(), "set SESSION_POSTGRES_URI to the URI of a server");
        let uri = String::from_utf8(output.stdout).expect("a URI").trim().to_owned();
        Self { uri, started: true }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.started {
            let _ = script("stop").status();
        }
    }
}

fn script(what: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/postgres-server");
    let mut command = Command::new(path);
    command.args([what, "--name", &format!("bench-{}", std::process::id())]).stdin(Stdio::null());
    command
}
