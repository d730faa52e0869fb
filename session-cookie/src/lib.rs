//! Sealed sessions in the client's cookie: the [`session_core`] provider named `"cookie"`; and, for
//! providers that store at the server, signed ids (`signed+NAME`) and encryption at rest
//! (`encrypted+NAME`).
//!
//! # `cookie`: the session travels with its client
//! The whole session is in the cookie, encrypted and authenticated by AES-256-GCM-SIV (RFC 8452)
//! with a random nonce, or authenticated only. There is nothing to store at the server, and every
//! server that has the keys serves every session. The seal covers the format, the name of the cookie,
//! the session's id, its times, its login and its values. A text that doesn't open makes an anonymous
//! visitor; nothing is read that was not sealed.
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
//! | `revocations` | none | a registered provider that remembers new ids and ended sessions |
//! | `revocations_source` | empty | its source string, percent-encoded |
//!
//! In a configuration file, the table `revocations` ([`session_core::Config::revocations`]) says the
//! last two.
//!
//! ## What it can't do without `revocations`
//! A copy of a cookie works until it expires: after the idle time without use, and at the absolute
//! lifetime in any case. So, unlike with a store at the server,
//! - a logout clears the cookie of one browser, and ends no copy of it;
//! - the cookie from before a login, a `regenerate` or a logout still opens the session as it was then,
//!   and can be logged in again;
//! - requests that are slower than a login are not recognised: they go on with the session that they
//!   carry, and their response may replace the cookie of the login;
//! - of several logins at once from one cookie each goes on by itself; simultaneous new ids both win;
//! - of several cookies with live sessions, a login or a logout ends none.
//!
//! ## With `revocations`
//! The store has an entry for each session that got a new id or ended, under the session's key: an empty
//! record, with the current id as its holder. A new id is a compare-and-set of the entry, so of several at
//! once one wins; the end of a session wins against all of them. Every load, save and touch asks for the
//! entry. An entry lives at least as long as every cookie of its session, and the end of a session is
//! final. A session whose entry was lost is not believed, unless it never got a new id. All servers must
//! share the store; `memory` serves one process. Where the store is down, so are the sessions.
//!
//! Switching `revocations` on ends the sessions that got a new id before.
//!
//! ## What it can't do in any case
//! - **Merge.** Two requests at once each respond with the session as they changed it: the browser
//!   keeps the response that arrives last, and the other's changes are lost. `update` is atomic
//!   among the tasks of one request only. Counters and carts that must not lose anything want a
//!   provider at the server.
//! - **Hold much.** Name and value of a cookie have 4,096 bytes together, which leaves about 2,900
//!   for keys, encoded values, owner and label. A session beyond is
//!   [`TooLarge`](session_core::Error::TooLarge), before anything is sent.
//! - **Be saved without a response.** [`save`](session_core::LoadedSession::save) and `update` after the
//!   response's head are [`HeadSent`](session_core::Error::HeadSent). A task that streams knows the session as
//!   its own request brought it: for `reload` it ends the idle time after that, whatever other requests do.
//! - **Know a session of which it was not sent the cookie.** A request that loses its session to
//!   another one's new id knows the values and the owner of its own cookie, not of the new one.
//! - **List the sessions of an owner, count them, collect them, or travel in URLs.** A transport with URLs
//!   is a configuration error; the others are [`Unsupported`](session_core::Error::Unsupported).
//!
//! Each seal is made for one manager's name. In a program with several managers each opens a
//! provider of its own; a cookie that is moved to another name doesn't open, unless `cookie.also` has the
//! name that it was sealed for. The namespace of the configuration has no effect.
//!
//! # `signed+NAME`: no made-up ids
//! The keys sign each id for the name of the cookie, header or argument, so that an id that this
//! site did not make is refused before the store is asked. See [`SignedProvider`].
//!
//! # `encrypted+NAME`: nothing readable in the store
//! Values, owners and labels are encrypted under the keys; the names of values, times and sizes stay
//! readable. See [`EncryptedProvider`].
//!
//! Somebody who can write in the store, but has no key, can end sessions, remove values, and put back
//! older parts of a session, its holder and its login included: the stored parts are bound to the
//! session and to their places in it, not to each other. He can also move the times `created`, `renewed`,
//! `used` and `expires`, which are not sealed, and so keep a session alive beyond its lifetimes. The time of
//! the login is sealed: where somebody is logged in, the absolute lifetime still ends the session. Nothing
//! that he makes himself or brings from another session can be read, so no id of his own opens a session of
//! somebody else. Such a record, a damaged one, and one under a key that was taken out of the ring are
//! unreadable: reported once, and the visitor is anonymous. They can still be destroyed by their key. A list
//! of an owner's sessions decrypts labels and nothing else: such a record may be on it or missing, and the
//! times that it shows, the login's too, are those that the store has in the clear.
//!
//! Equal owners have equal digests in the store, under the ring's first key. So a rotation of keys changes
//! the digests of owners. An owner's sessions are listed where the store can list them, and while the ring has
//! several keys, a page asks the store once for each key, and once more for all but the last one.
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
//! says how to rotate them. What an old key sealed or signed is made anew under the first key with the
//! next response, and what it encrypted in a store with the session's next save or touch, without
//! anybody being logged out. A key that leaked is taken out of the ring at once, which ends the sessions
//! that it sealed. Files of keys that others can read or write are refused. Keys, derived ones too, are
//! wiped from memory when they are dropped, and never printed.

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

/// The keys in a wrapper's source string, and what it is around, opened with the rest. Another one
/// of these wrappers gets the keys, too.
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
