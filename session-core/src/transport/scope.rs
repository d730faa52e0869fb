//! [`Scope`]: which URLs may carry an id.

use super::origin::Origin;
use super::reference::{Reference, resolve};
use crate::Error;

/// The URLs that may carry an id: those of the configured origin, at or below the configured path.
///
/// The scope depends on the configuration only, because a client can send any `Host` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The site's origin. If it is `None`, only references without an authority are the application's own.
    origin: Option<Origin>,
    /// The path, which begins with a slash and does not end with one; empty for all paths.
    base: String,
}

impl Scope {
    /// Returns the scope for the options `origin` and `base`.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong with the option.
    pub(crate) fn new(origin: Option<&str>, base: &str) -> Result<Self, Error> {
        let origin = match origin {
            Some(text) => Some(Origin::parse(text).ok_or(Error::config(
                "url origin must be a scheme and a host, such as https://example.com or \
                 http://localhost:8080, in ASCII and without a path",
            ))?),
            None => None,
        };
        let segments = base.strip_prefix('/').map(|rest| rest.strip_suffix('/').unwrap_or(rest));
        let is_path = |path: &str| {
            path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/".contains(&b))
        };
        match segments {
            Some("") if base == "/" => Ok(Self { origin, base: String::new() }),
            Some(path)
                if is_path(path)
                    && path.split('/').all(|segment| !segment.is_empty())
                    && resolve(base, "/")
                        .into_iter()
                        .take_while(|s| !s.is_empty())
                        .eq(path.split('/')) =>
            {
                Ok(Self { origin, base: format!("/{path}") })
            }
            _ => Err(Error::config(
                "url base must be a path such as / or /app, percent-encoded, without empty or \
                 dotted segments, query or fragment",
            )),
        }
    }

    /// Returns whether a browser that follows the reference on a page with the path `page` stays within the
    /// scope.
    pub(crate) fn admits(&self, reference: &Reference<'_>, page: &str) -> bool {
        if !self.is_same_site(reference) {
            return false;
        }
        if self.base.is_empty() {
            return true;
        }
        // An absolute URL without a path means the path `/`.
        let path = if reference.site.is_some() { "/" } else { "" };
        let path = if reference.path.is_empty() { path } else { reference.path };
        let mut asked = resolve(path, page).into_iter();
        self.base[1..].split('/').all(|segment| asked.next() == Some(segment))
    }

    /// Returns whether the reference leads to the configured origin, or has no authority.
    pub(crate) fn is_same_site(&self, reference: &Reference<'_>) -> bool {
        let Some((scheme, authority)) = reference.site else { return true };
        self.origin.as_ref().is_some_and(|origin| origin.is(scheme, authority))
    }

    /// Returns whether the scope contains every path of the origin.
    #[cfg(feature = "rewrite")]
    pub(crate) fn is_whole_origin(&self) -> bool {
        self.base.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(scope: &Scope, text: &str, page: &str) -> bool {
        Reference::parse(text).is_some_and(|reference| scope.admits(&reference, page))
    }

    #[test]
    fn paths_count_by_whole_segments() {
        let scope = Scope::new(None, "/app/").unwrap();
        assert_eq!(scope, Scope::new(None, "/app").unwrap());
        for (text, page, wanted) in [
            ("/app", "/", true),
            ("/app/", "/", true),
            ("/app/x", "/", true),
            ("/application", "/", false),
            ("/App", "/", false),
            ("/", "/app/", false),
            ("/app/../x", "/", false),
            ("/app/%2e%2E/x", "/", false),
            ("/x/../app", "/", true),
            ("//app", "/", false),
            ("x", "/app/", true),
            ("x", "/app", false),
            ("../x", "/app/y", false),
            ("../x", "/app/y/z", true),
            ("", "/app", true),
            ("?q", "/other", false),
        ] {
            assert_eq!(admits(&scope, text, page), wanted, "{text:?} on {page:?}");
        }
    }

    #[test]
    fn a_site_is_compared_with_the_configured_one() {
        let scope = Scope::new(Some("https://Example.com"), "/app").unwrap();
        for (text, wanted) in [
            ("https://example.com/app", true),
            ("HTTPS://EXAMPLE.COM:443/app/x", true),
            ("https://example.com:/app", true),
            ("https://example.com:0443/app", true),
            ("https://example.com", false),
            ("https://example.com/x", false),
            ("http://example.com/app", false),
            ("https://example.com:444/app", false),
            ("https://example.com:443x/app", false),
            ("https://example.com:+443/app", false),
            ("https://example.com./app", false),
            ("https://user@example.com/app", false),
            ("https://example.com:443@evil/app", false),
            ("https://example.com.evil/app", false),
            ("https://evil/app", false),
            ("https:///app", false),
        ] {
            assert_eq!(admits(&scope, text, "/app/"), wanted, "{text:?}");
        }
        let any = Scope::new(None, "/").unwrap();
        assert!(!admits(&any, "https://example.com/", "/"));
        let six = Scope::new(Some("http://[::1]:8080"), "/").unwrap();
        assert!(admits(&six, "http://[::1]:8080/x", "/"));
        assert!(!admits(&six, "http://[::1]/x", "/"));
    }

    #[test]
    fn what_is_no_origin_or_path_is_a_configuration_error() {
        for origin in [
            "",
            "example.com",
            "//example.com",
            "ftp://example.com",
            "https://",
            "https://example.com/",
            "https://u@example.com",
            "https://exämple.com",
            "https://example.com:x",
            "https://example.com:65536",
            "https://[::1",
            "https://a b",
        ] {
            assert!(matches!(Scope::new(Some(origin), "/"), Err(Error::Config(_))), "{origin:?}");
        }
        for base in [
            "", "app", "//", "/a//b", "/a/../b", "/a/./b", "/%2e", "/a?b", "/a#b", "/a b", "/ä",
            "/a\\b",
        ] {
            assert!(matches!(Scope::new(None, base), Err(Error::Config(_))), "{base:?}");
        }
    }
}
