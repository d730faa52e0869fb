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
//! Redis and its fork Valkey are servers that keep data in memory, and on disk if they are configured so. The
//! provider works with Redis 6.2 or newer and with every version of Valkey: one server, a primary that Sentinel
//! watches, or a cluster.
//!
//! Opening the provider doesn't connect, so the server may be down at that time. While the server is down,
//! operations fail with [`Error::Unavailable`] within the time limit; they work again as soon as the server does.
//!
//! # Source string
//! The source string is a `redis://`, `rediss://` (over TLS) or `redis+unix://` URI. The schemes `valkey://`,
//! `valkeys://` and `valkey+unix://` mean the same:
//!
//! | URI | servers |
//! |---|---|
//! | `redis://user:password@host:6379/0` | one; user, password, port and database can be left out |
//! | `redis+unix:///run/redis.sock?db=0&user=u&pass=p` | one, over a socket of this machine |
//! | `redis://user:password@one,two,three:26379/0?mode=sentinel&service=main` | the primary that the Sentinels at these hosts name; user, password and database are the primary's |
//! | `rediss://user:password@one,two/?mode=cluster` | the nodes of a cluster, of which these are some |
//!
//! User and password are percent-encoded. The options follow the `?`:
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `prefix` | `session:` | what the names of all keys begin with: 120 bytes at most, without braces and without `owner:` |
//! | `operation_timeout` | `2s` | the time limit of an operation, including connecting, waiting and all retries: 1ms to 1h |
//! | `ttl_margin` | `10m` | how long after its expiry the server deletes a session: if clocks differ by less, no live session is deleted; 365 days at most |
//! | `wait` | `0` | how many replicas must have a write before it is acknowledged; see [below](#what-a-failover-loses) |
//! | `connections` | 1, or 8 with `wait` | connections to each server: 1 to 1,000; requests share them, and one is enough for most sites |
//! | `mode` | `single` | `single`, `sentinel` or `cluster` |
//! | `service` | `mymaster` | with `sentinel`: the name of the primary |
//! | `sentinel_user`, `sentinel_password` | none | with `sentinel`: how to log in at the Sentinels themselves |
//! | `tls_ca` | the system's | with `rediss`: a PEM file of the authorities that servers' certificates are checked against |
//! | `tls_cert`, `tls_key` | none | with `rediss`: PEM files of the client's certificate and its key |
//!
//! An unknown option is an error that names it. No error shows a user name or a password. Certificates are
//! always checked: no option turns that off.
//!
//! # Keys
//! A session is one string, under `session:{KEY}` with the 16 characters of its
//! [key](session_core::SessionKey). The braces are the hash tag, so in a cluster sessions spread over all
//! slots, and none ever moves to another one: a new id is a new secret under the same key.
//!
//! | offset | bytes | what |
//! |---:|---:|---|
//! | 0 | 1 | 1 if nobody is logged in, 2 if the session has an owner |
//! | 1 | 4 | the length of the whole string, big-endian like all numbers here |
//! | 5 | 16 | with 2: the stamp of its entry in the owner's list, and the time until which the list is kept at least |
//! | 5 or 21 | | the record in the public format of [`Record::to_bytes`](session_core::provider::Record::to_bytes) |
//!
//! The record has each value as MessagePack, and the client's secret only as a digest: a leaked dump opens no
//! session. A string of another form, or a key of another type, is a damaged session: loading it is
//! [`Error::Unreadable`], saving to it is [`Error::Gone`], and destroying removes it.
//!
//! The sessions of an owner are listed in a sorted set under `session:owner:OWNER`, by their keys. Whoever
//! may read the names of keys (`MONITOR`, `SLOWLOG`, a dump) sees owners; `encrypted+redis` hides them.
//!
//! # Expiry
//! The server deletes expired sessions by a timer. Each write that moves the expiry sets the timer to the time that is
//! left by the *caller's* clock, plus `ttl_margin`. Whether a session is live is decided by the times in its
//! record and the caller's clock, never by the server's clock. So there is nothing to collect, and
//! [`purge`](session_core::provider::Provider::purge) does nothing.
//!
//! [`count`](session_core::provider::Provider::count) is [`Error::Unsupported`], because the server keeps no
//! number of sessions. If they have a database of their own, `DBSIZE` is a good estimate: it also counts expired
//! sessions up to `ttl_margin`, and one list for each owner.
//!
//! # Operations
//! Each operation that writes is one script, so it is atomic. The script checks whether the session is live,
//! whether its holder is the one that the request loaded, whether values are the expected ones and whether limits
//! are kept. Then it merges the changed keys into what is stored. All data of a request are arguments of the
//! script and never part of its code. Scripts are sent by their hash, and in full to a server that doesn't know
//! the hash.
//!
//! | operation | command | round trips |
//! |---|---|---|
//! | create | script | 1 |
//! | load | `GET` | 1 |
//! | save | script, with the changed keys alone | 1 |
//! | save with a login | the same script, which also makes the entry in the owner's list | 1; in a cluster 2, the entry first |
//! | save that ends a login, or gives the session to another owner | the same, then `ZREM` | 1 more |
//! | touch | script | 1 |
//! | destroy | script | 1; 1 more if somebody was logged in |
//! | list | `ZRANGEBYLEX`, and `GETRANGE` of each session together | 2 a page; 1 more to remove entries of sessions that ended |
//!
//! A login of an owner with more than 16 sessions also looks at four entries of the owner's list, and removes those
//! whose sessions have ended. If some of the four should have ended, this takes up to two round trips more. In a
//! session whose login is more than a day old, a touch or a save that moves the expiry takes one round trip more, which
//! keeps the owner's list for longer. The provider doesn't use the server's notifications.
//!
//! A save writes the whole session at the server, so its cost there grows with the session's size: about 20
//! microseconds for a small session, 40 for 2 KiB in fifty keys, and 0.4 milliseconds for 57 KiB in a thousand
//! keys. 5 to 8 microseconds of that are the cost of running any script.
//!
//! # When a server fails
//! [`Error::Unavailable`] means that nothing was written. [`Error::InDoubt`] means that the write may have been
//! applied: its answer was lost with the connection or didn't come in time, or too few replicas had it (`wait`).
//! A create, a touch, a destroy and a save with a new secret (such as a login) are repeated up to twice after a
//! lost answer. Repeating them is harmless: a save with a new secret is applied once, because the record then has
//! that secret. Any other save is in doubt at once, because sending it again could undo what another request has
//! saved since.
//!
//! A connection that the server has closed is replaced before anything is sent on it. TCP keepalive probes
//! connections that have been idle for a minute, because firewalls drop idle connections without notice. Requests
//! that need a connection share one attempt to connect, which goes on when they give up. So a server that accepts
//! connections and doesn't answer gets at most `connections` attempts in each `operation_timeout`, however many
//! requests there are.
//!
//! If a server is no longer the primary (`READONLY`), moves slots (`MOVED`, `ASK`), has too few replicas
//! (`NOREPLICAS`) or isn't ready yet (`LOADING`, `CLUSTERDOWN`), the operation finds the right server or waits, and
//! is tried up to five times within the time limit.
//!
//! # A server that is full
//! When a server has reached `maxmemory`, it does what its `maxmemory-policy` says. All sessions have a timer, so
//! the `volatile-` policies and their `allkeys-` counterparts are the same to them:
//!
//! | policy | what it does to sessions |
//! |---|---|
//! | `noeviction` | new sessions, and saves that make a session larger, are [`Error::Full`]; everything else works: loads, touches, smaller saves, logouts |
//! | `volatile-ttl` | evicts the sessions that would expire first |
//! | `allkeys-lru`, `volatile-lru` | evicts those that were used least recently |
//! | `allkeys-lfu`, `volatile-lfu` | evicts those that are used least often, among them new ones |
//! | `allkeys-random`, `volatile-random` | evicts any, so visitors are logged out at random; a warning in the log says so |
//!
//! # What a failover loses
//! A primary acknowledges a write before its replicas have it. If the primary then loses its data, or a replica
//! takes its place, the writes that the new primary doesn't have are lost: a session may be as it was before its last
//! saves, a login may be gone as a whole, and a session that was ended may be back. A save is never lost in part,
//! because a session is one string.
//!
//! Two settings together keep what was acknowledged when a server fails:
//!
//! - `wait=N` in the source string. Each write waits until N replicas have it; if that takes too long, it is
//!   [`Error::InDoubt`]. While fewer than N replicas are connected, every write is, so have one more than N:
//!   `wait=1` with two replicas. A write takes one more round trip, between the servers.
//! - `appendonly yes` and `appendfsync always` at each server. A primary that restarts before another one is
//!   elected has only what is on its disk, and its replicas discard what they have beyond that. With `everysec` its
//!   disk may lack the last seconds, and without `appendonly` it is empty.
//!
//! The table shows how many of the acknowledged operations were undone, with a primary, two replicas and a Sentinel
//! of Redis 7.0 on one machine, while sixteen clients saved, logged in and logged out. Each fault happened five times,
//! and in the last column ten times. In the first two columns, the servers had `appendfsync everysec`:
//!
//! | the primary was | without `wait` | `wait=1` | `wait=1`, `appendfsync always` |
//! |---|---:|---:|---:|
//! | killed and started again | 81,876 of 404,829 | 0 of 105,406 | 0 of 36,452 |
//! | killed | 0 of 204,493 | 0 of 82,697 | 0 of 47,575 |
//! | frozen, and back after the failover | 8 of 226,616 | 0 of 95,483 | 0 of 40,643 |
//! | cut off from everything | 11 of 270,302 | 0 of 104,530 | 0 of 63,664 |
//! | cut off from the other servers, not from clients | 146,660 of 340,723 | 0 of 169,138 | 0 of 39,465 |
//!
//! In the three columns, 340, 530 and 1,014 operations were in doubt. Without `wait`, 5 sessions that had been ended
//! were back. No login was applied in part, and nothing was applied twice. Nearly all writes that were undone had been
//! made at a primary that Sentinel had already replaced, in the seconds before it learnt so. Replication on one machine
//! takes next to no time; between machines, the delay adds to the loss without `wait`. A killed process loses nothing
//! that it has handed to its operating system, so these figures show no need for `always`; a loss of power would.
//! `cargo run --release -p session-redis --example redis_failover -- --rounds 10 --apart` measures this; `--mode` chooses
//! one column.
//!
//! `wait` (the command `WAIT`) is not a consensus protocol. While N is less than the number of replicas, an
//! acknowledged write is lost if the new primary is none of the N replicas that have it. Sentinel promotes the
//! replica that had received the most when Sentinel last asked, which may be seconds ago. The network may also
//! separate the old primary and N of its replicas from the Sentinels and another replica. If N is the number of
//! replicas, each of them has everything, but no write is acknowledged while one is missing. Other requests may
//! see a write before it is acknowledged, and it may be undone after they have.
//!
//! `min-replicas-to-write` is not needed with `wait`. There it only turns writes that would be in doubt after the
//! time limit into [`Error::Unavailable`] after a third of a second. Without `wait`, it limits the loss of a primary
//! that is cut off from its replicas to the writes of `min-replicas-max-lag` (10 seconds by default).
//!
//! # Permissions
//! A user (`ACL SETUSER`) needs `~session:*` and these commands:
//! ```text
//! +hello +evalsha +eval +script|load +get +getrange +set +setrange +strlen +del +pttl
//! +pexpire +persist +zadd +zrem +zcard +zrangebylex +info
//! ```
//! In addition, it needs `+select` for another database than 0, `+wait` with `wait`, `+role` with Sentinel, and
//! `+cluster|slots +asking` in a cluster. The provider also works without `+info`, which it needs to warn of the
//! policies that evict at random, and without `+script|load`.
//!
//! # Runtime
//! The provider works with any executor, and without one. A connection runs on the tokio runtime of the
//! request that made it, if that is a multi-threaded one with I/O and time enabled (as `#[tokio::main]`
//! makes it), which saves two switches between threads for each operation. Otherwise it runs on the provider's
//! own runtime, which has one thread, named `session-redis`. When a runtime ends, its connections are replaced. An
//! operation takes at most 1.05 times `operation_timeout`.

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
/// If another provider is registered under that name: the program would not get the store that it asks for.
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
