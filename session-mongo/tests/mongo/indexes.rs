//! The collection's indexes.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::error::ErrorKind;
use mongodb::options::{Hint, IndexOptions};
use mongodb::{IndexModel, bson};
use session_core::clock::{Clock as _, SystemClock};
use session_core::provider::{Changes, Login, Provider, Purged, Record, Verifier};
use session_core::{Error, SessionId, Timestamp};
use session_mongo::mongodb;

use crate::server::Server;

/// An index: its fields, whether it is unique, its `expireAfterSeconds`, and its partial filter.
type Index = (Document, bool, Option<u64>, Option<Document>);

/// Returns the indexes except that on `_id`.
fn indexes(server: &Server) -> Vec<Index> {
    let found = server.block_on(async {
        let mut cursor = server.documents().list_indexes().await.unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            let index = cursor.deserialize_current().unwrap();
            let options = index.options.unwrap_or_default();
            let expires = options.expire_after.map(|time| time.as_secs());
            let unique = options.unique.unwrap_or(false);
            found.push((index.keys, unique, expires, options.partial_filter_expression));
        }
        found
    });
    let mut found: Vec<Index> = found.into_iter().filter(|index| index.0 != by_id()).collect();
    found.sort_by_key(|index| index.0.to_string());
    found
}

fn by_id() -> Document {
    doc! { "_id": 1 }
}

/// Returns a provider whose first operation has created the indexes.
fn open(server: &Server, options: &str) -> std::sync::Arc<dyn Provider> {
    let provider = server.provider(options);
    server.block_on(provider.count(SystemClock.now())).unwrap();
    provider
}

fn wanted(expires: Option<u64>) -> Vec<Index> {
    vec![(doc! { "expires": 1 }, false, expires, None), (by_owner(), false, None, Some(owned()))]
}

fn by_owner() -> Document {
    doc! { "login.owner": 1, "_id": 1 }
}

fn owned() -> Document {
    doc! { "login.owner": { "$exists": true } }
}

fn create(server: &Server, keys: Document, options: IndexOptions) {
    let model = IndexModel::builder().keys(keys).options(options).build();
    server.block_on(server.documents().create_index(model).into_future()).unwrap();
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_changed_setting_changes_the_index() {
    let server = Server::new();
    for (options, expires) in [
        ("ttl_margin=10m", Some(600)),
        ("ttl_margin=10m", Some(600)),
        ("ttl_margin=1h", Some(3600)),
        ("ttl_margin=0s", Some(0)),
        ("ensure_ttl=false", None),
        ("ensure_ttl=false", None),
        ("ttl_margin=2h", Some(7200)),
    ] {
        open(&server, options);
        assert_eq!(indexes(&server), wanted(expires), "{options}");
    }
}

/// Indexes that were created by hand are used, whatever their names.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn indexes_made_by_hand_are_taken() {
    let server = Server::new();
    let ttl = IndexOptions::builder()
        .name("by_hand".to_owned())
        .expire_after(std::time::Duration::from_secs(60))
        .build();
    let partial = IndexOptions::builder().partial_filter_expression(owned());
    create(&server, doc! { "expires": 1 }, ttl);
    create(&server, by_owner(), partial.name("by_hand_too".to_owned()).build());
    for _ in 0..2 {
        open(&server, "ttl_margin=1m");
        assert_eq!(indexes(&server), wanted(Some(60)));
    }
}

/// An index by owner over all documents serves lists as well, whatever its name.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn an_index_of_all_documents_by_owner_is_left() {
    let by_default = "login.owner_1__id_1";
    for name in [by_default, "by_hand"] {
        let server = Server::new();
        create(&server, by_owner(), IndexOptions::builder().name(name.to_owned()).build());
        open(&server, "ttl_margin=1m");
        let found = indexes(&server);
        let whole = (by_owner(), false, None, None);
        assert!(found.contains(&whole), "{found:?}");
        // Beside one of another name, servers may create the provider's index.
        let others = found.iter().filter(|index| **index != whole);
        assert!(others.clone().all(|index| wanted(Some(60)).contains(index)), "{found:?}");
        assert!(name != by_default || others.count() == 1, "{found:?}");
    }
}

/// An index on other fields with the same name doesn't serve lists, and is not removed.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_name_that_is_taken_is_reported() {
    let server = Server::new();
    let name = IndexOptions::builder().name("login.owner_1__id_1".to_owned()).build();
    create(&server, doc! { "note": 1 }, name);
    let error = server.block_on(server.provider("").count(SystemClock.now())).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
    assert!(indexes(&server).iter().any(|index| index.0 == doc! { "note": 1 }));
}

/// The index by owner has sessions from their login to their logout.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn sessions_of_nobody_are_not_in_the_index_of_owners() {
    let server = Server::new();
    let provider = open(&server, "ensure_ttl=false");
    let now = SystemClock.now();
    // A query for all documents by this index returns its entries. Some servers refuse that, because the
    // index is partial.
    let documents = server.documents();
    let has = |wanted: u64| {
        let entries = documents.count_documents(doc! {}).hint(Hint::Keys(by_owner()));
        match server.block_on(entries.into_future()) {
            Ok(entries) => assert_eq!(entries, wanted),
            Err(error) => assert!(matches!(*error.kind, ErrorKind::Command(_)), "{error}"),
        }
    };
    let mut last = None;
    for _ in 0..20 {
        let id = SessionId::generate().unwrap();
        let record = Record::new(Verifier::digest(&id, ""), now, Timestamp::MAX);
        server.block_on(provider.create(&id, record, now)).unwrap();
        last = Some(id);
    }
    has(0);
    let id = last.unwrap();
    let login = Login { owner: "ada".into(), at: now, label: "".into() };
    for (login, wanted) in [(Some(Box::new(login)), 1), (None, 0)] {
        let changes = Changes::new().with_login(login);
        let holder = Verifier::digest(&id, "");
        server.block_on(provider.save(&id.into(), &holder, &changes, now)).unwrap();
        has(wanted);
    }
}

/// With the TTL index, the timer thread leaves removing expired sessions to the server.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn the_timer_thread_collects_only_where_the_server_does_not() {
    let server = Server::new();
    let now = SystemClock.now();
    let id = SessionId::generate().unwrap();
    let expires = now.saturating_add(std::time::Duration::from_secs(3600));
    let record = Record::new(Verifier::digest(&id, ""), now, expires);
    let with_ttl = open(&server, "ttl_margin=10m");
    server.block_on(with_ttl.create(&id, record, now)).unwrap();
    assert_eq!(with_ttl.purge(Timestamp::MAX, 10).unwrap(), Purged::default());
    let without_ttl = open(&server, "ensure_ttl=false");
    let purged = without_ttl.purge(Timestamp::MAX, 10).unwrap();
    assert_eq!(purged, Purged { removed: 1, more: false });
}

/// Each batch leaves the rest of a backlog for the next one.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn collection_comes_in_batches() {
    let server = Server::new();
    let provider = open(&server, "ensure_ttl=false");
    let documents: Vec<Document> = (0..250_i64)
        .map(|n| doc! { "_id": n, "expires": bson::DateTime::from_millis(n) })
        .collect();
    server.block_on(server.documents().insert_many(documents).into_future()).unwrap();
    let now = Timestamp::from_millis(199);
    for (removed, more) in [(100, true), (100, true), (0, false)] {
        assert_eq!(provider.purge(now, 100).unwrap(), Purged { removed, more });
    }
    let left = server.block_on(server.documents().count_documents(doc! {}).into_future());
    assert_eq!(left.unwrap(), 50);
}

/// Checks that every operation on a collection of an older version is refused, and changes nothing.
fn is_refused(server: &Server) {
    let provider = server.provider("");
    let id = SessionId::generate().unwrap();
    let now = SystemClock.now();
    let before = indexes(server);
    let record = Record::new(Verifier::digest(&id, ""), now, Timestamp::MAX);
    let results = server.block_on(async {
        [
            provider.load(&id.into(), now).await.map(|_| ()),
            provider.create(&id, record, now).await.map(|_| ()),
            provider.count(now).await.map(|_| ()),
        ]
    });
    for result in results {
        let Err(Error::Config(message)) = result else { panic!("{result:?}") };
        assert!(message.contains("older version"), "{message}");
        assert!(message.contains("drop the collection"), "{message}");
        assert!(message.contains(&server.collection), "{message}");
    }
    assert_eq!(indexes(server), before);
}

fn old_document() -> Document {
    let key = Binary { subtype: BinarySubtype::Generic, bytes: vec![7; 32] };
    let time = bson::DateTime::now();
    doc! {
        "_id": ObjectId::new(), "key": key, "v": 1, "created": time, "expires": time, "values": {},
    }
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_collection_of_an_older_version_is_refused() {
    let server = Server::new();
    create(&server, doc! { "key": 1 }, IndexOptions::builder().unique(true).build());
    is_refused(&server);

    let server = Server::new();
    server.block_on(server.documents().insert_one(old_document()).into_future()).unwrap();
    is_refused(&server);
    // Dropping the collection solves it.
    server.block_on(server.documents().drop().into_future()).unwrap();
    open(&server, "");
}

/// Documents of other programs are no reason to refuse a collection.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_collection_with_documents_of_others_is_taken() {
    let server = Server::new();
    let documents = [
        doc! { "_id": ObjectId::new(), "note": "ours" },
        doc! { "_id": ObjectId::new(), "key": "text" },
        doc! { "_id": "text", "key": 1 },
    ];
    server.block_on(server.documents().insert_many(documents).into_future()).unwrap();
    open(&server, "");
}
