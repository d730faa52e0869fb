//! A folder of one's own, and a database in it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use session_core::Timestamp;
use session_sql::sqlite::{Durability, SqliteConfig, SqliteProvider};
use session_sql::sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use session_sql::sqlx::{AssertSqlSafe, ConnectOptions as _, raw_sql};

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
pub(crate) const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);

/// A folder that is removed at the end.
pub(crate) struct Scratch {
    folder: PathBuf,
    runtime: tokio::runtime::Runtime,
}

impl Scratch {
    /// On the disk.
    pub(crate) fn new() -> Self {
        Self::within(Path::new(env!("CARGO_TARGET_TMPDIR")))
    }

    /// In memory, where there is a file system of that kind.
    pub(crate) fn in_memory() -> Self {
        let shm = Path::new("/dev/shm");
        if shm.is_dir() { Self::within(shm) } else { Self::new() }
    }

    fn within(parent: &Path) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("session-sqlite-{}-{number}", std::process::id()));
        std::fs::create_dir(&folder).expect("the folder is new");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self { folder, runtime: runtime.expect("a runtime starts") }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.join("sessions.db")
    }

    pub(crate) fn config(&self) -> SqliteConfig {
        SqliteConfig::new(self.path()).with_sync(Durability::None)
    }

    pub(crate) fn open(&self) -> SqliteProvider {
        SqliteProvider::open(self.config()).expect("the database opens")
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Another program's connection to the database.
    pub(crate) fn connection(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path());
        self.block_on(options.connect()).expect("the database is there")
    }

    /// What a statement of another program returns.
    pub(crate) fn query(&self, text: &str) -> Vec<SqliteRow> {
        let mut connection = self.connection();
        let query = raw_sql(AssertSqlSafe(text.to_owned()));
        self.block_on(query.fetch_all(&mut connection)).expect("the statement is right")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let removed = std::fs::remove_dir_all(&self.folder);
        if !std::thread::panicking() {
            removed.expect("the folder is removed");
        }
    }
}
