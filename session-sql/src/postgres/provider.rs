//! The provider: its operations, as statements.

use std::fmt;
use std::sync::Arc;

use session_core::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp};
use sqlx::Row as _;
use sqlx::postgres::{PgPool, PgRow};
use tokio::runtime::Handle;

use super::connections::{Connections, Hosts};
use super::statement::{self, Statement, verdict};
use super::store::{Access, Store};
use super::{PostgresConfig, values};
use crate::TableName;
use crate::pool::Pool;
use crate::row::{self, MAX_BYTES, check_size};
use crate::worker::{Doubt, Worker};

/// How many rows a collection deletes in one statement at most, whatever limit the caller gives.
const DELETED_AT_ONCE: usize = 1000;

/// Keeps sessions in a table of PostgreSQL, for any number of servers.
///
/// Each operation on a session is one statement on one row, so PostgreSQL makes it atomic.
pub struct PostgresProvider {
    store: Arc<Store>,
    worker: Worker,
}

impl PostgresProvider {
    /// Makes a provider. It connects when it is first used, so the server may be down now.
    ///
    /// # Errors
    /// [`Error::Config`] if the configuration names no server, or a number is out of range;
    /// [`Error::Unavailable`] if the operating system has no threads left.
    pub fn new(config: PostgresConfig) -> Result<Self, Error> {
        config.check()?;
        if config.hosts.is_empty() {
            return Err(Error::config("the configuration names no PostgreSQL server"));
        }
        let pool = Pool::new(Hosts::new(&config), config.max_connections);
        let worker = Worker::new("session-postgres", config.operation_timeout)?;
        Ok(Self { store: Arc::new(Store::new(config, Connections::Own(pool))), worker })
    }

    /// Makes a provider on a pool that the application already has, and shares its connections. The pool must be one of
    /// [`crate::sqlx`], which is the driver's version here. Operations run on the tokio runtime of the caller, which
    /// must be the one that the pool is used on.
    ///
    /// The pool's own options decide how many connections there are, how they are made and whether they are tested. By
    /// default, the driver tests a connection before each use, which is one more round trip. Of the configuration, the
    /// table, the time limit and `pooler` are used; see [`PostgresConfig::of_table`]. If a statement takes longer than
    /// the time limit, its connection returns to the pool when the server has ended the statement. So give connections
    /// a `statement_timeout`.
    ///
    /// [`Manager::collect`](session_core::Manager::collect) blocks its thread. On a thread that runs tasks of this
    /// runtime it would wait for itself, and fails with [`Error::Unavailable`] after the time limit.
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use session_core::Manager;
    /// use session_sql::postgres::{PostgresConfig, PostgresProvider};
    /// use session_sql::sqlx::PgPool;
    ///
    /// # async fn f() -> Result<(), Box<dyn std::error::Error>> {
    /// let pool = PgPool::connect("postgres://app:secret@db/shop").await?;
    /// let config = PostgresConfig::of_table("sessions".parse()?);
    /// let provider = PostgresProvider::with_pool(pool.clone(), config)?;
    /// let manager = Manager::builder().with_provider(Arc::new(provider)).build()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if it is called outside of a tokio runtime, or if a number is out of range.
    pub fn with_pool(pool: PgPool, config: PostgresConfig) -> Result<Self, Error> {
        config.check()?;
        let handle = Handle::try_current().map_err(|_| {
            Error::config("a pool must be handed over within the tokio runtime that it is used on")
        })?;
        let worker = Worker::on(handle, config.operation_timeout);
        Ok(Self { store: Arc::new(Store::new(config, Connections::Applications(pool))), worker })
    }

    /// The configuration that the provider was made with.
    pub fn config(&self) -> &PostgresConfig {
        &self.store.config
    }

    /// Runs one statement.
    async fn run(
        &self,
        access: Access,
        statement: impl Fn(&TableName, bool) -> Statement + Send + Sync + 'static,
    ) -> Result<Vec<PgRow>, Error> {
        let store = Arc::clone(&self.store);
        let operation = |doubt: Doubt| async move {
            let statement = |again| statement(&store.config.table, again);
            store.run(access, &doubt, statement).await
        };
        self.worker.perform(operation).await
    }

    async fn insert(&self, key: SessionKey, record: Record, now: Timestamp) -> Result<(), Error> {
        check_size(record.values.size())?;
        let create =
            move |table: &TableName, again| statement::create(table, &key, &record, now, again);
        let rows = self.run(Access::Repeatable, create).await?;
        if rows.is_empty() { Err(Error::Exists) } else { Ok(()) }
    }

    async fn merge(
        &self,
        key: SessionKey,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        let set = changes.iter().filter_map(|(key, value)| Some(key.len() + value?.len()));
        check_size(set.sum())?;
        let (store, holder, changes) = (Arc::clone(&self.store), *holder, changes.clone());
        let operation =
            |doubt: Doubt| async move { save(&store, &doubt, key, holder, &changes, now).await };
        self.worker.perform(operation).await
    }

    async fn page(&self, owner: &str, page: Page, now: Timestamp) -> Result<Listed, Error> {
        let owner = owner.to_owned();
        let list = move |table: &TableName, _| Statement::list(table, &owner, page);
        Ok(row::listed(self.run(Access::Read, list).await?, page, now))
    }
}

/// Saves under the holder that the request loaded. If an earlier attempt has already set the new holder, saves under
/// that one.
///
/// These are two statements, so that a late first one can't undo what was saved since: it finds that the old holder is
/// no longer the holder.
async fn save(
    store: &Store,
    doubt: &Doubt,
    key: SessionKey,
    old: Verifier,
    changes: &Changes,
    now: Timestamp,
) -> Result<(), Error> {
    let table = &store.config.table;
    let mut holder = old;
    loop {
        let access = match &changes.secret {
            Some(new) if new.holder != holder => Access::Repeatable,
            _ => Access::Once,
        };
        // An earlier attempt of this save has met the expectations, and has changed the values that they are about.
        // Nobody can have saved anything since, because no client has the new secret yet.
        let expectations = holder == old || !doubt.get();
        let save = |_| statement::save(table, &key, &holder, changes, now, expectations);
        let rows = store.run(access, doubt, save).await?;
        let large = |what, limit| Err(Error::TooLarge { what, limit });
        match (number(&rows).and_then(|verdict| i32::try_from(verdict).ok()), &changes.secret) {
            (Some(verdict::SAVED), _) => return Ok(()),
            (Some(verdict::GONE), _) => return Err(Error::Gone),
            (Some(verdict::CONFLICT), _) => return Err(Error::Conflict),
            (Some(verdict::TOO_MANY_BYTES), _) => {
                return large("session bytes", changes.limits.bytes.min(MAX_BYTES));
            }
            (Some(verdict::TOO_MANY_KEYS), _) => return large("session keys", changes.limits.keys),
            (Some(verdict::OVERTAKEN), _) => {}
            (Some(verdict::RENEWED), Some(new)) => holder = new.holder,
            _ => return Err(Error::in_doubt("the database's answer makes no sense")),
        }
    }
}

/// The number that a statement returned.
fn number(rows: &[PgRow]) -> Option<i64> {
    let row = rows.first()?;
    row.try_get::<i64, _>(0).ok().or_else(|| row.try_get::<i32, _>(0).ok().map(Into::into))
}

impl Provider for PostgresProvider {
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
        let key = token.key();
        ProviderFuture::boxed(async move {
            let load = move |table: &TableName, _| statement::load(table, &key, now);
            let rows = self.run(Access::Read, load).await?;
            // Decoded here and not on the driver's runtime, where it would delay other operations.
            rows.first().map(values::record).transpose()
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
        let key = token.key();
        ProviderFuture::boxed(async move {
            let touch = move |table: &TableName, _| statement::touch(table, &key, touch, now);
            let rows = self.run(Access::Repeatable, touch).await?;
            if rows.is_empty() { Err(Error::Gone) } else { Ok(None) }
        })
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        let key = *key;
        ProviderFuture::boxed(async move {
            let destroy = move |table: &TableName, _| Statement::destroy(table, &key);
            self.run(Access::Repeatable, destroy).await?;
            Ok(())
        })
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        ProviderFuture::boxed(self.page(owner, page, now))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        ProviderFuture::boxed(async move {
            let count = move |table: &TableName, _| Statement::count(table, now);
            let rows = self.run(Access::Read, count).await?;
            Ok(number(&rows).and_then(|count| u64::try_from(count).ok()).unwrap_or(0))
        })
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        let limit = limit.clamp(1, DELETED_AT_ONCE);
        let purge = move |table: &TableName, _| statement::purge(table, now, limit);
        let rows = self.worker.block_on(self.run(Access::Repeatable, purge))?;
        let removed = number(&rows).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
        Ok(Purged { removed, more: removed >= limit })
    }
}

impl fmt::Debug for PostgresProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresProvider").field("config", self.config()).finish_non_exhaustive()
    }
}
