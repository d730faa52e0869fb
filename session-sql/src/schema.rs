//! Checks the version of the tables, for both databases.

use session_core::Error;

use crate::TableName;

/// Returns the version that was found in the table of versions.
///
/// # Errors
/// [`Error::Config`] if it is not a version from 1 to `known`.
pub(crate) fn version(found: Option<i64>, known: usize, table: &TableName) -> Result<usize, Error> {
    match found.and_then(|version| usize::try_from(version).ok()) {
        Some(version) if (1..=known).contains(&version) => Ok(version),
        _ => Err(Error::config(format_args!(
            "the table {table} has a version that this session-sql doesn't know, or {} belongs to another program: \
             use a newer session-sql, or name another table with the option `table`",
            table.version()
        ))),
    }
}

/// Returns the error for a table of versions without the table of sessions.
pub(crate) fn version_alone(table: &TableName) -> Error {
    let version = table.version();
    Error::config(format_args!(
        "the table {table} is missing, but {version} exists: restore the one, or drop the other, so that both are \
         created again; if {version} belongs to another program, name another table with the option `table`"
    ))
}
