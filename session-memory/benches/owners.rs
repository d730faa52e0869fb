//! Measures the cost of an owner: a session's first save, a counting request and a touch, with and
//! without an owner; and lists of an owner's sessions in a large store.
//!
//! The two variants take turns round by round. A figure is the median of the rounds. The ratios matter
//! more than the absolute figures.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use session_core::Manager;
use session_core::clock::TestClock;

const ROUNDS: usize = 41;
const REQUESTS: usize = 2_000;
const OTHERS: usize = 100_000;

struct Bench {
    manager: Manager,
    clock: Arc<TestClock>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(TestClock::default());
        let builder = Manager::builder().with_clock(Arc::<TestClock>::clone(&clock));
        Self { manager: builder.build().expect("opens"), clock }
    }

    /// Performs a first request that stores a value, and logs in if there is an owner.
    fn begin(&self, owner: Option<&str>) -> Response<()> {
        let request = Request::new(());
        let handle = self.manager.start(&request);
        let mut response = Response::new(());
        let done = block_on(async {
            let session = handle.load().await?;
            session.set("count", &0u64)?;
            if let Some(owner) = owner {
                session.log_in(owner)?;
                session.label("Firefox on Linux")?;
            }
            handle.finish(&mut response).await
        });
        done.expect("stores");
        response
    }

    fn visitor(&self, owner: Option<&str>) -> Request<()> {
        let response = self.begin(owner);
        let cookie = response.headers()[SET_COOKIE].to_str().expect("is text");
        let pair = cookie.split(';').next().expect("has a part");
        let cookie = HeaderValue::from_str(pair).expect("was a header's");
        Request::builder().header(COOKIE, cookie).body(()).expect("is a request")
    }

    fn use_session(&self, request: &Request<()>, counts: bool) {
        let handle = self.manager.start(request);
        let mut response = Response::new(());
        let done = block_on(async {
            let session = handle.load().await?;
            let count: u64 = session.get("count")?.expect("is stored");
            if counts {
                session.set("count", &(count + 1))?;
            }
            handle.finish(&mut response).await
        });
        done.expect("serves");
        black_box(response);
    }
}

/// Returns the median time of one call of each of the two, in nanoseconds.
fn compare(mut calls: [Box<dyn FnMut() + '_>; 2]) -> [f64; 2] {
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (call, times) in calls.iter_mut().zip(&mut times) {
            let began = Instant::now();
            (0..REQUESTS).for_each(|_| call());
            times.push(began.elapsed().as_secs_f64() * 1e9 / REQUESTS as f64);
        }
    }
    times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[ROUNDS / 2]
    })
}

fn report(what: &str, [without, with]: [f64; 2]) {
    println!("{what:<20} {without:>8.0} {with:>8.0} {:>6.2}", with / without);
}

fn main() {
    session_memory::init();
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    println!("{:<20} {:>8} {:>8} {:>6}   (ns)", "", "nobody", "owner", "ratio");
    let bench = Bench::new();
    let mut number = 0u64;
    let first_saves = compare([
        Box::new(|| drop(black_box(bench.begin(None)))),
        Box::new(|| {
            number += 1;
            drop(black_box(bench.begin(Some(&format!("user {number}")))));
        }),
    ]);
    report("first save", first_saves);

    let bench = Bench::new();
    let visitors = [bench.visitor(None), bench.visitor(Some("ada"))];
    let [nobody, owner] = &visitors;
    report(
        "counted request",
        compare([
            Box::new(|| bench.use_session(nobody, true)),
            Box::new(|| bench.use_session(owner, true)),
        ]),
    );
    // Each touch is due, because more than a tenth of the idle time has passed, and no session expires.
    let bench = Bench::new();
    let renewed = std::cell::RefCell::new((0, [bench.visitor(None), bench.visitor(Some("ada"))]));
    let touch = |which: usize| {
        let mut renewed = renewed.borrow_mut();
        renewed.0 += 1;
        if renewed.0 % 100 == 0 {
            renewed.1 = [bench.visitor(None), bench.visitor(Some("ada"))];
        }
        bench.clock.advance(Duration::from_secs(200));
        bench.use_session(&renewed.1[which], false);
    };
    report("touch", compare([Box::new(|| touch(0)), Box::new(|| touch(1))]));

    let bench = Bench::new();
    for other in 0..OTHERS {
        bench.begin(Some(&format!("user {other}")));
    }
    for count in [1, 10, 100] {
        let owner = format!("owner of {count}");
        (0..count).for_each(|_| drop(bench.begin(Some(&owner))));
        let began = Instant::now();
        for _ in 0..REQUESTS {
            let sessions = block_on(bench.manager.sessions_of(&owner)).expect("lists");
            assert_eq!(black_box(sessions).len(), count);
        }
        let nanos = began.elapsed().as_nanos() / REQUESTS as u128;
        println!("a list of {count:>3} of {:>7} sessions: {nanos} ns", OTHERS + count);
    }
}
