//! The table and its indexes.

use session_core::Error;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _, Row as _};
use tracing::info;

use super::failure;
use crate::{TableName, schema};

/// Each migration takes the schema from one version to the next, and the first from nothing to version 1. A released
/// migration is never changed.
const MIGRATIONS: [fn(&TableName) -> String; 1] = [first];

/// The advisory lock for changes of the schema. The number has no meaning.
const LOCK: i64 = 0x7365_7373_696f_6e73;

fn first(table: &TableName) -> String {
    format!(
        "CREATE TABLE {table} (
    key bytea PRIMARY KEY,
    holder bytea NOT NULL,
    created bigint NOT NULL,
    renewed bigint NOT NULL,
    used bigint NOT NULL,
    expires bigint NOT NULL,
    due bigint NOT NULL,
    owner bytea,
    authenticated bigint,
    label bytea,
    cookie bigint NOT NULL,
    size integer NOT NULL,
    names bytea[] NOT NULL,
    data bytea[] NOT NULL
) WITH (fillfactor = 80);
ALTER TABLE {table} ALTER COLUMN names SET STORAGE EXTERNAL, ALTER COLUMN data SET STORAGE EXTERNAL;
CREATE INDEX {owner} ON {table} (owner, key) WHERE owner IS NOT NULL;
CREATE INDEX {due} ON {table} (due);
CREATE TABLE {version} (version integer NOT NULL);
INSERT INTO {version} VALUES (1);
",
        owner = table.index("owner"),
        due = table.index("due"),
        version = table.version(),
    )
}

/// Returns the statements that take the schema from this version to the newest.
fn migration(table: &TableName, from: usize) -> String {
    MIGRATIONS[from..].iter().map(|step| step(table)).collect()
}

/// Returns the statements that create the table, for applying them by hand. The provider's user then only needs the
/// rights to select, insert, update and delete in the table, and to select in the table of its version.
#[must_use]
pub fn schema(table: &TableName) -> String {
    format!("BEGIN;\n{}COMMIT;\n", migration(table, 0))
}

/// Creates the table if it is missing, or brings it to the newest version.
///
/// # Errors
/// [`Error::Config`] if that is impossible; [`Error::Unavailable`] if a later attempt may succeed.
pub(crate) async fn prepare(connection: &mut PgConnection, table: &TableName) -> Result<(), Error> {
    let from = version(connection, table).await?;
    if from == MIGRATIONS.len() {
        return Ok(());
    }
    let Err(error) = migrate(connection, table, from).await else {
        info!(%table, from, to = MIGRATIONS.len(), "the sessions' table was made, or brought up to date");
        return Ok(());
    };
    // Another process may have been first.
    if version(connection, table).await? == MIGRATIONS.len() {
        return Ok(());
    }
    Err(match failure::code(&error).as_deref() {
        Some("42501") => Error::config(format_args!(
            "the database user may not create the table {table}; create it with the statements that \
             session_sql::postgres::schema() returns"
        )),
        Some(code) if code.starts_with("42") || code.starts_with("3F") => {
            Error::config(format_args!(
                "the table {table} can't be created (the database answered code {code}); if another \
                 program has a table of this name, name another one with the option `table`"
            ))
        }
        _ => failure::unavailable(&error),
    })
}

/// Takes the schema from this version to the newest, in one transaction.
async fn migrate(
    connection: &mut PgConnection,
    table: &TableName,
    from: usize,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let lock = format!("SELECT pg_advisory_xact_lock({LOCK})");
    sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut *transaction).await?;
    let steps = AssertSqlSafe(migration(table, from));
    sqlx::raw_sql(steps).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Returns the schema's version; 0 if there is none.
async fn version(connection: &mut PgConnection, table: &TableName) -> Result<usize, Error> {
    // By the simple protocol: between the two messages of a prepared statement, a pooler may switch the server's
    // connection. Names of tables are identifiers, so they contain no quote.
    let exists = format!(
        "SELECT to_regclass('{}') IS NOT NULL, to_regclass('{table}') IS NOT NULL",
        table.version()
    );
    let found = sqlx::raw_sql(AssertSqlSafe(exists)).fetch_one(&mut *connection).await;
    let found = found.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    match found.map_err(|error| unreadable(&error, table))? {
        (false, _) => return Ok(0),
        (true, false) => return Err(schema::version_alone(table)),
        (true, true) => {}
    }
    let read = format!("SELECT max(version) FROM {}", table.version());
    let found = match sqlx::raw_sql(AssertSqlSafe(read)).fetch_one(connection).await {
        Ok(row) => row.try_get::<Option<i32>, _>(0).ok().flatten(),
        // The table has no such column, so it is another program's.
        Err(error) if failure::code(&error).as_deref() == Some("42703") => None,
        Err(error) => return Err(unreadable(&error, table)),
    };
    schema::version(found.map(Into::into), MIGRATIONS.len(), table)
}

/// Returns the error for a version that can't be read.
fn unreadable(error: &sqlx::Error, table: &TableName) -> Error {
    match failure::code(error).as_deref() {
        Some("42501") => Error::config(format_args!(
            "the database user may not read the table {}; grant the user USAGE on its schema, SELECT on this table, \
             and SELECT, INSERT, UPDATE and DELETE on {table}",
            table.version()
        )),
        _ => failure::unavailable(error),
    }
}
