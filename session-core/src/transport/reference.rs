//! [`Reference`]: a URL reference in a link or redirect, parsed as browsers parse it.

use std::borrow::Cow;

/// The parts of a reference that may lead to the application itself.
///
/// Browsers accept more than RFC 3986: they strip surrounding spaces, drop tabs and line breaks, treat `\` as
/// `/`, and understand `https:x` (WHATWG URL, section 4.4). Such references are rejected here, so that a
/// reference to another site is never taken for one to the application.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reference<'a> {
    /// The scheme and the authority of an absolute URL.
    pub(crate) site: Option<(&'a str, &'a str)>,
    /// Everything in front of the query, including scheme and authority.
    pub(crate) front: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) fragment: Option<&'a str>,
}

/// Returns the text as a browser parses it: without surrounding spaces, and without tabs and line breaks.
/// Returns `None` if other control characters are left.
pub(crate) fn clean(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim_matches(|c| c <= ' ');
    let dropped = |c: char| matches!(c, '\t' | '\n' | '\r');
    let cleaned = match text.contains(dropped) {
        true => Cow::Owned(text.replace(dropped, "")),
        false => Cow::Borrowed(text),
    };
    let is_plain = !cleaned.bytes().any(|b| b < b' ' || b == 0x7f);
    is_plain.then_some(cleaned)
}

impl<'a> Reference<'a> {
    /// Parses a text that [`clean`] returned. Returns `None` if it leads to another site on every page: if it has a
    /// scheme other than HTTP's, or an authority without a scheme.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (rest, fragment) = match text.split_once('#') {
            Some((rest, fragment)) => (rest, Some(fragment)),
            None => (text, None),
        };
        let (front, query) = match rest.split_once('?') {
            Some((front, query)) => (front, Some(query)),
            None => (rest, None),
        };
        if front.contains('\\') || front.starts_with("//") {
            return None;
        }
        let first = front.split('/').next().unwrap_or_default();
        let Some((scheme, _)) = first.split_once(':') else {
            return Some(Self { site: None, front, path: front, query, fragment });
        };
        if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let rest = front[scheme.len()..].strip_prefix("://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        Some(Self { site: Some((scheme, authority)), front, path, query, fragment })
    }

    /// Returns whether the reference leads to a fragment of the same page, so that following it makes no
    /// request.
    pub(crate) fn is_fragment(&self) -> bool {
        self.front.is_empty() && self.query.is_none() && self.fragment.is_some()
    }
}

/// Returns the segments, without slashes, of the path that a browser requests if it follows `path` on a page
/// with the path `page`.
pub(crate) fn resolve<'a>(path: &'a str, page: &'a str) -> Vec<&'a str> {
    let mut segments = Vec::new();
    if path.is_empty() {
        walk(&mut segments, page);
        return segments;
    }
    if !path.starts_with('/') {
        walk(&mut segments, page);
        segments.pop();
    }
    walk(&mut segments, path);
    segments
}

/// Appends a path to `segments`, and resolves its dot segments (WHATWG URL, section 4.4, "path state").
fn walk<'a>(segments: &mut Vec<&'a str>, path: &'a str) {
    let mut steps = path.strip_prefix('/').unwrap_or(path).split('/').peekable();
    while let Some(step) = steps.next() {
        let is_last = steps.peek().is_none();
        match dots(step) {
            0 => segments.push(step),
            dots => {
                if dots == 2 {
                    segments.pop();
                }
                if is_last {
                    segments.push("");
                }
            }
        }
    }
}

/// Returns 1 or 2 for a dot segment, and 0 for any other. Browsers read `%2e` as a dot.
fn dots(step: &str) -> usize {
    let mut rest = step.as_bytes();
    let mut count = 0;
    while !rest.is_empty() && count < 3 {
        rest = match rest {
            [b'.', rest @ ..] | [b'%', b'2', b'e' | b'E', rest @ ..] => rest,
            _ => return 0,
        };
        count += 1;
    }
    if count > 2 { 0 } else { count }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_browsers_understand_is_no_reference() {
        for text in ["//evil/", "\\\\evil", "/\\evil", "https:x", "https:/x", "javascript:x", "a:b"]
        {
            assert_eq!(Reference::parse(text), None, "{text}");
        }
        for text in ["\u{1}x\u{1}y", "a\u{0}b", "a\u{7f}b"] {
            assert_eq!(clean(text), None, "{text:?}");
        }
        assert_eq!(clean(" \u{1}/\t/\r\nevil \n").as_deref(), Some("//evil"));
    }

    #[test]
    fn a_reference_has_parts() {
        let reference = Reference::parse("HTTPS://h:1/a/b?c=/d?e#f?g").unwrap();
        assert_eq!(reference.site, Some(("HTTPS", "h:1")));
        assert_eq!((reference.front, reference.path), ("HTTPS://h:1/a/b", "/a/b"));
        assert_eq!((reference.query, reference.fragment), (Some("c=/d?e"), Some("f?g")));
        assert!(Reference::parse("#x").unwrap().is_fragment());
        assert!(!Reference::parse("?#x").unwrap().is_fragment());
    }

    #[test]
    fn dots_are_steps() {
        for (path, page, wanted) in [
            ("", "/a/b", "a/b"),
            ("c", "/a/b", "a/c"),
            ("c", "/", "c"),
            ("c", "", "c"),
            ("../c", "/a/b/d", "a/c"),
            ("..", "/a/b/d", "a/"),
            (".", "/a/b", "a/"),
            ("../../../c", "/a/b", "c"),
            ("/a/%2E%2e/c/%2e", "/x", "c/"),
            ("/a/.../b", "/x", "a/.../b"),
            ("/a//../b", "/x", "a/b"),
            ("/a/..b/c", "/x", "a/..b/c"),
        ] {
            assert_eq!(resolve(path, page).join("/"), wanted, "{path:?} on {page:?}");
        }
    }
}
