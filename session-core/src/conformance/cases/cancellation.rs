//! Futures that are dropped before they end.

use std::sync::Arc;

use crate::conformance::sample::{HOUR, empty, login, number, record, set, until};
use crate::conformance::store::Store;
use crate::conformance::{Delayed, Harness, abandon_after};
use crate::provider::{Changes, ExpiryChange, Provider, Record};

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
        let (id, record) = (store.new_id(), record(store.now));
        let token = store.provider().issue(id);
        let stored = Record { holder: store.holder(&token), ..record.clone() };
        let done = store.wait(abandon_after(polls, provider.create(&id, stored, store.now)));
        let ended = done.is_some();
        let token = match done {
            Some(created) => created.expect("nothing is in the way").unwrap_or(token),
            None => token,
        };
        let found = settled(|| store.found(&token), &[None, Some(record)], what);
        assert!(!ended || found.is_some(), "{what}: created and not stored");
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
        changes.login = Some(login("grace", store.now));
        let changes = changes.with_expiry(ExpiryChange::Extend(until(store.after(2 * HOUR))));
        let new = applied(&old, &changes, store);
        let holder = store.holder(&token);
        let save = provider.save(&token, &holder, &changes, store.now);
        let done = store.wait(abandon_after(polls, save));
        let ended = done.is_some();
        let token = match done {
            Some(saved) => saved.expect("nothing is in the way").unwrap_or(token),
            None => token,
        };
        let found = settled(|| store.found(&token), &[Some(old), Some(new.clone())], what);
        assert!(!ended || found == Some(new), "{what}: saved and not written");
    });
}

/// A login that was dropped has happened as a whole, or not at all: the old secret opens the old record, or
/// the new secret the new one.
pub fn a_dropped_new_secret_is_whole_or_nothing(harness: &dyn Harness) {
    dropped(harness, |store, provider, polls, what| {
        let old = Record { login: None, ..record(store.now) };
        let token = store.stored(&old);
        let mut changes = set("user", 7);
        changes.login = Some(login("grace", store.now));
        let changes = store.with_secret(&token, changes, store.now);
        let new = applied(&old, &changes, store);
        let holder = store.holder(&token);
        let save = provider.save(&token, &holder, &changes, store.now);
        let done = store.wait(abandon_after(polls, save));
        let ended = done.is_some();
        let renewed = match done {
            Some(saved) => saved.expect("nothing is in the way"),
            None => None,
        };
        let secret = changes.secret.as_ref().expect("there is one");
        let renewed = renewed.unwrap_or_else(|| secret.token.clone());
        let ask = || (store.found(&token), store.found(&renewed));
        let moved = (None, Some(new));
        let found = settled(ask, &[(Some(old), None), moved.clone()], what);
        assert!(!ended || found == moved, "{what}: saved and not written");
    });
}

/// The record with these changes, as [`Store::found`] compares it.
fn applied(record: &Record, changes: &Changes, store: &Store<'_>) -> Record {
    let mut new = record.clone();
    new.apply(&record.holder, changes, store.now).expect("it fits");
    Record { holder: record.holder, ..new }
}

/// A touch or destroy that was dropped has happened, or not.
pub fn a_dropped_touch_or_destroy_is_whole_or_nothing(harness: &dyn Harness) {
    dropped(harness, |store, provider, polls, what| {
        let old = record(store.now);
        let token = store.stored(&old);
        let expires = store.after(2 * HOUR);
        let touched = provider.touch(&token, until(expires), store.now);
        let done = store.wait(abandon_after(polls, touched));
        let ended = done.is_some();
        let token = match done {
            Some(touched) => touched.expect("nothing is in the way").unwrap_or(token),
            None => token,
        };
        let new = Record { expires, ..old.clone() };
        let found = settled(|| store.found(&token), &[Some(old), Some(new.clone())], what);
        assert!(!ended || found == Some(new), "{what}: touched and not written");

        let record = empty(store.now, HOUR);
        let token = store.stored(&record);
        let (key, until) = (token.key(), store.after(100 * HOUR));
        let destroyed = provider.destroy(&key, until, store.now);
        let done = store.wait(abandon_after(polls, destroyed));
        let found = settled(|| store.found(&token), &[Some(record), None], what);
        assert!(done.is_none() || found.is_none(), "{what}: destroyed and there");
    });
}
