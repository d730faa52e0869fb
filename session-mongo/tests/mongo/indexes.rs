//! The collection's indexes, and what depends on them.

use mongodb::bson::oid::ObjectId;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Document, doc};
use mongodb::options::IndexOptions;
use mongodb::{IndexModel, bson};
use session_core::provider::{Provider, Purged, Record, Verifier};
use session_core::{Clock as _, Error, SessionId, SystemClock, Timestamp};
use session_mongo::mongodb;

use crate::server::Server;

/// The indexes by their keys: whether unique, and after how many seconds documents expire.
fn indexes(server: &Server) -> Vec<(Document, bool, Option<u64>)> {
    let found = server.block_on(async {
        let mut cursor = server.documents().list_indexes().await.unwrap();
        let mut found = Vec::new();
        while cursor.advance().await.unwrap() {
            let index = cursor.deserialize_current().unwrap();
            let options = index.options.unwrap_or_default();
            let expires = options.expire_after.map(|time| time.as_secs());
            found.push((index.keys, options.unique.unwrap_or(false), expires));
        }
        found
    });
    found.into_iter().filter(|(keys, ..)| !keys.contains_key("_id")).collect()
}

/// The first operation makes the indexes.
fn open(server: &Server, options: &str) -> std::sync::Arc<dyn Provider> {
    let provider = server.provider(options);
    server.block_on(provider.count(SystemClock.now())).unwrap();
    provider
}

fn wanted(expires: Option<u64>) -> Vec<(Document, bool, Option<u64>)> {
    vec![(doc! { "expires": 1 }, false, expires)]
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

/// Whoever made them by hand, under whatever name, made the same ones.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn indexes_made_by_hand_are_taken() {
    let server = Server::new();
    let ttl = IndexOptions::builder()
        .name("by_hand".to_owned())
        .expire_after(std::time::Duration::from_secs(60))
        .build();
    let model = IndexModel::builder().keys(doc! { "expires": 1 }).options(ttl).build();
    server.block_on(server.documents().create_index(model).into_future()).unwrap();
    open(&server, "ttl_margin=1m");
    assert_eq!(indexes(&server), wanted(Some(60)));
}

/// With the TTL index, the timer thread leaves collection to the server.
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

/// Batches hold the rest of a backlog for the next time.
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

/// What every operation on a collection of an older version says, and nothing is changed in it.
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
        assert!(message.contains("drop it"), "{message}");
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
    let unique = IndexOptions::builder().unique(true).build();
    let model = IndexModel::builder().keys(doc! { "key": 1 }).options(unique).build();
    server.block_on(server.documents().create_index(model).into_future()).unwrap();
    is_refused(&server);

    let server = Server::new();
    server.block_on(server.documents().insert_one(old_document()).into_future()).unwrap();
    is_refused(&server);
    // The way out.
    server.block_on(server.documents().drop().into_future()).unwrap();
    open(&server, "");
}

/// Something else's documents are no reason to refuse.
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
