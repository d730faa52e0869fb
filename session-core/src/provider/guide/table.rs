use std::fmt;
use std::future::Future;

use session_core::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};

/// Made once, by an administrator or when the provider is opened. Times are milliseconds. The columns beside
/// `record` are what statements look at; the two times count, those in `record` are out of date. The owner is bytes,
/// as a text has no NUL in some databases, and equals other texts in many.
pub const TABLE: &str = "
    CREATE TABLE session (
        key BYTEA PRIMARY KEY, version BIGINT NOT NULL, used BIGINT NOT NULL, expires BIGINT NOT NULL,
        owner BYTEA, record BYTEA NOT NULL
    );
    CREATE INDEX session_expires ON session (expires);
    CREATE INDEX session_owner ON session (owner, key) WHERE owner IS NOT NULL";

/// An expired record of the same key is no obstacle; a live one is: no row is changed then.
pub const INSERT: &str = "
    INSERT INTO session (key, version, used, expires, owner, record) VALUES ($1, 1, $2, $3, $4, $5)
    ON CONFLICT (key) DO UPDATE SET version = session.version + 1, used = $2, expires = $3,
        owner = $4, record = $5 WHERE session.expires <= $6";

pub const SELECT: &str =
    "SELECT key, version, used, expires, record FROM session WHERE key = $1 AND expires > $2";

/// Changes the row only if nobody else has changed it since it was read.
pub const UPDATE: &str = "
    UPDATE session SET version = version + 1, used = $3, expires = $4, owner = $5, record = $6
    WHERE key = $1 AND version = $2";

/// Does not read the record. The version changes, so that no save restores older times.
pub const TOUCH: &str = "
    UPDATE session SET version = version + 1, used = greatest(used, $2), expires = greatest(expires, $3)
    WHERE key = $1 AND expires > $4";

pub const DELETE: &str = "DELETE FROM session WHERE key = $1";

pub const LIST: &str = "
    SELECT key, version, used, expires, record FROM session WHERE owner = $1 AND key > $2
    ORDER BY key LIMIT $3";

pub const COUNT: &str = "SELECT count(*) FROM session WHERE expires > $1";

/// The condition is repeated, so that a session that was touched meanwhile is not removed.
pub const PURGE: &str = "
    DELETE FROM session WHERE expires <= $1
    AND key IN (SELECT key FROM session WHERE expires <= $1 ORDER BY expires LIMIT $2)";

/// The client of the database. Each statement is a transaction of its own.
pub trait Database: Send + Sync + fmt::Debug + 'static {
    /// Runs a statement that writes; returns how many rows it changed.
    fn execute(
        &self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Runs a statement that reads rows.
    fn query(
        &self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<Vec<Row>, Failure>> + Send;

    /// Runs a statement that counts.
    fn count(
        &self,
        statement: &'static str,
        values: Vec<Value>,
    ) -> impl Future<Output = Result<u64, Failure>> + Send;

    /// Runs a future to its end on the client's own runtime, from a thread that has none.
    fn block_on<T>(&self, future: impl Future<Output = T>) -> T;
}

/// A parameter of a statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Number(u64),
    Bytes(Vec<u8>),
}

/// A row as the statements that read select it.
#[derive(Clone, Debug)]
pub struct Row {
    pub key: SessionKey,
    pub version: u64,
    pub used: Timestamp,
    pub expires: Timestamp,
    pub record: Vec<u8>,
}

/// How a statement fails.
#[derive(Debug)]
pub enum Failure {
    /// The server was not reached, or has refused the statement as a whole.
    NotDone(String),
    /// The connection was lost, or the time was over, after the statement was sent.
    NoAnswer(String),
}

fn of_read(failure: Failure) -> Error {
    let (Failure::NotDone(cause) | Failure::NoAnswer(cause)) = failure;
    Error::unavailable(cause)
}

fn of_write(failure: Failure) -> Error {
    match failure {
        Failure::NoAnswer(cause) => Error::in_doubt(cause),
        other => of_read(other),
    }
}

impl Row {
    fn record(&self) -> Result<Record, Error> {
        let record = Record::from_bytes(&self.record)?;
        Ok(Record { used: self.used, expires: self.expires, ..record })
    }
}

/// Returns an instant as a number that fits the database: 2^63 - 1 for all later instants.
fn time(time: Timestamp) -> Value {
    Value::Number(time.as_millis().min(i64::MAX as u64))
}

fn key(key: SessionKey) -> Value {
    Value::Bytes(key.as_bytes().into())
}

/// Returns the columns of a record, in the order of the parameters.
fn columns(record: &Record) -> [Value; 4] {
    let owner = record.owner().map_or(Value::Null, |owner| Value::Bytes(owner.into()));
    [time(record.used), time(record.expires), owner, Value::Bytes(record.to_bytes())]
}

/// Keeps each session as one row.
#[derive(Debug)]
pub struct TableProvider<D> {
    database: D,
}

impl<D: Database> TableProvider<D> {
    /// Returns a provider that connects when it is first used.
    pub fn new(database: D) -> Self {
        Self { database }
    }

    /// Returns the live row of a session.
    async fn row(&self, session: SessionKey, now: Timestamp) -> Result<Option<Row>, Error> {
        let rows = self.database.query(SELECT, vec![key(session), time(now)]).await;
        Ok(rows.map_err(of_read)?.pop())
    }
}

impl<D: Database> Provider for TableProvider<D> {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let mut values = vec![key(id.key())];
        values.extend(columns(&record));
        values.push(time(now));
        ProviderFuture::boxed(async move {
            match self.database.execute(INSERT, values).await.map_err(of_write)? {
                0 => Err(Error::Exists),
                _ => Ok(None),
            }
        })
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        ProviderFuture::boxed(async move {
            let row = self.row(token.key(), now).await?;
            row.map(|row| row.record()).transpose()
        })
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        ProviderFuture::boxed(async move {
            loop {
                let row = self.row(token.key(), now).await?.ok_or(Error::Gone)?;
                let mut record = row.record().map_err(|_| Error::Gone)?;
                record.apply(holder, changes, now)?;
                let mut values = vec![key(token.key()), Value::Number(row.version)];
                values.extend(columns(&record));
                // No row: another write was faster, so everything is checked again.
                if self.database.execute(UPDATE, values).await.map_err(of_write)? > 0 {
                    return Ok(None);
                }
            }
        })
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let values = vec![key(token.key()), time(touch.used), time(touch.expires), time(now)];
        ProviderFuture::boxed(async move {
            match self.database.execute(TOUCH, values).await.map_err(of_write)? {
                0 => Err(Error::Gone),
                _ => Ok(None),
            }
        })
    }

    fn destroy<'a>(
        &'a self,
        session: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        ProviderFuture::boxed(async move {
            self.database.execute(DELETE, vec![key(*session)]).await.map_err(of_write)?;
            Ok(())
        })
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        // Before the first key there is the empty one.
        let after = page.after.map_or(Value::Bytes(Vec::new()), key);
        // One more, to know whether there are more.
        let limit = Value::Number(page.size() as u64 + 1);
        let values = vec![Value::Bytes(owner.into()), after, limit];
        ProviderFuture::boxed(async move {
            let mut rows = self.database.query(LIST, values).await.map_err(of_read)?;
            let next = page.cut(&mut rows, |row| Some(row.key));
            let live = rows.iter().filter(|row| row.expires > now);
            // An unreadable record is skipped.
            let sessions = live.filter_map(|row| row.record().ok()?.summary(row.key)).collect();
            Ok(Listed { sessions, next })
        })
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        ProviderFuture::boxed(async move {
            self.database.count(COUNT, vec![time(now)]).await.map_err(of_read)
        })
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let values = vec![time(now), Value::Number(limit as u64)];
        let removed = self.database.block_on(self.database.execute(PURGE, values));
        let removed = removed.map_err(of_write)? as usize;
        Ok(Purged { removed, more: removed == limit })
    }
}
