//! A client with a cookie jar.

use std::cell::RefCell;

use http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE, VARY};
use http::{Method, Request, Response, StatusCode};
use session_core::provider::Token;
use session_core::{Error, LoadedSession, SessionHandle, SessionId, SessionKey};

use super::{Site, block_on};

/// A browser. It keeps the cookie that the site sets. When it is dropped, it checks that none of its ids
/// was logged.
pub(crate) struct Visitor<'s> {
    site: &'s Site,
    cookie: RefCell<Option<String>>,
    secrets: RefCell<Vec<String>>,
}

impl<'s> Visitor<'s> {
    pub(crate) fn new(site: &'s Site) -> Self {
        Self { site, cookie: RefCell::default(), secrets: RefCell::default() }
    }

    /// Makes a visitor whose jar has this value.
    pub(crate) fn with_cookie(site: &'s Site, value: &str) -> Self {
        let visitor = Self::new(site);
        visitor.keep(Some(value));
        visitor
    }

    /// Returns the cookie's value.
    pub(crate) fn cookie(&self) -> Option<String> {
        self.cookie.borrow().clone()
    }

    /// Returns the text of the id in the jar.
    pub(crate) fn id(&self) -> String {
        self.token().with_client_text(str::to_owned)
    }

    /// Returns the key of the id in the jar.
    pub(crate) fn key(&self) -> SessionKey {
        self.token().key()
    }

    pub(crate) fn token(&self) -> Token {
        let cookie = self.cookie().expect("the visitor has a cookie");
        Token::from(SessionId::parse(&cookie).expect("the cookie is an id"))
    }

    /// Returns another tab of the same browser.
    pub(crate) fn tab(&self) -> Self {
        let tab = Self::new(self.site);
        tab.keep(self.cookie().as_deref());
        tab
    }

    /// Returns an unsafe request, so that changes that can't be stored are an error.
    pub(crate) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        if let Some(value) = &*self.cookie.borrow() {
            let cookie = format!("{}={value}", self.site.manager.name());
            request.headers_mut().insert(COOKIE, HeaderValue::try_from(cookie).expect("is text"));
        }
        request
    }

    /// Starts a request that loads its session now and is finished later.
    pub(crate) fn begin(&self, method: Method) -> Underway {
        let mut request = self.request();
        *request.method_mut() = method;
        Underway::of(self.site, &request)
    }

    /// Performs a request: runs the handler, finishes the session and keeps the cookie.
    pub(crate) fn visit<R>(
        &self,
        handler: impl AsyncFnOnce(&SessionHandle<'_>) -> R,
    ) -> (R, Reply) {
        let (answer, reply) = self.try_visit(handler);
        (answer, reply.expect("the session is finished"))
    }

    /// Performs a request that may fail to finish.
    pub(crate) fn try_visit<R>(
        &self,
        handler: impl AsyncFnOnce(&SessionHandle<'_>) -> R,
    ) -> (R, Result<Reply, Error>) {
        let request = self.request();
        block_on(async {
            let handle = self.site.manager.start(&request);
            let answer = handler(&handle).await;
            let mut response = Response::new(());
            let finished = handle.finish(&mut response).await;
            if finished.is_err() {
                assert!(response.headers().is_empty(), "a failed finish left headers behind");
            }
            (answer, finished.map(|()| self.receive(response)))
        })
    }

    /// Performs a request that sets one key.
    pub(crate) fn set(&self, key: &str, value: u64) -> Reply {
        self.visit(async |handle| handle.load().await.unwrap().set(key, &value).unwrap()).1
    }

    /// Performs a request that reads one key.
    pub(crate) fn get(&self, key: &str) -> Option<u64> {
        self.visit(async |handle| handle.load().await.unwrap().get(key).unwrap()).0
    }

    /// Performs a request that returns the owner.
    pub(crate) fn owner(&self) -> Option<String> {
        self.begin(Method::GET).session.owner()
    }

    /// Puts a response's cookie into the jar.
    pub(crate) fn receive(&self, response: Response<()>) -> Reply {
        let reply = Reply(response);
        if let Some(set_cookie) = reply.set_cookie() {
            let (pair, attributes) = set_cookie.split_once("; ").expect("has attributes");
            let (name, value) = pair.split_once('=').expect("has a name");
            assert_eq!(name, self.site.manager.name());
            let removed = attributes.split("; ").any(|attribute| attribute == "Max-Age=0");
            self.keep((!removed).then_some(value));
        }
        reply
    }

    fn keep(&self, value: Option<&str>) {
        // An id's key may be logged, its secret may not.
        let secret = |value: &str| match value.len() {
            SessionId::TEXT_LEN => value[SessionKey::TEXT_LEN..].to_owned(),
            _ => value.to_owned(),
        };
        self.secrets.borrow_mut().extend(value.filter(|value| value.len() >= 8).map(secret));
        self.cookie.replace(value.map(str::to_owned));
    }
}

impl Drop for Visitor<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.site.log.assert_silent_about(self.secrets.borrow().iter().map(String::as_str));
        }
    }
}

/// A request whose session is loaded, and whose response is not sent yet.
pub(crate) struct Underway {
    pub(crate) handle: SessionHandle<'static>,
    pub(crate) session: LoadedSession,
}

impl Underway {
    pub(crate) fn of(site: &Site, request: &Request<()>) -> Self {
        let handle = site.manager.start_owned(request);
        let session = block_on(handle.load()).expect("the store is up");
        Self { handle, session }
    }

    /// Finishes the request. Pass the response to [`Visitor::receive`].
    pub(crate) fn finish(&self) -> Result<Response<()>, Error> {
        self.finish_with(StatusCode::OK)
    }

    pub(crate) fn finish_with(&self, status: StatusCode) -> Result<Response<()>, Error> {
        let mut response = Response::new(());
        *response.status_mut() = status;
        block_on(self.handle.finish(&mut response)).map(|()| response)
    }

    /// Returns whether the request sees no session.
    pub(crate) fn sees_nothing(&self) -> bool {
        let Self { session, .. } = self;
        session.is_new() && session.keys().is_empty() && session.owner().is_none()
    }
}

/// The response that a visitor got.
#[derive(Debug)]
pub(crate) struct Reply(pub(crate) Response<()>);

impl Reply {
    /// Returns the only `Set-Cookie`, if there is one. Panics if there are two.
    pub(crate) fn set_cookie(&self) -> Option<&str> {
        let mut all = self.0.headers().get_all(SET_COOKIE).iter();
        let first = all.next();
        assert!(all.next().is_none(), "two Set-Cookie headers");
        first.map(|value| value.to_str().expect("a cookie is ASCII"))
    }

    /// Returns the cookie's attributes.
    pub(crate) fn attributes(&self) -> &str {
        let (_, attributes) = self.set_cookie().expect("a cookie is set").split_once("; ").unwrap();
        attributes
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name).map(|value| value.to_str().expect("the header is ASCII"))
    }

    /// Returns whether the response has no header about sessions.
    pub(crate) fn is_plain(&self) -> bool {
        is_silent(&self.0)
    }
}

/// Returns whether a request finds no session, and the number of store calls.
pub(crate) fn is_anonymous(site: &Site, request: &Request<()>) -> (bool, usize) {
    site.store.calls();
    block_on(async {
        let handle = site.manager.start(request);
        let session = handle.load().await.expect("the store is up");
        let anonymous = session.is_new() && session.keys().is_empty();
        handle.finish(&mut Response::new(())).await.unwrap();
        (anonymous, site.store.calls().len())
    })
}

/// Returns whether a response sets no cookie or token. Cache headers don't count.
pub(crate) fn is_silent<B>(response: &Response<B>) -> bool {
    response.headers().keys().all(|name| matches!(*name, VARY | CACHE_CONTROL))
}
