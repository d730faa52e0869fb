//! Sealed sessions in the client's cookie: the [`session_core`] provider named `"cookie"`. For providers
//! that store at the server, the crate has signed ids (`signed+NAME`) and encryption at rest
//! (`encrypted+NAME`).
//!
//! # `cookie`: the session travels with its client
//! The whole session is in the cookie, encrypted and authenticated by AES-256-GCM-SIV (RFC 8452) with a
//! random nonce, or only authenticated. The server stores nothing, and every server that has the keys
//! serves every session. The seal covers the format, the cookie's name, and the session's id, times,
//! login and values. A cookie that doesn't open is ignored: its visitor is anonymous. Nothing that was
//! not sealed is parsed.
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
//! | `key`, `key_file`, `key_env`, `ephemeral` | one is required | the keys: see [`KeyRing::take`] |
//! | `mode` | `encrypted` | `encrypted`; or `signed`: HMAC-SHA-256 only, and the client can read the values |
//! | `revocations` | none | the name of the provider that stores new ids and ended sessions |
//! | `revocations_source` | empty | that provider's source string, percent-encoded |
//!
//! In a configuration file, the table `revocations` ([`session_core::Config::revocations`]) sets the
//! last two options.
//!
//! ## Limitations without `revocations`
//! A copy of a cookie works until it expires: after the idle time, at the latest at the absolute
//! lifetime. So, unlike with a store at the server,
//! - a logout clears the cookie in one browser, but does not invalidate copies of it;
//! - the cookie from before a login, a `regenerate` or a logout still opens the session as it was then,
//!   and can be logged in again;
//! - requests that are slower than a login are not detected: they continue with the session in their
//!   cookie, and their response may replace the cookie of the login;
//! - concurrent logins from one cookie all succeed and continue separately, and so do concurrent new
//!   ids;
//! - if a request brings several cookies with live sessions, a login or a logout ends none of the
//!   others.
//!
//! ## With `revocations`
//! The store has an entry under the session's key for each session that got a new id or ended: an empty
//! record whose holder is the current id. A new id is a compare-and-set of the entry, so one of several
//! concurrent ones wins; the end of a session wins against all of them. Every load, save and touch reads
//! the entry. An entry lives at least as long as every cookie of its session, and the end of a session
//! is final. If an entry was lost, the session's cookies are refused, unless the session never got a new
//! id. All servers must share the store; `memory` serves one process. While the store is down, so are
//! the sessions.
//!
//! Switching `revocations` on ends the sessions that got a new id before that.
//!
//! ## Limitations in any case
//! - **No merging.** Each of two concurrent requests responds with the session as it changed it: the
//!   browser keeps the response that arrives last, and the other request's changes are lost. `update` is
//!   atomic only among the tasks of one request. Counters and carts that must not lose changes need a
//!   provider that stores at the server.
//! - **Little room.** The name and value of a cookie may take 4,096 bytes together, which leaves about
//!   2,900 bytes for keys, encoded values, owner and label. A larger session fails with
//!   [`TooLarge`](session_core::Error::TooLarge), before anything is sent.
//! - **No saving without a response.** [`save`](session_core::LoadedSession::save) and `update` after
//!   the response's head fail with [`HeadSent`](session_core::Error::HeadSent). A task that streams sees
//!   the session as its own request brought it: for `reload`, the session ends the idle time after that,
//!   whatever other requests do.
//! - **No session without its cookie.** A request that loses its session because another request gave
//!   the session a new id knows the values and the owner in its own cookie, not those of the new one.
//! - **No lists of an owner's sessions, no counting, no collection, no URLs.** A transport with URLs is
//!   a configuration error; the other operations fail with
//!   [`Unsupported`](session_core::Error::Unsupported).
//!
//! Each seal is made for one manager's name. In a program with several managers, each one opens its own
//! provider. A cookie that is moved to another name doesn't open, unless `cookie.also` has the name that
//! the cookie was sealed for. The configuration's namespace has no effect.
//!
//! # `signed+NAME`: invented ids are refused
//! The first key signs each id for the name of the cookie, header or query argument. So an id that this
//! site did not issue is refused before the store is asked. See [`SignedProvider`].
//!
//! # `encrypted+NAME`: nothing readable in the store
//! Values, owners and labels are encrypted under the keys. The keys of values, the times and the sizes
//! stay readable. See [`EncryptedProvider`].
//!
//! An attacker who can write to the store but has no key can end sessions, remove values, and restore
//! older parts of a session, including its holder and its login: each stored part is bound to the
//! session and to its place in it, but not to the other parts. The attacker can also change the times
//! `created`, `renewed`, `used` and `expires`, which are not sealed, and so keep a session alive beyond
//! its lifetimes. The time of the login is sealed, so the absolute lifetime still ends a session with a
//! login. A part that the attacker makes up or copies from another session can't be read, so an id of
//! the attacker's never opens another visitor's session.
//!
//! Such a record, a damaged one, and one under a key that was taken out of the ring are unreadable: this
//! is reported once, and the visitor is anonymous. Unreadable records can still be destroyed by their
//! key. A list of an owner's sessions decrypts labels only: an unreadable record may be in it or
//! missing, and the times in it, including the time of the login, are the unencrypted ones in the store.
//!
//! Equal owners have equal digests in the store, made under the ring's first key. So a rotation of keys
//! changes the owners' digests. An owner's sessions can be listed if the store can list them. While the
//! ring has several keys, a page asks the store once for each key, and again for all but the last.
//!
//! Both wrappers take `key`, `key_file`, `key_env` and `ephemeral` out of the source string (in a URI,
//! out of its query) and pass the rest to the wrapped provider:
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
//! A key is 32 random bytes, written as 43 characters of base64url: see [`SecretKey`], and [`KeyRing`]
//! for how to rotate keys. What an old key sealed or signed is made anew under the first key with the
//! next response. What an old key encrypted in a store is encrypted anew by the session's next save or
//! touch. Nobody is logged out by that. Take a leaked key out of the ring at once, which ends the
//! sessions that it sealed. Key files that other users can read or write are refused. Keys, including
//! derived ones, are wiped from memory when they are dropped, and are never printed.

mod cipher;
mod ciphertext;
mod config;
mod encrypted;
mod format;
mod key;
mod names;
mod provider;
mod record_cipher;
mod revocation;
mod ring;
mod seal;
mod signed;

use std::sync::Arc;

use once_cell::sync::OnceCell;
use session_core::Error;
use session_core::provider::{Provider, Source, WrappedProvider, register_wrapper};

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
/// If another provider or wrapper is registered under one of the names: the program would not get the
/// store that it asks for.
pub fn init() {
    static REGISTERED: OnceCell<()> = OnceCell::new();
    REGISTERED.get_or_init(|| {
        if let Err(error) = register() {
            panic!("{error}");
        }
    });
}

fn register() -> Result<(), Error> {
    session_core::provider::register(NAME, |source| {
        Ok(Arc::new(CookieProvider::new(CookieConfig::parse(source)?)))
    })?;
    register_wrapper(SIGNED, |inner, source| {
        let (keys, inner) = open(inner, source)?;
        Ok(Arc::new(SignedProvider::new(inner, keys)))
    })?;
    register_wrapper(ENCRYPTED, |inner, source| {
        let (keys, inner) = open(inner, source)?;
        Ok(Arc::new(EncryptedProvider::new(inner, keys)))
    })
}

/// Takes the keys out of a wrapper's source string, and opens the wrapped provider with the rest. If the
/// wrapped provider is another wrapper of this crate, it gets the keys as well.
fn open(inner: WrappedProvider<'_>, source: &str) -> Result<(KeyRing, Arc<dyn Provider>), Error> {
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
