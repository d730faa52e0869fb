//! [`CookieTransport`]: finds ids in the `Cookie` header and writes `Set-Cookie` with its configured
//! attributes (RFC 6265, and its successor draft rfc6265bis for prefixes and `SameSite`).

use std::fmt;
use std::time::Duration;

use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};

use super::{
    Directive, Extracted, MAX_AGE_LIMIT, OldNames, RequestHead, TokenSource, Transport, fingerprint,
};
use crate::Error;
use crate::lifetime::check_duration;

/// Which cross-site requests carry the cookie (rfc6265bis, section 5.6.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SameSite {
    /// No cross-site request carries the cookie, so a visitor who follows a link from another site has no
    /// session.
    #[serde(alias = "Strict")]
    Strict,
    /// Only top-level navigations with a safe method carry the cookie. The default.
    #[default]
    #[serde(alias = "Lax")]
    Lax,
    /// All cross-site requests carry the cookie. Needs `Secure`.
    #[serde(alias = "None")]
    None,
}

/// The options of the cookie: its name and attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct CookieOptions {
    /// The cookie's name, 1 to 256 characters. Defaults to `__Host-id`, whose prefix makes browsers refuse
    /// the cookie unless it is `Secure`, has the path `/` and no domain.
    pub name: String,
    /// Old names of the cookie, at most eight. Cookies with these names are read as well, replaced by a
    /// cookie of the current name, and removed. Defaults to none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// The `Path` attribute. Defaults to `/`.
    pub path: String,
    /// The `Domain` attribute, whose subdomains get the cookie, too. Defaults to none: only this host gets
    /// the cookie.
    pub domain: Option<String>,
    /// The `Secure` attribute: browsers send the cookie only over HTTPS (some also over HTTP to localhost).
    /// Defaults to true.
    pub secure: bool,
    /// The `HttpOnly` attribute: scripts can't read the cookie. Defaults to true.
    pub http_only: bool,
    /// The `SameSite` attribute. Defaults to `lax`.
    pub same_site: SameSite,
    /// The `Partitioned` attribute: a separate cookie for each top-level site (CHIPS). Defaults to false.
    pub partitioned: bool,
    /// Whether cookies survive the end of the browser, unless the session's settings differ. Defaults to
    /// false.
    pub persistent: bool,
    /// How long a persistent cookie is kept; at least a second, and at most 400 days. Defaults to what is
    /// left of the session's absolute lifetime. The cookie of a [remembered](crate::LoadedSession::remember)
    /// visitor is always kept for what is left of the session's lifetime.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Duration>,
}

impl Default for CookieOptions {
    fn default() -> Self {
        Self {
            name: "__Host-id".into(),
            also: Vec::new(),
            path: "/".into(),
            domain: None,
            secure: true,
            http_only: true,
            same_site: SameSite::Lax,
            partitioned: false,
            persistent: false,
            max_age: None,
        }
    }
}

/// The number of bytes of `Cookie` headers that are searched. A visitor who sends more is anonymous.
const SCAN_LIMIT: usize = 64 * 1024;

/// The longest name and value, in bytes together, that browsers store (rfc6265bis, section 5.6).
const SIZE_LIMIT: usize = 4096;

/// Transports the token in a cookie. The default transport.
pub struct CookieTransport {
    options: CookieOptions,
    /// The attributes behind the value, except for `Max-Age`.
    attributes: String,
}

impl CookieTransport {
    /// Returns a transport with these options.
    ///
    /// # Errors
    /// [`Error::Config`] if a name or an attribute contains a forbidden character, or for combinations that
    /// browsers refuse.
    pub fn new(options: CookieOptions) -> Result<Self, Error> {
        validate(&options)?;
        let CookieOptions { path, domain, secure, http_only, same_site, partitioned, .. } =
            &options;
        let mut attributes = format!("; Path={path}");
        if let Some(domain) = domain {
            attributes.push_str("; Domain=");
            attributes.push_str(domain);
        }
        for (on, attribute) in [(*secure, "; Secure"), (*http_only, "; HttpOnly")] {
            attributes.push_str(if on { attribute } else { "" });
        }
        attributes.push_str(match same_site {
            SameSite::Strict => "; SameSite=Strict",
            SameSite::Lax => "; SameSite=Lax",
            SameSite::None => "; SameSite=None",
        });
        attributes.push_str(if *partitioned { "; Partitioned" } else { "" });
        Ok(Self { options, attributes })
    }

    /// Returns the values of a name in one header. A semicolon always separates cookies, also within quotes
    /// (RFC 6265, section 4.2.1).
    fn values<'r>(name: &str, header: &'r [u8]) -> impl Iterator<Item = &'r [u8]> {
        let name = name.as_bytes();
        let mut rest = Some(header);
        let pairs = std::iter::from_fn(move || {
            let pairs = rest?;
            let end = memchr::memchr(b';', pairs);
            rest = end.map(|end| &pairs[end + 1..]);
            Some(&pairs[..end.unwrap_or(pairs.len())])
        });
        pairs.filter_map(move |pair| {
            let after = pair.trim_ascii_start().strip_prefix(name)?;
            Some(after.trim_ascii_start().strip_prefix(b"=")?.trim_ascii())
        })
    }

    fn set_cookie(&self, directive: Directive<'_>) -> Result<HeaderValue, Error> {
        let Self { options: CookieOptions { name, .. }, attributes } = self;
        let text = match directive {
            Directive::Clear => removal(name, attributes),
            Directive::Set { text, .. } if name.len() + text.len() > SIZE_LIMIT => {
                return Err(Error::TooLarge { what: "cookie bytes", limit: SIZE_LIMIT });
            }
            Directive::Set { text, max_age: None } => [name, "=", text, attributes].concat(),
            Directive::Set { text, max_age: Some(max_age) } => {
                // Rounded up, because zero would remove the cookie of a live session.
                let seconds = max_age.min(MAX_AGE_LIMIT).as_millis().div_ceil(1000);
                format!("{name}={text}{attributes}; Max-Age={seconds}")
            }
        };
        header(text)
    }
}

/// Returns the `Set-Cookie` value that removes a cookie which was set with these attributes.
fn removal(name: &str, attributes: &str) -> String {
    format!("{name}={attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
}

fn header(text: String) -> Result<HeaderValue, Error> {
    let mut value = HeaderValue::try_from(text)
        .map_err(|_| Error::config("the token's text does not fit a cookie"))?;
    value.set_sensitive(true);
    Ok(value)
}

impl Transport for CookieTransport {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r> {
        let mut left = SCAN_LIMIT;
        let mut found = Extracted::nothing();
        for header in request.headers.get_all(COOKIE) {
            let Some(rest) = left.checked_sub(header.len()) else {
                return Extracted::unreadable(TokenSource::Cookie);
            };
            left = rest;
            for text in Self::values(&self.options.name, header.as_bytes()) {
                found.add(text, TokenSource::Cookie);
            }
        }
        for (number, name) in self.options.also.iter().enumerate() {
            for header in request.headers.get_all(COOKIE) {
                for text in Self::values(name, header.as_bytes()) {
                    found.add_old(text, number, TokenSource::Cookie);
                }
            }
        }
        found
    }

    fn write_response(
        &self,
        directive: Directive<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error> {
        let cookie = self.set_cookie(directive)?;
        remove_cookie(headers, &self.options.name);
        headers.append(SET_COOKIE, cookie);
        Ok(())
    }

    fn varies_by(&self) -> Option<HeaderName> {
        Some(COOKIE)
    }

    fn names(&self) -> Vec<(TokenSource, &str)> {
        let names = std::iter::once(&self.options.name).chain(&self.options.also);
        names.map(|name| (TokenSource::Cookie, name.as_str())).collect()
    }

    fn also(&self) -> &[String] {
        &self.options.also
    }

    /// The removal has the attributes that are configured now. A cookie that was set with another path or
    /// domain stays in the browser, and does no harm.
    fn remove_old(&self, names: OldNames, headers: &mut HeaderMap) {
        for (number, name) in self.options.also.iter().enumerate() {
            if names.has(number) {
                // Browsers ignore a `Set-Cookie` with other attributes for a `__Host-` name.
                let attributes = match (has_prefix(name, "__Host-"), self.options.partitioned) {
                    (true, true) => "; Path=/; Secure; Partitioned",
                    (true, false) => "; Path=/; Secure",
                    (false, _) => &self.attributes,
                };
                let removal = header(removal(name, attributes));
                remove_cookie(headers, name);
                headers.append(SET_COOKIE, removal.expect("names and attributes are validated"));
            }
        }
    }

    fn max_age(&self) -> Option<Duration> {
        self.options.max_age
    }

    fn fingerprint(&self) -> u32 {
        fingerprint(0x811c_9dc5, self.attributes.as_bytes())
    }

    fn persistent(&self) -> bool {
        self.options.persistent
    }
}

impl fmt::Debug for CookieTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CookieTransport").field(&self.options).finish()
    }
}

/// Removes the `Set-Cookie` headers of this name, because a response must have at most one (RFC 6265, section
/// 4.1.1).
fn remove_cookie(headers: &mut HeaderMap, name: &str) {
    let is_ours = |value: &HeaderValue| {
        value.as_bytes().strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
    };
    if headers.get_all(SET_COOKIE).iter().any(is_ours) {
        let others: Vec<_> =
            headers.get_all(SET_COOKIE).iter().filter(|value| !is_ours(value)).cloned().collect();
        headers.remove(SET_COOKIE);
        for value in others {
            headers.append(SET_COOKIE, value);
        }
    }
}

fn validate(options: &CookieOptions) -> Result<(), Error> {
    let CookieOptions { name, path, domain, secure, http_only, same_site, partitioned, .. } =
        options;
    let refuse = |why: &str| Err(Error::config(format_args!("cookie {why}")));
    if let Some(max_age) = options.max_age {
        check_duration("cookie.max_age", max_age, "30d")?;
    }
    let is_name = |name: &str| !name.is_empty() && name.len() <= 256 && name.bytes().all(is_token);
    if !is_name(name) {
        return refuse("name must be 1 to 256 letters, digits or any of !#$%&'*+-.^_`|~");
    }
    let also = &options.also;
    if also.len() > OldNames::MAX_NAMES || !also.iter().all(|name| is_name(name)) {
        return refuse(
            "also must be a list of at most eight names, with the same characters as the name",
        );
    }
    if also.iter().enumerate().any(|(at, old)| old == name || also[..at].contains(old)) {
        return refuse("also must not contain the name itself, nor a name twice");
    }
    let is_plain =
        |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b';' | b','));
    if !path.starts_with('/') || path.len() > 1024 || !is_plain(path) {
        return refuse(
            "path must start with `/`, and have no space, comma, semicolon or control character",
        );
    }
    if let Some(domain) = domain {
        let labels = domain.strip_prefix('.').unwrap_or(domain);
        let is_host = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-');
        if labels.is_empty() || labels.len() > 253 || !labels.bytes().all(is_host) {
            return refuse("domain must be a host name");
        }
    }
    let has_prefix = |prefix| has_prefix(name, prefix);
    if has_prefix("__Host-") && (!secure || path != "/" || domain.is_some()) {
        return refuse(
            "name with the prefix __Host- needs secure = true, path = \"/\" and no domain",
        );
    }
    let is_http = has_prefix("__Http-") || has_prefix("__Host-Http-");
    if is_http && !(*secure && *http_only) {
        return refuse("name with the prefix __Http- needs secure = true and http_only = true");
    }
    if has_prefix("__Secure-") && !secure {
        return refuse("name with the prefix __Secure- needs secure = true");
    }
    if *same_site == SameSite::None && !secure {
        return refuse("same_site = \"none\" needs secure = true");
    }
    if *partitioned && !secure {
        return refuse("partitioned = true needs secure = true");
    }
    Ok(())
}

/// Returns whether a name has a prefix. Browsers compare prefixes case-insensitively (rfc6265bis, section
/// 5.4).
fn has_prefix(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Returns whether a byte is a token character (RFC 9110, section 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn transport(edit: impl FnOnce(&mut CookieOptions)) -> Result<CookieTransport, Error> {
        let mut options = CookieOptions { name: "id".into(), ..CookieOptions::default() };
        edit(&mut options);
        CookieTransport::new(options)
    }

    fn found(headers: &[&[u8]]) -> Option<Vec<String>> {
        let mut request = Request::new(());
        for header in headers {
            request.headers_mut().append(COOKIE, HeaderValue::from_bytes(header).unwrap());
        }
        let transport = transport(|_| ()).unwrap();
        let found = transport.extract((&request).into());
        assert!(found.source().is_none_or(|source| source == TokenSource::Cookie));
        found.shown()
    }

    /// For a header of the maximum length, with eight thousand different texts under the name.
    #[test]
    fn no_more_than_the_last_four_texts_are_kept() {
        let texts: Vec<_> = (0..8000).map(|n| format!("id={n:x}")).collect();
        let header = texts.join(";");
        let mut request = Request::new(());
        request.headers_mut().insert(COOKIE, HeaderValue::try_from(&header).unwrap());
        let find = |options: fn(&mut CookieOptions)| {
            let transport = transport(options).unwrap();
            let found = transport.extract((&request).into());
            assert!(found.has_skipped() && found.texts.capacity() == 4);
            (found.shown(), found.old_texts())
        };
        let last = some(&["1f3c", "1f3d", "1f3e", "1f3f"]);
        assert_eq!(find(|_| ()), (last.clone(), 0));
        let old_only = |o: &mut CookieOptions| {
            (o.name, o.also) = ("new".into(), vec!["other".into(), "id".into()]);
        };
        assert_eq!(find(old_only), (last, 4));
        // A repeated text counts like one that occurs for the first time.
        let again = found(&[b"id=A; id=B; id=C; id=D; id=B; id=E; id=A"]);
        assert_eq!(again, some(&["D", "B", "E", "A"]));
        assert_eq!(found(&[header.as_bytes(), b"id=1"]), some(&["1f3d", "1f3e", "1f3f", "1"]));
    }

    fn some(texts: &[&str]) -> Option<Vec<String>> {
        Some(texts.iter().map(|text| (*text).to_owned()).collect())
    }

    /// Each text counts once, at its last position; other cookies may contain any bytes.
    #[test]
    fn the_exact_name_counts() {
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[b"id=S"]), some(&["S"]));
        assert_eq!(found(&[b"a=b; id=S ;c=d"]), some(&["S"]));
        assert_eq!(found(&[b"a=b;id =	S	"]), some(&["S"]));
        assert_eq!(found(&[b"ID=S; xid=S; idx=S; id"]), None);
        assert_eq!(found(&[b"id=S; id=S", b"id=S"]), some(&["S"]));
        assert_eq!(found(&[b"id=S; id=T"]), some(&["S", "T"]));
        assert_eq!(found(&[b"id=S", b"id=T"]), some(&["S", "T"]));
        assert_eq!(found(&[b"id=S; id=T; id=S"]), some(&["T", "S"]));
        assert_eq!(found(&[b"id=S", b"id=T; id=T", b"id=U"]), some(&["S", "T", "U"]));
        assert_eq!(found(&[b"id="]), some(&[""]));
        assert_eq!(found(&[b"x=\"a; id=S; b\""]), some(&["S"]));
        assert_eq!(found(&[b"x=\xff\xfe; ;;; =; id=S"]), some(&["S"]));
        assert_eq!(found(&[b"id=\xff"]), some(&["\u{fffd}"]));
    }

    /// Long headers are searched, and very long ones are not even searched.
    #[test]
    fn junk_in_front_does_not_hide_ours_up_to_the_scan_limit() {
        let mut junk = "junk=0123456789; ".repeat(180).into_bytes();
        junk.extend(b"id=S");
        assert_eq!(found(&[&junk]), some(&["S"]));
        let mut large = "j=0; ".repeat(4096).into_bytes();
        large.extend(b"id=S");
        assert_eq!(found(&[&large]), some(&["S"]));
        let huge = [b'x'; SCAN_LIMIT];
        assert_eq!(found(&[&huge, b"id=S"]), some(&[]));
        assert_eq!(found(&[b"id=S", &huge]), some(&[]));
    }

    fn announced(transport: &CookieTransport, directive: Directive<'_>) -> String {
        let mut headers = HeaderMap::new();
        transport.write_response(directive, &mut headers).unwrap();
        headers[SET_COOKIE].to_str().unwrap().to_owned()
    }

    /// A removal must have the attributes of the cookie, or browsers keep it.
    #[test]
    fn attributes_are_as_configured_and_repeated_on_removal() {
        let default = CookieTransport::new(CookieOptions::default()).unwrap();
        let issue = |max_age| Directive::Set { text: "S", max_age };
        assert_eq!(
            announced(&default, issue(None)),
            "__Host-id=S; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
        assert_eq!(
            announced(&default, Directive::Clear),
            "__Host-id=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; \
             Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
        let full = transport(|options| {
            options.path = "/app".into();
            options.domain = Some("example.com".into());
            options.same_site = SameSite::None;
            options.partitioned = true;
        })
        .unwrap();
        assert_eq!(
            announced(&full, issue(Some(Duration::from_secs(u64::MAX)))),
            "id=S; Path=/app; Domain=example.com; Secure; HttpOnly; SameSite=None; Partitioned; \
             Max-Age=34560000"
        );
        assert_eq!(
            announced(&full, Directive::Clear),
            "id=; Path=/app; Domain=example.com; Secure; HttpOnly; SameSite=None; Partitioned; \
             Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
        );
    }

    /// However often a request is finished, the response has one `Set-Cookie` of the name.
    #[test]
    fn one_set_cookie_for_the_name_and_caches_are_told() {
        let transport = transport(|_| ()).unwrap();
        let mut headers = HeaderMap::new();
        headers.append(SET_COOKIE, HeaderValue::from_static("idx=1"));
        headers.append(SET_COOKIE, HeaderValue::from_static("id=old"));
        transport
            .write_response(Directive::Set { text: "S", max_age: None }, &mut headers)
            .unwrap();
        let cookies: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies.len(), 2);
        assert_eq!(cookies[0], "idx=1");
        assert!(cookies[1].to_str().unwrap().starts_with("id=S; "));
    }

    #[test]
    fn a_text_that_browsers_would_drop_is_an_error() {
        let text = "x".repeat(4096);
        let error = transport(|_| ())
            .unwrap()
            .write_response(Directive::Set { text: &text, max_age: None }, &mut HeaderMap::new())
            .unwrap_err();
        assert!(matches!(error, Error::TooLarge { what: "cookie bytes", limit: 4096 }));
    }

    /// No configured character can end an attribute early.
    #[test]
    fn contradictions_and_bad_characters_are_configuration_errors() {
        for bad in ["", "a;b", "a b", "a,b", "a=b", "a\r\nb", "a\0", "é", "\"a\""] {
            assert!(transport(|o| o.name = bad.into()).is_err(), "name {bad:?}");
        }
        for bad in ["", "app", "/a;b", "/a b", "/a,b", "/a\r\nSet-Cookie: x", "/\0", "/é"] {
            assert!(transport(|o| o.path = bad.into()).is_err(), "path {bad:?}");
        }
        for bad in ["", ".", "a;b", "a b", "a,b", "a\r\nb", "a\0", "é.example", "a/b"] {
            assert!(transport(|o| o.domain = Some(bad.into())).is_err(), "domain {bad:?}");
        }
        let host = |edit: fn(&mut CookieOptions)| {
            transport(|options| {
                options.name = "__hOST-id".into();
                edit(options);
            })
        };
        assert!(host(|_| ()).is_ok());
        assert!(host(|options| options.secure = false).is_err());
        assert!(host(|options| options.path = "/app".into()).is_err());
        assert!(host(|options| options.domain = Some("example.com".into())).is_err());
        assert!(
            transport(|o| {
                o.name = "__Secure-id".into();
                o.secure = false;
            })
            .is_err()
        );
        assert!(
            transport(|o| {
                o.same_site = SameSite::None;
                o.secure = false;
            })
            .is_err()
        );
        assert!(
            transport(|o| {
                o.partitioned = true;
                o.secure = false;
            })
            .is_err()
        );
    }

    proptest! {
        #[test]
        fn finding_never_panics(headers in prop::collection::vec("[\u{20}-\u{7e}]{0,60}", 0..4)) {
            let bytes: Vec<&[u8]> = headers.iter().map(|header| header.as_bytes()).collect();
            found(&bytes);
        }
    }
}
