//! The provider over the shards.

use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use hashbrown::DefaultHashBuilder;
use session_core::{
    Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};

use crate::MemoryConfig;
use crate::capacity::{Capacity, cost};
use crate::shard::{Entry, Shard};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};

/// So many that two processors seldom meet at one, and that growing one takes little time even
/// with ten million sessions.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 1024 };

/// How many records are removed under one hold of a lock.
const REMOVED_AT_ONCE: usize = 64;

/// How many expired records a visitor who finds the store full removes before giving up.
const REMOVED_WHEN_FULL: usize = 1024;

/// Keeps sessions in memory.
///
/// Ids are spread over shards with a lock each. No operation holds a lock while anything slow
/// happens; all are done when they return. A session lives in exactly one shard; `rename`, the only
/// operation on two, locks them in the order of their numbers.
pub struct MemoryProvider {
    shards: Box<[Padded]>,
    hasher: DefaultHashBuilder,
    capacity: Capacity,
    /// Where the next collection starts.
    cursor: AtomicUsize,
    longest_hold: Longest,
}

/// Keeps neighbours' locks off one cache line (two lines of 64 bytes: processors fetch pairs).
#[repr(align(128))]
struct Padded(Mutex<Shard>);

impl MemoryProvider {
    /// An empty store.
    pub fn new(config: MemoryConfig) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Padded(Mutex::new(Shard::default()))).collect(),
            hasher: DefaultHashBuilder::default(),
            capacity: Capacity::new(config),
            cursor: AtomicUsize::new(0),
            longest_hold: Longest::default(),
        }
    }

    /// The longest that collection held a lock so far, by the wall clock: time in which the
    /// operating system ran something else is in it.
    pub fn longest_purge_hold(&self) -> Duration {
        Duration::from_nanos(self.longest_hold.0.load(Ordering::Relaxed))
    }

    /// Stored ids are random and the server's own, so the hash needs no protection against
    /// collisions, and their parts may be folded; it is seeded all the same, so that timing tells
    /// nothing about stored ids.
    fn hash(&self, id: &SessionId) -> u64 {
        let (parts, _) = id.as_bytes().as_chunks();
        let folded = parts.iter().fold(0, |folded, part| folded ^ u64::from_le_bytes(*part));
        if cfg!(shuttle) {
            // Orders of steps can be replayed, and tests know which ids share a shard.
            return folded << 32 | folded;
        }
        self.hasher.hash_one(folded)
    }

    /// The table inside a shard uses the lowest and the highest bits.
    fn shard_of(hash: u64) -> usize {
        (hash >> 32) as usize % SHARDS
    }

    fn lock(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[Self::shard_of(hash)].0)
    }

    /// Locks the shards of two hashes, one or two, in the order of their numbers.
    fn lock_two(&self, a: u64, b: u64) -> Pair<'_> {
        match Self::shard_of(a).cmp(&Self::shard_of(b)) {
            std::cmp::Ordering::Equal => Pair { first: self.lock(a), second: None },
            std::cmp::Ordering::Less => {
                let first = self.lock(a);
                Pair { first, second: Some(self.lock(b)) }
            }
            std::cmp::Ordering::Greater => {
                let second = Some(self.lock(b));
                Pair { first: self.lock(a), second }
            }
        }
    }

    /// Does what needs room, once more after removing expired sessions where there was none. Holds
    /// no lock.
    fn making_room<T>(
        &self,
        now: Timestamp,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match attempt() {
            Err(Error::Full { .. }) if self.remove_expired(now, REMOVED_WHEN_FULL).removed > 0 => {
                attempt()
            }
            result => result,
        }
    }

    fn insert_new(&self, id: SessionId, record: Record, now: Timestamp) -> Result<(), Error> {
        let bytes = cost(&record);
        self.making_room(now, || self.capacity.reserve(1, bytes))?;
        let hash = self.hash(&id);
        let mut shard = self.lock(hash);
        let dead = match shard.find(hash, &id) {
            Some(at) if shard.record(at).is_live(now) => {
                drop(shard);
                self.capacity.release(1, bytes);
                return Err(Error::Exists);
            }
            Some(at) => Some(shard.remove(at)),
            None => None,
        };
        shard.insert(Entry { id, hash, record });
        drop(shard);
        self.release_all(dead);
        Ok(())
    }

    fn apply(&self, id: &SessionId, changes: &Changes, now: Timestamp) -> Result<(), Error> {
        let hash = self.hash(id);
        let mut shard = self.lock(hash);
        let at = shard.find_live(hash, id, now).ok_or(Error::Gone)?;
        // What most saves come to: a counter, a time, the same few bytes anew.
        if shard.change(at, |record| record.overwrite(changes, now))? {
            return Ok(());
        }
        // The limits are looked at before anything is changed.
        let mut changed = shard.record(at).clone();
        changed.apply(changes, now)?;
        let (before, after) = (cost(shard.record(at)), cost(&changed));
        self.capacity.reserve(0, after.saturating_sub(before))?;
        let old = shard.change(at, |record| std::mem::replace(record, changed));
        drop(shard);
        drop(old);
        self.capacity.release(0, before.saturating_sub(after));
        Ok(())
    }

    fn move_to(&self, old: &SessionId, new: &SessionId, now: Timestamp) -> Result<(), Error> {
        let (old_hash, new_hash) = (self.hash(old), self.hash(new));
        let mut pair = self.lock_two(old_hash, new_hash);
        let at = pair.first.find_live(old_hash, old, now).ok_or(Error::Gone)?;
        let dead = match pair.second().find(new_hash, new) {
            Some(there) if pair.second().record(there).is_live(now) => return Err(Error::Exists),
            Some(there) => Some(pair.second().remove(there)),
            None => None,
        };
        let entry = pair.first.remove(at);
        pair.second().insert(Entry { id: *new, hash: new_hash, record: entry.record });
        drop(pair);
        self.release_all(dead);
        Ok(())
    }

    fn remove(&self, id: &SessionId) {
        let hash = self.hash(id);
        let mut shard = self.lock(hash);
        let removed = shard.find(hash, id).map(|at| shard.remove(at));
        drop(shard);
        self.release_all(removed);
    }

    fn extend(&self, id: &SessionId, expires: Timestamp, now: Timestamp) -> Result<(), Error> {
        let hash = self.hash(id);
        let mut shard = self.lock(hash);
        let at = shard.find_live(hash, id, now).ok_or(Error::Gone)?;
        shard.change(at, |record| record.expires = record.expires.max(expires));
        Ok(())
    }

    fn remove_expired(&self, now: Timestamp, limit: usize) -> Purged {
        let start = self.cursor.load(Ordering::Relaxed);
        let mut left = limit;
        for step in 0..SHARDS {
            let number = (start + step) % SHARDS;
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
                // Freed here, where no lock is held.
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

    /// Gives back what removed entries took, and frees them.
    fn release_all(&self, entries: impl IntoIterator<Item = Entry>) {
        let (sessions, bytes) = entries
            .into_iter()
            .fold((0, 0), |(sessions, bytes), entry| (sessions + 1, bytes + cost(&entry.record)));
        self.capacity.release(sessions, bytes);
    }
}

/// The longest of some durations, in nanoseconds.
#[derive(Default)]
struct Longest(AtomicU64);

impl Longest {
    fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// One or two locked shards: the one of the old id and, if it is another, the one of the new.
struct Pair<'a> {
    first: MutexGuard<'a, Shard>,
    second: Option<MutexGuard<'a, Shard>>,
}

impl Pair<'_> {
    fn second(&mut self) -> &mut Shard {
        self.second.as_mut().unwrap_or(&mut self.first)
    }
}

impl Provider for MemoryProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::ready(self.insert_new(*id, record, now).map(|()| Token::from(*id)))
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        let hash = self.hash(token.id());
        let shard = self.lock(hash);
        let at = shard.find_live(hash, token.id(), now);
        ProviderFuture::ready(Ok(at.map(|at| shard.record(at).clone())))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let applied = self.making_room(now, || self.apply(token.id(), changes, now));
        ProviderFuture::ready(applied.map(|()| token.clone()))
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::ready(self.move_to(token.id(), new_id, now).map(|()| Token::from(*new_id)))
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        self.remove(token.id());
        ProviderFuture::ready(Ok(()))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::ready(self.extend(token.id(), expires, now).map(|()| token.clone()))
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
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
