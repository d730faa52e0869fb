//! How ids travel between client and server.

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

// The manager makes them of its configuration, and does the half of their work. Public for the tests of this
// workspace.
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

/// Which of the built-in transports carries ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportKind {
    /// A cookie. The default.
    #[default]
    Cookie,
    /// An argument of the URL's query, in the application's own links and redirects.
    Url,
    /// Both, until the client returns the cookie; the cookie alone from then on.
    Auto,
    /// A header of its own, for programs.
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
    /// Whether the method is safe (RFC 9110, section 9.2.1) and asks for no upgrade. A WebSocket, which begins
    /// with a GET, may do anything later.
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

// Method, target and headers may all carry an id.
impl fmt::Debug for RequestHead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RequestHead(redacted)")
    }
}

/// The part of a request that carried an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenSource {
    /// A cookie.
    Cookie,
    /// The URL.
    Url,
    /// A header of its own, or whatever else a custom transport reads.
    Header,
}

/// What a transport finds in a request: the different texts under its name, in order.
///
/// Of more than four it keeps the last four, as browsers send cookies of longer paths first (RFC 6265,
/// section 5.4): ours is among the last. A text that comes again counts at its last place.
///
/// Whether a text is well formed, the provider tells. A request whose texts can't be read, because they
/// are doubled where nobody doubles them by accident or lie beyond a limit, has a source and no texts.
#[derive(Clone, Default)]
pub struct Extracted<'r> {
    source: Option<TokenSource>,
    /// First those that came only under old names.
    texts: SmallVec<[Cow<'r, [u8]>; 1]>,
    old_texts: usize,
    old_names: OldNames,
    /// Whether texts were left out, of too many.
    skipped: bool,
}

/// How many different texts are kept and looked up, of those that a client sent. However many there are,
/// each is compared with these only.
const MAX_TOKENS: usize = 4;

/// Which of the configured old names a client sent something under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OldNames(u8);

impl OldNames {
    /// How many old names there can be.
    pub(crate) const MAX_NAMES: usize = 8;

    /// Whether it sent something under the one of this number, in the order of the configuration.
    pub fn has(self, number: usize) -> bool {
        number < Self::MAX_NAMES && self.0 & (1 << number) != 0
    }

    fn add(&mut self, number: usize) {
        debug_assert!(number < Self::MAX_NAMES);
        self.0 |= 1 << number;
    }
}

impl<'r> Extracted<'r> {
    /// Nothing under the transport's name.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Something under the transport's name that can't be read.
    pub fn unreadable(source: TokenSource) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// Adds a text, in the bytes that came.
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

    /// Adds a text under an old name, once all under the name itself were added: in front of these, and only
    /// where they leave room.
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

    /// Whether texts were left out, of too many.
    pub(crate) fn has_skipped(&self) -> bool {
        self.skipped
    }

    /// How many texts, from the first one on, came only under old names.
    pub(crate) fn old_texts(&self) -> usize {
        self.old_texts
    }

    /// The old names that something came under.
    pub fn old_names(&self) -> OldNames {
        self.old_names
    }

    /// The different texts, in order; four at most.
    pub fn texts(&self) -> &[Cow<'r, [u8]>] {
        &self.texts
    }

    /// What carried them; `None` if there was nothing.
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
    /// The texts as a test compares them; `None` for nothing.
    pub(crate) fn shown(&self) -> Option<Vec<String>> {
        self.source?;
        Some(self.texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }
}

/// The longest that browsers keep a cookie (rfc6265bis, section 5.5): 400 days.
pub(crate) const MAX_AGE_LIMIT: Duration = Duration::from_secs(400 * 86_400);

/// Adds bytes to a fingerprint: FNV-1a, which is the same in every process and version.
pub(crate) fn fingerprint(so_far: u32, bytes: &[u8]) -> u32 {
    bytes.iter().fold(so_far, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// What a response tells the client about its session.
#[derive(Clone, Copy)]
pub enum Directive<'a> {
    /// Carry this text from now on.
    Set {
        /// The token's text: a secret.
        text: &'a str,
        /// Keep it this long, or until the browser ends.
        max_age: Option<Duration>,
    },
    /// Carry nothing from now on.
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

/// A way for ids to travel.
///
/// Implement it to carry tokens elsewhere than in cookies, URLs and plain headers, and hand it to
/// [`ManagerBuilder::with_transport`](crate::ManagerBuilder::with_transport). A transport does no I/O and judges
/// no token; it moves text.
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
    /// The name that the client knows the session by: the cookie's, the query argument's...
    ///
    /// Two managers that serve one request must differ in it, and in all [`names`](Self::names).
    fn name(&self) -> &str;

    /// Finds the text that the client sent.
    fn extract<'r>(&self, request: RequestHead<'r>) -> Extracted<'r>;

    /// Writes a directive into a response's headers, replacing an earlier one.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the text does not fit the source. Nothing is written then.
    fn write_response(
        &self,
        directive: Directive<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), Error>;

    /// The names that the client knew the session by before, under which [`extract`](Self::extract) looks as well.
    /// Defaults to none.
    fn also(&self) -> &[String] {
        &[]
    }

    /// All names that the transport reads, each with what carries it. Defaults to the name and the
    /// [old names](Self::also), in any source.
    fn names(&self) -> Vec<(TokenSource, &str)> {
        let names = std::iter::once(self.name()).chain(self.also().iter().map(String::as_str));
        let sources = [TokenSource::Cookie, TokenSource::Url, TokenSource::Header];
        names.flat_map(|name| sources.map(|source| (source, name))).collect()
    }

    /// The request header that the token is read from, which goes into the `Vary` of responses. Defaults to
    /// none, for tokens that are part of the URL.
    fn varies_by(&self) -> Option<HeaderName> {
        None
    }

    /// Whether a browser can be made to send a token by another site's page. Defaults to true; a transport
    /// whose tokens only scripts of the application itself can send needs no check for
    /// [cross-site requests](crate::CrossSiteOptions).
    fn is_ambient(&self) -> bool {
        true
    }

    /// Removes from the client what it sent under old names. Called after [`write_response`](Self::write_response),
    /// whichever it is. Does nothing by default.
    fn remove_old(&self, _names: OldNames, _headers: &mut HeaderMap) {}

    /// The configured lifetime of a persistent token at the client; `None` for the session's own.
    fn max_age(&self) -> Option<Duration> {
        None
    }

    /// A fingerprint of what is configured about a directive beside the text and its lifetime, such as
    /// a cookie's attributes. When it is another than a session was announced with, the session is announced
    /// once more. The same in all processes of one configuration. Defaults to 0, for nothing.
    fn fingerprint(&self) -> u32 {
        0
    }

    /// Whether sessions are persistent at the client unless they say otherwise.
    fn persistent(&self) -> bool {
        false
    }

    // Ids in URLs take more than this trait has: redirects, pages, and the way out of the URLs. So only the
    // built-in transports put them there, and what the manager asks these is no part of the public API.

    /// Whether responses to a request whose token came by `source` put ids into URLs.
    #[doc(hidden)]
    fn uses_url(&self, _carrier: Option<TokenSource>) -> bool {
        false
    }

    /// The URL with the token's text in it; `None` where it may not go there.
    ///
    /// A reference is resolved as on a page of the path and query `page`.
    #[doc(hidden)]
    fn encode_url(&self, _url: &str, _page: &str, _text: &str) -> Option<String> {
        None
    }

    /// The transport that puts tokens into URLs, alone or among others.
    #[doc(hidden)]
    fn urls(&self) -> Option<&UrlTransport> {
        None
    }

    /// Whether a session that began in URLs leaves them when its token comes by `source`: it gets
    /// a new id then, which URLs don't carry any more.
    #[doc(hidden)]
    fn leaves_urls(&self, _carrier: Option<TokenSource>) -> bool {
        false
    }
}
