//! [`Token`]: a session's id and the text that clients carry for it.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::{SessionId, SessionKey};

/// A session as a client names it: the session's id and, where a provider hands clients more than
/// the id, the text that it hands them.
///
/// A server-side provider uses [`key`](Self::key). A provider that keeps the record at the client (a
/// sealed cookie), or that signs its ids, makes tokens with a text of their own and reads them back
/// in [`Provider::token`](super::Provider::token).
#[derive(Clone)]
pub struct Token {
    id: SessionId,
    own: Option<Arc<Own>>,
    rewrite: bool,
}

/// What a token has beside its id; clones of the token share it.
struct Own {
    text: Box<str>,
    note: Option<Arc<dyn Any + Send + Sync>>,
}

impl Token {
    /// Returns a token whose text is not the id's own.
    pub fn with_text(id: SessionId, text: impl Into<Box<str>>) -> Self {
        Self { id, own: Some(Arc::new(Own { text: text.into(), note: None })), rewrite: false }
    }

    /// Returns a token with such a text and a note: what the provider decoded from the text and would have to
    /// decode again. The note is kept for as long as the request keeps the token.
    pub fn with_note<T>(id: SessionId, text: impl Into<Box<str>>, note: T) -> Self
    where
        T: Send + Sync + 'static,
    {
        let own = Own { text: text.into(), note: Some(Arc::new(note)) };
        Self { id, own: Some(Arc::new(own)), rewrite: false }
    }

    /// Marks the token to be rewritten: the session is touched when it is loaded, even if that is not due yet.
    /// A provider marks a token that it would now write differently, for example after a key rotation.
    #[must_use]
    pub fn to_be_rewritten(mut self) -> Self {
        self.rewrite = true;
        self
    }

    /// Returns whether it is [to be rewritten](Self::to_be_rewritten).
    pub fn needs_rewrite(&self) -> bool {
        self.rewrite
    }

    /// Returns the session's id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Returns the session's key.
    pub fn key(&self) -> SessionKey {
        self.id.key()
    }

    /// Returns the token's own text, if it has one.
    pub fn own_text(&self) -> Option<&str> {
        self.own.as_deref().map(|own| &*own.text)
    }

    /// Returns the note, if the token was [made with](Self::with_note) one of this type.
    pub fn note<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.own.as_deref()?.note.as_deref()?.downcast_ref()
    }

    /// Calls `f` with the text that clients carry, which is a secret.
    pub fn with_client_text<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        match self.own_text() {
            Some(text) => f(text),
            None => f(&self.id.text()),
        }
    }

    /// Returns whether clients carry the same text for both tokens. The comparison does not take constant time,
    /// because both texts came from the client itself or are sent to it.
    pub(crate) fn has_text_of(&self, other: &Self) -> bool {
        match (self.own_text(), other.own_text()) {
            (Some(own), Some(others)) => own == others,
            (None, None) => {
                self.key() == other.key()
                    && self.id.secret().as_bytes() == other.id.secret().as_bytes()
            }
            _ => false,
        }
    }
}

impl From<SessionId> for Token {
    fn from(id: SessionId) -> Self {
        Self { id, own: None, rewrite: false }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.key())
    }
}
