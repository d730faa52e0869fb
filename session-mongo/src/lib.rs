//! Sessions in MongoDB, one store for many servers: the [`session_core`] provider named `"mongo"`.
//!
//! ```
//! session_mongo::init();
//! let manager = session_core::Manager::open(
//!     "mongo",
//!     "mongodb://app:secret@db1,db2,db3/shop?replicaSet=rs0&collection=sessions",
//! )?;
//! # Ok::<(), session_core::Error>(())
//! ```
//!
//! Opening doesn't connect: a server that is down now may be up when the first request comes. What
//! fails because of it is [`Error::Unavailable`](session_core::Error::Unavailable) within the time
//! limit, and works again as soon as the server does.
//!
//! # Source string
//! A `mongodb://` or `mongodb+srv://` URI. Its database (`sessions` if it names none) and options
//! are the driver's, whose names know no upper and lower case; these are the provider's own:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `collection` | `sessions` | the collection |
//! | `ensure_ttl` | `true` | the server deletes what has expired, through a TTL index; with `false`, the manager's timer thread does, in batches |
//! | `ttl_margin` | `10m` | how long after its expiry the server deletes a document: clocks that differ by less take no live session |
//! | `operation_timeout` | `3s` | how long an operation may take, waiting for a server, a connection and repetitions included |
//!
//! Of the driver's options, these matter here:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `serverSelectionTimeoutMS` | 3000 | how long to wait for a primary; `operation_timeout` ends it too |
//! | `connectTimeoutMS` | `operation_timeout` | how long one connection may take to be made |
//! | `maxPoolSize` | 10 | connections to each server; about as many operations as run at once on one process are served without waiting |
//! | `minPoolSize` | 0 | connections that are kept ready |
//! | `maxIdleTimeMS` | none | after which an unused connection is closed; less than what firewalls on the way allow |
//! | `maxConnecting` | 2 | connections that are made at the same time |
//! | `wtimeoutMS` | `operation_timeout` | how long the server waits for a majority |
//! | `retryWrites` | `true` | leave it, unless the server refuses it; sharded clusters need it |
//!
//! `w`, `journal` and `readPreference` can't be weakened: writes are acknowledged by a majority and
//! journaled, reads go to the primary. An unknown option is an error that names it; no error shows
//! a user name or a password.
//!
//! # Documents
//! ```json
//! {
//!   "_id":     ObjectId,
//!   "key":     Binary,   // SHA-256 of the session's id: a leaked database opens no session
//!   "v":       1,        // version of this layout
//!   "created": Date,
//!   "expires": Date,     // the record is gone from here on, deleted or not
//!   "owner":   "ada",    // the account; not there for nobody's
//!   "values":  { "count": Binary, "a%2Eb": Binary }
//! }
//! ```
//! Each value is one MessagePack value in a Binary of subtype 0, which nothing here or at the server
//! looks into. Its field name is its key, in which `.`, `$`, `%` and NUL are written as `%2E`,
//! `%24`, `%25` and `%00`; the empty key is `%`. Other fields, in the document or in `values`, are
//! left as they are. A document that is not of this form is no session.
//!
//! Indexes: a unique one on `key`, and one on `expires`, with `expireAfterSeconds` if the server is
//! to delete. They are made before the first operation; a TTL index of another margin is changed,
//! and one that is not wanted any more is replaced. All servers of one collection should have the
//! same options. A database user that may not create indexes gets a warning in the log; create them
//! by hand then:
//! ```js
//! db.sessions.createIndex({ key: 1 }, { unique: true })
//! db.sessions.createIndex({ expires: 1 }, { expireAfterSeconds: 600 })
//! ```
//!
//! # Operations
//! Each is one command on one document, so MongoDB makes it atomic. A save names the changed keys
//! alone; it costs the same beside a thousand other keys. What it sends:
//!
//! | operation | command | round trips |
//! |---|---|---|
//! | create | insert | 1; up to 3 more where the id is taken |
//! | load | find | 1 |
//! | save | update with `$set`, `$unset`, `$max` | 1 |
//! | compare-and-save | the same, with the expected value in the filter | 1; 1 more to tell a conflict from a session that ended |
//! | rename | update of `key` | 1 |
//! | touch | update with `$max` | 1 |
//! | destroy | delete | 1; 1 more where nothing was there |
//!
//! A save can't tell what it makes of the whole document, so
//! [`Limits`](session_core::Limits) hold for what each request sees: requests at the same time may
//! together exceed them by what they add. A session of more than 15 MiB is refused in any case.
//!
//! # When a server fails
//! The driver repeats a write, without doubt, where the server keeps book of them: replica sets and
//! sharded clusters do. A standalone server doesn't. There, a create, rename, touch or destroy is
//! repeated all the same, as that does no harm; a save whose answer is lost is
//! [`Error::InDoubt`](session_core::Error::InDoubt), as is everything else that has not become clear
//! when time is up. [`Error::Unavailable`](session_core::Error::Unavailable) means that nothing was
//! written, and nothing will be; a write in doubt may still arrive after a later one, from a server
//! that stood still meanwhile.
//!
//! An operation takes 1.05 times `operation_timeout` at most: the driver's own limit comes first, as
//! it knows better whether anything was sent.
//!
//! # Sharding
//! The shard key is `key`: every request names it, so every request goes to one shard. It is random,
//! so sessions spread evenly by range; a hashed shard key would rule out the unique index.
//! ```js
//! sh.enableSharding("shop")
//! db.sessions.createIndex({ key: 1 }, { unique: true })
//! sh.shardCollection("shop.sessions", { key: 1 }, true)
//! ```
//! A rename changes the shard key's value: MongoDB 4.2 and newer do that with `retryWrites`, by a
//! transaction if the document has to move. Only counting and the collection of expired sessions
//! ask all shards.
//!
//! # Runtime
//! The provider has a tokio runtime of its own, with two threads named `session-mongo`, so that it
//! works from any executor, and from none; an operation whose request is dropped is completed there.

mod client;
mod config;
mod document;
mod failure;
mod field;
mod index;
mod progress;
mod provider;
mod statement;
mod write;

use std::sync::Arc;

use once_cell::sync::OnceCell;

pub use config::MongoConfig;
/// The driver, for [`MongoConfig::with_driver_options`].
pub use mongodb;
pub use provider::MongoProvider;

/// Registers the provider under the name `"mongo"`. Calling it again does nothing.
///
/// # Panics
/// If something else was registered under that name before: the program would not get the store
/// it asks for.
pub fn init() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        let open =
            |source: &str| Ok(Arc::new(MongoProvider::new(MongoConfig::parse(source)?)?) as _);
        if let Err(error) = session_core::register("mongo", open) {
            panic!("{error}");
        }
    });
}
