use std::fmt;
use std::future::Future;
use std::time::Duration;

use session_core::provider::{
    Answer, Changes, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

/// The client of a blob store.
pub trait Blobs: Send + Sync + fmt::Debug + 'static {
    /// Reads a blob.
    fn get(&self, key: SessionKey) -> impl Future<Output = Result<Option<Blob>, Failure>> + Send;

    /// Compares and swaps: writes the blob if its version is still this one, 0 for a blob that is not
    /// there, and returns whether it was. The server removes it after `lives`. No version is used twice.
    fn put(
        &self,
        key: SessionKey,
        bytes: Vec<u8>,
        lives: Duration,
        version: u64,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;

    /// Removes the blob, if there is one.
    fn remove(&self, key: SessionKey) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// A blob as it was read.
#[derive(Debug)]
pub struct Blob {
    pub bytes: Vec<u8>,
    pub version: u64,
}

/// How a request to the server fails.
#[derive(Debug)]
pub enum Failure {
    /// There is no connection: nothing was sent.
    NotSent(std::io::Error),
    /// It was sent, or a part of it, and there is no answer.
    NoAnswer(std::io::Error),
    /// The server has no room.
    Full,
}

/// Returns the error of a failed request that only reads.
fn of_read(failure: Failure) -> Error {
    match failure {
        Failure::NotSent(cause) | Failure::NoAnswer(cause) => Error::unavailable(cause),
        Failure::Full => Error::Full { what: "the blob store" },
    }
}

/// Returns the error of a failed request that writes.
fn of_write(failure: Failure) -> Error {
    match failure {
        Failure::NoAnswer(cause) => Error::in_doubt(cause),
        other => of_read(other),
    }
}

/// Keeps each session as one blob.
#[derive(Debug)]
pub struct BlobProvider<B> {
    blobs: B,
}

/// How long the server keeps expired blobs: another process's clock may be behind by so much.
const MARGIN: Duration = Duration::from_secs(10 * 60);

impl<B: Blobs> BlobProvider<B> {
    /// Returns a provider that connects when it is first used.
    pub fn new(blobs: B) -> Self {
        Self { blobs }
    }

    async fn write(
        &self,
        key: SessionKey,
        record: &Record,
        version: u64,
        now: Timestamp,
    ) -> Result<bool, Error> {
        // By the caller's clock: the server only measures the duration.
        let lives = record.expires.since(now).saturating_add(MARGIN);
        self.blobs.put(key, record.to_bytes(), lives, version).await.map_err(of_write)
    }

    /// Changes the stored record, and starts over if another write was faster.
    async fn change(
        &self,
        key: SessionKey,
        now: Timestamp,
        change: impl Fn(&mut Record) -> Result<(), Error>,
    ) -> Result<Option<Token>, Error> {
        loop {
            let found = self.blobs.get(key).await.map_err(of_read)?;
            let blob = found.ok_or(Error::Gone)?;
            // For a change, an unreadable record is gone.
            let mut record = Record::from_bytes(&blob.bytes).map_err(|_| Error::Gone)?;
            // Gone, too, if it has expired.
            change(&mut record)?;
            if self.write(key, &record, blob.version, now).await? {
                return Ok(None);
            }
        }
    }
}

impl<B: Blobs> Provider for BlobProvider<B> {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let key = id.key();
        ProviderFuture::boxed(async move {
            loop {
                let version = match self.blobs.get(key).await.map_err(of_read)? {
                    None => 0,
                    Some(blob) => match Record::from_bytes(&blob.bytes) {
                        Ok(stored) if stored.is_live(now) => return Err(Error::Exists),
                        // Expired, or unreadable: it may be replaced.
                        _ => blob.version,
                    },
                };
                if self.write(key, &record, version, now).await? {
                    return Ok(None);
                }
            }
        })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        ProviderFuture::boxed(async move {
            let found = self.blobs.get(token.key()).await.map_err(of_read)?;
            let record = found.map(|blob| Record::from_bytes(&blob.bytes)).transpose()?;
            Ok(record.filter(|record| record.is_live(now)))
        })
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(
            self.change(token.key(), now, move |record| record.apply(holder, changes, now)),
        )
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(self.change(token.key(), now, move |record| record.touch(touch, now)))
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        ProviderFuture::boxed(async { self.blobs.remove(*key).await.map_err(of_write) })
    }

    fn count(&self, _now: Timestamp) -> Answer<'_, u64> {
        ProviderFuture::ready(Err(Error::Unsupported { what: "count" }))
    }

    /// Does nothing, because the server removes what has expired.
    fn purge(&self, _now: Timestamp, _limit: usize) -> Result<Purged, Error> {
        Ok(Purged::default())
    }
}
