//! Measures what a session adds to a request, beside the same work done by tower-sessions with its
//! MemoryStore.
//!
//! The handler without sessions is measured in two forms: as a plain function, for `start` and `finish`
//! by hand; and as a service with a boxed future, for the wrapper, the tower layer and the peer, whose
//! handlers are such services. `Bare` is a lower bound without the library's guarantees.
//!
//! All variants run in one process, taking turns round by round, so that other load on the machine
//! affects all of them alike. A figure is the median of the rounds. The ratios matter more than the
//! absolute figures.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::hint::black_box;
use std::sync::Barrier;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use futures_lite::future::block_on;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use http_body_util::Full;
use parking_lot::Mutex;
use session_core::provider::{Changes, Values, Verifier};
use session_core::transport::{CookieOptions, CookieTransport, Transport as _};
use session_core::{
    Error, Limits, LoadedSession, Manager, SessionHandle, SessionId, SessionKey, SessionService,
    Sessions, value,
};
use session_tower::SessionLayer;
use tower_layer::Layer as _;
use tower_service::Service as _;
use tower_sessions::{MemoryStore, Session as PeerSession, SessionManagerLayer};

const ROUNDS: usize = 41;
const REQUESTS: usize = 5_000;

type Body = Full<Bytes>;

/// The handler's work with its session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Work {
    Nothing,
    Read,
    /// `get` and `set`. Of two concurrent requests, one increment is lost.
    Count,
    /// `update`, which loses no increment. The peer has nothing like it and uses `get` and `set`.
    Update,
}

const WORKS: [Work; 4] = [Work::Nothing, Work::Read, Work::Count, Work::Update];

/// A variant of serving a request.
trait Variant: Sync {
    fn serve(&self, cookie: &HeaderValue, work: Work);
}

fn main() {
    session_memory::init();
    if std::env::args().any(|argument| argument == "--list") {
        return; // asked by tools that look for tests
    }
    println!(
        "in-process cost of one request, in ns above the handler alone; median of {ROUNDS} rounds\n"
    );
    println!(
        "{:<8} {:>6}  {}  {}  allocations",
        "work",
        "others",
        NAMES.map(|name| format!("{name:>9}")).join(" "),
        OURS.map(|at| format!("{:>13}", format!("peer/{}", NAMES[at]))).join(" "),
    );
    let mut counting = Vec::new();
    for work in WORKS {
        for others in [0, 10, 50] {
            let figures = compare(work, others);
            if work == Work::Count {
                counting.push(figures);
            }
        }
    }
    let per_name = |figure: &dyn Fn(usize) -> f64| {
        let figures = [1, 2, 3, 4].map(|at| format!("{} {:.2}", NAMES[at], figure(at)));
        figures.join(", ")
    };
    println!(
        "\ncounting with 50 other keys against none: {}",
        per_name(&|at| counting[2][at] / counting[0][at])
    );
    let (explicit, wrapper, layer, peer) =
        (Explicit::new(), Wrapper::new(), TowerLayer::new(), Peer::new());
    let scaled = [
        scaling(&explicit, || explicit.visitor(0)),
        scaling(&wrapper, || wrapper.visitor(0)),
        scaling(&layer, || layer.visitor(0)),
        scaling(&peer, || peer.visitor(0)),
    ];
    println!(
        "two threads against one: this machine at best {:.2} (pure computing); counted requests: {}",
        scaling(&Computing, || explicit.visitor(0)),
        per_name(&|at| scaled[at - 1])
    );
}

/// What is compared, in the order of the columns. `wrapper` is hyper's, `layer` is tower's.
const NAMES: [&str; 5] = ["bare", "explicit", "wrapper", "layer", "peer"];

/// The places of all but the peer in [`NAMES`].
const OURS: [usize; 4] = [0, 1, 2, 3];

/// The peer's place in [`NAMES`].
const PEER: usize = 4;

fn compare(work: Work, others: usize) -> [f64; 5] {
    let (explicit, wrapper, layer, peer) =
        (Explicit::new(), Wrapper::new(), TowerLayer::new(), Peer::new());
    let (bare, bare_cookie) = Bare::with_visitor(others);
    // The last two are the handler without sessions, as a function and as a service.
    let variants: [(&dyn Variant, HeaderValue); 7] = [
        (&bare, bare_cookie),
        (&explicit, explicit.visitor(others)),
        (&wrapper, wrapper.visitor(others)),
        (&layer, layer.visitor(others)),
        (&peer, peer.visitor(others)),
        (&Alone, explicit.visitor(others)),
        (&AloneBoxed, explicit.visitor(others)),
    ];
    let base = |at: usize| if at < 2 { 5 } else { 6 };
    let mut times = [const { Vec::new() }; 7];
    for _ in 0..ROUNDS {
        for ((variant, cookie), times) in variants.iter().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..REQUESTS {
                variant.serve(cookie, work);
            }
            times.push(start.elapsed().as_nanos() as f64 / REQUESTS as f64);
        }
    }
    let times = times.map(median);
    let counts = variants.map(|(variant, cookie)| {
        allocation_counter::measure(|| variant.serve(&cookie, work)).count_total
    });
    let figures = std::array::from_fn(|at| times[at] - times[base(at)]);
    let allocations: [_; 5] = std::array::from_fn(|at| (counts[at] - counts[base(at)]).to_string());
    println!(
        "{:<8} {others:>6}  {}  {}  {}",
        format!("{work:?}").to_lowercase(),
        figures.map(|figure: f64| format!("{figure:>9.0}")).join(" "),
        OURS.map(|at| format!("{:>13.1}", figures[PEER] / figures[at])).join(" "),
        allocations.join(", "),
    );
    figures
}

/// Returns the throughput of two threads, each with its own visitor, relative to one thread.
fn scaling(variant: &dyn Variant, visitor: impl Fn() -> HeaderValue) -> f64 {
    const REQUESTS: usize = 100_000;
    let run = |threads: usize| {
        let barrier = Barrier::new(threads + 1);
        let cookies: Vec<_> = (0..threads).map(|_| visitor()).collect();
        std::thread::scope(|scope| {
            for cookie in &cookies {
                let barrier = &barrier;
                scope.spawn(move || {
                    barrier.wait();
                    for _ in 0..REQUESTS {
                        variant.serve(cookie, Work::Count);
                    }
                    barrier.wait();
                });
            }
            barrier.wait();
            let start = Instant::now();
            barrier.wait();
            (threads * REQUESTS) as f64 / start.elapsed().as_secs_f64()
        })
    };
    median((0..9).map(|_| run(2) / run(1)).collect())
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn request(cookie: &HeaderValue) -> Request<Body> {
    let mut request = Request::new(Body::default());
    request.headers_mut().insert(COOKIE, cookie.clone());
    request
}

fn answer() -> Response<Body> {
    Response::new(Body::from("answer"))
}

fn name() -> String {
    "ada lovelace".to_owned()
}

/// Returns the cookie that a response sets, as the client sends it back.
fn cookie(response: &Response<impl Sized>) -> HeaderValue {
    let set = response.headers()[SET_COOKIE].to_str().expect("is text");
    set.split(';').next().expect("has a pair").parse().expect("is a header value")
}

/// The handler without sessions.
struct Alone;

impl Variant for Alone {
    fn serve(&self, cookie: &HeaderValue, _: Work) {
        let request = request(cookie);
        black_box(block_on(async {
            black_box(&request);
            answer()
        }));
    }
}

/// The handler without sessions as a service with a boxed future.
struct AloneBoxed;

impl Variant for AloneBoxed {
    fn serve(&self, cookie: &HeaderValue, _: Work) {
        let handler = Handler(Work::Nothing);
        let answer = black_box(hyper::service::Service::call(&handler, request(cookie)));
        black_box(block_on(answer)).expect("serves");
    }
}

/// The handler without sessions, repeated for about as long as a counting request takes. It shows how
/// two threads that share nothing scale on this machine, whose processors may be halves of one core.
struct Computing;

impl Variant for Computing {
    fn serve(&self, cookie: &HeaderValue, work: Work) {
        for _ in 0..4 {
            Alone.serve(cookie, work);
        }
    }
}

/// A lower bound for any store in memory: it finds the cookie, decodes the id, takes the values from a
/// locked map, decodes one of them, and writes its successor in place.
///
/// Nothing expires here, concurrent changes are not merged, the client is sent nothing, and tasks can't
/// share a session.
struct Bare {
    cookies: CookieTransport,
    sessions: Mutex<HashMap<SessionKey, (Verifier, Values)>>,
}

impl Bare {
    fn with_visitor(others: usize) -> (Self, HeaderValue) {
        let limits = Limits::default();
        let mut values = Changes::new();
        values.set("name", value::encode("name", &name(), &limits).expect("encodes"));
        values.set("count", value::encode("count", &0, &limits).expect("encodes"));
        for n in 0..others {
            let (key, text) = (format!("other key {n}"), format!("other value {n}"));
            values.set(&key, value::encode(&key, &text, &limits).expect("encodes"));
        }
        let mut stored = Values::new();
        stored.apply(&values, &limits).expect("has room");
        let id = SessionId::generate().expect("generates");
        let cookies = CookieTransport::new(CookieOptions::default()).expect("is valid");
        let cookie = format!("{}={}", cookies.name(), &*id.text());
        let sessions = Mutex::new([(id.key(), (Verifier::plain(&id, ""), stored))].into());
        (Self { cookies, sessions }, cookie.parse().expect("is a header value"))
    }

    fn use_session(&self, request: &Request<Body>, work: Work) -> Option<()> {
        let found = self.cookies.extract(request.into());
        let id = SessionId::parse(found.texts().first()?)?;
        let limits = Limits::default();
        let holder = Verifier::plain(&id, "");
        let (stored_holder, values) = self.sessions.lock().get(&id.key())?.clone();
        if stored_holder != holder {
            return None;
        }
        if work == Work::Read {
            let name: String = value::decode("name", values.get("name")?, &limits).ok()?;
            black_box(name);
        } else {
            let count: u64 = value::decode("count", values.get("count")?, &limits).ok()?;
            drop(values); // otherwise the store's values would be copied
            let mut changes = Changes::new();
            changes.set("count", value::encode("count", &(count + 1), &limits).ok()?);
            let mut sessions = self.sessions.lock();
            let (stored_holder, values) = sessions.get_mut(&id.key())?;
            if *stored_holder != holder {
                return None;
            }
            values.apply(&changes, &limits).ok()?;
        }
        Some(())
    }
}

impl Variant for Bare {
    fn serve(&self, cookie: &HeaderValue, work: Work) {
        let request = request(cookie);
        black_box(block_on(async {
            match work {
                Work::Nothing => drop(black_box(self.cookies.extract((&request).into()))),
                _ => self.use_session(&request, work).expect("serves"),
            }
            answer()
        }));
    }
}

/// Performs the handler's work with a loaded session of this library.
fn use_session(session: &LoadedSession, work: Work) -> Result<(), Error> {
    match work {
        Work::Read => assert!(black_box(session.get::<String>("name")?).is_some()),
        Work::Count => {
            let count: u64 = session.get("count")?.unwrap_or(0);
            session.set("count", &(count + 1))?;
        }
        // This has its own future, so that the others' futures stay small.
        Work::Nothing | Work::Update => unreachable!("is another handler's"),
    }
    Ok(())
}

async fn update(session: &LoadedSession) -> Result<(), Error> {
    session.update("count", |count: Option<u64>| count.unwrap_or(0) + 1).await?;
    Ok(())
}

/// `start`, `load` and `finish` by hand.
struct Explicit(Manager);

impl Explicit {
    fn new() -> Self {
        Self(Manager::open("memory", "").expect("opens"))
    }

    fn visitor(&self, others: usize) -> HeaderValue {
        let request = Request::new(());
        let handle = self.0.start(&request);
        let mut response = answer();
        block_on(async {
            let session = handle.load().await?;
            session.set("name", &name())?;
            session.set("count", &0u64)?;
            for n in 0..others {
                session.set(&format!("other key {n}"), &format!("other value {n}"))?;
            }
            handle.finish(&mut response).await
        })
        .expect("stores");
        cookie(&response)
    }

    async fn handle(&self, request: &Request<Body>, work: Work) -> Result<Response<Body>, Error> {
        let handle = self.0.start(request);
        if work != Work::Nothing {
            use_session(&handle.load().await?, work)?;
        }
        let mut response = answer();
        handle.finish(&mut response).await?;
        Ok(response)
    }

    async fn handle_update(&self, request: &Request<Body>) -> Result<Response<Body>, Error> {
        let handle = self.0.start(request);
        update(&handle.load().await?).await?;
        let mut response = answer();
        handle.finish(&mut response).await?;
        Ok(response)
    }
}

impl Variant for Explicit {
    fn serve(&self, cookie: &HeaderValue, work: Work) {
        let request = request(cookie);
        let answer = match work {
            Work::Update => block_on(self.handle_update(&request)),
            _ => block_on(self.handle(&request, work)),
        };
        black_box(answer.expect("serves"));
    }
}

/// The wrapper service, which passes the session in the request's extensions.
struct Wrapper {
    manager: Manager,
    services: [SessionService<Handler>; WORKS.len()],
}

#[derive(Clone, Copy)]
struct Handler(Work);

impl hyper::service::Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<Body>, Error>> + Send>>;

    fn call(&self, request: Request<Body>) -> Self::Future {
        let work = self.0;
        match work {
            Work::Nothing => Box::pin(ready(Ok(answer()))),
            Work::Read | Work::Count => Box::pin(async move {
                use_session(&handle(&request).load().await?, work)?;
                Ok(answer())
            }),
            Work::Update => Box::pin(async move {
                update(&handle(&request).load().await?).await?;
                Ok(answer())
            }),
        }
    }
}

impl tower_service::Service<Request<Body>> for Handler {
    type Response = Response<Body>;
    type Error = Error;
    type Future = <Self as hyper::service::Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        hyper::service::Service::call(self, request)
    }
}

fn handle(request: &Request<Body>) -> &SessionHandle<'static> {
    let sessions = request.extensions().get::<Sessions>().expect("is wrapped");
    sessions.only().expect("there is one")
}

impl Wrapper {
    fn new() -> Self {
        let manager = Manager::open("memory", "").expect("opens");
        let service = |work| SessionService::new(manager.clone(), Handler(work));
        let services = WORKS.map(service);
        Self { manager, services }
    }

    fn visitor(&self, others: usize) -> HeaderValue {
        Explicit(self.manager.clone()).visitor(others)
    }
}

impl Variant for Wrapper {
    fn serve(&self, cookie: &HeaderValue, work: Work) {
        let service = &self.services[work as usize];
        let answer = block_on(hyper::service::Service::call(service, request(cookie)));
        black_box(answer.expect("serves"));
    }
}

/// The layer around a tower service, put there anew for each request, as the peer's is.
struct TowerLayer {
    manager: Manager,
    layer: SessionLayer,
}

impl TowerLayer {
    fn new() -> Self {
        let manager = Manager::open("memory", "").expect("opens");
        Self { layer: SessionLayer::new(manager.clone()), manager }
    }

    fn visitor(&self, others: usize) -> HeaderValue {
        Explicit(self.manager.clone()).visitor(others)
    }
}

impl Variant for TowerLayer {
    fn serve(&self, cookie: &HeaderValue, work: Work) {
        let answer = block_on(self.layer.layer(Handler(work)).call(request(cookie)));
        black_box(answer.expect("serves"));
    }
}

/// tower-sessions around a tower service.
struct Peer(SessionManagerLayer<MemoryStore>);

#[derive(Clone, Copy)]
struct PeerHandler {
    work: Work,
    others: Option<usize>,
}

impl tower_service::Service<Request<Body>> for PeerHandler {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = futures_lite::future::Boxed<Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { work, others } = *self;
        if work == Work::Nothing {
            let answered: Ready<_> = ready(Ok(answer()));
            return Box::pin(answered);
        }
        Box::pin(async move {
            let session = request.extensions().get::<PeerSession>().expect("is wrapped");
            if let Some(others) = others {
                session.insert("name", name()).await.expect("stores");
                for n in 0..others {
                    let (key, value) = (format!("other key {n}"), format!("other value {n}"));
                    session.insert(&key, value).await.expect("stores");
                }
            }
            if work == Work::Read {
                let name = session.get::<String>("name").await.expect("loads");
                assert!(black_box(name).is_some());
            } else {
                let count: u64 = session.get("count").await.expect("loads").unwrap_or(0);
                session.insert("count", count + 1).await.expect("stores");
            }
            Ok(answer())
        })
    }
}

impl Peer {
    fn new() -> Self {
        Self(SessionManagerLayer::new(MemoryStore::default()))
    }

    fn call(&self, request: Request<Body>, handler: PeerHandler) -> Response<Body> {
        block_on(self.0.layer(handler).call(request)).expect("serves")
    }

    fn visitor(&self, others: usize) -> HeaderValue {
        let first = PeerHandler { work: Work::Count, others: Some(others) };
        cookie(&self.call(Request::new(Body::default()), first))
    }
}

impl Variant for Peer {
    fn serve(&self, cookie: &HeaderValue, work: Work) {
        black_box(self.call(request(cookie), PeerHandler { work, others: None }));
    }
}
