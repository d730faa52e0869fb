//! [`Values`]: a session's values in one block of memory.

use std::fmt;
use std::sync::Arc;

use smallvec::SmallVec;

use super::Changes;
use crate::{Error, Limits};

/// The encoded values of a session by key. Clones share one block of memory, which is copied on write.
///
/// There is one block for each session, so that a million sessions are a million small allocations:
/// the number of keys (u32), then for each key, in order, where its entry starts and how long the
/// key is (u32 each), then the entries: key, value, key, value... Empty values have no block.
#[derive(Clone, Default)]
pub struct Values(Option<Arc<[u8]>>);

const COUNT: usize = 4;
const SLOT: usize = 8;

impl Values {
    /// Returns empty values.
    pub const fn new() -> Self {
        Self(None)
    }

    /// Returns the encoded value of a key.
    pub fn get(&self, key: &str) -> Option<&[u8]> {
        let block = Block::of(self)?;
        block.find(key).ok().map(|at| block.value(at))
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        Block::of(self).map_or(0, |block| block.count)
    }

    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of all keys and values together, which [`Limits::bytes`] limits.
    pub fn size(&self) -> usize {
        Block::of(self).map_or(0, |block| block.entries.len())
    }

    /// Returns the bytes of memory that the block takes, including its bookkeeping. For the provider `memory`.
    #[doc(hidden)]
    pub fn memory(&self) -> usize {
        self.0.as_ref().map_or(0, |block| block.len() + 2 * size_of::<usize>())
    }

    /// Returns whether a key begins with NUL. Only the empty key sorts before those.
    pub(crate) fn has_reserved_key(&self) -> bool {
        Block::of(self).is_some_and(|block| {
            let mut firsts = (0..block.count).filter_map(|at| block.key(at).first());
            firsts.next() == Some(&0)
        })
    }

    /// Returns the keys in order, with their encoded values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        Block::of(self).into_iter().flat_map(|block| {
            (0..block.count).map(move |at| {
                let key = std::str::from_utf8(block.key(at)).expect("keys come from str");
                (key, block.value(at))
            })
        })
    }

    /// Applies a request's set and deleted keys. Where the changes
    /// [replace](Changes::replace), only the keys that they set are left.
    ///
    /// If all changed values keep their length and no clone shares the block, it is overwritten in place.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the result is over a limit and larger than before. Nothing is changed
    /// then.
    pub fn apply(&mut self, changes: &Changes, limits: &Limits) -> Result<(), Error> {
        if !changes.is_empty() && !self.overwrite(changes) {
            *self = self.merged(changes, limits)?;
        }
        Ok(())
    }

    /// Overwrites values by new ones of the same length. Returns `false` and does nothing if the changes are not
    /// only such values.
    fn overwrite(&mut self, changes: &Changes) -> bool {
        if changes.replace {
            return false;
        }
        let Some(block) = Block::of(self) else { return false };
        // Where each value ends in the whole block.
        let mut ends = SmallVec::<[usize; 8]>::new();
        for (key, value) in changes.iter() {
            let (Some(value), Ok(at)) = (value, block.find(key)) else { return false };
            if block.value(at).len() != value.len() {
                return false;
            }
            ends.push(COUNT + block.count * SLOT + block.end(at));
        }
        let bytes = Arc::make_mut(self.0.as_mut().expect("there is a block"));
        for ((_, value), end) in changes.iter().zip(ends) {
            let value = value.expect("no key is deleted");
            bytes[end - value.len()..end].copy_from_slice(value);
        }
        true
    }

    fn merged(&self, changes: &Changes, limits: &Limits) -> Result<Self, Error> {
        let Limits { bytes, keys, .. } = *limits;
        // Both sides are sorted: a merge, in which a change hides the old value.
        let mut entries = Vec::with_capacity(self.len() + changes.iter().len());
        let mut old = self.iter().filter(|_| !changes.replace).peekable();
        for (key, value) in changes.iter() {
            while let Some(entry) = old.next_if(|(other, _)| *other < key) {
                entries.push(entry);
            }
            old.next_if(|(other, _)| *other == key);
            entries.extend(value.map(|value| (key, value)));
        }
        entries.extend(old);

        let size: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > bytes && size > self.size() {
            return Err(Error::TooLarge { what: "session bytes", limit: bytes });
        }
        if entries.len() > keys && entries.len() > self.len() {
            return Err(Error::TooLarge { what: "session keys", limit: keys });
        }
        Ok(Self::pack(&entries))
    }

    /// Lays out entries that are sorted by key, each key once.
    fn pack<K: AsRef<str>, V: AsRef<[u8]>>(entries: &[(K, V)]) -> Self {
        if entries.is_empty() {
            return Self::new();
        }
        let parts = || entries.iter().map(|(key, value)| (key.as_ref(), value.as_ref()));
        let size: usize = parts().map(|(key, value)| key.len() + value.len()).sum();
        let length = COUNT + entries.len() * SLOT + size;
        let mut block: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        let bytes = Arc::get_mut(&mut block).expect("nobody shares it yet");
        let number =
            |n: usize| u32::try_from(n).expect("limits keep a session under 4 GiB").to_ne_bytes();
        let (count, rest) = bytes.split_at_mut(COUNT);
        count.copy_from_slice(&number(entries.len()));
        let (slots, mut room) = rest.split_at_mut(entries.len() * SLOT);
        let mut start = 0;
        for ((key, value), slot) in parts().zip(slots.as_chunks_mut::<SLOT>().0) {
            let (at, length) = slot.split_at_mut(SLOT / 2);
            at.copy_from_slice(&number(start));
            length.copy_from_slice(&number(key.len()));
            start += key.len() + value.len();
            for part in [key.as_bytes(), value] {
                room.split_off_mut(..part.len()).expect("there is room").copy_from_slice(part);
            }
        }
        Self(Some(block))
    }
}

/// Later values of a key replace earlier ones.
impl<K: AsRef<str>, V: AsRef<[u8]>> FromIterator<(K, V)> for Values {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs: SmallVec<[(K, V); 8]> = pairs.into_iter().collect();
        // As providers keep them, mostly.
        if pairs.is_sorted_by(|(one, _), (next, _)| one.as_ref() < next.as_ref()) {
            return Self::pack(&pairs);
        }
        let sorted: std::collections::BTreeMap<&str, &[u8]> =
            pairs.iter().map(|(key, value)| (key.as_ref(), value.as_ref())).collect();
        Self::pack(&sorted.into_iter().collect::<Vec<_>>())
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Values {}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Values({} keys, {} bytes)", self.len(), self.size())
    }
}

/// The block's parts, by name.
struct Block<'a> {
    count: usize,
    slots: &'a [[u8; SLOT]],
    entries: &'a [u8],
}

impl<'a> Block<'a> {
    fn of(values: &'a Values) -> Option<Self> {
        let (count, rest) = values.0.as_deref()?.split_first_chunk::<COUNT>()?;
        let count = u32::from_ne_bytes(*count) as usize;
        let (slots, entries) = rest.split_at(count * SLOT);
        Some(Self { count, slots: slots.as_chunks().0, entries })
    }

    /// Returns where the entry starts, and the length of its key.
    fn slot(&self, at: usize) -> (usize, usize) {
        let [a, b, c, d, e, f, g, h] = self.slots[at];
        (u32::from_ne_bytes([a, b, c, d]) as usize, u32::from_ne_bytes([e, f, g, h]) as usize)
    }

    fn end(&self, at: usize) -> usize {
        if at + 1 < self.count { self.slot(at + 1).0 } else { self.entries.len() }
    }

    fn key(&self, at: usize) -> &'a [u8] {
        let (start, length) = self.slot(at);
        &self.entries[start..start + length]
    }

    fn value(&self, at: usize) -> &'a [u8] {
        let (start, length) = self.slot(at);
        &self.entries[start + length..self.end(at)]
    }

    fn find(&self, key: &str) -> Result<usize, usize> {
        let key = key.as_bytes();
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = usize::midpoint(low, high);
            let other = self.key(middle);
            // Mostly the first bytes differ, and their comparison takes no call.
            match other.first().cmp(&key.first()).then_with(|| other.cmp(key)) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Err(low)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_value_of_the_same_length_is_overwritten_in_place_and_only_if_unshared() {
        let mut values: Values = [("count", [1]), ("other", [2])].into_iter().collect();
        let block = |values: &Values| values.0.as_ref().map(|block| block.as_ptr());
        let before = block(&values);
        let mut changes = Changes::new();
        changes.set("count", [9]);
        values.apply(&changes, &changes.limits).unwrap();
        assert_eq!(block(&values), before);

        let snapshot = values.clone();
        changes.set("count", [10]);
        values.apply(&changes, &changes.limits).unwrap();
        assert_eq!((snapshot.get("count"), values.get("count")), (Some(&[9][..]), Some(&[10][..])));
    }

    #[test]
    fn limits_hold_for_growth_only() {
        let mut values: Values = [("a", [0; 60]), ("b", [0; 60])].into_iter().collect();
        let mut changes = Changes::new();
        changes.limits.bytes = 100;
        changes.set("c", [1]);
        assert!(matches!(
            values.apply(&changes, &changes.limits),
            Err(Error::TooLarge { limit: 100, .. })
        ));
        assert_eq!(values.len(), 2);
        changes.delete("a");
        values.apply(&changes, &changes.limits).unwrap();
        changes.limits = Limits { keys: 2, ..Limits::default() };
        changes.set("d", [1]);
        let error = values.apply(&changes, &changes.limits).unwrap_err();
        assert!(matches!(error, Error::TooLarge { what: "session keys", limit: 2 }));
    }

    proptest! {
        /// The packed block behaves as a sorted map does.
        #[test]
        fn it_is_a_map(
            start in prop::collection::btree_map("[a-c\u{0}é]{0,3}", prop::collection::vec(any::<u8>(), 0..4), 0..8),
            edits in prop::collection::vec(("[a-c\u{0}é]{0,3}", prop::option::of(prop::collection::vec(any::<u8>(), 0..4))), 0..12),
        ) {
            let mut model: BTreeMap<String, Vec<u8>> = start;
            let mut values: Values = model.iter().collect();
            let mut changes = Changes::new();
            for (key, value) in edits {
                match value {
                    Some(value) => { changes.set(&key, value.clone()); model.insert(key, value); }
                    None => { changes.delete(&key); model.remove(&key); }
                }
            }
            values.apply(&changes, &changes.limits).unwrap();
            let shown: Vec<(&str, &[u8])> = values.iter().collect();
            let wanted: Vec<(&str, &[u8])> = model.iter().map(|(k, v)| (k.as_str(), v.as_slice())).collect();
            prop_assert_eq!(shown, wanted);
            prop_assert_eq!(values.size(), model.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>());
            for (key, value) in &model {
                prop_assert_eq!(values.get(key), Some(value.as_slice()));
            }
            prop_assert_eq!(values.get("not there"), None);
        }
    }
}
