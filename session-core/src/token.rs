//! What a client carries.

use std::fmt;
use std::sync::Arc;

use crate::SessionId;

/// A session as the client names it: its id and, where a provider says more to the client than
/// the id, the text it says.
///
/// A server-side provider uses [`id`](Self::id) and answers the same. A provider that keeps the
/// record at the client (a sealed cookie), or that signs its ids, makes tokens with a text of
/// their own and reads them back in [`Provider::token`](crate::Provider::token).
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    id: SessionId,
    text: Option<Arc<str>>,
    renew: bool,
}

impl Token {
    /// A token whose text is not the id's own.
    pub fn with_text(id: SessionId, text: impl Into<Arc<str>>) -> Self {
        Self { id, text: Some(text.into()), renew: false }
    }

    /// The token, to be replaced by a newer one with the next response: by its
    /// [`touch`](crate::Provider::touch), even if that is not due yet. For a provider that reads
    /// what it would write differently by now, under another key for instance.
    #[must_use]
    pub fn to_be_renewed(mut self) -> Self {
        self.renew = true;
        self
    }

    /// Whether it is [to be renewed](Self::to_be_renewed).
    pub fn is_to_be_renewed(&self) -> bool {
        self.renew
    }

    /// The session's id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The text of its own, if it has one.
    pub fn own_text(&self) -> Option<&str> {
        self.text.as_deref()
    }

    /// Hands the text that clients carry to `f`; it is a secret.
    pub fn with_client_text<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        match &self.text {
            Some(text) => f(text),
            None => f(&self.id.text()),
        }
    }
}

impl From<SessionId> for Token {
    fn from(id: SessionId) -> Self {
        Self { id, text: None, renew: false }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(#{})", self.id.log_hash())
    }
}
