//! Which responses are HTML pages that can be rewritten.

use encoding_rs::Encoding;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use lol_html::AsciiCompatibleEncoding;
use tracing::{debug, warn};

/// Returns whether the body is a whole HTML page that can be rewritten. If so, removes the `Content-Length`
/// header.
pub(crate) fn prepare(status: StatusCode, headers: &mut HeaderMap) -> bool {
    if matches!(
        status,
        StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED
    ) || status.is_informational()
        || headers.contains_key(CONTENT_RANGE)
    {
        return false;
    }
    let Some(charset) = html(headers) else { return false };
    let encoding = charset.as_deref().and_then(|label| Encoding::for_label(label.as_bytes()));
    if encoding.is_some_and(|encoding| AsciiCompatibleEncoding::new(encoding).is_none()) {
        debug!("a page in an encoding that is not compatible with ASCII gets no session ids");
        return false;
    }
    let is_identity =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"identity");
    if !headers.get_all(CONTENT_ENCODING).iter().all(is_identity) {
        warn!(
            "a compressed page gets no session ids; compress responses outside the session wrapper"
        );
        return false;
    }
    headers.remove(CONTENT_LENGTH);
    true
}

/// Returns the charset in the `Content-Type` of an HTML page; `None` if the response is not an HTML page.
fn html(headers: &HeaderMap) -> Option<Option<String>> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let text = types.next()?.to_str().ok()?;
    if types.next().is_some() {
        return None;
    }
    let mut parts = text.split(';');
    if !parts.next()?.trim().eq_ignore_ascii_case("text/html") {
        return None;
    }
    let charset = parts.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let is_charset = name.trim().eq_ignore_ascii_case("charset");
        is_charset.then(|| value.trim().trim_matches('"').to_owned())
    });
    Some(charset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(pairs: &[(http::HeaderName, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
        let prepared = prepare(StatusCode::OK, &mut headers);
        assert_eq!(headers.contains_key(CONTENT_LENGTH), !prepared);
        prepared
    }

    #[test]
    fn only_whole_readable_pages_are_rewritten() {
        for (kind, wanted) in [
            ("text/html", true),
            ("Text/HTML ; charset=utf-8", true),
            ("text/html;Charset=\"Shift_JIS\"", true),
            ("text/html; charset=no-such", true),
            ("text/html; charset=utf-16le", false),
            ("text/html; charset=ISO-2022-JP", false),
            ("text/plain", false),
            ("text/html2", false),
            ("application/xhtml+xml", false),
        ] {
            assert_eq!(prepared(&[(CONTENT_TYPE, kind)]), wanted, "{kind}");
        }
        assert!(!prepared(&[]));
        let page = (CONTENT_TYPE, "text/html");
        assert!(prepared(&[page.clone(), (CONTENT_ENCODING, "Identity")]));
        assert!(!prepared(&[page.clone(), (CONTENT_ENCODING, "gzip")]));
        assert!(!prepared(&[page.clone(), (CONTENT_RANGE, "bytes 0-1/3")]));
        assert!(!prepared(&[page, (CONTENT_TYPE, "text/plain")]));
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html"));
        assert!(!prepare(StatusCode::NOT_MODIFIED, &mut headers));
    }
}
