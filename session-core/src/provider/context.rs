//! [`ProviderContext`]: how a manager uses its provider.

use crate::Lifetime;

/// How a manager uses its provider, told by [`Provider::configure`](super::Provider::configure) before the
/// first request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProviderContext<'a> {
    /// The name that clients know the session by: the cookie's, the header's...
    pub name: &'a str,
    /// The old names, under which clients may still send it.
    pub also: &'a [String],
    /// How long sessions live that have no lifetime of their own.
    pub lifetime: Lifetime,
    /// Whether the transport puts tokens into URLs.
    pub in_urls: bool,
}

impl<'a> ProviderContext<'a> {
    /// Returns the context of a manager whose tokens travel under this name, but not in URLs.
    pub const fn new(name: &'a str, lifetime: Lifetime) -> Self {
        Self { name, also: &[], lifetime, in_urls: false }
    }

    /// Returns the context with these old names.
    #[must_use]
    pub const fn with_also(mut self, also: &'a [String]) -> Self {
        self.also = also;
        self
    }

    /// Returns the context with or without tokens in URLs.
    #[must_use]
    pub const fn with_urls(mut self, in_urls: bool) -> Self {
        self.in_urls = in_urls;
        self
    }
}
