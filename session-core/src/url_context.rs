//! [`UrlContext`]: the parts of a request that URL rewriting needs, and whether a request is a navigation.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};

use crate::transport::{RequestHead, UrlTransport};

/// The parts of a request that ids in URLs depend on. Created only if the transport puts ids into URLs.
pub(crate) struct UrlContext {
    target: Option<PathAndQuery>,
    /// The method is GET or HEAD, so the browser can be redirected.
    is_get: bool,
}

impl UrlContext {
    pub(crate) fn of(request: RequestHead<'_>) -> Self {
        Self {
            target: request.uri.path_and_query().cloned(),
            is_get: matches!(*request.method, Method::GET | Method::HEAD),
        }
    }

    /// Returns the path and query of the request.
    pub(crate) fn page(&self) -> &str {
        self.target.as_ref().map_or("/", PathAndQuery::as_str)
    }

    /// Returns the path and query without the id; `None` if they contain no id.
    pub(crate) fn without_id(&self, urls: &UrlTransport) -> Option<String> {
        urls.without_id(self.page())
    }

    /// Returns whether the method is GET or HEAD, so that the browser can be redirected.
    pub(crate) fn is_get(&self) -> bool {
        self.is_get
    }
}

/// Returns whether a request is a navigation: whether a browser shows the response as a page in a tab. A
/// page's other requests may run concurrently. Clients without Fetch Metadata count as navigating, because
/// they usually send one request at a time: old browsers, all browsers over plain HTTP (Fetch Metadata,
/// section 2), and programs.
pub(crate) fn is_navigation(headers: &HeaderMap) -> bool {
    static MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
    static DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
    match headers.get(&MODE) {
        None => true,
        Some(mode) => {
            mode == "navigate" && headers.get(&DEST).is_none_or(|dest| dest == "document")
        }
    }
}
