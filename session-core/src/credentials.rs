//! [`Credentials`]: the texts that a client presented as session ids, and the tokens parsed from them.

use smallvec::SmallVec;
use tracing::debug;

use crate::SessionId;
use crate::manager::Shared;
use crate::provider::Token;
use crate::transport::{Extracted, OldNames, TokenSource};

/// The longest text that is parsed as a token, in bytes. Browsers limit cookies to 4,096 bytes.
const MAX_TEXT_LEN: usize = 8192;

/// The texts that a client presented as ids, not parsed yet.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    source: Option<TokenSource>,
    texts: SmallVec<[Text; 1]>,
    /// The number of texts, counted from the first, that came only under old names of the cookie.
    old_texts: u8,
    old_names: OldNames,
}

/// The text of one presented id.
#[derive(Clone)]
enum Text {
    /// A text with the length of an id, stored without an allocation.
    Id([u8; SessionId::TEXT_LEN]),
    /// A text of another length, which may be a sealed session.
    Other(Box<[u8]>),
}

impl Text {
    fn of(text: &[u8]) -> Self {
        text.try_into().map_or_else(|_| Self::Other(text.into()), Self::Id)
    }

    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Id(text) => text,
            Self::Other(text) => text,
        }
    }
}

impl Credentials {
    #[inline]
    pub(crate) fn new(extracted: &Extracted<'_>) -> Self {
        let mut credentials = Self {
            source: extracted.source(),
            texts: SmallVec::new(),
            old_texts: 0,
            old_names: extracted.old_names(),
        };
        let texts = extracted.texts().iter().enumerate();
        for (at, text) in texts.filter(|(_, text)| text.len() <= MAX_TEXT_LEN) {
            credentials.texts.push(Text::of(text));
            credentials.old_texts += u8::from(at < extracted.old_texts());
        }
        credentials
    }

    /// Returns where the client sent the texts, well formed or not; `None` if it sent none.
    pub(crate) fn source(&self) -> Option<TokenSource> {
        self.source
    }

    /// Parses the well-formed tokens, in the order of the request.
    pub(crate) fn tokens(&self, shared: &Shared) -> SmallVec<[Token; 1]> {
        self.texts.iter().filter_map(|text| shared.provider.token(text.as_bytes())).collect()
    }

    /// Returns the old names of the cookie under which the client sent a text.
    pub(crate) fn old_names(&self) -> OldNames {
        self.old_names
    }

    /// Returns whether this token came only under old names.
    pub(crate) fn is_old(&self, token: &Token) -> bool {
        let old = &self.texts[..usize::from(self.old_texts)];
        old.iter().any(|text| token.with_client_text(|own| own.as_bytes() == text.as_bytes()))
    }

    /// Parses the token, if the client presented exactly one text.
    pub(crate) fn token(&self, shared: &Shared) -> Option<Token> {
        match self.texts.as_slice() {
            [text] => shared.provider.token(text.as_bytes()),
            _ => None,
        }
    }

    /// Counts and logs that none of the presented texts is a token, if there were any.
    pub(crate) fn report_malformed(&self, shared: &Shared) {
        if self.source.is_some() {
            shared.events.counters.malformed.add(1);
            debug!(texts = self.texts.len(), "a client sent a malformed session id");
        }
    }
}
