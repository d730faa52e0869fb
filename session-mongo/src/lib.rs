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
//! fails because of it is [`Error::Unavailable`] within the time limit, and works again as soon as the
//! server does.
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
//! | `retryWrites` | `true` | leave it, unless the server refuses it: without it, more writes are left in doubt |
//!
//! `w`, `journal` and `readPreference` can't be weakened: writes are acknowledged by a majority and
//! journaled, reads go to the primary. An unknown option is an error that names it; no error shows
//! a user name or a password.
//!
//! # Documents
//! | field | type | meaning |
//! |---|---|---|
//! | `_id` | Binary, 12 bytes | the session's [key](session_core::SessionKey): names the session, opens nothing, never changes |
//! | `v` | Int32 | the version of this layout: 1 |
//! | `holder` | Binary, 32 bytes | the [digest](session_core::provider::Verifier::digest) of the client's key and secret: a leaked database opens no session |
//! | `created` | Date | when the session was created |
//! | `renewed` | Date | when it got its current secret |
//! | `used` | Date | when it was last used, give or take `touch_every` |
//! | `expires` | Date | the session is gone from here on, deleted or not |
//! | `login` | Document | `owner` (String), `at` (Date) and `label` (String); not there while nobody is logged in |
//! | `cookie` | Int64 | a [fingerprint](session_core::provider::Record::cookie) of what the client was told last, 32 bits |
//! | `values` | Document | each key's value: one MessagePack value in a Binary |
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
//! Binaries are of subtype 0; nothing here or at the server looks into a value's. A value's field name is
//! its key, in which `.`, `$`, `%` and NUL are written as `%2E`, `%24`, `%25` and `%00`; the empty key is
//! `%`. Other fields, in the document or in `values`, are left as they are, except that a login as another
//! owner replaces all of `values`. A document that is not of this form is no session.
//!
//! A collection that was made by a version before this layout is refused with [`Error::Config`] by the
//! first operation, which names the collection: drop it, or choose another by `collection`.
//!
//! # Indexes
//! Sessions are found by `_id`, which needs no index of its own. Two more are made before the first
//! operation:
//!
//! | fields | documents | for |
//! |---|---|---|
//! | `expires` | all | collection; it has `expireAfterSeconds` if the server is to delete |
//! | `login.owner`, `_id` | those with a `login.owner` | the list of an owner's sessions; sessions of nobody cost nothing |
//!
//! A TTL index of another margin is changed, and one that is not wanted any more is replaced. All servers
//! of one collection should have the same options. An index by owner that is there already, under whatever
//! name, is left as it is. No option does without it: without such an index, each list reads all sessions.
//!
//! A database user that may not create indexes gets a warning in the log. Create them by hand then; and
//! before an upgrade, where there are so many sessions that it takes longer than `operation_timeout`, as
//! requests fail meanwhile:
//! ```js
//! db.sessions.createIndex({ expires: 1 }, { expireAfterSeconds: 600 })
//! db.sessions.createIndex(
//!   { "login.owner": 1, _id: 1 },
//!   { partialFilterExpression: { "login.owner": { $exists: true } } }
//! )
//! ```
//!
//! # Operations
//! Each is one command, and each but a list is on one document, so MongoDB makes it atomic. A save names the changed keys
//! alone; it costs the same beside a thousand other keys. Whether the session is live, whether its holder
//! is the one that the request loaded, and whether values are the expected ones is in the filter of the
//! same command; a new secret, a login, values and times are in its update. What it sends:
//!
//! | operation | command | round trips |
//! |---|---|---|
//! | create | insert | 1; up to 3 more where the key is taken |
//! | load | find | 1 |
//! | save | update with `$set`, `$unset`, `$max` | 1 |
//! | save with a new secret | the same | 1; 1 more where the session is gone or has another secret: it may be the new one, by an earlier attempt |
//! | compare-and-save | the same, with the expected values in the filter | as above; up to 2 more to tell a conflict from a session that ended |
//! | touch | update with `$max` | 1 |
//! | destroy | delete | 1; 1 more where nothing was there |
//! | list | find, sorted by `_id`, of all fields but `values` | 1 a page of up to 100 sessions |
//!
//! A list costs by the owner's sessions, with those that have expired and are not deleted yet: they make
//! pages short. Like a load, it reads from the primary, by the `readConcernLevel` of the URI, so that it
//! has every login that was acknowledged. A document that is no session is left out, and stops no list;
//! loading it tells why. Values are not looked at.
//!
//! A save can't tell what it makes of the whole document, so
//! [`Limits`](session_core::Limits) hold for what each request sees: requests at the same time may
//! together exceed them by what they add. More than 15 MiB of keys and values in one create or save is
//! refused in any case; what makes a document larger than MongoDB's 16 MiB, the server refuses. Whatever
//! was acknowledged can be loaded.
//!
//! # When a server fails
//! [`Error::Unavailable`] means that nothing was written, and nothing will be. Whatever may have been
//! written is [`Error::InDoubt`]: a connection that was lost while the command was on its way, a reply that
//! didn't come in time, a write that a majority did not confirm. A write in doubt may still arrive after a
//! later one, from a server that stood still meanwhile.
//!
//! The driver repeats a write, without doubt, where the server keeps a record of writes: replica sets and
//! sharded clusters do. A standalone server doesn't. There, a create, touch or destroy is repeated all the
//! same, as that does no harm, and so is a save with a new secret (a login): it changes a document whose
//! holder is the old one, so that it is applied once, however many attempts arrive, and however late. Any
//! other save whose reply is lost is in doubt at once; sending it again could undo what another request has
//! saved since.
//!
//! An operation takes 1.05 times `operation_timeout` at most: the driver's own limit comes first, as
//! it knows better whether anything was sent.
//!
//! # Sharding
//! The shard key is `_id`: every request names it, so every request goes to one shard, and it never
//! changes, so no session moves but by balancing. It is random, so that sessions spread evenly by range,
//! and by hash:
//! ```js
//! sh.enableSharding("shop")
//! sh.shardCollection("shop.sessions", { _id: 1 })
//! ```
//! Only counting, listing an owner's sessions and the collection of expired ones ask all shards.
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
mod provider;
mod statement;
mod write;

use std::sync::Arc;

use once_cell::sync::OnceCell;

#[cfg(doc)]
use session_core::Error;

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
        if let Err(error) = session_core::provider::register("mongo", open) {
            panic!("{error}");
        }
    });
}
