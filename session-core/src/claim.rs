//! What a client sent, as its name for a session.

use tracing::debug;

use crate::manager::Shared;
use crate::transport::Found;
use crate::{LogHash, SessionId, Token};

/// What a client sent, not looked at yet.
pub(crate) enum Claim {
    Nothing,
    /// As long as an id's text: no allocation.
    Id([u8; SessionId::TEXT_LEN]),
    /// A text of another length, which may be a sealed session.
    Other(Box<[u8]>),
    Malformed,
}

/// The longest text that may be a token. Cookies end at 4,096 bytes.
const LONGEST_CLAIM: usize = 8192;

impl Claim {
    #[inline]
    pub(crate) fn of(found: Found<'_>) -> Self {
        match found {
            Found::Nothing => Self::Nothing,
            Found::Text(text, _) => match text.as_ref().try_into() {
                Ok(id) => Self::Id(id),
                Err(_) if text.len() > LONGEST_CLAIM => Self::Malformed,
                Err(_) => Self::Other(text.into_owned().into()),
            },
            Found::Malformed(_) => Self::Malformed,
        }
    }

    fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Nothing | Self::Malformed => None,
            Self::Id(text) => Some(text),
            Self::Other(text) => Some(text),
        }
    }

    /// The token, if it is exactly one well-formed one.
    pub(crate) fn token(&self, shared: &Shared) -> Option<Token> {
        shared.provider.token(self.text()?)
    }

    /// Says that what came is no token.
    pub(crate) fn report(&self, shared: &Shared) {
        if !matches!(self, Self::Nothing) {
            shared.counters.malformed.add(1);
            let hash = self.text().map(LogHash::of);
            debug!(token = ?hash, "malformed or ambiguous session token");
        }
    }
}
