//! The provider over the collection.

use mongodb::action::Find;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc};
use session_core::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::client::{Access, Client, Documents};
use crate::document::{self, ID, MAX_BYTES};
use crate::failure;
use crate::write::{Idempotency, Sessions};
use crate::{MongoConfig, statement};

/// How many documents are deleted at once, whatever the caller allows.
const DELETED_AT_ONCE: usize = 1000;

/// Keeps sessions in a MongoDB collection, for any number of servers.
///
/// Each operation on a session is one command on one document, found by its `_id`; so MongoDB makes it
/// atomic. Only where one fails is there a second command, to tell why.
#[derive(Debug)]
pub struct MongoProvider {
    client: Client,
}

impl MongoProvider {
    /// Makes a provider that connects when it is first used: a server that is down now may be up then.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the operating system has no threads left.
    pub fn new(config: MongoConfig) -> Result<Self, Error> {
        Ok(Self { client: Client::new(config)? })
    }

    /// The configuration that the provider was made with.
    pub fn config(&self) -> &MongoConfig {
        self.client.config()
    }

    async fn insert_new(
        &self,
        key: SessionKey,
        record: Record,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.client.perform(Access::Write, move |sessions| insert(sessions, key, record, now)).await
    }

    async fn fetch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Record>, Error> {
        let found = self
            .client
            .perform(Access::Read, move |sessions| async move {
                let find = sessions.documents.find_one(statement::by_key(&key));
                find.projection(document::projection()).await.map_err(|e| failure::of_read(&e))
            })
            .await?;
        // Outside of the driver's runtime: the caller's time, not that of other operations.
        let record = found.map(|document| document::decode(&document)).transpose()?;
        Ok(record.filter(|record| record.is_live(now)))
    }

    async fn merge(
        &self,
        key: SessionKey,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        check(changes)?;
        let is_conditional = !changes.expected.is_empty();
        let now_held = statement::held(&key, holder, now);
        let filter = statement::expected(now_held.clone(), changes);
        // A record that has the new secret of these changes already accepts them, too.
        let then_held = changes.secret.as_ref().map(|new| statement::held(&key, &new.holder, now));
        let then = then_held.map(|held| (statement::expected(held.clone(), changes), held));
        let update = statement::save(changes);
        // With a new secret, the filter matches no document that an attempt has changed already: an
        // attempt that arrives late, after its repetition, can't undo what was saved since.
        let idempotency =
            if then.is_some() { Idempotency::Idempotent } else { Idempotency::NotIdempotent };
        self.client
            .perform(Access::Write, move |sessions| async move {
                let save = |filter: &Document| {
                    let (filter, update) = (filter.clone(), update.clone());
                    move |documents: Documents| {
                        let (filter, update) = (filter.clone(), update.clone());
                        async move { documents.update_one(filter, update).await }
                    }
                };
                if sessions.write(idempotency, save(&filter)).await?.matched_count > 0 {
                    return Ok(());
                }
                if let Some((expected, held)) = &then {
                    // An earlier attempt of this very save has met its conditions, and has changed them.
                    // Nobody can have saved anything since: no client has the new secret yet.
                    let filter = if sessions.is_in_doubt() { held } else { expected };
                    if sessions.write(Idempotency::NotIdempotent, save(filter)).await?.matched_count
                        > 0
                    {
                        return Ok(());
                    }
                }
                if is_conditional {
                    for held in [Some(now_held), then.map(|(_, held)| held)].into_iter().flatten() {
                        if sessions.has(held).await? {
                            return Err(Error::Conflict);
                        }
                    }
                }
                Err(Error::Gone)
            })
            .await
    }

    async fn extend(&self, key: SessionKey, touch: Touch, now: Timestamp) -> Result<(), Error> {
        self.client
            .perform(Access::Write, move |sessions| async move {
                let touch = |documents: Documents| async move {
                    documents.update_one(statement::live(&key, now), statement::touch(touch)).await
                };
                match sessions.write(Idempotency::Idempotent, touch).await?.matched_count {
                    0 => Err(Error::Gone),
                    _ => Ok(()),
                }
            })
            .await
    }

    async fn page(&self, owner: &str, page: Page, now: Timestamp) -> Result<Listed, Error> {
        let size = page.size();
        let filter = statement::owned(owner, page.after);
        let mut found = self
            .client
            .perform(Access::Read, move |sessions| async move {
                let find = sessions.documents.find(filter).sort(doc! { ID: 1 });
                // One more, to know whether others follow.
                at_most(size + 1, find.projection(document::summary_projection())).await
            })
            .await?;
        let next = page.cut(&mut found, |last| document::key(last));
        let summaries = found.iter().filter_map(|found| document::summary(found, owner, now));
        Ok(Listed { sessions: summaries.collect(), next })
    }

    async fn count_live(&self, now: Timestamp) -> Result<u64, Error> {
        self.client
            .perform(Access::Read, move |sessions| async move {
                let count = sessions.documents.count_documents(statement::all_live(now)).await;
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
    key: SessionKey,
    record: Record,
    now: Timestamp,
) -> Result<(), Error> {
    let document = document::encode(&key, &record)?;
    let insert = |documents: Documents| {
        let document = &document;
        async move { documents.insert_one(document).await }
    };
    let failure = match sessions.write(Idempotency::Idempotent, insert).await {
        Ok(_) => return Ok(()),
        Err(failure) if failure.is_duplicate_key() => failure,
        Err(failure) => return Err(failure.into()),
    };
    if failure.is_repeated() {
        let own = statement::created(&key, &record.holder);
        if sessions.has(own.clone()).await? {
            return sessions.confirm(own).await;
        }
    }
    let replace = |documents: Documents| {
        let document = &document;
        async move { documents.replace_one(statement::expired(&key, now), document).await }
    };
    if sessions.write(Idempotency::NotIdempotent, replace).await?.matched_count > 0 {
        return Ok(());
    }
    // A live session is in the way; or it was an expired one, and was collected just now.
    let inserted = sessions.write(Idempotency::NotIdempotent, insert).await;
    inserted.map(|_| ()).map_err(Error::from)
}

/// Deletes, and makes sure where nothing seems to be there to be deleted.
///
/// MongoDB's deletion meets a change of the same document by starting over. Servers on PostgreSQL
/// return instead that they found nothing; a session that ended would live on.
async fn delete(sessions: Sessions, key: SessionKey) -> Result<(), Error> {
    let delete =
        |documents: Documents| async move { documents.delete_one(statement::by_key(&key)).await };
    loop {
        let deleted = sessions.write(Idempotency::Idempotent, delete).await?.deleted_count;
        if deleted > 0 || !sessions.has(statement::by_key(&key)).await? {
            return Ok(());
        }
    }
}

/// Reads what a query finds, but no more documents than this, in one batch.
async fn at_most(
    limit: usize,
    find: Find<'_, RawDocumentBuf>,
) -> Result<Vec<RawDocumentBuf>, Error> {
    // Where a batch is as large as the limit, servers don't say that nothing follows.
    let batch = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX)).batch_size(batch);
    let mut cursor = find.await.map_err(|error| failure::of_read(&error))?;
    let mut found = Vec::new();
    while cursor.advance().await.map_err(|error| failure::of_read(&error))? {
        found.push(cursor.current().to_owned());
    }
    Ok(found)
}

/// Deletes a batch of what has expired. The condition stands again in the deletion: a session whose
/// lifetime was just extended by a server with another clock is left alone.
async fn purge(sessions: Sessions, now: Timestamp, limit: usize) -> Result<Purged, Error> {
    let expired = statement::all_expired(now);
    let found = sessions.documents.find(expired.clone()).projection(doc! { ID: 1 });
    let found = at_most(limit, found).await?;
    let ids: Vec<Bson> =
        found.iter().filter_map(|document| Bson::try_from(document.get(ID).ok()??).ok()).collect();
    let more = ids.len() == limit;
    if ids.is_empty() {
        return Ok(Purged::default());
    }
    let mut filter = expired;
    filter.insert(ID, doc! { "$in": ids });
    let delete = |documents: Documents| {
        let filter = filter.clone();
        async move { documents.delete_many(filter).await }
    };
    let deleted = sessions.write(Idempotency::Idempotent, delete).await?.deleted_count;
    Ok(Purged { removed: usize::try_from(deleted).unwrap_or(usize::MAX), more })
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
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            self.insert_new(id.key(), record, now).await?;
            Ok(None)
        })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        ProviderFuture::boxed(self.fetch(token.key(), now))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            self.merge(token.key(), holder, changes, now).await?;
            Ok(None)
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            self.extend(token.key(), touch, now).await?;
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
        ProviderFuture::boxed(
            self.client.perform(Access::Write, move |sessions| delete(sessions, key)),
        )
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        ProviderFuture::boxed(self.page(owner, page, now))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
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
