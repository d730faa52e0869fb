//! Several demos on one Redis server.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::leaks::nothing_leaks;
use crate::several;

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

    fn flags(&self) -> [&str; 4] {
        ["--provider", "redis", "--source", &self.source]
    }
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_login_at_one_server_is_seen_at_the_other_and_so_is_a_logout() {
    let store = Store::new();
    several::login_and_logout(&store.flags(), false);
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn additions_at_two_servers_at_once_all_count() {
    let store = Store::new();
    several::additions_at_once(&store.flags());
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_logout_at_one_server_wins_against_a_slow_save_at_the_other() {
    let store = Store::new();
    several::logout_against_a_slow_save(&store.flags(), false);
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn no_id_no_value_and_no_name_is_printed_on_redis_either() {
    let store = Store::new();
    nothing_leaks(&store.flags());
}

#[test]
fn a_store_that_is_down_is_service_unavailable() {
    let source = "redis://ada:hunter2@127.0.0.1:1/?operation_timeout=200ms";
    several::store_that_is_down(&["--provider", "redis", "--source", source]);
}

#[test]
fn a_bad_uri_is_one_line_without_the_password() {
    several::bad_uri("redis", ["redis://ada:hun/ter2@h", "redis://ada:hunter2@h/?nonsense=1"]);
}
