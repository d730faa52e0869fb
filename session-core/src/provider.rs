//! What a store implements.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::{Binding, Changes, Error, Record, SessionId, Timestamp, Token};

/// The future of a provider's answer: ready at once, or boxed.
///
/// A store in memory answers with [`ready`](Self::ready), which allocates nothing; a store that
/// waits answers with [`boxed`](Self::boxed).
pub struct ProviderFuture<'a, T>(State<'a, T>);

enum State<'a, T> {
    Ready(Option<T>),
    Boxed(Pin<Box<dyn Future<Output = T> + Send + 'a>>),
}

impl<'a, T> ProviderFuture<'a, T> {
    /// An answer that is there already.
    pub fn ready(answer: T) -> Self {
        Self(State::Ready(Some(answer)))
    }

    /// An answer that takes time.
    pub fn boxed(future: impl Future<Output = T> + Send + 'a) -> Self {
        Self(State::Boxed(Box::pin(future)))
    }

    /// The answer turned into another one; where it is there already, at once.
    pub fn map<U>(self, f: impl FnOnce(T) -> U + Send + 'a) -> ProviderFuture<'a, U>
    where
        T: Send + 'a,
    {
        match self.0 {
            State::Ready(answer) => {
                ProviderFuture::ready(f(answer.expect("mapped before completion")))
            }
            State::Boxed(future) => ProviderFuture::boxed(async move { f(future.await) }),
        }
    }
}

/// Awaits a provider's answer. One that is there already is spared the moves into the caller's
/// future and out again, which are felt where the store is memory.
macro_rules! answer {
    ($future:expr) => {
        match $future.at_once() {
            Ok(answer) => answer,
            Err(to_come) => to_come.await,
        }
    };
}
pub(crate) use answer;

impl<T> ProviderFuture<'_, T> {
    /// The answer, if it is there already.
    #[inline]
    pub(crate) fn at_once(self) -> Result<T, Self> {
        match self.0 {
            State::Ready(Some(answer)) => Ok(answer),
            to_come => Err(Self(to_come)),
        }
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
/// The [conformance suite](crate::conformance) is the definition of this contract: a provider that
/// passes it keeps the library's promises. Every operation is atomic with regard to all others on
/// the same session, from this process or any other that shares the store. `now` is the caller's
/// time: a record that [expired](Record::is_live) by it is gone for every operation, collected or
/// not. Dropping a future at any point leaves the stored record as it was or as it was to become,
/// never in between.
///
/// Where the record is not there or has expired, [`save`](Self::save), [`touch`](Self::touch) and
/// [`rename`](Self::rename) answer [`Error::Gone`]: only [`create`](Self::create) creates. A store
/// that can't be reached answers [`Error::Unavailable`], or [`Error::InDoubt`] if a write may have
/// happened. A stored record that can't be read is [`Error::Unreadable`] at `load`, and otherwise
/// `Gone`.
///
/// Futures must not block a runtime's worker; [`purge`](Self::purge) may.
pub trait Provider: Send + Sync + fmt::Debug + 'static {
    /// Reads what a client sent, in the bytes that came, which need not be text at all: `None` unless
    /// they are exactly one well-formed token.
    ///
    /// Pure and cheap, with no access to the store. The default reads a [`SessionId`]; a provider
    /// whose tokens say more overrides it.
    fn token(&self, text: &[u8]) -> Option<Token> {
        SessionId::parse(text).map(Token::from)
    }

    /// A token for a session that is not stored yet: a new id, and what a client will carry for it,
    /// as far as that can be told.
    ///
    /// The default makes a [`SessionId`]; a provider whose tokens say more overrides it.
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's generator fails.
    fn new_token(&self) -> Result<Token, Error> {
        SessionId::generate().map(Token::from)
    }

    /// Learns how a manager uses it, once for each manager and before its first request.
    ///
    /// The default ignores it.
    ///
    /// # Errors
    /// [`Error::Config`] if the provider can't be used so; the manager is not made then.
    fn bind(&self, _binding: &Binding<'_>) -> Result<(), Error> {
        Ok(())
    }

    /// Stores a new record and answers what the client is to carry.
    ///
    /// Inserts only: where a live record of this id is stored already, the answer is
    /// [`Error::Exists`] and that record stays as it is. A store with no room answers
    /// [`Error::Full`].
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>>;

    /// Reads the record; `None` where there is none, or an expired one. Never writes.
    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>>;

    /// Merges changes into the stored record, all at once: keys that are not named keep their
    /// stored values.
    ///
    /// Where the changes [expect](Changes::expected) a value that is not the stored one, nothing is
    /// written and the answer is [`Error::Conflict`]. Other keys never conflict. Answers what the
    /// client is to carry from now on.
    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>>;

    /// Moves the record from its id to a new one, atomically: of racing renames one wins and the
    /// others see [`Error::Gone`]. The old id is dead the moment this returns.
    ///
    /// A taken new id is [`Error::Exists`].
    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>>;

    /// Removes the record. Idempotent; final when it returns.
    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>>;

    /// Moves the expiry to `expires` unless it lies later already.
    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>>;

    /// The number of live sessions; [`Error::Unsupported`] where it can't be known.
    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>>;

    /// Physically removes a bounded slice of the expired records, about `limit` at most, and tells
    /// whether more remain.
    ///
    /// Never takes a live record. May block: it runs on the manager's timer thread, outside of any
    /// runtime. Cost grows with what has expired, not with what is alive.
    ///
    /// # Errors
    /// What kept it from working; the timer thread reports it and comes again.
    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error>;
}

/// A shared provider is a provider; so is a shared `dyn Provider`.
impl<P: Provider + ?Sized> Provider for Arc<P> {
    fn token(&self, text: &[u8]) -> Option<Token> {
        (**self).token(text)
    }

    fn new_token(&self) -> Result<Token, Error> {
        (**self).new_token()
    }

    fn bind(&self, binding: &Binding<'_>) -> Result<(), Error> {
        (**self).bind(binding)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        (**self).create(id, record, now)
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        (**self).load(token, now)
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        (**self).save(token, changes, now)
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        (**self).rename(token, new_id, now)
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        (**self).destroy(token, now)
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        (**self).touch(token, expires, now)
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        (**self).count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        (**self).purge(now, limit)
    }
}
