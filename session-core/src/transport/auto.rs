//! [`AutoTransport`]: ids in a cookie and in URLs, until the client returns the cookie. Then the session
//! moves to the cookie and gets a new id.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::{
    CookieTransport, Directive, Extracted, OldNames, RequestHead, TokenSource, Transport,
    UrlTransport,
};
use crate::Error;

/// Sends a cookie, and puts the id into URLs as well until the client returns the cookie.
#[derive(Debug)]
pub struct AutoTransport {
    cookie: CookieTransport,
    url: UrlTransport,
}

impl AutoTransport {
    /// Returns a transport that combines these two.
    pub fn new(cookie: CookieTransport, url: UrlTransport) -> Self {
        Self { cookie, url }
    }
}

impl Transport for AutoTransport {
    fn name(&self) -> &str {
        self.cookie.name()
    }

    /// The cookie takes precedence: a client that returns it needs no id in URLs.
    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r> {
        let found = self.cookie.extract(request);
        if found.source().is_some() { found } else { self.url.extract(request) }
    }

    fn write_response(
        &self,
        directive: Directive<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error> {
        self.cookie.write_response(directive, headers)
    }

    fn also(&self) -> &[String] {
        self.cookie.also()
    }

    fn varies_by(&self) -> Option<HeaderName> {
        self.cookie.varies_by()
    }

    fn names(&self) -> Vec<(TokenSource, &str)> {
        [self.cookie.names(), self.url.names()].concat()
    }

    fn remove_old(&self, names: OldNames, headers: &mut HeaderMap) {
        self.cookie.remove_old(names, headers);
    }

    fn max_age(&self) -> Option<Duration> {
        self.cookie.max_age()
    }

    fn fingerprint(&self) -> u32 {
        self.cookie.fingerprint()
    }

    fn persistent(&self) -> bool {
        self.cookie.persistent()
    }

    fn uses_url(&self, source: Option<TokenSource>) -> bool {
        source != Some(TokenSource::Cookie)
    }

    fn encode_url(&self, url: &str, page: &str, text: &str) -> Option<String> {
        self.url.encode_url(url, page, text)
    }

    fn urls(&self) -> Option<&UrlTransport> {
        Some(&self.url)
    }

    fn leaves_urls(&self, source: Option<TokenSource>) -> bool {
        source == Some(TokenSource::Cookie)
    }
}
