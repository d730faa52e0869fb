//! The provider: its operations, as commands and scripts.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use redis::Value;
use session_core::provider::{
    Answer, Changes, ExpiryChange, Listed, Page, Provider, ProviderFuture, Purged, Record, Summary,
    Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::RedisConfig;
use crate::client::{Access, Client, Operation};
use crate::config::OWNER;
use crate::script::{self, Command, Request};
use crate::stored::{self, Entry, Mark};

/// How much longer than a session the server keeps its owner's list. A session that is used for longer makes its entry
/// again, which extends the list's timer.
const COVER: Duration = Duration::from_secs(24 * 60 * 60);

/// The longest time between the creation of an entry in the owner's list and the save of its session.
const LOGIN: Duration = Duration::from_secs(60);

/// Sorts after every stamp. All entries of a session are between its key alone and its key with this appended.
const LAST: [u8; 9] = [0xff; 9];

/// Keeps sessions in Redis or Valkey, for any number of servers.
///
/// Each operation on a session is one script on one key, so it is atomic.
#[derive(Debug)]
pub struct RedisProvider {
    client: Client,
}

/// The work on owners' lists that a successful script leaves to the provider.
#[derive(Debug, Default, PartialEq, Eq)]
struct Done {
    /// Entries of the owner's list whose sessions may have ended.
    old: Vec<Entry>,
    /// The session's former owner, and the stamp of its entry there.
    left: Option<(Vec<u8>, [u8; 8])>,
    /// The owner whose list may expire before the session, and the stamp of its entry there.
    outlived: Option<(Vec<u8>, [u8; 8])>,
    /// When the session expires now.
    expires: Option<Timestamp>,
}

impl RedisProvider {
    /// Makes a provider. It connects when it is first used, so the servers may be down now.
    ///
    /// # Errors
    /// [`Error::Config`] if a field of the configuration is out of its range; [`Error::Unavailable`] if the
    /// operating system has no threads left.
    pub fn new(config: RedisConfig) -> Result<Self, Error> {
        Ok(Self { client: Client::new(config)? })
    }

    /// The configuration that the provider was made with.
    pub fn config(&self) -> &RedisConfig {
        self.client.config()
    }

    /// The name of the Redis key of a session. The braces make the session's key the hash tag.
    fn name(&self, key: &SessionKey) -> Vec<u8> {
        format!("{}{{{key}}}", self.config().prefix).into_bytes()
    }

    /// The name of the list of an owner's sessions.
    fn list_name(&self, owner: &[u8]) -> Vec<u8> {
        [self.config().prefix.as_bytes(), OWNER.as_bytes(), owner].concat()
    }

    fn ttl(&self, expires: Timestamp, now: Timestamp) -> String {
        self.config().ttl(expires.since(now)).to_string()
    }

    /// Returns the limit of stale stamps. The sessions of lower stamps ended so long ago that they have ended by every
    /// server's clock, and that no login is still about to store them.
    fn stale(&self, now: Timestamp) -> u64 {
        stored::stamp(now.saturating_sub(self.config().ttl_margin.max(LOGIN)))
    }

    /// The mark of an entry that is made now.
    fn mark(expires: Timestamp, now: Timestamp) -> Mark {
        Mark::new(expires, expires.max(now).saturating_add(COVER))
    }

    async fn insert(&self, key: SessionKey, record: Record, now: Timestamp) -> Result<(), Error> {
        let deadline = self.client.deadline();
        let mark = record.login.is_some().then(|| Self::mark(record.expires, now));
        let bytes = stored::encode(&record, mark.as_ref());
        let (name, ttl, time) = (self.name(&key), self.ttl(record.expires, now), stored::time(now));
        let entry = self.entry(record.owner(), mark.as_ref(), now);
        let mut arguments: Vec<&[u8]> = vec![&time, &bytes, ttl.as_bytes(), b""];
        let mut keys: Vec<&[u8]> = vec![&name];
        let old = match &entry {
            Some(entry) => entry.beside(self, &key, deadline, &mut keys, &mut arguments).await?,
            None => Vec::new(),
        };
        let first = arguments.clone();
        arguments[3] = record.holder.as_bytes();
        let request = |arguments| Request {
            command: Command::Script(&script::CREATE),
            keys: &keys,
            arguments,
        };
        let operation = Operation {
            access: Access::Write,
            first: request(&first),
            again: Some(request(&arguments)),
            lane: lane(&key),
        };
        let reply = self.client.perform(operation, deadline).await?;
        let mut done = done(reply, Error::Exists)?;
        done.old.extend(old);
        let owner = record.owner().map(str::as_bytes);
        self.tidy(&key, owner, done, now, deadline).await;
        Ok(())
    }

    async fn fetch(&self, key: SessionKey, now: Timestamp) -> Result<Option<Record>, Error> {
        let name = self.name(&key);
        let request = Request { command: Command::Named("GET"), keys: &[&name], arguments: &[] };
        let operation = Operation::repeatable(Access::Read, request, lane(&key));
        match self.client.perform(operation, self.client.deadline()).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => {
                let record = stored::decode(&bytes)?;
                Ok(Some(record).filter(|record| record.is_live(now)))
            }
            _ => Err(nonsense()),
        }
    }

    async fn merge(
        &self,
        key: SessionKey,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        let deadline = self.client.deadline();
        let (name, time) = (self.name(&key), stored::time(now));
        let secret = changes.secret.as_ref().map_or(Vec::new(), |secret| {
            [&secret.holder.as_bytes()[..], &stored::time(secret.at)].concat()
        });
        let (times, expires) = match changes.expiry {
            ExpiryChange::Keep => (Vec::new(), now),
            ExpiryChange::Extend(touch) => (times(b"e", touch), touch.expires),
            ExpiryChange::Set(touch) => (times(b"s", touch), touch.expires),
        };
        let ttl = self.ttl(expires, now);
        let cookie = changes.cookie.map(u32::to_be_bytes);
        let mark = Self::mark(expires, now);
        let login = changes.login.as_ref().map(|login| stored::login(login.as_deref(), &mark));
        let owner = changes.login.as_ref().and_then(|login| Some(&*login.as_deref()?.owner));
        let limits = [changes.limits.bytes, changes.limits.keys].map(|limit| limit.to_string());
        let changed = stored::changed(changes);
        let set = || changes.iter().filter(|(_, value)| value.is_some()).count();
        let replaced = if changes.replace { set().to_string() } else { String::new() };
        let expected = stored::expected(changes);
        let mut keys: Vec<&[u8]> = vec![&name];
        let mut arguments: Vec<&[u8]> = vec![
            &time,
            holder.as_bytes(),
            &secret,
            &times,
            ttl.as_bytes(),
            cookie.as_ref().map_or(&[], |cookie| &cookie[..]),
            login.as_deref().unwrap_or_default(),
            limits[0].as_bytes(),
            limits[1].as_bytes(),
            replaced.as_bytes(),
            &changed,
            &expected,
            b"",
        ];
        let entry = self.entry(owner, Some(&mark), now);
        let old = match &entry {
            Some(entry) => entry.beside(self, &key, deadline, &mut keys, &mut arguments).await?,
            None => Vec::new(),
        };
        let first = arguments.clone();
        arguments[12] = b"1";
        let request =
            |arguments| Request { command: Command::Script(&script::SAVE), keys: &keys, arguments };
        let operation = Operation {
            access: Access::Write,
            first: request(&first),
            // With a new secret, the record shows whether the save was applied already. Otherwise a repetition could
            // overwrite what another request has saved since.
            again: changes.secret.is_some().then(|| request(&arguments)),
            lane: lane(&key),
        };
        let reply = self.client.perform(operation, deadline).await?;
        let mut done = match reply {
            Value::Int(2) => return Err(Error::Conflict),
            Value::Int(3) => {
                return Err(Error::TooLarge { what: "session bytes", limit: changes.limits.bytes });
            }
            Value::Int(4) => {
                return Err(Error::TooLarge { what: "session keys", limit: changes.limits.keys });
            }
            reply => done(reply, Error::Gone)?,
        };
        done.old.extend(old);
        self.tidy(&key, owner.map(str::as_bytes), done, now, deadline).await;
        Ok(())
    }

    async fn extend(&self, key: SessionKey, touch: Touch, now: Timestamp) -> Result<(), Error> {
        let deadline = self.client.deadline();
        let (name, time, times) = (self.name(&key), stored::time(now), times(b"", touch));
        let ttl = self.ttl(touch.expires, now);
        let request = Request {
            command: Command::Script(&script::TOUCH),
            keys: &[&name],
            arguments: &[&time, &times, ttl.as_bytes()],
        };
        let operation = Operation::repeatable(Access::Write, request, lane(&key));
        let mut done = done(self.client.perform(operation, deadline).await?, Error::Gone)?;
        done.expires = Some(touch.expires);
        self.tidy(&key, None, done, now, deadline).await;
        Ok(())
    }

    async fn remove(&self, key: SessionKey, now: Timestamp) -> Result<(), Error> {
        let deadline = self.client.deadline();
        let name = self.name(&key);
        let request =
            Request { command: Command::Script(&script::DESTROY), keys: &[&name], arguments: &[] };
        let operation = Operation::repeatable(Access::Write, request, lane(&key));
        let done = done(self.client.perform(operation, deadline).await?, Error::Gone)?;
        self.tidy(&key, None, done, now, deadline).await;
        Ok(())
    }

    async fn page(&self, owner: &str, page: Page, now: Timestamp) -> Result<Listed, Error> {
        let deadline = self.client.deadline();
        let list = self.list_name(owner.as_bytes());
        let first = match page.after {
            Some(after) => [b"(", &after.as_bytes()[..], &LAST].concat(),
            None => b"-".to_vec(),
        };
        // One more, to know whether others follow.
        let count = (page.size() + 1).to_string();
        let request = Request {
            command: Command::Named("ZRANGEBYLEX"),
            keys: &[&list],
            arguments: &[&first, b"+", b"LIMIT", b"0", count.as_bytes()],
        };
        let operation = Operation::repeatable(Access::Read, request, 0);
        let Value::Array(found) = self.client.perform(operation, deadline).await? else {
            return Err(nonsense());
        };
        let mut entries = entries(&found);
        let next = page.cut(&mut entries, |last| Some(last.key));
        let looked_at = self.look(owner, &entries, now, deadline).await?;
        let mut ended = Vec::new();
        let mut sessions = Vec::new();
        for (entry, seen) in entries.iter().zip(looked_at) {
            match seen {
                Seen::Live(summary) => sessions.push(summary),
                Seen::Ended => ended.push(*entry),
                Seen::Other => {}
            }
        }
        self.drop_entries(owner.as_bytes(), &ended, deadline).await;
        Ok(Listed { sessions, next })
    }

    /// Reads the sessions of these entries, each at its server.
    async fn look(
        &self,
        owner: &str,
        entries: &[Entry],
        now: Timestamp,
        deadline: Instant,
    ) -> Result<Vec<Seen>, Error> {
        let end = (stored::LISTED - 1).to_string();
        let looks = entries.iter().map(async |entry| {
            let name = self.name(&entry.key);
            let request = Request {
                command: Command::Named("GETRANGE"),
                keys: &[&name],
                arguments: &[b"0", end.as_bytes()],
            };
            let operation = Operation::repeatable(Access::Read, request, lane(&entry.key));
            let summary = match self.client.perform(operation, deadline).await {
                Ok(Value::BulkString(bytes)) => stored::summary(&bytes, entry.key, owner),
                Ok(_) | Err(Error::Unreadable { .. }) => None,
                Err(error) => return Err(error),
            };
            let margin = self.config().ttl_margin;
            let is_stale = u64::from_be_bytes(entry.stamp) < self.stale(now);
            Ok(match summary {
                Some(summary) if now < summary.expires => Seen::Live(summary),
                Some(summary) if summary.expires.saturating_add(margin) <= now => Seen::Ended,
                // It may be about to be stored, because in a cluster entries are made first.
                None if is_stale => Seen::Ended,
                _ => Seen::Other,
            })
        });
        join_all(looks).await.into_iter().collect()
    }

    /// Updates owners' lists after a session was written. The session itself is stored, so a failure here is only
    /// logged: lists skip a surplus entry until it is removed, and the next touch makes the entry of a list that has
    /// expired.
    async fn tidy(
        &self,
        key: &SessionKey,
        owner: Option<&[u8]>,
        done: Done,
        now: Timestamp,
        deadline: Instant,
    ) {
        if let Some((owner, stamp)) = &done.left {
            self.drop_entries(owner, &[Entry { key: *key, stamp: *stamp }], deadline).await;
        }
        if let (Some((owner, stamp)), Some(expires)) = (&done.outlived, done.expires) {
            let entry = ListEntry {
                list: self.list_name(owner),
                stamp: *stamp,
                ttl: self.ttl(expires.saturating_add(COVER), now),
                stale: [0; 8],
            };
            if let Err(error) = entry.make(self, key, deadline).await {
                tracing::debug!(%key, %error, "the list of an owner's sessions may end too early");
            }
        }
        if let Some(owner) = owner.and_then(|owner| std::str::from_utf8(owner).ok())
            && !done.old.is_empty()
            && let Ok(seen) = self.look(owner, &done.old, now, deadline).await
        {
            let ended = done.old.iter().zip(seen);
            let ended = ended.filter(|(_, seen)| matches!(seen, Seen::Ended));
            let ended: Vec<Entry> = ended.map(|(entry, _)| *entry).collect();
            self.drop_entries(owner.as_bytes(), &ended, deadline).await;
        }
    }

    /// Removes entries from an owner's list. An entry that was made again meanwhile has another stamp and stays.
    async fn drop_entries(&self, owner: &[u8], entries: &[Entry], deadline: Instant) {
        if entries.is_empty() {
            return;
        }
        let list = self.list_name(owner);
        let entries: Vec<_> = entries.iter().map(Entry::bytes).collect();
        let entries: Vec<&[u8]> = entries.iter().map(|entry| &entry[..]).collect();
        let request =
            Request { command: Command::Named("ZREM"), keys: &[&list], arguments: &entries };
        let operation = Operation::repeatable(Access::Write, request, 0);
        if let Err(error) = self.client.perform(operation, deadline).await {
            tracing::debug!(%error, "entries of sessions that ended stay in an owner's list");
        }
    }

    /// The entry that a session with this owner and mark is to have in the owner's list.
    fn entry(&self, owner: Option<&str>, mark: Option<&Mark>, now: Timestamp) -> Option<ListEntry> {
        let mark = mark?;
        Some(ListEntry {
            list: self.list_name(owner?.as_bytes()),
            stamp: mark.stamp,
            ttl: self.ttl(mark.cover, now),
            stale: self.stale(now).to_be_bytes(),
        })
    }
}

/// An entry that is to be made in an owner's list.
struct ListEntry {
    list: Vec<u8>,
    stamp: [u8; 8],
    ttl: String,
    stale: [u8; 8],
}

impl ListEntry {
    /// Lets the script that writes the session make the entry. In a cluster, where the list may be at another server,
    /// makes the entry now, before the session is written.
    async fn beside<'a>(
        &'a self,
        provider: &RedisProvider,
        key: &'a SessionKey,
        deadline: Instant,
        keys: &mut Vec<&'a [u8]>,
        arguments: &mut Vec<&'a [u8]>,
    ) -> Result<Vec<Entry>, Error> {
        if provider.client.is_one_server() {
            keys.push(&self.list);
            arguments.extend(self.arguments(key));
            return Ok(Vec::new());
        }
        // If this fails, nothing of the session was written.
        match self.make(provider, key, deadline).await {
            Err(Error::InDoubt { source }) => Err(Error::Unavailable { source }),
            made => made,
        }
    }

    async fn make(
        &self,
        provider: &RedisProvider,
        key: &SessionKey,
        deadline: Instant,
    ) -> Result<Vec<Entry>, Error> {
        let request = Request {
            command: Command::Script(&script::ENTER),
            keys: &[&self.list],
            arguments: &self.arguments(key),
        };
        let operation = Operation::repeatable(Access::Write, request, lane(key));
        let reply = provider.client.perform(operation, deadline).await?;
        Ok(done(reply, Error::Gone)?.old)
    }

    fn arguments<'a>(&'a self, key: &'a SessionKey) -> [&'a [u8]; 4] {
        [key.as_bytes(), &self.stamp, self.ttl.as_bytes(), &self.stale]
    }
}

/// What an entry of an owner's list stands for.
enum Seen {
    Live(Summary),
    /// A session that ended so long ago that every server knows.
    Ended,
    /// A session that ended just now, or isn't stored yet, or has another owner.
    Other,
}

/// Keys are random, so their operations spread over the connections.
fn lane(key: &SessionKey) -> usize {
    key.as_bytes()[0].into()
}

fn times(mode: &[u8], touch: Touch) -> Vec<u8> {
    [mode, &stored::time(touch.used), &stored::time(touch.expires)].concat()
}

fn nonsense() -> Error {
    Error::unavailable("the server's answer makes no sense")
}

fn entries(values: &[Value]) -> Vec<Entry> {
    let entry = |value: &Value| match value {
        Value::BulkString(bytes) => Entry::parse(bytes),
        _ => None,
    };
    values.iter().filter_map(entry).collect()
}

/// Reads what a script that writes replied: `refused` if it has not.
fn done(reply: Value, refused: Error) -> Result<Done, Error> {
    let nonsense = || Error::in_doubt("the server's answer makes no sense");
    let parts = match reply {
        Value::Int(0) => return Err(refused),
        Value::Int(1) => return Ok(Done::default()),
        Value::Array(parts) => parts,
        _ => return Err(nonsense()),
    };
    let bytes = |at: usize| match parts.get(at) {
        Some(Value::BulkString(bytes)) => &bytes[..],
        _ => &[],
    };
    let entry = |at: usize| -> Option<(Vec<u8>, [u8; 8])> {
        Some((bytes(at).to_vec(), bytes(at + 1).try_into().ok()?))
    };
    let (Some(Value::Int(1)), Some(Value::Array(old))) = (parts.first(), parts.get(1)) else {
        return Err(nonsense());
    };
    let expires = bytes(6).try_into().ok().map(u64::from_be_bytes).map(Timestamp::from_millis);
    Ok(Done { old: entries(old), left: entry(2), outlived: entry(4), expires })
}

impl Provider for RedisProvider {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            self.insert(id.key(), record, now).await?;
            Ok(None)
        })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        ProviderFuture::boxed(self.fetch(token.key(), now))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            self.merge(token.key(), holder, changes, now).await?;
            Ok(None)
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            self.extend(token.key(), touch, now).await?;
            Ok(None)
        })
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        ProviderFuture::boxed(self.remove(*key, now))
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        ProviderFuture::boxed(self.page(owner, page, now))
    }

    /// Not known: the server keeps no number of them, and to count them all keys would have to be read.
    fn count(&self, _now: Timestamp) -> Answer<'_, u64> {
        ProviderFuture::ready(Err(Error::Unsupported { what: "count" }))
    }

    /// The server's own job.
    fn purge(&self, _now: Timestamp, _limit: usize) -> Result<Purged, Error> {
        Ok(Purged::default())
    }
}
