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
use crate::shard::{Entry, Shard};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};

/// So many that two processors seldom meet at one, and that growing one takes little time even
/// with ten million sessions.
const SHARDS: usize = if cfg!(shuttle) { 2 } else { 1024 };

/// How many records are removed under one hold of a lock.
const REMOVED_AT_ONCE: usize = 64;

/// How many expired records a visitor who finds the store full removes before giving up.
const REMOVED_WHEN_FULL: usize = 1024;

/// What a session takes beside its values and owner: entry, table, order, allocator. Measured by
/// the example `scale`.
const OVERHEAD: usize = 160;

/// Keeps sessions in memory.
///
/// Ids are spread over shards with a lock each. No operation holds a lock while anything slow
/// happens; all are done when they return. A session lives in exactly one shard; `rename`, the only
/// operation on two, locks them in the order of their numbers.
pub struct MemoryProvider {
    shards: Box<[Padded]>,
    hasher: DefaultHashBuilder,
    config: MemoryConfig,
    /// Sessions and bytes held: moved before something is added and after it was removed, so that
    /// the limits hold at every moment.
    sessions: AtomicUsize,
    bytes: AtomicUsize,
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
            config,
            sessions: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
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
        let folded = parts.iter().fold(0, |folded, part| folded ^ u64::from_ne_bytes(*part));
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

    /// Accounts for sessions and bytes to come; `Full` if there is no room.
    fn reserve(&self, sessions: usize, bytes: usize) -> Result<(), Error> {
        let MemoryConfig { max_sessions, max_bytes, .. } = self.config;
        let add = |counter: &AtomicUsize, n: usize, most: usize| {
            let enough = |held: usize| held.checked_add(n).filter(|sum| *sum <= most);
            n == 0 || counter.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_ok()
        };
        if !add(&self.sessions, sessions, max_sessions) {
            return Err(Error::Full { what: "max_sessions" });
        }
        if !add(&self.bytes, bytes, max_bytes) {
            self.sessions.fetch_sub(sessions, Ordering::Relaxed);
            return Err(Error::Full { what: "max_bytes" });
        }
        Ok(())
    }

    /// Gives back what was reserved. Nothing to give back is the rule for changes, and is no reason
    /// for processors to fight over the counters.
    fn release(&self, sessions: usize, bytes: usize) {
        for (counter, n) in [(&self.sessions, sessions), (&self.bytes, bytes)] {
            if n > 0 {
                counter.fetch_sub(n, Ordering::Relaxed);
            }
        }
    }

    /// Reserves, after removing expired sessions if need be. Holds no lock.
    fn make_room(&self, sessions: usize, bytes: usize, now: Timestamp) -> Result<(), Error> {
        self.reserve(sessions, bytes).or_else(|_| {
            self.remove_expired(now, REMOVED_WHEN_FULL);
            self.reserve(sessions, bytes)
        })
    }

    fn insert_new(&self, id: SessionId, record: Record, now: Timestamp) -> Result<(), Error> {
        let bytes = cost(&record);
        self.make_room(1, bytes, now)?;
        let hash = self.hash(&id);
        let mut shard = self.lock(hash);
        let dead = match shard.find(hash, &id) {
            Some(at) if shard.record(at).is_live(now) => {
                drop(shard);
                self.release(1, bytes);
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
        // Under the lock, so without collecting: the timer thread does that.
        self.reserve(0, after.saturating_sub(before))?;
        let old = shard.change(at, |record| std::mem::replace(record, changed));
        drop(shard);
        drop(old);
        self.release(0, before.saturating_sub(after));
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
        if sessions > 0 {
            self.release(sessions, bytes);
        }
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

/// The bytes that a session takes, all included.
fn cost(record: &Record) -> usize {
    OVERHEAD + record.values.memory() + record.owner.as_ref().map_or(0, |owner| owner.len())
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
        ProviderFuture::ready(self.apply(token.id(), changes, now).map(|()| token.clone()))
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
        f.debug_struct("MemoryProvider")
            .field("config", &self.config)
            .field("sessions", &self.sessions.load(Ordering::Relaxed))
            .field("bytes", &self.bytes.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}
