//! `Cache-Control`, `Vary` and `Referrer-Policy` of responses that depend on a session (RFC 9111).

use http::HeaderMap;
use http::header::{CACHE_CONTROL, ETAG, HeaderName, HeaderValue, REFERRER_POLICY, VARY};

/// Returns whether some caches obey this header rather than `Cache-Control`: `CDN-Cache-Control` (RFC 9213),
/// its variants such as `Cloudflare-CDN-Cache-Control`, and the headers of Fastly, nginx and Akamai.
fn is_targeted(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.ends_with("cdn-cache-control")
        || ["surrogate-control", "x-accel-expires", "edge-control"].contains(&name)
}

/// Forbids all caches to store a response, whatever the handler set, because it is for one client at one
/// moment, as every response with a `Set-Cookie` is (RFC 9111, section 7.3).
pub(crate) fn forbid_caching(headers: &mut HeaderMap) {
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let targeted: Vec<_> = headers.keys().filter(|name| is_targeted(name)).cloned().collect();
    targeted.iter().for_each(|name| drop(headers.remove(name)));
}

/// Keeps a response that depends on a session out of shared caches, unless the handler allowed them to store
/// it. If the handler set no `Cache-Control`, the browser must revalidate the response before it reuses it.
pub(crate) fn keep_private(headers: &mut HeaderMap) {
    let current: Vec<_> =
        headers.get_all(CACHE_CONTROL).iter().map(HeaderValue::as_bytes).collect();
    let current = current.join(&b", "[..]);
    if current.is_empty() {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
        return;
    }
    const DECIDING: [&str; 4] = ["public", "s-maxage", "private", "no-store"];
    let is_decided = directives(&current).any(|(name, argument)| {
        // `private="name"` keeps only that header of the response private (RFC 9111, section 5.2.2.7).
        let is_partial = name.eq_ignore_ascii_case(b"private") && !argument.is_empty();
        !is_partial && DECIDING.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
    });
    if !is_decided {
        let whole = [&current[..], b", private"].concat();
        // The value is valid, because it is made of valid header values.
        let value = HeaderValue::from_bytes(&whole);
        headers.insert(CACHE_CONTROL, value.unwrap_or(HeaderValue::from_static("private")));
    }
}

/// Keeps a page whose URL or links contain an id out of caches, and its URL out of the `Referer` headers that
/// other sites receive.
pub(crate) fn keep_from_leaking(headers: &mut HeaderMap) {
    // Replaces the handler's policy unless that is as strict. The library does not use `no-referrer`: with
    // it, browsers send `Origin: null` with the page's own forms, and a browser that sends no
    // `Sec-Fetch-Site` would fail the cross-site check.
    let is_strict =
        |value: &HeaderValue| matches!(value.as_bytes(), b"no-referrer" | b"same-origin");
    let mut policies = headers.get_all(REFERRER_POLICY).iter();
    if !(policies.next().is_some_and(is_strict) && policies.next().is_none()) {
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    forbid_caching(headers);
    // The `ETag` is removed, because the page differs for each visitor.
    headers.remove(ETAG);
}

/// Adds a request header to `Vary`, unless it is there already (RFC 9110, section 12.5.5).
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

/// Returns the directives of a `Cache-Control` header, with their arguments. A comma within quotes does not
/// end a directive.
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
        forbid_caching(&mut headers);
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
