//! What a store sees of encrypted records, and what becomes of those that are damaged.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use futures_lite::future::block_on;
use parking_lot::Mutex;
use session_cookie::{EncryptedProvider, KeyRing};
use session_core::{
    Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token, Values,
};

use crate::rotation::Scratch;
use crate::site::{START, Site, Visitor, key, key_option};

const SECRETS: [&str; 4] =
    ["ada.lovelace@example.org", "a very long value, easily found", "owner-4711", "another owner"];

/// A session that goes through everything that writes.
fn use_it(site: &Site) -> Visitor {
    let stranger = Visitor::default();
    let ((), visitor) = site
        .request(&stranger, async |session| {
            session.set("mail", SECRETS[0])?;
            session.set_owner(Some(SECRETS[2]))
        })
        .unwrap();
    let ((), visitor) = site
        .request(&visitor, async |session| {
            session.set("text", SECRETS[1])?;
            session.set_owner(Some(SECRETS[3]))?;
            session.regenerate().await?;
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

fn is_whole(site: &Site, visitor: &Visitor) {
    let read = site.request(visitor, async |session| {
        assert_eq!(session.get::<String>("mail")?.as_deref(), Some(SECRETS[0]));
        assert_eq!(session.get::<String>("text")?.as_deref(), Some(SECRETS[1]));
        assert_eq!(session.get::<Vec<String>>("mails")?, Some(vec![SECRETS[0].to_owned()]));
        assert_eq!(session.owner().as_deref(), Some(SECRETS[3]));
        Ok(())
    });
    read.unwrap();
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// The bytes of all files below a directory, with their paths.
fn files(directory: &Path, found: &mut BTreeMap<std::path::PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => drop(found.insert(path.clone(), std::fs::read(&path).unwrap())),
        }
    }
}

#[test]
fn no_file_has_a_value_or_an_owner() {
    for (provider, readable) in [("file", true), ("encrypted+file", false)] {
        let directory = Scratch::new();
        let path = directory.0.display();
        let source = match readable {
            true => format!("path={path}"),
            false => format!("path={path}&{}", key_option(1)),
        };
        let site = Site::open(provider, &source);
        let visitor = use_it(&site);
        is_whole(&site, &visitor);
        let mut found = BTreeMap::new();
        files(&directory.0, &mut found);
        assert!(!found.is_empty());
        for secret in &SECRETS[..2] {
            let there = found.iter().any(|(path, bytes)| {
                contains(bytes, secret) || contains(path.as_os_str().as_encoded_bytes(), secret)
            });
            assert_eq!(there, readable, "{provider}: {secret}");
        }
        let owner = found.values().any(|bytes| contains(bytes, SECRETS[3]));
        assert_eq!(owner, readable, "{provider}: the owner");
        let old_owner = found.values().any(|bytes| contains(bytes, SECRETS[2]));
        assert!(readable || !old_owner, "{provider}: the owner before");
    }
}

#[test]
fn another_key_is_a_clear_error_and_the_key_behind_it_is_enough() {
    let directory = Scratch::new();
    let site = |keys: &str| {
        Site::open("encrypted+file", &format!("path={}&{keys}", directory.0.display()))
    };
    let visitor = use_it(&site(&key_option(1)));
    let wrong = site(&key_option(2));
    for result in [
        wrong.request(&visitor, async |session| session.set("a", &1)),
        wrong.request(&visitor, async |_| Ok(())),
    ] {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("not in the key ring"), "{error}");
        assert!(matches!(error, Error::Config(_)));
    }
    let both = site(&format!("{}&{}", key_option(2), key_option(1)));
    is_whole(&both, &visitor);
    // A touch encrypts it anew: then the new key alone will do.
    both.clock.advance(std::time::Duration::from_secs(600));
    is_whole(&both, &visitor);
    let new = site(&key_option(2));
    new.clock.advance(std::time::Duration::from_secs(600));
    is_whole(&new, &visitor);
    let old = site(&key_option(1));
    assert!(old.request(&visitor, async |_| Ok(())).is_err(), "and the old one will not");
}

#[test]
fn both_wrappers_share_one_ring_around_one_store() {
    let directory = Scratch::new();
    let source = format!("path={}&{}", directory.0.display(), key_option(1));
    let site = Site::open("signed+encrypted+file", &source);
    let visitor = use_it(&site);
    is_whole(&site, &visitor);
    assert_eq!(visitor.text().len(), 67);
    let mut found = BTreeMap::new();
    files(&directory.0, &mut found);
    assert!(!found.values().any(|bytes| SECRETS.iter().any(|secret| contains(bytes, secret))));
}

/// A store that anybody can write to.
#[derive(Debug, Default)]
struct Open(Mutex<BTreeMap<SessionId, Record>>);

fn encrypted() -> (Arc<Open>, EncryptedProvider<Arc<Open>>) {
    let store = Arc::new(Open::default());
    (store.clone(), EncryptedProvider::new(store, KeyRing::new(&[key(1)]).unwrap()))
}

fn record() -> Record {
    Record {
        created: START,
        expires: START.saturating_add(std::time::Duration::from_secs(60)),
        owner: Some("ada".into()),
        values: [("a", &b"\xa3one"[..]), ("b", b"\xa3two")].into_iter().collect(),
    }
}

fn stored(provider: &impl Provider) -> Token {
    let id = SessionId::generate().unwrap();
    block_on(provider.create(&id, record(), START)).unwrap()
}

/// Absent, as the manager takes it: unreadable to load, gone for everything that writes.
fn is_absent(provider: &impl Provider, token: &Token, what: &str) {
    let loaded = block_on(provider.load(token, START));
    assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{what}: {loaded:?}");
    let saved = block_on(provider.save(token, &Changes::new(), START));
    assert!(matches!(saved, Err(Error::Gone)), "{what}: {saved:?}");
    let new = SessionId::generate().unwrap();
    let renamed = block_on(provider.rename(token, &new, START));
    assert!(matches!(renamed, Err(Error::Gone)), "{what}: {renamed:?}");
}

#[test]
fn every_flipped_bit_and_every_cut_of_a_stored_value_makes_it_absent() {
    let (store, provider) = encrypted();
    let token = stored(&provider);
    let good = store.0.lock()[token.id()].clone();
    let entries: Vec<(String, Vec<u8>)> =
        good.values.iter().map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
    assert_eq!(entries.len(), 4, "two values, the owner, and the bond");
    let put = |entries: &[(String, Vec<u8>)]| {
        let values = entries.iter().map(|(key, value)| (key.clone(), value.clone()));
        let record = Record { values: values.collect::<Values>(), ..good.clone() };
        store.0.lock().insert(*token.id(), record);
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
    assert_eq!(block_on(provider.load(&token, START)).unwrap(), Some(record()));
}

#[test]
fn what_was_moved_or_never_encrypted_is_absent() {
    let (store, provider) = encrypted();
    let (one, two) = (stored(&provider), stored(&provider));
    let (first, second) = {
        let records = store.0.lock();
        (records[one.id()].clone(), records[two.id()].clone())
    };
    let mut swapped = Changes::new();
    swapped.set("a", first.values.get("b").unwrap());
    swapped.set("b", first.values.get("a").unwrap());
    let mut others = Changes::new();
    others.set("a", second.values.get("a").unwrap());
    let with = |changes: &Changes| {
        let mut record = first.clone();
        record.values.apply(changes, &changes.limits).unwrap();
        record
    };
    let mut owned = first.clone();
    owned.owner = None;
    for (what, put) in [
        ("two values of a record", with(&swapped)),
        ("another record's value", with(&others)),
        ("another session's record", second),
        ("a plain record", record()),
        ("an empty record", Record { values: Values::new(), owner: None, ..record() }),
        ("a record whose owner was taken off", owned),
    ] {
        store.0.lock().insert(*one.id(), put);
        is_absent(&provider, &one, what);
    }
}

impl Provider for Open {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        self.0.lock().insert(*id, record);
        ProviderFuture::ready(Ok(Token::from(*id)))
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        ProviderFuture::ready(Ok(self.0.lock().get(token.id()).cloned()))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let mut records = self.0.lock();
        let applied = records.get_mut(token.id()).ok_or(Error::Gone);
        let applied = applied.and_then(|record| record.apply(changes, now));
        ProviderFuture::ready(applied.map(|()| token.clone()))
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let mut records = self.0.lock();
        let moved = records.remove(token.id()).ok_or(Error::Gone).map(|record| {
            records.insert(*new_id, record);
            Token::from(*new_id)
        });
        ProviderFuture::ready(moved)
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        self.0.lock().remove(token.id());
        ProviderFuture::ready(Ok(()))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let mut records = self.0.lock();
        let touched = records.get_mut(token.id()).filter(|record| record.is_live(now));
        let touched = touched.ok_or(Error::Gone).map(|record| {
            record.expires = record.expires.max(expires);
            token.clone()
        });
        ProviderFuture::ready(touched)
    }

    fn count(&self, _now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        ProviderFuture::ready(Ok(self.0.lock().len() as u64))
    }

    fn purge(&self, _now: Timestamp, _limit: usize) -> Result<Purged, Error> {
        Ok(Purged::default())
    }
}
