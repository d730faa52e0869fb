//! The way to the login page and back.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderName, Method};
use session_core::{Error, RequestSession as _};

use super::SessionName;

/// Where strangers are sent who ask for a page that is somebody's, in place of a response of 401. The page they
/// asked for is in the query's argument `next`, which [`ReturnTo`] reads.
///
/// ```
/// # fn app() -> Result<axum::Router, session_core::Error> {
/// use axum::routing::get;
/// use axum::{Extension, Form, Router};
/// use session_tower::axum::{Failed, LoginPage, Owner, ReturnTo, Session};
///
/// async fn orders(owner: Owner) -> String {
///     format!("the orders of {owner}\n")
/// }
///
/// async fn log_in(session: Session, back: ReturnTo) -> Result<ReturnTo, Failed> {
///     // ... the password was right
///     session.log_in("ada")?;
///     Ok(back) // 303 to /orders
/// }
///
/// # async fn form() {}
/// let app = Router::new()
///     .route("/orders", get(orders))
///     .route("/login", get(form).post(log_in)) // the form posts to its own URL, with the query
///     .layer(Extension(LoginPage::new("/login")?));
/// # Ok(app)
/// # }
/// # app().unwrap();
/// ```
///
/// Only a browser that asks for a page is sent there: a GET or HEAD request that is a navigation by its
/// `Sec-Fetch-Mode`, or doesn't say. Scripts and forms get the 401, the latter so that the visitor can go back
/// to what was written.
#[derive(Clone, Debug)]
pub struct LoginPage(ReturnTo);

/// The name of the query's argument.
const ARGUMENT: &str = "next";

impl LoginPage {
    /// The login page at this path of the site, which may have a query.
    ///
    /// # Errors
    /// [`Error::Config`] if it is none: see [`ReturnTo`].
    pub fn new(path: &str) -> Result<Self, Error> {
        let page = ReturnTo::parse(path).ok_or_else(|| {
            Error::config(format_args!(
                "the login page {path:?} must be a path that starts with one `/`, in ASCII"
            ))
        })?;
        Ok(Self(page))
    }

    /// The URL to send a request to, if it can be sent.
    pub(super) fn url_for<N: SessionName>(&self, parts: &Parts) -> Option<String> {
        static MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
        let is_get = matches!(parts.method, Method::GET | Method::HEAD);
        if !is_get || parts.headers.get(&MODE).is_some_and(|mode| mode != "navigate") {
            return None;
        }
        // Of a nested router, `uri` is only the rest.
        let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |uri| &uri.0);
        let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
        // The login ends the id that may be in the URL.
        let handle = parts.sessions().and_then(|sessions| match N::NAME {
            Some(name) => sessions.get(name),
            None => sessions.only(),
        });
        let target = handle.map_or_else(|| target.to_owned(), |handle| handle.without_id(target));
        let page = self.0.as_str();
        Some(match ReturnTo::parse(&target) {
            Some(_) => {
                let mark = if page.contains('?') { '&' } else { '?' };
                format!("{page}{mark}{ARGUMENT}={}", urlencoding::encode(&target))
            }
            None => page.to_owned(),
        })
    }
}

/// The page of this site that a visitor wanted to see before the login: on the [`LoginPage`], from the query's
/// argument `next`; `/` if there is none, or a wrong one. As a response it is the redirect there (303).
///
/// Anybody can make a link to the login page. So it leads nowhere but to this site: it is a path that starts
/// with one `/`, of at most 2,000 printable ASCII characters without backslash, quotes, angle brackets or `#`.
/// What browsers take for another site's URL (`//evil.example`, `/\evil.example`, with tabs and newlines in
/// between) is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnTo(Box<str>);

impl ReturnTo {
    /// The longest one, in bytes. What is longer is not remembered.
    pub const MAX_BYTES: usize = 2_000;

    /// Reads a path and query; `None` for anything else.
    ///
    /// ```
    /// use session_tower::axum::ReturnTo;
    ///
    /// assert_eq!(ReturnTo::parse("/orders?page=2").unwrap().as_str(), "/orders?page=2");
    /// assert_eq!(ReturnTo::parse("//evil.example/"), None);
    /// assert_eq!(ReturnTo::parse("https://evil.example/"), None);
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        // Browsers take backslashes for slashes and leave tabs and newlines out (URL Standard, "URL parsing").
        let is_harmless = |byte: &u8| {
            byte.is_ascii_graphic() && !matches!(byte, b'\\' | b'"' | b'<' | b'>' | b'`' | b'#')
        };
        let is_path = text.starts_with('/') && !text.starts_with("//");
        let is_one =
            is_path && text.len() <= Self::MAX_BYTES && text.bytes().all(|b| is_harmless(&b));
        is_one.then(|| Self(text.into()))
    }

    /// The path and query, such as `/orders?page=2`. In HTML it has to be escaped, as all text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The argument of a query, unless there is none, or more than one.
    fn of_query(query: &str) -> Option<Self> {
        let mut values = query.split('&').filter_map(|argument| {
            let (name, value) = argument.split_once('=')?;
            (name == ARGUMENT).then_some(value)
        });
        let (value, None) = (values.next()?, values.next()) else { return None };
        Self::parse(&urlencoding::decode(value).ok()?)
    }
}

/// The site's first page.
impl Default for ReturnTo {
    fn default() -> Self {
        Self("/".into())
    }
}

impl<S: Sync> FromRequestParts<S> for ReturnTo {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.uri.query().and_then(Self::of_query).unwrap_or_default())
    }
}

impl IntoResponse for ReturnTo {
    fn into_response(self) -> Response {
        Redirect::to(&self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use url::Url;

    #[test]
    fn paths_of_this_site_are_taken_as_they_are() {
        for path in
            ["/", "/orders", "/orders?page=2&q=a%20b", "/a//b", "/a/../b", "/~ada/@x;y=1", "/?"]
        {
            assert_eq!(ReturnTo::parse(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn nothing_that_could_lead_to_another_site_is_a_way_back() {
        for text in [
            "",
            "orders",
            "?q",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\/evil.example",
            "/a\\b",
            "/\t/evil.example",
            "/\n/evil.example",
            "/\r\n/evil.example",
            "\t//evil.example",
            " //evil.example",
            "/ /evil.example",
            "/\0/evil.example",
            "/\u{7f}",
            "/\u{a0}",
            "/\u{2028}x",
            "/\u{ff0f}evil.example",
            "https://evil.example/",
            "https:evil.example",
            "HTTPS:/evil.example",
            "javascript:alert(1)",
            "data:text/html,x",
            "/x\r\nSet-Cookie: a=b",
            "/#//evil.example",
            "/\"onmouseover=alert(1)",
            "/<script>",
            &format!("/{}", "a".repeat(ReturnTo::MAX_BYTES)),
        ] {
            assert_eq!(ReturnTo::parse(text), None, "{text:?}");
            let query = format!("next={}", urlencoding::encode(text));
            assert_eq!(ReturnTo::of_query(&query), None, "{text:?}");
        }
    }

    #[test]
    fn a_query_has_one_way_back() {
        for (query, wanted) in [
            ("next=%2Forders%3Fpage%3D2", Some("/orders?page=2")),
            ("next=/orders", Some("/orders")),
            ("a=b&next=%2F&c", Some("/")),
            ("next=%2Fa&next=%2Fb", None),
            ("next=%2Fa&next=%2F%2Fevil.example", None),
            ("next=", None),
            ("next", None),
            ("Next=%2Fa", None),
            ("xnext=%2Fa", None),
            ("next=%2F%2Fevil.example", None),
            ("next=/%2Fevil.example", None),
            ("next=/%5Cevil.example", None),
            ("next=/%09/evil.example", None),
            ("next=/%0d%0aSet-Cookie:x", None),
            ("next=/%ff", None),
            ("next=%2", None),
            // It stays encoded, and is a path of this site.
            ("next=/%252Fevil.example", Some("/%2Fevil.example")),
            ("next=%252F%252Fevil.example", None),
        ] {
            let found = ReturnTo::of_query(query);
            assert_eq!(found.as_ref().map(ReturnTo::as_str), wanted, "{query}");
        }
    }

    #[test]
    fn a_login_page_is_a_path() {
        assert!(LoginPage::new("/login?lang=en").is_ok());
        for path in ["login", "//login", "https://login.example/", ""] {
            let error = LoginPage::new(path).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{error}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// A browser's own parser is the judge.
        #[test]
        fn whatever_is_taken_stays_on_this_site(
            text in "[/\\\\]{0,3}[ \t\n\r/\\\\.:@?#a-z%0-9\u{0}-\u{20}]{0,12}|[/.]{1,6}evil\\.example/?|\\PC{0,20}"
        ) {
            if let Some(back) = ReturnTo::parse(&text) {
                for base in ["https://shop.example/login?next=x", "http://shop.example:8080/a/b/c"] {
                    let base = Url::parse(base).unwrap();
                    let there = base.join(back.as_str()).unwrap();
                    prop_assert_eq!(there.origin(), base.origin(), "{:?}", text);
                }
            }
        }
    }
}
