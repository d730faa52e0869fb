//! A part of the sessions, behind one lock.

use std::collections::BTreeSet;

use hashbrown::HashTable;
use session_core::provider::{Login, Record, Values, Verifier};
use session_core::{Secret, SessionKey, Timestamp};
use slab::Slab;

use crate::provider::Hasher;

/// Records by key, and in the order of their expiry.
///
/// The table and the order hold four-byte indices into the slab, so that a session is stored once
/// and moved never.
pub(crate) struct Shard {
    hasher: Hasher,
    table: HashTable<u32>,
    slots: Slab<Slot>,
    /// By second of expiry, then index. A record whose second has passed is expired; within the
    /// current second only the record knows.
    order: BTreeSet<(u32, u32)>,
}

/// A record in the form that is kept: 96 bytes in the slab, where a [`Record`] takes 136 with its key.
pub(crate) struct Slot {
    key: SessionKey,
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

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_deref()
    }

    pub(crate) fn values(&self) -> &Values {
        &self.values
    }
}

impl Shard {
    pub(crate) fn new(hasher: Hasher) -> Self {
        Self { hasher, table: HashTable::new(), slots: Slab::new(), order: BTreeSet::new() }
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
        let old = std::mem::replace(&mut self.slots[at as usize], slot);
        let (before, after) = (second(old.expires), second(self.slot(at).expires));
        if before != after {
            self.order.remove(&(before, at));
            self.order.insert((after, at));
        }
        old
    }

    /// Adds a slot whose key is not there.
    pub(crate) fn insert(&mut self, slot: Slot) {
        if self.slots.len() == self.slots.capacity() {
            // By a quarter, not by doubling: at a million sessions the difference is felt.
            self.slots.reserve_exact(self.slots.len() / 4 + 16);
        }
        let (hash, expires) = (self.hasher.hash(&slot.key), second(slot.expires));
        let at = u32::try_from(self.slots.insert(slot)).expect("memory ends before indices do");
        self.order.insert((expires, at));
        self.table.insert_unique(hash, at, |at| self.hasher.hash(&self.slots[*at as usize].key));
    }

    /// Takes a slot out.
    pub(crate) fn remove(&mut self, at: u32) -> Slot {
        let slot = self.slots.remove(at as usize);
        self.order.remove(&(second(slot.expires), at));
        if let Ok(found) = self.table.find_entry(self.hasher.hash(&slot.key), |other| *other == at)
        {
            found.remove();
        }
        slot
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
    fn a_slot_takes_96_bytes_with_the_slabs_own() {
        assert!(size_of::<Slot>() <= 88, "{}", size_of::<Slot>());
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
