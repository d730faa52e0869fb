//! What caches are told of responses that depend on sessions (RFC 9111).

use http::HeaderMap;
use http::header::{CACHE_CONTROL, ETAG, HeaderName, HeaderValue, REFERRER_POLICY, VARY};

/// Whether some caches believe this header rather than `Cache-Control`: `CDN-Cache-Control` (RFC 9213) and what
/// vendors made of its name, such as `Cloudflare-CDN-Cache-Control`; and those of Fastly, nginx and Akamai.
fn is_targeted(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("cdn-cache-control")
        || ["surrogate-control", "x-accel-expires", "edge-control"].contains(&name)
}

/// Keeps a response out of all caches, whatever the handler said: it is for one client at one moment, as one
/// with a `Set-Cookie` is (RFC 9111, section 7.3).
pub(crate) fn forbid(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let targeted: Vec<_> = headers.keys().filter(|name| is_targeted(name)).cloned().collect();
    targeted.iter().for_each(|name| drop(headers.remove(name)));
}

/// Keeps a response that depends on a session out of shared caches, unless the handler says that it belongs
/// there. Where the handler says nothing, the browser is to ask again before it shows the page once more.
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    let said: Vec<_> = headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
    let said = said.join(&b", "[..]);
    if said.is_empty() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        return;
    }
    const DECIDING: [&str; 4] = ["public", "s-maxage", "private", "no-store"];
    let is_decided = directives(&said).any(|(name, argument)| {
        // `private="name"` keeps only that header of the response private (RFC 9111, section 5.2.2.7).
        let is_partial = name.eq_ignore_ascii_case(b"private") && !argument.is_empty();
        !is_partial && DECIDING.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    });
    if !is_decided {
        let whole = [&said[..], b", private"].concat();
        // It is made of header values.
        let value = HeaderValue::from_bytes(&whole);
        headers.insert(CACHE_CONTROL, value.unwrap_or(HeaderValue::from_static("private")));
    }
}

/// Keeps a page whose URL or links have ids out of caches and other sites' `Referer` headers.
pub(crate) fn keep_from_leaking(headers: &mut HeaderMap) {
    // In place of what the handler said, unless that is as strict. `no-referrer` is not the library's own
    // choice: with it, browsers send `Origin: null` with the page's own forms, and those that send no
    // `Sec-Fetch-Site` are then taken for foreign.
    let is_strict =
        |value: &HeaderValue| matches!(value.as_bytes(), b"no-referrer" | b"same-origin");
    let mut said = headers.get_all(REFERRER_POLICY).iter();
    if !(said.next().is_some_and(is_strict) && said.next().is_none()) {
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    forbid(headers);
    // The same resource with another visitor's id in it is not the same.
    headers.remove(ETAG);
}

/// Tells caches that the response depends on this header of the request (RFC 9110, section 12.5.5).
pub(crate) fn vary(headers: &mut HeaderMap, name: &HeaderName) {
    let is_there = |value: &HeaderValue| {
        value.as_bytes().split(|byte| *byte == b',').any(|other| {
            let other = other.trim_ascii();
            other == b"*" || other.eq_ignore_ascii_case(name.as_str().as_bytes())
        })
    };
    if !headers.get_all(VARY).iter().any(is_there) {
        let value = match name.as_str() {
            "cookie" => HeaderValue::from_static("Cookie"),
            _ => name.clone().into(),
        };
        headers.append(VARY, value);
    }
}

/// The directives of a `Cache-Control` header, with their arguments. A comma in quotes is no end.
fn directives(value: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |byte| {
        match (byte, is_quoted, is_escaped) {
            (_, true, true) => is_escaped = false,
            (b'\\', true, false) => is_escaped = true,
            (b'"', ..) => is_quoted = !is_quoted,
            _ => {}
        }
        *byte == b',' && !is_quoted
    });
    parts.map(|part| {
        let at = part.iter().position(|byte| *byte == b'=');
        let (name, argument) = part.split_at(at.unwrap_or(part.len()));
        (name.trim_ascii(), argument)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(headers: &HeaderMap, name: HeaderName) -> Vec<&str> {
        headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }

    #[test]
    fn private_is_added_unless_the_handler_decided() {
        for (said, wanted) in [
            (&[][..], "private, no-cache"),
            (&[""], "private, no-cache"),
            (&["max-age=60"], "max-age=60, private"),
            (&["no-cache"], "no-cache, private"),
            (&["max-age=60", "must-revalidate"], "max-age=60, must-revalidate, private"),
            (&["public, max-age=60"], "public, max-age=60"),
            (&["max-age=60", "Public"], "max-age=60"),
            (&["s-maxage=60"], "s-maxage=60"),
            (&["max-age=0, PRIVATE"], "max-age=0, PRIVATE"),
            (&["no-store"], "no-store"),
            (&["private=\"x-name\""], "private=\"x-name\", private"),
            (&["ext=\"public, no-store\""], "ext=\"public, no-store\", private"),
            (&["ext=\"\\\", public\""], "ext=\"\\\", public\", private"),
            (&["publicity"], "publicity, private"),
        ] {
            let mut headers = HeaderMap::new();
            for value in said {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(value));
            }
            keep_private(&mut headers);
            assert_eq!(all(&headers, CACHE_CONTROL)[0], wanted, "{said:?}");
        }
    }

    #[test]
    fn what_no_cache_may_keep_is_no_cdns_either() {
        let mut headers = HeaderMap::new();
        headers.append(CACHE_CONTROL, HeaderValue::from_static("public"));
        headers.append(CACHE_CONTROL, HeaderValue::from_static("max-age=60"));
        headers.insert("cdn-cache-control", HeaderValue::from_static("max-age=60"));
        headers.insert("x-accel-expires", HeaderValue::from_static("60"));
        headers.insert("netlify-cdn-cache-control", HeaderValue::from_static("max-age=60"));
        forbid(&mut headers);
        assert_eq!(all(&headers, CACHE_CONTROL), ["no-store"]);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn vary_is_appended_to_and_never_replaced() {
        let id = HeaderName::from_static("x-session-id");
        for (said, name, wanted) in [
            (None, http::header::COOKIE, &["Cookie"][..]),
            (Some("Accept"), http::header::COOKIE, &["Accept", "Cookie"]),
            (Some("Accept, cookie"), http::header::COOKIE, &["Accept, cookie"]),
            (Some("*"), http::header::COOKIE, &["*"]),
            (Some("Cookies"), id, &["Cookies", "x-session-id"]),
        ] {
            let mut headers = HeaderMap::new();
            headers.extend(said.map(|said| (VARY, HeaderValue::from_static(said))));
            vary(&mut headers, &name);
            vary(&mut headers, &name);
            assert_eq!(all(&headers, VARY), wanted);
        }
    }
}
