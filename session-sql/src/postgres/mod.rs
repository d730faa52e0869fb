//! Sessions in PostgreSQL: the provider named `"postgres"`.

mod config;
mod connections;
mod failure;
mod provider;
mod schema;
mod statement;
mod store;
mod values;

use std::sync::Arc;

use once_cell::sync::OnceCell;

pub use config::PostgresConfig;
pub use provider::PostgresProvider;
pub use schema::schema;

/// Registers the provider, once.
pub(crate) fn register() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        let open = |source: &str| {
            Ok(Arc::new(PostgresProvider::new(PostgresConfig::parse(source)?)?) as _)
        };
        if let Err(error) = session_core::provider::register("postgres", open) {
            panic!("{error}");
        }
    });
}
