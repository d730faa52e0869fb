//! The provider over the collection.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document, doc};
use mongodb::options::ReadConcern;
use session_core::{
    Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};

use crate::client::{Access, Client, Sessions};
use crate::document::{self, MAX_BYTES};
use crate::failure::{self, Cause};
use crate::write::{Repeat, write};
use crate::{MongoConfig, statement};

/// How many documents are deleted at once, whatever the caller allows.
const DELETED_AT_ONCE: usize = 1000;

/// Keeps sessions in a MongoDB collection, for any number of servers.
///
/// Each operation is one command on one document, found by the unique index; so MongoDB makes it
/// atomic. Only where one fails is there a second command, to tell why.
#[derive(Debug)]
pub struct MongoProvider {
    client: Client,
}

impl MongoProvider {
    /// A provider that connects when it is first used: a server that is down now may be up then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the operating system has no threads left.
    pub fn new(config: MongoConfig) -> Result<Self, Error> {
        Ok(Self { client: Client::new(config)? })
    }

    /// What the provider was made with.
    pub fn config(&self) -> &MongoConfig {
        self.client.config()
    }

    async fn insert_new(&self, id: SessionId, record: Record, now: Timestamp) -> Result<(), Error> {
        self.client.perform(Access::Write, move |sessions| insert(sessions, id, record, now)).await
    }

    async fn fetch(&self, id: SessionId, now: Timestamp) -> Result<Option<Record>, Error> {
        let found = self
            .client
            .perform(Access::Read, move |sessions| async move {
                let find = sessions.find_one(statement::of(&id)).projection(document::projection());
                find.await.map_err(|error| failure::of_read(&error))
            })
            .await?;
        // Outside of the driver's runtime: the caller's time, not that of other operations.
        let record = found.map(|document| document::decode(&document)).transpose()?;
        Ok(record.filter(|record| record.is_live(now)))
    }

    async fn merge(&self, id: SessionId, changes: &Changes, now: Timestamp) -> Result<(), Error> {
        check(changes)?;
        let filter = statement::expected(&id, changes, now);
        let update = statement::save(changes);
        let conditional = changes.expected.is_some();
        self.client
            .perform(Access::Write, move |sessions| async move {
                let written = write(Repeat::Harmful, || async {
                    sessions.update_one(filter.clone(), update.clone()).await
                });
                match written.await?.answer.matched_count {
                    0 if conditional && is_live(&sessions, &id, now).await? => Err(Error::Conflict),
                    0 => Err(Error::Gone),
                    _ => Ok(()),
                }
            })
            .await
    }

    async fn move_to(&self, old: SessionId, new: SessionId, now: Timestamp) -> Result<(), Error> {
        self.client.perform(Access::Write, move |sessions| rename(sessions, old, new, now)).await
    }

    async fn remove(&self, id: SessionId) -> Result<(), Error> {
        self.client.perform(Access::Write, move |sessions| delete(sessions, id)).await
    }

    async fn extend(&self, id: SessionId, expires: Timestamp, now: Timestamp) -> Result<(), Error> {
        self.client
            .perform(Access::Write, move |sessions| async move {
                let touch = || async {
                    let filter = statement::live(&id, now);
                    sessions.update_one(filter, statement::touch(expires)).await
                };
                match write(Repeat::Harmless, touch).await?.answer.matched_count {
                    0 => Err(Error::Gone),
                    _ => Ok(()),
                }
            })
            .await
    }

    async fn count_live(&self, now: Timestamp) -> Result<u64, Error> {
        self.client
            .perform(Access::Read, move |sessions| async move {
                let count = sessions.count_documents(statement::all_live(now)).await;
                count.map_err(|error| failure::of_read(&error))
            })
            .await
    }

    fn delete_expired(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let limit = limit.min(DELETED_AT_ONCE);
        self.client.perform_blocking(Access::Write, move |sessions| purge(sessions, now, limit))
    }
}

/// Inserts, or takes the place of a session that expired.
async fn insert(
    sessions: Sessions,
    id: SessionId,
    record: Record,
    now: Timestamp,
) -> Result<(), Error> {
    // With an `_id` of ours, so that a repetition that meets the first attempt knows it.
    let own = ObjectId::new();
    let document = document::encode(&id, &record, Some(own))?;
    let inserted = write(Repeat::Harmless, || async { sessions.insert_one(&document).await }).await;
    let failure = match inserted {
        Ok(_) => return Ok(()),
        Err(failure) if failure::is_duplicate_key(&failure.error) => failure,
        Err(failure) => return Err(failure.into()),
    };
    if failure.is_doubtful() {
        let mut first_attempt = statement::of(&id);
        first_attempt.insert("_id", own);
        if is_there(&sessions, first_attempt.clone()).await? {
            return confirm(&sessions, first_attempt).await;
        }
    }
    let replacement = document::encode(&id, &record, None)?;
    let replace =
        || async { sessions.replace_one(statement::expired(&id, now), &replacement).await };
    if write(Repeat::Harmful, replace).await?.answer.matched_count > 0 {
        return Ok(());
    }
    // A live session is in the way; or it was an expired one, and was collected just now.
    let inserted = write(Repeat::Harmful, || async { sessions.insert_one(&document).await }).await;
    inserted.map(|_| ()).map_err(Error::from)
}

/// Changes the key of a live record in place.
async fn rename(
    sessions: Sessions,
    old: SessionId,
    new: SessionId,
    now: Timestamp,
) -> Result<(), Error> {
    let attempt =
        || async { sessions.update_one(statement::live(&old, now), statement::rename(&new)).await };
    let mut renamed = write(Repeat::Harmless, attempt).await;
    if renamed.as_ref().is_err_and(|failure| failure::is_duplicate_key(&failure.error)) {
        // Where an expired record has the new id, it makes room.
        let delete = || async { sessions.delete_one(statement::expired(&new, now)).await };
        write(Repeat::Harmless, delete).await?;
        renamed = write(Repeat::Harmless, attempt).await;
    }
    let renamed = renamed?;
    if renamed.answer.matched_count > 0 {
        return Ok(());
    }
    // The old id is gone for good. The new one is known to nobody else: if it is there, an earlier
    // attempt of ours was applied after all.
    if renamed.repeated && is_there(&sessions, statement::live(&new, now)).await? {
        return confirm(&sessions, statement::live(&new, now)).await;
    }
    Err(Error::Gone)
}

/// Deletes, and makes sure where nothing seems to be there to be deleted.
///
/// MongoDB's deletion meets a change of the same document by starting over. Servers on PostgreSQL
/// answer instead that they found nothing; a session that ended would live on.
async fn delete(sessions: Sessions, id: SessionId) -> Result<(), Error> {
    loop {
        let deleted = || async { sessions.delete_one(statement::of(&id)).await };
        let deleted = write(Repeat::Harmless, deleted).await?.answer.deleted_count;
        if deleted > 0 || !is_there(&sessions, statement::of(&id)).await? {
            return Ok(());
        }
    }
}

/// Deletes a batch of what has expired. The condition stands again in the deletion: a session whose
/// lifetime was just extended by a server with another clock is left alone.
async fn purge(sessions: Sessions, now: Timestamp, limit: usize) -> Result<Purged, Error> {
    let expired = statement::all_expired(now);
    let batch = i64::try_from(limit).unwrap_or(i64::MAX);
    let found = sessions.find(expired.clone()).projection(doc! { "_id": 1 }).limit(batch);
    let found = found.batch_size(u32::try_from(limit).unwrap_or(u32::MAX)).await;
    let mut found = found.map_err(|error| failure::of_read(&error))?;
    let mut ids = Vec::with_capacity(limit);
    while found.advance().await.map_err(|error| failure::of_read(&error))? {
        if let Ok(Some(id)) = found.current().get("_id") {
            ids.extend(Bson::try_from(id));
        }
    }
    let more = ids.len() == limit;
    if ids.is_empty() {
        return Ok(Purged::default());
    }
    let mut filter = expired;
    filter.insert("_id", doc! { "$in": ids });
    let delete = || async { sessions.delete_many(filter.clone()).await };
    let deleted = write(Repeat::Harmless, delete).await?.answer.deleted_count;
    Ok(Purged { removed: usize::try_from(deleted).unwrap_or(usize::MAX), more })
}

async fn is_live(sessions: &Sessions, id: &SessionId, now: Timestamp) -> Result<bool, Error> {
    is_there(sessions, statement::live(id, now)).await
}

/// Asks for no more than whether a document is there.
async fn is_there(sessions: &Sessions, filter: Document) -> Result<bool, Error> {
    let found = sessions.find_one(filter).projection(doc! { "_id": 1 }).await;
    Ok(found.map_err(|error| failure::of_read(&error))?.is_some())
}

/// Acknowledges what an earlier attempt of a write left, if a majority has it.
async fn confirm(sessions: &Sessions, filter: Document) -> Result<(), Error> {
    let find = sessions.find_one(filter).projection(doc! { "_id": 1 });
    match find.read_concern(ReadConcern::majority()).await {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err(failure::in_doubt(Cause::new("not confirmed by a majority"))),
        Err(error) => Err(failure::in_doubt(Cause::of(&error))),
    }
}

/// Refuses what is over a limit by itself. What a save adds to stored keys it doesn't name, only
/// the server could tell, and MongoDB's updates don't: each request has checked its own view, so
/// that requests at the same time may together exceed a limit by what they add.
fn check(changes: &Changes) -> Result<(), Error> {
    let set = || changes.iter().filter_map(|(key, value)| value.map(|value| (key, value)));
    let bytes: usize = set().map(|(key, value)| key.len() + value.len()).sum();
    let most = changes.limits.bytes.min(MAX_BYTES);
    if bytes > most {
        return Err(Error::TooLarge { what: "session bytes", limit: most });
    }
    if set().count() > changes.limits.keys {
        return Err(Error::TooLarge { what: "session keys", limit: changes.limits.keys });
    }
    Ok(())
}

impl Provider for MongoProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::boxed(async move {
            self.insert_new(*id, record, now).await?;
            Ok(Token::from(*id))
        })
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        ProviderFuture::boxed(self.fetch(*token.id(), now))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::boxed(async move {
            self.merge(*token.id(), changes, now).await?;
            Ok(token.clone())
        })
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::boxed(async move {
            self.move_to(*token.id(), *new_id, now).await?;
            Ok(Token::from(*new_id))
        })
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        ProviderFuture::boxed(self.remove(*token.id()))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::boxed(async move {
            self.extend(*token.id(), expires, now).await?;
            Ok(token.clone())
        })
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        ProviderFuture::boxed(self.count_live(now))
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        if self.config().ensure_ttl {
            // The server's own job.
            return Ok(Purged::default());
        }
        self.delete_expired(now, limit)
    }
}
