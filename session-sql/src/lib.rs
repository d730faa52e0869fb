//! Sessions in PostgreSQL or SQLite: the [`session_core`] providers named `"postgres"` and `"sqlite"`.
//!
//! Each is a feature of this crate, as each brings its driver: `postgres`, `sqlite`. Neither is on by itself.
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
//! The store of many servers: version 12 or newer, nothing but its own types and functions. Opening doesn't
//! connect: a server that is down now may be up when the first request comes. What fails because of it is
//! [`Error::Unavailable`] within the time limit, and works again as soon as the server does.
//!
//! The source is a `postgres://` URI. It may name several hosts, `postgres://app@one,two:5433/shop`: connections
//! go to the one that is no standby. These options are the provider's own:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `table` | `sessions` | the table, with its schema if it is not the user's first one: `app.sessions` |
//! | `max_connections` | 10 | connections of one process; about as many operations as run at once are served without waiting; 1 to 10,000 |
//! | `operation_timeout` | `3s` | how long an operation may take, waiting for a connection and repetitions included; 1 ms to 1 hour. The server ends a statement after as long, unless it has a `statement_timeout` already |
//! | `pooler` | `false` | whether the URI leads to a pooler that gives each transaction another of the server's connections, as PgBouncer does in transaction mode; not saying so lets statements and settings of one client meet those of another |
//!
//! And these the driver's:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `sslmode` | `prefer` | `disable`, `allow`, `prefer`, `require`, `verify-ca` or `verify-full` |
//! | `sslrootcert`, `sslcert`, `sslkey` | none | files of the authority's certificate, and of the client's own and its key |
//! | `host` | none | the folder of the server's socket, for a URI without a host |
//! | `application_name` | `session-sql` | what the server's lists of connections show |
//! | `set` | none | a setting of the server for these connections, `set=synchronous_commit:off`; may be given more than once; not through a pooler |
//!
//! The variables `PGHOST`, `PGPORT`, `PGUSER`, `PGPASSWORD`, `PGDATABASE`, `PGSSLMODE` and the like, and the
//! file `.pgpass`, say what the URI doesn't. An unknown option is an error that names it; no error shows a user
//! name or a password.
//!
//! A pool that the application has already is handed over by
//! [`PostgresProvider::with_pool`](postgres::PostgresProvider::with_pool).
//!
//! ## Rows
//! | column | type | meaning |
//! |---|---|---|
//! | `key` | `bytea` | the session's [key](session_core::SessionKey), 12 bytes: names the session, opens nothing, never changes |
//! | `holder` | `bytea` | the [digest](session_core::provider::Verifier::digest) of the client's key and secret, 32 bytes: a leaked database opens no session |
//! | `created`, `renewed`, `used`, `expires` | `bigint` | when the session was created, got its secret, was last used, and from when on it is gone: milliseconds since 1970 |
//! | `due` | `bigint` | an instant not after `expires`, at which collection looks at the row |
//! | `owner`, `authenticated`, `label` | `bytea`, `bigint`, `bytea` | who is logged in, since when, and what a list calls the session; the texts are UTF-8; null while nobody is |
//! | `cookie` | `bigint` | a [fingerprint](session_core::provider::Record::cookie) of what the client was told last, 32 bits |
//! | `size` | `integer` | the bytes of all names and values together |
//! | `names`, `data` | `bytea[]` | the names of the values, in UTF-8 and no order, and in the same places the values, each one MessagePack value |
//!
//! Texts are `bytea` because PostgreSQL's have no NUL. `convert_from(owner, 'UTF8')` shows one. A row that is
//! not of this form is [`Error::Unreadable`] to a load, and [`Error::Gone`] to a save or a touch. Names, owners and
//! labels that are not UTF-8, a name that is there twice, and a `size` that is not theirs, only a load sees.
//!
//! The first operation makes the table, its indexes and the table `sessions_version`, which has the version of
//! this layout; so does the next one after somebody dropped both tables. A database user that may not is told so
//! by [`Error::Config`]; [`postgres::schema`] returns the statements for whoever may:
//! ```sh
//! cargo run -p session-sql --features postgres --example schema -- postgres sessions | psql shop
//! ```
//!
//! ## Operations
//! Each is one statement on one row, sent in one round trip, and each but a list finds it by its key. A save sends
//! the changed values alone, and gets nothing back but whether it saved: it costs the network the same beside a
//! thousand other values. Whether the session is live, whether its holder is the one that the request loaded,
//! whether values are the expected ones and whether the result keeps the limits is in the condition of the same
//! statement; where it does not hold, the statement returns which. Only these take more:
//! - A save with a new secret that finds it there already, by an earlier attempt: one statement more.
//! - A save that was refused because of another one at the same time, which it could not see: it is sent again.
//! - A new connection, which is asked whether its server is a standby; the first use of each statement on a
//!   connection, which prepares it; and of a connection that was not used for a second, which is asked whether it
//!   still is one.
//! - With `pooler=true`, a statement is a transaction, of four round trips: what lies between a statement's
//!   preparation and its execution, a pooler may send to two of the server's connections.
//!
//! The indexes are on `key`, on `owner` and `key` where there is an owner, and on `due`, which moves once in an
//! eighth of a session's life. So a save or a touch mostly changes no index, and its row stays in its page,
//! of which a fifth is free for that.
//!
//! More than 64 MiB of keys and values are refused, whatever [`Limits`](session_core::Limits) allow.
//!
//! ## When a server fails
//! [`Error::Unavailable`] means that nothing was written. Whatever may have been written is [`Error::InDoubt`]: a
//! connection that was lost while a statement was on its way, an answer that didn't come in time. A create, a
//! touch, a destroy and a save with a new secret (a login) are sent again then, as that does no harm, and
//! so is whatever was certainly not done: a deadlock, a serialization failure, a server that became a standby, a
//! transaction through a pooler that was not committed.
//! A write that waits for a synchronous standby is acknowledged when the server says so; with
//! `synchronous_commit=off`, at the server or by `set`, a crash of the server takes the last writes.
//!
//! # SQLite
//! One file, for the processes of one machine, or a table in the file that the application has. The source string has
//! `name=value` pairs joined by `&`, percent-encoded:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `path` | required | the file: absolute; it is made if it is not there, for its user alone; its directory must be there, and not be one where everybody can write |
//! | `table` | `sessions` | the table, without a schema |
//! | `sync` | `full` | `full`: what is acknowledged survives a power cut; `none`: it survives the process, and a power cut may take the last changes |
//! | `operation_timeout` | `3s` | how long an operation may take, waiting for other processes included; 1 ms to 1 hour |
//!
//! The columns are those of PostgreSQL but for `size`, `names` and `data`: the values are one `BLOB` named `data`, a
//! MessagePack map from the names to the values, each in a binary. Other types are SQLite's `BLOB` and `INTEGER`.
//!
//! - SQLite keeps a write-ahead log beside the file (`-wal`, `-shm`): readers don't wait for writers, and one
//!   transaction writes at a time. Back up with SQLite's own tools, or all three files; remove none of them while a
//!   program uses the database.
//! - Not for a file system of the network, on which SQLite's locks don't hold.
//! - A file that is no database, or can't be written, is [`Error::Config`] when the provider opens. One that is
//!   damaged later, locked for too long, removed, or without its table is [`Error::Unavailable`]; where another one
//!   was put in its place, that is used; a disk without space is [`Error::Full`]. A commit whose outcome the operating system
//!   doesn't tell is [`Error::InDoubt`].
//! - SQLite runs on threads of its own, and blocks no runtime.
//!
//! # Runtime
//! Each provider has a tokio runtime of its own, with two threads, so that it works from any executor, and from
//! none; an operation whose request is dropped is completed there. With a pool that was handed over, operations
//! run on the application's runtime.

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

/// The driver, for pools that are handed over.
pub use sqlx;
pub use table::TableName;

/// Registers the providers that are compiled in, under the names `"postgres"` and `"sqlite"`. Calling it
/// again does nothing.
///
/// # Panics
/// If something else was registered under one of these names before: the program would not get the store it
/// asks for.
pub fn init() {
    #[cfg(feature = "postgres")]
    postgres::register();
    #[cfg(feature = "sqlite")]
    sqlite::register();
}
