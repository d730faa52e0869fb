//! [`Delayed`]: a provider whose operations are delayed.

use futures_lite::future::yield_now;

use super::{Operation, layer};
use crate::conformance::random::Random;
use crate::provider::{
    Answer, Changes, Listed, Page, Provider, ProviderContext, ProviderFuture, Purged, Record,
    Token, Touch, Verifier,
};
use crate::{Error, SessionId, SessionKey, Timestamp};

/// The most polls that an operation waits before it acts, and again before it answers.
const MOST: usize = 4;

/// Makes each operation of a provider wait a while before it acts and before it answers, counted in
/// polls.
///
/// With `interleave` it makes requests overlap in every order,
/// and again in the same order for the same seed. Collection is not delayed.
#[derive(Debug)]
pub struct Delayed<P> {
    inner: P,
    random: Random,
}

impl<P> Delayed<P> {
    /// Delays this provider, by as much as the seed says.
    pub fn new(inner: P, seed: u64) -> Self {
        Self { inner, random: Random::new(seed) }
    }

    async fn pause(&self) {
        for _ in 0..self.random.below(MOST) {
            yield_now().await;
        }
    }

    fn around<'a, T: Send + 'a>(
        &'a self,
        _operation: Operation,
        act: impl FnOnce() -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T>
    where
        P: Sync,
    {
        ProviderFuture::boxed(async move {
            self.pause().await;
            let answer = act().await;
            self.pause().await;
            answer
        })
    }

    fn around_purge(&self, act: impl FnOnce() -> Result<Purged, Error>) -> Result<Purged, Error> {
        act()
    }
}

layer!(Delayed);
