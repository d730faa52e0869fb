//! Sessions in Redis or Valkey, one store for many servers: the [`session_core`] provider named `"redis"`.
//!
//! ```
//! session_redis::init();
//! let manager = session_core::Manager::open(
//!     "redis",
//!     "redis://app:secret@cache1/0?prefix=shop:session:",
//! )?;
//! # Ok::<(), session_core::Error>(())
//! ```
//!
//! It takes Redis 6.2 or newer, or any Valkey: one server, a primary that Sentinel watches, or a cluster.
//! Opening doesn't connect: a server that is down now may be up when the first request comes. What fails
//! because of it is [`Error::Unavailable`] within the time limit, and works again as soon as the server does.
//!
//! # Source string
//! A `redis://`, `rediss://` (over TLS) or `redis+unix://` URI; `valkey://` and so on are the same:
//!
//! | URI | servers |
//! |---|---|
//! | `redis://user:password@host:6379/0` | one; user, password, port and database can be left out |
//! | `redis+unix:///run/redis.sock?db=0&user=u&pass=p` | one, over a socket of this machine |
//! | `redis://user:password@one,two,three:26379/0?mode=sentinel&service=main` | the primary that the Sentinels at these hosts name; user, password and database are the primary's |
//! | `rediss://user:password@one,two/?mode=cluster` | the nodes of a cluster, of which these are some |
//!
//! User and password are percent-encoded. The options stand behind the `?`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `prefix` | `session:` | what the names of all keys begin with: 120 bytes at most, without braces and without `owner:` |
//! | `operation_timeout` | `2s` | how long an operation may take, connecting, waiting and repetitions included: 1ms to 1h |
//! | `ttl_margin` | `10m` | how long after its expiry the server keeps a session: clocks that differ by less lose no live one |
//! | `wait` | `0` | how many replicas must have a write before it is acknowledged; see [below](#what-a-failover-loses) |
//! | `connections` | 1, or 8 with `wait` | connections to each server: 1 to 1,000; requests share them, and one is enough for most sites |
//! | `mode` | `single` | `single`, `sentinel` or `cluster` |
//! | `service` | `mymaster` | with `sentinel`: the name of the primary |
//! | `sentinel_user`, `sentinel_password` | none | with `sentinel`: how to log in at the Sentinels themselves |
//! | `tls_ca` | the system's | with `rediss`: a PEM file of the authorities that servers' certificates are checked against |
//! | `tls_cert`, `tls_key` | none | with `rediss`: PEM files of the client's certificate and its key |
//!
//! An unknown option is an error that names it; no error shows a user name or a password. Certificates are
//! always checked: there is no option against it.
//!
//! # Keys
//! A session is one string, under `session:{KEY}` with the 16 characters of its
//! [key](session_core::SessionKey). The braces are the hash tag, so in a cluster sessions spread over all
//! slots, and none ever moves to another one: a new id is a new secret under the same key.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 1 | 1 for a session of nobody, 2 for an owner's |
//! | 1 | 4 | the length of all of it, big-endian like all numbers here |
//! | 5 | 16 | with 2: the stamp of its entry in the owner's list, and until when the list is kept at least |
//! | 5 or 21 | | the record in the public format of [`Record::to_bytes`](session_core::provider::Record::to_bytes) |
//!
//! Values are in it as they come, one MessagePack value each, and the client's secret only as a digest: a leaked
//! dump opens no session. What is not of this form is no session: loading it is [`Error::Unreadable`], saves
//! don't touch it, destroying removes it. So is a key of another type.
//!
//! The sessions of an owner are listed in a sorted set under `session:owner:OWNER`, by their keys. Whoever
//! may read the names of keys (`MONITOR`, `SLOWLOG`, a dump) sees owners; `encrypted+redis` hides them.
//!
//! # Expiry
//! The server removes what has expired, by a timer that each write sets to what is left by the *caller's* clock
//! and `ttl_margin`. Whether a session is live is decided by the times in its record, against the caller's
//! clock; the server's takes no part. So there is nothing to collect:
//! [`purge`](session_core::provider::Provider::purge) does nothing. And
//! [`count`](session_core::provider::Provider::count) is [`Error::Unsupported`]: the server keeps no number of
//! them, a counter would drift with each key that a timer removes, and an index of all sessions would be one
//! hot key on one node. `DBSIZE` of a database of their own is a good estimate.
//!
//! # Operations
//! Each that writes is one script, so it is atomic: it judges whether the session is live, whether its holder
//! is the one that the request loaded, whether values are the expected ones and limits are kept, and then
//! merges the changed keys into what is stored. Everything of a request is in the script's arguments, so
//! nothing of it is ever run. Scripts are sent by hash; a server that doesn't know one is sent all of it.
//!
//! | operation | command | round trips |
//! |---|---|---|
//! | create | script | 1 |
//! | load | `GET` | 1 |
//! | save | script, with the changed keys alone | 1 |
//! | save with a login | the same, which makes the entry in the owner's list, too | 1; in a cluster 2, the entry first |
//! | save that ends a login, or gives the session to another owner | the same, then `ZREM` | 1 more |
//! | touch | script | 1; 1 more, to make the entry anew, if the session has lasted for more than a day |
//! | destroy | script | 1; 1 more if somebody was logged in |
//! | list | `ZRANGEBYLEX`, and `GETRANGE` of each session together | 2 a page; 1 more to remove entries of sessions that ended |
//!
//! A login of an owner who has more than 16 sessions looks at four others, if these should have ended; that
//! is up to two round trips more. Nothing depends on notifications of the server.
//!
//! A save costs the server time by the size of the session, since it writes all of it: about 20 microseconds for
//! a small one, 40 for 2 KiB in fifty keys, and 0.4 milliseconds for 57 KiB in a thousand; of these, 5 to 8
//! are what any script costs.
//!
//! # When a server fails
//! [`Error::Unavailable`] means that nothing was written. Whatever may have been written is
//! [`Error::InDoubt`]: an answer that was lost with its connection or didn't come in time, or too few replicas
//! with `wait`. Creating, touching, destroying and saves with a new secret (logins) are repeated after a lost
//! answer, up to twice, as that does no harm: a login is applied once, as the record then has the new secret.
//! Any other save is in doubt at once; sending it again could undo what another request has saved since.
//!
//! A connection that the server closed while nothing was under way is noticed, and replaced before anything is
//! sent. One that is idle for a minute is kept alive, as firewalls forget such without telling. Requests that need
//! a connection wait for one attempt together, which goes on when they give up: however many they are, a server that
//! doesn't answer is connected to once in `operation_timeout` for each of `connections`.
//!
//! A server that is no primary any more (`READONLY`), that moves slots (`MOVED`, `ASK`), that has too few replicas
//! (`NOREPLICAS`) or that is not ready yet is followed or tried again, five times within the time limit.
//!
//! # A server that is full
//! With `maxmemory` reached, a server does what its `maxmemory-policy` says. All sessions have a timer, so
//! the `volatile-` policies and their `allkeys-` counterparts are the same to them:
//!
//! | policy | what it does to sessions |
//! |---|---|
//! | `noeviction` | new sessions, and saves that make one larger, are [`Error::Full`]; everything else works: loads, touches, smaller saves, logouts |
//! | `volatile-ttl` | ends those that would end first |
//! | `allkeys-lru`, `volatile-lru` | ends those that were used least recently |
//! | `allkeys-lfu`, `volatile-lfu` | ends those that are used least often, among them new ones |
//! | `allkeys-random`, `volatile-random` | ends any: visitors are logged out at random. A warning in the log says so |
//!
//! # What a failover loses
//! A primary acknowledges a write before its replicas have it. If it is lost then, with its disk or by a
//! failover, so is what the server that takes its place hasn't got: a session may be as it was before its last
//! saves, a login may be gone as a whole, and a session that was ended may be back. Never is there half a
//! save, as each is one string.
//!
//! Two settings together keep what was acknowledged when a server fails:
//!
//! - `wait=N` in the source string. Each write waits until N replicas have it, or is [`Error::InDoubt`]. All are
//!   while fewer than N replicas are there, so have one more: `wait=1` with two replicas. A write costs one
//!   round trip more, between the servers.
//! - `appendonly yes` and `appendfsync always` at each server. A primary that comes back before another one is
//!   elected has what is on its disk, and its replicas give up what they have beyond that. With `everysec` it
//!   may lack some seconds, and without `appendonly` it is empty.
//!
//! This is how many acknowledged operations were undone, with a primary, two replicas and a Sentinel of Redis 7.0
//! on one machine, while sixteen clients saved, logged in and logged out. Each fault happened five times, and in
//! the last column ten times. The first two columns have `appendfsync everysec`:
//!
//! | the primary was | without `wait` | `wait=1` | `wait=1`, `appendfsync always` |
//! |---|---:|---:|---:|
//! | killed and started again | 81,876 of 404,829 | 0 of 105,406 | 0 of 36,452 |
//! | killed | 0 of 204,493 | 0 of 82,697 | 0 of 47,575 |
//! | frozen, and back after the failover | 8 of 226,616 | 0 of 95,483 | 0 of 40,643 |
//! | cut off from everything | 11 of 270,302 | 0 of 104,530 | 0 of 63,664 |
//! | cut off from the other servers, not from clients | 146,660 of 340,723 | 0 of 169,138 | 0 of 39,465 |
//!
//! In doubt were 340, 530 and 1,014 operations. Without `wait`, 5 of the sessions that had been ended were
//! back; nowhere was a login half done, or anything done twice. Nearly all that was undone is what clients wrote
//! at a primary that Sentinel had replaced already, in the seconds until it learnt so. Replication on one
//! machine takes next to no time; between machines, the delay adds to what is lost without `wait`. And a
//! killed process loses nothing that its system has: the figures show no need for `always`, but a loss of power
//! would. `cargo run --release -p session-redis --example redis_failover -- --rounds 10 --apart` measures it.
//!
//! `WAIT` makes no consensus of it. While N is less than the number of replicas, a write is lost if the new
//! primary is none of the N that have it. Sentinel promotes the replica that had the most when it was last
//! asked, which may be seconds ago; and the network may part the old primary and N of its replicas from the
//! Sentinels and another replica. If N is the number of replicas, each of them has everything, but no write
//! is acknowledged while one is missing. Until a write is acknowledged, others may see it, and it may be undone.
//!
//! `min-replicas-to-write` is not needed with `wait`: it only turns what would be in doubt after the time limit
//! into [`Error::Unavailable`] after a third of a second. Without `wait`, it limits what a primary loses that is
//! cut off from its replicas, to the writes of `min-replicas-max-lag` (10 seconds by default).
//!
//! # Permissions
//! A user (`ACL SETUSER`) needs `~session:*` and these commands:
//! ```text
//! +hello +evalsha +eval +script|load +get +getrange +set +setrange +strlen +del +pttl
//! +pexpire +persist +zadd +zrem +zcard +zrangebylex +info
//! ```
//! and `+select` for another database than 0, `+wait` with `wait`, `+role` with Sentinel, `+cluster|slots +asking` in a cluster. Without `+info` or
//! `+script|load` it works as well.
//!
//! # Runtime
//! The provider works from any executor, and from none. A connection lives on the tokio runtime of the
//! request that made it, if that is a multi-threaded one with its I/O and time enabled (as `#[tokio::main]`
//! makes it), since that saves two changes of threads for each operation. Otherwise it lives on a runtime of
//! the provider's own, with one thread named `session-redis`. When a runtime ends, its connections are
//! replaced. An operation takes 1.05 times `operation_timeout` at most.

mod client;
mod config;
mod connection;
mod failure;
mod provider;
mod script;
mod single_flight;
mod stored;
mod time_limit;
mod topology;

use std::sync::Arc;

use once_cell::sync::OnceCell;

#[cfg(doc)]
use session_core::Error;

pub use config::RedisConfig;
pub use provider::RedisProvider;

/// Registers the provider under the name `"redis"`. Calling it again does nothing.
///
/// # Panics
/// If something else was registered under that name before: the program would not get the store
/// it asks for.
pub fn init() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        let open =
            |source: &str| Ok(Arc::new(RedisProvider::new(RedisConfig::parse(source)?)?) as _);
        if let Err(error) = session_core::provider::register("redis", open) {
            panic!("{error}");
        }
    });
}
