//! The four operations of a session.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Limits, SessionId, value};

/// The four classic operations on a session: set, get, delete, id.
///
/// [`LoadedSession`](crate::LoadedSession) is the library's own. A handler that needs no more takes a
/// `&dyn Session`, and can be tested with something simpler. Implementors provide the operations on
/// encoded values; callers use the typed `get` and `set` that every `dyn Session` has.
///
/// ```
/// use session_core::{Error, Session};
///
/// fn greet(session: &dyn Session) -> Result<String, Error> {
///     let name: Option<String> = session.get("name")?;
///     session.set("greeted", &true)?;
///     Ok(format!("hello, {}", name.as_deref().unwrap_or("stranger")))
/// }
/// ```
pub trait Session: Send + Sync {
    /// Returns the session's id; that of a new session is made at the first call, before it is stored.
    ///
    /// # Errors
    /// [`Error::Random`] if a new id is needed and can't be made.
    fn id(&self) -> Result<SessionId, Error>;

    /// Returns a key's encoded value, or `None` if it has none.
    ///
    /// # Errors
    /// None, for a [`LoadedSession`](crate::LoadedSession).
    fn get_encoded(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Sets a key to an encoded value: one MessagePack value, as [`value::encode`] writes it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] over a limit, [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    fn set_encoded(&self, key: &str, value: Vec<u8>) -> Result<(), Error>;

    /// Whether a value that is not of the wanted type counts as none, as in a
    /// [`lenient`](crate::LoadedSession::lenient) session. Defaults to false.
    fn is_lenient(&self) -> bool {
        false
    }

    /// Deletes a key; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    fn delete(&self, key: &str) -> Result<(), Error>;
}

/// Typed access.
impl dyn Session + '_ {
    /// Returns a key's value, or `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; the session stays usable.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.get_encoded(key)? else { return Ok(None) };
        value::decode_leniently(key, &bytes, &WIDEST, self.is_lenient())
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value can't be represented, [`Error::TooLarge`] over a limit.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        self.set_encoded(key, value::encode(key, value, &WIDEST)?.to_vec())
    }
}

/// What a session itself allows may be less, and is checked there.
const WIDEST: Limits = Limits { bytes: Limits::MAX_BYTES, keys: 1, depth: Limits::MAX_DEPTH };
