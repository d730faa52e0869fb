//! A store in a temporary directory, with access to its files.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use session_core::provider::{
    Changes, Login, NewSecret, Page, Provider as _, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp, value};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::Scratch;

pub(crate) const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// The holder of sample records.
pub(crate) const HOLDER: Verifier = Verifier::from_bytes([1; 32]);

pub(crate) struct Store {
    pub(crate) provider: FileProvider,
    pub(crate) scratch: Scratch,
}

impl Store {
    pub(crate) fn new() -> Self {
        Self::in_scratch(Scratch::new())
    }

    /// Makes a store with `sync=none`, in memory if possible.
    pub(crate) fn in_memory() -> Self {
        Self::in_scratch(Scratch::in_memory())
    }

    fn in_scratch(scratch: Scratch) -> Self {
        let provider = open(&scratch).expect("the store opens");
        Self { provider, scratch }
    }

    /// Makes a store with `sync=full`.
    pub(crate) fn synced() -> Self {
        let scratch = Scratch::new();
        let config = FileConfig::new(scratch.path()).with_sync(Durability::Full);
        Self { provider: FileProvider::open(config).expect("the store opens"), scratch }
    }

    /// Stores a sample record under a new id.
    pub(crate) fn stored(&self) -> Token {
        let id = id();
        self.create(&id, record()).expect("is stored");
        id.into()
    }

    /// Stores a record under an id, whatever the record's holder.
    pub(crate) fn create(&self, id: &SessionId, record: Record) -> Result<(), Error> {
        block_on(self.provider.create(id, record, NOW)).map(drop)
    }

    pub(crate) fn load(&self, token: &Token) -> Result<Option<Record>, Error> {
        self.load_at(token, NOW)
    }

    pub(crate) fn load_at(&self, token: &Token, now: Timestamp) -> Result<Option<Record>, Error> {
        block_on(self.provider.load(token, now))
    }

    /// Saves a number under a key as the holder of sample records.
    pub(crate) fn save(&self, token: &Token, key: &str, n: u64) -> Result<(), Error> {
        self.save_all(token, &set(key, n))
    }

    pub(crate) fn save_all(&self, token: &Token, changes: &Changes) -> Result<(), Error> {
        block_on(self.provider.save(token, &HOLDER, changes, NOW)).map(drop)
    }

    /// Moves the expiry forward.
    pub(crate) fn touch(&self, token: &Token, expires: Timestamp) -> Result<(), Error> {
        block_on(self.provider.touch(token, Touch { used: NOW, expires }, NOW)).map(drop)
    }

    pub(crate) fn destroy(&self, token: &Token) -> Result<(), Error> {
        block_on(self.provider.destroy(&token.key(), Timestamp::MAX, NOW))
    }

    /// Returns the sessions in an owner's list.
    pub(crate) fn list(&self, owner: &str) -> Vec<SessionKey> {
        self.list_at(owner, NOW)
    }

    pub(crate) fn list_at(&self, owner: &str, now: Timestamp) -> Vec<SessionKey> {
        list(&self.provider, owner, now).expect("is listed")
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

    /// Returns the path of a session's file.
    pub(crate) fn path(&self, token: &Token) -> PathBuf {
        let key = token.key();
        let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.scratch.path().join(&hex[..2]).join(&hex[2..])
    }

    /// Returns the names in a session's folder.
    pub(crate) fn beside(&self, token: &Token) -> Vec<String> {
        let path = self.path(token);
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

/// Returns the sessions in an owner's list, read page by page.
pub(crate) fn list(
    provider: &FileProvider,
    owner: &str,
    now: Timestamp,
) -> Result<Vec<SessionKey>, Error> {
    let (mut keys, mut page) = (Vec::new(), Page { after: None, limit: 7 });
    loop {
        let listed = block_on(provider.list(owner, page, now))?;
        keys.extend(listed.sessions.into_iter().map(|summary| summary.key));
        page.after = listed.next;
        if page.after.is_none() {
            return Ok(keys);
        }
    }
}

pub(crate) fn id() -> SessionId {
    SessionId::generate().expect("the system has random numbers")
}

pub(crate) fn record() -> Record {
    Record {
        login: login("ada"),
        values: [("count", number(1)), ("name", number(2))].into_iter().collect(),
        ..Record::new(HOLDER, NOW, NOW.saturating_add(HOUR))
    }
}

pub(crate) fn number(n: u64) -> Arc<[u8]> {
    value::encode("", &n, &Default::default()).expect("is a value")
}

pub(crate) fn set(key: &str, n: u64) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, number(n));
    changes
}

/// Returns changes that log an owner in.
pub(crate) fn log_in(owner: &str) -> Changes {
    Changes::new().with_login(login(owner))
}

fn login(owner: &str) -> Option<Box<Login>> {
    Some(Box::new(Login { owner: owner.into(), at: NOW, label: "phone".into() }))
}

/// Returns changes that give a token's session a new secret.
pub(crate) fn new_secret(token: &Token) -> Changes {
    let id = token.id().with_new_secret().expect("the system has random numbers");
    let holder = Verifier::digest(&id, "");
    Changes::new().with_secret(NewSecret { token: id.into(), holder, at: NOW })
}
