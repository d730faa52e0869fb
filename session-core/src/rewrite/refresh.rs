//! The URL in a `<meta http-equiv="refresh">`.

use std::ops::Range;

/// Returns the position of the URL in the value of `content` (HTML, "shared declarative refresh steps").
/// Returns `None` if it has no URL, so that the page reloads itself.
pub(super) fn url_range(content: &str) -> Option<Range<usize>> {
    let bytes = content.as_bytes();
    let skip = |mut at: usize, skipped: &dyn Fn(u8) -> bool| {
        while bytes.get(at).is_some_and(|b| skipped(*b)) {
            at += 1;
        }
        at
    };
    let blank = |b: u8| matches!(b, b' ' | b'\t' | b'\n' | b'\r' | 0x0c);
    let is = |at: usize, wanted: u8| bytes.get(at).is_some_and(|b| b.eq_ignore_ascii_case(&wanted));

    let start = skip(0, &blank);
    let at = skip(start, &|b| b.is_ascii_digit());
    if at == start && !is(at, b'.') {
        return None;
    }
    let at = skip(at, &|b| b.is_ascii_digit() || b == b'.');
    let next = *bytes.get(at)?;
    if !matches!(next, b';' | b',') && !blank(next) {
        return None;
    }
    let at = skip(at, &blank);
    let at = at + usize::from(is(at, b';') || is(at, b','));
    let begin = skip(at, &blank);
    if begin == bytes.len() {
        return None;
    }
    let mut at = begin;
    if is(at, b'u') {
        if !is(at + 1, b'r') || !is(at + 2, b'l') {
            return Some(begin..bytes.len());
        }
        at = skip(at + 3, &blank);
        if !is(at, b'=') {
            return Some(begin..bytes.len());
        }
        at = skip(at + 1, &blank);
    }
    match bytes.get(at) {
        Some(quote @ (b'"' | b'\'')) => {
            let length = bytes[at + 1..].iter().position(|b| b == quote);
            Some(at + 1..length.map_or(bytes.len(), |length| at + 1 + length))
        }
        _ => Some(at..bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_found_where_browsers_find_it() {
        for (content, wanted) in [
            ("5; url=/x", Some("/x")),
            ("0;URL='/x'y", Some("/x")),
            ("0,\turl = \"/x", Some("/x")),
            ("1.5 /x", Some("/x")),
            (".5;/x", Some("/x")),
            ("5;u/x", Some("u/x")),
            ("5;url/x", Some("url/x")),
            ("5;'/x'", Some("/x")),
            ("5", None),
            ("5;", None),
            ("x;url=/x", None),
            ("5x;url=/x", None),
            ("", None),
            ("5;url=", Some("")),
        ] {
            assert_eq!(url_range(content).map(|range| &content[range]), wanted, "{content:?}");
        }
    }
}
