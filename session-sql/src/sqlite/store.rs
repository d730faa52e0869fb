//! [`Store`]: the database's file, and the statements on it.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use session_core::provider::{Changes, ExpiryChange, Listed, Page, Record, Touch, Verifier};
use session_core::{Error, SessionKey, Timestamp};
use sqlx::sqlite::{Sqlite, SqliteConnectOptions, SqliteConnection, SqliteRow, SqliteSynchronous};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, Row as _};

use super::{Durability, SqliteConfig, failure, schema, values};
use crate::TableName;
use crate::pool::{Connect, Pool};
use crate::row::{self, MAX_BYTES, RECORD, check_size};
use crate::time::to_column;
use crate::worker::Doubt;

/// How many connections read at a time.
const READERS: usize = 4;

/// The database: SQLite lets one connection write at a time, and others read meanwhile.
pub(crate) struct Store {
    pub(crate) config: SqliteConfig,
    /// One connection, so that the process's own writes queue in order.
    writer: Pool<File>,
    readers: Pool<File>,
}

/// The database's file.
struct File {
    path: PathBuf,
    options: SqliteConnectOptions,
}

/// A connection, and which file it has open.
struct Opened {
    connection: SqliteConnection,
    identity: Identity,
}

impl Connect for File {
    type Connection = Opened;

    async fn connect(&self) -> Result<Opened, sqlx::Error> {
        let identity = Identity::of(&self.path)?;
        let connection = self.options.connect().await?;
        match Identity::of(&self.path)? == identity {
            true => Ok(Opened { connection, identity }),
            false => Err(std::io::Error::other("the file was replaced meanwhile").into()),
        }
    }

    /// Returns false if the file was removed or replaced. SQLite would go on with the old one, which nobody finds any
    /// more.
    async fn is_usable(&self, opened: &mut Opened, _: bool) -> bool {
        Identity::of(&self.path).is_ok_and(|identity| identity == opened.identity)
    }
}

/// Which file is at a path.
#[derive(PartialEq, Eq)]
struct Identity {
    /// The device and the inode. Systems other than Unix don't let anybody remove an open file.
    #[cfg(unix)]
    number: (u64, u64),
}

impl Identity {
    fn of(path: &Path) -> std::io::Result<Self> {
        let found = std::fs::metadata(path)?;
        if !found.is_file() {
            return Err(ErrorKind::InvalidInput.into());
        }
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt as _;
        Ok(Self {
            #[cfg(unix)]
            number: (found.dev(), found.ino()),
        })
    }
}

/// A change of the table, which is one transaction.
pub(crate) enum Change {
    Create { key: SessionKey, record: Record, now: Timestamp },
    Save { key: SessionKey, holder: Verifier, changes: Changes, now: Timestamp },
    Touch { key: SessionKey, touch: Touch, now: Timestamp },
    Destroy { key: SessionKey },
    Purge { now: Timestamp, limit: usize },
}

impl Store {
    pub(crate) fn new(config: SqliteConfig) -> Self {
        let synchronous = match config.sync {
            Durability::Full => SqliteSynchronous::Full,
            Durability::None => SqliteSynchronous::Normal,
        };
        let options = SqliteConnectOptions::new()
            .filename(&config.path)
            .synchronous(synchronous)
            .busy_timeout(config.operation_timeout)
            .disable_statement_logging();
        let file = || File { path: config.path.clone(), options: options.clone() };
        let pool = |most| Pool::new(file(), most);
        Self { writer: pool(1), readers: pool(READERS), config }
    }

    /// Creates the file and the table if they are missing.
    ///
    /// # Errors
    /// [`Error::Config`] if the file or the table can't be used; [`Error::Unavailable`] if a later attempt may succeed.
    pub(crate) async fn open(&self) -> Result<(), Error> {
        check_place(&self.config.path)?;
        make_file(&self.config.path)?;
        let mut writer = self.writer.lend().await.map_err(|error| failure::at_open(&error))?;
        let connection = &mut writer.connection().connection;
        set_wal(connection).await?;
        schema::prepare(connection, &self.config.table).await?;
        writer.give_back();
        Ok(())
    }

    /// Makes a change. Returns how many rows it changed.
    ///
    /// If the future is dropped half-way, the connection is closed, and SQLite rolls the transaction back.
    pub(crate) async fn change(&self, change: &Change, doubt: &Doubt) -> Result<u64, Error> {
        let mut writer = self.writer.lend().await.map_err(|error| failure::unavailable(&error))?;
        // With the lock for writing from the beginning: a transaction that reads first may be refused the lock later.
        let begun = writer.connection().connection.begin_with("BEGIN IMMEDIATE").await;
        let mut transaction = begun.map_err(|error| failure::unavailable(&error))?;
        let made = change.make(&mut transaction, &self.config.table).await;
        match made {
            Ok(_) => {
                doubt.set(true);
                let committed = transaction.commit().await;
                doubt.set(false);
                committed.map_err(|error| failure::of_commit(&error))?;
            }
            Err(Error::Gone | Error::Conflict | Error::TooLarge { .. }) => {
                let undone = transaction.rollback().await;
                undone.map_err(|error| failure::unavailable(&error))?;
            }
            Err(error) => return Err(error),
        }
        writer.give_back();
        made
    }

    /// Reads the record, if it is live.
    pub(crate) async fn load(
        &self,
        key: SessionKey,
        now: Timestamp,
    ) -> Result<Option<Record>, Error> {
        let mut rows = self.read(select(&self.config.table, &key, now)).await?;
        rows.pop().map(|row| values::record(&row)).transpose()
    }

    /// Reads a page of an owner's sessions.
    pub(crate) async fn list(
        &self,
        owner: &str,
        page: Page,
        now: Timestamp,
    ) -> Result<Listed, Error> {
        let list = Statement::list(&self.config.table, owner, page);
        Ok(row::listed(self.read(list).await?, page, now))
    }

    /// Counts the live sessions.
    pub(crate) async fn count(&self, now: Timestamp) -> Result<u64, Error> {
        let rows = self.read(Statement::count(&self.config.table, now)).await?;
        let number = rows.first().and_then(|row| row.try_get::<i64, _>(0).ok());
        Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    }

    async fn read(&self, statement: Statement) -> Result<Vec<SqliteRow>, Error> {
        let mut reader = self.readers.lend().await.map_err(|error| failure::unavailable(&error))?;
        let rows = statement.rows(&mut reader.connection().connection).await?;
        reader.give_back();
        Ok(rows)
    }
}

impl Change {
    /// Makes the change within a transaction; returns how many rows it changed.
    async fn make(
        &self,
        transaction: &mut SqliteConnection,
        table: &TableName,
    ) -> Result<u64, Error> {
        match self {
            Self::Create { key, record, now } => {
                insert(table, key, record, *now)?.execute(transaction).await
            }
            Self::Save { key, holder, changes, now } => {
                let mut stored = Stored::read(transaction, table, key, *now).await?;
                stored.record.apply(holder, changes, *now)?;
                check_size(stored.record.values.size())?;
                stored.write(table, key, changes, *now).execute(transaction).await
            }
            Self::Touch { key, touch, now } => {
                let mut stored = Stored::read(transaction, table, key, *now).await?;
                stored.record.touch(*touch, *now)?;
                let changes = Changes::new().with_expiry(ExpiryChange::Extend(*touch));
                stored.write(table, key, &changes, *now).execute(transaction).await
            }
            Self::Destroy { key } => Statement::destroy(table, key).execute(transaction).await,
            Self::Purge { now, limit } => {
                let mut delete = Statement::new();
                let expired = delete.expired(table, *now, *limit);
                delete.text = format!("DELETE FROM {table} WHERE key IN ({expired})");
                delete.execute(transaction).await
            }
        }
    }
}

/// A live record as a change finds it.
struct Stored {
    record: Record,
    /// The column that the index of expiry is on.
    due: i64,
}

impl Stored {
    /// Reads the record. A damaged one counts as gone.
    async fn read(
        transaction: &mut SqliteConnection,
        table: &TableName,
        key: &SessionKey,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let rows = select(table, key, now).rows(transaction).await?;
        let row = rows.first().ok_or(Error::Gone)?;
        let record = values::record(row).map_err(|_| Error::Gone)?;
        let due = row.try_get(10).map_err(|_| Error::Gone)?;
        Ok(Self { record, due })
    }

    /// Writes back what these changes have changed.
    fn write(
        &self,
        table: &TableName,
        key: &SessionKey,
        changes: &Changes,
        now: Timestamp,
    ) -> Statement {
        let record = &self.record;
        let expires = to_column(record.expires);
        let mut update = Statement::new();
        let mut set = vec![
            format!("used = {}", update.bind_time(record.used)),
            format!("expires = {}", update.bind(expires)),
        ];
        // Only `due` is indexed, and it moves once in an eighth of the session's life.
        let (now, left) = (to_column(now), expires.saturating_sub(to_column(now)));
        let is_near = self.due <= expires && self.due.saturating_sub(now) >= left / 8 * 7;
        if !is_near {
            set.push(format!("due = {}", update.bind(expires)));
        }
        if !changes.is_empty() {
            set.push(format!("data = {}", update.bind(values::encode(&record.values))));
        }
        if changes.login.is_some() {
            let login = update.login(record.login.as_deref());
            set.extend(login.into_iter().map(|(name, value)| format!("{name} = {value}")));
        }
        if changes.secret.is_some() {
            set.push(format!("holder = {}", update.bind(&record.holder.as_bytes()[..])));
            set.push(format!("renewed = {}", update.bind_time(record.renewed)));
        }
        if changes.cookie.is_some() {
            set.push(format!("cookie = {}", update.bind(i64::from(record.cookie))));
        }
        let key = update.bind_key(key);
        update.text = format!("UPDATE {table} SET {} WHERE key = {key}", set.join(", "));
        update
    }
}

/// Inserts a record, or replaces an expired one. Changes no row if a live one has the key.
fn insert(
    table: &TableName,
    key: &SessionKey,
    record: &Record,
    now: Timestamp,
) -> Result<Statement, Error> {
    check_size(record.values.size())?;
    let mut s = Statement::new();
    let mut columns = s.record(key, record);
    columns.push(("data", s.bind(values::encode(&record.values))));
    let now = s.bind_time(now);
    s.insert(table, &columns, &now, |name| format!("excluded.{name}"));
    Ok(s)
}

/// Returns the record of a live session, and `due`.
fn select(table: &TableName, key: &SessionKey, now: Timestamp) -> Statement {
    let mut s = Statement::new();
    let (key, now) = (s.bind_key(key), s.bind_time(now));
    let most = 2 * MAX_BYTES;
    s.text = format!(
        "SELECT {RECORD}, CASE WHEN length(data) <= {most} THEN data END, due \
         FROM {table} WHERE key = {key} AND expires > {now}"
    );
    s
}

/// A statement for SQLite.
type Statement = crate::statement::Statement<Sqlite>;

impl Statement {
    /// Runs it; returns how many rows it changed.
    async fn execute(self, connection: &mut SqliteConnection) -> Result<u64, Error> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        let done = query.execute(connection).await;
        done.map(|done| done.rows_affected()).map_err(|error| failure::unavailable(&error))
    }

    /// Runs it; returns the rows that it returns.
    async fn rows(self, connection: &mut SqliteConnection) -> Result<Vec<SqliteRow>, Error> {
        let query = sqlx::query_with(AssertSqlSafe(self.text), self.arguments);
        query.fetch_all(connection).await.map_err(|error| failure::unavailable(&error))
    }
}

/// Checks that nothing but a file is at a path, and that not everybody can write in its directory.
fn check_place(path: &Path) -> Result<(), Error> {
    // SQLite puts its other files beside the target of a link.
    let place = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    // Reading from a pipe or a device may never end.
    if std::fs::metadata(&place).is_ok_and(|found| !found.is_file()) {
        return Err(Error::config("what path names is not a file"));
    }
    #[cfg(unix)]
    if let Some(Ok(folder)) = place.parent().map(std::fs::metadata)
        && std::os::unix::fs::PermissionsExt::mode(&folder.permissions()) & 0o002 != 0
    {
        return Err(Error::config(
            "everybody can write in the directory of the file that path names, and could put another file in its \
             place; make a directory for it",
        ));
    }
    Ok(())
}

/// Creates the file if it is missing, with permissions for its user only. SQLite gives the files beside it the same
/// permissions.
fn make_file(path: &Path) -> Result<(), Error> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            Err(Error::Full { what: "space on the disk" })
        }
        Err(error) => Err(Error::config(format_args!(
            "the file that path names can't be made: {error}; its directory must be there"
        ))),
    }
}

/// Sets the write-ahead mode, in which readers don't wait for writers. The file keeps the mode.
async fn set_wal(connection: &mut SqliteConnection) -> Result<(), Error> {
    loop {
        let set = sqlx::query("PRAGMA journal_mode = wal").fetch_one(&mut *connection).await;
        match set.and_then(|row| row.try_get::<String, _>(0)) {
            Ok(mode) if mode == "wal" => return Ok(()),
            Ok(_) => {
                return Err(Error::config(
                    "SQLite can't keep a write-ahead log for the file that path names; is it on a file \
                     system of this machine?",
                ));
            }
            // SQLite does not wait for others here. The operation's time limit ends the loop.
            Err(error) if failure::code(&error) == Some(failure::BUSY) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Err(error) => return Err(failure::at_open(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use session_core::SessionId;

    use super::*;

    /// A connection's limit on pages is to SQLite what a full disk is.
    #[test]
    fn without_space_nothing_is_written_and_reading_works() {
        let folder =
            std::env::temp_dir().join(format!("session-sqlite-full-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::new(SqliteConfig::new(folder.join("sessions.db")));
            store.open().await.unwrap();
            let (doubt, id) = (Doubt::default(), SessionId::generate().unwrap());
            let [now, expires] = [1, 2].map(Timestamp::from_millis);
            let holder = Verifier::digest(&id, "");
            let record = Record::new(holder, now, expires);
            store.change(&Change::Create { key: id.key(), record, now }, &doubt).await.unwrap();
            let limit = async |pages: u32| {
                let mut writer = store.writer.lend().await.unwrap();
                let limit = format!("PRAGMA max_page_count = {pages}");
                sqlx::raw_sql(AssertSqlSafe(limit))
                    .execute(&mut writer.connection().connection)
                    .await
                    .unwrap();
                writer.give_back();
            };
            let save = |value: usize| {
                let mut changes = Changes::new();
                changes.set("a", vec![7; value]);
                Change::Save { key: id.key(), holder, changes, now }
            };
            // As many as there are.
            limit(1).await;
            let saved = store.change(&save(60_000), &doubt).await;
            assert!(matches!(saved, Err(Error::Full { .. })), "{saved:?}");
            assert!(!doubt.get(), "nothing was written");
            let loaded = store.load(id.key(), now).await.unwrap().expect("it is there");
            assert_eq!(loaded.values.len(), 0);
            // The connection that failed was closed, and with it the limit.
            store.change(&save(60_000), &doubt).await.unwrap();
            limit(1).await;
            store.change(&save(10), &doubt).await.expect("what takes no more space is saved");
        });
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
