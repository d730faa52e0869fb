//! `save`: merging, expected values, times, logins and limits.

use crate::conformance::Harness;
use crate::conformance::expect::{expect_eq, expect_matches};
use crate::conformance::sample::{
    HOUR, MILLI, awkward_keys, awkward_values, empty, filled, login, number, record, set, until,
    whole_second,
};
use crate::conformance::store::Store;
use crate::provider::{Changes, ExpiryChange, Record, Touch, Values};
use crate::{Error, Limits};

fn values(entries: &[(&str, u64)]) -> Values {
    entries.iter().map(|(key, n)| (key, number(*n))).collect()
}

/// A save sets and deletes the keys that it names, and leaves the others, the times, the login and the
/// holder as they are.
pub fn a_save_merges_its_keys(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let mut changes = set("b", 20);
    changes.set("d", number(4));
    changes.delete("a");
    changes.delete("never there");
    let token = store.saved(&token, &changes);
    let merged = Record { values: values(&[("b", 20), ("c", 3), ("d", 4)]), ..record };
    expect_eq!(
        store.found(&token),
        Some(merged.clone()),
        "the record, after a save that sets, adds and deletes keys"
    );

    let mut changes = Changes::new();
    for key in ["b", "c", "d"] {
        changes.delete(key);
    }
    let token = store.saved(&token, &changes);
    let merged = Record { values: Values::new(), ..merged };
    expect_eq!(
        store.found(&token),
        Some(merged.clone()),
        "the record, after a save that deletes all keys"
    );
    let token = store.saved(&token, &set("b", 7));
    expect_eq!(
        store.found(&token),
        Some(Record { values: values(&[("b", 7)]), ..merged }),
        "the record, after a save to one without keys"
    );
}

/// Saves by one token, each knowing nothing of the other, add up.
pub fn saves_by_one_token_merge(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    store.saved(&token, &set("a", 10));
    store.another().saved(&token, &set("b", 20));
    let mut deletion = Changes::new();
    deletion.delete("c");
    store.saved(&token, &deletion);
    let merged = Record { values: values(&[("a", 10), ("b", 20)]), ..record };
    expect_eq!(store.found(&token), Some(merged), "the record, after three saves by one token");
}

/// A save without keys succeeds and changes no value.
pub fn a_save_without_keys_changes_no_value(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.saved(&store.stored(&record), &Changes::new());
    expect_eq!(store.found(&token), Some(record), "the record, after a save without keys");
}

/// A save keeps keys and values as exactly as a create does.
pub fn a_save_of_awkward_keys_and_values_is_exact(harness: &dyn Harness) {
    let store = Store::open(harness);
    let keys: Vec<String> = awkward_keys().into_iter().filter(|key| key.len() < 64).collect();
    let mut token = store.stored(&empty(store.now, HOUR));
    let pairs: Vec<_> = keys.iter().zip(awkward_values().into_iter().cycle()).collect();
    for pair in pairs.chunks(7) {
        let mut changes = Changes::new();
        for (key, value) in pair {
            changes.set(key, value.clone());
        }
        token = store.saved(&token, &changes);
    }
    let found = store.found(&token).expect("the record is there");
    for (key, value) in &pairs {
        expect_eq!(
            found.values.get(key),
            Some(&value[..]),
            "the value of the key {key:?}, after a save"
        );
    }
    expect_eq!(found.values.len(), keys.len(), "the number of keys that were saved");
    for (n, key) in keys.iter().enumerate() {
        let mut changes = Changes::new();
        changes.delete(key);
        token = store.saved(&token, &changes);
        let found = store.found(&token).expect("the record is there").values;
        expect_eq!(
            found.get(key),
            None,
            "the value of the key {key:?}, after a save that deletes it"
        );
        expect_eq!(
            found.len(),
            keys.len() - n - 1,
            "the number of keys, after a save that deletes {key:?}"
        );
    }
}

/// `Keep` keeps the expiry, `Extend` never shortens it, `Set` does either.
pub fn a_save_moves_the_expiry_as_told(harness: &dyn Harness) {
    let store = Store::open(harness);
    let mut token = store.stored(&record(store.now));
    let at = |time| until(store.after(time));
    for (change, wanted) in [
        (ExpiryChange::Keep, at(HOUR)),
        (ExpiryChange::Extend(at(HOUR + MILLI)), at(HOUR + MILLI)),
        (ExpiryChange::Extend(at(HOUR)), at(HOUR + MILLI)),
        (ExpiryChange::Extend(at(2 * HOUR)), at(2 * HOUR)),
        (ExpiryChange::Set(at(HOUR / 2)), at(HOUR / 2)),
        (ExpiryChange::Keep, at(HOUR / 2)),
        (ExpiryChange::Set(at(3 * HOUR)), at(3 * HOUR)),
    ] {
        for changes in [Changes::new(), set("a", 5)] {
            token = store.saved(&token, &changes.with_expiry(change));
            let found = store.found(&token).expect("the record is there");
            expect_eq!(found.expires, wanted.expires, "the expiry after a save with {change:?}");
        }
    }
    let over = ExpiryChange::Set(until(store.now));
    let ended = store.saved(&token, &Changes::new().with_expiry(over));
    expect_eq!(store.found(&ended), None, "loaded after a save that sets the expiry to now");
}

/// A save moves the last use forward and never back, whatever it does to the expiry.
pub fn a_save_moves_the_last_use_forward(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let mut token = store.stored(&record);
    let used = |time| whole_second(store.after(time));
    let touch = |time| Touch { used: used(time), expires: store.after(2 * HOUR) };
    for (change, wanted) in [
        (ExpiryChange::Keep, record.used),
        (ExpiryChange::Extend(touch(HOUR / 2)), used(HOUR / 2)),
        (ExpiryChange::Extend(touch(HOUR / 4)), used(HOUR / 2)),
        (ExpiryChange::Set(touch(HOUR / 4)), used(HOUR / 2)),
        (ExpiryChange::Set(touch(HOUR)), used(HOUR)),
    ] {
        token = store.saved(&token, &Changes::new().with_expiry(change));
        expect_eq!(
            store.found(&token).expect("the record is there").used,
            wanted,
            "the last use after a save with {change:?}"
        );
    }
}

/// A save sets and removes the login, or leaves it; and the same for the cookie's fingerprint.
pub fn a_save_moves_login_and_cookie_as_told(harness: &dyn Harness) {
    let store = Store::open(harness);
    let mut token = store.stored(&record(store.now));
    let some = |owner: &str| login(owner, store.now);
    for (change, wanted) in [
        (None, some("ada")),
        (Some(login("ada", store.after(HOUR / 2))), login("ada", store.after(HOUR / 2))),
        (Some(some("grace")), some("grace")),
        (None, some("grace")),
        (Some(None), None),
        (None, None),
        (Some(some("日本.$\0")), some("日本.$\0")),
    ] {
        let mut changes = set("a", 5);
        changes.login.clone_from(&change);
        token = store.saved(&token, &changes);
        let found = store.found(&token).expect("the record is there");
        expect_eq!(found.login, wanted, "the login after a save of {change:?}");
    }
    for (change, wanted) in [(None, 0xfeed_beef), (Some(0), 0), (Some(u32::MAX), u32::MAX)] {
        let mut changes = Changes::new();
        changes.cookie = change;
        token = store.saved(&token, &changes);
        let found = store.found(&token).expect("the record is there");
        expect_eq!(found.cookie, wanted, "the cookie's fingerprint after a save of {change:?}");
    }
}

/// A save that replaces leaves the keys that it sets and no other, whatever was stored meanwhile.
pub fn a_save_that_replaces_leaves_its_own_keys_only(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let token = match store.can.merges {
        true => {
            store.another().saved(&token, &set("stored meanwhile", 9));
            token
        }
        false => store.saved(&token, &set("stored meanwhile", 9)),
    };
    let mut changes = set("b", 20);
    changes.replace = true;
    changes.delete("never there");
    let token = store.saved(&token, &changes);
    let replaced = Record { values: values(&[("b", 20)]), ..record };
    expect_eq!(
        store.found(&token),
        Some(replaced.clone()),
        "the record, after a save that replaces its values"
    );
    let token = store.saved(&token, &Changes::new().replacing());
    expect_eq!(
        store.found(&token),
        Some(Record { values: Values::new(), ..replaced }),
        "the record, after a save that replaces its values by none"
    );
}

/// A save to a record that never existed, or exists no more, fails with [`Error::Gone`] and stores nothing, whatever it
/// expects.
pub fn a_save_never_creates(harness: &dyn Harness) {
    let store = Store::open(harness);
    let destroyed = store.stored(&record(store.now));
    store.destroy(&destroyed, store.now).expect("destroying works");
    let unknown = store.provider().issue(store.new_id());
    for (what, token) in [("unknown", unknown), ("destroyed", destroyed)] {
        let extended = ExpiryChange::Extend(until(store.after(2 * HOUR)));
        for changes in [
            Changes::new(),
            set("a", 1),
            set("a", 1).with_expiry(extended),
            set("a", 1).expecting("a", None),
            set("a", 1).expecting("a", Some(&number(1))),
            store.with_secret(&token, set("a", 1), store.now),
        ] {
            let result = store.save(&token, &changes, store.now);
            expect_matches!(
                result,
                Err(Error::Gone),
                "a save of {changes:?} to a session that is {what}"
            );
            let loaded = store.load(&token, store.now).expect("loading works");
            expect_eq!(loaded, None, "what is stored, after a save to a session that is {what}");
        }
        let result = store.touch(&token, store.after(2 * HOUR), store.now);
        expect_matches!(result, Err(Error::Gone), "a touch of a session that is {what}");
    }
}

/// A save whose result is over the limits fails with [`Error::TooLarge`] and changes nothing; one that makes the record
/// smaller succeeds.
pub fn a_save_over_a_limit_changes_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = Record { values: filled(10, 1000), ..empty(store.now, HOUR) };
    let mut token = store.stored(&record);
    let over = |bytes, keys, mut changes: Changes| {
        changes.limits = Limits { bytes, keys, ..Limits::default() };
        changes.login = Some(login("mallory", store.now));
        changes.with_expiry(ExpiryChange::Extend(until(store.after(2 * HOUR))))
    };
    for (changes, limit) in
        [(over(1001, 100, set("new", 1)), 1001), (over(2000, 10, set("new", 1)), 10)]
    {
        let result = store.save(&token, &changes, store.now);
        expect_matches!(result, Err(Error::TooLarge { limit: l, .. }) if *l == limit, "a save over the limit of {limit}");
        expect_eq!(
            store.found(&token),
            Some(record.clone()),
            "the record, after a save over the limit of {limit} was refused"
        );
    }
    let mut smaller = set("key00000", 1);
    smaller.delete("key00001");
    smaller.limits = Limits { bytes: 1, keys: 1, ..Limits::default() };
    token = store.saved(&token, &smaller);
    let found = store.found(&token).expect("the record is there").values;
    expect_eq!(found.len(), 9, "keys, after a save over the limit that makes the record smaller");
    let mut fitting = set("new", 1);
    fitting.limits = Limits { bytes: 1001, keys: 10, ..Limits::default() };
    token = store.saved(&token, &fitting);
    expect_eq!(
        store.found(&token).expect("the record is there").values.len(),
        10,
        "keys, after a save of one more within the limits"
    );
}

/// However often values are overwritten, deleted and set again, only what is stored counts against the limits.
pub fn overwriting_adds_nothing_to_the_size(harness: &dyn Harness) {
    const ROUNDS: usize = 40;
    let store = Store::open(harness);
    let value = |length: u8| [&[0xc4, length][..], &vec![7; length.into()]].concat();
    let mut token = store.stored(&Record { values: values(&[("n", 1)]), ..record(store.now) });
    let limits = Limits { bytes: 300, ..Limits::default() };
    for round in 0..ROUNDS {
        let mut grown = set("n", round as u64);
        grown.set("text", value(200));
        let mut shrunk = set("n", 1);
        shrunk.set("text", value(20));
        let mut deleted = set("other", 3);
        deleted.delete("text");
        let mut replaced = set("n", 2).replacing();
        replaced.set("text", value(100));
        for mut changes in [grown, shrunk.clone(), deleted, shrunk, replaced] {
            changes.limits = limits;
            let saved = store.save(&token, &changes, store.now);
            token = saved.unwrap_or_else(|error| {
                panic!("round {round}, {changes:?}: 300 bytes are not reached: {error:?}")
            });
        }
    }
    if !store.can.limits {
        return;
    }
    // "n" and its value take two bytes, "text" and its value four and what is left.
    let mut over = Changes::new();
    over.set("text", value(255));
    for (bytes, fits) in [(262, false), (263, true)] {
        over.limits = Limits { bytes, ..limits };
        let saved = store.save(&token, &over, store.now);
        match (&saved, fits) {
            (Ok(_), true) | (Err(Error::TooLarge { .. }), false) => {}
            _ => panic!("263 bytes after {ROUNDS} rounds, with a limit of {bytes}: {saved:?}"),
        }
    }
}

/// The login counts against the limits neither as a key nor as bytes: not before a login, with it or after it.
pub fn an_owner_takes_no_room(harness: &dyn Harness) {
    let store = Store::open(harness);
    let owner = "ada".repeat(30);
    for is_owned in [true, false] {
        let login = |is_owned: bool| is_owned.then(|| login(&owner, store.now)).flatten();
        let values = filled(9, 900);
        let size = values.size();
        let stored = Record { values, login: login(is_owned), ..empty(store.now, HOUR) };
        let token = store.stored(&stored);
        // A key of three bytes, a value of one.
        let mut changes = set("new", 1);
        changes.limits = Limits { bytes: size + 4, keys: 10, ..Limits::default() };
        changes.login = Some(login(true));
        let what = if is_owned { "beside an owner" } else { "with a login" };
        let saved = store.save(&token, &changes, store.now);
        let token = saved.unwrap_or_else(|error| {
            panic!("{} bytes and 10 keys fit these limits {what}: {error:?}", size + 4)
        });
        let found = store.found(&token).expect("the record is there");
        expect_eq!(
            (found.values.len(), found.values.size()),
            (10, size + 4),
            "the number of keys and bytes {what}"
        );
        if store.can.limits {
            for (bytes, keys) in [(size + 8, 10), (size + 7, 11)] {
                let mut over = set("one", 1);
                over.limits = Limits { bytes, keys, ..Limits::default() };
                let saved = store.save(&token, &over, store.now);
                expect_matches!(
                    saved,
                    Err(Error::TooLarge { .. }),
                    "{} bytes and 11 keys, with limits of {bytes} and {keys}, {what}",
                    size + 8
                );
            }
        }
    }
}

/// Compare-and-save succeeds if the key has the expected value, or is absent as expected.
pub fn an_expected_value_that_holds_lets_the_save_pass(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let mut token = store.stored(&record);
    let mut deletion = Changes::new();
    deletion.delete("a");
    for (what, changes) in [
        ("present", set("a", 2).expecting("a", Some(&number(1)))),
        ("absent", set("new", 1).expecting("new", None)),
        ("another key", set("b", 9).expecting("a", Some(&number(2)))),
        ("deleted if so", deletion.expecting("a", Some(&number(2)))),
        ("deleted before", set("a", 5).expecting("a", None)),
        ("nothing to set", Changes::new().expecting("a", Some(&number(5)))),
    ] {
        let result = store.save(&token, &changes, store.now);
        token = result.unwrap_or_else(|error| {
            panic!("a save with an expected value that holds, {what}: {error:?}")
        });
    }
    let merged = Record { values: values(&[("a", 5), ("b", 9), ("c", 3), ("new", 1)]), ..record };
    expect_eq!(
        store.found(&token),
        Some(merged),
        "the record, after saves with expected values that hold"
    );
}

/// Compare-and-save fails with [`Error::Conflict`], and writes nothing, if the key has another value, or is absent or
/// present against expectation.
pub fn an_expected_value_that_does_not_hold_is_a_conflict(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let mut deletion = set("b", 0);
    deletion.delete("a");
    for (what, changes) in [
        ("another value", set("a", 5).expecting("a", Some(&number(7)))),
        ("a longer value", set("a", 5).expecting("a", Some(&[1, 1]))),
        ("present", set("a", 5).expecting("a", None)),
        ("absent", set("new", 5).expecting("new", Some(&number(1)))),
        ("a deletion", deletion.expecting("a", Some(&number(3)))),
        ("another key", set("b", 5).expecting("c", Some(&number(2)))),
    ] {
        let extended = ExpiryChange::Extend(until(store.after(2 * HOUR)));
        let mut changes = changes.with_expiry(extended);
        changes.login = Some(None);
        let result = store.save(&token, &changes, store.now);
        expect_matches!(
            result,
            Err(Error::Conflict),
            "a save with an expected value that does not hold, {what}"
        );
        expect_eq!(
            store.found(&token),
            Some(record.clone()),
            "the record, after a save with an expected value that does not hold, {what}"
        );
    }
}

/// An expectation is of bytes: NaN equals itself, and 1 in two bytes is not 1 in one.
pub fn expectations_compare_bytes(harness: &dyn Harness) {
    let store = Store::open(harness);
    for value in awkward_values() {
        let values = [("v", value.clone())].into_iter().collect();
        let token = store.stored(&Record { values, ..empty(store.now, HOUR) });
        let result = store.save(&token, &set("v", 1).expecting("v", Some(&value)), store.now);
        expect_matches!(result, Ok(_), "a save that expects the stored value {value:?}");
        let token = store.stored(&Record {
            values: [("v", value.clone())].into_iter().collect(),
            ..empty(store.now, HOUR)
        });
        let result = store.save(&token, &set("v", 1).expecting("v", None), store.now);
        expect_matches!(
            result,
            Err(Error::Conflict),
            "a save that expects no value, where {value:?} is stored"
        );
        let token = store.stored(&empty(store.now, HOUR));
        let result = store.save(&token, &set("v", 1).expecting("v", Some(&value)), store.now);
        expect_matches!(
            result,
            Err(Error::Conflict),
            "a save that expects {value:?}, where nothing is stored"
        );
    }
    for key in awkward_keys().into_iter().filter(|key| key.len() < 64) {
        let values = [(key.clone(), [1])].into_iter().collect();
        let token = store.stored(&Record { values, ..empty(store.now, HOUR) });
        let result = store.save(&token, &set(&key, 2).expecting(&key, Some(&[1])), store.now);
        let token = result.unwrap_or_else(|error| {
            panic!("a save that expects the stored value of the key {key:?}: {error:?}")
        });
        let result = store.save(&token, &set(&key, 3).expecting(&key, None), store.now);
        expect_matches!(
            result,
            Err(Error::Conflict),
            "a save that expects no value of the key {key:?}, which has one"
        );
    }
    let token = store.stored(&record(store.now));
    let result = store.save(&token, &set("a", 2).expecting("a", Some(&[0xcc, 1])), store.now);
    expect_matches!(
        result,
        Err(Error::Conflict),
        "a save that expects the stored number in other bytes"
    );
}

/// Of several expected values all must hold, and a save that sets none of their keys is judged by them, too.
pub fn several_expectations_hold_together(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let one = number(1);
    for (what, changes) in [
        (
            "the first",
            set("d", 4).expecting("a", Some(&number(7))).expecting("b", Some(&number(2))),
        ),
        ("the last", set("d", 4).expecting("a", Some(&one)).expecting("b", None)),
        ("of other keys", set("a", 5).expecting("c", Some(&number(3))).expecting("d", Some(&one))),
    ] {
        let result = store.save(&token, &changes, store.now);
        expect_matches!(
            result,
            Err(Error::Conflict),
            "a save of whose expected values {what} does not hold"
        );
        expect_eq!(
            store.found(&token),
            Some(record.clone()),
            "the record, after a save of whose expected values {what} does not hold"
        );
    }
    let all = set("d", 4).expecting("a", Some(&one)).expecting("b", Some(&number(2)));
    let token = store.saved(&token, &all.expecting("d", None));
    let found = store.found(&token).expect("the record is there");
    expect_eq!(
        found.values,
        values(&[("a", 1), ("b", 2), ("c", 3), ("d", 4)]),
        "the values after a save whose expected values all hold"
    );
}

/// Concurrent changes of other keys, the login and the expiry are no conflict.
pub fn other_keys_never_conflict(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let mut others = set("b", 20);
    others.set("new", number(5));
    others.delete("c");
    others.login = Some(None);
    let extended = ExpiryChange::Extend(until(store.after(2 * HOUR)));
    store.another().saved(&token, &others.with_expiry(extended));
    store.saved(&token, &set("a", 10).expecting("a", Some(&number(1))));
    let found = store.found(&token).expect("the record is there");
    expect_eq!(
        found.values,
        values(&[("a", 10), ("b", 20), ("new", 5)]),
        "the values after saves of different keys, one with an expected value"
    );
}
