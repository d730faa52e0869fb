//! [`UrlTransport`]: ids in a query argument of URLs. It is opt-in, because URLs end up in logs, histories
//! and bookmarks. A duplicated argument is refused here; an id in a URL of a session that does not accept ids
//! in URLs is refused in `state/verification.rs`.

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::reference::{Reference, clean};
use super::scope::Scope;
use super::{Directive, Extracted, RequestHead, TokenSource, Transport};
use crate::Error;

/// The options of ids in URLs: the query argument, and the URLs that may carry it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UrlOptions {
    /// The argument's name: letters, digits or any of `-._~`. Defaults to `sid`.
    pub param: String,
    /// The origin of the site as browsers see it: scheme, host and port, such as `https://example.com`.
    /// Absolute URLs of this origin may carry ids. Defaults to none: only references without a host may carry
    /// ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The path at or below which URLs may carry ids, as in the browser's URL and in requests. Defaults to
    /// `/`.
    pub base: String,
    /// Whether the wrapper for hyper services puts ids into HTML pages, which needs the feature `rewrite`.
    /// Defaults to true.
    pub rewrite: bool,
}

impl Default for UrlOptions {
    fn default() -> Self {
        Self { param: "sid".into(), origin: None, base: "/".into(), rewrite: true }
    }
}

/// Transports the token in a query argument of the application's own links and redirects.
#[derive(Debug)]
pub struct UrlTransport {
    options: UrlOptions,
    scope: Scope,
}

impl UrlTransport {
    /// Returns a transport with these options.
    ///
    /// # Errors
    /// [`Error::Config`] if the argument's name contains a character that is not unreserved (RFC 3986,
    /// section 2.3), and would need encoding, or if the origin or the path is invalid.
    pub fn new(options: UrlOptions) -> Result<Self, Error> {
        if options.param.is_empty() || !options.param.bytes().all(is_unreserved) {
            return Err(Error::config("url param must be letters, digits or any of -._~"));
        }
        let scope = Scope::new(options.origin.as_deref(), &options.base)?;
        Ok(Self { options, scope })
    }

    /// Returns the options.
    pub fn options(&self) -> &UrlOptions {
        &self.options
    }

    /// Returns the scope of the URLs that may carry ids.
    #[cfg(feature = "rewrite")]
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Returns the value of `argument`, if it is the id's argument.
    fn own_value<'a>(&self, argument: &'a str) -> Option<&'a str> {
        argument.strip_prefix(&self.options.param)?.strip_prefix('=')
    }

    /// Returns the other arguments of a query.
    fn other_arguments<'a>(&self, query: &'a str) -> impl Iterator<Item = &'a str> {
        query
            .split('&')
            .filter(|argument| !argument.is_empty() && self.own_value(argument).is_none())
    }

    /// Returns whether a path and query contain the id's argument.
    pub(crate) fn has_id(&self, target: &str) -> bool {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|argument| self.own_value(argument).is_some())
    }

    /// Returns a path and query without the id's argument; `None` if they don't contain it, or if a browser
    /// would read the rest as a URL of another site.
    pub(crate) fn without_id(&self, target: &str) -> Option<String> {
        let reference = Reference::parse(target)?;
        if !reference.path.starts_with('/') || !self.has_id(target) {
            return None;
        }
        let others: Vec<&str> = self.other_arguments(reference.query?).collect();
        let mark = if others.is_empty() { "" } else { "?" };
        Some(format!("{}{mark}{}", reference.path, others.join("&")))
    }
}

/// Returns whether a byte is an unreserved character (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

impl Transport for UrlTransport {
    fn name(&self) -> &str {
        &self.options.param
    }

    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r> {
        let arguments = request.uri.query().unwrap_or_default().split('&');
        let mut values = arguments.filter_map(|argument| self.own_value(argument));
        // A browser may have two cookies of one name, but a duplicated argument is never an accident.
        match (values.next(), values.next()) {
            (None, _) => Extracted::nothing(),
            (Some(text), None) => Extracted::nothing().with(text.as_bytes(), TokenSource::Url),
            (Some(_), Some(_)) => Extracted::unreadable(TokenSource::Url),
        }
    }

    /// Writes nothing: the id is in the URLs of the response.
    fn write_response(&self, _: Directive<'_>, _: &mut HeaderMap) -> Result<(), Error> {
        Ok(())
    }

    fn names(&self) -> Vec<(TokenSource, &str)> {
        vec![(TokenSource::Url, self.name())]
    }

    fn uses_url(&self, _source: Option<TokenSource>) -> bool {
        true
    }

    fn encode_url(&self, url: &str, page: &str, text: &str) -> Option<String> {
        let url = clean(url)?;
        let reference = Reference::parse(&url)?;
        let (page_path, page_query) = page.split_once('?').unwrap_or((page, ""));
        // A text that needs encoding is left out, because `extract` does not decode.
        if reference.is_fragment()
            || !self.scope.admits(&reference, page_path)
            || !text.bytes().all(is_unreserved)
        {
            return None;
        }
        // The empty reference means the page with its query (RFC 3986, section 5.2.2).
        let query = reference.query.unwrap_or(match reference.front {
            "" => page_query,
            _ => "",
        });
        let mut encoded = String::with_capacity(url.len() + query.len() + text.len() + 8);
        encoded.push_str(reference.front);
        let mut separator = '?';
        for argument in self.other_arguments(query) {
            encoded.push(separator);
            encoded.push_str(argument);
            separator = '&';
        }
        encoded.push(separator);
        encoded.push_str(&self.options.param);
        encoded.push('=');
        encoded.push_str(text);
        if let Some(fragment) = reference.fragment {
            encoded.push('#');
            encoded.push_str(fragment);
        }
        Some(encoded)
    }

    fn urls(&self) -> Option<&UrlTransport> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn transport() -> UrlTransport {
        UrlTransport::new(UrlOptions::default()).unwrap()
    }

    #[test]
    fn the_argument_replaces_an_old_one_and_the_fragment_stays_last() {
        for (url, wanted) in [
            ("/", "/?sid=S"),
            ("", "?sid=S"),
            ("?", "?sid=S"),
            ("?a=1", "?a=1&sid=S"),
            ("page", "page?sid=S"),
            ("../a/b#f?g", "../a/b?sid=S#f?g"),
            ("/a?x=1&y=2#frag", "/a?x=1&y=2&sid=S#frag"),
            ("/a?sid=OLD&x=1", "/a?x=1&sid=S"),
            ("/a?sid=OLD&sid=OLD", "/a?sid=S"),
            ("/a?SID=other&sid", "/a?SID=other&sid&sid=S"),
            ("/a:b", "/a:b?sid=S"),
        ] {
            assert_eq!(transport().encode_url(url, "/", "S").as_deref(), Some(wanted), "{url:?}");
        }
    }

    /// A URL that leads to another site, or may do so, gets no id.
    #[test]
    fn links_elsewhere_are_left_alone() {
        for url in [
            "//evil/",
            "https://evil",
            "HTTP://evil/",
            "/\\evil",
            "\\\\evil",
            "\\/evil",
            "javascript:alert(1)",
            "mailto:a@b",
            "data:text/html,x",
            "foo:bar",
            " //evil",
            "\t//evil",
            "/\t/evil",
            "/\n/evil",
            "ht\ntps://evil",
            "\u{0}//evil",
            "#top",
        ] {
            assert_eq!(transport().encode_url(url, "/", "S"), None, "{url:?}");
        }
    }

    /// A request with a duplicated, renamed or encoded argument is anonymous.
    #[test]
    fn only_one_plain_argument_counts() {
        let found = |target: &str| {
            let request = Request::builder().uri(target).body(()).unwrap();
            let transport = transport();
            transport.extract((&request).into()).shown().map(|texts| texts.join(" "))
        };
        assert_eq!(found("/?sid=S").as_deref(), Some("S"));
        assert_eq!(found("/?a=1&sid=S&b=2").as_deref(), Some("S"));
        assert_eq!(found("/?sid=S&sid=S").as_deref(), Some(""), "it is there and has no text");
        assert_eq!(found("/?sid=%00").as_deref(), Some("%00"));
        for target in ["/", "/?sid", "/?sid[$ne]=x", "/?SID=S", "/;sid=S", "/?xsid=S", "/?a=sid=S"]
        {
            assert_eq!(found(target), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn encoding_twice_is_encoding_once(url in "[a-z/?#&=.:\\\\]{0,16}") {
            if let Some(once) = transport().encode_url(&url, "/", "S") {
                let twice = transport().encode_url(&once, "/", "S");
                prop_assert_eq!(twice, Some(once));
            }
        }
    }
}
