//! Sessions that ended before their cookies did.

use std::sync::Arc;

use session_core::{Error, Provider, Purged, Record, SessionId, Timestamp, Token};
use sha2::{Digest as _, Sha256};

/// Remembers the ids of ended sessions, as empty records of another provider under ids of their
/// own, which expire when the sessions would have.
#[derive(Clone, Debug)]
pub(crate) struct Revocations(Arc<dyn Provider>);

impl Revocations {
    pub(crate) fn new(store: Arc<dyn Provider>) -> Self {
        Self(store)
    }

    /// Whether the session has ended.
    pub(crate) async fn contains(&self, id: &SessionId, now: Timestamp) -> Result<bool, Error> {
        match self.0.load(&Token::from(entry(id)), now).await {
            Ok(found) => Ok(found.is_some()),
            // It was written for a session that ended.
            Err(Error::Unreadable { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Ends the session until then; false if it had ended before. Of several at once one is first.
    pub(crate) async fn add(
        &self,
        id: &SessionId,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let record = Record { created: now, expires: until, ..Record::default() };
        match self.0.create(&entry(id), record, now).await {
            Ok(_) => Ok(true),
            Err(Error::Exists) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.0.purge(now, limit)
    }
}

/// The id of a session's entry: none that a session can have.
fn entry(id: &SessionId) -> SessionId {
    let hash = Sha256::new().chain_update("session-cookie 1: ended").chain_update(id.as_bytes());
    SessionId::from_bytes(hash.finalize().into())
}
