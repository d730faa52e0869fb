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
//! Opening the provider doesn't connect, so the server may be down at that time. While the server is
//! down, operations fail with [`Error::Unavailable`] within the time limit; they work again as soon as
//! the server does.
//!
//! # Source string
//! The source string is a `mongodb://` or `mongodb+srv://` URI. The database in it (default: `sessions`)
//! and its options are the driver's, whose names are case-insensitive. The provider's own options are:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `collection` | `sessions` | the collection |
//! | `ensure_ttl` | `true` | the server deletes expired sessions, through a TTL index; with `false`, the manager's timer thread does, in batches |
//! | `ttl_margin` | `10m` | how long after its expiry the server deletes a document: if clocks differ by less, no live session is deleted |
//! | `operation_timeout` | `3s` | the time limit of an operation, including the wait for a server and a connection, and all retries |
//!
//! The driver's options that matter most are:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `serverSelectionTimeoutMS` | 3000 | how long to wait for a primary; `operation_timeout` limits it too |
//! | `connectTimeoutMS` | `operation_timeout` | how long one connection may take to be made |
//! | `maxPoolSize` | 10 | connections to each server: as many operations of this process can run at the same time; others wait |
//! | `minPoolSize` | 0 | connections that are kept ready |
//! | `maxIdleTimeMS` | none | after how long an unused connection is closed; set it to less than firewalls on the way allow |
//! | `maxConnecting` | 2 | how many connections are made at the same time |
//! | `wtimeoutMS` | `operation_timeout` | how long the server waits for a majority |
//! | `retryWrites` | `true` | leave it on unless the server refuses it: without it, more writes are in doubt |
//!
//! `w`, `journal` and `readPreference` can't be weakened: writes are acknowledged by a majority and
//! journaled, reads go to the primary. An unknown option is a configuration error that names the option.
//! No error shows a user name or a password.
//!
//! # Documents
//! | field | type | meaning |
//! |---|---|---|
//! | `_id` | Binary, 12 bytes | the session's [key](session_core::SessionKey): it identifies the session, gives no access to it, and never changes |
//! | `v` | Int32 | the version of this layout: 1 |
//! | `holder` | Binary, 32 bytes | the [digest](session_core::provider::Verifier::digest) of the client's key and secret: a leaked database opens no session |
//! | `created` | Date | when the session was created |
//! | `renewed` | Date | when the session got its current secret |
//! | `used` | Date | when the session was last used, to within `touch_every` |
//! | `expires` | Date | when the session expires: it is gone from then on, deleted or not |
//! | `login` | Document | `owner` (String), `at` (Date) and `label` (String); absent while nobody is logged in |
//! | `cookie` | Int64 | a 32-bit [fingerprint](session_core::provider::Record::cookie) of the cookie that the client was sent last |
//! | `values` | Document | the values by key, each one MessagePack value in a Binary |
//!
//! ```js
//! {
//!   _id: BinData(0, "AAECAwQFBgcICQoL"), v: 1,
//!   holder: BinData(0, "Y95oPnKHHLA6iXswQFxDfxabsLLazT2XwPVcrCDRKmA="),
//!   created: ISODate(...), renewed: ISODate(...), used: ISODate(...), expires: ISODate(...),
//!   login: { owner: "ada", at: ISODate(...), label: "Firefox" }, cookie: 4000000000,
//!   values: { "count": BinData(0, ...), "a%2Eb": BinData(0, ...) }
//! }
//! ```
//!
//! Binaries have subtype 0. Neither the provider nor the server parses the values. The field name of a
//! value is its key, in which `.`, `$`, `%` and NUL are written as `%2E`, `%24`, `%25` and `%00`; the
//! empty key is `%`. Other programs' fields, in the document or in `values`, are left as they are,
//! except that a login as another owner replaces all of `values`. A document that doesn't have this form
//! is not a session.
//!
//! A collection with the layout of an earlier version is refused: the first operation fails with an
//! [`Error::Config`] that names the collection. Drop it, or choose another one with `collection`.
//!
//! # Indexes
//! Sessions are found by `_id`, which MongoDB always indexes. The provider creates two more indexes
//! before the first operation:
//!
//! | fields | documents | for |
//! |---|---|---|
//! | `expires` | all | removing expired sessions; it has `expireAfterSeconds` if `ensure_ttl` is on |
//! | `login.owner`, `_id` | those with a `login.owner` | the list of an owner's sessions; sessions without an owner take no space in it |
//!
//! The provider changes a TTL index with another margin, and replaces one that is no longer wanted. All
//! servers that share a collection should have the same options. An existing index by owner is left as
//! it is, whatever its name. There is no option to do without that index: without it, each list would
//! read all sessions.
//!
//! If the database user may not create indexes, a warning is logged. Create the indexes by hand then.
//! Create them by hand before an upgrade as well if there are so many sessions that creating an index
//! takes longer than `operation_timeout`, because requests fail meanwhile:
//! ```js
//! db.sessions.createIndex({ expires: 1 }, { expireAfterSeconds: 600 })
//! db.sessions.createIndex(
//!   { "login.owner": 1, _id: 1 },
//!   { partialFilterExpression: { "login.owner": { $exists: true } } }
//! )
//! ```
//!
//! # Operations
//! Each operation is one command, and each but a list is on one document, so MongoDB makes it atomic. A
//! save names only the changed keys, so its cost doesn't depend on the session's other keys. The
//! command's filter checks that the session is live, that its holder is the one that the request loaded,
//! and that expected values are unchanged. The command's update sets a new secret, a login, values and
//! times. The commands are:
//!
//! | operation | command | round trips |
//! |---|---|---|
//! | create | insert | 1; up to 3 more if the key is taken |
//! | load | find | 1 |
//! | save | update with `$set`, `$unset`, `$max` | 1 |
//! | save with a new secret | the same | 1; 1 more if the session is gone or has another secret, which may be the new one, set by an earlier attempt |
//! | compare-and-save | the same, with the expected values in the filter | as above; up to 2 more to distinguish a conflict from a session that ended |
//! | touch | update with `$max` | 1 |
//! | destroy | delete | 1; 1 more if no document was found |
//! | list | find, sorted by `_id`, of all fields but `values` | 1 a page of up to 100 sessions |
//!
//! The cost of a list grows with the owner's sessions, including those that have expired and are not
//! deleted yet: they make pages short. Like a load, a list reads from the primary with the
//! `readConcernLevel` of the URI, so it has every acknowledged login. A list leaves out documents that
//! are not sessions; loading one reports why. A list does not read values.
//!
//! A save can't check the size of the whole document, so [`Limits`](session_core::Limits) are checked
//! against the record that each request has loaded: concurrent requests may together exceed them by what
//! they add. A create or save with more than 15 MiB of keys and values is refused in any case, and the
//! server refuses documents over MongoDB's 16 MiB. Whatever was acknowledged can be loaded.
//!
//! # When a server fails
//! [`Error::Unavailable`] means that nothing was written, and that nothing will be. [`Error::InDoubt`]
//! means that the write may have been applied: the connection was lost while the command was on its way,
//! the reply didn't come in time, or a majority did not confirm the write. A write in doubt may still be
//! applied after a later one, by a server that was suspended meanwhile.
//!
//! The driver retries a write safely if the server keeps a record of writes, which replica sets and
//! sharded clusters do and a standalone server doesn't. On a standalone server, the provider retries a
//! create, touch or destroy, because they are idempotent. It also retries a save with a new secret (a
//! login): its filter requires the old holder, so it is applied once, however many attempts arrive, and
//! however late. Any other save whose reply is lost is in doubt at once, because sending it again could
//! undo what another request has saved since.
//!
//! An operation takes at most 1.05 times `operation_timeout`: the driver's own limit comes first,
//! because the driver knows whether the command was sent.
//!
//! # Sharding
//! The shard key is `_id`. Every operation on a session names it, so each goes to one shard. It never
//! changes, so a session moves only when the cluster balances. It is random, so sessions spread evenly
//! by range as well as by hash:
//! ```js
//! sh.enableSharding("shop")
//! sh.shardCollection("shop.sessions", { _id: 1 })
//! ```
//! Only counting, listing an owner's sessions and removing expired sessions ask all shards.
//!
//! # Runtime
//! The provider has its own tokio runtime with two threads named `session-mongo`, so it works from any
//! executor, and without one. An operation whose request is dropped is completed there.

mod client;
mod config;
mod document;
mod failure;
mod field;
mod index;
mod provider;
mod statement;
mod write;

use std::sync::Arc;

use once_cell::sync::OnceCell;

#[cfg(doc)]
use session_core::Error;

pub use config::MongoConfig;
/// The driver's crate, for [`MongoConfig::with_driver_options`].
pub use mongodb;
pub use provider::MongoProvider;

/// Registers the provider under the name `"mongo"`. Calling it again does nothing.
///
/// # Panics
/// If another provider is registered under that name: the program would not get the store that it asks
/// for.
pub fn init() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        let open =
            |source: &str| Ok(Arc::new(MongoProvider::new(MongoConfig::parse(source)?)?) as _);
        if let Err(error) = session_core::provider::register("mongo", open) {
            panic!("{error}");
        }
    });
}
