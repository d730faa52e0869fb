//! [`SessionHandle`]: the session of one request, from [`start`](crate::Manager::start) to
//! [`finish`](SessionHandle::finish). `announce` writes the `Set-Cookie`, `Vary` and `Cache-Control` headers
//! of the response; `state/set_cookie.rs` decides what the cookie is.

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

/// The session of one request, loaded or not. [`Manager::start`](crate::Manager::start) returns it.
///
/// A handle that is never [loaded](Self::load) costs nothing: it does not access the store and sends no
/// cookie.
///
/// A handle has to be [finished](Self::finish), or [refused](Self::refuse) on an error;
/// [`respond`](Self::respond) does either. If it is dropped instead, pending changes are lost. A warning is logged
/// when the last clone of the loaded session is dropped, too.
pub struct SessionHandle<'m> {
    manager: ManagerRef<'m>,
    /// The ids that the client sent. The first load copies them into the session's state.
    credentials: Credentials,
    /// The request's method is safe (GET, HEAD, OPTIONS or TRACE), and the request asks for no upgrade.
    is_safe: bool,
    site_check: SiteCheck,
    /// The client sent an id, and the request is a navigation: a browser shows the response as a page in a
    /// tab.
    is_navigation: bool,
    /// What URL rewriting needs to know of the request, if the transport puts ids into URLs.
    url_context: Option<Box<UrlContext>>,
    /// The first load creates it, so that a handle that is never loaded is cheap to create and to drop.
    session: OnceCell<LoadedSession>,
    /// The store part of the response is finished: the client can't be sent a new id any more.
    head_sent: AtomicBool,
}

impl<'m> SessionHandle<'m> {
    #[inline]
    pub(crate) fn new(manager: ManagerRef<'m>, request: RequestHead<'_>) -> Self {
        let shared = manager.shared();
        let extracted = shared.transport.extract(request);
        if extracted.has_skipped() {
            shared.report_skipped();
        }
        let credentials = Credentials::new(&extracted);
        let is_safe = request.is_safe();
        Self {
            is_safe,
            site_check: shared.site_check(request, is_safe),
            is_navigation: credentials.source().is_some() && is_navigation(request.headers),
            credentials,
            url_context: shared.uses_urls.then(|| Box::new(UrlContext::of(request))),
            manager,
            session: OnceCell::new(),
            head_sent: AtomicBool::new(false),
        }
    }

    /// Loads the session at the first call. Later calls return the same session.
    ///
    /// A visitor who has no session, or whose session is gone, gets a new, empty session, which is stored
    /// only if a value is set in it. After [`finish`](Self::finish), `load` loads the session again from the
    /// store.
    ///
    /// A handler whose page depends on the session must load the session before it returns the response's
    /// head, even if a task writes the page later: loading is what makes [`finish`](Self::finish) keep the
    /// response out of shared caches.
    ///
    /// A client whose id was replaced within the last 10 s (configurable as `superseded_for`) has received
    /// the new id, or is about to. A request with the superseded id sees an empty session, stores nothing,
    /// and gets no cookie. [`LoadedSession::start_anew`] and [`LoadedSession::log_in`] document what such a
    /// request can do.
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
    /// [`Error::Unavailable`] if the store is down. A failing store never results in an empty session.
    ///
    /// # Cancellation
    /// Safe: nothing is written.
    pub async fn load(&self) -> Result<LoadedSession, Error> {
        let session = self.session.get_or_init(|| {
            let leaving = self.leaves_urls();
            let state =
                State::new(self.credentials.clone(), self.is_safe, self.is_navigation, leaving);
            LoadedSession::new(Operations::new(self.manager.to_owned(), state))
        });
        // Also checked for a response that was finished while the state was being created.
        if self.head_sent.load(Ordering::SeqCst) {
            session.operations().state().mark_head_sent();
        }
        session.operations().load().await?;
        Ok(session.clone())
    }

    /// Returns whether a session whose id is in URLs switches to the cookie with this request.
    fn leaves_urls(&self) -> bool {
        self.is_navigation && self.shared().transport.leaves_urls(self.token_source())
    }

    /// Returns the URL to redirect to if a browser returned the cookie but still has an id in its URL: the
    /// same URL without the id. Returns `None` for all other requests.
    ///
    /// Respond with `303 See Other` and this URL as the `Location`, and [finish](Self::finish) that response,
    /// which sends the new id to the client. The [wrapper](crate::SessionService) does so automatically. This
    /// function loads the session if the request's URL has an id and the browser sent the cookie.
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
        let Some(clean) = self.url_without_id() else { return Ok(None) };
        // Boxed, because otherwise every request's future would have room for it.
        let session = Box::pin(self.load()).await?;
        // A concurrent request that was faster has already sent the new id to the browser.
        let is_known = session.operations().state().has_left_urls();
        Ok(is_known.then_some(clean))
    }

    /// Returns the request's URL without the id, if the browser should be redirected there once the session
    /// is known to exist.
    fn url_without_id(&self) -> Option<String> {
        let context =
            self.url_context.as_deref().filter(|context| context.is_get() && self.is_navigation)?;
        let transport = &self.shared().transport;
        if !transport.leaves_urls(self.token_source()) {
            return None;
        }
        context.without_id(transport.urls()?)
    }

    /// Returns an error if the request is unsafe (neither GET, HEAD, OPTIONS nor TRACE, or a WebSocket
    /// handshake) and the browser's headers show that another site sent it. [`respond`](Self::respond) and
    /// the wrapper make this check before the handler runs.
    ///
    /// The headers are `Sec-Fetch-Site`, or an `Origin` that is not the request's own host. A request with
    /// neither header does not come from a browser and passes. A request from a [trusted
    /// origin](crate::CrossSiteOptions) passes too; where several managers serve a request, each has to trust
    /// the origin. Ids in headers need no check, because no browser sends them by itself.
    ///
    /// ```
    /// # use session_core::{Error, Manager};
    /// fn check(manager: &Manager, request: &http::Request<()>) -> Result<(), Error> {
    ///     let handle = manager.start(request);
    ///     handle.check_site()?; // Err: respond with 403
    ///     // ... what the request wants
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::CrossSite`] if another site sent the request.
    pub fn check_site(&self) -> Result<(), Error> {
        match self.site_check {
            SiteCheck::Allowed => Ok(()),
            site_check => {
                self.shared().report_cross_site(site_check);
                Err(Error::CrossSite)
            }
        }
    }

    /// Runs the request's handler and [finishes](Self::finish) its response, whether the handler succeeds,
    /// fails or panics. [The wrapper](crate::SessionService) does the same for hyper services; this function
    /// is for servers without it.
    ///
    /// - A request from another site is refused before the handler is polled; see
    ///   [`check_site`](Self::check_site).
    /// - A response of the handler is finished. If its status is 5xx or 408, the pending changes are dropped.
    /// - If the handler returns an error or panics, or if saving fails, the response is the one that
    ///   `error_page` returns; [`Failure::response`] returns a plain one. Pending changes are dropped, the
    ///   response gets the cookie for what was stored before, as with [`refuse`](Self::refuse), and the error
    ///   is logged.
    /// - A panic in a provider while the response is finished is handled like a panic in the handler.
    /// - If the future is dropped, as servers do when the client disconnects, pending changes are dropped.
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
    /// Only the wrapper does two more things: it redirects to the [`clean_url`](Self::clean_url), and it puts
    /// ids into HTML pages.
    ///
    /// # Panics
    /// If `error_page` panics. There is no response then.
    ///
    /// # Cancellation
    /// The stored record has either none or all of the changes of an operation, never a part of them.
    pub async fn respond<B, E: Into<BoxError>>(
        &self,
        handler: impl Future<Output = Result<Response<B>, E>>,
        error_page: impl FnOnce(&Failure) -> Response<B>,
    ) -> Response<B> {
        let handles = std::slice::from_ref(self);
        let unfinished = Unfinished::new(|| respond::abandon(handles));
        respond::respond(handles, unfinished, respond::checked(handles, handler), error_page).await
    }

    /// Saves the changes to the store in one operation, then writes the session's headers to the response.
    ///
    /// An unchanged session and a new session that is still empty are not saved. The response gets at most
    /// one `Set-Cookie`, and none if nothing about the cookie changes.
    ///
    /// Afterwards the session's values can still be read, and the `async` operations still work. Nothing
    /// would save another change, so [`set`](LoadedSession::set) and the other synchronous changes fail until
    /// the session is [loaded](Self::load) or [reloaded](LoadedSession::reload).
    ///
    /// A response of status 5xx or 408 means that the handler failed, so its pending changes are dropped.
    /// Operations that acted on the store at once ([`update`](LoadedSession::update),
    /// [`save`](LoadedSession::save), [`destroy`](LoadedSession::destroy)) are not undone, and the response
    /// sends their cookie whatever its status.
    ///
    /// If the request loaded its session, the response is kept out of shared caches. It gets `Vary: Cookie`
    /// (or the transport's own header). If the handler set no `Cache-Control`, it gets `Cache-Control:
    /// private, no-cache`; if the handler set one without `public`, `s-maxage`, `private` and `no-store`,
    /// `private` is added. A response with a cookie, one for a request that may store nothing, and one of
    /// status 403 or 409 get `no-store`, whatever the handler set.
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
    /// [`Error::Gone`] if the session ended or got a new id meanwhile and there was something to save; a safe
    /// request (GET, HEAD) drops its changes instead and succeeds. [`Error::Unavailable`] and the other
    /// errors of a failed store; the changes stay pending, so `finish` can be called again. On every error
    /// the response is unchanged. Call [`refuse`](Self::refuse) on the response that is sent instead, so that
    /// the client gets the cookie for what was stored before.
    ///
    /// # Cancellation
    /// The stored record has either none or all of the changes of an operation, never a part of them.
    pub async fn finish<B>(&self, response: &mut Response<B>) -> Result<(), Error> {
        self.store(response.status()).await?;
        self.announce(response)
    }

    /// The first half of [`finish`](Self::finish): saves to the store.
    #[inline]
    pub(crate) async fn store(&self, status: StatusCode) -> Result<(), Error> {
        if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
            self.roll_back();
        }
        self.write().await?;
        // [`load`](Self::load) reads this flag for a session that is created concurrently, or later.
        self.head_sent.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// Finishes the response of a request that failed, in the handler or in [`finish`](Self::finish),
    /// whatever the response's status: drops the pending changes, and sends the client the cookie for what
    /// was stored before.
    ///
    /// For example, an [`update`](LoadedSession::update) may store a login before another operation fails.
    /// The client's old id is invalid then, and a response without the new id would log the visitor out.
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
    /// `refuse` waits for the running operations of the request's other tasks. The response gets
    /// `Cache-Control: no-store`. `refuse` returns no error; if the session can't be finished, that is logged
    /// at DEBUG.
    ///
    /// # Cancellation
    /// As [`finish`](Self::finish).
    pub async fn refuse<B>(&self, response: &mut Response<B>) {
        self.roll_back();
        response_headers::forbid_caching(response.headers_mut());
        for done in [self.write().await, self.announce(response)] {
            if let Err(error) = done {
                let error: &dyn std::error::Error = &error;
                debug!(error, "a refused request's session could not be finished");
            }
        }
        // No response can announce what could not be stored, nor what a task changes from now on.
        self.abandon();
    }

    /// Saves the changes, if the session was loaded.
    async fn write(&self) -> Result<(), Error> {
        match self.session.get() {
            Some(session) => session.operations().finish().await,
            None => Ok(()),
        }
    }

    /// Drops the pending changes.
    fn roll_back(&self) {
        if let Some(session) = self.session.get() {
            session.operations().state().roll_back();
        }
    }

    /// Drops the pending changes for good, because there will be no response.
    pub(crate) fn abandon(&self) {
        self.head_sent.store(true, Ordering::SeqCst);
        if let Some(session) = self.session.get() {
            session.operations().state().abandon();
        }
    }

    /// The second half of [`finish`](Self::finish): writes the session's headers to the response. On an error
    /// nothing is written. Called again with another response, it writes the same headers.
    #[inline]
    pub(crate) fn announce<B>(&self, response: &mut Response<B>) -> Result<(), Error> {
        let status = response.status();
        let headers = response.headers_mut();
        if let Some(session) = self.session.get() {
            let mut state = session.operations().state();
            let directive = state.directive(self.shared());
            let is_uncacheable = directive.is_some()
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
            match is_uncacheable {
                true => response_headers::forbid_caching(headers),
                false => response_headers::keep_private(headers),
            }
            if let Some(name) = self.shared().transport.varies_by() {
                response_headers::vary(headers, &name);
            }
            if state.announces_new_session() {
                self.shared().events.counters.count_announced(self.name());
            }
            state.mark_announced();
        }
        self.announce_in_urls(headers);
        Ok(())
    }

    /// Puts the id into the `Location` of a redirect. If the page or its URL has an id, sets headers that
    /// keep the page out of caches and its URL out of other sites' `Referer` headers.
    #[inline]
    fn announce_in_urls(&self, headers: &mut HeaderMap) {
        let Some(context) = &self.url_context else { return };
        let transport = &*self.shared().transport;
        let token = if transport.uses_url(self.token_source()) { self.token() } else { None };
        if let Some(token) = &token {
            rewrite_location(headers, |url| {
                let page = context.page();
                token.with_client_text(|text| transport.encode_url(url, page, text))
            });
        }
        // The page contains the id, or its own URL does.
        if token.is_some() || transport.urls().is_some_and(|urls| urls.has_id(context.page())) {
            response_headers::keep_from_leaking(headers);
        }
    }

    /// Returns the token that the client will have once the request is finished, as far as that is known now.
    fn token(&self) -> Option<Token> {
        match self.session.get() {
            Some(session) => session.operations().state().token_after_finish(self.shared()),
            None => self.credentials.token(self.shared()),
        }
    }

    /// Returns the URL with the session's id in it, if the transport puts ids into URLs, the URL belongs to
    /// the application, and there is a session. Otherwise returns the URL unchanged.
    ///
    /// A new session counts once it has a value, because empty sessions are not stored. A relative reference
    /// is resolved against the URL of the request.
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
        let context = self.url_context.as_ref()?;
        let transport = &*self.shared().transport;
        if !transport.uses_url(self.token_source()) {
            return None;
        }
        self.token()?.with_client_text(|text| transport.encode_url(url, context.page(), text))
    }

    /// Returns the id to put into the HTML page of the response, and the path and query of the page.
    #[cfg(feature = "rewrite")]
    pub(crate) fn insertion(&self) -> Option<(crate::rewrite::Insertion, &str)> {
        let context = self.url_context.as_ref()?;
        let transport = &*self.shared().transport;
        if !transport.uses_url(self.token_source()) || !transport.urls()?.options().rewrite {
            return None;
        }
        let text = self.token()?.with_client_text(str::to_owned);
        let transport = std::sync::Arc::clone(&self.shared().transport);
        Some((crate::rewrite::Insertion { transport, text }, context.page()))
    }

    /// Returns the name under which clients send the session's id: the name of the cookie, query argument or
    /// header.
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

    /// Returns where the client sent a token, well formed or not; `None` if it sent none.
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

/// Puts the id into the `Location` of a redirect to the application itself (RFC 9110, section 10.2.2).
fn rewrite_location(headers: &mut HeaderMap, encode: impl Fn(&str) -> Option<String>) {
    let Some(location) = headers.get(LOCATION) else { return };
    let Some(encoded) = location.to_str().ok().and_then(encode) else { return };
    match HeaderValue::try_from(encoded) {
        Ok(mut value) => {
            value.set_sensitive(true);
            headers.insert(LOCATION, value);
        }
        // Unreachable: the location was a valid header value, and the token is ASCII text.
        Err(_) => debug!("a redirect could not carry the session id"),
    }
}
