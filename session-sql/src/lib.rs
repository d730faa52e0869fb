//! Sessions in PostgreSQL or SQLite: the [`session_core`] providers named `"postgres"` and `"sqlite"`.
//!
//! Each provider is a feature of this crate, `postgres` and `sqlite`, because each brings its driver. Neither is on by
//! default.
//!
//! ```
//! session_sql::init();
//! # #[cfg(feature = "postgres")]
//! let manager = session_core::Manager::open("postgres", "postgres://app:secret@db/shop")?;
//! # Ok::<(), session_core::Error>(())
//! ```
//! ```no_run
//! session_sql::init();
//! let manager = session_core::Manager::open("sqlite", "path=/var/lib/app/sessions.db")?;
//! # Ok::<(), session_core::Error>(())
//! ```
//!
//! # PostgreSQL
//! PostgreSQL is a database server, and one store for many application servers. The provider works with version 12 or
//! newer and needs no extensions.
//!
//! Opening the provider doesn't connect, so the server may be down at that time. While the server is down, operations
//! fail with [`Error::Unavailable`] within the time limit; they work again as soon as the server does.
//!
//! The source string is a `postgres://` URI. It may name several hosts, `postgres://app@one,two:5433/shop`; the
//! provider then uses the one that is not a standby. These options are the provider's own:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `table` | `sessions` | the table; `app.sessions` names its schema, too, which is otherwise found by the user's `search_path` |
//! | `max_connections` | 10 | how many connections one process has at most: as many operations can run at the same time, others wait; 1 to 10,000 |
//! | `operation_timeout` | `3s` | the time limit of an operation, including the wait for a connection and all retries; 1 ms to 1 hour. The provider also sets it as the server's `statement_timeout`, unless one is set already |
//! | `pooler` | `false` | whether the URI leads to a pooler that gives each transaction another of the server's connections, as PgBouncer does in transaction mode. It must be set then: otherwise prepared statements and settings of different clients get mixed up |
//!
//! These options are the driver's:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `sslmode` | `prefer` | `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full` |
//! | `sslrootcert`, `sslcert`, `sslkey` | none | files with the certificate of the authority, the client's certificate, and its key |
//! | `host` | none | the folder of the server's socket, for a URI without a host |
//! | `application_name` | `session-sql` | what the server's lists of connections show |
//! | `set` | none | a setting of the server for these connections, such as `set=synchronous_commit:off`; may be given several times; not through a pooler |
//!
//! What the URI leaves out is taken from the environment variables `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`,
//! `PGDATABASE`, `PGSSLMODE` and the like, and from the file `.pgpass`. An unknown option is an error that names it. No
//! error shows a user name or a password.
//!
//! [`PostgresProvider::with_pool`](postgres::PostgresProvider::with_pool) makes a provider on a pool that the
//! application already has.
//!
//! ## Rows
//! | column | type | meaning |
//! |---|---|---|
//! | `key` | `bytea` | the session's [key](session_core::SessionKey), 12 bytes: names the session, opens nothing, never changes |
//! | `holder` | `bytea` | the [digest](session_core::provider::Verifier::digest) of the client's key and secret, 32 bytes: a leaked database opens no session |
//! | `created`, `renewed`, `used`, `expires` | `bigint` | when the session was created, got its secret, was last used, and expires: milliseconds since 1970 |
//! | `due` | `bigint` | a time not after `expires`, from which on a collection looks at the row |
//! | `owner`, `authenticated`, `label` | `bytea`, `bigint`, `bytea` | who is logged in, since when, and what a list calls the session; the texts are UTF-8; null while nobody is |
//! | `cookie` | `bigint` | a [fingerprint](session_core::provider::Record::cookie) of what the client was told last, 32 bits |
//! | `size` | `integer` | the bytes of all names and values together |
//! | `names`, `data` | `bytea[]` | the names of the values, in UTF-8 and in no order, and at the same indexes the values, each as MessagePack |
//!
//! Texts are `bytea` because PostgreSQL's `text` can't contain a NUL. `convert_from(owner, 'UTF8')` shows one. A row
//! that is not of this form is [`Error::Unreadable`] to a load, and [`Error::Gone`] to a save or a touch. Only a load
//! notices names, owners and labels that are not UTF-8, a name that is there twice, and a wrong `size`.
//!
//! The first operation creates the table, its indexes and the table `sessions_version`, which has the version of
//! this layout. If both tables are dropped, the next operation creates them again. If the database user may not create
//! tables, operations fail with [`Error::Config`]; [`postgres::schema`] returns the statements for a user who may:
//! ```sh
//! cargo run -p session-sql --features postgres --example schema -- postgres sessions | psql shop
//! ```
//!
//! ## Operations
//! Each operation on a session is one statement on one row, which it finds by its key, and takes one round trip. A
//! save sends only the changed values and gets back only its result, so its cost on the network doesn't depend on the
//! other values. The same statement checks whether the session is live, whether its holder is the one that the request
//! loaded, whether values are the expected ones and whether the result keeps the limits; if a check fails, it returns
//! which. These cases take more:
//! - A save with a new secret that an earlier attempt has already stored takes one statement more.
//! - A save that is refused because of a concurrent one, which its statement can't see, is sent again.
//! - A new connection is asked whether its server is a standby. The first use of a statement on a connection
//!   prepares it. A connection that was not used for a second is pinged first.
//! - With `pooler=true`, each statement is a transaction and takes four round trips. Otherwise a pooler could prepare a
//!   statement on one of the server's connections and execute it on another.
//!
//! The indexes are on `key`, on `owner` and `key` where there is an owner, and on `due`, which moves once in an
//! eighth of a session's life. So most saves and touches change no index, and the row stays in its page, of which a
//! fifth is kept free for that.
//!
//! More than 64 MiB of keys and values are refused, whatever [`Limits`](session_core::Limits) allow.
//!
//! ## When a server fails
//! [`Error::Unavailable`] means that nothing was written. [`Error::InDoubt`] means that the write may have been
//! applied: the connection was lost while a statement was on its way, or the answer didn't come in time. A create, a
//! touch, a destroy and a save with a new secret (such as a login) are then sent again, because repeating them is
//! harmless. A statement that certainly had no effect is sent again, too, if the reason passes: a deadlock, a
//! serialization failure, a server that has become a standby, or a transaction through a pooler that was not committed.
//!
//! A write is acknowledged when the server has committed it, which includes the wait for a synchronous standby, if
//! there is one. With `synchronous_commit=off`, at the server or by `set`, a crash of the server loses the last
//! writes.
//!
//! # SQLite
//! SQLite is a library that keeps a database in one file, without a server. The provider keeps sessions in a file of
//! its own, or in a table of the application's file, for any number of processes on one machine. The source string has
//! `name=value` pairs joined by `&`, percent-encoded:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `path` | required | the file, as an absolute path. If it is missing, it is created and readable by its user only. Its directory must exist, and not be writable by everybody |
//! | `table` | `sessions` | the table, without a schema |
//! | `sync` | `full` | `full`: what is acknowledged survives a power cut; `none`: it survives the end of the process, and a power cut may lose the last changes |
//! | `operation_timeout` | `3s` | the time limit of an operation, including the wait for other processes; 1 ms to 1 hour |
//!
//! The columns are those of PostgreSQL but for `size`, `names` and `data`: the values are one `BLOB` named `data`, a
//! MessagePack map from the names to the values, each in a binary. Other types are SQLite's `BLOB` and `INTEGER`.
//!
//! - SQLite keeps a write-ahead log beside the file (`-wal`, `-shm`): readers don't wait for writers, and one
//!   transaction writes at a time. Back up with SQLite's own tools, or all three files; remove none of them while a
//!   program uses the database.
//! - The file must not be on a network file system, because SQLite's locks don't work there.
//! - Opening the provider fails with [`Error::Config`] if the file is no database or can't be written.
//! - Operations fail with [`Error::Unavailable`] if the file is damaged later, locked for too long or removed, or if
//!   its table is missing. If another file has taken its place, that one is used. [`Error::Full`] means that the disk
//!   is full. If the operating system reports an error for a commit, so that its outcome is unknown, that is
//!   [`Error::InDoubt`].
//! - SQLite runs on threads of its own, and blocks no runtime.
//!
//! # Runtime
//! Each provider has its own tokio runtime with two threads, so that it works with any executor, and without one. An
//! operation whose request is dropped is completed there. With a pool of the application, operations run on the
//! application's runtime.

#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod failure;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod pool;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod row;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod schema;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod statement;
mod table;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod time;
#[cfg(any(feature = "postgres", feature = "sqlite"))]
mod worker;

#[cfg(doc)]
use session_core::Error;

/// The driver, for applications that pass their own pool.
pub use sqlx;
pub use table::TableName;

/// Registers the providers that are compiled in, under the names `"postgres"` and `"sqlite"`. Calling it
/// again does nothing.
///
/// # Panics
/// If another provider is registered under one of these names: the program would not get the store that it asks for.
pub fn init() {
    #[cfg(feature = "postgres")]
    postgres::register();
    #[cfg(feature = "sqlite")]
    sqlite::register();
}
