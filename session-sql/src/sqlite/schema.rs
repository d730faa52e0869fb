//! The table and its indexes.

use session_core::Error;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};

use super::failure;
use crate::{TableName, schema};

/// Each migration takes the schema from one version to the next, and the first from nothing to version 1. A released
/// migration is never changed.
const MIGRATIONS: [fn(&TableName) -> String; 1] = [first];

fn first(table: &TableName) -> String {
    format!(
        "CREATE TABLE {table} (
    key BLOB PRIMARY KEY NOT NULL,
    holder BLOB NOT NULL,
    created INTEGER NOT NULL,
    renewed INTEGER NOT NULL,
    used INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    due INTEGER NOT NULL,
    owner BLOB,
    authenticated INTEGER,
    label BLOB,
    cookie INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX {owner} ON {table} (owner, key) WHERE owner IS NOT NULL;
CREATE INDEX {due} ON {table} (due);
CREATE TABLE {version} (version INTEGER NOT NULL) STRICT;
INSERT INTO {version} VALUES (1);
",
        owner = table.index("owner"),
        due = table.index("due"),
        version = table.version(),
    )
}

/// Returns the statements that create the table, for applying them by hand.
#[must_use]
pub fn schema(table: &TableName) -> String {
    let steps: String = MIGRATIONS.iter().map(|step| step(table)).collect();
    format!("BEGIN;\n{steps}COMMIT;\n")
}

/// Creates the table if it is missing, or brings it to the newest version.
///
/// # Errors
/// [`Error::Config`] if that is impossible; [`Error::Unavailable`] if a later attempt may succeed.
pub(crate) async fn prepare(
    connection: &mut SqliteConnection,
    table: &TableName,
) -> Result<(), Error> {
    // With the lock for writing from the beginning, so that of two processes one waits for the other.
    let begun = connection.begin_with("BEGIN IMMEDIATE").await;
    let mut transaction = begun.map_err(|error| failure::at_open(&error))?;
    let from = version(&mut transaction, table).await?;
    let mut steps: String = MIGRATIONS[from..].iter().map(|step| step(table)).collect();
    // Changes nothing, but fails if the file can't be written, which beginning a transaction does not.
    steps += &format!("DELETE FROM {} WHERE false;", table.version());
    let made = sqlx::raw_sql(AssertSqlSafe(steps)).execute(&mut *transaction).await;
    made.map_err(|error| match failure::code(&error) {
        // Usually, another table has the name.
        Some(failure::STATEMENT) => Error::config(format_args!(
            "the table {table} can't be created; if another program has a table of this name, name another one with \
             the option `table`"
        )),
        _ => failure::at_open(&error),
    })?;
    transaction.commit().await.map_err(|error| failure::at_open(&error))
}

/// Returns the schema's version; 0 if there is none.
async fn version(connection: &mut SqliteConnection, table: &TableName) -> Result<usize, Error> {
    let is_there = async |connection: &mut SqliteConnection, table: &TableName| {
        let name = table.to_string();
        let exists =
            "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = $1 COLLATE NOCASE";
        let exists = sqlx::query(exists).bind(name.trim_matches('"').to_owned());
        let found = exists.fetch_one(connection).await.and_then(|row| row.try_get::<i64, _>(0));
        found.map(|count| count > 0).map_err(|error| failure::at_open(&error))
    };
    if !is_there(connection, &table.version()).await? {
        return Ok(0);
    }
    if !is_there(connection, table).await? {
        return Err(schema::version_alone(table));
    }
    let read = format!("SELECT max(version) FROM {}", table.version());
    let found = match sqlx::query(AssertSqlSafe(read)).fetch_one(connection).await {
        Ok(row) => row.try_get::<Option<i64>, _>(0).ok().flatten(),
        // The table has no such column, so it is another program's.
        Err(error) if failure::code(&error) == Some(failure::STATEMENT) => None,
        Err(error) => return Err(failure::at_open(&error)),
    };
    schema::version(found, MIGRATIONS.len(), table)
}
