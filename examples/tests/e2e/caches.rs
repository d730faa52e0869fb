//! Which responses a shared cache stores when they depend on a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::body::Incoming;
use hyper::header::CACHE_CONTROL;
use hyper::service::service_fn;
use hyper::{Request, Response};
use session_core::SessionService;

use crate::client::{Answer, COOKIE, Client};
use crate::demo::Demo;
use crate::nginx::Cache;
use crate::site::{BoxError, Site, manager, session, with_header};

/// Several orders of three visitors, by the names that they are greeted with.
const ORDERS: [[&str; 3]; 6] = [
    ["ada", "grace", "stranger"],
    ["stranger", "grace", "ada"],
    ["grace", "stranger", "ada"],
    ["ada", "stranger", "grace"],
    ["stranger", "ada", "grace"],
    ["grace", "ada", "stranger"],
];

/// Returns whether the response came from the cache.
fn is_kept(answer: &Answer) -> bool {
    answer.header("x-cache") == Some("HIT")
}

/// A visitor whose token is in a cookie, a header or the URL.
struct Visitor {
    client: Client,
    returns_cookies: bool,
    header: String,
    query: String,
    /// The key of the session; empty for a stranger.
    key: String,
}

impl Visitor {
    fn stranger(cache: &Cache) -> Self {
        Self {
            client: cache.visitor(),
            returns_cookies: true,
            header: String::new(),
            query: String::new(),
            key: String::new(),
        }
    }

    /// Logs in, and takes the token out of the response.
    fn logged_in(cache: &Cache, name: &str, carrier: &str) -> Self {
        let mut client = cache.visitor();
        let answer = client.post("/login", format!("username={name}")).expect(303);
        let (mut header, mut query) = Default::default();
        let id = match carrier {
            "cookie" => client.id(),
            "url" => {
                let location = answer.header("location").expect("it is a redirect");
                query = location.strip_prefix('/').expect("to the page").to_owned();
                query.strip_prefix("?sid=").expect("has the id").to_owned()
            }
            _ => {
                let id = answer.header("x-session-id").expect("the answer has it").to_owned();
                header = format!("X-Session-Id: {id}\r\n");
                id
            }
        };
        let returns_cookies = carrier == "cookie";
        Self { client, returns_cookies, header, query, key: id[..16].to_owned() }
    }

    /// Sends a request. If the response sets a cookie, as under `auto`, it must be the visitor's.
    fn send(&mut self, method: &str, path: &str) -> Answer {
        let target = format!("{path}{}", self.query);
        let answer = match self.returns_cookies {
            true => self.client.send(method, &target, ""),
            false => self.client.send_with(method, &target, &self.header, ""),
        };
        assert!(!is_kept(&answer), "{answer:?}");
        if let Some(cookie) = answer.header("set-cookie") {
            let own = format!("{COOKIE}={}", self.key);
            assert!(!self.key.is_empty() && cookie.starts_with(&own), "{answer:?}");
        }
        answer.expect(200)
    }
}

#[test]
#[ignore = "needs nginx: run scripts/test"]
fn a_shared_cache_never_shows_anothers_greeting() {
    for (transport, carrier) in [
        ("cookie", "cookie"),
        ("auto", "cookie"),
        ("auto", "url"),
        ("url", "url"),
        ("header", "header"),
    ] {
        // Each order begins with an empty cache.
        for order in ORDERS {
            let demo = Demo::start(&["--transport", transport]);
            let cache = Cache::start(demo.address);
            let mut visitors = order.map(|name| match name {
                "stranger" => (name, Visitor::stranger(&cache)),
                name => (name, Visitor::logged_in(&cache, name, carrier)),
            });
            for _ in 0..3 {
                for (name, visitor) in &mut visitors {
                    visitor.send("HEAD", "/hello");
                    for _ in 0..2 {
                        let answer = visitor.send("GET", "/hello");
                        assert_eq!(answer.line(), format!("hello {name}"), "{transport} {carrier}");
                    }
                }
            }
            assert_eq!(demo.sessions(), 2);
        }
    }
}

/// An application with pages that set cache headers and pages that don't. It counts the requests for
/// each page without a session.
fn app(counter: &Arc<AtomicU32>) -> Site {
    let counter = Arc::clone(counter);
    let handler = service_fn(move |request: Request<Incoming>| {
        let counter = Arc::clone(&counter);
        async move {
            let count = || counter.fetch_add(1, Ordering::Relaxed) + 1;
            let minute = |body| with_header(CACHE_CONTROL, "max-age=60", body);
            let public = |body| with_header(CACHE_CONTROL, "public, max-age=60", body);
            let greeting = async || -> Result<String, BoxError> {
                let owner = session(&request).await?.owner();
                Ok(format!("hello {}\n", owner.as_deref().unwrap_or("stranger")))
            };
            match request.uri().path() {
                "/login" => {
                    let name = request.uri().query().expect("a name");
                    session(&request).await?.log_in(name)?;
                    Ok::<_, BoxError>(Response::default())
                }
                "/hello" => Ok(minute(greeting().await?)),
                "/for-all" => Ok(public(greeting().await?)),
                "/news" => Ok(minute(format!("news {}\n", count()))),
                "/silent" => Ok(Response::new(format!("news {}\n", count()))),
                "/visit" => {
                    session(&request).await?.set("visited", &true)?;
                    Ok(public("welcome\n".to_owned()))
                }
                "/flaky" => match count() {
                    1 => Err("out of paper".into()),
                    n => Ok(minute(format!("news {n}\n"))),
                },
                path => unreachable!("{path}"),
            }
        }
    });
    Site::start(SessionService::new(manager(""), handler))
}

/// Returns the application's two users and a stranger, who come through the cache.
fn visitors(cache: &Cache, order: [&'static str; 3]) -> [(&'static str, Client); 3] {
    order.map(|name| {
        let mut visitor = cache.visitor();
        if name != "stranger" {
            visitor.post(&format!("/login?{name}"), "").expect(200);
        }
        (name, visitor)
    })
}

/// The handler allows caching for a minute, without regard to who else may get the page.
#[test]
#[ignore = "needs nginx: run scripts/test"]
fn a_page_that_is_good_for_a_minute_is_good_for_its_visitor_only() {
    let counter = Arc::default();
    let site = app(&counter);
    for order in ORDERS {
        let cache = Cache::start(site.address);
        let mut visitors = visitors(&cache, order);
        for _ in 0..3 {
            for (name, visitor) in &mut visitors {
                let answer = visitor.get("/hello").expect(200).no_cookie();
                assert_eq!(answer.line(), format!("hello {name}"));
                assert_eq!(answer.header("cache-control"), Some("max-age=60, private"));
                assert!(!is_kept(&answer));
            }
        }
    }
}

/// This shows that the cache works, and that headers kept it from sharing the other pages.
#[test]
#[ignore = "needs nginx: run scripts/test"]
fn a_page_that_never_asks_for_the_session_is_shared() {
    for path in ["/news", "/silent"] {
        let counter = Arc::default();
        let site = app(&counter);
        let cache = Cache::start(site.address);
        let mut visitors = visitors(&cache, ORDERS[0]);
        for round in 0..3 {
            for (name, visitor) in &mut visitors {
                let answer = visitor.get(path).expect(200).no_cookie();
                assert_eq!(answer.line(), "news 1");
                assert_eq!(answer.header("vary"), None);
                assert_eq!(is_kept(&answer), (round, *name) != (0, ORDERS[0][0]), "{path}");
            }
        }
        assert_eq!(counter.load(Ordering::Relaxed), 1);
    }
}

/// The handler's header decides, and `Vary` still separates visitors with different cookies.
#[test]
#[ignore = "needs nginx: run scripts/test"]
fn a_page_that_is_said_to_be_public_is_shared_among_those_with_the_same_cookie() {
    let site = app(&Arc::default());
    for order in ORDERS {
        let cache = Cache::start(site.address);
        let mut visitors = visitors(&cache, order);
        for round in 0..3 {
            for (name, visitor) in &mut visitors {
                let answer = visitor.get("/for-all").expect(200).no_cookie();
                assert_eq!(answer.line(), format!("hello {name}"));
                assert_eq!(is_kept(&answer), round > 0, "{name}");
            }
        }
        let answer = cache.visitor().get("/for-all");
        assert_eq!((answer.line(), is_kept(&answer)), ("hello stranger", true));
    }
}

#[test]
#[ignore = "needs nginx: run scripts/test"]
fn a_page_that_sets_a_cookie_is_never_kept_whatever_its_handler_says() {
    let site = app(&Arc::default());
    let cache = Cache::start(site.address);
    let mut ids: Vec<_> = Vec::new();
    for _ in 0..3 {
        let mut visitor = cache.visitor();
        let answer = visitor.get("/visit").expect(200);
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(!is_kept(&answer));
        ids.push(visitor.id());
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}

#[test]
#[ignore = "needs nginx: run scripts/test"]
fn a_failure_is_not_kept() {
    let site = app(&Arc::default());
    let cache = Cache::start(site.address);
    let mut visitor = cache.visitor();
    let answer = visitor.get("/flaky").expect(500);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(visitor.get("/flaky").expect(200).line(), "news 2");
    assert!(is_kept(&visitor.get("/flaky")));
}
