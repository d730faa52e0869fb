//! A provider's operations, each run to its end.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::sample::{HOUR, until};
use super::{Capabilities, Harness};
use crate::provider::{
    Changes, Listed, NewSecret, Page, Provider, Purged, Record, Summary, Token, Touch, Verifier,
};
use crate::{Error, SessionId, Timestamp};

/// Runs a future to its end, as the harness does, and returns its outcome.
pub(crate) fn wait<T>(harness: &dyn Harness, future: impl Future<Output = T>) -> T {
    let mut outcome = None;
    harness.block_on(Box::pin(async { outcome = Some(future.await) }));
    outcome.expect("block_on runs the future to its end")
}

/// Lists an owner's sessions, from pages of this limit. No page is larger, and keys ascend over all pages,
/// so that none is there twice.
pub(crate) async fn listed(
    provider: &dyn Provider,
    owner: &str,
    limit: usize,
    now: Timestamp,
) -> Vec<Summary> {
    let mut all = Vec::new();
    let mut page = Page { after: None, limit };
    loop {
        let Listed { sessions, next } =
            provider.list(owner, page, now).await.expect("listing works");
        assert!(
            sessions.len() <= page.size(),
            "a page with a limit of {limit} has {} sessions",
            sessions.len()
        );
        let keys = sessions.iter().map(|summary| Some(summary.key));
        let keys: Vec<_> = [page.after].into_iter().chain(keys).collect();
        assert!(
            keys.is_sorted_by(|one, other| one < other),
            "the keys of a list do not ascend: {keys:?} behind {:?}",
            page.after
        );
        all.extend(sessions);
        let Some(next) = next else { return all };
        assert!(
            Some(next) > page.after && Some(next) >= keys[keys.len() - 1],
            "the next page begins at {next:?}, which is not behind this one, up to {:?}",
            keys[keys.len() - 1]
        );
        page.after = Some(next);
    }
}

/// A case's view of the store.
pub(crate) struct Store<'h> {
    harness: &'h dyn Harness,
    provider: Arc<dyn Provider>,
    /// The time at which the case begins.
    pub(crate) now: Timestamp,
    pub(crate) can: Capabilities,
}

impl<'h> Store<'h> {
    pub(crate) fn open(harness: &'h dyn Harness) -> Self {
        Self {
            harness,
            provider: harness.provider(),
            now: harness.now(),
            can: harness.capabilities(),
        }
    }

    /// The same store as another process sees it.
    pub(crate) fn another(&self) -> Self {
        self.by(self.harness.another())
    }

    /// The same store by another handle.
    pub(crate) fn by(&self, provider: Arc<dyn Provider>) -> Self {
        Self { provider, ..Self::open(self.harness) }
    }

    pub(crate) fn provider(&self) -> &Arc<dyn Provider> {
        &self.provider
    }

    /// The time so much later.
    pub(crate) fn after(&self, time: Duration) -> Timestamp {
        self.now.saturating_add(time)
    }

    /// An instant at which sample records are long expired and due for collection.
    pub(crate) fn much_later(&self) -> Timestamp {
        self.after(4 * HOUR)
    }

    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        wait(self.harness, future)
    }

    /// Which client a token's is, as records keep it.
    pub(crate) fn holder(&self, token: &Token) -> Verifier {
        self.provider.verifier(token, "")
    }

    /// Stores a record under an id, whose client holds it.
    pub(crate) fn create(
        &self,
        id: &SessionId,
        record: &Record,
        now: Timestamp,
    ) -> Result<Token, Error> {
        let issued = self.provider.issue(*id);
        let record = Record { holder: self.holder(&issued), ..record.clone() };
        let created = self.wait(self.provider.create(id, record, now));
        created.map(|token| token.unwrap_or(issued))
    }

    /// Stores a record under a new id.
    #[track_caller]
    pub(crate) fn stored(&self, record: &Record) -> Token {
        let token = self.create(&self.new_id(), record, self.now);
        token.expect("a record of a new id is stored")
    }

    /// An id that nobody has.
    #[track_caller]
    pub(crate) fn new_id(&self) -> SessionId {
        self.provider.new_id().expect("the system has random numbers")
    }

    /// The record under the token's key, whoever holds it.
    pub(crate) fn load(&self, token: &Token, now: Timestamp) -> Result<Option<Record>, Error> {
        self.wait(self.provider.load(token, now))
    }

    /// The record that the token's client holds, if it is live at the beginning of the case.
    #[track_caller]
    pub(crate) fn found(&self, token: &Token) -> Option<Record> {
        self.found_at(token, self.now)
    }

    /// The record that the token's client holds, as [`sample`](super::sample) records are compared:
    /// without the holder.
    #[track_caller]
    pub(crate) fn found_at(&self, token: &Token, now: Timestamp) -> Option<Record> {
        let loaded = self.load(token, now).expect("loading works");
        let held = loaded.filter(|record| record.holder == self.holder(token));
        held.map(|record| Record { holder: Verifier::NOBODY, ..record })
    }

    /// Saves changes for the token's client. Returns the token to use from then on.
    pub(crate) fn save(
        &self,
        token: &Token,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Token, Error> {
        self.save_as(&self.holder(token), token, changes, now)
    }

    /// Saves changes for a client.
    pub(crate) fn save_as(
        &self,
        holder: &Verifier,
        token: &Token,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<Token, Error> {
        let saved = self.wait(self.provider.save(token, holder, changes, now))?;
        Ok(saved.unwrap_or_else(|| match &changes.secret {
            Some(secret) => secret.token.clone(),
            None => token.clone(),
        }))
    }

    /// Saves changes that are bound to succeed; returns the token to use from then on.
    #[track_caller]
    pub(crate) fn saved(&self, token: &Token, changes: &Changes) -> Token {
        self.save(token, changes, self.now).expect("a live record is saved")
    }

    /// A new secret for a token's session.
    #[track_caller]
    pub(crate) fn secret(&self, token: &Token, at: Timestamp) -> NewSecret {
        let id = self.provider.renewed_id(token.id()).expect("the system has random numbers");
        let token = self.provider.issue(id);
        NewSecret { holder: self.holder(&token), token, at }
    }

    /// These changes with a new secret.
    pub(crate) fn with_secret(&self, token: &Token, changes: Changes, now: Timestamp) -> Changes {
        changes.with_secret(self.secret(token, now))
    }

    /// Gives a session a new secret and changes nothing else. Returns the token to use from then on.
    pub(crate) fn renew(&self, token: &Token, now: Timestamp) -> Result<Token, Error> {
        self.save(token, &self.with_secret(token, Changes::new(), now), now)
    }

    /// Destroys the session of the token's key.
    pub(crate) fn destroy(&self, token: &Token, now: Timestamp) -> Result<(), Error> {
        let until = self.after(100 * HOUR);
        self.wait(self.provider.destroy(&token.key(), until, now))
    }

    /// Moves the expiry.
    pub(crate) fn touch(
        &self,
        token: &Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> Result<Token, Error> {
        self.touch_as(token, until(expires), now)
    }

    pub(crate) fn touch_as(
        &self,
        token: &Token,
        touch: Touch,
        now: Timestamp,
    ) -> Result<Token, Error> {
        let touched = self.wait(self.provider.touch(token, touch, now));
        touched.map(|renewed| renewed.unwrap_or_else(|| token.clone()))
    }

    /// A page of an owner's sessions.
    #[track_caller]
    pub(crate) fn page(&self, owner: &str, page: Page, now: Timestamp) -> Listed {
        self.wait(self.provider.list(owner, page, now)).expect("listing works")
    }

    /// An owner's sessions, from pages of this limit.
    #[track_caller]
    pub(crate) fn list(&self, owner: &str, limit: usize, now: Timestamp) -> Vec<Summary> {
        self.wait(listed(&*self.provider, owner, limit, now))
    }

    pub(crate) fn count(&self, now: Timestamp) -> Result<u64, Error> {
        self.wait(self.provider.count(now))
    }

    #[track_caller]
    pub(crate) fn purge(&self, now: Timestamp, limit: usize) -> Purged {
        self.provider.purge(now, limit).expect("collection works")
    }

    /// Purges until nothing more is said to remain; returns how many records were removed.
    #[track_caller]
    pub(crate) fn drain(&self, now: Timestamp, limit: usize) -> usize {
        let mut removed = 0;
        for _ in 0..100_000 {
            let slice = self.purge(now, limit);
            removed += slice.removed;
            if !slice.more {
                return removed;
            }
        }
        panic!("purge says for ever that more remains");
    }
}
