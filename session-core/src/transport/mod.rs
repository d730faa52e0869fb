//! How ids travel between client and server.

mod auto;
mod cookie;
mod header;
pub(crate) mod reference;
pub(crate) mod scope;
mod url;

pub use auto::AutoTransport;
pub use cookie::{CookieOptions, CookieTransport, SameSite};
pub use header::{HeaderOptions, HeaderTransport};
pub use url::{UrlOptions, UrlTransport};

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Uri};

use crate::Error;

/// The parts of a request that a transport reads.
#[derive(Clone, Copy)]
pub struct RequestHead<'r> {
    /// The method.
    pub method: &'r Method,
    /// The target.
    pub uri: &'r Uri,
    /// The headers.
    pub headers: &'r HeaderMap,
}

impl<'r, B> From<&'r Request<B>> for RequestHead<'r> {
    fn from(request: &'r Request<B>) -> Self {
        Self { method: request.method(), uri: request.uri(), headers: request.headers() }
    }
}

impl<'r> From<&'r http::request::Parts> for RequestHead<'r> {
    fn from(parts: &'r http::request::Parts) -> Self {
        Self { method: &parts.method, uri: &parts.uri, headers: &parts.headers }
    }
}

// Method, target and headers may all carry an id.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestHead(redacted)")
    }
}

/// The part of a request that carried an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carrier {
    /// A cookie.
    Cookie,
    /// The URL.
    Url,
    /// A header of its own, or whatever else a custom transport reads.
    Header,
}

/// What a transport finds in a request.
#[derive(Clone, PartialEq, Eq)]
pub enum Found<'r> {
    /// Nothing.
    Nothing,
    /// One text, in the bytes that came. Whether it is well formed, the provider tells.
    Text(Cow<'r, [u8]>, Carrier),
    /// Something that can't be one id: several different texts.
    Malformed(Carrier),
}

impl<'r> Found<'r> {
    /// Adds a text that came under our name: all of a request must be the same.
    fn add(&mut self, text: &'r [u8], carrier: Carrier) {
        match self {
            Self::Nothing => *self = Self::Text(text.into(), carrier),
            Self::Text(other, _) if **other == *text => {}
            Self::Text(..) | Self::Malformed(_) => *self = Self::Malformed(carrier),
        }
    }

    /// What carried it.
    pub fn carrier(&self) -> Option<Carrier> {
        match self {
            Self::Nothing => None,
            Self::Text(_, carrier) | Self::Malformed(carrier) => Some(*carrier),
        }
    }
}

impl fmt::Debug for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "Nothing",
            Self::Text(..) => "Text(redacted)",
            Self::Malformed(_) => "Malformed",
        })
    }
}

/// What a response tells the client about its session.
#[derive(Clone, Copy)]
pub enum Announcement<'a> {
    /// Carry this text from now on.
    Issue {
        /// The token's text: a secret.
        text: &'a str,
        /// Keep it this long, or until the browser ends.
        max_age: Option<Duration>,
    },
    /// Carry nothing from now on.
    Remove,
}

impl fmt::Debug for Announcement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Issue { .. } => "Issue",
            Self::Remove => "Remove",
        })
    }
}

/// A way for ids to travel.
///
/// Implement it to carry tokens elsewhere than in cookies, URLs and plain headers. A transport does
/// no I/O and judges no token; it moves text.
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// The name that the client knows the session by: the cookie's, the query argument's...
    ///
    /// Two managers that serve one request must differ in it.
    fn name(&self) -> &str;

    /// Finds the text that the client sent.
    fn find<'r>(&self, request: RequestHead<'r>) -> Found<'r>;

    /// Writes an announcement into a response's headers, replacing an earlier one.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the text does not fit the carrier. Nothing is written then.
    fn announce(
        &self,
        announcement: Announcement<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error>;

    /// The configured lifetime of a persistent token at the client; `None` for the session's own.
    fn max_age(&self) -> Option<Duration> {
        None
    }

    /// Whether sessions are persistent at the client unless they say otherwise.
    fn persistent(&self) -> bool {
        false
    }

    /// Whether responses to a request whose token came by `carrier` put ids into URLs.
    fn uses_url(&self, _carrier: Option<Carrier>) -> bool {
        false
    }

    /// The URL with the token's text in it; `None` where it may not go there.
    ///
    /// A reference is resolved as on a page of the path and query `page`.
    fn encode_url(&self, _url: &str, _page: &str, _text: &str) -> Option<String> {
        None
    }

    /// The transport that puts tokens into URLs, alone or among others.
    fn urls(&self) -> Option<&UrlTransport> {
        None
    }

    /// Whether a session that began in URLs leaves them when its token comes by `carrier`: it gets
    /// a new id then, which URLs don't carry any more.
    fn leaves_urls(&self, _carrier: Option<Carrier>) -> bool {
        false
    }
}
