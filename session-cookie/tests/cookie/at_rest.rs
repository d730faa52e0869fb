//! What a store sees of encrypted records, which operations encryption performs on the store, and the
//! effect of records that an attacker has written.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use session_cookie::{EncryptedProvider, KeyRing, SignedProvider};
use session_core::provider::{
    Changes, ExpiryChange, Login, NewSecret, Provider, Record, Token, Touch, Values, Verifier,
};
use session_core::{Error, SessionId, SessionKey};

use crate::shelf::Shelf;
use crate::site::{START, Site, Visitor, key};

pub(crate) const SECRETS: [&str; 5] = [
    "ada.lovelace@example.org",
    "a very long value, easily found",
    "owner-4711",
    "another owner",
    "the blue telephone",
];

fn ring(keys: &[u8]) -> KeyRing {
    let keys: Vec<_> = keys.iter().map(|n| key(*n)).collect();
    KeyRing::new(&keys).expect("the keys are right")
}

/// Returns a site with encrypted sessions in this store.
fn site(store: &Arc<Shelf>, keys: &[u8]) -> Site {
    Site::over(EncryptedProvider::new(Arc::clone(store), ring(keys)))
}

/// Performs every operation that writes on one session.
pub(crate) fn use_it(site: &Site) -> Visitor {
    let stranger = Visitor::default();
    let ((), visitor) = site
        .request(&stranger, async |session| {
            session.set("mail", SECRETS[0])?;
            session.log_in(SECRETS[2])
        })
        .unwrap();
    let ((), visitor) = site
        .request(&visitor, async |session| {
            session.log_in(SECRETS[3])?;
            session.label(SECRETS[4])?;
            session.set("mail", SECRETS[0])?;
            session.set("text", SECRETS[1])?;
            session
                .update("mails", |mails: Option<Vec<String>>| {
                    let mut mails = mails.unwrap_or_default();
                    mails.push(SECRETS[0].to_owned());
                    mails
                })
                .await
                .map(drop)
        })
        .unwrap();
    visitor
}

pub(crate) fn is_whole(site: &Site, visitor: &Visitor) {
    let read = site.request(visitor, async |session| {
        assert_eq!(session.get::<String>("mail")?.as_deref(), Some(SECRETS[0]));
        assert_eq!(session.get::<String>("text")?.as_deref(), Some(SECRETS[1]));
        assert_eq!(session.get::<Vec<String>>("mails")?, Some(vec![SECRETS[0].to_owned()]));
        assert_eq!(session.owner().as_deref(), Some(SECRETS[3]));
        Ok(())
    });
    read.unwrap();
}

#[test]
fn the_store_has_no_value_no_owner_and_no_label() {
    let store = Arc::new(Shelf::default());
    let plain = Site::over(Arc::clone(&store));
    let visitor = use_it(&plain);
    is_whole(&plain, &visitor);
    for secret in [SECRETS[0], SECRETS[1], SECRETS[3], SECRETS[4]] {
        assert!(store.contains(secret), "without encryption it is there: {secret}");
    }

    let store = Arc::new(Shelf::default());
    let encrypted = site(&store, &[1]);
    let visitor = use_it(&encrypted);
    is_whole(&encrypted, &visitor);
    assert_eq!(store.records.lock().len(), 1);
    for secret in SECRETS {
        assert!(!store.contains(secret), "{secret}");
    }
    assert!(store.contains("mails"), "keys are readable, as documented");
}

#[test]
fn equal_owners_are_equal_in_the_store_and_different_ones_are_not() {
    let store = Arc::new(Shelf::default());
    let site = site(&store, &[1]);
    for owner in ["ada", "ada", "bob"] {
        site.request(&Visitor::default(), async |session| session.log_in(owner)).unwrap();
    }
    let records = store.records.lock();
    let mut owners: Vec<&str> = records.values().filter_map(Record::owner).collect();
    owners.sort_unstable();
    owners.dedup();
    assert_eq!(owners.len(), 2);
}

#[test]
fn a_key_that_was_taken_out_makes_an_anonymous_visitor_who_can_log_out() {
    let store = Arc::new(Shelf::default());
    let visitor = use_it(&site(&store, &[1]));
    let wrong = site(&store, &[2]);
    let (mail, after) =
        wrong.request(&visitor, async |session| session.get::<String>("mail")).unwrap();
    assert_eq!(mail, None);
    assert_eq!(after, visitor, "nothing is announced");
    assert_eq!(wrong.manager.stats().unreadable, 1);
    is_whole(&site(&store, &[1]), &visitor);

    let ((), after) = wrong.request(&visitor, async |session| session.destroy().await).unwrap();
    assert_eq!(after, Visitor::default(), "the cookie is cleared");
    let ((), fresh) = wrong.request(&visitor, async |session| session.log_in("ada")).unwrap();
    assert_ne!(fresh, visitor);
}

/// An unreadable session can be ended by its key.
#[test]
fn a_record_under_an_unknown_key_can_be_destroyed() {
    let store = Arc::new(Shelf::default());
    use_it(&site(&store, &[1]));
    let (key, _) = store.only();
    let wrong = EncryptedProvider::new(Arc::clone(&store), ring(&[2]));
    let token = Token::from(SessionId::new(key, *SessionId::generate().unwrap().secret()));
    let loaded = block_on(wrong.load(&token, START)).unwrap_err();
    assert!(loaded.to_string().contains("not in the key ring"), "{loaded}");
    block_on(wrong.destroy(&key, START, START)).unwrap();
    assert!(store.records.lock().is_empty());
}

#[test]
fn each_operation_is_one_of_the_store() {
    let store = Arc::new(Shelf::default());
    let site = site(&store, &[1]);
    let count = |n: Option<u64>| n.unwrap_or(0) + 1;
    let ((), visitor) =
        site.request(&Visitor::default(), async |session| session.set("user", "ada")).unwrap();
    assert_eq!(store.calls(), ["create"]);
    site.request(&visitor, async |session| session.get::<String>("user")).unwrap();
    assert_eq!(store.calls(), ["load"]);
    site.request(&visitor, async |session| session.set("cart", &1)).unwrap();
    assert_eq!(store.calls(), ["load", "save"]);
    let update = async |session: session_core::LoadedSession| session.update("n", count).await;
    assert_eq!(site.request(&visitor, update).unwrap().0, 1);
    assert_eq!(store.calls(), ["load", "save"]);
    let twice = async |session: session_core::LoadedSession| {
        session.update("n", count).await?;
        session.set("n2", &1)?;
        session.save().await?;
        session.update("n", count).await
    };
    assert_eq!(site.request(&visitor, twice).unwrap().0, 3);
    assert_eq!(store.calls(), ["load", "save", "save", "save"], "each builds on the one before");
    let login = async |session: session_core::LoadedSession| {
        session.log_in("ada")?;
        session.label("telephone")?;
        session.set("cart", &2)
    };
    let ((), visitor) = site.request(&visitor, login).unwrap();
    assert_eq!(store.calls(), ["load", "save"]);
    let ((), visitor) = site.request(&visitor, async |session| session.regenerate()).unwrap();
    assert_eq!(store.calls(), ["load", "save"]);
    let other = async |session: session_core::LoadedSession| session.log_in("bob");
    let ((), visitor) = site.request(&visitor, other).unwrap();
    assert_eq!(store.calls(), ["load", "save"]);
    assert_eq!(store.only().1.values.len(), 1, "another owner's values are gone, but for the seal");
    site.clock.advance(Duration::from_secs(600));
    site.request(&visitor, async |session| session.get::<u64>("n")).unwrap();
    assert_eq!(store.calls(), ["load", "touch"]);
    site.request(&visitor, async |session| session.destroy().await).unwrap();
    assert_eq!(store.calls(), ["load", "destroy"]);
}

/// Returns a session that key 1 encrypted, in a site whose first key is 2.
fn rotated() -> (Arc<Shelf>, Site, Visitor) {
    let store = Arc::new(Shelf::default());
    let visitor = use_it(&site(&store, &[1]));
    let both = site(&store, &[2, 1]);
    is_whole(&both, &visitor);
    store.calls();
    (store, both, visitor)
}

#[test]
fn after_a_rotation_one_save_moves_everything_to_the_new_key() {
    let (store, both, visitor) = rotated();
    let ((), visitor) = both.request(&visitor, async |session| session.set("new", &1)).unwrap();
    assert_eq!(store.calls(), ["load", "save"]);
    is_whole(&site(&store, &[2]), &visitor);
    let old = site(&store, &[1]);
    assert_eq!(old.request(&visitor, async |session| session.get::<u64>("new")).unwrap().0, None);
    store.calls();
    both.request(&visitor, async |session| session.set("new", &2)).unwrap();
    assert_eq!(store.calls(), ["load", "save"], "once");
}

#[test]
fn after_a_rotation_one_touch_moves_everything_to_the_new_key() {
    let (store, both, visitor) = rotated();
    both.clock.advance(Duration::from_secs(600));
    is_whole(&both, &visitor);
    assert_eq!(store.calls(), ["load", "save"]);
    let new = site(&store, &[2]);
    new.clock.advance(Duration::from_secs(600));
    is_whole(&new, &visitor);
    let (_, record) = store.only();
    assert_eq!(record.used, START.saturating_add(Duration::from_secs(600)), "it was touched, too");
    both.clock.advance(Duration::from_secs(600));
    store.calls();
    is_whole(&both, &visitor);
    assert_eq!(store.calls(), ["load", "touch"], "once");
}

#[test]
fn after_a_rotation_a_login_and_an_update_are_one_save_each() {
    let (store, both, visitor) = rotated();
    let update = async |session: session_core::LoadedSession| {
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await
    };
    let (n, visitor) = both.request(&visitor, update).unwrap();
    assert_eq!((n, store.calls()), (1, vec!["load", "save"]));
    is_whole(&site(&store, &[2]), &visitor);

    let (store, both, visitor) = rotated();
    let ((), visitor) = both.request(&visitor, async |session| session.log_in(SECRETS[3])).unwrap();
    assert_eq!(store.calls(), ["load", "save"]);
    is_whole(&site(&store, &[2]), &visitor);
}

/// A request that loaded the record before another request re-encrypted or changed it.
#[test]
fn moving_to_the_new_key_undoes_nothing_that_happens_meanwhile() {
    let (store, both, visitor) = rotated();
    let slow = both.request(&visitor, async |session| {
        session.set("slow", &1)?;
        let other = site(&store, &[1]);
        other.request_async(&visitor, async |session| session.set("text", "changed")).await
    });
    let (_, visitor) = slow.unwrap();
    let read = async |session: session_core::LoadedSession| {
        Ok((session.get::<u64>("slow")?, session.get::<String>("text")?))
    };
    let (read, _) = site(&store, &[2]).request(&visitor, read).unwrap();
    assert_eq!(read, (Some(1), Some("changed".to_owned())));
}

/// The touch that re-encrypts a record under the new key loses to a login: the request gets the same
/// error as from any other login, and the new id is not overwritten.
#[test]
fn a_touch_that_moves_a_record_leaves_a_new_id_alone() {
    let (store, both, visitor) = rotated();
    both.clock.advance(Duration::from_secs(600));
    let (_, before) = store.only();
    let stranger = Verifier::from_bytes([7; 32]);
    store.before_the_next_save(move |record| record.holder = stranger);
    let ((), after) = both.request(&visitor, async |_| Ok(())).unwrap();
    assert_eq!(after, visitor, "nothing is announced");
    let (_, record) = store.only();
    assert!(record.holder == stranger);
    assert_eq!(record.values, before.values);
    assert_eq!(store.calls(), ["load", "save", "touch"]);
}

/// A save with a new id repeats the loaded login; a login that was saved meanwhile stays.
#[test]
fn a_new_id_and_a_login_at_once_leave_a_record_that_can_be_read() {
    let (_store, provider) = encrypted();
    let (id, token) = stored(&provider);
    let holder = provider.verifier(&token, "");
    let [seen, stale] =
        [(); 2].map(|()| block_on(provider.load(&token, START)).unwrap().unwrap().note);
    let mut labelled = Changes::new();
    let login = Login { owner: "ada".into(), at: START, label: "telephone".into() };
    labelled.login = Some(Some(Box::new(login.clone())));
    labelled.seen = seen;
    block_on(provider.save(&token, &holder, &labelled, START)).unwrap();
    // Another process loaded the record before that.
    let new = Token::from(provider.renewed_id(&id).unwrap());
    let mut renewed = Changes::new();
    let new_holder = provider.verifier(&new, "");
    renewed.secret =
        Some(Box::new(NewSecret { token: new.clone(), holder: new_holder, at: START }));
    renewed.seen = stale;
    block_on(provider.save(&token, &holder, &renewed, START)).unwrap();
    let record = block_on(provider.load(&new, START)).unwrap().expect("is there");
    assert!(record.holder == new_holder);
    assert_eq!(record.login.as_deref(), Some(&login));
}

#[test]
fn both_wrappers_share_one_store() {
    let store = Arc::new(Shelf::default());
    let encrypted = EncryptedProvider::new(Arc::clone(&store), ring(&[1]));
    let site = Site::over(SignedProvider::new(encrypted, ring(&[1])));
    let visitor = use_it(&site);
    is_whole(&site, &visitor);
    assert_eq!(visitor.text().len(), 67);
    assert!(!SECRETS.iter().any(|secret| store.contains(secret)));
}

fn encrypted() -> (Arc<Shelf>, EncryptedProvider<Arc<Shelf>>) {
    let store = Arc::new(Shelf::default());
    (Arc::clone(&store), EncryptedProvider::new(store, ring(&[1])))
}

fn record(holder: Verifier) -> Record {
    let mut record = Record::new(holder, START, START.saturating_add(Duration::from_secs(60)));
    let login = Login { owner: "ada".into(), at: START, label: "laptop".into() };
    record.login = Some(Box::new(login));
    record.values = [("a", &b"\xa3one"[..]), ("b", b"\xa3two")].into_iter().collect();
    record
}

fn stored(provider: &impl Provider) -> (SessionId, Token) {
    let id = SessionId::generate().unwrap();
    let token = Token::from(id);
    let holder = provider.verifier(&token, "");
    block_on(provider.create(&id, record(holder), START)).unwrap();
    (id, token)
}

/// Checks that a record counts as absent: loading reports it as unreadable, and writes report it as
/// gone.
fn is_absent(provider: &impl Provider, token: &Token, what: &str) {
    let loaded = block_on(provider.load(token, START));
    assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{what}: {loaded:?}");
    let holder = provider.verifier(token, "");
    let saved = block_on(provider.save(token, &holder, &Changes::new(), START));
    assert!(matches!(saved, Err(Error::Gone)), "{what}: {saved:?}");
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_stored_value_makes_it_absent() {
    let (store, provider) = encrypted();
    let (id, token) = stored(&provider);
    let good = store.only().1;
    let entries: Vec<(String, Vec<u8>)> =
        good.values.iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
    assert_eq!(entries.len(), 3, "two values and the seal");
    let put = |entries: &[(String, Vec<u8>)]| {
        let values = entries.iter().map(|(key, value)| (key.clone(), value.clone()));
        store.put(id.key(), Record { values: values.collect::<Values>(), ..good.clone() });
    };
    for at in 0..entries.len() {
        for bit in 0..entries[at].1.len() * 8 {
            let mut damaged = entries.clone();
            damaged[at].1[bit / 8] ^= 1 << (bit % 8);
            put(&damaged);
            is_absent(&provider, &token, &format!("{:?}, bit {bit}", entries[at].0));
        }
        for length in 0..entries[at].1.len() {
            let mut damaged = entries.clone();
            damaged[at].1.truncate(length);
            put(&damaged);
            is_absent(&provider, &token, &format!("{:?}, cut at {length}", entries[at].0));
        }
    }
    put(&entries);
    let loaded = block_on(provider.load(&token, START)).unwrap();
    assert_eq!(loaded, Some(record(good.holder)));
}

#[test]
fn what_was_moved_or_never_encrypted_is_absent() {
    let (store, provider) = encrypted();
    let ((id, token), (other_id, other_token)) = (stored(&provider), stored(&provider));
    let (first, second) = {
        let records = store.records.lock();
        (records[&id.key()].clone(), records[&other_id.key()].clone())
    };
    let value = |record: &Record, key: &str| record.values.get(key).unwrap().to_vec();
    let with = |values: &[(&str, Vec<u8>)]| {
        let mut changes = Changes::new();
        for (key, value) in values {
            changes.set(key, value.clone());
        }
        let mut record = first.clone();
        record.values.apply(&changes, &changes.limits).unwrap();
        record
    };
    let with_login = |edit: &dyn Fn(&mut Login)| {
        let mut record = first.clone();
        edit(record.login.as_deref_mut().unwrap());
        record
    };
    let other_holder = provider.verifier(&other_token, "");
    let seal = "\0@seal";
    for (what, put) in [
        ("two values of a record", with(&[("a", value(&first, "b")), ("b", value(&first, "a"))])),
        ("another record's value", with(&[("a", value(&second, "a"))])),
        ("another record's seal", with(&[(seal, value(&second, seal))])),
        ("a value in place of the seal", with(&[(seal, value(&first, "a"))])),
        ("another session's record", second.clone()),
        (
            "another session's record for this holder",
            Record { holder: first.holder, ..second.clone() },
        ),
        ("another holder", Record { holder: other_holder, ..first.clone() }),
        ("a plain record", record(first.holder)),
        ("a record without values", Record { values: Values::new(), ..first.clone() }),
        ("a record whose login was taken off", Record { login: None, ..first.clone() }),
        ("a record of another owner", with_login(&|login| login.owner = "eve".into())),
        ("another label", with_login(&|login| login.label = "desktop".into())),
        ("no label", with_login(&|login| login.label = "".into())),
    ] {
        store.put(id.key(), put);
        is_absent(&provider, &token, what);
    }
    store.put(id.key(), first.clone());
    assert_eq!(block_on(provider.load(&token, START)).unwrap(), Some(record(first.holder)));
}

/// An attacker who can write to the database and has a valid id tries to open another visitor's session.
#[test]
fn hostile_rows_open_nothing() {
    let store = Arc::new(Shelf::default());
    let site = site(&store, &[1]);
    let victim = use_it(&site);
    let (victims_key, row) = store.only();
    let mine = site.enter("mallory");
    let my_id = SessionId::parse(mine.text()).expect("is an id");
    let my_row = store.records.lock()[&my_id.key()].clone();
    let plain = Shelf::default();
    let guess = SessionId::new(victims_key, *my_id.secret());
    let my_holder = plain.verifier(&Token::from(guess), "");

    let sees_nothing = |what: &str, id: SessionId| {
        let visitor = mine.carrying(&id.text());
        let look = async |session: session_core::LoadedSession| {
            Ok((session.keys(), session.owner(), session.is_new()))
        };
        let (seen, after) = site.request(&visitor, look).unwrap();
        assert_eq!(seen, (vec![], None, true), "{what}");
        assert_eq!(after, visitor, "{what}: announced");
    };
    store.put(victims_key, Record { holder: my_holder, ..row.clone() });
    sees_nothing("my secret's digest in the victim's row", guess);
    let mut sealed = Record { holder: my_holder, ..row.clone() };
    let mut changes = Changes::new();
    changes.set("\0@seal", my_row.values.get("\0@seal").unwrap());
    sealed.values.apply(&changes, &changes.limits).unwrap();
    store.put(victims_key, sealed);
    sees_nothing("my digest and my seal in the victim's row", guess);
    store.put(victims_key, row.clone());
    is_whole(&site, &victim);

    store.put(my_id.key(), row.clone());
    sees_nothing("the victim's row under my key", my_id);
    store.put(my_id.key(), Record { holder: my_row.holder, ..row.clone() });
    sees_nothing("the victim's row under my key, with my digest", my_id);
    let mut mixed = my_row.clone();
    let mut changes = Changes::new();
    changes.set("mail", row.values.get("mail").unwrap());
    mixed.values.apply(&changes, &changes.limits).unwrap();
    store.put(my_id.key(), mixed);
    sees_nothing("the victim's value in my row", my_id);
    store.put(my_id.key(), Record { login: row.login.clone(), ..my_row.clone() });
    sees_nothing("the victim's login in my row", my_id);
    let id = SessionId::new(SessionKey::from_bytes([9; 12]), *my_id.secret());
    let holder = plain.verifier(&Token::from(id), "");
    store.put(id.key(), record(holder));
    sees_nothing("a row of my own making", id);

    store.put(my_id.key(), my_row);
    assert_eq!(site.user(&mine).0.as_deref(), Some("mallory"));
    is_whole(&site, &victim);
}

/// A save that may have been applied already is repeated unchanged.
#[test]
fn a_new_id_that_is_saved_twice_is_saved_once() {
    let (store, provider) = encrypted();
    let (id, token) = stored(&provider);
    let holder = provider.verifier(&token, "");
    let new = Token::from(provider.renewed_id(&id).unwrap());
    let new_holder = provider.verifier(&new, "");
    let touch = Touch { used: START, expires: START.saturating_add(Duration::from_secs(90)) };
    let mut changes = Changes::new().with_expiry(ExpiryChange::Extend(touch));
    changes.set("a", *b"\xa5three");
    changes.secret =
        Some(Box::new(NewSecret { token: new.clone(), holder: new_holder, at: START }));
    // Each save starts from the first loaded record, because the reply to the first save was lost.
    for seen in [(); 2].map(|()| block_on(provider.load(&token, START)).unwrap().unwrap().note) {
        changes.seen = seen;
        block_on(provider.save(&token, &holder, &changes, START)).unwrap();
    }
    let record = block_on(provider.load(&new, START)).unwrap().expect("is there");
    assert!(record.holder == new_holder);
    assert_eq!(record.values.get("a"), Some(&b"\xa5three"[..]));
    assert_eq!(record.owner(), Some("ada"));
    assert!(!store.contains("three"));
    let old = block_on(provider.save(&token, &holder, &Changes::new(), START));
    assert!(matches!(old, Err(Error::Gone)), "{old:?}");
}

/// As documented, only the login's time is sealed.
#[test]
fn moved_times_keep_a_session_alive_and_the_sealed_login_bounds_it() {
    let store = Arc::new(Shelf::default());
    let site = site(&store, &[1]);
    let anonymous = site.enter("anybody");
    let logged_in = use_it(&site);
    let pass = |time: Duration| {
        site.clock.advance(time);
        let now = site.manager.now();
        for record in store.records.lock().values_mut() {
            (record.created, record.renewed, record.used) = (now, now, now);
            record.expires = now.saturating_add(Duration::from_secs(60));
            if let Some(login) = &mut record.login {
                login.at = now;
            }
        }
    };
    pass(Duration::from_secs(12 * 3600 - 1));
    is_whole(&site, &logged_in);
    pass(Duration::from_secs(1));
    let (owner, _) = site.request(&logged_in, async |session| Ok(session.owner())).unwrap();
    assert_eq!(owner, None, "twelve hours after the login");
    assert_eq!(site.user(&anonymous).0.as_deref(), Some("anybody"));
}
