//! A cookie where the client returns one, the URL until then.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use super::{
    Announcement, Carrier, CookieTransport, Found, OldNames, RequestHead, Transport, UrlTransport,
};
use crate::Error;

/// Sends a cookie and puts the id into URLs as well, until the client returns the cookie.
#[derive(Debug)]
pub struct AutoTransport {
    cookie: CookieTransport,
    url: UrlTransport,
}

impl AutoTransport {
    /// A transport of these two.
    pub fn new(cookie: CookieTransport, url: UrlTransport) -> Self {
        Self { cookie, url }
    }
}

impl Transport for AutoTransport {
    fn name(&self) -> &str {
        self.cookie.name()
    }

    /// The cookie has the last word: a client that returns one needs no URL.
    fn find<'r>(&self, request: RequestHead<'r>) -> Found<'r> {
        let found = self.cookie.find(request);
        if found.carrier().is_some() { found } else { self.url.find(request) }
    }

    fn announce(
        &self,
        announcement: Announcement<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error> {
        self.cookie.announce(announcement, headers)
    }

    fn also(&self) -> &[String] {
        self.cookie.also()
    }

    fn varies_by(&self) -> Option<HeaderName> {
        self.cookie.varies_by()
    }

    fn names(&self) -> Vec<(Carrier, &str)> {
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

    fn uses_url(&self, carrier: Option<Carrier>) -> bool {
        carrier != Some(Carrier::Cookie)
    }

    fn encode_url(&self, url: &str, page: &str, text: &str) -> Option<String> {
        self.url.encode_url(url, page, text)
    }

    fn urls(&self) -> Option<&UrlTransport> {
        Some(&self.url)
    }

    fn leaves_urls(&self, carrier: Option<Carrier>) -> bool {
        carrier == Some(Carrier::Cookie)
    }
}
