//! Several demos with one MongoDB server.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use session_mongo::mongodb::Client;
use session_mongo::mongodb::bson::Document;

use crate::leaks::nothing_leaks;
use crate::several;

/// A new collection on the server that `SESSION_MONGO_URI` names. It is dropped at the end.
struct Store {
    uri: String,
    collection: String,
    source: String,
}

impl Store {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let uri = std::env::var("SESSION_MONGO_URI");
        let uri = uri.expect("SESSION_MONGO_URI names no server; run scripts/test");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let collection = format!("demo_{}_{number}", std::process::id());
        let rest = uri.split_once("://").expect("a URI has a scheme").1;
        let separator = match (rest.contains('?'), rest.contains('/')) {
            (true, _) => "&",
            (false, true) => "?",
            (false, false) => "/?",
        };
        let source = format!("{uri}{separator}collection={collection}");
        Self { uri, collection, source }
    }

    fn flags(&self) -> [&str; 4] {
        ["--provider", "mongo", "--source", &self.source]
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

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_login_at_one_server_is_seen_at_the_other_and_so_is_a_logout() {
    let store = Store::new();
    several::login_and_logout(&store.flags(), true);
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn additions_at_two_servers_at_once_all_count() {
    let store = Store::new();
    several::additions_at_once(&store.flags());
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_logout_at_one_server_wins_against_a_slow_save_at_the_other() {
    let store = Store::new();
    several::logout_against_a_slow_save(&store.flags(), true);
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn no_id_no_value_and_no_name_is_printed_on_mongo_either() {
    let store = Store::new();
    nothing_leaks(&store.flags());
}

#[test]
fn a_store_that_is_down_is_service_unavailable() {
    let source = "mongodb://ada:hunter2@127.0.0.1:1/?operation_timeout=200ms";
    several::store_that_is_down(&["--provider", "mongo", "--source", source]);
}

#[test]
fn a_bad_uri_is_one_line_without_the_password() {
    several::bad_uri("mongo", ["mongodb://ada:hun/ter2@h", "mongodb://ada:hunter2@h/?nonsense=1"]);
}
