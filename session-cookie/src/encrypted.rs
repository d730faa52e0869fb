//! Encryption at rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use session_core::provider::{
    Answer, Changes, Listed, Note, Page, Provider, ProviderContext, ProviderFuture, Purged, Record,
    Summary, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::KeyRing;
use crate::record_cipher::{RecordCipher, Snapshot};

/// Encrypts the values, owners and labels that another provider stores. The keys of values and the times
/// are not encrypted.
///
/// Each operation is one operation of the store, because a save builds on the record that the request
/// has loaded. There is one exception: while the ring has several keys, a page of an owner's sessions
/// asks the store once for the owner's digest under each key, and again under all but the last. What an
/// old key encrypted is encrypted anew by the session's next save or touch.
///
/// [Limits](session_core::Limits) are checked against the record that the request has loaded: concurrent
/// requests may exceed them together.
#[derive(Debug)]
pub struct EncryptedProvider<P> {
    inner: P,
    cipher: RecordCipher,
}

/// The note of a loaded record. Each save replaces it by the record as saved, because the request's next
/// save builds on that.
type SharedSnapshot = Mutex<Snapshot>;

/// Attempts of a save while other requests change the record in a way that only the encryption forbids.
const ATTEMPTS: usize = 32;

impl<P: Provider> EncryptedProvider<P> {
    /// Encrypts this provider's records.
    pub fn new(inner: P, keys: KeyRing) -> Self {
        Self { inner, cipher: RecordCipher { ring: keys } }
    }

    /// Loads the record that a save builds on.
    async fn read(
        &self,
        token: &Token,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Snapshot, Error> {
        let stored = match self.inner.load(token, now).await {
            Err(Error::Unreadable { .. }) => None,
            loaded => loaded?,
        };
        let is_held =
            |stored: &Record| stored.holder == *holder || changes.secret_is(&stored.holder);
        let stored = stored.filter(is_held).ok_or(Error::Gone)?;
        let (_, snapshot) = self.cipher.decrypt(&token.key(), stored).map_err(|_| Error::Gone)?;
        Ok(snapshot)
    }

    async fn merge(
        &self,
        token: &Token,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Option<Token>, Error> {
        let shared = snapshot(&changes.seen);
        let mut snapshot = match shared {
            Some(shared) => shared.lock().clone(),
            // The session was created in this request, so it was not loaded.
            None => self.read(token, holder, changes, now).await?,
        };
        for _ in 0..ATTEMPTS {
            let encrypted =
                self.cipher.encrypt_changes(&token.key(), holder, changes, &snapshot)?;
            match self.inner.save(token, holder, &encrypted.changes, now).await {
                Err(Error::Conflict) if encrypted.adds_preconditions => {
                    snapshot = self.read(token, holder, changes, now).await?;
                }
                saved => {
                    if let (Ok(_), Some(shared)) = (&saved, shared) {
                        *shared.lock() = encrypted.after;
                    }
                    return saved;
                }
            }
        }
        Err(Error::Conflict)
    }

    async fn page(&self, owner: &str, page: Page, now: Timestamp) -> Result<Listed, Error> {
        let mut found = BTreeMap::new();
        // Up to this key, each of the store's lists is complete.
        let mut end: Option<SessionKey> = None;
        for owner in self.cipher.stored_owners(owner) {
            let Listed { sessions, next } = self.inner.list(&owner, page, now).await?;
            found.extend(sessions.into_iter().map(|stored| (stored.key, stored)));
            end = end.into_iter().chain(next).min();
        }
        let is_known = |key: SessionKey| end.is_none_or(|end| key <= end);
        let mut stored: Vec<_> = found.into_values().filter(|s| is_known(s.key)).collect();
        if stored.len() > page.size() {
            stored.truncate(page.size());
            end = stored.last().map(|last| last.key);
        }
        let readable = |mut summary: Summary| {
            summary.label = self.cipher.label(&summary.key, &summary.label)?;
            Some(summary)
        };
        Ok(Listed { sessions: stored.into_iter().filter_map(readable).collect(), next: end })
    }
}

fn snapshot(note: &Note) -> Option<&SharedSnapshot> {
    note.as_deref().and_then(|note| note.downcast_ref())
}

impl<P: Provider> Provider for EncryptedProvider<P> {
    fn token(&self, text: &[u8]) -> Option<Token> {
        self.inner.token(text)
    }

    fn new_id(&self) -> Result<SessionId, Error> {
        self.inner.new_id()
    }

    fn renewed_id(&self, id: &SessionId) -> Result<SessionId, Error> {
        self.inner.renewed_id(id)
    }

    fn issue(&self, id: SessionId) -> Token {
        self.inner.issue(id)
    }

    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        self.inner.verifier(token, namespace)
    }

    fn is_outdated(&self, note: &Note) -> bool {
        snapshot(note).is_some_and(|snapshot| snapshot.lock().is_outdated)
    }

    fn configure(&self, context: &ProviderContext<'_>) -> Result<(), Error> {
        self.inner.configure(context)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        match self.cipher.encrypt(&id.key(), record) {
            Ok(encrypted) => self.inner.create(id, encrypted, now),
            Err(error) => ProviderFuture::ready(Err(error)),
        }
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        ProviderFuture::boxed(async move {
            let Some(stored) = self.inner.load(token, now).await? else { return Ok(None) };
            let decrypted = self.cipher.decrypt(&token.key(), stored);
            let (record, snapshot) = decrypted.map_err(|reason| Error::Unreadable { reason })?;
            Ok(Some(Record { note: Some(Arc::new(SharedSnapshot::new(snapshot))), ..record }))
        })
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(self.merge(token, holder, changes, now))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.inner.touch(token, touch, now)
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        self.inner.destroy(key, until, now)
    }

    fn lists(&self) -> bool {
        self.inner.lists()
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        ProviderFuture::boxed(self.page(owner, page, now))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.inner.purge(now, limit)
    }
}
