//! [`Transport`]: how clients send and receive ids. `cookie` writes the `Set-Cookie` header and its
//! attributes, `url` puts ids into URLs, `auto` does both, and `header` uses a header of its own.

mod auto;
mod cookie;
mod header;
pub(crate) mod origin;
pub(crate) mod reference;
pub(crate) mod scope;
mod url;

pub use cookie::{CookieOptions, CookieTransport, SameSite};
pub use header::{HeaderOptions, HeaderTransport};
pub use url::UrlOptions;

// Public only for the tests of this workspace: the manager creates these transports from its configuration,
// and does a part of their work.
#[doc(hidden)]
pub use auto::AutoTransport;
#[doc(hidden)]
pub use url::UrlTransport;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use http::header::UPGRADE;
use http::{HeaderMap, HeaderName, Method, Request, Uri};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::Error;

/// The built-in transports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// Ids are in a cookie. The default.
    #[default]
    Cookie,
    /// Ids are in a query argument, in the application's own links and redirects.
    Url,
    /// Ids are in a cookie and in URLs until the client returns the cookie, and in the cookie alone from then
    /// on.
    Auto,
    /// Ids are in a header of their own, for programs.
    Header,
}

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

impl RequestHead<'_> {
    /// Returns whether the method is safe (RFC 9110, section 9.2.1) and the request asks for no upgrade. A
    /// WebSocket begins with a GET, and its messages may change anything.
    pub(crate) fn is_safe(&self) -> bool {
        self.method.is_safe() && !self.headers.contains_key(UPGRADE)
    }
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

// `Debug` is redacted, because the target and the headers may contain an id.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestHead(redacted)")
    }
}

/// The part of a request that an id was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSource {
    /// A cookie.
    Cookie,
    /// The URL.
    Url,
    /// A header of its own, or anything else that a custom transport reads.
    Header,
}

/// The texts that a transport extracted from a request: the different values under its name, in order.
///
/// If there are more than four different texts, the last four are kept, because browsers send the cookies
/// with longer paths first (RFC 6265, section 5.4), so the transport's cookie is among the last. A text that
/// occurs several times counts at its last position.
///
/// The provider parses the texts. If texts are present but can't be read, because a query argument is
/// duplicated or a header exceeds a limit, `Extracted` has a source and no texts.
#[derive(Clone, Default)]
pub struct Extracted<'r> {
    source: Option<TokenSource>,
    /// The texts that came only under old names are first.
    texts: SmallVec<[Cow<'r, [u8]>; 1]>,
    old_texts: usize,
    old_names: OldNames,
    /// Whether there were more texts than are kept.
    skipped: bool,
}

/// The number of different texts that are kept and looked up. However many texts a client sends, each is
/// compared with these only.
const MAX_TOKENS: usize = 4;

/// The set of the configured old names under which a client sent a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldNames(u8);

impl OldNames {
    /// The maximum number of old names.
    pub(crate) const MAX_NAMES: usize = 8;

    /// Returns whether the client sent a text under the old name with this index, in the order of the
    /// configuration.
    pub fn has(self, number: usize) -> bool {
        number < Self::MAX_NAMES && self.0 & (1 << number) != 0
    }

    fn add(&mut self, number: usize) {
        debug_assert!(number < Self::MAX_NAMES);
        self.0 |= 1 << number;
    }
}

impl<'r> Extracted<'r> {
    /// Returns the result for a request without a text under the transport's name.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Returns the result for a request whose text under the transport's name can't be read.
    pub fn unreadable(source: TokenSource) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// Adds a text, as the bytes in the request.
    #[must_use]
    pub fn with(mut self, text: impl Into<Cow<'r, [u8]>>, source: TokenSource) -> Self {
        self.add(text, source);
        self
    }

    fn add(&mut self, text: impl Into<Cow<'r, [u8]>>, source: TokenSource) {
        self.source = Some(source);
        let text = text.into();
        if let Some(at) = self.texts.iter().position(|other| *other == text) {
            self.texts.remove(at);
        } else if self.texts.len() == MAX_TOKENS {
            self.texts.remove(0);
            self.skipped = true;
        }
        self.texts.push(text);
    }

    /// Adds a text under an old name. Called after all texts under the current name were added: it is
    /// inserted in front of these, and only if there is room.
    fn add_old(&mut self, text: &'r [u8], number: usize, source: TokenSource) {
        self.source = Some(source);
        self.old_names.add(number);
        let text = Cow::from(text);
        match self.texts.iter().position(|other| *other == text) {
            Some(at) if at < self.old_texts => {
                self.texts.remove(at);
                self.old_texts -= 1;
            }
            Some(_) => return,
            None if self.texts.len() == MAX_TOKENS => {
                self.skipped = true;
                if self.old_texts == 0 {
                    return;
                }
                self.texts.remove(0);
                self.old_texts -= 1;
            }
            None => {}
        }
        self.texts.insert(self.old_texts, text);
        self.old_texts += 1;
    }

    /// Returns whether there were more texts than are kept.
    pub(crate) fn has_skipped(&self) -> bool {
        self.skipped
    }

    /// Returns the number of texts, counted from the first, that came only under old names.
    pub(crate) fn old_texts(&self) -> usize {
        self.old_texts
    }

    /// Returns the old names under which the client sent a text.
    pub fn old_names(&self) -> OldNames {
        self.old_names
    }

    /// Returns the different texts, in order; at most four.
    pub fn texts(&self) -> &[Cow<'r, [u8]>] {
        &self.texts
    }

    /// Returns where the texts were; `None` if there were none.
    pub fn source(&self) -> Option<TokenSource> {
        self.source
    }
}

impl fmt::Debug for Extracted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extracted({:?}, {} texts)", self.source, self.texts.len())
    }
}

#[cfg(test)]
impl Extracted<'_> {
    /// Returns the texts for comparison in tests; `None` if there were none.
    pub(crate) fn shown(&self) -> Option<Vec<String>> {
        self.source?;
        Some(self.texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }
}

/// The longest time for which browsers keep a cookie: 400 days (rfc6265bis, section 5.5).
pub(crate) const MAX_AGE_LIMIT: Duration = Duration::from_secs(400 * 86_400);

/// Adds bytes to a fingerprint. FNV-1a gives the same result in every process and version.
pub(crate) fn fingerprint(so_far: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(so_far, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What a response does to the client's copy of the token.
#[derive(Clone, Copy)]
pub enum Directive<'a> {
    /// The client stores this text.
    Set {
        /// The token's text, which is secret.
        text: &'a str,
        /// How long the client keeps the text; `None` until the browser ends.
        max_age: Option<Duration>,
    },
    /// The client deletes the text that it has.
    Clear,
}

impl fmt::Debug for Directive<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Set { .. } => "Set",
            Self::Clear => "Clear",
        })
    }
}

/// A transport of ids between client and server.
///
/// Implement it to transport tokens otherwise than in cookies, URLs and plain headers, and pass it to
/// [`ManagerBuilder::with_transport`](crate::ManagerBuilder::with_transport). A transport does no I/O and
/// does not verify tokens; it only moves text.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use session_core::Error;
/// use session_core::transport::{Directive, Extracted, RequestHead, TokenSource, Transport};
///
/// /// `X-Game: id=...`, in requests and responses.
/// #[derive(Debug)]
/// struct Game;
///
/// impl Transport for Game {
///     fn name(&self) -> &str {
///         "x-game"
///     }
///
///     fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r> {
///         match request.headers.get("x-game").map(|value| value.as_bytes().strip_prefix(b"id=")) {
///             None => Extracted::nothing(),
///             Some(None) => Extracted::unreadable(TokenSource::Header),
///             Some(Some(text)) => Extracted::nothing().with(text, TokenSource::Header),
///         }
///     }
///
///     fn write_response(&self, to: Directive<'_>, headers: &mut HeaderMap) -> Result<(), Error> {
///         let text = match to {
///             Directive::Set { text, .. } => format!("id={text}"),
///             Directive::Clear => "gone".to_owned(),
///         };
///         let mut value = HeaderValue::try_from(text).expect("tokens are visible ASCII");
///         value.set_sensitive(true);
///         headers.insert("x-game", value);
///         Ok(())
///     }
/// }
/// ```
pub trait Transport: Send + Sync + fmt::Debug + 'static {
    /// Returns the name under which clients send the text: the name of the cookie, query argument or header.
    ///
    /// Two managers that serve one request must have different names, also among all their
    /// [`names`](Self::names).
    fn name(&self) -> &str;

    /// Extracts the texts that the client sent.
    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r>;

    /// Writes a directive to a response's headers, and replaces an earlier one.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the text is too long for the cookie or header. Nothing is written then.
    fn write_response(
        &self,
        directive: Directive<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error>;

    /// Returns the old names, under which [`extract`](Self::extract) looks for texts as well. Defaults to
    /// none.
    fn also(&self) -> &[String] {
        &[]
    }

    /// Returns all names that the transport reads, each with its source. Defaults to the [name](Self::name)
    /// and the [old names](Self::also), in every source.
    fn names(&self) -> Vec<(TokenSource, &str)> {
        let names = std::iter::once(self.name()).chain(self.also().iter().map(String::as_str));
        let sources = [TokenSource::Cookie, TokenSource::Url, TokenSource::Header];
        names.flat_map(|name| sources.map(|source| (source, name))).collect()
    }

    /// Returns the request header that the token is read from, for the `Vary` header of responses. Defaults
    /// to none, for tokens in the URL.
    fn varies_by(&self) -> Option<HeaderName> {
        None
    }

    /// Returns whether another site's page can make a browser send the token. Defaults to true. A transport
    /// whose tokens are sent only by scripts of the application itself needs no check for [cross-site
    /// requests](crate::CrossSiteOptions).
    fn is_ambient(&self) -> bool {
        true
    }

    /// Removes the client's texts under old names. Called after [`write_response`](Self::write_response),
    /// whatever the directive. Does nothing by default.
    fn remove_old(&self, _names: OldNames, _headers: &mut HeaderMap) {}

    /// Returns the configured `Max-Age` of a persistent token; `None` for the session's lifetime. Defaults to
    /// `None`.
    fn max_age(&self) -> Option<Duration> {
        None
    }

    /// Returns a fingerprint of the configuration that applies to every directive, such as a cookie's
    /// attributes. If it differs from the fingerprint that was stored when the token was last sent, the token
    /// is sent again. It must be the same in all processes with one configuration. Defaults to 0.
    fn fingerprint(&self) -> u32 {
        0
    }

    /// Returns whether tokens are persistent unless the session's settings differ. Defaults to false.
    fn persistent(&self) -> bool {
        false
    }

    // Ids in URLs need more than this trait: rewriting redirects and pages, and moving from URLs to the
    // cookie. So only the built-in transports support them, and the methods below are not public API.

    /// Returns whether responses to a request whose token came from `source` put ids into URLs.
    #[doc(hidden)]
    fn uses_url(&self, _source: Option<TokenSource>) -> bool {
        false
    }

    /// Returns the URL with the token's text in it; `None` if the URL must not carry it.
    ///
    /// A relative reference is resolved against `page`, the path and query of the page.
    #[doc(hidden)]
    fn encode_url(&self, _url: &str, _page: &str, _text: &str) -> Option<String> {
        None
    }

    /// Returns the transport that puts tokens into URLs, if this transport is or contains one.
    #[doc(hidden)]
    fn urls(&self) -> Option<&UrlTransport> {
        None
    }

    /// Returns whether a session whose ids were in URLs moves to the cookie when its token comes from
    /// `source`: it gets a new id then, which is not accepted in URLs.
    #[doc(hidden)]
    fn leaves_urls(&self, _source: Option<TokenSource>) -> bool {
        false
    }
}
