//! One request's session, from arrival to response.

use std::fmt;

use http::header::{CACHE_CONTROL, ETAG, HeaderValue, LOCATION, REFERRER_POLICY};
use http::{HeaderMap, Response};
use tracing::debug;

use crate::claim::Claim;
use crate::manager::{ManagerRef, Shared};
use crate::provider::answer;
use crate::state::State;
use crate::transport::{Carrier, RequestHead};
use crate::turn::Core;
use crate::visit::Visit;
use crate::{Error, LoadedSession, Token};

/// A request's session, loaded or not: what [`Manager::start`](crate::Manager::start) answers.
///
/// A handle that is never [loaded](Self::load) costs nothing: no store is asked and no cookie sent.
pub struct SessionHandle<'m> {
    manager: ManagerRef<'m>,
    /// How the client sent what it sent, well formed or not.
    carrier: Option<Carrier>,
    claim: Claim,
    /// The request, if the transport uses URLs.
    visit: Option<Box<Visit>>,
    /// Made by the first load, so that a handle without one is made and dropped for next to nothing.
    core: Core,
}

impl<'m> SessionHandle<'m> {
    #[inline]
    pub(crate) fn new(manager: ManagerRef<'m>, request: RequestHead<'_>) -> Self {
        let shared = manager.shared();
        let visit = shared.in_urls.then(|| Box::new(Visit::of(request)));
        let found = shared.transport.find(request);
        let (carrier, claim) = (found.carrier(), Claim::of(found));
        Self { manager, carrier, claim, visit, core: Core::default() }
    }

    /// Loads the session, at the first call; later calls answer the same one.
    ///
    /// A visitor without a session, or with one that is gone, gets a new, empty one, which is
    /// stored only if something is put into it. After [`finish`](Self::finish) the session is loaded
    /// afresh.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the store is down: never an empty session in its place.
    ///
    /// # Cancellation
    /// Safe: nothing is written.
    pub async fn load(&self) -> Result<LoadedSession<'_>, Error> {
        let session = self.view();
        if self.core.is_loaded() {
            session.load_again().await?;
            return Ok(session);
        }
        let token = self.claim.token(self.shared());
        if token.is_none() {
            self.claim.report(self.shared());
        }
        let now = self.shared().clock.now();
        let found = match &token {
            Some(token) => {
                let loaded = answer!(self.shared().provider.load(token, now));
                self.shared().admit(loaded, token, self.carrier, now)?
            }
            None => None,
        };
        match found {
            Some(record) => {
                let leaving = self.leaves_urls();
                self.core.fill(|| State::loaded(token, record, now, leaving));
            }
            None => {
                let overtaken = self.is_overtaken(token.as_ref());
                self.core.fill(|| State::new(now, overtaken));
            }
        }
        Ok(session)
    }

    /// Whether a session that is still in URLs leaves them with this request.
    fn leaves_urls(&self) -> bool {
        self.visit.as_ref().is_some_and(|visit| visit.is_navigation())
            && self.shared().transport.leaves_urls(self.carrier)
    }

    /// Whether the session is not there because it just left the URLs, in another request.
    fn is_overtaken(&self, token: Option<&Token>) -> bool {
        let shared = self.shared();
        self.visit.is_some()
            && shared.transport.leaves_urls(self.carrier)
            && token.is_some_and(|token| shared.departures.has(token.id(), shared.clock.now()))
    }

    /// Where to send a browser that returned the cookie, but still has an id in its URL: the same
    /// URL without it. `None` for all other requests.
    ///
    /// Answer it with `303 See Other` and this as the `Location`, and [finish](Self::finish) that
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
        let is_known = !session.is_new() || self.core.lock().overtaken;
        Ok(is_known.then_some(clean))
    }

    /// The URL to go on with, if it turns out that the session is there.
    pub(crate) fn redirection(&self) -> Option<String> {
        let visit = self.visit.as_ref().filter(|visit| visit.can_be_redirected())?;
        let transport = &self.shared().transport;
        if !transport.leaves_urls(self.carrier) {
            return None;
        }
        visit.without_id(transport.urls()?)
    }

    /// Writes what changed to the store, then what changed for the client to the response.
    ///
    /// Nothing is written for an untouched session, or for a new one that is still empty. A
    /// response gets one `Set-Cookie` at most, and none when nothing about the cookie changes. The
    /// loaded values are released; [`load`](Self::load) the session again to go on.
    ///
    /// A session that began in URLs, and whose id now came in a cookie, leaves the URLs here: it gets
    /// a new id, and ids in URLs are refused for it from then on. It does so when the request is for
    /// a page in a tab, as far as the browser tells (`Sec-Fetch-Dest`), since the page's other
    /// requests may be under way with the old id. A request that lost the race for the new id, or
    /// comes up to a minute later with the old one, can store nothing: a new session's cookie would
    /// take the place of the right one. A process remembers the newest 1,024 of its own old ids for
    /// that; on several servers, send a visitor's requests to the same one.
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended meanwhile and there was something to save, which is lost
    /// with it; the visitor is anonymous then. [`Error::Unavailable`] and the like if the store
    /// failed: what was to be saved is kept for another try. The response is as it was, on every
    /// error.
    ///
    /// # Cancellation
    /// The stored record is as it was or as it was to become, never in between.
    pub fn finish<B>(&self, response: &mut Response<B>) -> impl Future<Output = Result<(), Error>> {
        let headers = response.headers_mut();
        // An `async fn` would move its arguments once more, which most requests would feel.
        async move {
            if self.core.is_loaded() {
                self.view().finish(Some(headers)).await?;
            }
            self.announce_in_urls(headers);
            Ok(())
        }
    }

    /// The first half of [`finish`](Self::finish): the store.
    #[cfg(feature = "hyper")]
    #[inline]
    pub(crate) async fn store(&self) -> Result<(), Error> {
        if self.core.is_loaded() {
            self.view().finish(None).await?;
        }
        Ok(())
    }

    fn view(&self) -> LoadedSession<'_> {
        LoadedSession::new(self.shared(), &self.core, self.carrier)
    }

    /// The second half of [`finish`](Self::finish): the response. Writes nothing on an error, and
    /// says the same again to another response.
    #[cfg(feature = "hyper")]
    #[inline]
    pub(crate) fn announce<B>(&self, response: &mut Response<B>) -> Result<(), Error> {
        let headers = response.headers_mut();
        if self.core.is_loaded() {
            self.core.lock().tell(self.shared(), headers)?;
        }
        self.announce_in_urls(headers);
        Ok(())
    }

    /// Puts the id into a redirect, and keeps pages with ids to themselves.
    #[inline]
    fn announce_in_urls(&self, headers: &mut HeaderMap) {
        let Some(visit) = &self.visit else { return };
        let transport = &*self.shared().transport;
        if transport.uses_url(self.carrier) {
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
        match self.core.is_loaded() {
            true => self.core.lock().future_token(self.shared()),
            false => self.claim.token(self.shared()),
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
        if !transport.uses_url(self.carrier) {
            return None;
        }
        self.token()?.with_client_text(|text| transport.encode_url(url, visit.page(), text))
    }

    /// The id that pages of the response are to carry, with the path and query of the page.
    #[cfg(feature = "rewrite")]
    pub(crate) fn insertion(&self) -> Option<(crate::rewrite::Insertion, &str)> {
        let visit = self.visit.as_ref()?;
        let transport = &*self.shared().transport;
        if !transport.uses_url(self.carrier) || !transport.urls()?.options().rewrite {
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
        self.carrier
    }

    fn shared(&self) -> &Shared {
        self.manager.shared()
    }
}

impl fmt::Debug for SessionHandle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionHandle")
            .field("name", &self.name())
            .field("carrier", &self.carrier)
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
