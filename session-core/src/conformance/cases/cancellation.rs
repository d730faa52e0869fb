//! Futures that are dropped before they end.

use std::sync::Arc;

use crate::conformance::sample::{HOUR, empty, id, number, record, set};
use crate::conformance::store::Store;
use crate::conformance::{Delayed, Harness, abandon_after};
use crate::{ExpiryChange, Provider, Record, Token};

/// Calls `case` with the provider as it is and delayed, and with numbers of polls from none to
/// more than any operation takes.
fn dropped(harness: &dyn Harness, mut case: impl FnMut(&Store<'_>, &dyn Provider, usize, &str)) {
    let store = Store::open(harness);
    for round in 0..harness.rounds().div_ceil(20) {
        let delayed = Delayed::new(Arc::clone(store.provider()), round as u64);
        for polls in 0..10 {
            case(&store, store.provider(), polls, &format!("dropped after {polls} polls"));
            let what = format!("seed {round}, dropped after {polls} polls");
            case(&store, &delayed, polls, &what);
        }
    }
}

/// Asks again if the first answer is neither of the wanted: what a dropped future had sent to the
/// store may have arrived between two questions, but only once.
fn settled<T: PartialEq>(ask: impl Fn() -> T, wanted: &[T], what: &str) -> T {
    let first = ask();
    let answer = if wanted.contains(&first) { first } else { ask() };
    assert!(wanted.contains(&answer), "{what}: neither the old nor the new state");
    answer
}

/// A creation that was dropped has stored the whole record, or nothing.
pub fn a_dropped_create_is_whole_or_nothing(harness: &dyn Harness) {
    dropped(harness, |store, provider, polls, what| {
        let (id, record) = (id(), record(store.now));
        let created = provider.create(&id, record.clone(), store.now);
        let done = store.wait(abandon_after(polls, created));
        let token = match &done {
            Some(token) => token.as_ref().expect("nothing is in the way").clone(),
            None => id.into(),
        };
        let found = settled(|| store.found(&token), &[None, Some(record)], what);
        assert!(done.is_none() || found.is_some(), "{what}: answered and not stored");
    });
}

/// A save that was dropped has written all of its changes, or none.
pub fn a_dropped_save_is_whole_or_nothing(harness: &dyn Harness) {
    dropped(harness, |store, provider, polls, what| {
        let old = record(store.now);
        let token = store.stored(&old);
        let mut changes = set("a", 5).expecting("a", Some(&number(1)));
        changes.set("new", number(6));
        changes.delete("b");
        changes.owner = Some(Some("grace".into()));
        let changes = changes.with_expiry(ExpiryChange::Extend(store.after(2 * HOUR)));
        let mut new = old.clone();
        new.apply(&changes, store.now).expect("it fits");
        let done = store.wait(abandon_after(polls, provider.save(&token, &changes, store.now)));
        let ended = done.is_some();
        let token = done.map_or(Ok(token), |done| done).expect("nothing is in the way");
        let found = settled(|| store.found(&token), &[Some(old), Some(new.clone())], what);
        assert!(!ended || found == Some(new), "{what}: answered and not written");
    });
}

/// A rename that was dropped has moved the whole record, or left it.
pub fn a_dropped_rename_is_whole_or_nothing(harness: &dyn Harness) {
    dropped(harness, |store, provider, polls, what| {
        let record = Some(record(store.now));
        let token = store.stored(&record.clone().expect("there is one"));
        let new_id = id();
        let done = store.wait(abandon_after(polls, provider.rename(&token, &new_id, store.now)));
        let new = match &done {
            Some(new) => new.as_ref().expect("nothing is in the way").clone(),
            None => Token::from(new_id),
        };
        let ask = || (store.found(&token), store.found(&new));
        let moved = (None, record.clone());
        let found = settled(ask, &[(record, None), moved.clone()], what);
        assert!(done.is_none() || found == moved, "{what}: answered and not moved");
    });
}

/// A touch or destroy that was dropped has happened, or not.
pub fn a_dropped_touch_or_destroy_is_whole_or_nothing(harness: &dyn Harness) {
    dropped(harness, |store, provider, polls, what| {
        let old = record(store.now);
        let token = store.stored(&old);
        let expires = store.after(2 * HOUR);
        let touched = provider.touch(&token, expires, store.now);
        let done = store.wait(abandon_after(polls, touched));
        let ended = done.is_some();
        let token = done.map_or(Ok(token), |done| done).expect("nothing is in the way");
        let new = Record { expires, ..old.clone() };
        let found = settled(|| store.found(&token), &[Some(old), Some(new.clone())], what);
        assert!(!ended || found == Some(new), "{what}: answered and not touched");

        let record = empty(store.now, HOUR);
        let token = store.stored(&record);
        let done = store.wait(abandon_after(polls, provider.destroy(&token, store.now)));
        let found = settled(|| store.found(&token), &[Some(record), None], what);
        assert!(done.is_none() || found.is_none(), "{what}: answered and not destroyed");
    });
}
