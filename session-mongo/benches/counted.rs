//! Measures counting requests per second against one server, beside the way of tower-sessions' MongoDB
//! store, which serializes the whole record into one field and upserts it.
//!
//! Both use the same driver, server and number of connections, in the same run, taking turns round by
//! round. `peer` is as published; `alike` also has an index on the expiry, as this library does: on a
//! server over PostgreSQL an update writes all indexes anew, while MongoDB leaves an index alone if its
//! key doesn't change. (`tower-sessions-mongodb-store` is made for the driver's version 2 and
//! tower-sessions 0.11; this is its code with the versions used here.) A figure is the median of the
//! rounds. `SESSION_MONGO_URI` names the server; without it, `scripts/mongo-server` starts one.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, DateTime, Document, doc};
use mongodb::event::EventHandler;
use mongodb::event::command::CommandEvent;
use mongodb::options::{ClientOptions, IndexOptions};
use mongodb::{Client, Collection, IndexModel};
use session_core::Manager;
use session_mongo::{MongoConfig, MongoProvider, mongodb};
use tokio::runtime::Runtime;
use tower_sessions::Session;
use tower_sessions::session::{Id, Record};
use tower_sessions::session_store::{self, SessionStore};

const ROUNDS: usize = 9;
/// How long one figure is measured.
const ROUND: Duration = Duration::from_millis(700);
/// The number of connections of each.
const POOL: u32 = 64;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // asked by tools that look for tests
    }
    let server = Server::find();
    let runtime = Runtime::new().expect("a runtime starts");
    // If the benchmark is interrupted, the collections stay; their documents expire.
    let names =
        ["ours", "peer", "alike"].map(|name| format!("bench_{name}_{}", std::process::id()));
    let _inside = runtime.enter();
    let ours = Ours::new(&server.uri, &names[0]);
    let peer = runtime.block_on(Peer::new(&server.uri, &names[1]));
    let alike = runtime.block_on(Peer::new(&server.uri, &names[2]));
    runtime.block_on(alike.index());

    println!("counted requests per second (median of {ROUNDS} rounds), and bytes of an update\n");
    println!(
        "{:>8} {:>6}  {:>7} {:>7} {:>7}  {:>7} {:>7}  {:>10} {:>10}",
        "visitors",
        "others",
        "ours",
        "peer",
        "alike",
        "/peer",
        "/alike",
        "ours bytes",
        "peer bytes"
    );
    for visitors in [1, 64] {
        for others in [0, 1, 10, 50] {
            compare(&runtime, &ours, [&peer, &alike], visitors, others);
        }
    }
    runtime.block_on(async {
        let database = peer.store.collection.client().database("sessions");
        for name in names {
            database.collection::<Document>(&name).drop().await.expect("it is dropped");
        }
    });
}

/// A variant of serving a counting request.
trait Site: Clone + Send + Sync + 'static {
    type Visitor: Clone + Send + Sync + 'static;

    /// Makes a visitor whose session has this many keys beside the counter.
    fn visitor(&self, others: usize) -> impl Future<Output = Self::Visitor> + Send;

    /// Serves one request, which adds one to the counter.
    fn count(&self, visitor: &Self::Visitor) -> impl Future<Output = ()> + Send;
}

fn compare(runtime: &Runtime, ours: &Ours, peers: [&Peer; 2], visitors: usize, others: usize) {
    let our_visitors = runtime.block_on(all(ours, visitors, others));
    let peer_visitors = peers.map(|peer| runtime.block_on(all(peer, visitors, others)));
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        rates[0].push(rate(runtime, ours, &our_visitors));
        rates[1].push(rate(runtime, peers[0], &peer_visitors[0]));
        rates[2].push(rate(runtime, peers[1], &peer_visitors[1]));
    }
    let [ours_rate, peer_rate, alike_rate] = rates.map(median);
    println!(
        "{visitors:>8} {others:>6}  {ours_rate:>7.0} {peer_rate:>7.0} {alike_rate:>7.0}  {:>7.2} {:>7.2}  {:>10} {:>10}",
        ours_rate / peer_rate,
        ours_rate / alike_rate,
        runtime.block_on(update_size(ours, &our_visitors[0], &ours.updates)),
        runtime.block_on(update_size(peers[0], &peer_visitors[0][0], &peers[0].updates)),
    );
}

async fn all<S: Site>(site: &S, visitors: usize, others: usize) -> Vec<S::Visitor> {
    let mut all = Vec::new();
    for _ in 0..visitors {
        all.push(site.visitor(others).await);
    }
    all
}

/// Returns the requests per second of visitors who each send one request after the other.
fn rate<S: Site>(runtime: &Runtime, site: &S, visitors: &[S::Visitor]) -> f64 {
    let began = Instant::now();
    let tasks: Vec<_> = visitors
        .iter()
        .map(|visitor| {
            let (site, visitor) = (site.clone(), visitor.clone());
            runtime.spawn(async move {
                let mut count = 0_u64;
                while began.elapsed() < ROUND {
                    site.count(&visitor).await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    let total: u64 = tasks.into_iter().map(|task| runtime.block_on(task).expect("succeeds")).sum();
    total as f64 / began.elapsed().as_secs_f64()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Records the size of updates by the driver's events, only while it is switched on, because that takes
/// time.
#[derive(Clone, Default)]
struct Updates {
    wanted: Arc<AtomicBool>,
    bytes: Arc<AtomicUsize>,
}

async fn update_size<S: Site>(site: &S, visitor: &S::Visitor, updates: &Updates) -> usize {
    updates.wanted.store(true, Ordering::SeqCst);
    site.count(visitor).await;
    updates.wanted.store(false, Ordering::SeqCst);
    updates.bytes.load(Ordering::SeqCst)
}

impl Updates {
    fn note(&self, options: &mut ClientOptions) {
        options.max_pool_size = Some(POOL);
        let updates = self.clone();
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(event) = event
                && event.command_name == "update"
                && updates.wanted.load(Ordering::SeqCst)
            {
                let bytes = event.command.to_vec().expect("a command has bytes").len();
                updates.bytes.store(bytes, Ordering::SeqCst);
            }
        }));
    }
}

/// This library.
#[derive(Clone)]
struct Ours {
    manager: Manager,
    updates: Updates,
}

impl Ours {
    fn new(uri: &str, collection: &str) -> Self {
        let updates = Updates::default();
        let noting = updates.clone();
        let separator = if uri.contains('?') { "&" } else { "?" };
        let config = MongoConfig::parse(&format!("{uri}{separator}collection={collection}"))
            .expect("the URI is right")
            .with_driver_options(move |options| noting.note(options));
        let provider = MongoProvider::new(config).expect("a provider opens");
        let manager = Manager::builder().with_provider(provider).build().expect("a manager");
        Self { manager, updates }
    }
}

impl Site for Ours {
    type Visitor = HeaderValue;

    async fn visitor(&self, others: usize) -> HeaderValue {
        let request = Request::new(());
        let handle = self.manager.start(&request);
        let session = handle.load().await.expect("the store works");
        for other in 0..others {
            session.set(&format!("other{other}"), "twelve bytes").expect("it fits");
        }
        session.set("count", &0_u64).expect("it fits");
        let mut response = Response::new(());
        handle.finish(&mut response).await.expect("it is stored");
        let cookie = response.headers()[SET_COOKIE].to_str().expect("text");
        let pair = cookie.split(';').next().expect("a pair");
        HeaderValue::from_str(pair).expect("a header")
    }

    async fn count(&self, cookie: &HeaderValue) {
        let mut request = Request::new(());
        request.headers_mut().insert(COOKIE, cookie.clone());
        let handle = self.manager.start(&request);
        let session = handle.load().await.expect("the store works");
        let add = |count: Option<u64>| count.unwrap_or(0) + 1;
        let count = session.update("count", add).await.expect("it is saved");
        assert!(count > 0);
        handle.finish(&mut Response::new(())).await.expect("it is finished");
    }
}

/// tower-sessions' session over the code of its MongoDB store.
#[derive(Clone)]
struct Peer {
    store: Arc<WholeRecord>,
    updates: Updates,
}

impl Peer {
    async fn new(uri: &str, collection: &str) -> Self {
        let updates = Updates::default();
        let mut options = ClientOptions::parse(uri).await.expect("the URI is right");
        updates.note(&mut options);
        let client = Client::with_options(options).expect("the options are right");
        let collection = client.database("sessions").collection(collection);
        Self { store: Arc::new(WholeRecord { collection }), updates }
    }
}

impl Peer {
    /// Makes the index on the expiry, which the store doesn't make.
    async fn index(&self) {
        let ttl = IndexOptions::builder().expire_after(Duration::from_secs(600)).build();
        let index = IndexModel::builder().keys(doc! { "expireAt": 1 }).options(ttl).build();
        self.store.collection.create_index(index).await.expect("an index is made");
    }
}

impl Site for Peer {
    type Visitor = Id;

    async fn visitor(&self, others: usize) -> Id {
        let session = Session::new(None, Arc::clone(&self.store) as _, None);
        for other in 0..others {
            session.insert(&format!("other{other}"), "twelve bytes").await.expect("it fits");
        }
        session.insert("count", 0_u64).await.expect("it fits");
        session.save().await.expect("it is stored");
        session.id().expect("it has one")
    }

    async fn count(&self, id: &Id) {
        let session = Session::new(Some(*id), Arc::clone(&self.store) as _, None);
        let count = session.get::<u64>("count").await.expect("the store works").unwrap_or(0) + 1;
        session.insert("count", count).await.expect("it fits");
        session.save().await.expect("it is saved");
        assert!(count > 0);
    }
}

/// The store's code.
#[derive(Debug)]
struct WholeRecord {
    collection: Collection<Document>,
}

#[async_trait::async_trait]
impl SessionStore for WholeRecord {
    async fn save(&self, record: &Record) -> session_store::Result<()> {
        let data = rmp_serde::to_vec(record).expect("a record has bytes");
        let data = Binary { subtype: BinarySubtype::Generic, bytes: data };
        let expires = DateTime::from_millis(record.expiry_date.unix_timestamp() * 1000);
        let id = doc! { "_id": record.id.to_string() };
        let set = doc! { "$set": { "data": data, "expireAt": expires } };
        let saved = self.collection.update_one(id, set).upsert(true).await;
        saved.map(|_| ()).map_err(|error| session_store::Error::Backend(error.to_string()))
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        let live = doc! { "_id": id.to_string(), "expireAt": { "$gt": DateTime::now() } };
        let found = self.collection.find_one(live).await;
        let found = found.map_err(|error| session_store::Error::Backend(error.to_string()))?;
        Ok(found.map(|document| {
            let data = document.get_binary_generic("data").expect("it has data");
            rmp_serde::from_slice(data).expect("a record")
        }))
    }

    async fn delete(&self, _: &Id) -> session_store::Result<()> {
        unreachable!("nobody logs out here")
    }
}

/// The server. It is stopped when dropped if it was started here.
struct Server {
    uri: String,
    started: bool,
}

impl Server {
    fn find() -> Self {
        if let Ok(uri) = std::env::var("SESSION_MONGO_URI") {
            return Self { uri, started: false };
        }
        let output = script("start").stderr(Stdio::inherit()).output();
        let output = output.expect("scripts/mongo-server is there");
        assert!(output.status.success(), "set SESSION_MONGO_URI to the URI of a MongoDB server");
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/mongo-server");
    let mut command = Command::new(path);
    command.args([what, "--name", &format!("bench-{}", std::process::id())]).stdin(Stdio::null());
    command
}
