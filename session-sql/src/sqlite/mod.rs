//! Sessions in SQLite: the provider named `"sqlite"`.

mod config;
mod failure;
mod provider;
mod row;
mod schema;
mod store;

pub use config::{Durability, SqliteConfig};
pub use provider::SqliteProvider;
pub use schema::schema;
