//! The provider: the store's operations, away from the runtime's workers.

use std::fmt;
use std::sync::Arc;

use blocking::unblock;
use session_core::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::FileConfig;
use crate::name::Name;
use crate::store::Store;

/// Keeps sessions in files.
///
/// Operations run on the threads of the crate [`blocking`], which need no particular runtime. On
/// Linux a load is answered at once where the kernel has all of it in memory.
///
/// # Cancellation
/// Where a future is dropped, its operation is not done if no thread has begun it, and otherwise goes
/// on to its end: the stored record is the old one or the new one. Other changes of the session wait
/// until it is clear which.
// Dropping a task of `unblock` cancels it only while it is queued: a closure has no point at which it
// could be left. What it holds, the session's place in the queue above all, is dropped with it, on a
// thread of the pool.
pub struct FileProvider {
    store: Arc<Store>,
}

impl FileProvider {
    /// Opens the store in a directory, and makes what is missing in it. Blocks.
    ///
    /// # Errors
    /// [`Error::Config`] says why the directory is refused; otherwise [`Error::Unavailable`] or
    /// [`Error::Full`].
    pub fn open(config: FileConfig) -> Result<Self, Error> {
        Ok(Self { store: Arc::new(Store::open(config)?) })
    }
}

impl Provider for FileProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let (store, name) = (Arc::clone(&self.store), Name::of(id.key()));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            unblock(move || store.create(queued, &name, &record, now)).await?;
            Ok(None)
        })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        let name = Name::of(token.key());
        if let Some(answer) = self.store.load_cached(&name, now) {
            return ProviderFuture::ready(answer);
        }
        let store = Arc::clone(&self.store);
        ProviderFuture::boxed(unblock(move || store.load(&name, now)))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let (store, name) = (Arc::clone(&self.store), Name::of(token.key()));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            let (holder, changes) = (*holder, changes.clone());
            unblock(move || store.save(queued, &name, &holder, &changes, now)).await?;
            Ok(None)
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let (store, name) = (Arc::clone(&self.store), Name::of(token.key()));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            unblock(move || store.touch(queued, &name, touch, now)).await?;
            Ok(None)
        })
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        let (store, name) = (Arc::clone(&self.store), Name::of(*key));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            unblock(move || store.destroy(queued, &name)).await
        })
    }

    fn lists(&self) -> bool {
        true
    }

    /// Lists an owner's sessions. Each page looks at the names of all the owner's entries and reads as many
    /// records as it has room for; what it meets of sessions that are gone, or have another owner, it
    /// removes.
    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        let (store, owner) = (Arc::clone(&self.store), owner.to_owned());
        ProviderFuture::boxed(unblock(move || store.list(&owner, page, now)))
    }

    /// The number of live sessions. Looks at the metadata of every file: about a microsecond each
    /// where they are in memory. Damaged files are counted, because none is opened.
    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        let store = Arc::clone(&self.store);
        ProviderFuture::boxed(unblock(move || store.count(now)))
    }

    /// Removes expired sessions, the temporaries of processes that died, and the index's entries of
    /// sessions that are gone. Looks at the metadata of 4,096 files at most, then says that more remain;
    /// the next call goes on where this one stopped, and the one that comes to the end says that nothing
    /// remains.
    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.store.purge(now, limit)
    }
}

impl fmt::Debug for FileProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileProvider").field("config", self.store.config()).finish_non_exhaustive()
    }
}
