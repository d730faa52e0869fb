//! What a session in URLs has to know of its request.

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Method};

use crate::transport::{RequestHead, UrlTransport};

/// A request, as far as ids in URLs depend on it. Kept only where the transport uses URLs.
pub(crate) struct UrlContext {
    target: Option<PathAndQuery>,
    /// GET or HEAD: the browser can be sent elsewhere instead.
    is_get: bool,
}

impl UrlContext {
    pub(crate) fn of(request: RequestHead<'_>) -> Self {
        Self {
            target: request.uri.path_and_query().cloned(),
            is_get: matches!(*request.method, Method::GET | Method::HEAD),
        }
    }

    /// The path and query of the page that the response is.
    pub(crate) fn page(&self) -> &str {
        self.target.as_ref().map_or("/", PathAndQuery::as_str)
    }

    /// The same page without the id that its URL has; `None` if it has none.
    pub(crate) fn without_id(&self, urls: &UrlTransport) -> Option<String> {
        urls.without_id(self.page())
    }

    /// Whether the browser can be sent elsewhere instead, if it shows the response as a page.
    pub(crate) fn is_get(&self) -> bool {
        self.is_get
    }
}

/// Whether a browser shows the response as a page in a tab: other requests of a page may be under way at the
/// same time. Clients that don't say so ask for one thing at a time, as a rule. They are old browsers, all
/// browsers over plain HTTP (Fetch Metadata, section 2), and programs.
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
