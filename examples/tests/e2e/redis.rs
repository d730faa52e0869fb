//! Several demos on one Redis server.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::client;
use crate::demo::{Demo, run};
use crate::leaks::nothing_leaks;

/// Keys of one's own at the server that `SESSION_REDIS_URL` names. They expire.
struct Store {
    source: String,
}

impl Store {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let url = std::env::var("SESSION_REDIS_URL");
        let url = url.expect("SESSION_REDIS_URL names no server; run scripts/test");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let separator = if url.contains('?') { "&" } else { "?" };
        let prefix = format!("demo_{}_{number}:", std::process::id());
        Self { source: format!("{url}{separator}prefix={prefix}&ttl_margin=10s") }
    }

    fn demo(&self) -> Demo {
        Demo::start(&["--provider", "redis", "--source", &self.source])
    }
}

/// The same visitor at another server.
fn at(demo: &Demo, visitor: &client::Client) -> client::Client {
    let mut elsewhere = demo.visitor();
    elsewhere.cookie.clone_from(&visitor.cookie);
    elsewhere
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_login_at_one_server_is_seen_at_the_other_and_so_is_a_logout() {
    let store = Store::new();
    let (one, two) = (store.demo(), store.demo());
    let mut visitor = one.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let mut elsewhere = at(&two, &visitor);
    assert_eq!(elsewhere.get("/whoami").line(), "ada");
    assert_eq!(elsewhere.get("/count").line(), "1");
    assert_eq!(visitor.get("/count").line(), "2");
    assert_eq!((one.counted(), two.counted()), (None, None));

    let old = elsewhere.id();
    elsewhere.post("/regenerate", "").expect(204);
    assert_eq!(visitor.with_id(&old).get("/whoami").line(), "anonymous");
    let mut visitor = at(&one, &elsewhere);
    visitor.post("/logout", "").expect(303);
    assert_eq!(elsewhere.get("/whoami").line(), "anonymous");
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn additions_at_two_servers_at_once_all_count() {
    let store = Store::new();
    let demos = [store.demo(), store.demo()];
    let mut visitor = demos[0].visitor();
    visitor.put("/values/n", "0").expect(204);
    let together = Barrier::new(40);
    thread::scope(|scope| {
        for number in 0..40 {
            let (mut visitor, together) = (at(&demos[number % 2], &visitor), &together);
            scope.spawn(move || {
                together.wait();
                visitor.post("/add/n", "").expect(200);
            });
        }
    });
    assert_eq!(visitor.get("/values/n").line(), "40");
}

/// A save that ends at one server after the logout at the other brings nothing back.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_logout_at_one_server_wins_against_a_slow_save_at_the_other() {
    let store = Store::new();
    let one = Demo::start_logging("debug", &["--provider", "redis", "--source", &store.source]);
    let two = store.demo();
    let mut visitor = one.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let mut slow = visitor.clone();
    thread::scope(|scope| {
        let saved = scope.spawn(move || slow.post("/slow/draft?ms=3000", "\"text\""));
        one.wait_for("loaded, waiting");
        at(&two, &visitor).post("/logout", "").expect(303);
        saved.join().expect("is answered").expect(409).no_cookie();
    });
    assert_eq!(visitor.get("/values").line(), "{}");
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn no_id_no_value_and_no_name_is_printed_on_redis_either() {
    let store = Store::new();
    nothing_leaks(&["--provider", "redis", "--source", &store.source]);
}

/// A store that is down is no reason not to start, and none to lose anybody's cookie.
#[test]
fn a_store_that_is_down_is_service_unavailable() {
    let source = "redis://ada:hunter2@127.0.0.1:1/?operation_timeout=200ms";
    let demo = Demo::start(&["--provider", "redis", "--source", source]);
    let mut visitor = demo.visitor();
    visitor.get("/count").expect(503).no_cookie().line();
    visitor.put("/values/x", "1").expect(503).no_cookie().line();
    let id = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let mut known = visitor.with_id(id);
    known.get("/whoami").expect(503).no_cookie().line();
    known.post("/logout", "").expect(503).no_cookie().line();
    assert_eq!(known.id(), id);
    demo.signal("TERM");
    let (status, printed) = demo.wait();
    assert!(status.success());
    assert!(!printed.contains("hunter2"), "{printed}");
}

#[test]
fn a_bad_uri_is_one_line_without_the_password() {
    for source in ["redis://ada:hun/ter2@h", "redis://ada:hunter2@h/?nonsense=1"] {
        let (status, stdout, stderr) = run(&["--provider", "redis", "--source", source]);
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
        assert!(!stderr.contains("ter2"), "{stderr}");
    }
}
