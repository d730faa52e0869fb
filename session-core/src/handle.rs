//! One request's session, from arrival to response.

use std::fmt;

use http::header::{CACHE_CONTROL, ETAG, HeaderValue, LOCATION, REFERRER_POLICY, UPGRADE};
use http::{HeaderMap, Response, StatusCode};
use once_cell::sync::OnceCell;
use tracing::debug;

use crate::executor::Core;
use crate::manager::{ManagerRef, Shared};
use crate::presented::Presented;
use crate::provider::Token;
use crate::state::{Directive, State};
use crate::transport::{Announcement, Carrier, RequestHead};
use crate::visit::{Visit, is_navigation};
use crate::{Error, LoadedSession};

/// A request's session, loaded or not: what [`Manager::start`](crate::Manager::start) returns.
///
/// A handle that is never [loaded](Self::load) costs nothing: no store is asked and no cookie sent.
pub struct SessionHandle<'m> {
    manager: ManagerRef<'m>,
    /// What the client sent. The session's own copy takes its place with the first load.
    presented: Presented,
    /// The request's method is safe (RFC 9110, section 9.2.1), and it asks for no upgrade.
    safe: bool,
    /// The client sent an id, and a browser shows the response as a page in a tab.
    navigation: bool,
    /// The request, if the transport uses URLs.
    visit: Option<Box<Visit>>,
    /// Made by the first load, so that a handle without one is made and dropped for next to nothing.
    session: OnceCell<LoadedSession>,
}

impl<'m> SessionHandle<'m> {
    #[inline]
    pub(crate) fn new(manager: ManagerRef<'m>, request: RequestHead<'_>) -> Self {
        let shared = manager.shared();
        let found = shared.transport.find(request);
        if found.has_skipped() {
            shared.report_skipped();
        }
        let presented = Presented::new(&found);
        Self {
            safe: request.method.is_safe() && !request.headers.contains_key(UPGRADE),
            navigation: presented.carrier().is_some() && is_navigation(request.headers),
            presented,
            visit: shared.in_urls.then(|| Box::new(Visit::of(request))),
            manager,
            session: OnceCell::new(),
        }
    }

    /// Loads the session, at the first call; later calls return the same one.
    ///
    /// A visitor without a session, or with one that is gone, gets a new, empty one, which is
    /// stored only if something is put into it. After [`finish`](Self::finish) the session is loaded
    /// afresh.
    ///
    /// A client whose id was replaced within the last 10 s (configurable: `superseded_for`) has the new
    /// one already, or is about to get it. Its request sees an empty session, stores nothing, and gets no
    /// cookie; see [`LoadedSession::start_anew`] and [`LoadedSession::log_in`] for what it can do.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the store is down: never an empty session in its place.
    ///
    /// # Cancellation
    /// Safe: nothing is written.
    pub async fn load(&self) -> Result<LoadedSession, Error> {
        let session = self.session.get_or_init(|| {
            let leaving = self.leaves_urls();
            let state = State::new(self.presented.clone(), self.safe, self.navigation, leaving);
            LoadedSession::new(Core::new(self.manager.to_owned(), state))
        });
        session.core().load().await?;
        Ok(session.clone())
    }

    /// Whether a session that is still in URLs leaves them with this request.
    fn leaves_urls(&self) -> bool {
        self.navigation && self.shared().transport.leaves_urls(self.carrier())
    }

    /// Where to send a browser that returned the cookie, but still has an id in its URL: the same
    /// URL without it. `None` for all other requests.
    ///
    /// Respond with `303 See Other` and this as the `Location`, and [finish](Self::finish) that
    /// response: it tells the client the new id. The [wrapper](crate::SessionService) does so by
    /// itself. Loads the session if the request may be such a one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    ///
    /// # Cancellation
    /// As [`load`](Self::load).
    pub async fn clean_url(&self) -> Result<Option<String>, Error> {
        let Some(clean) = self.redirection() else { return Ok(None) };
        let session = self.load().await?;
        // The request that was faster has told the browser the new id.
        let is_known = session.core().state().has_left_urls();
        Ok(is_known.then_some(clean))
    }

    /// The URL to go on with, if it turns out that the session is there.
    fn redirection(&self) -> Option<String> {
        let visit = self.visit.as_deref().filter(|visit| visit.is_safe() && self.navigation)?;
        let transport = &self.shared().transport;
        if !transport.leaves_urls(self.carrier()) {
            return None;
        }
        visit.without_id(transport.urls()?)
    }

    /// Writes what changed to the store, in one save, then what changed for the client to the response.
    ///
    /// Nothing is written for an untouched session, or for a new one that is still empty. A
    /// response gets one `Set-Cookie` at most, and none when nothing about the cookie changes. The
    /// loaded values are released; [`load`](Self::load) the session again to go on.
    ///
    /// A response of status 5xx or 408 says that the handler failed: its pending changes are dropped. What
    /// acted at once ([`update`](LoadedSession::update), [`save`](LoadedSession::save),
    /// [`destroy`](LoadedSession::destroy)) stands, and is announced whatever the status.
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
        self.write().await
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
    /// It waits for operations of other tasks of the request that are under way. The loaded values are
    /// released. It has no errors of its own: what could not be told is logged at DEBUG.
    ///
    /// # Cancellation
    /// As [`finish`](Self::finish).
    pub async fn refuse<B>(&self, response: &mut Response<B>) {
        self.roll_back();
        for done in [self.write().await, self.announce(response)] {
            if let Err(error) = done {
                let error: &dyn std::error::Error = &error;
                debug!(error, "a refused request's session could not be finished");
            }
        }
    }

    /// Writes what changed, and releases the values.
    async fn write(&self) -> Result<(), Error> {
        match self.session.get() {
            Some(session) => session.core().finish().await,
            None => Ok(()),
        }
    }

    /// Drops what is not stored yet.
    fn roll_back(&self) {
        if let Some(session) = self.session.get() {
            session.core().state().roll_back();
        }
    }

    /// The second half of [`finish`](Self::finish): the response. Writes nothing on an error, and
    /// says the same again to another response.
    #[inline]
    pub(crate) fn announce<B>(&self, response: &mut Response<B>) -> Result<(), Error> {
        let headers = response.headers_mut();
        if let Some(session) = self.session.get() {
            let mut state = session.core().state();
            if let Some(directive) = state.directive(self.shared()) {
                let transport = &self.shared().transport;
                match directive {
                    Directive::Issue(token, max_age) => token.with_client_text(|text| {
                        transport.announce(Announcement::Issue { text, max_age }, headers)
                    })?,
                    Directive::Clear => transport.announce(Announcement::Remove, headers)?,
                }
                transport.remove_old(self.presented.old_names(), headers);
            }
            if state.announces_new_session() {
                self.shared().counters.count_announced(self.name());
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
        if transport.uses_url(self.carrier()) {
            if let Some(token) = self.token() {
                rewrite_location(headers, |url| {
                    let page = visit.page();
                    token.with_client_text(|text| transport.encode_url(url, page, text))
                });
            }
            keep_from_leaking(headers);
        } else if transport.urls().is_some_and(|urls| urls.has_id(visit.page())) {
            // The page's own URL still has one.
            keep_from_leaking(headers);
        }
    }

    /// What the client will carry once the request is finished, as far as can be told before.
    fn token(&self) -> Option<Token> {
        match self.session.get() {
            Some(session) => session.core().state().future_token(self.shared()),
            None => self.presented.token(self.shared()),
        }
    }

    /// The URL with the session's id in it, where the transport puts ids into URLs, this URL is the
    /// application's own, and there is a session; otherwise the URL as it is.
    ///
    /// For a new session this is so once it has a value, as empty sessions are not stored. A
    /// relative reference is resolved as on the page that was asked for.
    pub fn encode_url(&self, url: &str) -> String {
        self.encoded(url).unwrap_or_else(|| url.to_owned())
    }

    fn encoded(&self, url: &str) -> Option<String> {
        let visit = self.visit.as_ref()?;
        let transport = &*self.shared().transport;
        if !transport.uses_url(self.carrier()) {
            return None;
        }
        self.token()?.with_client_text(|text| transport.encode_url(url, visit.page(), text))
    }

    /// The id that pages of the response are to carry, with the path and query of the page.
    #[cfg(feature = "rewrite")]
    pub(crate) fn insertion(&self) -> Option<(crate::rewrite::Insertion, &str)> {
        let visit = self.visit.as_ref()?;
        let transport = &*self.shared().transport;
        if !transport.uses_url(self.carrier()) || !transport.urls()?.options().rewrite {
            return None;
        }
        let text = self.token()?.with_client_text(str::to_owned);
        let transport = std::sync::Arc::clone(&self.shared().transport);
        Some((crate::rewrite::Insertion { transport, text }, visit.page()))
    }

    /// The name that the client knows the session by: the cookie's, the query argument's...
    pub fn name(&self) -> &str {
        self.shared().transport.name()
    }

    /// How the client sent a token, well formed or not.
    pub fn carrier(&self) -> Option<Carrier> {
        self.presented.carrier()
    }

    fn shared(&self) -> &Shared {
        self.manager.shared()
    }
}

impl fmt::Debug for SessionHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle")
            .field("name", &self.name())
            .field("carrier", &self.carrier())
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

/// Keeps a page whose URL or links have ids out of caches and `Referer` headers.
fn keep_from_leaking(headers: &mut HeaderMap) {
    // In place of what the handler said: a second value beside `public` would not undo it.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The same resource with another visitor's id in it is not the same.
    headers.remove(ETAG);
}
