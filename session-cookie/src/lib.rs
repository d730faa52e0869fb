//! Sealed sessions in the client's cookie: the [`session_core`] provider named `"cookie"`; and, for
//! providers that store at the server, signed ids (`signed+NAME`) and encryption at rest
//! (`encrypted+NAME`).
//!
//! # `cookie`: the session travels with its client
//! The whole session is in the cookie, encrypted and authenticated by AES-256-GCM-SIV (RFC 8452)
//! with a random nonce, or authenticated only. There is nothing to store at the server, and every
//! server that has the keys serves every session. Format, key, name of the cookie and id are
//! authenticated with it; the instants of its creation, of its seal, and of both expiries are inside
//! and checked. What doesn't open makes an anonymous visitor; nothing unsealed is ever read.
//!
//! ```
//! session_cookie::init();
//! let key = session_cookie::SecretKey::generate()?; // once, into your configuration
//! let manager = session_core::Manager::open("cookie", &format!("key={}", *key.text()))?;
//! # Ok::<(), session_core::Error>(())
//! ```
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `key`, `key_file`, `key_env`, `ephemeral` | one is needed | the keys: [`KeyRing::take`] |
//! | `mode` | `encrypted` | or `signed`: HMAC-SHA-256, and the client can read the values |
//! | `revocations` | none | a registered provider that remembers ended sessions |
//! | `revocations_source` | empty | its source string, percent-encoded |
//!
//! In a configuration file, the table `revocations` ([`session_core::Config::revocations`]) says the
//! last two.
//!
//! ## What it can't do
//! - **Merge.** Two requests at once each answer with the session as they changed it: the browser
//!   keeps the response that arrives last, and the other's changes are lost. `update` is atomic
//!   among the tasks of one request only. Counters and carts that must not lose anything want a
//!   provider at the server.
//! - **End a session, without `revocations`.** `destroy` clears the client's cookie and
//!   `regenerate` replaces it, but a copy that somebody made before goes on working until it expires,
//!   after the idle time without use and at the absolute lifetime in any case. With `revocations`
//!   an ended or replaced session is remembered until its absolute end, every load asks for it, and
//!   a replayed cookie is anonymous. All servers must share that store: `memory` serves one process.
//!   Where it is down, so are the sessions.
//! - **Hold much.** Name and value of a cookie have 4,096 bytes together, which leaves about 2,900
//!   for keys, encoded values and owner. A session beyond is
//!   [`TooLarge`](session_core::Error::TooLarge), before anything is sent.
//! - **Be saved without a response.** [`save`](session_core::LoadedSession::save) after the
//!   response's head is gone changes nothing for the client.
//! - **Travel in URLs, be counted, or be collected.** A transport with URLs is a configuration
//!   error; `count` is [`Unsupported`](session_core::Error::Unsupported).
//!
//! Each seal is made for one manager's name. In a program with several managers each opens a
//! provider of its own; a cookie that is moved to another name doesn't open.
//!
//! An id is 8 random bytes, followed by 24 zeros: it tells sessions apart and opens none of them.
//! It is readable in the cookie.
//!
//! # `signed+NAME`: no made-up ids
//! The keys sign each id for the name of the cookie, header or argument, so that an id that this
//! site did not make is refused before the store is asked. See [`SignedProvider`].
//!
//! # `encrypted+NAME`: nothing readable in the store
//! Values and owners are encrypted under the keys, in place of the plain ones; the names of values,
//! times and sizes stay readable. A record that somebody moved to another session, or a value moved
//! to another place, can't be read; an older copy of the same record can. A record under an unknown
//! key is a configuration error, not an empty session; a damaged one is absent, as everywhere. See
//! [`EncryptedProvider`].
//!
//! Both wrappers take `key`, `key_file`, `key_env` and `ephemeral` out of the source string, which
//! in a URI stand behind its `?`, and hand the rest to what they are around:
//!
//! ```
//! session_cookie::init();
//! session_memory::init();
//! # let key = session_cookie::SecretKey::generate()?;
//! # let key = &*key.text();
//! let source = format!("key={key}&max_sessions=50000");
//! let manager = session_core::Manager::open("encrypted+memory", &source)?;
//! let manager = session_core::Manager::open("signed+encrypted+memory", &source)?; // one ring
//! # Ok::<(), session_core::Error>(())
//! ```
//!
//! # Keys
//! A key is 32 random bytes as 43 characters of base64url: see [`SecretKey`] and [`KeyRing`], which
//! says how to rotate them. What is sealed under an old key is sealed under the first one with the
//! next response, without anybody being logged out. Keys, derived ones too, are wiped from memory
//! when they are dropped, and never printed.

mod cipher;
mod ciphertext;
mod config;
mod encrypted;
mod format;
mod head;
mod key;
mod provider;
mod revocation;
mod ring;
mod seal;
mod signed;
mod vault;

use std::sync::Arc;

use once_cell::sync::OnceCell;
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
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
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
