//! Processes on one SQLite file, killed at random moments.
//!
//! ```text
//! cargo test -p session-sql --features sqlite --test processes                       # short
//! cargo test --release -p session-sql --features sqlite --test processes -- --kills 3000
//! ```
//!
//! This test is a separate program, because it starts itself again as a process that is killed.

#[path = "sqlite/scratch.rs"]
#[expect(dead_code, reason = "the other tests need more of it")]
mod scratch;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use session_core::provider::Provider;
use session_faults::killed::{self, Store};
use session_faults::program::{self, Options, Test};
use session_sql::sqlite::{Durability, SqliteConfig, SqliteProvider};
use session_sql::sqlx::sqlite::{Sqlite, SqliteConnectOptions};
use session_sql::sqlx::{ConnectOptions as _, Decode, Type, query_scalar};

use scratch::Scratch;

fn main() -> ExitCode {
    program::main(&[("--victim", killed::victim::<File>)], tests)
}

fn tests(options: Options) -> Vec<(String, Test)> {
    let Options { kills, seed } = options;
    let killed = move || killed::run::<File>(&Scratch::new().path(), kills, seed);
    vec![("killed_processes_lose_nothing".into(), Box::new(killed))]
}

/// The store in a file.
struct File;

impl Store for File {
    fn open(path: &Path, sync: bool) -> Box<dyn Provider> {
        let sync = if sync { Durability::Full } else { Durability::None };
        // On a busy machine, processes may wait long for each other.
        let config = SqliteConfig::new(path).with_sync(sync);
        let config = config.with_operation_timeout(Duration::from_secs(60));
        Box::new(SqliteProvider::open(config).expect("the store opens"))
    }

    fn index_entries(path: &Path) -> usize {
        let count: i64 = query(path, "SELECT count(*) FROM sessions WHERE owner IS NOT NULL");
        count.try_into().expect("a count is not negative")
    }

    fn check(path: &Path) {
        assert_eq!(query::<String>(path, "PRAGMA integrity_check"), "ok");
    }
}

/// Returns what a statement of another program returns.
fn query<T>(path: &Path, text: &'static str) -> T
where
    T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + Send + Unpin,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime starts").block_on(async {
        let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        query_scalar(text).fetch_one(&mut connection).await.expect("the statement is right")
    })
}
