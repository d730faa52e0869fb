//! [`CrossSiteOptions`] and the check that refuses unsafe requests from other sites (CSRF).
//!
//! `SameSite` cookies keep the visitor's session out of such requests. They don't prevent that a form of
//! another site logs the visitor in as somebody else, who then reads what the visitor enters (login CSRF). So
//! unsafe requests from other sites are refused before the handler runs.

use std::collections::BTreeMap;

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::transport::RequestHead;
use crate::transport::origin::Origin;

/// Which unsafe requests from other sites are refused.
///
/// ```toml
/// [cross_site]
/// refuse  = true
/// trusted = { "https://login.example.com" = ["/signed-in"], "https://app.example.com" = ["/api/*"] }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CrossSiteOptions {
    /// Whether unsafe requests from other sites are refused. Defaults to true.
    pub refuse: bool,
    /// The trusted origins, which may send unsafe requests, each with the paths that it may send them to. A
    /// path is matched exactly as it is in the request; a path with a `*` at its end matches all paths with
    /// that prefix. Defaults to none.
    ///
    /// `"null"` stands for pages that hide their origin, such as the pages of some identity providers
    /// (`Referrer-Policy: no-referrer`). Every other site can hide its origin, too.
    ///
    /// A browser sends no `SameSite=Lax` cookie with a form of another site, so the handler of a trusted path
    /// sees no session. It should respond with a 303 redirect to a page of its own site, which gets the
    /// cookie, and neither store anything nor log anybody in.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub trusted: BTreeMap<String, Vec<String>>,
}

impl Default for CrossSiteOptions {
    fn default() -> Self {
        Self { refuse: true, trusted: BTreeMap::new() }
    }
}

/// The result of the check of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SiteCheck {
    /// The request comes from the same origin, a trusted origin, or no browser, or its method is safe.
    Allowed,
    /// `Sec-Fetch-Site` says that the request comes from another origin.
    CrossSite,
    /// The request has no `Sec-Fetch-Site`, and its `Origin` differs from its `Host`. Behind a proxy that
    /// changes the `Host` header, requests of the site's own pages look like that.
    OriginMismatch,
}

/// The check, as configured.
#[derive(Debug)]
pub(crate) struct CrossSitePolicy {
    refuse: bool,
    /// The origin of the site as browsers see it, if `url.origin` is configured.
    own_origin: Option<Origin>,
    trusted: Vec<(Sender, Vec<Path>)>,
}

/// The sender of a request, by its `Origin` header.
#[derive(Debug, PartialEq)]
enum Sender {
    Site(Origin),
    /// A page that hides its origin: `null`.
    Null,
}

impl Sender {
    fn parse(text: &str) -> Option<Self> {
        if text == "null" { Some(Self::Null) } else { Origin::parse(text).map(Self::Site) }
    }
}

/// A path, or the paths with a prefix, that a trusted origin may send unsafe requests to.
#[derive(Debug)]
enum Path {
    Exact(String),
    Prefix(String),
}

impl Path {
    fn parse(text: &str) -> Result<Self, Error> {
        let (path, is_prefix) = match text.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (text, false),
        };
        let is_path = |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'*');
        if !path.starts_with('/') || !path.bytes().all(is_path) {
            return Err(Error::config(format_args!(
                "cross_site.trusted: {text:?} must be a path that starts with `/`, percent-encoded and \
                 without a query; a path that ends in `*` matches all paths with that prefix"
            )));
        }
        let path = path.to_owned();
        Ok(if is_prefix { Self::Prefix(path) } else { Self::Exact(path) })
    }

    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(exact) => path == exact,
            Self::Prefix(prefix) => path.starts_with(prefix.as_str()),
        }
    }
}

impl CrossSitePolicy {
    /// Returns the check with these options. `origin` is the site's own origin, if it is configured.
    ///
    /// # Errors
    /// [`Error::Config`] names the origin or path that is invalid.
    pub(crate) fn new(options: &CrossSiteOptions, origin: Option<&str>) -> Result<Self, Error> {
        let trusted = options.trusted.iter().map(|(text, paths)| {
            let sender = Sender::parse(text).ok_or_else(|| {
                Error::config(format_args!(
                    "cross_site.trusted: {text:?} must be a scheme and a host, such as \
                     https://login.example.com, in ASCII and without a path"
                ))
            })?;
            let paths = paths.iter().map(|path| Path::parse(path)).collect::<Result<_, _>>()?;
            Ok((sender, paths))
        });
        Ok(Self {
            refuse: options.refuse,
            own_origin: origin.and_then(Origin::parse),
            trusted: trusted.collect::<Result<_, Error>>()?,
        })
    }

    /// Checks where an unsafe request comes from. Safe requests are always allowed.
    ///
    /// `Sec-Fetch-Site` (Fetch Metadata) decides, which browsers send over HTTPS and to localhost. Old
    /// browsers, browsers over plain HTTP, and Chromium's WebSocket handshakes don't send it; then the
    /// `Origin` (Fetch, "append a request `Origin` header") is compared with the request's own host. Programs
    /// send neither header, and are allowed.
    pub(crate) fn site_check(&self, request: RequestHead<'_>, is_safe: bool) -> SiteCheck {
        static SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
        if !self.refuse || is_safe {
            return SiteCheck::Allowed;
        }
        let headers = request.headers;
        let has_site = headers.contains_key(&SITE);
        if !has_site && !headers.contains_key(ORIGIN) {
            return SiteCheck::Allowed;
        }
        let sender = single_value(headers, &ORIGIN).and_then(Sender::parse);
        let is_own = match has_site {
            true => matches!(single_value(headers, &SITE), Some("same-origin" | "none")),
            false => match &sender {
                Some(Sender::Site(origin)) => self.is_own(origin, request),
                _ => false,
            },
        };
        let is_allowed = is_own || sender.is_some_and(|sender| self.trusts(&sender, request));
        match (is_allowed, has_site) {
            (true, _) => SiteCheck::Allowed,
            (false, true) => SiteCheck::CrossSite,
            (false, false) => SiteCheck::OriginMismatch,
        }
    }

    fn is_own(&self, origin: &Origin, request: RequestHead<'_>) -> bool {
        // `:authority`, or a target in absolute form, takes precedence over `Host` (RFC 9112, section 3.2.2).
        let host = match request.uri.authority() {
            Some(authority) => Some(authority.as_str()),
            None => single_value(request.headers, &HOST),
        };
        self.own_origin.as_ref() == Some(origin) || host.is_some_and(|host| origin.is_at(host))
    }

    fn trusts(&self, sender: &Sender, request: RequestHead<'_>) -> bool {
        let path = request.uri.path();
        let mut paths = self.trusted.iter().filter(|(trusted, _)| trusted == sender);
        paths.any(|(_, paths)| paths.iter().any(|allowed| allowed.matches(path)))
    }
}

/// Returns the value of a header that occurs exactly once and is text.
fn single_value<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value: &HeaderValue = values.next()?;
    values.next().is_none().then(|| value.to_str().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn rule() -> CrossSitePolicy {
        let options = toml::from_str(
            "[trusted]\n\"https://idp.example\" = [\"/signed-in\", \"/api/*\"]\n\
             \"http://localhost:3000\" = [\"/*\"]\n\"null\" = [\"/hidden\"]",
        );
        CrossSitePolicy::new(&options.unwrap(), Some("https://shop.example")).unwrap()
    }

    /// Returns the result of the check for a request line and headers.
    fn checked(rule: &CrossSitePolicy, line: &str, headers: &[(&str, &str)]) -> SiteCheck {
        let (method, target) = line.split_once(' ').unwrap();
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).unwrap();
        let head = RequestHead::from(&request);
        rule.site_check(head, head.is_safe())
    }

    #[test]
    fn the_browsers_word_decides_where_it_is_given() {
        for (values, wanted) in [
            (&["same-origin"][..], SiteCheck::Allowed),
            (&["none"], SiteCheck::Allowed),
            (&["same-site"], SiteCheck::CrossSite),
            (&["cross-site"], SiteCheck::CrossSite),
            (&["Same-Origin"], SiteCheck::CrossSite),
            (&["same-origin, same-origin"], SiteCheck::CrossSite),
            (&["same-origin", "same-origin"], SiteCheck::CrossSite),
            (&[""], SiteCheck::CrossSite),
            (&["same-origin-or-so"], SiteCheck::CrossSite),
        ] {
            for method in ["POST", "PUT", "PATCH", "DELETE", "CONNECT", "PURGE"] {
                let mut headers: Vec<_> = values.iter().map(|v| ("sec-fetch-site", *v)).collect();
                // `Sec-Fetch-Site` takes precedence over `Origin`.
                for origin in [None, Some("http://here"), Some("null")] {
                    headers.truncate(values.len());
                    headers.extend([("host", "here")]);
                    headers.extend(origin.map(|origin| ("origin", origin)));
                    let target = if method == "CONNECT" { "here:80" } else { "/login" };
                    let checked = checked(&rule(), &format!("{method} {target}"), &headers);
                    assert_eq!(checked, wanted, "{method} {headers:?}");
                }
            }
        }
    }

    #[test]
    fn without_it_the_origin_is_compared_with_the_host() {
        for (host, origin, wanted) in [
            ("here", "http://here", SiteCheck::Allowed),
            ("here", "https://here", SiteCheck::Allowed),
            ("HERE:80", "http://here", SiteCheck::Allowed),
            ("here:443", "https://Here", SiteCheck::Allowed),
            ("here:8080", "http://here:8080", SiteCheck::Allowed),
            ("[::1]:8080", "http://[::1]:8080", SiteCheck::Allowed),
            ("inner:9000", "https://shop.example", SiteCheck::Allowed),
            ("inner:9000", "http://shop.example", SiteCheck::OriginMismatch),
            ("here:8080", "http://here", SiteCheck::OriginMismatch),
            ("here", "http://here:8080", SiteCheck::OriginMismatch),
            ("here", "http://there", SiteCheck::OriginMismatch),
            ("here", "http://here.evil", SiteCheck::OriginMismatch),
            ("here", "http://here@evil", SiteCheck::OriginMismatch),
            ("here", "http://evil/here", SiteCheck::OriginMismatch),
            ("here", "null", SiteCheck::OriginMismatch),
            ("null", "null", SiteCheck::OriginMismatch),
            ("here", "", SiteCheck::OriginMismatch),
            ("", "http://", SiteCheck::OriginMismatch),
            ("here", "ftp://here", SiteCheck::OriginMismatch),
            ("here", "http://here http://evil", SiteCheck::OriginMismatch),
        ] {
            let headers = [("host", host), ("origin", origin)];
            assert_eq!(checked(&rule(), "POST /", &headers), wanted, "{host:?} {origin:?}");
        }
        let doubled = [("host", "here"), ("origin", "http://here"), ("origin", "http://here")];
        assert_eq!(checked(&rule(), "POST /", &doubled), SiteCheck::OriginMismatch);
        let two_hosts = [("host", "here"), ("host", "here"), ("origin", "http://here")];
        assert_eq!(checked(&rule(), "POST /", &two_hosts), SiteCheck::OriginMismatch);
        let no_host = [("origin", "http://here")];
        assert_eq!(checked(&rule(), "POST /", &no_host), SiteCheck::OriginMismatch);
        let authority = [("host", "evil"), ("origin", "https://here")];
        assert_eq!(checked(&rule(), "POST https://here/", &authority), SiteCheck::Allowed);
        let authority = [("host", "evil"), ("origin", "https://evil")];
        assert_eq!(checked(&rule(), "POST https://here/", &authority), SiteCheck::OriginMismatch);
        assert_eq!(
            checked(&rule(), "POST /", &[("host", "here")]),
            SiteCheck::Allowed,
            "a program"
        );
    }

    #[test]
    fn safe_requests_pass_and_handshakes_of_websockets_are_none() {
        let foreign = ("sec-fetch-site", "cross-site");
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            let line = format!("{method} /");
            assert_eq!(checked(&rule(), &line, &[foreign]), SiteCheck::Allowed, "{method}");
        }
        let upgrade = ("upgrade", "websocket");
        assert_eq!(checked(&rule(), "GET /", &[foreign, upgrade]), SiteCheck::CrossSite);
        let unlike = [("host", "here"), ("origin", "http://there"), upgrade];
        assert_eq!(checked(&rule(), "GET /", &unlike), SiteCheck::OriginMismatch);
        let own = [("host", "here"), ("origin", "http://here"), upgrade];
        assert_eq!(checked(&rule(), "GET /", &own), SiteCheck::Allowed);
    }

    #[test]
    fn a_trusted_origin_may_send_to_its_paths() {
        for (origin, path, is_allowed) in [
            ("https://idp.example", "/signed-in", true),
            ("https://idp.example:443", "/signed-in?code=1", true),
            ("https://idp.example", "/signed-in/", false),
            ("https://idp.example", "/Signed-in", false),
            ("https://idp.example", "/signed%2din", false),
            ("https://idp.example", "/", false),
            ("https://idp.example", "/api/carts", true),
            ("https://idp.example", "/api", false),
            ("http://idp.example", "/signed-in", false),
            ("https://idp.example.evil", "/signed-in", false),
            ("http://localhost:3000", "/anything", true),
            ("null", "/anything", false),
            ("null", "/hidden", true),
            ("", "/hidden", false),
        ] {
            for site in [None, Some("cross-site"), Some("same-site")] {
                let mut headers = vec![("host", "here"), ("origin", origin)];
                headers.extend(site.map(|site| ("sec-fetch-site", site)));
                let checked = checked(&rule(), &format!("POST {path}"), &headers);
                assert_eq!(checked == SiteCheck::Allowed, is_allowed, "{origin} {path} {site:?}");
            }
        }
    }

    #[test]
    fn nothing_is_refused_where_that_is_configured() {
        let rule = CrossSitePolicy::new(&toml::from_str("refuse = false").unwrap(), None).unwrap();
        let foreign = [("sec-fetch-site", "cross-site"), ("origin", "null")];
        assert_eq!(checked(&rule, "POST /", &foreign), SiteCheck::Allowed);
    }

    #[test]
    fn what_is_no_origin_or_path_is_a_configuration_error_that_names_it() {
        for (origin, path) in [
            ("idp.example", "/"),
            ("https://idp.example/", "/"),
            ("*", "/"),
            ("https://idp.example", ""),
            ("https://idp.example", "signed-in"),
            ("https://idp.example", "/a*b"),
            ("https://idp.example", "/a?b"),
            ("https://idp.example", "/a b"),
            ("https://idp.example", "*"),
        ] {
            let trusted = BTreeMap::from([(origin.to_owned(), vec![path.to_owned()])]);
            let options = CrossSiteOptions { trusted, ..CrossSiteOptions::default() };
            let error = CrossSitePolicy::new(&options, None).unwrap_err().to_string();
            assert!(error.contains("cross_site.trusted"), "{error}");
        }
    }
}
