//! A site of axum's over a store in memory that counts and fails on demand, and its visitors.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use http::header::{COOKIE, HeaderName, LOCATION, SET_COOKIE};
use http::{HeaderMap, Request, StatusCode};
use session_core::clock::TestClock;
use session_core::provider::{
    Answer, Changes, Provider, ProviderFuture, Purged, Record, Token, Touch, Verifier,
};
use session_core::{Config, Error, Manager, SessionId, SessionKey, Timestamp};
use session_memory::{MemoryConfig, MemoryProvider};
use tower::{Service, ServiceExt as _};

/// The memory provider, with a journal of its calls and a switch.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    inner: Arc<MemoryProvider>,
    calls: Arc<Mutex<Vec<&'static str>>>,
    broken: Arc<Mutex<Option<&'static str>>>,
}

impl Store {
    fn new() -> Self {
        let inner = Arc::new(MemoryProvider::new(MemoryConfig::default()));
        Self { inner, calls: Arc::default(), broken: Arc::default() }
    }

    /// The calls since this was last asked.
    pub(crate) fn calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.calls.lock().unwrap())
    }

    /// Lets an operation fail from now on, or none.
    pub(crate) fn fail(&self, operation: Option<&'static str>) {
        *self.broken.lock().unwrap() = operation;
    }

    fn ask<'a, T>(
        &self,
        operation: &'static str,
        answer: impl FnOnce() -> Answer<'a, T>,
    ) -> Answer<'a, T> {
        self.calls.lock().unwrap().push(operation);
        match *self.broken.lock().unwrap() {
            Some(broken) if broken == operation => {
                ProviderFuture::ready(Err(Error::unavailable("pulled the plug")))
            }
            _ => answer(),
        }
    }
}

impl Provider for Store {
    fn verifier(&self, token: &Token, namespace: &str) -> Verifier {
        self.inner.verifier(token, namespace)
    }

    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.ask("create", || self.inner.create(id, record, now))
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        self.ask("load", || self.inner.load(token, now))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.ask("save", || self.inner.save(token, holder, changes, now))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.ask("touch", || self.inner.touch(token, touch, now))
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        self.ask("destroy", || self.inner.destroy(key, until, now))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        self.inner.count(now)
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        self.inner.purge(now, limit)
    }
}

/// A manager over a store of its own.
pub(crate) struct Site {
    pub(crate) manager: Manager,
    pub(crate) store: Store,
    pub(crate) clock: Arc<TestClock>,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self::configured(|_| ())
    }

    pub(crate) fn named(name: &str) -> Self {
        Self::configured(|config| config.cookie.name = name.into())
    }

    pub(crate) fn configured(configure: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        config.gc_every = Duration::ZERO;
        configure(&mut config);
        let (store, clock) = (Store::new(), Arc::new(TestClock::default()));
        let builder = Manager::builder().with_config(config).with_provider(store.clone());
        let manager = builder.with_clock(clock.clone()).build().expect("is configured right");
        Self { manager, store, clock }
    }
}

/// A browser: returns cookies, and has none yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Visitor {
    jar: Vec<(String, String)>,
}

/// A response, read to its end.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Visitor {
    /// A request with the jar's cookies.
    pub(crate) fn request(&self, method: &str, uri: &str) -> Request<Body> {
        let mut request = Request::builder().method(method).uri(uri);
        if !self.jar.is_empty() {
            request = request.header(COOKIE, self.cookie());
        }
        request.body(Body::empty()).unwrap()
    }

    /// The `Cookie` header.
    pub(crate) fn cookie(&self) -> String {
        let pairs: Vec<_> =
            self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        pairs.join("; ")
    }

    pub(crate) fn has_cookie(&self) -> bool {
        !self.jar.is_empty()
    }

    /// Keeps the cookies of a response.
    pub(crate) fn keep(&mut self, headers: &HeaderMap) {
        for set in headers.get_all(SET_COOKIE) {
            let pair = set.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            self.jar.retain(|(other, _)| other != name);
            if !value.is_empty() {
                self.jar.push((name.into(), value.into()));
            }
        }
    }

    pub(crate) async fn send(&mut self, app: &Router, request: Request<Body>) -> Reply {
        let reply = reply(app, request).await;
        self.keep(&reply.headers);
        reply
    }

    pub(crate) async fn get(&mut self, app: &Router, uri: &str) -> Reply {
        self.send(app, self.request("GET", uri)).await
    }

    pub(crate) async fn post(&mut self, app: &Router, uri: &str) -> Reply {
        self.send(app, self.request("POST", uri)).await
    }
}

impl Reply {
    /// Checks the status and returns the text.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> &str {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.text.trim_end()
    }

    pub(crate) fn header(&self, name: HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Where it leads.
    #[track_caller]
    pub(crate) fn location(&self) -> &str {
        assert_eq!(self.status, 303, "{self:?}");
        self.header(LOCATION).unwrap()
    }
}

/// What an application responds.
pub(crate) async fn reply(app: &Router, request: Request<Body>) -> Reply {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(text.to_vec()).unwrap();
    Reply { status: parts.status, headers: parts.headers, text }
}

/// Polls a service until it is ready, and calls it.
pub(crate) async fn call<S, B>(service: &mut S, request: Request<B>) -> S::Response
where
    S: Service<Request<B>, Error = std::convert::Infallible>,
{
    let ready = service.ready().await;
    let Ok(ready) = ready;
    let Ok(response) = ready.call(request).await;
    response
}
