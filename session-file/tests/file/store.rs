//! A store in a scratch directory, seen from both sides.

use std::path::PathBuf;
use std::time::Duration;

use futures_lite::future::block_on;
use session_core::{
    Changes, Error, Provider as _, Purged, Record, SessionId, Timestamp, Token, value,
};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::Scratch;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) struct Store {
    pub(crate) provider: FileProvider,
    pub(crate) scratch: Scratch,
}

impl Store {
    pub(crate) fn new() -> Self {
        let scratch = Scratch::new();
        let provider = open(&scratch).expect("the store opens");
        Self { provider, scratch }
    }

    /// Stores a sample record under a new id.
    pub(crate) fn stored(&self) -> Token {
        self.create(&id(), record()).expect("is stored")
    }

    pub(crate) fn create(&self, id: &SessionId, record: Record) -> Result<Token, Error> {
        block_on(self.provider.create(id, record, NOW))
    }

    pub(crate) fn load(&self, token: &Token) -> Result<Option<Record>, Error> {
        self.load_at(token, NOW)
    }

    pub(crate) fn load_at(&self, token: &Token, now: Timestamp) -> Result<Option<Record>, Error> {
        block_on(self.provider.load(token, now))
    }

    pub(crate) fn save(&self, token: &Token, key: &str, n: u64) -> Result<Token, Error> {
        block_on(self.provider.save(token, &set(key, n), NOW))
    }

    pub(crate) fn touch(&self, token: &Token, expires: Timestamp) -> Result<Token, Error> {
        block_on(self.provider.touch(token, expires, NOW))
    }

    pub(crate) fn rename(&self, token: &Token, new_id: &SessionId) -> Result<Token, Error> {
        block_on(self.provider.rename(token, new_id, NOW))
    }

    pub(crate) fn destroy(&self, token: &Token) -> Result<(), Error> {
        block_on(self.provider.destroy(token, NOW))
    }

    pub(crate) fn count(&self) -> u64 {
        block_on(self.provider.count(NOW)).expect("is counted")
    }

    /// Collects until nothing remains.
    pub(crate) fn drain(&self, now: Timestamp) -> usize {
        let mut removed = 0;
        for _ in 0..100_000 {
            let Purged { removed: some, more } = self.provider.purge(now, 100).expect("collects");
            removed += some;
            if !more {
                return removed;
            }
        }
        panic!("the collection doesn't end");
    }

    /// Where a session's file is.
    pub(crate) fn path(&self, id: &SessionId) -> PathBuf {
        let hex: String = id.digest().iter().map(|byte| format!("{byte:02x}")).collect();
        self.scratch.path().join(&hex[..2]).join(&hex[2..])
    }

    /// The names in a session's folder.
    pub(crate) fn beside(&self, id: &SessionId) -> Vec<String> {
        let path = self.path(id);
        let folder = std::fs::read_dir(path.parent().expect("is in a folder")).expect("is listed");
        let name = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.expect("is listed").file_name().into_string().expect("is text")
        };
        folder.map(name).collect()
    }
}

pub(crate) fn open(scratch: &Scratch) -> Result<FileProvider, Error> {
    FileProvider::open(FileConfig::new(scratch.path()).with_sync(Durability::None))
}

pub(crate) fn id() -> SessionId {
    SessionId::generate().expect("the system has random numbers")
}

pub(crate) fn record() -> Record {
    Record {
        created: NOW,
        expires: NOW.saturating_add(HOUR),
        owner: Some("ada".into()),
        values: [("count", number(1)), ("name", number(2))].into_iter().collect(),
    }
}

pub(crate) fn number(n: u64) -> Box<[u8]> {
    value::encode("", &n, &Default::default()).expect("is a value")
}

pub(crate) fn set(key: &str, n: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, number(n));
    changes
}
