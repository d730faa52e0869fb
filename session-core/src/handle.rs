//! One request's session, from arrival to response.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use http::header::{HeaderValue, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use once_cell::sync::OnceCell;
use tracing::debug;

use crate::credentials::Credentials;
use crate::cross_site::SiteCheck;
use crate::error::BoxError;
use crate::manager::{ManagerRef, Shared};
use crate::operations::Operations;
use crate::provider::Token;
use crate::respond::Unfinished;
use crate::state::{ClientDirective, State};
use crate::transport::{Directive, RequestHead, TokenSource};
use crate::url_context::{UrlContext, is_navigation};
use crate::{Error, Failure, LoadedSession, respond, response_headers};

/// A request's session, loaded or not: what [`Manager::start`](crate::Manager::start) returns.
///
/// A handle that is never [loaded](Self::load) costs nothing: no store is asked and no cookie sent.
pub struct SessionHandle<'m> {
    manager: ManagerRef<'m>,
    /// What the client sent. The session's own copy takes its place with the first load.
    credentials: Credentials,
    /// The request's method is safe, and it asks for no upgrade.
    safe: bool,
    site_check: SiteCheck,
    /// The client sent an id, and a browser shows the response as a page in a tab.
    navigation: bool,
    /// The request, if the transport uses URLs.
    visit: Option<Box<UrlContext>>,
    /// Made by the first load, so that a handle without one is made and dropped for next to nothing.
    session: OnceCell<LoadedSession>,
    /// The response is finished, as far as the store goes: the client can't be told anything later.
    head_sent: AtomicBool,
}

impl<'m> SessionHandle<'m> {
    #[inline]
    pub(crate) fn new(manager: ManagerRef<'m>, request: RequestHead<'_>) -> Self {
        let shared = manager.shared();
        let found = shared.transport.extract(request);
        if found.has_skipped() {
            shared.report_skipped();
        }
        let credentials = Credentials::new(&found);
        let safe = request.is_safe();
        Self {
            safe,
            site_check: shared.site_check(request, safe),
            navigation: credentials.source().is_some() && is_navigation(request.headers),
            credentials,
            visit: shared.in_urls.then(|| Box::new(UrlContext::of(request))),
            manager,
            session: OnceCell::new(),
            head_sent: AtomicBool::new(false),
        }
    }

    /// Loads the session, at the first call; later calls return the same one.
    ///
    /// A visitor without a session, or with one that is gone, gets a new, empty one, which is
    /// stored only if something is put into it. After [`finish`](Self::finish) the session is loaded
    /// afresh.
    ///
    /// A page that depends on the session has to load it before its response's head, even if a task writes the
    /// page later: by that the response is kept from [other visitors](Self::finish).
    ///
    /// A client whose id was replaced within the last 10 s (configurable: `superseded_for`) has the new
    /// one already, or is about to get it. Its request sees an empty session, stores nothing, and gets no
    /// cookie; see [`LoadedSession::start_anew`] and [`LoadedSession::log_in`] for what it can do.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// use http::{Request, Response};
    ///
    /// let mut response = Response::new("hello");
    /// handle.load().await?.set("name", "ada")?;
    /// handle.finish(&mut response).await?;
    ///
    /// // The browser's next request carries the cookie.
    /// let cookie = response.headers()["set-cookie"].to_str().expect("is ASCII");
    /// let cookie = cookie.split(';').next().unwrap_or_default();
    /// let next = Request::builder().header("cookie", cookie).body(()).expect("is a request");
    /// let session = manager.start(&next).load().await?;
    /// assert_eq!(session.get::<String>("name")?.as_deref(), Some("ada"));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the store is down: never an empty session in its place.
    ///
    /// # Cancellation
    /// Safe: nothing is written.
    pub async fn load(&self) -> Result<LoadedSession, Error> {
        let session = self.session.get_or_init(|| {
            let leaving = self.leaves_urls();
            let state = State::new(self.credentials.clone(), self.safe, self.navigation, leaving);
            LoadedSession::new(Operations::new(self.manager.to_owned(), state))
        });
        // Also if the response was finished while the session's state was made.
        if self.head_sent.load(Ordering::SeqCst) {
            session.operations().state().mark_head_sent();
        }
        session.operations().load().await?;
        Ok(session.clone())
    }

    /// Whether a session that is still in URLs leaves them with this request.
    fn leaves_urls(&self) -> bool {
        self.navigation && self.shared().transport.leaves_urls(self.token_source())
    }

    /// Where to send a browser that returned the cookie, but still has an id in its URL: the same
    /// URL without it. `None` for all other requests.
    ///
    /// Respond with `303 See Other` and this as the `Location`, and [finish](Self::finish) that
    /// response: it tells the client the new id. The [wrapper](crate::SessionService) does so by
    /// itself. Loads the session if the request may be such a one.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// use http::header::LOCATION;
    /// use http::{HeaderValue, Response, StatusCode};
    ///
    /// let mut response = Response::new(String::new());
    /// if let Some(url) = handle.clean_url().await? {
    ///     *response.status_mut() = StatusCode::SEE_OTHER;
    ///     response.headers_mut().insert(LOCATION, HeaderValue::try_from(url).expect("was in a request"));
    /// } else {
    ///     // ... the handler's own response
    /// }
    /// handle.finish(&mut response).await?;
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// # Cancellation
    /// As [`load`](Self::load).
    pub async fn clean_url(&self) -> Result<Option<String>, Error> {
        let Some(clean) = self.redirection() else { return Ok(None) };
        // Boxed, as every request's future would have to have room for it.
        let session = Box::pin(self.load()).await?;
        // The request that was faster has told the browser the new id.
        let is_known = session.operations().state().has_left_urls();
        Ok(is_known.then_some(clean))
    }

    /// The URL to go on with, if it turns out that the session is there.
    fn redirection(&self) -> Option<String> {
        let visit = self.visit.as_deref().filter(|visit| visit.is_get() && self.navigation)?;
        let transport = &self.shared().transport;
        if !transport.leaves_urls(self.token_source()) {
            return None;
        }
        visit.without_id(transport.urls()?)
    }

    /// Returns an error if the request is unsafe (neither GET, HEAD, OPTIONS nor TRACE, or a WebSocket's
    /// handshake), and a browser says that another site sent it. [`respond`](Self::respond) and the wrapper do
    /// this before the handler runs.
    ///
    /// A browser says so by `Sec-Fetch-Site`, or by an `Origin` that is not the request's own host. Requests
    /// without either come from no browser and pass, and so do those of
    /// [trusted origins](crate::CrossSiteOptions); where several managers serve a request, each has to trust
    /// them. Ids in headers need no check: no browser sends them by
    /// itself.
    ///
    /// ```
    /// # use session_core::{Error, Manager};
    /// fn check(manager: &Manager, request: &http::Request<()>) -> Result<(), Error> {
    ///     let handle = manager.start(request);
    ///     handle.check_site()?; // 403 otherwise
    ///     // ... what the request wants
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::CrossSite`].
    pub fn check_site(&self) -> Result<(), Error> {
        match self.site_check {
            SiteCheck::Allowed => Ok(()),
            site_check => {
                self.shared().report_foreign(site_check);
                Err(Error::CrossSite)
            }
        }
    }

    /// Runs the request's handler and [finishes](Self::finish) its response, on each way out: what
    /// [the wrapper](crate::SessionService) does, for use by hand.
    ///
    /// - A request from another site is refused, before the handler is polled: see
    ///   [`check_site`](Self::check_site).
    /// - A response of the handler is finished. With a status of 5xx or 408 its pending changes are dropped.
    /// - An error of the handler, a panic in it, or a failure to save become the response that `error_page`
    ///   makes; [`Failure::response`] makes a plain one. Pending changes are dropped, and the client is told
    ///   what was stored before, as by [`refuse`](Self::refuse). The error is logged.
    /// - A panic in a provider, while the response is finished, is one of the handler.
    /// - If the future is dropped, as servers do when the client goes away, pending changes are dropped.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use session_core::{Error, Failure, Manager, SessionHandle};
    ///
    /// async fn page(handle: &SessionHandle<'_>) -> Result<Response<String>, Error> {
    ///     let session = handle.load().await?;
    ///     session.log_in("ada")?;
    ///     let logins: u64 = session.update("logins", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    ///     Ok(Response::new(format!("login {logins}")))
    /// }
    ///
    /// async fn serve(manager: &Manager, request: Request<()>) -> Response<String> {
    ///     let handle = manager.start(&request);
    ///     handle.respond(page(&handle), Failure::response).await
    /// }
    /// ```
    ///
    /// Two things are left to the wrapper: [`clean_url`](Self::clean_url), and ids in pages.
    ///
    /// # Panics
    /// If `error_page` does: there is no response then.
    ///
    /// # Cancellation
    /// The stored record is as it was or as it was to become, never in between.
    pub async fn respond<B, E: Into<BoxError>>(
        &self,
        handler: impl Future<Output = Result<Response<B>, E>>,
        error_page: impl FnOnce(&Failure) -> Response<B>,
    ) -> Response<B> {
        let handles = std::slice::from_ref(self);
        let unfinished = Unfinished::new(|| respond::abandon(handles));
        respond::respond(handles, unfinished, respond::checked(handles, handler), error_page).await
    }

    /// Writes what changed to the store, in one save, then what changed for the client to the response.
    ///
    /// Nothing is written for an untouched session, or for a new one that is still empty. A
    /// response gets one `Set-Cookie` at most, and none when nothing about the cookie changes.
    ///
    /// Afterwards the session's values can be read, and what acts at once works. Nothing would store another
    /// change, so [`set`](LoadedSession::set) and the like fail until the session is [loaded](Self::load) or
    /// [reloaded](LoadedSession::reload).
    ///
    /// A response of status 5xx or 408 says that the handler failed: its pending changes are dropped. What
    /// acted at once ([`update`](LoadedSession::update), [`save`](LoadedSession::save),
    /// [`destroy`](LoadedSession::destroy)) stands, and is announced whatever the status.
    ///
    /// The response of a request that loaded its session is kept from other visitors: it gets `Vary: Cookie`
    /// (or the transport's own header), and `Cache-Control: private, no-cache` where the handler said nothing;
    /// where it said something else than `public`, `s-maxage`, `private` or `no-store`, `private` is added.
    /// With a cookie, for a request that may store nothing, and with a status of 403 or 409 it is `no-store`,
    /// whatever the handler said.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// let mut response = http::Response::new("hello");
    /// handle.load().await?.set("name", "ada")?;
    /// handle.finish(&mut response).await?;
    /// assert!(response.headers()["set-cookie"].to_str().expect("is ASCII").starts_with("__Host-id="));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or got a new id meanwhile and there was something to save; a
    /// safe request (GET, HEAD) drops it instead, and succeeds. [`Error::Unavailable`] and the like if the
    /// store failed: what was to be saved is kept for another try. The response is as it was, on every
    /// error; [`refuse`](Self::refuse) makes the client learn from the response that takes its place what was
    /// stored before.
    ///
    /// # Cancellation
    /// The stored record is as it was or as it was to become, never in between.
    pub async fn finish<B>(&self, response: &mut Response<B>) -> Result<(), Error> {
        self.store(response.status()).await?;
        self.announce(response)
    }

    /// The first half of [`finish`](Self::finish): the store.
    #[inline]
    pub(crate) async fn store(&self, status: StatusCode) -> Result<(), Error> {
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            self.roll_back();
        }
        self.write().await?;
        // Also of a session that is made before the headers are written, or after: see `load`.
        self.head_sent.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Finishes the response of a request that failed, in the handler or in [`finish`](Self::finish), whatever
    /// its status: drops the pending changes, and tells the client of what was stored before.
    ///
    /// A login may be stored by an [`update`](LoadedSession::update), for instance, before something else goes
    /// wrong. The client's old id is dead then, and a response without the new one would log the visitor out.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use session_core::{Error, Manager, SessionHandle};
    ///
    /// async fn page(handle: &SessionHandle<'_>) -> Result<Response<String>, Error> {
    ///     let session = handle.load().await?;
    ///     session.log_in("ada")?;
    ///     let logins: u64 = session.update("logins", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    ///     let mut response = Response::new(format!("login {logins}"));
    ///     handle.finish(&mut response).await?;
    ///     Ok(response)
    /// }
    ///
    /// async fn respond(manager: &Manager, request: Request<()>) -> Response<String> {
    ///     let handle = manager.start(&request);
    ///     match page(&handle).await {
    ///         Ok(response) => response,
    ///         Err(error) => {
    ///             let mut response = Response::new(error.visitor_text().to_owned());
    ///             *response.status_mut() = error.status();
    ///             handle.refuse(&mut response).await;
    ///             response
    ///         }
    ///     }
    /// }
    /// ```
    ///
    /// It waits for operations of other tasks of the request that are under way. The response is `no-store`.
    /// It has no errors of its own: what could not be told is logged at DEBUG.
    ///
    /// # Cancellation
    /// As [`finish`](Self::finish).
    pub async fn refuse<B>(&self, response: &mut Response<B>) {
        self.roll_back();
        response_headers::forbid(response.headers_mut());
        for done in [self.write().await, self.announce(response)] {
            if let Err(error) = done {
                let error: &dyn std::error::Error = &error;
                debug!(error, "a refused request's session could not be finished");
            }
        }
        // What could not be stored, and what a task does from now on, no response tells.
        self.abandon();
    }

    /// Writes what changed.
    async fn write(&self) -> Result<(), Error> {
        match self.session.get() {
            Some(session) => session.operations().finish().await,
            None => Ok(()),
        }
    }

    /// Drops what is not stored yet.
    fn roll_back(&self) {
        if let Some(session) = self.session.get() {
            session.operations().state().roll_back();
        }
    }

    /// Drops what is pending for good: there will be no response.
    pub(crate) fn abandon(&self) {
        self.head_sent.store(true, Ordering::SeqCst);
        if let Some(session) = self.session.get() {
            session.operations().state().abandon();
        }
    }

    /// The second half of [`finish`](Self::finish): the response. Writes nothing on an error, and
    /// says the same again to another response.
    #[inline]
    pub(crate) fn announce<B>(&self, response: &mut Response<B>) -> Result<(), Error> {
        let status = response.status();
        let headers = response.headers_mut();
        if let Some(session) = self.session.get() {
            let mut state = session.operations().state();
            let directive = state.directive(self.shared());
            let is_momentary = directive.is_some()
                || state.is_mute()
                || matches!(status, StatusCode::FORBIDDEN | StatusCode::CONFLICT);
            if let Some(directive) = directive {
                let transport = &self.shared().transport;
                match directive {
                    ClientDirective::Set(token, max_age) => token.with_client_text(|text| {
                        transport.write_response(Directive::Set { text, max_age }, headers)
                    })?,
                    ClientDirective::Clear => {
                        transport.write_response(Directive::Clear, headers)?;
                    }
                }
                transport.remove_old(self.credentials.old_names(), headers);
            }
            match is_momentary {
                true => response_headers::forbid(headers),
                false => response_headers::keep_private(headers),
            }
            if let Some(name) = self.shared().transport.varies_by() {
                response_headers::vary(headers, &name);
            }
            if state.announces_new_session() {
                self.shared().events.counters.count_announced(self.name());
            }
            state.announced();
        }
        self.announce_in_urls(headers);
        Ok(())
    }

    /// Puts the id into a redirect, and keeps pages with ids to themselves.
    #[inline]
    fn announce_in_urls(&self, headers: &mut HeaderMap) {
        let Some(visit) = &self.visit else { return };
        let transport = &*self.shared().transport;
        let token = if transport.uses_url(self.token_source()) { self.token() } else { None };
        if let Some(token) = &token {
            rewrite_location(headers, |url| {
                let page = visit.page();
                token.with_client_text(|text| transport.encode_url(url, page, text))
            });
        }
        // The page has ids in it, or in its own URL.
        if token.is_some() || transport.urls().is_some_and(|urls| urls.has_id(visit.page())) {
            response_headers::keep_from_leaking(headers);
        }
    }

    /// What the client will carry once the request is finished, as far as can be told before.
    fn token(&self) -> Option<Token> {
        match self.session.get() {
            Some(session) => session.operations().state().future_token(self.shared()),
            None => self.credentials.token(self.shared()),
        }
    }

    /// The URL with the session's id in it, where the transport puts ids into URLs, this URL is the
    /// application's own, and there is a session; otherwise the URL as it is.
    ///
    /// For a new session this is so once it has a value, as empty sessions are not stored. A
    /// relative reference is resolved as on the page that was asked for.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// use session_core::transport::TransportKind;
    /// use session_core::{Config, Manager};
    ///
    /// let mut config = Config::default();
    /// config.transport = TransportKind::Url;
    /// let manager = Manager::from_config(&config)?;
    /// let handle = manager.start(&http::Request::new(()));
    /// let session = handle.load().await?;
    /// session.set("name", "ada")?;
    /// let id = session.id()?;
    /// assert_eq!(handle.encode_url("/cart?page=2"), format!("/cart?page=2&sid={}", &*id.text()));
    /// assert_eq!(handle.encode_url("https://elsewhere.example/"), "https://elsewhere.example/");
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn encode_url(&self, url: &str) -> String {
        self.encoded(url).unwrap_or_else(|| url.to_owned())
    }

    /// Returns a URL of the application without the session's id, as a path and query; a URL without an id is
    /// returned as it is. Use it for URLs that are kept, such as the page to return to after a login, because the
    /// login gives the session another id.
    ///
    /// ```
    /// # session_memory::init();
    /// use session_core::transport::TransportKind;
    /// use session_core::{Config, Manager};
    ///
    /// let mut config = Config::default();
    /// config.transport = TransportKind::Url;
    /// let manager = Manager::from_config(&config)?;
    /// let handle = manager.start(&http::Request::new(()));
    /// assert_eq!(handle.without_id("/orders?sid=abc&page=2"), "/orders?page=2");
    /// assert_eq!(handle.without_id("/orders"), "/orders");
    /// # Ok::<_, session_core::Error>(())
    /// ```
    pub fn without_id(&self, url: &str) -> String {
        let urls = self.shared().transport.urls();
        urls.and_then(|urls| urls.without_id(url)).unwrap_or_else(|| url.to_owned())
    }

    fn encoded(&self, url: &str) -> Option<String> {
        let visit = self.visit.as_ref()?;
        let transport = &*self.shared().transport;
        if !transport.uses_url(self.token_source()) {
            return None;
        }
        self.token()?.with_client_text(|text| transport.encode_url(url, visit.page(), text))
    }

    /// The id that pages of the response are to carry, with the path and query of the page.
    #[cfg(feature = "rewrite")]
    pub(crate) fn insertion(&self) -> Option<(crate::rewrite::Insertion, &str)> {
        let visit = self.visit.as_ref()?;
        let transport = &*self.shared().transport;
        if !transport.uses_url(self.token_source()) || !transport.urls()?.options().rewrite {
            return None;
        }
        let text = self.token()?.with_client_text(str::to_owned);
        let transport = std::sync::Arc::clone(&self.shared().transport);
        Some((crate::rewrite::Insertion { transport, text }, visit.page()))
    }

    /// The name that the client knows the session by: the cookie's, the query argument's...
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// assert_eq!(handle.name(), "__Host-id"); // the default cookie
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn name(&self) -> &str {
        self.shared().transport.name()
    }

    /// How the client sent a token, well formed or not.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// use http::Request;
    /// use session_core::transport::TokenSource;
    ///
    /// assert_eq!(handle.token_source(), None);
    /// let request = Request::builder().header("cookie", "__Host-id=something").body(()).expect("fits");
    /// assert_eq!(manager.start(&request).token_source(), Some(TokenSource::Cookie));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn token_source(&self) -> Option<TokenSource> {
        self.credentials.source()
    }

    fn shared(&self) -> &Shared {
        self.manager.shared()
    }
}

impl fmt::Debug for SessionHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle")
            .field("name", &self.name())
            .field("source", &self.token_source())
            .finish_non_exhaustive()
    }
}

/// Puts the id into a redirect to the application itself (RFC 9110, section 10.2.2).
fn rewrite_location(headers: &mut HeaderMap, encode: impl Fn(&str) -> Option<String>) {
    let Some(location) = headers.get(LOCATION) else { return };
    let Some(encoded) = location.to_str().ok().and_then(encode) else { return };
    match HeaderValue::try_from(encoded) {
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(LOCATION, value);
        }
        // The location was a header's value and the token is text: there is no way here.
        Err(_) => debug!("a redirect could not carry the session id"),
    }
}
