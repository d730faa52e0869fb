//! Sessions in PostgreSQL: the provider named `"postgres"`.

mod config;
mod connections;
mod failure;
mod provider;
mod row;
mod schema;
mod statement;
mod store;

pub use config::PostgresConfig;
pub use provider::PostgresProvider;
pub use schema::schema;
