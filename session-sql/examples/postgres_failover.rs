//! Breaks PostgreSQL under load repeatedly, and counts what was lost.
//!
//! ```sh
//! cargo run --release -p session-sql --features postgres --example postgres_failover               # short
//! cargo run --release -p session-sql --features postgres --example postgres_failover -- --rounds 30
//! ```
//!
//! `scripts/postgres-server` sets up a primary and a synchronous standby; the source string names both. Each
//! round kills the primary, with and without promotion of the standby, freezes it likewise, and disconnects
//! the clients in two ways. The exit codes are those of [`session_faults::failover::main`].

use std::process::ExitCode;
use std::sync::Arc;

use session_faults::failover::Step::{Pause, Run};
use session_faults::failover::{self, Database, Fault, Mode};
use session_sql::postgres::{PostgresConfig, PostgresProvider};

const DATABASE: Database = Database {
    script: "postgres-server",
    announces: false,
    modes: &[Mode {
        name: "synchronous standby",
        start: &["--standby"],
        options: "sslmode=disable&max_connections=16",
        may_lose: false,
    }],
    open: |source| {
        let config = PostgresConfig::parse(source).expect("the source is right");
        Arc::new(PostgresProvider::new(config).expect("a provider opens"))
    },
    faults: &[
        Fault {
            name: "primary killed",
            steps: &[Run("kill-primary"), Run("start-primary")],
            restore: &[],
        },
        Fault {
            name: "primary killed, standby promoted",
            steps: &[Run("kill-primary"), Run("promote")],
            restore: &[Run("rejoin")],
        },
        Fault {
            name: "primary frozen",
            steps: &[Run("freeze-primary"), Pause, Run("thaw-primary")],
            restore: &[],
        },
        Fault {
            name: "primary frozen, standby promoted",
            steps: &[Run("freeze-primary"), Pause, Run("promote"), Run("fence-primary")],
            restore: &[Run("rejoin")],
        },
        Fault::CLIENTS_CUT_OFF,
        Fault::NETWORK_SILENT,
    ],
};

fn main() -> ExitCode {
    failover::main(&DATABASE)
}
