//! What the server sees of records that are encrypted before they come to it.

use std::sync::Arc;

use mongodb::bson::{Binary, Bson, Document, doc};
use session_cookie::{EncryptedProvider, KeyRing, SecretKey};
use session_core::{Changes, Error, Limits, Provider, Record, SessionId, Timestamp, Token, value};
use session_mongo::mongodb;

use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);
const SECRETS: [&str; 4] =
    ["ada.lovelace@example.org", "a very long value, easily found", "owner-4711", "another owner"];

pub(crate) fn keys(secret: u8) -> KeyRing {
    let key = SecretKey::from_bytes([secret; SecretKey::BYTES]).expect("it isn't all zeros");
    KeyRing::new(&[key]).expect("one key is a ring")
}

/// The provider under a key, or as it is.
fn provider(server: &Server, key: Option<u8>) -> Arc<dyn Provider> {
    let plain = server.provider("ensure_ttl=false");
    match key {
        Some(key) => Arc::new(EncryptedProvider::new(plain, keys(key))),
        None => plain,
    }
}

fn encoded(text: &str) -> Box<[u8]> {
    value::encode("", text, &Limits::default()).expect("a text is a value")
}

/// The only document.
fn document(server: &Server) -> Document {
    let found = server.block_on(server.documents().find_one(doc! {}).into_future());
    found.expect("it is found").expect("there is one")
}

/// A session that goes through everything that writes.
fn use_it(server: &Server, provider: &dyn Provider) -> Token {
    server.block_on(async {
        let values = [("mail", encoded(SECRETS[0]))].into_iter().collect();
        let owner = Some(SECRETS[2].into());
        let record = Record { created: NOW, expires: EXPIRES, owner, values };
        let [id, new_id] = [(); 2].map(|()| SessionId::generate().unwrap());
        let token = provider.create(&id, record, NOW).await.unwrap();
        let mut changes = Changes::new();
        changes.set("text", encoded(SECRETS[1]));
        changes.owner = Some(Some(SECRETS[3].into()));
        let token = provider.save(&token, &changes, NOW).await.unwrap();
        provider.rename(&token, &new_id, NOW).await.unwrap()
    })
}

fn is_whole(record: &Record) {
    assert_eq!(record.values.get("mail"), Some(&*encoded(SECRETS[0])));
    assert_eq!(record.values.get("text"), Some(&*encoded(SECRETS[1])));
    assert_eq!(record.owner.as_deref(), Some(SECRETS[3]));
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn no_document_has_a_value_or_an_owner() {
    for key in [None, Some(1)] {
        let server = Server::new();
        let provider = provider(&server, key);
        let token = use_it(&server, &*provider);
        is_whole(&server.block_on(provider.load(&token, NOW)).unwrap().unwrap());
        let bytes = document(&server).to_vec().unwrap();
        for secret in [SECRETS[0], SECRETS[1], SECRETS[3]] {
            let there = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert_eq!(there, key.is_none(), "{secret}");
        }
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_wrong_key_is_an_error_and_a_damaged_ciphertext_is_unreadable() {
    let server = Server::new();
    let right = provider(&server, Some(1));
    let token = use_it(&server, &*right);
    let wrong = provider(&server, Some(2));
    let error = server.block_on(wrong.load(&token, NOW)).unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error:?}");
    assert!(error.to_string().contains("not in the key ring"), "{error}");

    let mut document = document(&server);
    let value = document.get_document_mut("values").unwrap().get_mut("mail");
    let Some(Bson::Binary(Binary { bytes, .. })) = value else { panic!("the value is binary") };
    *bytes.last_mut().unwrap() ^= 1;
    let documents = server.documents();
    let replaced = server.block_on(documents.replace_one(doc! {}, &document).into_future());
    assert_eq!(replaced.unwrap().matched_count, 1);
    let error = server.block_on(right.load(&token, NOW)).unwrap_err();
    assert!(matches!(error, Error::Unreadable { .. }), "{error:?}");
}
