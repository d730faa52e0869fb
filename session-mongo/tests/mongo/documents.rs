//! The form of stored documents, and documents that are not sessions.

use std::sync::Arc;

use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document, doc};
use session_core::provider::{
    Changes, Login, NewSecret, Page, Provider, Record, Summary, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use session_mongo::mongodb;

use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);
const CREATED: Timestamp = Timestamp::from_millis(1_799_999_000_123);
const RENEWED: Timestamp = Timestamp::from_millis(1_799_999_500_123);
const USED: Timestamp = Timestamp::from_millis(1_799_999_900_123);
const LATER: Touch = Touch { used: NOW, expires: Timestamp::from_millis(1_800_007_200_123) };

struct Store {
    server: Server,
    provider: Arc<dyn Provider>,
}

impl Store {
    fn new() -> Self {
        let server = Server::new();
        let provider = server.provider("ensure_ttl=false");
        // The first operation creates the indexes.
        server.block_on(provider.count(NOW)).unwrap();
        Self { server, provider }
    }

    fn insert(&self, document: &Document) {
        self.server.block_on(self.server.documents().insert_one(document).into_future()).unwrap();
    }

    fn document(&self, id: SessionId) -> Option<Document> {
        let filter = doc! { "_id": binary(id.key().as_bytes()) };
        self.server.block_on(self.server.documents().find_one(filter).into_future()).unwrap()
    }

    fn create(&self, id: SessionId, record: Record) -> Result<(), Error> {
        self.server.block_on(self.provider.create(&id, record, NOW)).map(|_| ())
    }

    fn load(&self, id: SessionId) -> Result<Option<Record>, Error> {
        self.server.block_on(self.provider.load(&id.into(), NOW))
    }

    fn save(&self, id: SessionId, changes: &Changes) -> Result<(), Error> {
        let (token, holder) = (id.into(), holder(id));
        self.server.block_on(self.provider.save(&token, &holder, changes, NOW)).map(|_| ())
    }

    fn touch(&self, id: SessionId) -> Result<(), Error> {
        self.server.block_on(self.provider.touch(&id.into(), LATER, NOW)).map(|_| ())
    }

    /// Returns all of an owner's sessions, read by pages of this size.
    fn list(&self, owner: &str, limit: usize) -> Vec<Summary> {
        let mut sessions = Vec::new();
        let mut page = Page { after: None, limit };
        loop {
            let listed = self.server.block_on(self.provider.list(owner, page, NOW)).unwrap();
            sessions.extend(listed.sessions);
            page.after = listed.next;
            if page.after.is_none() {
                return sessions;
            }
        }
    }

    fn destroy(&self, id: SessionId) -> Result<(), Error> {
        self.server.block_on(self.provider.destroy(&id.key(), EXPIRES, NOW))
    }
}

fn holder(id: SessionId) -> Verifier {
    Verifier::digest(&id, "")
}

fn binary(bytes: &[u8]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }
}

fn date(time: Timestamp) -> DateTime {
    DateTime::from_millis(i64::try_from(time.as_millis()).unwrap())
}

fn new_id() -> SessionId {
    SessionId::generate().unwrap()
}

/// Returns a document as the provider stores it.
fn good(id: SessionId) -> Document {
    doc! {
        "_id": binary(id.key().as_bytes()), "v": 1, "holder": binary(holder(id).as_bytes()),
        "created": date(CREATED), "renewed": date(RENEWED), "used": date(USED),
        "expires": date(EXPIRES),
        "login": { "owner": "ada", "at": date(RENEWED), "label": "Firefox" },
        "cookie": 4_000_000_000_i64,
        "values": { "a": binary(&[1]), "b%2Ec": binary(&[2]), "%": binary(&[3]) },
    }
}

fn record(id: SessionId) -> Record {
    let login = Login { owner: "ada".into(), at: RENEWED, label: "Firefox".into() };
    Record {
        renewed: RENEWED,
        used: USED,
        login: Some(Box::new(login)),
        cookie: 4_000_000_000,
        values: [("a", [1]), ("b.c", [2]), ("", [3])].into_iter().collect(),
        ..Record::new(holder(id), CREATED, EXPIRES)
    }
}

fn set(key: &str, value: u8) -> Changes {
    let mut changes = Changes::new();
    changes.set(key, [value]);
    changes
}

/// Checks that two documents have the same fields with the same values. Not every server keeps the order
/// of fields.
fn assert_same(found: &Document, wanted: &Document) {
    let mut names: Vec<_> = found.keys().collect();
    let mut wanted_names: Vec<_> = wanted.keys().collect();
    names.sort();
    wanted_names.sort();
    assert_eq!(names, wanted_names);
    for (name, value) in wanted {
        match (value, &found[name]) {
            (Bson::Document(wanted), Bson::Document(found)) => assert_same(found, wanted),
            (wanted, found) => assert_eq!(found, wanted, "{name}"),
        }
    }
}

/// A fixed vector: the form of stored documents must never change.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn documents_have_the_documented_form() {
    let store = Store::new();
    // The digest as documented: over the key's 12 bytes and the secret's 20.
    let fixed = SessionId::from_bytes(std::array::from_fn(|at| at as u8));
    store.create(fixed, record(fixed)).unwrap();
    let found = store.document(fixed).unwrap();
    assert_same(&found, &good(fixed));
    assert_eq!(
        found.get("_id"),
        Some(&Bson::Binary(binary(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])))
    );
    let Some(Bson::Binary(digest)) = found.get("holder") else { panic!("{found:?}") };
    assert_eq!(digest.bytes[..4], [0x63, 0xde, 0x68, 0x3e]);

    let anonymous = new_id();
    store.create(anonymous, Record::new(holder(anonymous), NOW, EXPIRES)).unwrap();
    let wanted = doc! {
        "_id": binary(anonymous.key().as_bytes()), "v": 1,
        "holder": binary(holder(anonymous).as_bytes()), "created": date(NOW),
        "renewed": date(NOW), "used": date(NOW), "expires": date(EXPIRES), "cookie": 0_i64,
        "values": {},
    };
    assert_same(&store.document(anonymous).unwrap(), &wanted);

    let by_hand = new_id();
    store.insert(&good(by_hand));
    assert_eq!(store.load(by_hand).unwrap(), Some(record(by_hand)));
}

/// A login keeps the form. The same save removes another owner's values.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_login_leaves_the_documented_form() {
    let store = Store::new();
    let id = new_id();
    let mut before = good(id);
    before.get_document_mut("login").unwrap().insert("owner", "bob");
    before.get_document_mut("values").unwrap().insert("another", binary(&[4]));
    before.insert("cookie", 5);
    before.insert("renewed", date(CREATED));
    store.insert(&before);
    let new_id = id.with_new_secret().unwrap();
    let mut changes = Changes::new();
    for (key, value) in record(id).values.iter() {
        changes.set(key, value);
    }
    changes.replace = true;
    changes.login = Some(record(id).login);
    changes.cookie = Some(record(id).cookie);
    changes.secret =
        Some(Box::new(NewSecret { token: new_id.into(), holder: holder(new_id), at: RENEWED }));
    // Twice: a retry finds the secret that it sets, and changes nothing.
    for _ in 0..2 {
        store.save(id, &changes).unwrap();
        assert_same(&store.document(id).unwrap(), &good(new_id));
    }
    assert_eq!(store.load(new_id).unwrap(), Some(record(new_id)));
    // With another new secret it is not a retry.
    let another = id.with_new_secret().unwrap();
    changes.secret =
        Some(Box::new(NewSecret { token: another.into(), holder: holder(another), at: NOW }));
    let result = store.save(id, &changes);
    assert!(matches!(result, Err(Error::Gone)), "{result:?}");

    changes = Changes::new();
    changes.login = Some(None);
    store.save(new_id, &changes).unwrap();
    assert_eq!(store.document(id).unwrap().get("login"), None);
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn no_secret_is_in_the_database() {
    let store = Store::new();
    let id = new_id();
    store.create(id, record(id)).unwrap();
    let bytes = store.document(id).unwrap().to_vec().unwrap();
    let (secret, text) = (id.secret().as_bytes(), id.text());
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
    let secret = &text.as_bytes()[16..];
    assert!(!bytes.windows(secret.len()).any(|window| window == secret));
}

/// Other programs' fields in a document stay, whatever is done to the session.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn foreign_fields_are_kept() {
    let store = Store::new();
    let id = new_id();
    let mut document = good(id);
    document.insert("lastSeenBy", doc! { "deep": [{ "er": 1 }] });
    document.get_document_mut("values").unwrap().insert("%zz", "text");
    store.insert(&document);
    assert_eq!(store.load(id).unwrap(), Some(record(id)));
    store.save(id, &set("a", 9)).unwrap();
    store.touch(id).unwrap();
    let new_id = id.with_new_secret().unwrap();
    let secret = NewSecret { token: new_id.into(), holder: holder(new_id), at: NOW };
    let mut changes = Changes::new();
    changes.secret = Some(Box::new(secret));
    store.save(id, &changes).unwrap();
    let found = store.document(id).unwrap();
    assert_eq!(found.get("lastSeenBy"), document.get("lastSeenBy"));
    let values = found.get_document("values").unwrap();
    assert_eq!(values.get_str("%zz").ok(), Some("text"));
    assert_eq!(values.get("a"), Some(&Bson::Binary(binary(&[9]))));
}

/// A change of a stored document.
type Damage = Box<dyn Fn(&mut Document)>;

/// Returns changes after which a document is not a session.
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
        ("no last use", removed("used")),
        ("last use as a number", replaced("used", 1_800_000_000_123_i64)),
        ("no time of the secret", removed("renewed")),
        ("time of the secret as text", replaced("renewed", "2026-11-21T00:00:00Z")),
        ("no holder", removed("holder")),
        ("a holder of 31 bytes", replaced("holder", binary(&[7; 31]))),
        ("a holder that is text", replaced("holder", "x")),
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

/// Returns damaged fields that only loading detects.
fn damaged_fields() -> Vec<(&'static str, Bson)> {
    vec![
        ("cookie", Bson::Null),
        ("cookie", "7".into()),
        ("cookie", (-1).into()),
        ("cookie", 4_294_967_296_i64.into()),
        ("cookie", 0.5.into()),
        ("login", "ada".into()),
        ("login", vec!["ada"].into()),
        ("login", doc! {}.into()),
        ("login", doc! { "owner": "ada", "at": date(NOW) }.into()),
        ("login", doc! { "owner": "ada", "label": "" }.into()),
        ("login", doc! { "at": date(NOW), "label": "" }.into()),
        ("login", doc! { "owner": "ada", "at": 1, "label": "" }.into()),
        ("login", doc! { "owner": 1, "at": date(NOW), "label": "" }.into()),
    ]
}

/// Returns damaged values that only loading detects.
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

/// A document without the documented form is not a session: it can't be loaded, saved or touched, but it
/// can be destroyed.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn damaged_documents_are_no_sessions() {
    let store = Store::new();
    for (what, damage) in damages() {
        let id = new_id();
        let mut document = good(id);
        damage(&mut document);
        store.insert(&document);
        let before = store.document(id);
        let loaded = store.load(id);
        assert!(matches!(loaded, Ok(None) | Err(Error::Unreadable { .. })), "{what}: {loaded:?}");
        for changes in [set("a", 5), set("a", 5).expecting("a", Some(&[1])), Changes::new()] {
            let result = store.save(id, &changes);
            assert!(matches!(result, Err(Error::Gone)), "saved, {what}: {result:?}");
        }
        // A touch doesn't check the holder.
        if !what.contains("holder") {
            let result = store.touch(id);
            assert!(matches!(result, Err(Error::Gone)), "touched, {what}: {result:?}");
        }
        if !what.contains("holder") {
            assert_eq!(store.document(id), before, "{what}: nothing is changed");
        }
        store.destroy(id).unwrap();
        assert_eq!(store.document(id), None, "{what}: destroyed");
    }
}

/// A document in which the database's tools changed the type of numbers is a session.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn numbers_of_any_type_are_numbers() {
    let store = Store::new();
    for (version, cookie) in
        [(Bson::Double(1.0), Bson::Double(4e9)), (Bson::Int64(1), Bson::Int64(4_000_000_000))]
    {
        let id = new_id();
        let mut document = good(id);
        document.insert("v", version);
        document.insert("cookie", cookie);
        store.insert(&document);
        assert_eq!(store.load(id).unwrap(), Some(record(id)));
        store.save(id, &set("a", 5)).unwrap();
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn damaged_fields_make_a_session_unreadable() {
    let store = Store::new();
    for (field, value) in damaged_fields() {
        let id = new_id();
        let mut document = good(id);
        document.insert(field, value.clone());
        store.insert(&document);
        let loaded = store.load(id);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{field} {value}: {loaded:?}");
        store.destroy(id).unwrap();
        assert_eq!(store.document(id), None, "{field} {value}: destroyed");
    }
}

/// MongoDB applies a condition on a list to its elements, so only loading detects these.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn lists_in_the_place_of_a_value_are_unreadable() {
    let store = Store::new();
    let id = new_id();
    for (field, value) in [
        ("created", Bson::DateTime(date(NOW))),
        ("renewed", Bson::DateTime(date(NOW))),
        ("used", Bson::DateTime(date(NOW))),
        ("expires", Bson::DateTime(date(LATER.expires))),
        ("values", Bson::Document(doc! {})),
        ("v", Bson::Int32(1)),
        ("holder", Bson::Binary(binary(holder(id).as_bytes()))),
        ("cookie", Bson::Int32(1)),
    ] {
        store.destroy(id).unwrap();
        let mut document = good(id);
        document.insert(field, vec![value]);
        store.insert(&document);
        let loaded = store.load(id);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{field}: {loaded:?}");
        let result = store.save(id, &set("a", 5));
        assert!(matches!(result, Ok(_) | Err(Error::Gone)), "{field}: {result:?}");
        let loaded = store.load(id);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{field}, saved: {loaded:?}");
    }
}

/// A list has the readable sessions, whatever else an owner's documents hold. Damaged documents don't
/// end a page.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_list_leaves_out_what_is_no_session() {
    let store = Store::new();
    let mut documents = Vec::new();
    let mut damaged = |damage: &dyn Fn(&mut Document)| {
        let mut document = good(new_id());
        damage(&mut document);
        documents.push(document);
    };
    for (what, damage) in damages() {
        // A list doesn't read values.
        if !what.contains("values") {
            damaged(&*damage);
        }
    }
    for (field, value) in damaged_fields() {
        damaged(&|document| _ = document.insert(field, value.clone()));
    }
    for field in ["created", "renewed", "used", "expires", "holder", "v", "cookie", "login"] {
        damaged(&|document| {
            let value = document.get(field).cloned().unwrap();
            document.insert(field, vec![value]);
        });
    }
    damaged(&|document| {
        _ = document.get_document_mut("login").unwrap().insert("owner", vec!["ada"]);
    });
    // Keys of other types and lengths, which sort before, between and after session keys.
    let other = Binary { subtype: BinarySubtype::UserDefined(0x80), bytes: vec![7; 12] };
    let ids: [Bson; 9] = [
        Bson::MinKey,
        Bson::MaxKey,
        1.into(),
        "ada".into(),
        doc! { "_id": binary(&[7; 12]) }.into(),
        binary(&[]).into(),
        binary(&[7; 11]).into(),
        binary(&[7; 13]).into(),
        other.into(),
    ];
    for id in &ids {
        damaged(&|document| _ = document.insert("_id", id.clone()));
    }
    for document in &documents {
        store.insert(document);
    }
    assert!(documents.len() > 40);
    for limit in [1, 7, 100] {
        assert_eq!(store.list("ada", limit), []);
    }

    // The first and the last possible key, and other programs' fields.
    let ends = [[0; 12], [0xff; 12]].map(|key| {
        let id = SessionId::new(SessionKey::from_bytes(key), *new_id().secret());
        store.insert(&good(id));
        id
    });
    let mut ids = ends.to_vec();
    for _ in 0..20 {
        let id = new_id();
        let mut document = good(id);
        document.insert("lastSeenBy", doc! { "deep": [{ "er": 1 }] });
        document.get_document_mut("login").unwrap().insert("note", "theirs");
        store.insert(&document);
        ids.push(id);
    }
    let mut wanted: Vec<Summary> =
        ids.iter().map(|id| record(*id).summary(id.key()).unwrap()).collect();
    wanted.sort_by_key(|summary| summary.key);
    for limit in [1, 7, 100] {
        assert_eq!(store.list("ada", limit), wanted, "pages of {limit}");
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn damaged_values_make_a_session_unreadable() {
    let store = Store::new();
    for (what, value) in damaged_values() {
        let id = new_id();
        let mut document = good(id);
        document.get_document_mut("values").unwrap().insert("b", value);
        store.insert(&document);
        let loaded = store.load(id);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{what}: {loaded:?}");
    }
}

/// Documents as large as the server accepts: what was acknowledged is loaded again.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn documents_of_sixteen_megabytes_are_as_good_as_small_ones() {
    let store = Store::new();
    let huge = vec![7; (16 << 20) - 20_000];
    let id = new_id();
    let mut document = good(id);
    document.get_document_mut("values").unwrap().insert("b", binary(&huge));
    store.insert(&document);
    let values = store.load(id).unwrap().unwrap().values;
    assert_eq!((values.get("b"), values.get("a")), (Some(&huge[..]), Some(&[1][..])));

    let id = new_id();
    let mut document = good(id);
    document.insert("somebodys", binary(&huge));
    store.insert(&document);
    assert_eq!(store.load(id).unwrap(), Some(record(id)));
    store.save(id, &Changes::new().expecting("a", Some(&[1]))).unwrap();
}

/// The limit is on keys and values. Although field names and types take more, what was acknowledged is
/// loaded again.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn what_is_stored_under_the_limit_is_found_again() {
    let store = Store::new();
    let limit = 15 << 20;
    let id = new_id();
    // Keys whose escaped names are three times as long.
    let mut pairs: Vec<(String, Vec<u8>)> =
        (0..200).map(|n| (format!("{}{n:03}", ".".repeat(500)), vec![1; 10])).collect();
    let used: usize = pairs.iter().map(|(key, value)| key.len() + value.len()).sum();
    pairs.push(("rest".into(), vec![2; limit - used - 4]));
    let record = Record { values: pairs.iter().cloned().collect(), ..record(id) };
    assert_eq!(record.values.size(), limit);
    store.create(id, record.clone()).unwrap();
    assert_eq!(store.load(id).unwrap(), Some(record));

    // Saves that exceed the limit together are refused by the server, or loaded again.
    let id = new_id();
    store.insert(&good(id));
    let mut acknowledged = 0;
    for key in ["x", "y", "z"] {
        let mut changes = Changes::new();
        changes.limits.bytes = limit;
        changes.set(key, vec![3; 7 << 20]);
        match store.save(id, &changes) {
            Ok(()) => acknowledged += 1,
            Err(error) => assert!(matches!(error, Error::TooLarge { .. }), "{error:?}"),
        }
    }
    assert!((2..3).contains(&acknowledged), "{acknowledged}");
    let values = store.load(id).unwrap().unwrap().values;
    assert_eq!(values.len(), 3 + acknowledged);
}

/// A record that MongoDB can't hold is refused before anything is sent.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_record_that_is_too_large_is_refused() {
    let store = Store::new();
    let large = vec![7; (15 << 20) + 1];
    let values = [("a", &large[..])].into_iter().collect();
    let id = new_id();
    let result = store.create(id, Record { values, ..record(id) });
    assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");

    store.insert(&good(id));
    let mut changes = Changes::new();
    changes.limits.bytes = 1 << 30;
    changes.set("a", large);
    for replace in [false, true] {
        changes.replace = replace;
        let result = store.save(id, &changes);
        assert!(matches!(result, Err(Error::TooLarge { .. })), "{result:?}");
    }
    assert_eq!(store.load(id).unwrap().unwrap().values.get("a"), Some(&[1][..]));
}
