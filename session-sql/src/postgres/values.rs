//! Reads the values of a row.

use session_core::Error;
use session_core::provider::{Record, Values};
use sqlx::postgres::PgRow;

use crate::failure::unreadable;
use crate::row::{NEXT, column, without_values};

/// Returns the record of a row of [`load`](super::statement::load), which may be damaged.
pub(crate) fn record(row: &PgRow) -> Result<Record, Error> {
    let reason = "its names and values are not two arrays, or larger than 64 MiB";
    let names: Vec<Vec<u8>> = column(row, NEXT, reason)?;
    let data: Vec<Vec<u8>> = column(row, NEXT + 1, reason)?;
    if names.len() != data.len() {
        return Err(unreadable("it has not as many names as values"));
    }
    let names = names.into_iter().map(String::from_utf8).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(|_| unreadable("one of its names is not UTF-8"))?;
    let values: Values = names.iter().zip(&data).collect();
    if values.len() != names.len() {
        return Err(unreadable("it has a name twice"));
    }
    let size: i32 = column(row, NEXT + 2, "its size is no number")?;
    if usize::try_from(size) != Ok(values.size()) {
        return Err(unreadable("its size is not that of its names and values"));
    }
    Ok(Record { values, ..without_values(row)? })
}
