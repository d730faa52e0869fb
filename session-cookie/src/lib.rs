//! Sealed sessions in the client's cookie.

mod config;
mod encrypted;
mod format;
mod key;
mod provider;
mod revocation;
mod ring;
mod seal;
mod signed;
mod vault;

use std::sync::{Arc, Once};

use session_core::{Error, Inner, Provider, Source};

pub use config::CookieConfig;
pub use encrypted::EncryptedProvider;
pub use key::SecretKey;
pub use provider::CookieProvider;
pub use ring::KeyRing;
pub use seal::Mode;
pub use signed::SignedProvider;

/// The registered names.
const NAME: &str = "cookie";
const SIGNED: &str = "signed";
const ENCRYPTED: &str = "encrypted";

/// Registers the provider `"cookie"` and the wrappers `"signed"` and `"encrypted"`. Calling it again
/// does nothing.
///
/// # Panics
/// If something else was registered under one of the names before: the program would not get the
/// store it asks for.
pub fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if let Err(error) = register() {
            panic!("{error}");
        }
    });
}

fn register() -> Result<(), Error> {
    session_core::register(NAME, |source| {
        Ok(Arc::new(CookieProvider::new(CookieConfig::parse(source)?)))
    })?;
    session_core::register_wrapper(SIGNED, |inner, source| {
        let (keys, inner) = open(inner, source)?;
        Ok(Arc::new(SignedProvider::new(inner, keys)))
    })?;
    session_core::register_wrapper(ENCRYPTED, |inner, source| {
        let (keys, inner) = open(inner, source)?;
        Ok(Arc::new(EncryptedProvider::new(inner, keys)))
    })
}

/// The keys in a wrapper's source string, and what it is around, opened with the rest. Another one
/// of these wrappers gets the keys, too.
fn open(inner: Inner<'_>, source: &str) -> Result<(KeyRing, Arc<dyn Provider>), Error> {
    if config::is_at_the_client(inner.name()) {
        return Err(Error::config(format_args!(
            "{NAME} seals its sessions itself: open it without a wrapper"
        )));
    }
    let (mut ours, rest) = Source::split(source, &KeyRing::OPTIONS)?;
    let keys = KeyRing::take(&mut ours)?;
    let shared = matches!(inner.wrapper(), Some(SIGNED | ENCRYPTED));
    Ok((keys, inner.open(if shared { source } else { &rest })?))
}
