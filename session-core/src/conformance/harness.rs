//! [`Harness`]: how the suite reaches the store under test.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::Proxy;
use crate::provider::Provider;
use crate::{Limits, SessionKey, Timestamp};

/// A future that [`Harness::block_on`] runs to its end.
pub type HarnessFuture<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// One case's store, and how to reach it.
///
/// A harness is one store, empty at first, that nothing else uses. Its `Drop` cleans up.
pub trait Harness: Sync {
    /// Returns a handle onto the store; always the same store.
    fn provider(&self) -> Arc<dyn Provider>;

    /// Returns another handle onto the same store, as another process would have: with connections, caches
    /// and locks of its own. Defaults to the same handle, for stores that live in one process.
    fn another(&self) -> Arc<dyn Provider> {
        self.provider()
    }

    /// Returns what the provider can and can't do. By default, it can do everything but list.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Returns the time at which cases begin. They pass it to the provider as `now`, and later times, up to some days
    /// ahead. Defaults to a time in the year 2020, which is far from the system's clock, so that a provider fails if it
    /// reads that clock instead of `now`. A harness returns the real time if the store itself compares expiries with
    /// its clock, such as an index that deletes documents.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_600_000_000_123)
    }

    /// Returns how often cases repeat what fails only for some seeds or timings. Defaults to 2,000, for
    /// stores that take microseconds; slower stores return a tenth or a hundredth of it.
    fn rounds(&self) -> usize {
        2_000
    }

    /// Returns the number of entries in the store's index of owners, including those of all owners and of
    /// sessions that are gone.
    ///
    /// If the server removes entries by a timer, an implementation leaves out those whose timer ends before `now`:
    /// cases pass a time long after the last expiry, because they can't wait for it. Otherwise `now` makes no
    /// difference.
    ///
    /// Defaults to `None`: the number is unknown, and no case checks whether the index grows.
    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        None
    }

    /// Returns when the store itself will remove a session's record: by a timer of a server, the time of a file, or the
    /// time that the provider's own collection compares with. It may be later than the record's expiry, by a margin
    /// that is the same for all records.
    ///
    /// The result is a time of the *caller's* clock, by which the last write was at `now`. For a store that counts
    /// down, as Redis does, return `now` plus the time that is left. For one that keeps a time, return that; then `now`
    /// makes no difference. Don't read the system's clock: a provider that mixes the two
    /// clocks is found because they differ.
    ///
    /// Defaults to `None`: it is unknown, and the cases about it are not run. An implementation panics if the record is
    /// missing.
    fn store_expiry(&self, _key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        None
    }

    /// Damages a session's stored record without using the provider, so that it can't be read, and leaves its expiry as
    /// it is. Returns whether it did. Defaults to returning false: the cases about damaged records are not run.
    fn damage(&self, _key: &SessionKey) -> bool {
        false
    }

    /// Opens a handle onto the same store whose connections all go through a proxy, to the address that
    /// [`Proxy::forward_to`] returns. Its time limits should be short, such as a second, because cases wait for them.
    ///
    /// Defaults to `None`, for stores without a network.
    fn through(&self, _proxy: &Proxy) -> Option<Arc<dyn Provider>> {
        None
    }

    /// Returns how long an operation of a handle that [`through`](Self::through) opened may take before its case gives
    /// up and fails. Defaults to 30 seconds, which is much longer than the handle's own time limits, so that no case
    /// fails only because the machine is busy.
    fn time_limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    /// Runs a future to its end. Cases call it from several threads at once. Defaults to polling
    /// on the calling thread; a provider that needs a runtime uses that.
    fn block_on(&self, future: HarnessFuture<'_>) {
        futures_lite::future::block_on(future);
    }
}

/// A provider of one process is its own harness.
impl<P: Provider> Harness for Arc<P> {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::<P>::clone(self)
    }
}

/// What a provider can do. Its documentation states what it can't do; the cases that need that are not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// `count` knows the number of live sessions; otherwise it returns
    /// [`Unsupported`](crate::Error::Unsupported). Defaults to true.
    pub count: bool,
    /// Saves by one token merge, as the record is at the server. False where the token is the record.
    /// Defaults to true.
    pub merges: bool,
    /// A save by a client that is not the holder any more is refused at the store. Defaults to true.
    pub checks_holder: bool,
    /// `touch` and `destroy` find the record by its key, whoever holds it. Defaults to true.
    pub by_key: bool,
    /// `create` refuses a key that a live record has. Defaults to true.
    pub notices_taken_keys: bool,
    /// Saves and touches never replace the client's token. Defaults to true.
    pub stable_token: bool,
    /// A destroyed session's tokens, and those of a replaced secret, are dead at once. False where a
    /// copy of an old token works until it expires. Defaults to true.
    pub revokes: bool,
    /// `list` knows an owner's sessions; otherwise it returns
    /// [`Unsupported`](crate::Error::Unsupported). Defaults to false.
    pub lists: bool,
    /// A save notices that the merged record is over [`Limits`]. Defaults to true.
    pub limits: bool,
    /// `purge` itself removes what expired. False where there is nothing to remove, or where the
    /// store has a timer of its own. Defaults to true.
    pub purges: bool,
    /// A clock that is far behind the one by which a record was stored still finds it. False where a
    /// record from the future is refused. Defaults to true.
    pub from_the_future: bool,
    /// An id of one namespace opens nothing in another: [`verifier`](Provider::verifier) depends on the
    /// namespace. Defaults to true.
    pub namespaces: bool,
    /// What a record keeps of a client's secret doesn't contain the secret, so a leaked store opens no session. False
    /// only for stores that never leave the process's memory, or that can't be read without a key. Defaults to true.
    pub hides_secrets: bool,
    /// The bytes of keys and values that fit. Defaults to 65,536, the default of [`Limits`].
    pub max_bytes: usize,
    /// The number of keys that fit. Defaults to 1,024, the default of [`Limits`].
    pub max_keys: usize,
}

impl Default for Capabilities {
    fn default() -> Self {
        let Limits { bytes, keys, .. } = Limits::default();
        Self {
            count: true,
            merges: true,
            checks_holder: true,
            by_key: true,
            notices_taken_keys: true,
            stable_token: true,
            revokes: true,
            lists: false,
            limits: true,
            purges: true,
            from_the_future: true,
            namespaces: true,
            hides_secrets: true,
            max_bytes: bytes,
            max_keys: keys,
        }
    }
}
