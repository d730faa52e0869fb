//! A part of the sessions, behind one lock.

use std::collections::BTreeSet;

use hashbrown::HashTable;
use session_core::{Record, SessionId, Timestamp};
use slab::Slab;

/// Records by id, and in the order of their expiry.
///
/// The table and the order hold four-byte indices into the slab, so that a session is stored once
/// and moved never.
#[derive(Default)]
pub(crate) struct Shard {
    table: HashTable<u32>,
    entries: Slab<Entry>,
    /// By second of expiry, then index. A record whose second has passed is expired; within the
    /// current second only the record knows.
    order: BTreeSet<(u32, u32)>,
}

pub(crate) struct Entry {
    pub(crate) id: SessionId,
    pub(crate) hash: u64,
    pub(crate) record: Record,
}

impl Shard {
    /// The index of an id's entry, expired or not.
    pub(crate) fn find(&self, hash: u64, id: &SessionId) -> Option<u32> {
        self.table.find(hash, |at| self.entries[*at as usize].id == *id).copied()
    }

    /// The index of an id's entry if it is live.
    pub(crate) fn find_live(&self, hash: u64, id: &SessionId, now: Timestamp) -> Option<u32> {
        self.find(hash, id).filter(|at| self.record(*at).is_live(now))
    }

    pub(crate) fn record(&self, at: u32) -> &Record {
        &self.entries[at as usize].record
    }

    /// Changes a record and keeps the order right.
    pub(crate) fn change<R>(&mut self, at: u32, f: impl FnOnce(&mut Record) -> R) -> R {
        let record = &mut self.entries[at as usize].record;
        let before = second(record.expires);
        let result = f(record);
        let after = second(record.expires);
        if before != after {
            self.order.remove(&(before, at));
            self.order.insert((after, at));
        }
        result
    }

    /// Adds an entry whose id is not there.
    pub(crate) fn insert(&mut self, entry: Entry) {
        if self.entries.len() == self.entries.capacity() {
            // By a quarter, not by doubling: at a million sessions the difference is felt.
            self.entries.reserve_exact(self.entries.len() / 4 + 16);
        }
        let (hash, expires) = (entry.hash, second(entry.record.expires));
        let at = u32::try_from(self.entries.insert(entry)).expect("memory ends before indices do");
        self.order.insert((expires, at));
        self.table.insert_unique(hash, at, |at| self.entries[*at as usize].hash);
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, at: u32) -> Entry {
        let entry = self.entries.remove(at as usize);
        self.order.remove(&(second(entry.record.expires), at));
        if let Ok(found) = self.table.find_entry(entry.hash, |other| *other == at) {
            found.remove();
        }
        entry
    }

    /// Takes out the expired entries, the longest expired first, up to a number.
    pub(crate) fn remove_expired(&mut self, now: Timestamp, limit: usize) -> Vec<Entry> {
        let mut removed = Vec::new();
        while removed.len() < limit
            && let Some((expires, at)) = self.order.first().copied()
            && expires < second(now)
        {
            removed.push(self.remove(at));
        }
        removed
    }

    /// The number of live records. Costs by the expired ones.
    pub(crate) fn count_live(&self, now: Timestamp) -> usize {
        let maybe_expired = self.order.range(..=(second(now), u32::MAX));
        let expired = maybe_expired.filter(|(_, at)| !self.record(*at).is_live(now)).count();
        self.entries.len() - expired
    }
}

/// The second of an instant; the last one for everything beyond the year 2106.
fn second(time: Timestamp) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
