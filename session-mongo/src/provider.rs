//! The provider: each operation as a command.

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

/// The most documents that one call of `purge` deletes, whatever its limit.
const DELETED_AT_ONCE: usize = 1000;

/// Keeps sessions in a MongoDB collection, for any number of servers.
///
/// Each operation on a session is one command on one document, which is found by its `_id`, so MongoDB
/// makes it atomic. A second command is sent only after a failure, to find out the reason.
#[derive(Debug)]
pub struct MongoProvider {
    client: Client,
}

impl MongoProvider {
    /// Makes a provider. It connects when it is first used, so the server may be down now.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the operating system has no threads left.
    pub fn new(config: MongoConfig) -> Result<Self, Error> {
        Ok(Self { client: Client::new(config)? })
    }

    /// Returns the configuration that the provider was made with.
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
        // Decoding runs on the caller's thread, so that it doesn't delay other operations on the
        // driver's runtime.
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
        // A record that already has the new secret of these changes accepts them as well.
        let then_held = changes.secret.as_ref().map(|new| statement::held(&key, &new.holder, now));
        let then = then_held.map(|held| (statement::expected(held.clone(), changes), held));
        let update = statement::save(changes);
        // With a new secret, the filter doesn't match a document that an earlier attempt has changed. So
        // an attempt that arrives late, after a retry, can't undo what was saved since.
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
                    // An earlier attempt of this save may have found the expected values and changed
                    // them. Nobody can have saved anything since, because no client has the new secret
                    // yet.
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
                // One more than the page holds, to tell whether another page follows.
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

/// Inserts a session, or replaces an expired one.
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
    // Either a live session has the key, or an expired one had it and was deleted just now.
    let inserted = sessions.write(Idempotency::NotIdempotent, insert).await;
    inserted.map(|_| ()).map_err(Error::from)
}

/// Deletes a session. If no document was found, checks that there is none.
///
/// If a document changes while MongoDB deletes it, MongoDB starts over. Servers on PostgreSQL report
/// that they found nothing instead, and the session would not end.
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

/// Reads at most `limit` documents of a query, in one batch.
async fn at_most(
    limit: usize,
    find: Find<'_, RawDocumentBuf>,
) -> Result<Vec<RawDocumentBuf>, Error> {
    // If a batch is exactly as large as the limit, servers don't report that nothing follows.
    let batch = u32::try_from(limit + 1).unwrap_or(u32::MAX);
    let find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX)).batch_size(batch);
    let mut cursor = find.await.map_err(|error| failure::of_read(&error))?;
    let mut found = Vec::new();
    while cursor.advance().await.map_err(|error| failure::of_read(&error))? {
        found.push(cursor.current().to_owned());
    }
    Ok(found)
}

/// Deletes a batch of expired sessions. The deletion checks the expiry again, so a session that another
/// server has just extended is left alone.
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

/// Refuses changes that exceed a limit by themselves. Only the server knows the size of the stored
/// values that a save doesn't name, and MongoDB's updates can't check it. Each request has checked the
/// record that it loaded, so concurrent requests may together exceed a limit by what they add.
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
            // The server's TTL index deletes them.
            return Ok(Purged::default());
        }
        self.delete_expired(now, limit)
    }
}
