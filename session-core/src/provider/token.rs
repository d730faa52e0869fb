//! What a client carries for a session.

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
    renew: bool,
}

/// What a token has beside its id; clones of the token share it.
struct Own {
    text: Box<str>,
    note: Option<Arc<dyn Any + Send + Sync>>,
}

impl Token {
    /// A token whose text is not the id's own.
    pub fn with_text(id: SessionId, text: impl Into<Box<str>>) -> Self {
        Self { id, own: Some(Arc::new(Own { text: text.into(), note: None })), renew: false }
    }

    /// The same, with what a provider decoded from the text and would have to decode again. It is
    /// kept for as long as the request keeps the token.
    pub fn with_note<T>(id: SessionId, text: impl Into<Box<str>>, note: T) -> Self
    where
        T: Send + Sync + 'static,
    {
        let own = Own { text: text.into(), note: Some(Arc::new(note)) };
        Self { id, own: Some(Arc::new(own)), renew: false }
    }

    /// Marks the token to be replaced soon: the session is touched when it is loaded, even if that is
    /// not due yet. For a token that the provider would write differently by now, under another key
    /// for instance.
    #[must_use]
    pub fn to_be_rewritten(mut self) -> Self {
        self.renew = true;
        self
    }

    /// Whether it is [to be renewed](Self::to_be_rewritten).
    pub fn needs_rewrite(&self) -> bool {
        self.renew
    }

    /// The session's id.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// The session's key.
    pub fn key(&self) -> SessionKey {
        self.id.key()
    }

    /// The text of its own, if it has one.
    pub fn own_text(&self) -> Option<&str> {
        self.own.as_deref().map(|own| &*own.text)
    }

    /// The note, if the token was [made with](Self::with_note) one of this type.
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

    /// Whether a client that carries one of them has to be told of the other. The texts differ in
    /// length, in the key or in the secret; all of them came from the client itself or went to it.
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
        Self { id, own: None, renew: false }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.key())
    }
}
