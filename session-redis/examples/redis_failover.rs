//! Breaks Redis under load repeatedly, and counts what was lost, with and without waiting for replicas.
//!
//! ```sh
//! cargo run --release -p session-redis --example redis_failover               # one round of each mode
//! cargo run --release -p session-redis --example redis_failover -- --rounds 10 --apart
//! ```
//!
//! `scripts/redis-server` sets up a primary, two replicas and a Sentinel. Each round kills the primary, with and without
//! a failover, freezes it, cuts it off from everything, cuts it off from the other servers only, and disconnects the
//! clients in two ways. The exit codes are those of [`session_faults::failover::main`].

use std::process::ExitCode;
use std::sync::Arc;

use session_faults::failover::Step::{CutOff, CutOffServers, Pause, Reconnect, Run};
use session_faults::failover::{self, Database, Fault, Mode};
use session_redis::{RedisConfig, RedisProvider};

const DATABASE: Database = Database {
    script: "redis-server",
    announces: true,
    modes: &[
        Mode {
            name: "no wait",
            start: &["--sentinel", "--replicas", "2", "--appendfsync", "everysec"],
            options: "wait=0",
            may_lose: true,
        },
        Mode {
            name: "wait=1",
            start: &["--sentinel", "--replicas", "2", "--appendfsync", "everysec"],
            options: "wait=1",
            may_lose: true,
        },
        Mode {
            name: "wait=1, appendfsync always",
            start: &["--sentinel", "--replicas", "2", "--appendfsync", "always"],
            options: "wait=1",
            may_lose: false,
        },
    ],
    open: |source| {
        let config = RedisConfig::parse(source).expect("the source is right");
        Arc::new(RedisProvider::new(config).expect("a provider opens"))
    },
    faults: &[
        Fault {
            name: "primary killed and started",
            steps: &[Run("kill-primary"), Run("start-primary")],
            restore: &[Run("rejoin")],
        },
        Fault {
            name: "primary killed, replica promoted",
            steps: &[Run("kill-primary"), Run("promoted")],
            restore: &[Run("rejoin")],
        },
        Fault {
            name: "primary frozen, replica promoted",
            steps: &[Run("freeze-primary"), Run("promoted")],
            restore: &[Run("thaw-primary"), Run("rejoin")],
        },
        Fault {
            name: "primary cut off",
            steps: &[CutOff, Run("promoted")],
            restore: &[Reconnect, Run("rejoin")],
        },
        Fault {
            name: "primary cut off from servers",
            steps: &[CutOffServers, Run("promoted")],
            restore: &[Pause, Reconnect, Run("rejoin")],
        },
        Fault::CLIENTS_CUT_OFF,
        Fault::NETWORK_SILENT,
    ],
};

fn main() -> ExitCode {
    failover::main(&DATABASE)
}
