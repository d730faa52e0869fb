//! Documents as they are stored, and documents that are none of ours.

use std::sync::Arc;

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use session_core::{Changes, Error, Provider, Record, SessionId, Timestamp, Token};
use session_mongo::mongodb;

use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);
const LATER: Timestamp = Timestamp::from_millis(1_800_007_200_123);

struct Store {
    server: Server,
    provider: Arc<dyn Provider>,
}

impl Store {
    fn new() -> Self {
        let server = Server::new();
        let provider = server.provider("ensure_ttl=false");
        // Makes the indexes.
        server.block_on(provider.count(NOW)).unwrap();
        Self { server, provider }
    }

    fn insert(&self, document: &Document) {
        self.server.block_on(self.server.documents().insert_one(document).into_future()).unwrap();
    }

    fn document(&self, token: &Token) -> Option<Document> {
        let filter = doc! { "key": binary(&token.id().digest()) };
        self.server.block_on(self.server.documents().find_one(filter).into_future()).unwrap()
    }

    fn load(&self, token: &Token) -> Result<Option<Record>, Error> {
        self.server.block_on(self.provider.load(token, NOW))
    }

    fn save(&self, token: &Token, changes: &Changes) -> Result<Token, Error> {
        self.server.block_on(self.provider.save(token, changes, NOW))
    }
}

fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(i64::try_from(time.as_millis()).unwrap())
}

fn new_token() -> Token {
    SessionId::generate().unwrap().into()
}

/// A document as the provider stores one.
fn good(token: &Token) -> Document {
    doc! {
        "_id": ObjectId::new(), "key": binary(&token.id().digest()), "v": 1,
        "created": date(NOW), "expires": date(EXPIRES), "owner": "ada",
        "values": { "a": binary(&[1]), "b%2Ec": binary(&[2]), "%": binary(&[3]) },
    }
}

fn record() -> Record {
    let values = [("a", [1]), ("b.c", [2]), ("", [3])].into_iter().collect();
    Record { created: NOW, expires: EXPIRES, owner: Some("ada".into()), values }
}

fn set(key: &str, value: u8) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, [value]);
    changes
}

/// A fixed vector: stored documents must never change their form.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn documents_have_the_documented_form() {
    let store = Store::new();
    let token = new_token();
    store.server.block_on(store.provider.create(token.id(), record(), NOW)).unwrap();
    let mut found = store.document(&token).unwrap();
    let mut wanted = good(&token);
    assert!(matches!(found.remove("_id"), Some(Bson::ObjectId(_))));
    wanted.remove("_id");
    // Not every server keeps the order of fields within a document.
    let found: std::collections::BTreeMap<_, _> = found.into_iter().collect();
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["created", "expires", "key", "owner", "v", "values"]
    );
    for (name, value) in &wanted {
        match (value, &found[name]) {
            (Bson::Document(wanted), Bson::Document(found)) => {
                assert_eq!(found.len(), wanted.len());
                assert!(wanted.iter().all(|(name, value)| found.get(name) == Some(value)));
            }
            (wanted, found) => assert_eq!(found, wanted, "{name}"),
        }
    }

    let by_hand = new_token();
    store.insert(&good(&by_hand));
    assert_eq!(store.load(&by_hand).unwrap(), Some(record()));
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn no_id_is_in_the_database() {
    let store = Store::new();
    let token = new_token();
    store.server.block_on(store.provider.create(token.id(), record(), NOW)).unwrap();
    let bytes = store.document(&token).unwrap().to_vec().unwrap();
    let text = token.id().text();
    assert!(!bytes.windows(32).any(|window| window == token.id().as_bytes()));
    assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()));
}

/// What others keep in a document stays there, whatever is done to the session.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn foreign_fields_are_kept() {
    let store = Store::new();
    let token = new_token();
    let mut document = good(&token);
    document.insert("lastSeenBy", doc! { "deep": [{ "er": 1 }] });
    document.get_document_mut("values").unwrap().insert("%zz", "text");
    store.insert(&document);
    assert_eq!(store.load(&token).unwrap(), Some(record()));
    store.save(&token, &set("a", 9)).unwrap();
    store.server.block_on(store.provider.touch(&token, LATER, NOW)).unwrap();
    let new_id = SessionId::generate().unwrap();
    let token = store.server.block_on(store.provider.rename(&token, &new_id, NOW)).unwrap();
    let found = store.document(&token).unwrap();
    assert_eq!(found.get("lastSeenBy"), document.get("lastSeenBy"));
    assert_eq!(found.get("_id"), document.get("_id"), "renamed in place");
    let values = found.get_document("values").unwrap();
    assert_eq!(values.get_str("%zz").ok(), Some("text"));
    assert_eq!(values.get("a"), Some(&Bson::Binary(binary(&[9]))));
}

/// A change of a stored document.
type Damage = Box<dyn Fn(&mut Document)>;

/// Changes that make a document none of ours.
fn damages() -> Vec<(&'static str, Damage)> {
    fn replaced(field: &'static str, value: impl Into<Bson>) -> Damage {
        let value = value.into();
        Box::new(move |document| _ = document.insert(field, value.clone()))
    }
    fn removed(field: &'static str) -> Damage {
        Box::new(move |document| _ = document.remove(field))
    }
    vec![
        ("no version", removed("v")),
        ("an unknown version", replaced("v", 2)),
        ("a version that is text", replaced("v", "1")),
        ("no creation", removed("created")),
        ("creation as text", replaced("created", "2026-11-21T00:00:00Z")),
        ("creation as a number", replaced("created", 1_800_000_000_123_i64)),
        ("no expiry", removed("expires")),
        ("expiry as text", replaced("expires", "2999-01-01T00:00:00Z")),
        ("expiry as a number", replaced("expires", i64::MAX)),
        ("expiry as null", replaced("expires", Bson::Null)),
        ("the earliest expiry", replaced("expires", DateTime::from_millis(i64::MIN))),
        ("an expiry before 1970", replaced("expires", DateTime::from_millis(-1))),
        ("an expiry that is past", replaced("expires", date(NOW))),
        ("no values", removed("values")),
        ("values as text", replaced("values", "a")),
        ("values as a list", replaced("values", vec![Bson::Binary(binary(&[1]))])),
        ("values as null", replaced("values", Bson::Null)),
    ]
}

/// Damages that only reading can notice.
fn damaged_values() -> Vec<(&'static str, Bson)> {
    let mut deep = doc! { "end": binary(&[1]) };
    for _ in 0..100 {
        deep = doc! { "d": deep };
    }
    let old = Binary { subtype: BinarySubtype::UserDefined(0x80), bytes: vec![1] };
    vec![
        ("text", "x".into()),
        ("a number", 1.into()),
        ("null", Bson::Null),
        ("another kind of binary", Bson::Binary(old)),
        ("a deep document", Bson::Document(deep)),
        ("code", Bson::JavaScriptCode("while (true) {}".into())),
    ]
}

/// A document that is not of our form is no session: it can't be read, saved, touched or renamed,
/// and it can be destroyed.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn damaged_documents_are_no_sessions() {
    let store = Store::new();
    for (what, damage) in damages() {
        let token = new_token();
        let mut document = good(&token);
        damage(&mut document);
        store.insert(&document);
        let before = store.document(&token);
        let loaded = store.load(&token);
        assert!(matches!(loaded, Ok(None) | Err(Error::Unreadable { .. })), "{what}: {loaded:?}");
        for changes in [set("a", 5), set("a", 5).expecting("a", Some(&[1])), Changes::new()] {
            let result = store.save(&token, &changes);
            assert!(matches!(result, Err(Error::Gone)), "saved, {what}: {result:?}");
        }
        let result = store.server.block_on(store.provider.touch(&token, LATER, NOW));
        assert!(matches!(result, Err(Error::Gone)), "touched, {what}: {result:?}");
        let new_id = SessionId::generate().unwrap();
        let result = store.server.block_on(store.provider.rename(&token, &new_id, NOW));
        assert!(matches!(result, Err(Error::Gone)), "renamed, {what}: {result:?}");
        assert_eq!(store.document(&token), before, "{what}: nothing is changed");
        store.server.block_on(store.provider.destroy(&token, NOW)).unwrap();
        assert_eq!(store.document(&token), None, "{what}: destroyed");
    }
}

/// A condition on a list is one on its elements, so that only reading notices these.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn lists_in_the_place_of_a_value_are_unreadable() {
    let store = Store::new();
    for (field, value) in [
        ("created", Bson::DateTime(date(NOW))),
        ("expires", Bson::DateTime(date(LATER))),
        ("values", Bson::Document(doc! {})),
        ("v", Bson::Int32(1)),
    ] {
        let token = new_token();
        let mut document = good(&token);
        document.insert(field, vec![value]);
        store.insert(&document);
        let loaded = store.load(&token);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{field}: {loaded:?}");
        let result = store.save(&token, &set("a", 5));
        assert!(matches!(result, Ok(_) | Err(Error::Gone)), "{field}: {result:?}");
        let loaded = store.load(&token);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{field}, saved: {loaded:?}");
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn damaged_values_make_a_session_unreadable() {
    let store = Store::new();
    for (what, value) in damaged_values() {
        let token = new_token();
        let mut document = good(&token);
        document.get_document_mut("values").unwrap().insert("b", value);
        store.insert(&document);
        let loaded = store.load(&token);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{what}: {loaded:?}");
    }
}

/// As large as the server takes: neither read nor a reason to fall over.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn documents_of_sixteen_megabytes_are_unreadable_or_as_good_as_small() {
    let store = Store::new();
    let huge = binary(&vec![7; (16 << 20) - 20_000]);
    let token = new_token();
    let mut document = good(&token);
    document.get_document_mut("values").unwrap().insert("b", huge.clone());
    store.insert(&document);
    let loaded = store.load(&token);
    assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{loaded:?}");

    let token = new_token();
    let mut document = good(&token);
    document.insert("somebodys", huge);
    store.insert(&document);
    assert_eq!(store.load(&token).unwrap(), Some(record()));
    let result = store.save(&token, &Changes::new().expecting("a", Some(&[1])));
    assert!(result.is_ok(), "{result:?}");
}

/// A record that MongoDB can't hold is refused before anything is sent.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_record_that_is_too_large_is_refused() {
    let store = Store::new();
    let large = vec![7; (15 << 20) + 1];
    let values = [("a", &large[..])].into_iter().collect();
    let token = new_token();
    let record = Record { values, ..record() };
    let result = store.server.block_on(store.provider.create(token.id(), record, NOW));
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");

    store.insert(&good(&token));
    let mut changes = Changes::new();
    changes.limits.bytes = 1 << 30;
    changes.set("a", large);
    let result = store.save(&token, &changes);
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    assert_eq!(store.load(&token).unwrap().unwrap().values.get("a"), Some(&[1][..]));
}
