//! What a client presented as the id of its session.

use smallvec::SmallVec;
use tracing::debug;

use crate::SessionId;
use crate::manager::Shared;
use crate::provider::Token;
use crate::transport::{Extracted, OldNames, TokenSource};

/// The longest text that may be a token. Cookies end at 4,096 bytes.
const LONGEST: usize = 8192;

/// What a client presented: the texts under our name, not looked at yet.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    source: Option<TokenSource>,
    texts: SmallVec<[Text; 1]>,
    /// How many of the texts, from the first one on, came only under old names.
    old_texts: u8,
    old_names: OldNames,
}

/// One text.
#[derive(Clone)]
enum Text {
    /// As long as an id's text: no allocation.
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
    pub(crate) fn new(found: &Extracted<'_>) -> Self {
        let mut credentials = Self {
            source: found.source(),
            texts: SmallVec::new(),
            old_texts: 0,
            old_names: found.old_names(),
        };
        let texts = found.texts().iter().enumerate();
        for (at, text) in texts.filter(|(_, text)| text.len() <= LONGEST) {
            credentials.texts.push(Text::of(text));
            credentials.old_texts += u8::from(at < found.old_texts());
        }
        credentials
    }

    /// What carried it, well formed or not; `None` if the client presented nothing.
    pub(crate) fn source(&self) -> Option<TokenSource> {
        self.source
    }

    /// Reads the well-formed tokens, in the order of the request.
    pub(crate) fn tokens(&self, shared: &Shared) -> SmallVec<[Token; 1]> {
        self.texts.iter().filter_map(|text| shared.provider.token(text.as_bytes())).collect()
    }

    /// The old names under which the client presented something.
    pub(crate) fn old_names(&self) -> OldNames {
        self.old_names
    }

    /// Whether this token came only under old names.
    pub(crate) fn is_old(&self, token: &Token) -> bool {
        let old = &self.texts[..usize::from(self.old_texts)];
        old.iter().any(|text| token.with_client_text(|own| own.as_bytes() == text.as_bytes()))
    }

    /// Reads the token, if the client presented exactly one.
    pub(crate) fn token(&self, shared: &Shared) -> Option<Token> {
        match self.texts.as_slice() {
            [text] => shared.provider.token(text.as_bytes()),
            _ => None,
        }
    }

    /// Reports that nothing of what the client presented is a token.
    pub(crate) fn report_malformed(&self, shared: &Shared) {
        if self.source.is_some() {
            shared.events.counters.malformed.add(1);
            debug!(texts = self.texts.len(), "a client sent a malformed session id");
        }
    }
}
