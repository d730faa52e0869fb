//! A program with sealed sessions, and its visitors.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use http::header::{COOKIE, SET_COOKIE};
use http::{Method, Request, Response};
use session_cookie::SecretKey;
use session_core::clock::TestClock;
use session_core::provider::Provider;
use session_core::{Config, Error, LoadedSession, Manager, Timestamp};

/// The time at which the tests start.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Returns a fixed key.
pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_bytes([n; 32]).expect("is not zero")
}

/// Returns the source option with that key.
pub(crate) fn key_option(n: u8) -> String {
    format!("key={}", *key(n).text())
}

pub(crate) struct Site {
    pub(crate) manager: Manager,
    pub(crate) clock: Arc<TestClock>,
}

impl Site {
    /// Returns a site with this provider and source, and the default cookie name.
    pub(crate) fn open(provider: &str, source: &str) -> Self {
        Self::with_config(|config| {
            config.provider = provider.into();
            config.source = source.into();
        })
    }

    pub(crate) fn with_config(edit: impl FnOnce(&mut Config)) -> Self {
        session_cookie::init();
        session_file::init();
        session_memory::init();
        let mut config = Config::default();
        config.gc_every = Duration::ZERO;
        edit(&mut config);
        let clock = Arc::new(TestClock::at(START));
        let builder = Manager::builder().with_config(config).with_clock(clock.clone());
        Self { manager: builder.build().expect("the configuration is right"), clock }
    }

    /// Returns a site with this provider.
    pub(crate) fn over(provider: impl Provider) -> Self {
        let mut config = Config::default();
        config.gc_every = Duration::ZERO;
        let clock = Arc::new(TestClock::at(START));
        let builder = Manager::builder().with_config(config).with_provider(provider);
        let manager =
            builder.with_clock(clock.clone()).build().expect("the configuration is right");
        Self { manager, clock }
    }

    /// Performs a request. Returns the handler's result, and the visitor with the cookie after the
    /// response.
    pub(crate) fn request<T>(
        &self,
        visitor: &Visitor,
        handler: impl AsyncFnOnce(LoadedSession) -> Result<T, Error>,
    ) -> Result<(T, Visitor), Error> {
        block_on(self.request_async(visitor, handler))
    }

    /// Does the same as `request`, within another request.
    pub(crate) async fn request_async<T>(
        &self,
        visitor: &Visitor,
        handler: impl AsyncFnOnce(LoadedSession) -> Result<T, Error>,
    ) -> Result<(T, Visitor), Error> {
        let handle = self.manager.start(&visitor.request());
        let answer = handler(handle.load().await?).await?;
        let mut response = Response::new(());
        let finished = handle.finish(&mut response).await;
        assert!(finished.is_ok() || response.headers().is_empty(), "an error announces nothing");
        finished?;
        Ok((answer, visitor.after(&response)))
    }

    /// Returns a visitor whose session has a user.
    pub(crate) fn enter(&self, user: &str) -> Visitor {
        let entered = self.request(&Visitor::default(), async |session| session.set("user", user));
        let ((), visitor) = entered.expect("a first visit succeeds");
        assert!(visitor.0.is_some(), "and gets a cookie");
        visitor
    }

    /// Returns a visitor's user, and the visitor with the cookie after that request.
    pub(crate) fn user(&self, visitor: &Visitor) -> (Option<String>, Visitor) {
        self.request(visitor, async |session| session.get("user")).expect("reading works")
    }
}

/// A client with the name and value of its cookie.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Visitor(pub(crate) Option<(String, String)>);

impl Visitor {
    pub(crate) fn with(name: &str, text: &str) -> Self {
        Self(Some((name.into(), text.into())))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0.as_ref().expect("the visitor carries something").1
    }

    /// Returns the same client with another text in its cookie.
    pub(crate) fn carrying(&self, text: &str) -> Self {
        Self::with(&self.0.as_ref().expect("the visitor carries something").0, text)
    }

    pub(crate) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        // In an unsafe request, values that can't be stored are an error.
        *request.method_mut() = Method::POST;
        if let Some((name, text)) = &self.0 {
            let cookie = format!("{name}={text}").parse().expect("fits a header");
            request.headers_mut().insert(COOKIE, cookie);
        }
        request
    }

    pub(crate) fn after(&self, response: &Response<()>) -> Self {
        let mut cookies = response.headers().get_all(SET_COOKIE).iter();
        let Some(cookie) = cookies.next() else { return self.clone() };
        assert!(cookies.next().is_none(), "one cookie at most");
        let pair = cookie.to_str().expect("is text").split(';').next().expect("has a pair");
        match pair.split_once('=').expect("is a pair") {
            (_, "") => Self::default(),
            (name, text) => Self::with(name, text),
        }
    }
}

impl std::fmt::Debug for Visitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Visitor(redacted)" } else { "Visitor(stranger)" })
    }
}
