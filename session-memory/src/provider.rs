//! The provider: spreads sessions over shards, removes expired ones and evicts.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hashbrown::DefaultHashBuilder;
use session_core::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderFuture, Purged, Record, Summary, Token, Touch,
    Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use tracing::{info, warn};

use crate::MemoryConfig;
use crate::capacity::{Capacity, cost, cost_of};
use crate::owner_index::OwnerIndex;
use crate::shard::{Earliest, Shard, Slot};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};

/// Enough shards that two processors rarely contend for one lock, and that growing one shard takes
/// little time even with ten million sessions.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 1024 };

/// How many expired records are removed before a shard's lock is released.
const REMOVED_AT_ONCE: usize = 64;

/// How many expired records a write into a full store removes before it evicts sessions.
const REMOVED_WHEN_FULL: usize = 1024;

/// Keeps sessions in memory.
///
/// Keys are spread over shards, each with its own lock. An operation on a session takes one shard's lock
/// once, and under it a lock of the owner index if the session gets or loses an owner. While a lock is
/// held, the record's changed values are copied, and nothing slower happens.
pub struct MemoryProvider {
    shards: Box<[Padded]>,
    /// For each shard, the earliest expiry and the oldest evictable session.
    earliest: Box<[Arc<Earliest>]>,
    owners: Arc<OwnerIndex>,
    hasher: Hasher,
    capacity: Capacity,
    /// The shard where the next collection starts.
    cursor: AtomicUsize,
    /// Whether the warning about the first eviction was logged.
    eviction_reported: AtomicBool,
    longest_hold: Longest,
}

/// Keeps the locks of neighbouring shards on different cache lines. 128 bytes, because processors
/// prefetch pairs of 64-byte lines.
#[repr(align(128))]
struct Padded(Mutex<Shard>);

/// Hashes keys.
///
/// Stored keys are random and chosen by the server, so the hash needs no protection against collisions,
/// and the two parts of a key may be combined by XOR. The hash is seeded nonetheless, so that timing
/// reveals nothing about stored keys.
#[derive(Clone, Default)]
pub(crate) struct Hasher(DefaultHashBuilder);

impl Hasher {
    pub(crate) fn hash(&self, key: &SessionKey) -> u64 {
        let (head, tail) = key.as_bytes().split_first_chunk().expect("a key has 12 bytes");
        let tail = tail.first_chunk().expect("4 bytes are left");
        let folded = u64::from_le_bytes(*head) ^ u64::from(u32::from_le_bytes(*tail));
        if cfg!(shuttle) {
            // Shuttle can replay a schedule, and tests know which keys share a shard.
            return folded << 32 | folded;
        }
        self.0.hash_one(folded)
    }
}

impl MemoryProvider {
    /// Makes an empty store.
    pub fn new(config: MemoryConfig) -> Self {
        let hasher = Hasher::default();
        let earliest: Box<[Arc<Earliest>]> = (0..SHARDS).map(|_| Arc::default()).collect();
        let owners = Arc::new(OwnerIndex::new());
        let shard = |earliest: &Arc<Earliest>| {
            Shard::new(hasher.clone(), Arc::clone(earliest), Arc::clone(&owners))
        };
        Self {
            shards: earliest.iter().map(|earliest| Padded(Mutex::new(shard(earliest)))).collect(),
            earliest,
            owners,
            hasher,
            capacity: Capacity::new(config),
            cursor: AtomicUsize::new(0),
            eviction_reported: AtomicBool::new(false),
            longest_hold: Longest::default(),
        }
    }

    /// Returns the longest time that collection has held a lock, by the wall clock. It includes time in
    /// which the operating system ran something else. For the example `scale`.
    #[doc(hidden)]
    pub fn longest_purge_hold(&self) -> Duration {
        Duration::from_nanos(self.longest_hold.0.load(Ordering::Relaxed))
    }

    /// Returns the number of sessions in the owner index. For tests.
    #[doc(hidden)]
    pub fn indexed_sessions(&self) -> usize {
        self.owners.len()
    }

    /// Returns the instant from which collection removes a session. For tests; looks at all sessions of a shard.
    #[doc(hidden)]
    pub fn collected_from(&self, key: &SessionKey) -> Option<Timestamp> {
        let shard = self.lock(key);
        shard.collected_from(shard.find(key)?)
    }

    /// Returns the number of the shard for a key. The shard number uses the middle bits of the hash, as
    /// the table inside a shard uses the lowest and the highest ones.
    fn shard_of(&self, key: &SessionKey) -> usize {
        (self.hasher.hash(key) >> 32) as usize % SHARDS
    }

    fn lock(&self, key: &SessionKey) -> MutexGuard<'_, Shard> {
        lock(&self.shards[self.shard_of(key)].0)
    }

    /// Runs `attempt`, which needs room for this key. On [`Error::Full`] it runs `attempt` again after
    /// it has removed expired sessions, and then after each eviction, until nothing more can be evicted.
    /// The caller holds no lock.
    fn making_room<T>(
        &self,
        key: &SessionKey,
        now: Timestamp,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut result = attempt();
        if matches!(result, Err(Error::Full { .. }))
            && self.remove_expired(now, REMOVED_WHEN_FULL).removed > 0
        {
            result = attempt();
        }
        while matches!(result, Err(Error::Full { .. })) && self.evict_oldest(key) {
            result = attempt();
        }
        result
    }

    /// Evicts the oldest session that was never loaded and has no owner, except the session of `key`,
    /// which the room is for. Returns whether there was one.
    fn evict_oldest(&self, key: &SessionKey) -> bool {
        let own = self.shard_of(key);
        let mut look_at_own = true;
        loop {
            let shards = (0..SHARDS).filter(|number| *number != own || look_at_own);
            let oldest =
                shards.filter_map(|number| Some((self.earliest[number].created()?, number)));
            let Some((_, number)) = oldest.min() else { return false };
            let removed = lock(&self.shards[number].0).remove_oldest(key);
            let Some(slot) = removed else {
                // The session's client has just come back, or the shard's only evictable session is the
                // one that needs room.
                look_at_own &= number != own;
                continue;
            };
            if !self.eviction_reported.swap(true, Ordering::Relaxed) {
                warn!(
                    "the memory provider is full: sessions whose clients never came back are evicted to \
                     make room; raise max_sessions or max_bytes, or shorten the sessions' \
                     lifetime"
                );
            }
            info!(session = %slot.key(), "session evicted from a full store: its client never came back");
            self.release_all([slot]);
            return true;
        }
    }

    fn insert_new(&self, key: SessionKey, record: Record, now: Timestamp) -> Result<(), Error> {
        let bytes = cost_of(record.login.as_deref(), &record.values);
        self.capacity.check(bytes)?;
        self.making_room(&key, now, || self.capacity.reserve(1, bytes))?;
        let mut shard = self.lock(&key);
        let dead = match shard.find(&key) {
            Some(at) if shard.slot(at).is_live(now) => {
                drop(shard);
                self.capacity.release(1, bytes);
                return Err(Error::Exists);
            }
            Some(at) => Some(shard.remove(at)),
            None => None,
        };
        shard.insert(Slot::new(key, record));
        drop(shard);
        self.release_all(dead);
        Ok(())
    }

    fn apply(
        &self,
        key: &SessionKey,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        let mut shard = self.lock(key);
        let at = shard.find_live(key, now).ok_or(Error::Gone)?;
        // The limits are checked before the stored record is changed.
        let mut changed = shard.slot(at).record();
        changed.apply(holder, changes, now)?;
        let changed = Slot::new(*key, changed);
        let (before, after) = (cost(shard.slot(at)), cost(&changed));
        self.capacity.check(after)?;
        self.capacity.reserve(0, after.saturating_sub(before))?;
        let old = shard.replace(at, changed);
        drop(shard);
        drop(old);
        self.capacity.release(0, before.saturating_sub(after));
        Ok(())
    }

    fn extend(&self, key: &SessionKey, touch: Touch, now: Timestamp) -> Result<(), Error> {
        let mut shard = self.lock(key);
        let at = shard.find_live(key, now).ok_or(Error::Gone)?;
        let mut touched = shard.slot(at).record();
        touched.touch(touch, now)?;
        shard.replace(at, Slot::new(*key, touched));
        Ok(())
    }

    fn remove(&self, key: &SessionKey) {
        let mut shard = self.lock(key);
        let removed = shard.find(key).map(|at| shard.remove(at));
        drop(shard);
        self.release_all(removed);
    }

    fn page(&self, owner: &str, page: Page, now: Timestamp) -> Listed {
        // One key more than the page holds, to tell whether another page follows.
        let mut keys = self.owners.keys(owner, page.after, page.size() + 1);
        let next = page.cut(&mut keys, |key| Some(*key));
        let sessions = keys.iter().filter_map(|key| self.summary(key, owner, now)).collect();
        Listed { sessions, next }
    }

    /// Returns the summary of a session that the index has under this owner.
    fn summary(&self, key: &SessionKey, owner: &str, now: Timestamp) -> Option<Summary> {
        let shard = self.lock(key);
        let slot = shard.slot(shard.find_live(key, now)?);
        // The session may have ended or changed its owner meanwhile, or belong to another owner with the
        // same hash.
        slot.owner().filter(|other| *other == owner)?;
        slot.record().summary(*key)
    }

    fn remove_expired(&self, now: Timestamp, limit: usize) -> Purged {
        let start = self.cursor.load(Ordering::Relaxed);
        let mut left = limit;
        for step in 0..SHARDS {
            let number = (start + step) % SHARDS;
            if !self.earliest[number].may_be_expired(now) {
                continue;
            }
            loop {
                let slice = left.min(REMOVED_AT_ONCE);
                let removed = {
                    let mut shard = lock(&self.shards[number].0);
                    let locked = Instant::now();
                    let removed = shard.remove_expired(now, slice);
                    self.longest_hold.record(locked.elapsed());
                    removed
                };
                let count = removed.len();
                // The slots are freed here, where no lock is held.
                self.release_all(removed);
                left -= count;
                if left == 0 {
                    self.cursor.store(number, Ordering::Relaxed);
                    return Purged { removed: limit, more: true };
                }
                if count < slice {
                    break;
                }
            }
        }
        Purged { removed: limit - left, more: false }
    }

    /// Releases the capacity of removed slots, and frees them.
    fn release_all(&self, slots: impl IntoIterator<Item = Slot>) {
        let (sessions, bytes) = slots
            .into_iter()
            .fold((0, 0), |(sessions, bytes), slot| (sessions + 1, bytes + cost(&slot)));
        self.capacity.release(sessions, bytes);
    }
}

/// The maximum of the recorded durations, in nanoseconds.
#[derive(Default)]
struct Longest(std::sync::atomic::AtomicU64);

impl Longest {
    fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }
}

impl Provider for MemoryProvider {
    /// The verifier is the secret itself: it doesn't leave the process, and a request needs no hash.
    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        Verifier::plain(token.id(), namespace)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::ready(self.insert_new(id.key(), record, now).map(|()| None))
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        let key = token.key();
        let mut shard = self.lock(&key);
        let record = shard.find_live(&key, now).map(|at| {
            // The request that creates a session has no reason to load it, so this is a later one.
            shard.protect(at);
            shard.slot(at).record()
        });
        ProviderFuture::ready(Ok(record))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let key = token.key();
        let applied = self.making_room(&key, now, || self.apply(&key, holder, changes, now));
        ProviderFuture::ready(applied.map(|()| None))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::ready(self.extend(&token.key(), touch, now).map(|()| None))
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        self.remove(key);
        ProviderFuture::ready(Ok(()))
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        ProviderFuture::ready(Ok(self.page(owner, page, now)))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        let live = self.shards.iter().map(|shard| lock(&shard.0).count_live(now)).sum::<usize>();
        ProviderFuture::ready(Ok(live as u64))
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        Ok(self.remove_expired(now, limit))
    }
}

impl fmt::Debug for MemoryProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryProvider").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(shuttle)))]
mod tests {
    use std::collections::HashMap;

    use futures_lite::future::block_on;
    use session_core::provider::Login;

    use super::*;

    /// Returns two owners with the same part and hash in the index.
    fn colliding(owners: &OwnerIndex) -> [String; 2] {
        let mut seen = HashMap::new();
        for n in 0..50_000_000u64 {
            if let Some(other) = seen.insert(owners.locate(&n.to_string()), n) {
                return [other, n].map(|n| n.to_string());
            }
        }
        panic!("two of so many numbers have the same 38 bits of a hash");
    }

    #[test]
    fn owners_of_the_same_hash_have_lists_of_their_own() {
        let provider = MemoryProvider::new(MemoryConfig::default());
        let now = Timestamp::from_millis(1_000_000_000);
        let owners = colliding(&provider.owners);
        for n in 0..20 {
            let owner = owners[n % 2].as_str();
            let login = Login { owner: owner.into(), at: now, label: owner.into() };
            let mut record = Record::new(Verifier::NOBODY, now, Timestamp::MAX);
            record.login = Some(Box::new(login));
            let id = SessionId::generate().expect("the system has random numbers");
            block_on(provider.create(&id, record, now)).expect("there is room");
        }
        for owner in &owners {
            let mut listed = Vec::new();
            let mut page = Page { after: None, limit: 3 };
            loop {
                let part = block_on(provider.list(owner, page, now)).expect("listing works");
                listed.extend(part.sessions);
                page.after = part.next;
                if page.after.is_none() {
                    break;
                }
            }
            assert_eq!(listed.len(), 10);
            assert!(listed.iter().all(|summary| *summary.label == **owner));
        }
    }
}
