//! A part of the sessions, behind one lock.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashTable;
use session_core::provider::Secret;
use session_core::provider::{Login, Record, Values, Verifier};
use session_core::{SessionKey, Timestamp};
use slab::Slab;

use crate::owners::Owners;
use crate::provider::Hasher;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Records by key, in the order of their expiry, and as far as their clients never came back, in the
/// order in which they were stored.
///
/// The table and the orders hold four-byte indices into the slab, so that a session is stored once
/// and moved never.
pub(crate) struct Shard {
    hasher: Hasher,
    table: HashTable<u32>,
    slots: Slab<Slot>,
    /// By second of expiry, then index. A record whose second has passed is expired; within the
    /// current second only the record knows.
    order: BTreeSet<(u32, u32)>,
    /// The ends of the list of sessions that may give way, or [`NONE`].
    oldest: u32,
    newest: u32,
    first: Arc<First>,
    /// The index of all shards' sessions by owner.
    owners: Arc<Owners>,
}

/// No index: the end of a list.
const NONE: u32 = u32::MAX;

/// Which sessions come first in a shard's orders, for whoever looks for the first of all shards and
/// doesn't want to take their locks. Written under the shard's lock.
pub(crate) struct First {
    /// The earliest second of expiry.
    expires: AtomicU32,
    /// In milliseconds, when the oldest session that may give way was created; `u64::MAX` if there is
    /// none.
    created: AtomicU64,
}

impl Default for First {
    fn default() -> Self {
        Self { expires: AtomicU32::new(u32::MAX), created: AtomicU64::new(u64::MAX) }
    }
}

impl First {
    /// Whether the shard may have an expired session.
    pub(crate) fn may_be_expired(&self, now: Timestamp) -> bool {
        self.expires.load(Ordering::Relaxed) < second(now)
    }

    /// Returns when the oldest session that may give way was created, in milliseconds.
    pub(crate) fn created(&self) -> Option<u64> {
        Some(self.created.load(Ordering::Relaxed)).filter(|created| *created != u64::MAX)
    }
}

/// A session's place in the list of those that may give way.
#[derive(Clone, Copy)]
struct Place {
    older: u32,
    newer: u32,
}

impl Place {
    /// Not in the list: its client came back, or it has an owner. No index is so high.
    const NOWHERE: Self = Self { older: NONE - 1, newer: NONE - 1 };

    fn is_nowhere(self) -> bool {
        self.older == Self::NOWHERE.older
    }
}

/// A record in the form that is kept: 104 bytes in the slab, where a [`Record`] takes 136 with its key.
pub(crate) struct Slot {
    key: SessionKey,
    place: Place,
    /// The first 20 bytes of the holder's verifier; the others are zero in this store.
    holder: [u8; Secret::BYTES],
    /// In seconds, rounded up; `u32::MAX` for everything beyond the year 2106.
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
            place: Place::NOWHERE,
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
    pub(crate) fn new(hasher: Hasher, first: Arc<First>, owners: Arc<Owners>) -> Self {
        Self {
            hasher,
            table: HashTable::new(),
            slots: Slab::new(),
            order: BTreeSet::new(),
            oldest: NONE,
            newest: NONE,
            first,
            owners,
        }
    }

    /// Returns the index of a key's slot, expired or not.
    pub(crate) fn find(&self, key: &SessionKey) -> Option<u32> {
        let hash = self.hasher.hash(key);
        self.table.find(hash, |at| self.slots[*at as usize].key == *key).copied()
    }

    /// Returns the index of a key's slot if it is live.
    pub(crate) fn find_live(&self, key: &SessionKey, now: Timestamp) -> Option<u32> {
        self.find(key).filter(|at| self.slot(*at).is_live(now))
    }

    pub(crate) fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    /// Puts another record of the same key in a slot's place, and returns the old one.
    pub(crate) fn replace(&mut self, at: u32, slot: Slot) -> Slot {
        let place = self.slot(at).place;
        let old = std::mem::replace(&mut self.slots[at as usize], Slot { place, ..slot });
        if self.slot(at).login.is_some() {
            self.keep(at);
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

    /// Takes note that a session never gives way any more: its client came back, or it has an owner.
    pub(crate) fn keep(&mut self, at: u32) {
        if !self.slot(at).place.is_nowhere() {
            self.unlink(at);
            self.publish();
        }
    }

    /// Adds a slot whose key is not there.
    pub(crate) fn insert(&mut self, slot: Slot) {
        if self.slots.len() == self.slots.capacity() {
            // By a quarter, not by doubling: at a million sessions the difference is felt.
            self.slots.reserve_exact(self.slots.len() / 4 + 16);
        }
        let (hash, expires) = (self.hasher.hash(&slot.key), second(slot.expires));
        // An empty record is no visitor's session, which the core would not store. It is what another
        // provider remembers, such as the end of a sealed session, and must not be forgotten.
        let may_give_way = slot.login.is_none() && !slot.values.is_empty();
        self.move_owner(slot.key, None, slot.owner());
        let at = u32::try_from(self.slots.insert(slot)).expect("memory ends before indices do");
        self.order.insert((expires, at));
        self.table.insert_unique(hash, at, |at| self.hasher.hash(&self.slots[*at as usize].key));
        if may_give_way {
            self.link(at);
        }
        self.publish();
    }

    /// Takes a slot out.
    pub(crate) fn remove(&mut self, at: u32) -> Slot {
        if !self.slot(at).place.is_nowhere() {
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

    /// Takes out the oldest session that may give way, other than the one of this key.
    pub(crate) fn remove_oldest(&mut self, except: &SessionKey) -> Option<Slot> {
        let mut at = self.oldest;
        if at != NONE && self.slot(at).key == *except {
            at = self.slot(at).place.newer;
        }
        (at != NONE).then(|| self.remove(at))
    }

    /// Takes note in the index that a session has another owner than before.
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

    /// Puts a slot at the newer end of the list of those that may give way.
    fn link(&mut self, at: u32) {
        self.slots[at as usize].place = Place { older: self.newest, newer: NONE };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.slots[newest as usize].place.newer = at,
        }
        self.newest = at;
    }

    /// Takes a slot out of that list.
    fn unlink(&mut self, at: u32) {
        let slot = &mut self.slots[at as usize];
        let Place { older, newer } = std::mem::replace(&mut slot.place, Place::NOWHERE);
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].place.newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].place.older = older,
        }
    }

    /// Tells others what comes first. Writes only what is new, as they all read it.
    fn publish(&self) {
        let expires = self.order.first().map_or(u32::MAX, |(expires, _)| *expires);
        if self.first.expires.load(Ordering::Relaxed) != expires {
            self.first.expires.store(expires, Ordering::Relaxed);
        }
        let created = match self.oldest {
            NONE => u64::MAX,
            oldest => self.slot(oldest).created.as_millis().min(u64::MAX - 1),
        };
        if self.first.created.load(Ordering::Relaxed) != created {
            self.first.created.store(created, Ordering::Relaxed);
        }
    }

    /// Takes out the expired slots, the longest expired first, up to a number.
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

    /// Counts the live records. Costs by the expired ones.
    pub(crate) fn count_live(&self, now: Timestamp) -> usize {
        let maybe_expired = self.order.range(..=(second(now), u32::MAX));
        let expired = maybe_expired.filter(|(_, at)| !self.slot(*at).is_live(now)).count();
        self.slots.len() - expired
    }
}

/// The second of an instant; the last one for everything beyond the year 2106.
fn second(time: Timestamp) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

/// The first second that does not lie before an instant.
fn rounded_up(time: Timestamp) -> u32 {
    second(time.saturating_add(std::time::Duration::from_millis(999)))
}

/// The instant of a second, where the last one stands for everything beyond.
fn instant(second: u32) -> Timestamp {
    match second {
        u32::MAX => Timestamp::MAX,
        _ => Timestamp::from_millis(u64::from(second) * 1000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bound on the memory of a session rests on it.
    #[test]
    fn a_slot_takes_104_bytes_with_the_slabs_own() {
        /// What the slab keeps.
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
