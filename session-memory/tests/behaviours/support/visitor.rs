//! A client with a cookie jar.

use std::cell::RefCell;

use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use session_core::{Error, SessionHandle, SessionId, Token};

use super::{Site, block_on};

/// One browser: it keeps the cookie that the site sets, and checks when it goes that none of the
/// ids it ever had were logged.
pub(crate) struct Visitor<'s> {
    site: &'s Site,
    cookie: RefCell<Option<String>>,
    secrets: RefCell<Vec<String>>,
}

impl<'s> Visitor<'s> {
    pub(crate) fn new(site: &'s Site) -> Self {
        Self { site, cookie: RefCell::default(), secrets: RefCell::default() }
    }

    /// A visitor whose jar has this value.
    pub(crate) fn with_cookie(site: &'s Site, value: &str) -> Self {
        let visitor = Self::new(site);
        visitor.keep(Some(value));
        visitor
    }

    /// The cookie's value.
    pub(crate) fn cookie(&self) -> Option<String> {
        self.cookie.borrow().clone()
    }

    /// The id in the jar.
    pub(crate) fn id(&self) -> SessionId {
        let cookie = self.cookie().expect("the visitor has a cookie");
        SessionId::parse(&cookie).expect("the cookie is an id")
    }

    pub(crate) fn token(&self) -> Token {
        Token::from(self.id())
    }

    /// Another tab of the same browser.
    pub(crate) fn tab(&self) -> Self {
        let tab = Self::new(self.site);
        tab.keep(self.cookie().as_deref());
        tab
    }

    pub(crate) fn request(&self) -> Request<()> {
        let mut request = Request::new(());
        if let Some(value) = &*self.cookie.borrow() {
            let cookie = format!("{}={value}", self.site.manager.name());
            request.headers_mut().insert(COOKIE, HeaderValue::try_from(cookie).expect("is text"));
        }
        request
    }

    /// One request: the handler runs, the session is finished, the cookie kept.
    pub(crate) fn visit<R>(
        &self,
        handler: impl AsyncFnOnce(&SessionHandle<'_>) -> R,
    ) -> (R, Reply) {
        let (answer, reply) = self.try_visit(handler);
        (answer, reply.expect("the session is finished"))
    }

    /// One request that may fail to finish.
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

    /// A visit that sets one key.
    pub(crate) fn set(&self, key: &str, value: u64) -> Reply {
        self.visit(async |handle| handle.load().await.unwrap().set(key, &value).unwrap()).1
    }

    /// A visit that reads one key.
    pub(crate) fn get(&self, key: &str) -> Option<u64> {
        self.visit(async |handle| handle.load().await.unwrap().get(key).unwrap()).0
    }

    /// Takes a response's cookie into the jar.
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
        self.secrets.borrow_mut().extend(value.filter(|value| value.len() >= 8).map(str::to_owned));
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

/// What the visitor got.
#[derive(Debug)]
pub(crate) struct Reply(pub(crate) Response<()>);

impl Reply {
    /// The one `Set-Cookie`, if there is one; there must not be two.
    pub(crate) fn set_cookie(&self) -> Option<&str> {
        let mut all = self.0.headers().get_all(SET_COOKIE).iter();
        let first = all.next();
        assert!(all.next().is_none(), "two Set-Cookie headers");
        first.map(|value| value.to_str().expect("a cookie is ASCII"))
    }

    /// What stands behind the cookie's value.
    pub(crate) fn attributes(&self) -> &str {
        let (_, attributes) = self.set_cookie().expect("a cookie is set").split_once("; ").unwrap();
        attributes
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name).map(|value| value.to_str().expect("the header is ASCII"))
    }

    /// Whether the response says nothing at all about sessions.
    pub(crate) fn is_plain(&self) -> bool {
        self.0.headers().is_empty()
    }
}

/// Whether a request finds no session, at the cost of this many store calls.
pub(crate) fn is_anonymous(site: &Site, request: &Request<()>) -> (bool, usize) {
    site.store.calls();
    block_on(async {
        let handle = site.manager.start(request);
        let session = handle.load().await.expect("the store is up");
        let anonymous = session.is_new() && session.keys().unwrap().is_empty();
        handle.finish(&mut Response::new(())).await.unwrap();
        (anonymous, site.store.calls().len())
    })
}
