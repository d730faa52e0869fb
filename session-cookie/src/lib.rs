//! Sealed sessions in the client's cookie.

mod config;
mod format;
mod key;
mod provider;
mod revocation;
mod ring;
mod seal;

use std::sync::{Arc, Once};

pub use config::CookieConfig;
pub use key::SecretKey;
pub use provider::CookieProvider;
pub use ring::KeyRing;
pub use seal::Mode;

/// The provider's registered name.
const NAME: &str = "cookie";

/// Registers the provider under the name `"cookie"`. Calling it again does nothing.
///
/// # Panics
/// If something else was registered under that name before: the program would not get the store it
/// asks for.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let open =
            |source: &str| Ok(Arc::new(CookieProvider::new(CookieConfig::parse(source)?)) as _);
        if let Err(error) = session_core::register(NAME, open) {
            panic!("{error}");
        }
    });
}
