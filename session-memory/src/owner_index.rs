//! Which sessions an owner has.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::ops::Bound;

use session_core::SessionKey;

use crate::sync::{Mutex, lock};

/// The keys of all sessions that have an owner, in the order of a hash of the owner, then of the key. A
/// session without an owner takes nothing here.
///
/// There is an entry for each stored record that has an owner, and no other: a shard makes and removes
/// entries under its own lock, together with the record.
///
/// # Order of locks
/// A shard's lock comes first, then one of these, and no lock is taken under these. A list takes them one
/// after the other: first the keys from here, then each session from its shard.
pub(crate) struct OwnerIndex {
    hasher: OwnerHasher,
    parts: [Mutex<BTreeSet<Entry>>; PARTS],
}

/// A part of the owner's hash, and the session's key. Two owners may have the same, so whoever reads an
/// entry looks at the record, too.
type Entry = (u32, SessionKey);

/// So many that logins seldom meet at one.
const PARTS: usize = if cfg!(shuttle) { 2 } else { 64 };

/// Owners are what visitors choose, so the hash has to withstand those who look for collisions.
#[cfg(not(shuttle))]
type OwnerHasher = std::hash::RandomState;
/// Orders of steps can be replayed.
#[cfg(shuttle)]
type OwnerHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

impl OwnerIndex {
    pub(crate) fn new() -> Self {
        Self { hasher: OwnerHasher::default(), parts: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Adds a session, whose shard is locked, to an owner's.
    pub(crate) fn add(&self, owner: &str, key: SessionKey) {
        let (part, hash) = self.locate(owner);
        lock(&self.parts[part]).insert((hash, key));
    }

    /// Removes a session, whose shard is locked, from an owner's.
    pub(crate) fn remove(&self, owner: &str, key: SessionKey) {
        let (part, hash) = self.locate(owner);
        lock(&self.parts[part]).remove(&(hash, key));
    }

    /// Returns the next keys of an owner's sessions in order, and perhaps of another owner's among them.
    pub(crate) fn keys(
        &self,
        owner: &str,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Vec<SessionKey> {
        let (part, hash) = self.locate(owner);
        let from = match after {
            Some(key) => Bound::Excluded((hash, key)),
            None => Bound::Included((hash, SessionKey::MIN)),
        };
        let entries = lock(&self.parts[part]);
        let range = entries.range((from, Bound::Included((hash, SessionKey::MAX))));
        range.take(limit).map(|(_, key)| *key).collect()
    }

    /// Counts the entries of all owners.
    pub(crate) fn len(&self) -> usize {
        self.parts.iter().map(|part| lock(part).len()).sum()
    }

    /// Returns the part and the hash that an owner has.
    pub(crate) fn locate(&self, owner: &str) -> (usize, u32) {
        let hash = self.hasher.hash_one(owner);
        ((hash >> 32) as usize % PARTS, hash as u32)
    }
}
