//! The trait [`Session`]: set, get, delete and id, for handlers that take a `&dyn Session`.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Limits, SessionId, value};

/// The four classic operations on a session: set, get, delete, id.
///
/// [`LoadedSession`](crate::LoadedSession) implements it. A handler that needs only these operations takes a
/// `&dyn Session`, and its tests can pass a simpler implementation. Implementors provide the operations on
/// encoded values; callers use the typed `get` and `set` of `dyn Session`.
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
    /// Returns the session's id. A new session gets its id at the first call, before it is stored.
    ///
    /// # Errors
    /// [`Error::Random`] if a new id is needed and the operating system's random generator fails.
    fn id(&self) -> Result<SessionId, Error>;

    /// Returns the encoded value of a key, or `None` if the key has no value.
    ///
    /// # Errors
    /// A [`LoadedSession`](crate::LoadedSession) returns none.
    fn get_encoded(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Sets a key to an encoded value, which is one MessagePack value as [`value::encode`] writes it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the session would exceed a limit, [`Error::Finished`] after
    /// [`finish`](crate::SessionHandle::finish).
    fn set_encoded(&self, key: &str, value: Vec<u8>) -> Result<(), Error>;

    /// Returns whether the typed `get` treats a value of another type as absent, as a
    /// [`lenient`](crate::LoadedSession::lenient) session does. Defaults to false.
    fn is_lenient(&self) -> bool {
        false
    }

    /// Deletes a key. Deleting a key that has no value is not an error.
    ///
    /// # Errors
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    fn delete(&self, key: &str) -> Result<(), Error>;
}

/// Typed access.
impl dyn Session + '_ {
    /// Returns the value of a key, or `None` if the key has no value.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; the session stays usable.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(bytes) = self.get_encoded(key)? else { return Ok(None) };
        value::decode_leniently(key, &bytes, &WIDEST, self.is_lenient())
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value can't be encoded, [`Error::TooLarge`] if the session would exceed a
    /// limit.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        self.set_encoded(key, value::encode(key, value, &WIDEST)?.to_vec())
    }
}

/// The widest limits: the implementation of [`Session`] checks its configured limits itself.
const WIDEST: Limits = Limits { bytes: Limits::MAX_BYTES, keys: 1, depth: Limits::MAX_DEPTH };
