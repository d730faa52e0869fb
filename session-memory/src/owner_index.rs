//! The index of sessions by owner.

use std::collections::BTreeSet;
use std::hash::BuildHasher as _;
use std::ops::Bound;

use session_core::SessionKey;

use crate::sync::{Mutex, lock};

/// The keys of all sessions that have an owner, sorted by a hash of the owner, then by key. A session
/// without an owner takes no space here.
///
/// Each stored record that has an owner has exactly one entry. A shard adds and removes entries under
/// its lock, together with the record.
///
/// # Order of locks
/// A shard's lock is taken first, then the lock of one part of the index; no lock is taken under that
/// one. A list takes the locks one after the other: it reads the keys from the index, then each session
/// from its shard.
pub(crate) struct OwnerIndex {
    hasher: OwnerHasher,
    parts: [Mutex<BTreeSet<Entry>>; PARTS],
}

/// 32 bits of the owner's hash, and the session's key. Two owners may have the same 32 bits, so a reader
/// of an entry compares the owner in the record as well.
type Entry = (u32, SessionKey);

/// Parts of the index, each with its own lock: enough that concurrent logins rarely contend.
const PARTS: usize = if cfg!(shuttle) { 2 } else { 64 };

/// Visitors may choose their user names, so the hash must resist collision attacks.
#[cfg(not(shuttle))]
type OwnerHasher = std::hash::RandomState;
/// Without random seeds, so that shuttle can replay a schedule.
#[cfg(shuttle)]
type OwnerHasher = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

impl OwnerIndex {
    pub(crate) fn new() -> Self {
        Self { hasher: OwnerHasher::default(), parts: std::array::from_fn(|_| Mutex::default()) }
    }

    /// Adds a session to an owner's entries. The caller holds the lock of the session's shard.
    pub(crate) fn add(&self, owner: &str, key: SessionKey) {
        let (part, hash) = self.locate(owner);
        lock(&self.parts[part]).insert((hash, key));
    }

    /// Removes a session from an owner's entries. The caller holds the lock of the session's shard.
    pub(crate) fn remove(&self, owner: &str, key: SessionKey) {
        let (part, hash) = self.locate(owner);
        lock(&self.parts[part]).remove(&(hash, key));
    }

    /// Returns up to `limit` keys of an owner's sessions that follow `after`, in ascending order. Keys
    /// of another owner with the same hash may be among them.
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

    /// Returns the part of the index where an owner's entries are, and the owner's hash in them.
    pub(crate) fn locate(&self, owner: &str) -> (usize, u32) {
        let hash = self.hasher.hash_one(owner);
        ((hash >> 32) as usize % PARTS, hash as u32)
    }
}
