//! The provider: runs the store's operations on threads that may block.

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
/// Operations run on the threads of the crate [`blocking`], which needs no particular runtime. On Linux
/// a load returns at once if the kernel has everything it needs in memory.
///
/// # Cancellation
/// If a future is dropped before a thread has begun its operation, the operation is not performed;
/// otherwise it is completed. In both cases the stored record is the old one or the new one. Other
/// changes of the session wait until the operation has ended.
// Dropping a task of `unblock` cancels it only while it is queued, because a running closure can't be
// interrupted. What the closure owns, in particular the guard of the session's stripe, is dropped with
// it on a thread of the pool.
pub struct FileProvider {
    store: Arc<Store>,
}

impl FileProvider {
    /// Opens the store in a directory, and makes missing files and folders in it. Blocks.
    ///
    /// # Errors
    /// [`Error::Config`] if the directory is refused, with the reason; [`Error::Unavailable`] or
    /// [`Error::Full`] if the file system fails.
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

    /// Lists an owner's sessions. Each page reads the names of all the owner's entries, and as many
    /// records as the page has room for. It removes entries whose sessions are gone or have another
    /// owner.
    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        let (store, owner) = (Arc::clone(&self.store), owner.to_owned());
        ProviderFuture::boxed(unblock(move || store.list(&owner, page, now)))
    }

    /// Counts the live sessions. Reads the metadata of every file, which takes about a microsecond each
    /// if they are in memory. Damaged files are counted, because no file is opened.
    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        let store = Arc::clone(&self.store);
        ProviderFuture::boxed(unblock(move || store.count(now)))
    }

    /// Removes expired sessions, temporary files of processes that died, and entries in the owner index
    /// whose sessions are gone. A call reads the metadata of at most 4,096 files and then returns that
    /// more remain; the next call continues there. The call that reaches the end returns that nothing
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
