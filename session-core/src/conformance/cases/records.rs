//! `create` and `load`.

use crate::Error;
use crate::conformance::expect::{expect_eq, expect_matches};
use crate::conformance::sample::{
    HOUR, awkward_keys, awkward_values, empty, filled, login, number, record, set, until,
};
use crate::conformance::store::Store;
use crate::conformance::{Harness, skip};
use crate::provider::{Changes, ExpiryChange, Login, Record, Token};

/// A record has its times, login, cookie's fingerprint and values when it is loaded, and the holder that
/// created it.
pub fn a_created_record_is_loaded_as_it_was(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let id = store.new_id();
    let token = store.create(&id, &record, store.now).expect("a record of a new id is stored");
    expect_eq!(token.key(), id.key(), "the key of the token of a new record");
    let found = store.found(&token).expect("the record is there");
    expect_eq!(found, record, "the record that was created");
    assert!(
        found.values.iter().eq(record.values.iter()),
        "the record's values, one by one, are not those that were created"
    );
    let nobodys = Record { login: None, ..record.clone() };
    expect_eq!(store.found(&store.stored(&nobodys)), Some(nobodys), "a record without an owner");
    let times = Record { renewed: store.after(HOUR / 3), created: store.after(HOUR / 4), ..record };
    expect_eq!(
        store.found(&store.stored(&times)),
        Some(times),
        "a record that was created and renewed at other times"
    );
}

/// The last use is kept to the second: never earlier than it was, and less than a second later.
pub fn the_last_use_is_kept_to_the_second(harness: &dyn Harness) {
    let store = Store::open(harness);
    for millis in [0, 1, 500, 877, 999] {
        let used = store.after(std::time::Duration::from_millis(millis));
        let record = Record { used, ..record(store.now) };
        let found = store.found(&store.stored(&record)).expect("the record is there");
        let late = found.used.since(used).as_millis();
        assert!(found.used >= used && late < 1000, "used at {used:?}, kept as {:?}", found.used);
    }
}

/// Owners and labels are any text of up to 1,024 bytes, the empty one included.
pub fn every_owner_and_label_is_kept_as_it_is(harness: &dyn Harness) {
    let store = Store::open(harness);
    let long = "x".repeat(1024);
    let room = store.can.max_bytes > 4 * long.len();
    let texts = ["", " ", "ada", "日本\0 $a.b é🦀\n", "a/b", "{\"$gt\":\"\"}", "\u{202e}", &long];
    for text in texts.into_iter().filter(|text| room || text.len() < 100) {
        for (owner, label) in [(text, "label"), ("owner", text)] {
            let login = Login { owner: owner.into(), at: store.now, label: label.into() };
            let record = Record { login: Some(Box::new(login)), ..empty(store.now, HOUR) };
            expect_eq!(
                store.found(&store.stored(&record)),
                Some(record),
                "a record with the owner or label {text:?}"
            );
        }
    }
}

/// A record without values and owner is a record.
pub fn an_empty_record_is_a_record(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = empty(store.now, HOUR);
    expect_eq!(
        store.found(&store.stored(&record)),
        Some(record),
        "a record without values and owner"
    );
}

/// Every text is a key: empty, with dots, dollars, slashes, NUL, or in any script.
pub fn every_key_is_kept_as_it_is(harness: &dyn Harness) {
    let store = Store::open(harness);
    let room = store.can.max_bytes / 2;
    // In groups that fit the store, each with its neighbours.
    for keys in awkward_keys().chunks((room / 1100).clamp(1, 16)) {
        let values = keys.iter().zip(0..).map(|(key, n)| (key, number(n))).collect();
        let record = Record { values, ..record(store.now) };
        let found = store.found(&store.stored(&record)).expect("the record is there");
        for (key, n) in keys.iter().zip(0..) {
            expect_eq!(found.values.get(key), Some(&number(n)[..]), "the value of the key {key:?}");
        }
        expect_eq!(found, record, "the record with the keys {keys:?}");
    }
    let key = "long".repeat((room / 4).min(4096));
    let record = Record { values: [(key, number(1))].into_iter().collect(), ..record(store.now) };
    assert!(
        store.found(&store.stored(&record)) == Some(record),
        "a record with one long key is not as it was created"
    );
}

/// A value comes back with the bytes that were stored, however MessagePack could have said it
/// shorter.
pub fn every_value_is_kept_byte_for_byte(harness: &dyn Harness) {
    let store = Store::open(harness);
    let values = awkward_values().into_iter().enumerate();
    let record =
        Record { values: values.map(|(n, v)| (n.to_string(), v)).collect(), ..record(store.now) };
    let found = store.found(&store.stored(&record)).expect("the record is there");
    for (key, value) in record.values.iter() {
        expect_eq!(found.values.get(key), Some(value), "the value {key}, of {value:?}");
    }
    expect_eq!(found, record, "the record with awkward values");
}

/// A record of [`max_bytes`](crate::conformance::Capabilities::max_bytes) is stored and loaded.
pub fn a_record_as_large_as_the_limit_is_kept(harness: &dyn Harness) {
    let store = Store::open(harness);
    let values = filled(1, store.can.max_bytes);
    expect_eq!(values.size(), store.can.max_bytes, "bytes of the sample");
    let record = Record { values, ..empty(store.now, HOUR) };
    assert!(
        store.found(&store.stored(&record)) == Some(record),
        "a record of {} bytes is not as it was created",
        store.can.max_bytes
    );
}

/// A record of [`max_keys`](crate::conformance::Capabilities::max_keys) is stored and loaded.
pub fn as_many_keys_as_the_limit_are_kept(harness: &dyn Harness) {
    let store = Store::open(harness);
    let keys = store.can.max_keys.min(store.can.max_bytes / 32);
    let values = filled(keys, store.can.max_bytes);
    expect_eq!(values.len(), keys, "keys of the sample");
    let record = Record { values, ..empty(store.now, HOUR) };
    assert!(
        store.found(&store.stored(&record)) == Some(record),
        "a record of {keys} keys is not as it was created"
    );
}

/// Creating under the key of a live record is [`Error::Exists`] and leaves that record alone, whatever the
/// secret.
pub fn creating_inserts_only(harness: &dyn Harness) {
    let store = Store::open(harness);
    let first = record(store.now);
    let token = store.stored(&first);
    let second = empty(store.now, 2 * HOUR);
    for view in [&store, &store.another()] {
        let other = store.secret(&token, store.now);
        for id in [token.id(), other.token.id()] {
            let result = view.create(id, &second, store.now);
            expect_matches!(
                result,
                Err(Error::Exists),
                "a creation under the key of a live record"
            );
        }
    }
    expect_eq!(
        store.found(&token),
        Some(first),
        "the first record, after others were refused under its key"
    );
}

/// An expired record that was not collected yet is not in the way of a new one, and leaves nothing
/// in it.
pub fn an_expired_record_does_not_take_its_key(harness: &dyn Harness) {
    let store = Store::open(harness);
    let old = store.stored(&record(store.now));
    let later = store.much_later();
    let mut new = empty(later, HOUR);
    new.values = [("z", number(26))].into_iter().collect();
    let token = store.create(old.id(), &new, later).expect("an expired record is no record");
    expect_eq!(
        store.found_at(&token, later),
        Some(new.clone()),
        "the record that was created in the place of an expired one"
    );
    store.drain(later, 100);
    expect_eq!(
        store.found_at(&token, later),
        Some(new),
        "the record that was created in the place of an expired one, after a collection"
    );
}

/// A key that was never stored loads nothing, and loading it stores nothing.
pub fn an_unknown_key_loads_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.provider().issue(store.new_id());
    for _ in 0..2 {
        expect_eq!(store.found(&token), None, "loaded by a key that was never stored");
    }
}

/// Each of many sessions keeps its own values.
pub fn sessions_do_not_mix(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = |n| Record {
        values: [("n", number(n))].into_iter().collect(),
        login: login(&format!("owner {n}"), store.now),
        ..empty(store.now, HOUR)
    };
    let tokens: Vec<_> = (0..200).map(|n| store.stored(&record(n))).collect();
    for (n, token) in (0..).zip(&tokens) {
        expect_eq!(store.found(token), Some(record(n)), "session {n} of 200");
    }
}

/// A handle sees at once what another one has changed.
pub fn another_handle_sees_the_same_records(harness: &dyn Harness) {
    let (here, there) = (Store::open(harness), Store::open(harness).another());
    let record = record(here.now);
    let token = here.stored(&record);
    expect_eq!(there.found(&token), Some(record), "a created record, as another handle sees it");
    let token = there.saved(&token, &crate::conformance::sample::set("a", 9));
    let found = here.found(&token).expect("the record is there");
    expect_eq!(
        found.values.get("a"),
        Some(&number(9)[..]),
        "a saved value, as another handle sees it"
    );
    if here.can.revokes {
        here.destroy(&token, here.now).expect("destroying works");
        expect_eq!(there.found(&token), None, "a destroyed record, as another handle sees it");
    }
}

/// Loading a damaged record fails with [`Error::Unreadable`], because the session is not gone and the store is not
/// down. Saving to it fails with [`Error::Gone`]. A touch may succeed, because it need not read what it doesn't change.
/// Destroying removes the record; creating replaces it, or fails because the key is taken.
pub fn a_damaged_record_is_unreadable(harness: &dyn Harness) {
    let store = Store::open(harness);
    let Some(token) = damaged(harness, &store) else { return };
    let check = |what: &str| match store.load(&token, store.now) {
        Err(Error::Unreadable { reason }) => {
            assert!(!reason.is_empty(), "{what}: Unreadable without a reason");
        }
        loaded => panic!("{what}: loading a damaged record returns {loaded:?}, not Unreadable"),
    };
    check("damaged");
    let extended = ExpiryChange::Extend(until(store.after(2 * HOUR)));
    for changes in [
        Changes::new(),
        set("a", 5).with_expiry(extended),
        set("a", 5).expecting("a", Some(&number(1))),
        store.with_secret(&token, set("a", 5), store.now),
    ] {
        let result = store.save(&token, &changes, store.now);
        expect_matches!(result, Err(Error::Gone), "a save to a damaged record of {changes:?}");
        check("saved");
    }
    let result = store.touch(&token, store.after(2 * HOUR), store.now);
    expect_matches!(result, Ok(_) | Err(Error::Gone), "a touch of a damaged record");
    check("touched");

    let new = record(store.now);
    match store.create(token.id(), &new, store.now) {
        Ok(token) => expect_eq!(
            store.found(&token),
            Some(new.clone()),
            "the record that was created in the place of a damaged one"
        ),
        Err(Error::Exists) => check("created"),
        Err(error) => panic!("creating over a damaged record returns {error:?}"),
    }
    store.destroy(&token, store.now).expect("a damaged record can be destroyed");
    let loaded = store.load(&token, store.now).expect("what was destroyed is not damaged");
    expect_eq!(loaded, None, "a damaged record, after it was destroyed");
    let token = store.create(token.id(), &new, store.now).expect("its key is free");
    expect_eq!(
        store.found(&token),
        Some(new),
        "a record that was created under the key of a destroyed one"
    );

    // Also where nothing was created in its place before.
    let Some(token) = damaged(harness, &store) else { return };
    store.destroy(&token, store.now).expect("a damaged record can be destroyed");
    let loaded = store.load(&token, store.now).expect("what was destroyed is not damaged");
    expect_eq!(loaded, None, "a damaged record, after it was destroyed");
}

/// A damaged record doesn't prevent counting, collecting, or listing the owner's other sessions.
pub fn a_damaged_record_is_in_nobodys_way(harness: &dyn Harness) {
    let store = Store::open(harness);
    let long = Record { expires: store.after(100 * HOUR), ..record(store.now) };
    let living = store.stored(&long);
    if damaged(harness, &store).is_none() {
        return;
    }
    if store.can.lists {
        let listed = store.list("ada", 10, store.now);
        let keys = listed.iter().map(|session| session.key);
        assert!(
            keys.clone().any(|key| key == living.key()),
            "the list has not the session beside a damaged one: {:?}",
            keys.collect::<Vec<_>>()
        );
    }
    if store.can.count {
        let count = store.count(store.now).expect("counting works beside a damaged record");
        assert!((1..=2).contains(&count), "{count} sessions beside a damaged record");
    }
    store.drain(store.much_later(), 10);
    expect_eq!(
        store.found(&living),
        Some(long),
        "the session beside a damaged one, after a collection"
    );
}

/// Stores a record and damages it. `None` if the harness can't.
fn damaged(harness: &dyn Harness, store: &Store<'_>) -> Option<Token> {
    let token = store.stored(&record(store.now));
    if harness.damage(&token.key()) {
        return Some(token);
    }
    skip("the harness damages no record");
    None
}
