//! Several demos with one MongoDB server.

use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use session_mongo::mongodb::Client;
use session_mongo::mongodb::bson::Document;

use crate::client;
use crate::demo::{Demo, run};
use crate::leaks::nothing_leaks;

/// A new collection on the server that `SESSION_MONGO_URI` names. It is dropped at the end.
struct Store {
    uri: String,
    collection: String,
}

impl Store {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let uri = std::env::var("SESSION_MONGO_URI");
        let uri = uri.expect("SESSION_MONGO_URI names no server; run scripts/test");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self { uri, collection: format!("demo_{}_{number}", std::process::id()) }
    }

    fn source(&self) -> String {
        let rest = self.uri.split_once("://").expect("a URI has a scheme").1;
        let separator = match (rest.contains('?'), rest.contains('/')) {
            (true, _) => "&",
            (false, true) => "?",
            (false, false) => "/?",
        };
        format!("{}{separator}collection={}", self.uri, self.collection)
    }

    fn demo(&self) -> Demo {
        Demo::start(&["--provider", "mongo", "--source", &self.source()])
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
        let dropped = runtime.block_on(async {
            let client = Client::with_uri_str(&self.uri).await?;
            let database = client.default_database();
            let database = database.unwrap_or_else(|| client.database("sessions"));
            database.collection::<Document>(&self.collection).drop().await
        });
        if !thread::panicking() {
            dropped.expect("the collection is dropped");
        }
    }
}

/// Returns the same visitor at another server.
fn at(demo: &Demo, visitor: &client::Client) -> client::Client {
    let mut elsewhere = demo.visitor();
    elsewhere.cookie.clone_from(&visitor.cookie);
    elsewhere
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_login_at_one_server_is_seen_at_the_other_and_so_is_a_logout() {
    let store = Store::new();
    let (one, two) = (store.demo(), store.demo());
    let mut visitor = one.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let mut elsewhere = at(&two, &visitor);
    assert_eq!(elsewhere.get("/whoami").line(), "ada");
    assert_eq!(elsewhere.get("/count").line(), "1");
    assert_eq!(visitor.get("/count").line(), "2");
    assert_eq!((one.sessions(), two.sessions()), (1, 1));

    let old = elsewhere.id();
    elsewhere.post("/regenerate", "").expect(204);
    assert_eq!(visitor.with_id(&old).get("/whoami").line(), "anonymous");
    let mut visitor = at(&one, &elsewhere);
    visitor.post("/logout", "").expect(303);
    assert_eq!(elsewhere.get("/whoami").line(), "anonymous");
    assert_eq!((one.sessions(), two.sessions()), (0, 0));
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
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

/// A save at one server that ends after the logout at the other brings nothing back.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_logout_at_one_server_wins_against_a_slow_save_at_the_other() {
    let store = Store::new();
    let one = Demo::start_logging("debug", &["--provider", "mongo", "--source", &store.source()]);
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
    assert_eq!(two.sessions(), 0);
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn no_id_no_value_and_no_name_is_printed_on_mongo_either() {
    let store = Store::new();
    nothing_leaks(&["--provider", "mongo", "--source", &store.source()]);
}

/// The demo starts while the store is down, and no visitor loses the cookie.
#[test]
fn a_store_that_is_down_is_service_unavailable() {
    let source = "mongodb://ada:hunter2@127.0.0.1:1/?operation_timeout=200ms";
    let demo = Demo::start(&["--provider", "mongo", "--source", source]);
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
    for source in ["mongodb://ada:hun/ter2@h", "mongodb://ada:hunter2@h/?nonsense=1"] {
        let (status, stdout, stderr) = run(&["--provider", "mongo", "--source", source]);
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
        assert!(!stderr.contains("ter2"), "{stderr}");
    }
}
