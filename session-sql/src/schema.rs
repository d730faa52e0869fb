//! What the schemas of both databases have in common.

use session_core::Error;

use crate::TableName;

/// The version that the table of versions tells, of which this many are known.
///
/// # Errors
/// [`Error::Config`] if it is none of them.
pub(crate) fn version(found: Option<i64>, known: usize, table: &TableName) -> Result<usize, Error> {
    match found.and_then(|version| usize::try_from(version).ok()) {
        Some(version) if (1..=known).contains(&version) => Ok(version),
        _ => Err(Error::config(format_args!(
            "the table {table} is of a version that this one of session-sql doesn't know, or {} is of another \
             program; use a newer one, or another table by the option `table`",
            table.version()
        ))),
    }
}

/// The error of a table of versions without the sessions' own.
pub(crate) fn version_alone(table: &TableName) -> Error {
    let version = table.version();
    Error::config(format_args!(
        "the table {table} is not there, but {version} is; restore the one; or drop the other, if it is left over, \
         and both are made anew; or name another table by the option `table`, if it is another program's"
    ))
}
