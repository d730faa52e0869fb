//! Prints the statements that make a table of sessions, for those who apply them by hand.
//!
//! ```sh
//! cargo run -p session-sql --features postgres --example schema -- postgres app.sessions | psql shop
//! cargo run -p session-sql --features sqlite --example schema -- sqlite sessions | sqlite3 app.db
//! ```

use session_core::Error;
use session_sql::TableName;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let database = arguments.next().unwrap_or_default();
    let table: TableName = match arguments.next() {
        Some(name) => name.parse()?,
        None => TableName::default(),
    };
    let schema = match &*database {
        #[cfg(feature = "postgres")]
        "postgres" => session_sql::postgres::schema(&table),
        #[cfg(feature = "sqlite")]
        "sqlite" => session_sql::sqlite::schema(&table),
        _ => {
            drop(table);
            return Err(Error::config(
                "name the database, postgres or sqlite, and build this with its feature",
            ));
        }
    };
    print!("{schema}");
    Ok(())
}
