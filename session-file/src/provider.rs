//! The provider: the store's operations, away from the runtime's workers.

use std::fmt;
use std::sync::Arc;

use session_core::{
    Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};

use crate::FileConfig;
use crate::disk::{Disk, NoFaults};
use crate::name::Name;
use crate::pool::{Ends, run};
use crate::store::Store;

/// Keeps sessions in files.
///
/// Operations run on threads of the crate's own, up to 256, which need no particular runtime. A load
/// is answered at once where the kernel has all of it in memory. With `sync=none`, a task that waits
/// for the only change under way is polled again and again for up to 50 microseconds.
///
/// # Cancellation
/// A future that is dropped has done nothing or goes on to its end on its thread: the stored record
/// is the old one or the new one.
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
        Ok(Self { store: Arc::new(Store::open(config, Disk(NoFaults))?) })
    }
}

impl Provider for FileProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let (store, name) = (Arc::clone(&self.store), Name::of(id));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            run(store.ends(), move || store.create(queued, &name, &record, now)).await?;
            Ok(Token::from(*id))
        })
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        let name = Name::of(token.id());
        if let Some(answer) = self.store.load_cached(&name, now) {
            return ProviderFuture::ready(answer);
        }
        let store = Arc::clone(&self.store);
        ProviderFuture::boxed(run(Ends::Later, move || store.load(&name, now)))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let (store, name) = (Arc::clone(&self.store), Name::of(token.id()));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            let changes = changes.clone();
            run(store.ends(), move || store.save(queued, &name, &changes, now)).await?;
            Ok(token.clone())
        })
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let (name, new_name) = (Name::of(token.id()), Name::of(new_id));
        let store = Arc::clone(&self.store);
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue_both(&name, &new_name).await;
            run(store.ends(), move || store.rename(queued, &name, &new_name, now)).await?;
            Ok(Token::from(*new_id))
        })
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        let (store, name) = (Arc::clone(&self.store), Name::of(token.id()));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            run(store.ends(), move || store.destroy(queued, &name)).await
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let (store, name) = (Arc::clone(&self.store), Name::of(token.id()));
        ProviderFuture::boxed(async move {
            let queued = store.locks.queue(&name).await;
            run(Ends::Soon, move || store.touch(queued, &name, expires, now)).await?;
            Ok(token.clone())
        })
    }

    /// The number of live sessions. Looks at the metadata of every file: about a microsecond each
    /// where they are in memory. Damaged files are counted, because none is opened.
    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        let store = Arc::clone(&self.store);
        ProviderFuture::boxed(run(Ends::Later, move || store.count(now)))
    }

    /// Removes expired sessions, and the temporaries of processes that died. Looks at the metadata
    /// of 4,096 files at most, then says that more remain; the next call goes on where this one
    /// stopped, and the one that comes to the end says that nothing remains.
    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.store.purge(now, limit)
    }
}

impl fmt::Debug for FileProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileProvider").field("config", self.store.config()).finish_non_exhaustive()
    }
}
