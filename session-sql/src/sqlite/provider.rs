//! The provider: its operations, as transactions.

use std::fmt;
use std::sync::Arc;

use session_core::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use super::SqliteConfig;
use super::store::{Change, Store};
use crate::worker::Worker;

/// How many rows a collection deletes in one transaction at most, whatever limit the caller gives, because others wait
/// meanwhile.
const DELETED_AT_ONCE: usize = 1000;

/// Keeps sessions in a table of a SQLite database: one file, for the processes of one machine.
///
/// Each change is one transaction, and one transaction is under way at a time.
pub struct SqliteProvider {
    store: Arc<Store>,
    worker: Worker,
}

impl SqliteProvider {
    /// Opens the database, and creates the file and the table if they are missing. Blocks.
    ///
    /// # Errors
    /// [`Error::Config`] if the file or the table can't be used; otherwise [`Error::Unavailable`] or [`Error::Full`].
    pub fn open(config: SqliteConfig) -> Result<Self, Error> {
        config.check()?;
        // A little later than SQLite's own time limit, whose error names the cause.
        let worker = Worker::new("session-sqlite", config.operation_timeout.mul_f64(1.05))?;
        let store = Arc::new(Store::new(config));
        let opened = Arc::clone(&store);
        let open = worker.perform(|_| async move { opened.open().await });
        worker.block_on(open)?;
        Ok(Self { store, worker })
    }

    /// The configuration that the provider was made with.
    pub fn config(&self) -> &SqliteConfig {
        &self.store.config
    }

    async fn change(&self, change: Change) -> Result<u64, Error> {
        let store = Arc::clone(&self.store);
        self.worker.perform(|doubt| async move { store.change(&change, &doubt).await }).await
    }
}

impl Provider for SqliteProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let key = id.key();
        ProviderFuture::boxed(async move {
            match self.change(Change::Create { key, record, now }).await? {
                0 => Err(Error::Exists),
                _ => Ok(None),
            }
        })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        let (store, key) = (Arc::clone(&self.store), token.key());
        let load = move |_| async move { store.load(key, now).await };
        ProviderFuture::boxed(self.worker.perform(load))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let (key, holder, changes) = (token.key(), *holder, changes.clone());
        ProviderFuture::boxed(async move {
            self.change(Change::Save { key, holder, changes, now }).await?;
            Ok(None)
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let key = token.key();
        ProviderFuture::boxed(async move {
            self.change(Change::Touch { key, touch, now }).await?;
            Ok(None)
        })
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        let key = *key;
        ProviderFuture::boxed(async move {
            self.change(Change::Destroy { key }).await?;
            Ok(())
        })
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        let (store, owner) = (Arc::clone(&self.store), owner.to_owned());
        let list = move |_| async move { store.list(&owner, page, now).await };
        ProviderFuture::boxed(self.worker.perform(list))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        let store = Arc::clone(&self.store);
        let count = move |_| async move { store.count(now).await };
        ProviderFuture::boxed(self.worker.perform(count))
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let limit = limit.clamp(1, DELETED_AT_ONCE);
        let purge = self.change(Change::Purge { now, limit });
        let removed = usize::try_from(self.worker.block_on(purge)?).unwrap_or(usize::MAX);
        Ok(Purged { removed, more: removed >= limit })
    }
}

impl fmt::Debug for SqliteProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteProvider").field("config", self.config()).finish_non_exhaustive()
    }
}
