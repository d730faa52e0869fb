//! A program with sessions, and its visitors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Method, Request};

use super::{Delayed, Harness};
use crate::clock::TestClock;
use crate::conformance::expect::expect_matches;
use crate::provider::{Provider, Token};
use crate::{Config, Error, LoadedSession, Manager, ManagerBuilder};

/// One process: a manager over a provider.
pub(crate) struct Site {
    pub(crate) manager: Manager,
    provider: Arc<dyn Provider>,
}

impl Site {
    /// A site at the harness' time, that collects nothing by itself.
    pub(crate) fn over(provider: impl Provider, harness: &dyn Harness) -> Self {
        Self::build(provider, harness, |builder| builder)
    }

    pub(crate) fn build(
        provider: impl Provider,
        harness: &dyn Harness,
        edit: impl FnOnce(ManagerBuilder) -> ManagerBuilder,
    ) -> Self {
        let provider: Arc<dyn Provider> = Arc::new(provider);
        let config = Config { gc_every: Duration::ZERO, ..Config::default() };
        let builder = Manager::builder()
            .with_config(config)
            .with_provider(Arc::clone(&provider))
            .with_clock(Arc::new(TestClock::at(harness.now())));
        let manager = edit(builder).build().expect("the configuration is right");
        Self { manager, provider }
    }

    /// Two processes over the same store, slow by a seed.
    pub(crate) fn two(harness: &dyn Harness, seed: u64) -> [Self; 2] {
        let delayed = |provider, seed| Self::over(Delayed::new(provider, seed), harness);
        [delayed(harness.provider(), seed), delayed(harness.another(), !seed)]
    }

    /// A request of a form, from its arrival to the response.
    pub(crate) async fn request(
        &self,
        visitor: &Visitor,
        handler: impl AsyncFnOnce(LoadedSession) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        self.serve(visitor.request(Method::POST), handler).await
    }

    /// A request of a page, from its arrival to the response.
    pub(crate) async fn page(
        &self,
        visitor: &Visitor,
        handler: impl AsyncFnOnce(LoadedSession) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        self.serve(visitor.request(Method::GET), handler).await
    }

    /// A request, from its arrival to the response.
    pub(crate) async fn serve(
        &self,
        request: Request<()>,
        handler: impl AsyncFnOnce(LoadedSession) -> Result<(), Error>,
    ) -> Result<Reply, Error> {
        let handle = self.manager.start(&request);
        handler(handle.load().await?).await?;
        let mut response = http::Response::new(());
        let finished = handle.finish(&mut response).await;
        if finished.is_err() {
            assert!(response.headers().is_empty(), "a failed request announces something");
        }
        finished.map(|()| Reply::of(response.headers()))
    }

    /// A visitor whose session has these numbers.
    pub(crate) async fn enter(&self, values: &[(&str, u64)]) -> Visitor {
        let stranger = Visitor::stranger();
        let entered = self.request(&stranger, async |session| {
            values.iter().try_for_each(|(key, value)| session.set(key, value))
        });
        match entered.await {
            Ok(Reply::Issued(visitor)) => visitor,
            other => panic!("a first visit returns {other:?}"),
        }
    }

    /// What a visitor's session has.
    pub(crate) async fn values(&self, visitor: &Visitor) -> BTreeMap<String, u64> {
        let mut values = BTreeMap::new();
        let read = self.page(visitor, async |session| {
            for key in session.keys() {
                let value = session.get(&key)?.expect("listed keys have values");
                values.insert(key, value);
            }
            Ok(())
        });
        let answer = read.await.expect("reading works");
        expect_matches!(answer, Reply::Nothing, "reading announces {answer:?}");
        values
    }

    /// What a visitor carries, as the provider reads it.
    pub(crate) fn token(&self, visitor: &Visitor) -> Token {
        let cookie = visitor.0.as_deref().expect("the visitor has a session");
        let (_, text) = cookie.split_once('=').expect("a cookie has a value");
        self.provider.token(text.as_bytes()).expect("the provider reads what it wrote")
    }
}

/// Numbers by key, as [`Site::values`] returns them.
pub(crate) fn numbers(values: &[(&str, u64)]) -> BTreeMap<String, u64> {
    values.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

/// A client, with the cookie that it carries.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Visitor(Option<String>);

impl Visitor {
    pub(crate) fn stranger() -> Self {
        Self(None)
    }

    /// One who sends anything as the session's cookie.
    pub(crate) fn with_text(text: &str) -> Self {
        Self(Some(format!("{}={text}", crate::transport::CookieOptions::default().name)))
    }

    pub(crate) fn request(&self, method: Method) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        if let Some(cookie) = &self.0 {
            let value = cookie.as_str().try_into().expect("a cookie fits a header");
            request.headers_mut().insert(COOKIE, value);
        }
        request
    }
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Visitor(redacted)" } else { "Visitor(stranger)" })
    }
}

/// What a response tells the client.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Nothing new.
    Nothing,
    /// A session to carry from now on.
    Issued(Visitor),
    /// Its session is over.
    Removed,
}

impl Reply {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert!(cookies.len() <= 1, "a response has {} cookies for one session", cookies.len());
        let Some(cookie) = cookies.first() else { return Self::Nothing };
        let cookie = cookie.to_str().expect("a cookie is ASCII");
        let (pair, _) = cookie.split_once(';').expect("the cookie has attributes");
        match pair.ends_with('=') {
            true => Self::Removed,
            false => Self::Issued(Visitor(Some(pair.to_owned()))),
        }
    }

    /// The visitor after this response.
    pub(crate) fn reaches(self, visitor: Visitor) -> Visitor {
        match self {
            Self::Nothing => visitor,
            Self::Issued(visitor) => visitor,
            Self::Removed => Visitor::stranger(),
        }
    }
}
