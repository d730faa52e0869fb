//! Ids in the URL, as one query argument. Opt-in: URLs end up in logs, histories and bookmarks.

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::reference::{Reference, clean};
use super::scope::Scope;
use super::{Directive, Extracted, RequestHead, TokenSource, Transport};
use crate::Error;

/// The query argument, and where it may go, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UrlOptions {
    /// The argument's name. Defaults to `sid`.
    pub param: String,
    /// The site as its visitors know it: scheme, host and port, such as `https://example.com`.
    /// Absolute URLs carry ids to nowhere else. Defaults to none: only references without a host
    /// carry them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// The path at or below which ids may go, as visitors and the server know it. Defaults to `/`.
    pub base: String,
    /// Whether the wrapper for hyper services puts ids into HTML pages; it can with the feature
    /// `rewrite`. Defaults to true.
    pub rewrite: bool,
}

impl Default for UrlOptions {
    fn default() -> Self {
        Self { param: "sid".into(), origin: None, base: "/".into(), rewrite: true }
    }
}

/// Carries the token as one query argument of the application's own links and redirects.
#[derive(Debug)]
pub struct UrlTransport {
    options: UrlOptions,
    scope: Scope,
}

impl UrlTransport {
    /// A transport by these options.
    ///
    /// # Errors
    /// [`Error::Config`] if the name has other than unreserved characters (RFC 3986, section 2.3),
    /// which need no encoding anywhere, and for what is no origin or path.
    pub fn new(options: UrlOptions) -> Result<Self, Error> {
        if options.param.is_empty() || !options.param.bytes().all(is_unreserved) {
            return Err(Error::config("url param must be letters, digits or any of -._~"));
        }
        let scope = Scope::new(options.origin.as_deref(), &options.base)?;
        Ok(Self { options, scope })
    }

    /// The options.
    pub fn options(&self) -> &UrlOptions {
        &self.options
    }

    /// Where ids may go.
    #[cfg(feature = "rewrite")]
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The value, if `argument` is ours.
    fn ours<'a>(&self, argument: &'a str) -> Option<&'a str> {
        argument.strip_prefix(&self.options.param)?.strip_prefix('=')
    }

    /// The arguments of a query but ours.
    fn others<'a>(&self, query: &'a str) -> impl Iterator<Item = &'a str> {
        query.split('&').filter(|argument| !argument.is_empty() && self.ours(argument).is_none())
    }

    /// Whether a request's path and query have our argument.
    pub(crate) fn has_id(&self, target: &str) -> bool {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|argument| self.ours(argument).is_some())
    }

    /// A request's path and query without our argument; `None` if it has none, or if a browser
    /// would take what is left for another site's URL.
    pub(crate) fn without_id(&self, target: &str) -> Option<String> {
        let reference = Reference::parse(target)?;
        if !reference.path.starts_with('/') || !self.has_id(target) {
            return None;
        }
        let others: Vec<&str> = self.others(reference.query?).collect();
        let mark = if others.is_empty() { "" } else { "?" };
        Some(format!("{}{mark}{}", reference.path, others.join("&")))
    }
}

/// An unreserved character (RFC 3986, section 2.3).
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

impl Transport for UrlTransport {
    fn name(&self) -> &str {
        &self.options.param
    }

    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r> {
        let arguments = request.uri.query().unwrap_or_default().split('&');
        let mut ours = arguments.filter_map(|argument| self.ours(argument));
        // Unlike cookies, which a browser may hold twice, a doubled argument is nobody's accident.
        match (ours.next(), ours.next()) {
            (None, _) => Extracted::nothing(),
            (Some(text), None) => Extracted::nothing().with(text.as_bytes(), TokenSource::Url),
            (Some(_), Some(_)) => Extracted::unreadable(TokenSource::Url),
        }
    }

    /// URLs announce themselves: there is nothing to say in a header.
    fn write_response(&self, _: Directive<'_>, _: &mut HeaderMap) -> Result<(), Error> {
        Ok(())
    }

    fn names(&self) -> Vec<(TokenSource, &str)> {
        vec![(TokenSource::Url, self.name())]
    }

    fn uses_url(&self, _carrier: Option<TokenSource>) -> bool {
        true
    }

    fn encode_url(&self, url: &str, page: &str, text: &str) -> Option<String> {
        let url = clean(url)?;
        let reference = Reference::parse(&url)?;
        let (page_path, page_query) = page.split_once('?').unwrap_or((page, ""));
        // A text that would need encoding is none that `find` could give back.
        if reference.is_fragment()
            || !self.scope.admits(&reference, page_path)
            || !text.bytes().all(is_unreserved)
        {
            return None;
        }
        // The empty reference is the page with its query (RFC 3986, section 5.2.2).
        let query = reference.query.unwrap_or(match reference.front {
            "" => page_query,
            _ => "",
        });
        let mut encoded = String::with_capacity(url.len() + query.len() + text.len() + 8);
        encoded.push_str(reference.front);
        let mut separator = '?';
        for argument in self.others(query) {
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

    /// What leads elsewhere, or only may, gets no id.
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

    /// Doubled, renamed and encoded arguments make an anonymous visitor.
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
