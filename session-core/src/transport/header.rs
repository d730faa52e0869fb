//! [`HeaderTransport`]: ids in a request and response header, for API clients.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

use super::{Directive, Extracted, RequestHead, TokenSource, Transport};
use crate::Error;

/// The options of the header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct HeaderOptions {
    /// The header's name, in requests and responses. Defaults to `x-session-id`.
    pub name: String,
}

impl Default for HeaderOptions {
    fn default() -> Self {
        Self { name: "x-session-id".into() }
    }
}

/// Headers that have another meaning in HTTP.
const MEANINGFUL: [HeaderName; 27] = [
    header::ACCEPT,
    header::AGE,
    header::ALLOW,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::HOST,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::REFERER,
    header::REFERRER_POLICY,
    header::REFRESH,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::WWW_AUTHENTICATE,
];

/// Transports the token in a request and response header. An empty header in a response tells the client to
/// delete its token.
#[derive(Debug)]
pub struct HeaderTransport(HeaderName);

impl HeaderTransport {
    /// Returns a transport with these options.
    ///
    /// # Errors
    /// [`Error::Config`] if the name is not a header name (RFC 9110, section 5.1), or is one to which HTTP
    /// gives another meaning.
    pub fn new(options: &HeaderOptions) -> Result<Self, Error> {
        let name: HeaderName = options.name.parse().map_err(|_| {
            Error::config("header name must be letters, digits or any of !#$%&'*+-.^_`|~")
        })?;
        if MEANINGFUL.contains(&name) {
            return Err(Error::config(format_args!("header name must not be {name}")));
        }
        Ok(Self(name))
    }
}

impl Transport for HeaderTransport {
    fn name(&self) -> &str {
        self.0.as_str()
    }

    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r> {
        let mut found = Extracted::nothing();
        for value in request.headers.get_all(&self.0) {
            found.add(value.as_bytes().trim_ascii(), TokenSource::Header);
        }
        found
    }

    fn write_response(
        &self,
        directive: Directive<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error> {
        let text = match directive {
            Directive::Set { text, .. } => text,
            Directive::Clear => "",
        };
        let mut value = HeaderValue::from_str(text)
            .map_err(|_| Error::config("the token's text does not fit a header"))?;
        value.set_sensitive(true);
        headers.insert(&self.0, value);
        Ok(())
    }

    fn varies_by(&self) -> Option<HeaderName> {
        Some(self.0.clone())
    }

    fn names(&self) -> Vec<(TokenSource, &str)> {
        vec![(TokenSource::Header, self.name())]
    }

    fn is_ambient(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    #[test]
    fn the_header_carries_both_ways() {
        let transport = HeaderTransport::new(&HeaderOptions::default()).unwrap();
        let request = Request::builder().header("X-Session-Id", " S ").body(()).unwrap();
        assert_eq!(transport.extract((&request).into()).shown(), Some(vec!["S".to_owned()]));
        let two = Request::builder().header("x-session-id", "S").header("x-session-id", "T");
        let two = two.body(()).unwrap();
        let found = transport.extract((&two).into());
        assert_eq!(found.shown(), Some(vec!["S".to_owned(), "T".to_owned()]));
        assert_eq!(found.source(), Some(TokenSource::Header));
        let mut headers = HeaderMap::new();
        transport
            .write_response(Directive::Set { text: "S", max_age: None }, &mut headers)
            .unwrap();
        assert_eq!(headers["x-session-id"], "S");
        transport.write_response(Directive::Clear, &mut headers).unwrap();
        assert_eq!(headers["x-session-id"], "");
    }

    #[test]
    fn a_name_that_no_header_can_have_is_a_configuration_error() {
        for name in [
            "",
            "a b",
            "a:b",
            "é",
            "a\r\nb",
            "Cookie",
            "set-cookie",
            "host",
            "Location",
            "content-type",
        ] {
            let options = HeaderOptions { name: name.into() };
            assert!(matches!(HeaderTransport::new(&options), Err(Error::Config(_))), "{name:?}");
        }
    }
}
