//! What a client presented as the id of its session.

use smallvec::SmallVec;
use tracing::{debug, warn};

use crate::SessionId;
use crate::manager::Shared;
use crate::provider::Token;
use crate::transport::{Carrier, Found};

/// How many different texts are looked up, of those that a client sent under our name.
const LOOKED_UP: usize = 4;

/// The longest text that may be a token. Cookies end at 4,096 bytes.
const LONGEST: usize = 8192;

/// What a client presented: the texts under our name, not looked at yet.
#[derive(Clone, Default)]
pub(crate) struct Presented {
    carrier: Option<Carrier>,
    texts: SmallVec<[Text; 1]>,
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

impl Presented {
    #[inline]
    pub(crate) fn new(found: &Found<'_>) -> Self {
        // Browsers send cookies of longer paths first (RFC 6265, section 5.4): ours is among the last.
        let skipped = found.texts().len().saturating_sub(LOOKED_UP);
        if skipped > 0 {
            warn!(skipped, "a client sent more ids than are looked up; the last ones are");
        }
        let texts = &found.texts()[skipped..];
        let fits = |text: &&std::borrow::Cow<'_, [u8]>| text.len() <= LONGEST;
        let texts = texts.iter().filter(fits).map(|text| Text::of(text)).collect();
        Self { carrier: found.carrier(), texts }
    }

    /// What carried it, well formed or not; `None` if the client presented nothing.
    pub(crate) fn carrier(&self) -> Option<Carrier> {
        self.carrier
    }

    /// Reads the well-formed tokens, in the order of the request.
    pub(crate) fn tokens(&self, shared: &Shared) -> SmallVec<[Token; 1]> {
        self.texts.iter().filter_map(|text| shared.provider.token(text.as_bytes())).collect()
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
        if self.carrier.is_some() {
            shared.counters.malformed.add(1);
            debug!(texts = self.texts.len(), "a client sent a malformed session id");
        }
    }
}
