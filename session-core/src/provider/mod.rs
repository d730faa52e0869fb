//! [`Provider`]: the trait that a store of sessions implements, and its types.
//!
//! A provider crate implements [`Provider`], registers a function that opens it from a source string
//! ([`register`]), and runs the [conformance suite](crate::conformance), which is the definition of the
//! contract. How to write one is described below: [the contract](#writing-a-provider), [a blob
//! store](#a-blob-store) and [a database](#a-database) as worked examples, and what to know of [stores on a
//! server](#stores-on-a-server).
#![doc = include_str!("guide/contract.md")]
//! ```
#![doc = include_str!("guide/blobs.rs")]
//! # use std::{collections::BTreeMap, sync::Mutex};
//! # #[derive(Debug, Default)]
//! # struct Shelf(Mutex<(u64, BTreeMap<SessionKey, (u64, Vec<u8>)>)>);
//! # impl Blobs for Shelf {
//! #     async fn get(&self, key: SessionKey) -> Result<Option<Blob>, Failure> {
//! #         let shelf = self.0.lock().unwrap();
//! #         let found = shelf.1.get(&key);
//! #         Ok(found.map(|(version, bytes)| Blob { bytes: bytes.clone(), version: *version }))
//! #     }
//! #     async fn put(&self, key: SessionKey, bytes: Vec<u8>, _: Duration, version: u64) -> Result<bool, Failure> {
//! #         let (last, blobs) = &mut *self.0.lock().unwrap();
//! #         let is_so = blobs.get(&key).map_or(0, |(version, _)| *version) == version;
//! #         if is_so {
//! #             *last += 1;
//! #             blobs.insert(key, (*last, bytes));
//! #         }
//! #         Ok(is_so)
//! #     }
//! #     async fn remove(&self, key: SessionKey) -> Result<(), Failure> {
//! #         self.0.lock().unwrap().1.remove(&key);
//! #         Ok(())
//! #     }
//! # }
//! #
//! # futures_lite::future::block_on(async {
//! # let shelf = Shelf::default();
//!
//! // A session from its creation to its end.
//! let provider = BlobProvider::new(shelf);
//! let (id, now) = (provider.new_id()?, Timestamp::from_millis(1_800_000_000_000));
//! let token = provider.issue(id);
//! let holder = provider.verifier(&token, "");
//! let expires = now.saturating_add(Duration::from_secs(1800));
//! provider.create(&id, Record::new(holder, now, expires), now).await?;
//!
//! let mut changes = Changes::new();
//! changes.set("visits", [1]);
//! provider.save(&token, &holder, &changes, now).await?;
//! let record = provider.load(&token, now).await?.expect("it is live");
//! assert_eq!(record.values.get("visits"), Some(&[1][..]));
//!
//! provider.destroy(&id.key(), expires, now).await?;
//! let saved = provider.save(&token, &holder, &changes, now).await;
//! assert!(matches!(saved, Err(Error::Gone)));
//! # Ok::<(), Error>(())
//! # }).unwrap();
//! ```
#![doc = include_str!("guide/database.md")]
//! ```
#![doc = include_str!("guide/table.rs")]
//! ```
#![doc = include_str!("guide/servers.md")]

mod changes;
mod codec;
mod context;
mod list;
mod record;
mod registry;
mod source;
mod token;
mod values;
mod verifier;

pub use changes::{Changes, Expected, ExpiryChange, NewSecret, Touch};
pub use context::ProviderContext;
pub use list::{Listed, Page, Summary};
pub use record::{Login, Note, Record};
pub use registry::{WrappedProvider, open, providers, register, register_wrapper};
// For the tests of this workspace: managers use the process's own.
#[doc(hidden)]
pub use registry::Registry;
pub use source::Source;
pub(crate) use source::with_options;
pub use token::Token;
pub use values::Values;
pub use verifier::Verifier;

pub use crate::error::BoxError;
pub use crate::id::{IdText, Secret};

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::{Error, SessionId, SessionKey, Timestamp};

/// The future of a provider's answer: ready at once, or boxed.
///
/// A store in memory returns [`ready`](Self::ready), which allocates nothing; a store that waits
/// returns [`boxed`](Self::boxed).
pub struct ProviderFuture<'a, T>(State<'a, T>);

enum State<'a, T> {
    Ready(Option<T>),
    Boxed(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

/// The answer of an operation at the store.
pub type Answer<'a, T> = ProviderFuture<'a, Result<T, Error>>;

impl<'a, T> ProviderFuture<'a, T> {
    /// Returns a future that is ready at once.
    pub fn ready(answer: T) -> Self {
        Self(State::Ready(Some(answer)))
    }

    /// Returns a future that takes time.
    pub fn boxed(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self(State::Boxed(Box::pin(future)))
    }
}

// The answer is moved out, never pinned.
impl<T> Unpin for ProviderFuture<'_, T> {}

impl<T> Future for ProviderFuture<'_, T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        match &mut self.0 {
            State::Ready(answer) => Poll::Ready(answer.take().expect("polled after completion")),
            State::Boxed(future) => future.as_mut().poll(context),
        }
    }
}

impl<T> fmt::Debug for ProviderFuture<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Ready(_) => "ProviderFuture::Ready",
            State::Boxed(_) => "ProviderFuture::Boxed",
        })
    }
}

/// The outcome of a slice of collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Records that were physically removed.
    pub removed: usize,
    /// Whether expired records may remain; `false` ends this round of collection.
    pub more: bool,
}

/// A store of sessions.
///
/// The [module's documentation](self#writing-a-provider) is a guide to writing one. In short:
///
/// - Every operation on a session is [atomic](self#what-must-be-atomic) with regard to all others on the same
///   session, from this process or any other that shares the store.
/// - `now` is the caller's time; the [server's own clock](self#clocks-and-timers) takes no part. A record that
///   [expired](Record::is_live) by `now` is gone for every operation, collected or not.
/// - Where there is [no live record](self#missing-expired-and-unreadable-records), [`load`](Self::load) returns
///   `None`, and [`save`](Self::save) and [`touch`](Self::touch) return [`Error::Gone`]: only
///   [`create`](Self::create) creates. A stored record that can't be read is [`Error::Unreadable`] at `load`.
/// - A store that can't be reached is [`Error::Unavailable`] where nothing was written, and
///   [`Error::InDoubt`] where the write [may have happened](self#a-clients-errors). A store without room is
///   [`Error::Full`].
/// - Dropping a future at any point leaves the stored record as it was or as it was to become, never in
///   between. Futures must not block a [runtime's worker](self#runtimes); [`purge`](Self::purge) may block.
pub trait Provider: Send + Sync + fmt::Debug + 'static {
    /// Reads the bytes that a client sent, which need not be text. Returns `None` unless they are exactly
    /// one well-formed token.
    ///
    /// Pure and cheap, with no access to the store. The default reads a [`SessionId`]; a provider whose
    /// tokens have a text of their own overrides it.
    fn token(&self, text: &[u8]) -> Option<Token> {
        SessionId::parse(text).map(Token::from)
    }

    /// Makes an id for a session that is not stored yet.
    ///
    /// Pure. The default is [`SessionId::generate`]; a provider whose ids have fewer random bytes
    /// overrides it.
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's generator fails.
    fn new_id(&self) -> Result<SessionId, Error> {
        SessionId::generate()
    }

    /// Makes a new id for a stored session: the same key with another secret.
    ///
    /// Pure. The default is [`SessionId::with_new_secret`].
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's generator fails.
    fn renewed_id(&self, id: &SessionId) -> Result<SessionId, Error> {
        id.with_new_secret()
    }

    /// Makes the token that clients will carry for an id, as far as it can be told before the record is
    /// stored.
    ///
    /// Pure. The default is the id itself; a provider that signs its ids overrides it.
    fn issue(&self, id: SessionId) -> Token {
        id.into()
    }

    /// Computes what a record keeps to recognize the client that carries this token. It depends on the
    /// namespace, so that an id of one application opens nothing in another that uses the same store.
    ///
    /// Pure. The default is [`Verifier::digest`]; a store that never leaves the process's memory may use
    /// [`Verifier::plain`].
    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        Verifier::digest(token.id(), namespace)
    }

    /// Returns whether the stored record with this [note](Record::note) should be rewritten, for example after a
    /// key rotation. The core then touches the record by a [`save`](Self::save) that changes only its times.
    ///
    /// Pure. The default is no.
    fn is_outdated(&self, _note: &Note) -> bool {
        false
    }

    /// Learns how a manager uses it, once for each manager and before its first request.
    ///
    /// The default ignores it.
    ///
    /// # Errors
    /// [`Error::Config`] if the provider can't be used so; the manager is not made then.
    fn configure(&self, _context: &ProviderContext<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Stores a new record under the id's key. Returns what the client is to carry, or `None` for
    /// what [`issue`](Self::issue) makes of the id.
    ///
    /// Inserts only: where a live record has this key already, it returns [`Error::Exists`], and that
    /// record stays as it is.
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>>;

    /// Reads the record under the token's key; `None` where there is none, or an expired one. Never
    /// writes, and never looks at the secret: the core compares it, in one place and in constant time.
    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>>;

    /// Merges changes into the stored record, all at once, as [`Record::apply`] does. Returns what the
    /// client is to carry from now on, or `None` for what it carries already, or for the
    /// [token](NewSecret::token) of a new secret.
    ///
    /// The save is refused with [`Error::Gone`] unless the stored holder is `holder`, or the one that
    /// these changes set. Where an [expected](Changes::expected) value is not the stored one, nothing is
    /// written and it returns [`Error::Conflict`]. Keys that are not named keep their stored values
    /// and never conflict.
    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>>;

    /// Moves both times of the record under the token's key forward, or leaves each where it lies later
    /// already. Doesn't look at the secret. Returns what the client is to carry from now on, or `None`
    /// for what it carries already.
    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>>;

    /// Removes the record under this key, whoever holds it by now. Idempotent; final when it returns.
    ///
    /// `until` is the latest instant at which a copy of the record could still be taken for a live one:
    /// a provider that keeps its records at the client remembers the end until then. Others ignore it.
    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()>;

    /// Returns whether [`list`](Self::list) works. Defaults to false.
    fn lists(&self) -> bool {
        false
    }

    /// Lists the live sessions of an owner, in the order of their keys, page by page.
    ///
    /// A session that lives and belongs to the owner from the call for the first page to the answer with
    /// the last one is on exactly one page, whatever else happens to it; any other is on one page at most.
    /// Each summary is the session's at one moment at which it belonged to the owner: nobody's list has a
    /// session of somebody else.
    ///
    /// The cost of a page depends on its [size](Page::size), and that of all pages on the number of the owner's
    /// sessions, never on the size of the store. So a page may be short, or empty, and not be the last. Skip stale
    /// index entries, whose session is gone or has another owner, and remove them eventually, so that the
    /// index of an owner whose sessions come and go does not grow.
    ///
    /// The default is [`Error::Unsupported`].
    fn list<'a>(&'a self, _owner: &'a str, _page: Page, _now: Timestamp) -> Answer<'a, Listed> {
        ProviderFuture::ready(Err(Error::Unsupported { what: "list" }))
    }

    /// Counts the live sessions; [`Error::Unsupported`] where the number can't be known.
    fn count(&self, now: Timestamp) -> Answer<'_, u64>;

    /// Physically removes a bounded slice of the expired records, about `limit` at most, and returns
    /// whether more remain.
    ///
    /// Never removes a live record. May block: it runs on the manager's timer thread, outside of any
    /// runtime. Its cost should grow with what has expired, not with what is alive.
    ///
    /// # Errors
    /// The error of the store. The timer thread reports it and tries again later.
    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error>;
}

/// A shared provider is a provider; so is a shared `dyn Provider`.
impl<P: Provider + ?Sized> Provider for Arc<P> {
    fn token(&self, text: &[u8]) -> Option<Token> {
        (**self).token(text)
    }

    fn new_id(&self) -> Result<SessionId, Error> {
        (**self).new_id()
    }

    fn renewed_id(&self, id: &SessionId) -> Result<SessionId, Error> {
        (**self).renewed_id(id)
    }

    fn issue(&self, id: SessionId) -> Token {
        (**self).issue(id)
    }

    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        (**self).verifier(token, namespace)
    }

    fn is_outdated(&self, note: &Note) -> bool {
        (**self).is_outdated(note)
    }

    fn configure(&self, context: &ProviderContext<'_>) -> Result<(), Error> {
        (**self).configure(context)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        (**self).create(id, record, now)
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        (**self).load(token, now)
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        (**self).save(token, holder, changes, now)
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        (**self).touch(token, touch, now)
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        (**self).destroy(key, until, now)
    }

    fn lists(&self) -> bool {
        (**self).lists()
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        (**self).list(owner, page, now)
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        (**self).count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        (**self).purge(now, limit)
    }
}
