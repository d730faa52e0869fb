//! Measures an in-process request that counts visits in a sealed cookie, beside the same work done by
//! actix-session with its cookie store; and the sizes of the cookies.
//!
//! All variants run in one process, taking turns round by round, so that other load on the machine
//! affects all of them alike. A figure is the mean of the fastest round, less that of the same handler
//! without sessions in the same framework. The ratios matter more than the absolute figures.

use std::future::{Ready, ready};
use std::hint::black_box;
use std::time::Instant;

use actix_session::config::CookieContentSecurity;
use actix_session::storage::CookieSessionStore;
use actix_session::{Session as PeerSession, SessionMiddleware};
use actix_web::body::MessageBody;
use actix_web::cookie::Key;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::{App, HttpResponse, test, web};
use futures_lite::future::block_on;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use serde::{Deserialize, Serialize};
use session_core::Manager;

const ROUNDS: usize = 400;
const REQUESTS: usize = 100;

/// The values of a session beside its counter.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Content {
    /// A name.
    Name,
    /// A login, and a small cart.
    Cart,
}

#[derive(Debug, Serialize, Deserialize)]
struct Item {
    sku: String,
    title: String,
    quantity: u32,
    cents: u64,
}

fn cart() -> Vec<Item> {
    let item = |sku: &str, title: &str, quantity, cents| Item {
        sku: sku.into(),
        title: title.into(),
        quantity,
        cents,
    };
    vec![
        item("B-10442", "Notes on the Analytical Engine", 1, 3450),
        item("P-00017", "Fountain pen, \"fine\"", 2, 1999),
        item("I-00300", "Ink, 50 ml", 3, 890),
    ]
}

/// Calls `set` for each value of a session, for either library to store in its own way.
fn fill(content: Content, mut set: impl FnMut(&str, &dyn Value)) {
    set("count", &0u64);
    set("name", &"ada lovelace");
    if content == Content::Cart {
        set("user_id", &1_234_567u64);
        set("roles", &["customer", "reviewer"]);
        set("cart", &cart());
    }
}

/// A value that both libraries can store.
trait Value {
    fn ours(&self, session: &session_core::LoadedSession, key: &str);
    fn peers(&self, session: &PeerSession, key: &str);
}

impl<T: Serialize> Value for T {
    fn ours(&self, session: &session_core::LoadedSession, key: &str) {
        session.set(key, self).expect("fits");
    }

    fn peers(&self, session: &PeerSession, key: &str) {
        session.insert(key, self).expect("fits");
    }
}

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // asked by tools that look for tests
    }
    session_cookie::init();
    session_memory::init();
    println!(
        "time of a counting request beyond the handler alone, in ns; fastest of {ROUNDS} rounds\n"
    );
    println!(
        "{:<8} {:<10} {:>8} {:>8} {:>10}   {:>6} {:>6} {:>10}",
        "content", "seal", "ours", "actix", "ours/actix", "ours", "actix", "ours/actix"
    );
    println!("{:<19} {:>8} {:>8} {:>10}   cookie's value in characters", "", "time", "time", "");
    for content in [Content::Name, Content::Cart] {
        for (mode, security) in [
            ("encrypted", CookieContentSecurity::Private),
            ("signed", CookieContentSecurity::Signed),
        ] {
            actix_web::rt::System::new().block_on(compare(content, mode, security));
        }
    }
    println!("\nthis library alone, with and without revocations:");
    for (what, source) in [
        ("encrypted", "ephemeral=true"),
        ("with revocations in memory", "ephemeral=true&revocations=memory"),
    ] {
        let ours = Ours::new(source, Content::Name);
        let rounds =
            |with_session| -> Vec<f64> { (0..ROUNDS).map(|_| ours.round(with_session)).collect() };
        println!("{what:<28} {:>8.0}", fastest(&rounds(true)) - fastest(&rounds(false)));
    }
}

async fn compare(content: Content, mode: &str, security: CookieContentSecurity) {
    let ours = Ours::new(&format!("ephemeral=true&mode={mode}"), content);
    let peer = test::init_service(
        App::new()
            .wrap(
                SessionMiddleware::builder(CookieSessionStore::default(), Key::generate())
                    .cookie_content_security(security)
                    .build(),
            )
            .route("/fill", web::get().to(move |session: PeerSession| peer_fill(&session, content)))
            .route("/count", web::get().to(|session: PeerSession| peer_count(&session))),
    )
    .await;
    let alone = test::init_service(App::new().route("/count", web::get().to(peer_alone))).await;
    let filled = test::call_service(&peer, test::TestRequest::with_uri("/fill").to_request()).await;
    let peer_cookie = filled.response().headers().get("set-cookie").expect("is filled");
    let peer_cookie = first_pair(peer_cookie.to_str().expect("is text"));
    let request = || {
        let request = test::TestRequest::with_uri("/count");
        request.insert_header(("cookie", peer_cookie.as_str())).to_request()
    };
    let mut times = [const { Vec::new() }; 4];
    for _ in 0..ROUNDS {
        times[0].push(ours.round(false));
        times[1].push(ours.round(true));
        times[2].push(peer_round(&alone, request).await);
        times[3].push(peer_round(&peer, request).await);
    }
    let [our_base, our_time, peer_base, peer_time] = times.map(|times| fastest(&times));
    let (our_time, peer_time) = (our_time - our_base, peer_time - peer_base);
    // The length of the peer's encoding varies with the random bytes, so this takes the mean of many
    // cookies.
    let mut peer_size = 0;
    for _ in 0..200 {
        let request = test::TestRequest::with_uri("/fill").to_request();
        let filled = test::call_service(&peer, request).await;
        let cookie = filled.response().headers().get("set-cookie").expect("is filled");
        peer_size += value(&first_pair(cookie.to_str().expect("is text"))).len();
    }
    let (our_size, peer_size) = (ours.size() as f64, peer_size as f64 / 200.0);
    println!(
        "{:<8} {mode:<10} {our_time:>8.0} {peer_time:>8.0} {:>10.2}   {our_size:>6.0} {peer_size:>6.0} {:>10.2}",
        format!("{content:?}").to_lowercase(),
        our_time / peer_time,
        our_size / peer_size,
    );
}

fn fastest(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}

fn first_pair(set_cookie: &str) -> String {
    set_cookie.split(';').next().expect("has a pair").to_owned()
}

fn value(pair: &str) -> &str {
    pair.split_once('=').expect("is a pair").1
}

/// A manager with sealed sessions, and a visitor's cookie.
struct Ours {
    manager: Manager,
    cookie: HeaderValue,
}

impl Ours {
    fn new(source: &str, content: Content) -> Self {
        let manager = Manager::open("cookie", source).expect("opens");
        let request = Request::new(());
        let mut response = Response::new(());
        block_on(async {
            let handle = manager.start(&request);
            let session = handle.load().await?;
            fill(content, |key, value| value.ours(&session, key));
            handle.finish(&mut response).await
        })
        .expect("fits a cookie");
        let pair = first_pair(response.headers()[SET_COOKIE].to_str().expect("is text"));
        Self { manager, cookie: pair.parse().expect("is a header's value") }
    }

    fn size(&self) -> usize {
        value(self.cookie.to_str().expect("is text")).len()
    }

    /// Returns the nanoseconds of a request, with a session or without.
    fn round(&self, with_session: bool) -> f64 {
        let start = Instant::now();
        for _ in 0..REQUESTS {
            let mut request = Request::new(());
            request.headers_mut().insert(COOKIE, self.cookie.clone());
            let served = async {
                let mut response = Response::new("counted");
                if with_session {
                    let handle = self.manager.start(&request);
                    let session = handle.load().await?;
                    let count: u64 = session.get("count")?.unwrap_or(0);
                    session.set("count", &(count + 1))?;
                    handle.finish(&mut response).await?;
                }
                Ok::<_, session_core::Error>(response)
            };
            let response = block_on(served).expect("serves");
            assert_eq!(response.headers().contains_key(SET_COOKIE), with_session);
            black_box(response);
        }
        start.elapsed().as_nanos() as f64 / REQUESTS as f64
    }
}

fn peer_fill(session: &PeerSession, content: Content) -> Ready<HttpResponse> {
    fill(content, |key, value| value.peers(session, key));
    ready(HttpResponse::Ok().finish())
}

fn peer_count(session: &PeerSession) -> Ready<HttpResponse> {
    let count: u64 = session.get("count").expect("is a number").unwrap_or(0);
    session.insert("count", count + 1).expect("fits");
    ready(HttpResponse::Ok().body("counted"))
}

fn peer_alone() -> Ready<HttpResponse> {
    ready(HttpResponse::Ok().body("counted"))
}

async fn peer_round<S, R, B>(service: &S, request: impl Fn() -> R) -> f64
where
    S: Service<R, Response = ServiceResponse<B>, Error = actix_web::Error>,
    B: MessageBody,
{
    let start = Instant::now();
    for _ in 0..REQUESTS {
        black_box(service.call(request()).await.expect("serves"));
    }
    start.elapsed().as_nanos() as f64 / REQUESTS as f64
}
