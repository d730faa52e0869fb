//! Sessions in SQLite: the provider named `"sqlite"`.

mod config;
mod failure;
mod provider;
mod schema;
mod store;
mod values;

use std::sync::Arc;

use once_cell::sync::OnceCell;

pub use config::{Durability, SqliteConfig};
pub use provider::SqliteProvider;
pub use schema::schema;

/// Registers the provider, once.
pub(crate) fn register() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        let open =
            |source: &str| Ok(Arc::new(SqliteProvider::open(SqliteConfig::parse(source)?)?) as _);
        if let Err(error) = session_core::provider::register("sqlite", open) {
            panic!("{error}");
        }
    });
}
