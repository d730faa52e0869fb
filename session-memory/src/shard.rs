//! One part of the sessions, behind one lock.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashTable;
use session_core::provider::Secret;
use session_core::provider::{Login, Record, Values, Verifier};
use session_core::{SessionKey, Timestamp};
use slab::Slab;

use crate::owner_index::OwnerIndex;
use crate::provider::Hasher;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Records by key, in the order of their expiry. Those that may be evicted are also in a linked list in
/// the order in which they were stored.
///
/// The table, the expiry order and the list hold four-byte indices into the slab, so each session is
/// stored once and never moved.
pub(crate) struct Shard {
    hasher: Hasher,
    table: HashTable<u32>,
    slots: Slab<Slot>,
    /// Second of expiry, then index. A record whose second has passed is expired; within the current
    /// second, only the record's expiry in milliseconds decides.
    order: BTreeSet<(u32, u32)>,
    /// The ends of the list of sessions that may be evicted, or [`NONE`].
    oldest: u32,
    newest: u32,
    earliest: Arc<Earliest>,
    /// The owner index, shared by all shards.
    owners: Arc<OwnerIndex>,
}

/// No index: the end of a list.
const NONE: u32 = u32::MAX;

/// A shard's earliest expiry and its oldest evictable session. They are written under the shard's lock,
/// and read without it by whoever compares all shards.
pub(crate) struct Earliest {
    /// The earliest second of expiry.
    expires: AtomicU32,
    /// When the oldest evictable session was created, in milliseconds; `u64::MAX` if there is none.
    created: AtomicU64,
}

impl Default for Earliest {
    fn default() -> Self {
        Self { expires: AtomicU32::new(u32::MAX), created: AtomicU64::new(u64::MAX) }
    }
}

impl Earliest {
    /// Returns whether the shard may have an expired session.
    pub(crate) fn may_be_expired(&self, now: Timestamp) -> bool {
        self.expires.load(Ordering::Relaxed) < second(now)
    }

    /// Returns when the oldest evictable session was created, in milliseconds.
    pub(crate) fn created(&self) -> Option<u64> {
        Some(self.created.load(Ordering::Relaxed)).filter(|created| *created != u64::MAX)
    }
}

/// A session's neighbours in the list of those that may be evicted.
#[derive(Clone, Copy)]
struct Links {
    older: u32,
    newer: u32,
}

impl Links {
    /// Marks a session that is not in the list, because its client came back or it has an owner. No slot
    /// has such a high index.
    const UNLINKED: Self = Self { older: NONE - 1, newer: NONE - 1 };

    fn is_unlinked(self) -> bool {
        self.older == Self::UNLINKED.older
    }
}

/// A record as the slab stores it: 104 bytes, where a [`Record`] and its key take 136.
pub(crate) struct Slot {
    key: SessionKey,
    links: Links,
    /// The first 20 bytes of the holder's verifier; the others are zero in this store.
    holder: [u8; Secret::BYTES],
    /// In seconds, rounded up; `u32::MAX` for all times after the year 2106.
    used: u32,
    cookie: u32,
    created: Timestamp,
    renewed: Timestamp,
    expires: Timestamp,
    login: Option<Box<Login>>,
    values: Values,
}

impl Slot {
    pub(crate) fn new(key: SessionKey, record: Record) -> Self {
        let Record { holder, created, renewed, used, expires, login, cookie, values, .. } = record;
        let holder = *holder.as_bytes().first_chunk().expect("a verifier has 32 bytes");
        Self {
            key,
            links: Links::UNLINKED,
            holder,
            used: rounded_up(used),
            cookie,
            created,
            renewed,
            expires,
            login,
            values,
        }
    }

    pub(crate) fn record(&self) -> Record {
        let mut holder = [0; 32];
        holder[..Secret::BYTES].copy_from_slice(&self.holder);
        Record {
            holder: Verifier::from_bytes(holder),
            created: self.created,
            renewed: self.renewed,
            used: instant(self.used),
            expires: self.expires,
            login: self.login.clone(),
            cookie: self.cookie,
            values: self.values.clone(),
            note: None,
        }
    }

    pub(crate) fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    pub(crate) fn key(&self) -> SessionKey {
        self.key
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_deref()
    }

    pub(crate) fn owner(&self) -> Option<&str> {
        self.login().map(|login| &*login.owner)
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }
}

impl Shard {
    pub(crate) fn new(hasher: Hasher, earliest: Arc<Earliest>, owners: Arc<OwnerIndex>) -> Self {
        Self {
            hasher,
            table: HashTable::new(),
            slots: Slab::new(),
            order: BTreeSet::new(),
            oldest: NONE,
            newest: NONE,
            earliest,
            owners,
        }
    }

    /// Returns the index of a key's slot, expired or not.
    pub(crate) fn find(&self, key: &SessionKey) -> Option<u32> {
        let hash = self.hasher.hash(key);
        self.table.find(hash, |at| self.slots[*at as usize].key == *key).copied()
    }

    /// Returns the index of a key's slot if its record is live.
    pub(crate) fn find_live(&self, key: &SessionKey, now: Timestamp) -> Option<u32> {
        self.find(key).filter(|at| self.slot(*at).is_live(now))
    }

    pub(crate) fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    /// Replaces a slot by another one of the same key, and returns the old one.
    pub(crate) fn replace(&mut self, at: u32, slot: Slot) -> Slot {
        let links = self.slot(at).links;
        let old = std::mem::replace(&mut self.slots[at as usize], Slot { links, ..slot });
        if self.slot(at).login.is_some() {
            self.protect(at);
        }
        self.move_owner(old.key, old.owner(), self.slot(at).owner());
        let (before, after) = (second(old.expires), second(self.slot(at).expires));
        if before != after {
            self.order.remove(&(before, at));
            self.order.insert((after, at));
            self.publish();
        }
        old
    }

    /// Removes a session from the list of those that may be evicted, because its client came back or it
    /// has an owner.
    pub(crate) fn protect(&mut self, at: u32) {
        if !self.slot(at).links.is_unlinked() {
            self.unlink(at);
            self.publish();
        }
    }

    /// Adds a slot. The shard must not have its key.
    pub(crate) fn insert(&mut self, slot: Slot) {
        if self.slots.len() == self.slots.capacity() {
            // The slab grows by a quarter instead of doubling, which would waste up to half of the
            // memory.
            self.slots.reserve_exact(self.slots.len() / 4 + 16);
        }
        let (hash, expires) = (self.hasher.hash(&slot.key), second(slot.expires));
        // The core never stores an empty session for a visitor. An empty record is another provider's
        // entry, such as the end of a sealed session, and must not be evicted.
        let is_evictable = slot.login.is_none() && !slot.values.is_empty();
        self.move_owner(slot.key, None, slot.owner());
        let at = u32::try_from(self.slots.insert(slot)).expect("memory ends before indices do");
        self.order.insert((expires, at));
        self.table.insert_unique(hash, at, |at| self.hasher.hash(&self.slots[*at as usize].key));
        if is_evictable {
            self.link(at);
        }
        self.publish();
    }

    /// Removes a slot and returns it.
    pub(crate) fn remove(&mut self, at: u32) -> Slot {
        if !self.slot(at).links.is_unlinked() {
            self.unlink(at);
        }
        let slot = self.slots.remove(at as usize);
        self.order.remove(&(second(slot.expires), at));
        if let Ok(found) = self.table.find_entry(self.hasher.hash(&slot.key), |other| *other == at)
        {
            found.remove();
        }
        self.move_owner(slot.key, slot.owner(), None);
        self.publish();
        slot
    }

    /// Removes and returns the oldest evictable session, except the one of the key `except`.
    pub(crate) fn remove_oldest(&mut self, except: &SessionKey) -> Option<Slot> {
        let mut at = self.oldest;
        if at != NONE && self.slot(at).key == *except {
            at = self.slot(at).links.newer;
        }
        (at != NONE).then(|| self.remove(at))
    }

    /// Moves a session in the owner index from one owner to another.
    fn move_owner(&self, key: SessionKey, before: Option<&str>, after: Option<&str>) {
        if before == after {
            return;
        }
        if let Some(owner) = before {
            self.owners.remove(owner, key);
        }
        if let Some(owner) = after {
            self.owners.add(owner, key);
        }
    }

    /// Appends a slot to the list of those that may be evicted.
    fn link(&mut self, at: u32) {
        self.slots[at as usize].links = Links { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].links.newer = at,
        }
        self.newest = at;
    }

    /// Removes a slot from the list of those that may be evicted.
    fn unlink(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let Links { older, newer } = std::mem::replace(&mut slot.links, Links::UNLINKED);
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].links.newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].links.older = older,
        }
    }

    /// Publishes the shard's earliest expiry and oldest evictable session. It writes only values that
    /// changed, as all threads read this cache line.
    fn publish(&self) {
        let expires = self.order.first().map_or(u32::MAX, |(expires, _)| *expires);
        if self.earliest.expires.load(Ordering::Relaxed) != expires {
            self.earliest.expires.store(expires, Ordering::Relaxed);
        }
        let created = match self.oldest {
            NONE => u64::MAX,
            oldest => self.slot(oldest).created.as_millis().min(u64::MAX - 1),
        };
        if self.earliest.created.load(Ordering::Relaxed) != created {
            self.earliest.created.store(created, Ordering::Relaxed);
        }
    }

    /// Removes and returns up to `limit` expired slots, the ones with the earliest expiry first.
    pub(crate) fn remove_expired(&mut self, now: Timestamp, limit: usize) -> Vec<Slot> {
        let mut removed = Vec::new();
        while removed.len() < limit
            && let Some((expires, at)) = self.order.first().copied()
            && expires < second(now)
        {
            removed.push(self.remove(at));
        }
        removed
    }

    /// Returns the instant from which [`remove_expired`](Self::remove_expired) takes out a slot. Looks at all of
    /// the order.
    pub(crate) fn collected_from(&self, at: u32) -> Option<Timestamp> {
        let (expires, _) = self.order.iter().find(|(_, other)| *other == at)?;
        Some(instant(expires.saturating_add(1)))
    }

    /// Counts the live records. The cost grows with the number of expired ones.
    pub(crate) fn count_live(&self, now: Timestamp) -> usize {
        let maybe_expired = self.order.range(..=(second(now), u32::MAX));
        let expired = maybe_expired.filter(|(_, at)| !self.slot(*at).is_live(now)).count();
        self.slots.len() - expired
    }
}

/// Returns the second of a time; `u32::MAX` for all times after the year 2106.
fn second(time: Timestamp) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// Returns the first whole second that is not before a time.
fn rounded_up(time: Timestamp) -> u32 {
    second(time.saturating_add(std::time::Duration::from_millis(999)))
}

/// Returns the time of a second; `u32::MAX` stands for [`Timestamp::MAX`].
fn instant(second: u32) -> Timestamp {
    match second {
        u32::MAX => Timestamp::MAX,
        _ => Timestamp::from_millis(u64::from(second) * 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented memory per session depends on this.
    #[test]
    fn a_slot_takes_104_bytes_with_the_slabs_own() {
        /// The slab's entry type, which is private.
        enum Entry {
            _Vacant(usize),
            _Occupied(Slot),
        }
        assert!(size_of::<Entry>() <= 104, "{}", size_of::<Entry>());
    }

    #[test]
    fn the_last_use_is_never_taken_for_earlier_than_it_was() {
        for (millis, secs) in [(0, 0), (1, 1), (999, 1), (1000, 1), (1001, 2)] {
            assert_eq!(rounded_up(Timestamp::from_millis(millis)), secs, "{millis} ms");
        }
        assert_eq!(instant(rounded_up(Timestamp::MAX)), Timestamp::MAX);
        assert_eq!(
            instant(rounded_up(Timestamp::from_millis(5_000))),
            Timestamp::from_millis(5_000)
        );
    }
}
