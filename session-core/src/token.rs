//! What a client carries.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::SessionId;

/// A session as the client names it: its id and, where a provider says more to the client than
/// the id, the text it says.
///
/// A server-side provider uses [`id`](Self::id) and answers the same. A provider that keeps the
/// record at the client (a sealed cookie), or that signs its ids, makes tokens with a text of
/// their own and reads them back in [`Provider::token`](crate::Provider::token).
#[derive(Clone)]
pub struct Token {
    id: SessionId,
    own: Option<Arc<Own<dyn Any + Send + Sync>>>,
    renew: bool,
}

/// What a token has of its own; its clones share it.
struct Own<N: ?Sized> {
    text: Box<str>,
    note: N,
}

impl Token {
    /// A token whose text is not the id's own.
    pub fn with_text(id: SessionId, text: impl Into<Box<str>>) -> Self {
        Self::with_note(id, text, ())
    }

    /// The same, with something that is kept for as long as the request has the token: what a
    /// provider found in the text, and would have to find again.
    pub fn with_note<T>(id: SessionId, text: impl Into<Box<str>>, note: T) -> Self
    where
        T: Send + Sync + 'static,
    {
        let own = Own { text: text.into(), note };
        Self { id, own: Some(Arc::new(own)), renew: false }
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
        self.own.as_deref().map(|own| &*own.text)
    }

    /// The note, if the token was [made with](Self::with_note) one of this type.
    pub fn note<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.own.as_deref()?.note.downcast_ref()
    }

    /// Hands the text that clients carry to `f`; it is a secret.
    pub fn with_client_text<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        match self.own_text() {
            Some(text) => f(text),
            None => f(&self.id.text()),
        }
    }
}

impl From<SessionId> for Token {
    fn from(id: SessionId) -> Self {
        Self { id, own: None, renew: false }
    }
}

/// Notes don't count.
impl PartialEq for Token {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.renew == other.renew && self.own_text() == other.own_text()
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(#{})", self.id.log_hash())
    }
}
