//! Ids in the URL, as one query argument. Opt-in: URLs end up in logs, histories and bookmarks.

use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::{Announcement, Carrier, Found, RequestHead, Transport};
use crate::Error;

/// The query argument, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct UrlOptions {
    /// The argument's name. Defaults to `sid`.
    pub param: String,
}

impl Default for UrlOptions {
    fn default() -> Self {
        Self { param: "sid".into() }
    }
}

/// Carries the token as one query argument of the application's own links and redirects.
#[derive(Debug)]
pub struct UrlTransport(UrlOptions);

impl UrlTransport {
    /// A transport by these options.
    ///
    /// # Errors
    /// [`Error::Config`] if the name has other than unreserved characters (RFC 3986, section 2.3),
    /// which need no encoding anywhere.
    pub fn new(options: UrlOptions) -> Result<Self, Error> {
        let unreserved =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        if options.param.is_empty() || !options.param.bytes().all(unreserved) {
            return Err(Error::config("url param must be letters, digits or any of -._~"));
        }
        Ok(Self(options))
    }

    /// The value, if `argument` is ours.
    fn ours<'a>(&self, argument: &'a str) -> Option<&'a str> {
        argument.strip_prefix(&self.0.param)?.strip_prefix('=')
    }
}

impl Transport for UrlTransport {
    fn name(&self) -> &str {
        &self.0.param
    }

    fn find<'r>(&self, request: RequestHead<'r>) -> Found<'r> {
        let arguments = request.uri.query().unwrap_or_default().split('&');
        let mut ours = arguments.filter_map(|argument| self.ours(argument));
        // Unlike cookies, which a browser may hold twice, a doubled argument is nobody's accident.
        match (ours.next(), ours.next()) {
            (None, _) => Found::Nothing,
            (Some(text), None) => Found::Text(text.into(), Carrier::Url),
            (Some(_), Some(_)) => Found::Malformed(Carrier::Url),
        }
    }

    /// URLs announce themselves: there is nothing to say in a header.
    fn announce(&self, _: Announcement<'_>, _: &mut HeaderMap) -> Result<(), Error> {
        Ok(())
    }

    fn uses_url(&self, _carrier: Option<Carrier>) -> bool {
        true
    }

    fn encode_url(&self, url: &str, text: &str) -> Option<String> {
        if !is_own(url) {
            return None;
        }
        let (rest, fragment) = match url.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (url, None),
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut encoded = String::with_capacity(url.len() + self.0.param.len() + text.len() + 2);
        encoded.push_str(path);
        let mut separator = '?';
        let others = query
            .split('&')
            .filter(|argument| !argument.is_empty() && self.ours(argument).is_none());
        for argument in others {
            encoded.push(separator);
            encoded.push_str(argument);
            separator = '&';
        }
        encoded.push(separator);
        encoded.push_str(&self.0.param);
        encoded.push('=');
        encoded.push_str(text);
        if let Some(fragment) = fragment {
            encoded.push('#');
            encoded.push_str(fragment);
        }
        Some(encoded)
    }
}

/// Whether a browser would resolve the reference to the page's own origin, whatever that is: an
/// absolute path, or a relative one, with no scheme and no authority (RFC 3986, section 4.2).
///
/// Browsers strip blanks and control characters and read `\` as `/` (WHATWG URL, section 4.4), so
/// a reference with any of these is left alone rather than understood.
fn is_own(url: &str) -> bool {
    if url.bytes().any(|b| b <= b' ' || b == b'\\' || b == 0x7f) || url.starts_with("//") {
        return false;
    }
    // A colon before the first slash, question mark or number sign ends a scheme.
    let first = url.split(['/', '?', '#']).next().unwrap_or_default();
    // A reference to a place in the same page makes no request.
    !first.contains(':') && !url.starts_with('#')
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
            assert_eq!(transport().encode_url(url, "S").as_deref(), Some(wanted), "{url:?}");
        }
    }

    /// Hostile inputs, class "links to rewrite".
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
            assert_eq!(transport().encode_url(url, "S"), None, "{url:?}");
        }
    }

    /// Hostile inputs, class "query".
    #[test]
    fn only_one_plain_argument_counts() {
        let found = |target: &str| {
            let request = Request::builder().uri(target).body(()).unwrap();
            match transport().find((&request).into()) {
                Found::Text(text, Carrier::Url) => Some(text.into_owned()),
                Found::Nothing => None,
                other => Some(format!("{other:?}")),
            }
        };
        assert_eq!(found("/?sid=S").as_deref(), Some("S"));
        assert_eq!(found("/?a=1&sid=S&b=2").as_deref(), Some("S"));
        assert_eq!(found("/?sid=S&sid=S").as_deref(), Some("Malformed"));
        assert_eq!(found("/?sid=%00").as_deref(), Some("%00"));
        for target in ["/", "/?sid", "/?sid[$ne]=x", "/?SID=S", "/;sid=S", "/?xsid=S", "/?a=sid=S"]
        {
            assert_eq!(found(target), None, "{target}");
        }
    }

    proptest! {
        #[test]
        fn encoding_twice_is_encoding_once(url in "[a-z/?#&=.:\\\\]{0,16}") {
            if let Some(once) = transport().encode_url(&url, "S") {
                let twice = transport().encode_url(&once, "S");
                prop_assert_eq!(twice, Some(once));
            }
        }
    }
}
