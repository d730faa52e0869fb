//! What the server sees of encrypted records.

use std::sync::Arc;

use mongodb::bson::{Binary, Bson, Document, doc};
use session_cookie::{EncryptedProvider, KeyRing, SecretKey};
use session_core::provider::{Changes, Login, NewSecret, Provider, Record, Verifier};
use session_core::{Error, Limits, SessionId, Timestamp, value};
use session_mongo::mongodb;

use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);
const SECRETS: [&str; 5] = [
    "ada.lovelace@example.org",
    "a very long value, easily found",
    "owner-4711",
    "another owner",
    "the blue telephone",
];

pub(crate) fn keys(secret: u8) -> KeyRing {
    let key = SecretKey::from_bytes([secret; SecretKey::BYTES]).expect("it isn't all zeros");
    KeyRing::new(&[key]).expect("one key is a ring")
}

/// Returns the provider, encrypted under a key or plain.
fn provider(server: &Server, key: Option<u8>) -> Arc<dyn Provider> {
    let plain = server.provider("ensure_ttl=false");
    match key {
        Some(key) => Arc::new(EncryptedProvider::new(plain, keys(key))),
        None => plain,
    }
}

fn encoded(text: &str) -> Arc<[u8]> {
    value::encode("", text, &Limits::default()).expect("a text is a value")
}

/// Returns the only document.
fn document(server: &Server) -> Document {
    let found = server.block_on(server.documents().find_one(doc! {}).into_future());
    found.expect("it is found").expect("there is one")
}

fn login(owner: &str) -> Option<Box<Login>> {
    Some(Box::new(Login { owner: owner.into(), at: NOW, label: SECRETS[4].into() }))
}

/// Performs every operation that writes on one session.
fn use_it(server: &Server, provider: &dyn Provider) -> SessionId {
    server.block_on(async {
        let id = SessionId::generate().unwrap();
        let values = [("mail", encoded(SECRETS[0]))].into_iter().collect();
        let holder = Verifier::digest(&id, "");
        let record =
            Record { login: login(SECRETS[2]), values, ..Record::new(holder, NOW, EXPIRES) };
        provider.create(&id, record, NOW).await.unwrap();
        let token = id.into();
        let loaded = provider.load(&token, NOW).await.unwrap().unwrap();
        let new_id = id.with_new_secret().unwrap();
        let mut changes = Changes::new();
        changes.seen = loaded.note;
        changes.set("text", encoded(SECRETS[1]));
        changes.login = Some(login(SECRETS[3]));
        changes.secret = Some(Box::new(NewSecret {
            token: new_id.into(),
            holder: Verifier::digest(&new_id, ""),
            at: NOW,
        }));
        provider.save(&token, &holder, &changes, NOW).await.unwrap();
        new_id
    })
}

fn is_whole(record: &Record) {
    assert_eq!(record.values.get("mail"), Some(&*encoded(SECRETS[0])));
    assert_eq!(record.values.get("text"), Some(&*encoded(SECRETS[1])));
    assert_eq!(record.owner(), Some(SECRETS[3]));
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn no_document_has_a_value_or_an_owner() {
    for key in [None, Some(1)] {
        let server = Server::new();
        let provider = provider(&server, key);
        let id = use_it(&server, &*provider);
        let loaded = server.block_on(provider.load(&id.into(), NOW)).unwrap().unwrap();
        is_whole(&loaded);
        assert_eq!(loaded.holder, Verifier::digest(&id, ""));
        let bytes = document(&server).to_vec().unwrap();
        for secret in [SECRETS[0], SECRETS[1], SECRETS[3], SECRETS[4]] {
            let there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert_eq!(there, key.is_none(), "{secret}");
        }
    }
}

/// Neither a wrong key nor a damaged ciphertext nor a planted holder opens a session. The session can be
/// destroyed.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn what_can_not_be_verified_is_unreadable() {
    let server = Server::new();
    let right = provider(&server, Some(1));
    let id = use_it(&server, &*right);
    let token = id.into();
    let load = |provider: &dyn Provider| server.block_on(provider.load(&token, NOW));
    let wrong = provider(&server, Some(2));
    let error = load(&*wrong).unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    assert!(error.to_string().contains("not in the key ring"), "{error}");
    is_whole(&load(&*right).unwrap().unwrap());

    let good = document(&server);
    let mut damaged = good.clone();
    let value = damaged.get_document_mut("values").unwrap().get_mut("mail");
    let Some(Bson::Binary(Binary { bytes, .. })) = value else { panic!("the value is binary") };
    *bytes.last_mut().unwrap() ^= 1;
    let mut planted = good;
    let Some(Bson::Binary(holder)) = planted.get_mut("holder") else { panic!("it is binary") };
    let intruder = id.with_new_secret().unwrap();
    holder.bytes = Verifier::digest(&intruder, "").as_bytes().to_vec();
    for document in [damaged, planted] {
        let documents = server.documents();
        let replaced = server.block_on(documents.replace_one(doc! {}, &document).into_future());
        assert_eq!(replaced.unwrap().matched_count, 1);
        let error = load(&*right).unwrap_err();
        assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
    }
    server.block_on(wrong.destroy(&id.key(), EXPIRES, NOW)).unwrap();
    assert_eq!(
        server.block_on(server.documents().count_documents(doc! {}).into_future()).unwrap(),
        0
    );
}
