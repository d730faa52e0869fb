//! Requests per second over loopback with HTTP/1.1: an application of axum without sessions, with ours, and with
//! tower-sessions and its MemoryStore.
//!
//! The three servers run in one process and are asked round by round in turn, so that whatever else the machine
//! does hits all alike. A figure is the median of the rounds. The client takes its share of the machine: the
//! differences between the figures are what to look at.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::{get, post};
use session_core::Manager;
use session_tower::SessionLayer;
use session_tower::axum::{Failed, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower_sessions::{MemoryStore, Session as PeerSession, SessionManagerLayer};

const ROUNDS: usize = 15;
const ROUND: Duration = Duration::from_millis(200);
const CONNECTIONS: usize = 8;

/// What is asked for, of a session with so many other keys.
const CASES: [(&str, &str, usize); 5] = [
    ("untouched", "GET /untouched", 0),
    ("read", "GET /read", 0),
    ("count", "POST /count", 0),
    ("count", "POST /count", 10),
    ("count", "POST /count", 50),
];

const ANSWER: &str = "answer";

async fn untouched() -> &'static str {
    ANSWER
}

async fn begin(session: Session, others: String) -> Result<(), Failed> {
    session.set("name", "ada lovelace")?;
    for n in 0..others.parse()? {
        session.set(&format!("other key {n}"), &format!("other value {n}"))?;
    }
    Ok(())
}

async fn read(session: Session) -> Result<&'static str, Failed> {
    assert!(session.get::<String>("name")?.is_some());
    Ok(ANSWER)
}

/// `get` and `set`, as the peer counts, which has no `update`.
async fn count(session: Session) -> Result<&'static str, Failed> {
    let count: u64 = session.get("count")?.unwrap_or(0);
    session.set("count", &(count + 1))?;
    Ok(ANSWER)
}

async fn peer_begin(session: PeerSession, others: String) {
    session.insert("name", "ada lovelace").await.expect("stores");
    for n in 0..others.parse().expect("is a number") {
        let (key, value) = (format!("other key {n}"), format!("other value {n}"));
        session.insert(&key, value).await.expect("stores");
    }
}

async fn peer_read(session: PeerSession) -> &'static str {
    assert!(session.get::<String>("name").await.expect("loads").is_some());
    ANSWER
}

async fn peer_count(session: PeerSession) -> &'static str {
    let count: u64 = session.get("count").await.expect("loads").unwrap_or(0);
    session.insert("count", count + 1).await.expect("stores");
    ANSWER
}

fn none() -> Router {
    Router::new()
        .route("/untouched", get(untouched))
        .route("/begin", post(async |_: String| ()))
        .route("/read", get(untouched))
        .route("/count", post(untouched))
}

fn ours() -> Router {
    session_memory::init();
    Router::new()
        .route("/untouched", get(untouched))
        .route("/begin", post(begin))
        .route("/read", get(read))
        .route("/count", post(count))
        .layer(SessionLayer::new(Manager::open("memory", "").expect("opens")))
}

fn peers() -> Router {
    Router::new()
        .route("/untouched", get(untouched))
        .route("/begin", post(peer_begin))
        .route("/read", get(peer_read))
        .route("/count", post(peer_count))
        .layer(SessionManagerLayer::new(MemoryStore::default()))
}

/// Serves an application on a thread of its own, and returns where.
fn serve(app: Router) -> SocketAddr {
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
            tell.send(listener.local_addr().expect("is bound")).expect("is awaited");
            axum::serve(listener, app).await.expect("serves");
        });
    });
    told.recv().expect("is told")
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("starts")
}

/// A connection of a visitor, who has a session by then.
struct Visitor {
    stream: TcpStream,
    cookie: String,
    response: Vec<u8>,
}

impl Visitor {
    async fn new(server: SocketAddr, others: usize) -> Self {
        let stream = TcpStream::connect(server).await.expect("connects");
        stream.set_nodelay(true).expect("can be set");
        let mut visitor = Self { stream, cookie: String::new(), response: Vec::new() };
        let others = others.to_string();
        let begin = visitor.request("POST /begin", &others);
        visitor.stream.write_all(begin.as_bytes()).await.expect("is open");
        visitor.read("\r\n\r\n").await;
        let head = String::from_utf8_lossy(&visitor.response);
        let set = head.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        visitor.cookie = set.map_or(String::new(), |set| {
            format!("cookie: {}\r\n", set.split(';').next().expect("has a pair"))
        });
        visitor
    }

    fn request(&self, line: &str, body: &str) -> String {
        let Self { cookie, .. } = self;
        let length = body.len();
        format!("{line} HTTP/1.1\r\nhost: here\r\n{cookie}content-length: {length}\r\n\r\n{body}")
    }

    async fn read(&mut self, end: &str) {
        self.response.clear();
        while !self.response.ends_with(end.as_bytes()) {
            let read = self.stream.read_buf(&mut self.response).await.expect("is open");
            assert!(read > 0, "the server closed the connection");
        }
        assert!(self.response.starts_with(b"HTTP/1.1 200 "), "is refused");
    }

    /// Asks again and again, and returns how often there was time for it.
    async fn ask(&mut self, request: &str, until: Instant) -> u32 {
        let mut asked = 0;
        while Instant::now() < until {
            self.stream.write_all(request.as_bytes()).await.expect("is open");
            self.read(ANSWER).await;
            asked += 1;
        }
        asked
    }
}

/// Requests per second of one round.
async fn round(visitors: &mut [Visitor], line: &str) -> f64 {
    let start = Instant::now();
    let asking = visitors.iter_mut().map(|visitor| {
        let request = visitor.request(line, "");
        async move { visitor.ask(&request, start + ROUND).await }
    });
    let asked: u32 = futures_util::future::join_all(asking).await.iter().sum();
    f64::from(asked) / start.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // asked by tools that look for tests
    }
    println!(
        "requests per second on {CONNECTIONS} connections of HTTP/1.1 over loopback; median of {ROUNDS} rounds\n"
    );
    println!(
        "{:<10} {:>6}  {:>8} {:>8} {:>8}  us per request above none: ours, tower-sessions",
        "work", "others", "none", "ours", "peer"
    );
    let servers = [none(), ours(), peers()].map(serve);
    runtime().block_on(async {
        for (work, line, others) in CASES {
            let mut visitors = Vec::new();
            for server in servers {
                let mut of_one = Vec::new();
                for _ in 0..CONNECTIONS {
                    of_one.push(Visitor::new(server, others).await);
                }
                visitors.push(of_one);
            }
            let mut figures = [const { Vec::new() }; 3];
            for _ in 0..ROUNDS {
                for (visitors, figures) in visitors.iter_mut().zip(&mut figures) {
                    figures.push(round(visitors, line).await);
                }
            }
            let [none, ours, peer] = figures.map(median);
            let above = |figure: f64| 1e6 / figure - 1e6 / none;
            println!(
                "{work:<10} {others:>6}  {none:>8.0} {ours:>8.0} {peer:>8.0}  {:.1}, {:.1}",
                above(ours),
                above(peer)
            );
        }
    });
}
