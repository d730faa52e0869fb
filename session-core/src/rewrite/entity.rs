//! Attribute values, from a page's bytes and back.

use std::borrow::Cow;
use std::fmt::Write as _;

use htmlize::unescape_attribute;

/// The characters that stand for the bytes beyond ASCII (Encoding Standard, x-user-defined).
const BYTES: std::ops::RangeInclusive<char> = '\u{f780}'..='\u{f7ff}';

/// The value as a browser reads it, with its character references resolved (HTML, section
/// 13.2.5.72). `None` if one of them stands for a character that here stands for a byte.
pub(super) fn decode(raw: &str) -> Option<Cow<'_, str>> {
    let decoded = unescape_attribute(raw);
    let bytes = |text: &str| text.chars().filter(|c| BYTES.contains(c)).count();
    (bytes(&decoded) == bytes(raw)).then_some(decoded)
}

/// The value as it can stand between quotes of either kind or none.
pub(super) fn encode(value: &str) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(value.len() + 16);
    let mut reference = String::new();
    for character in value.chars() {
        match character {
            '&' => encoded.extend_from_slice(b"&amp;"),
            '"' | '\'' | '<' | '>' | '`' | '\0'..=' ' | '\u{7f}' => {
                reference.clear();
                let _ = write!(reference, "&#{};", u32::from(character));
                encoded.extend_from_slice(reference.as_bytes());
            }
            ascii if ascii.is_ascii() => encoded.push(ascii as u8),
            byte if BYTES.contains(&byte) => {
                // The low byte of the character is the byte.
                encoded.push(u32::from(byte).to_le_bytes()[0]);
            }
            other => {
                reference.clear();
                let _ = write!(reference, "&#x{:X};", u32::from(other));
                encoded.extend_from_slice(reference.as_bytes());
            }
        }
    }
    encoded
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
        assert_eq!(encode("\u{f7e4}\u{e4}"), b"\xe4&#xE4;");
    }
}
