//! Decoding and encoding attribute values, with their character references.

use std::borrow::Cow;
use std::io::Write as _;

use htmlize::unescape_attribute;

/// The characters that stand for the bytes beyond ASCII (Encoding Standard, x-user-defined).
const BYTES: std::ops::RangeInclusive<char> = '\u{f780}'..='\u{f7ff}';

/// Decodes a value as a browser does, with its character references resolved (HTML, section 13.2.5.72).
/// Returns `None` if one of them yields a character that stands for a byte here.
pub(super) fn decode(raw: &str) -> Option<Cow<'_, str>> {
    if memchr::memchr(b'&', raw.as_bytes()).is_none() {
        return Some(Cow::Borrowed(raw));
    }
    let decoded = unescape_attribute(raw);
    let bytes = |text: &str| text.chars().filter(|c| BYTES.contains(c)).count();
    (bytes(&decoded) == bytes(raw)).then_some(decoded)
}

/// Encodes a value so that it can stand between quotes of either kind, or unquoted.
pub(super) fn encode(value: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() + 16);
    let mut rest = value;
    while let Some(at) = rest.bytes().position(|byte| !is_plain(byte)) {
        encoded.extend_from_slice(&rest.as_bytes()[..at]);
        let mut characters = rest[at..].chars();
        match characters.next() {
            Some('&') => encoded.extend_from_slice(b"&amp;"),
            // The low byte of the character is the byte.
            Some(byte) if BYTES.contains(&byte) => encoded.push(u32::from(byte).to_le_bytes()[0]),
            Some(other) => {
                // Writing to a vector does not fail.
                let _ = write!(encoded, "&#{};", u32::from(other));
            }
            None => {}
        }
        rest = characters.as_str();
    }
    encoded.extend_from_slice(rest.as_bytes());
    encoded
}

/// Returns whether a byte stands for itself in quoted and unquoted values.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'&' | b'"' | b'\'' | b'<' | b'>' | b'`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_in_attributes() {
        for (raw, wanted) in [
            ("?a=1&amp;b=2", "?a=1&b=2"),
            ("?a&copy=1&copyx", "?a&copy=1&copyx"),
            ("&#x2f;&#47;evil", "//evil"),
            ("&sol;&bsol;&Tab;&NewLine;", "/\\\t\n"),
            ("java&#115cript&colon;x", "javascript:x"),
        ] {
            assert_eq!(decode(raw).as_deref(), Some(wanted), "{raw}");
        }
        assert_eq!(decode("&#xf780;"), None);
        assert_eq!(decode("\u{f780}").as_deref(), Some("\u{f780}"));
    }

    #[test]
    fn values_survive_quotes_of_all_kinds() {
        assert_eq!(encode("/a b?c=\"&'<>`"), b"/a&#32;b?c=&#34;&amp;&#39;&#60;&#62;&#96;");
        assert_eq!(encode("\u{f7e4}\u{e4}"), b"\xe4&#228;");
    }
}
