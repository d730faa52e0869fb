//! Breaks a database under load repeatedly, and counts what was lost.
//!
//! ```sh
//! cargo run --release -p session-mongo --example mongo_failover               # short
//! cargo run --release -p session-mongo --example mongo_failover -- --rounds 30
//! ```
//!
//! `scripts/mongo-server` sets up a primary and a synchronous standby behind FerretDB (the front). Each
//! round kills the primary and promotes the standby, freezes the primary and fences it, kills the front,
//! freezes it, and disconnects the clients in two ways. The exit codes are those of
//! [`session_faults::failover::main`].

use std::process::ExitCode;
use std::sync::Arc;

use session_faults::failover::Step::{Pause, Run};
use session_faults::failover::{self, Database, Fault, Mode};
use session_mongo::{MongoConfig, MongoProvider};

const DATABASE: Database = Database {
    script: "mongo-server",
    announces: false,
    modes: &[Mode {
        name: "synchronous standby",
        start: &["--standby"],
        options: "directConnection=true&maxPoolSize=32",
        may_lose: false,
    }],
    open: |source| {
        let config = MongoConfig::parse(source).expect("the source is right");
        Arc::new(MongoProvider::new(config).expect("a provider opens"))
    },
    faults: &[
        Fault {
            name: "primary killed, standby promoted",
            steps: &[Run("kill-primary"), Run("promote")],
            restore: &[Run("rejoin")],
        },
        Fault {
            name: "primary frozen, standby promoted",
            steps: &[Run("freeze-primary"), Pause, Run("promote"), Run("fence-primary")],
            restore: &[Run("rejoin")],
        },
        Fault {
            name: "front killed",
            steps: &[Run("kill-front"), Run("start-front")],
            restore: &[],
        },
        Fault {
            name: "front frozen",
            steps: &[Run("freeze-front"), Pause, Run("thaw-front")],
            restore: &[],
        },
        Fault::CLIENTS_CUT_OFF,
        Fault::NETWORK_SILENT,
    ],
};

fn main() -> ExitCode {
    failover::main(&DATABASE)
}
