//! What a handler holds.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Limits, SessionId, value};

/// The four classic operations on a session: set, get, delete, id.
///
/// [`LoadedSession`](crate::LoadedSession) is the library's own; code that takes a
/// `&dyn Session` can be tested with something simpler. Implementors provide the operations on
/// encoded values; callers use the typed [`get`](Self::get) and [`set`](Self::set), which are there
/// on `dyn Session` as well.
///
/// ```
/// use session_core::{Error, Session};
///
/// fn greet(session: &dyn Session) -> Result<String, Error> {
///     let name: Option<String> = session.get("name")?;
///     Ok(format!("hello, {}", name.as_deref().unwrap_or("stranger")))
/// }
/// ```
pub trait Session: Send + Sync {
    /// The session's id; that of a new session is made at the first call, before it is stored.
    ///
    /// # Errors
    /// [`Error::Random`] if a new id is needed and can't be made.
    fn id(&self) -> Result<SessionId, Error>;

    /// A key's encoded value.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    fn get_encoded(&self, key: &str) -> Result<Option<Vec<u8>>, Error>;

    /// Sets a key to an encoded value: one MessagePack value, as [`value::encode`] writes it.
    ///
    /// # Errors
    /// [`Error::TooLarge`] over a limit, [`Error::Finished`] if the values were released.
    fn set_encoded(&self, key: &str, value: Vec<u8>) -> Result<(), Error>;

    /// Deletes a key; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    fn delete(&self, key: &str) -> Result<(), Error>;

    /// A key's value, or `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; the session stays usable.
    fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error>
    where
        Self: Sized,
    {
        get(self, key)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value can't be represented, [`Error::TooLarge`] over a limit.
    fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error>
    where
        Self: Sized,
    {
        set(self, key, value)
    }
}

impl dyn Session + '_ {
    /// A key's value, or `None` if it has none.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; the session stays usable.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        get(self, key)
    }

    /// Sets a key.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value can't be represented, [`Error::TooLarge`] over a limit.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        set(self, key, value)
    }
}

fn get<T: DeserializeOwned>(
    session: &(impl Session + ?Sized),
    key: &str,
) -> Result<Option<T>, Error> {
    session
        .get_encoded(key)?
        .map(|bytes| value::decode(key, &bytes, &Limits::default()))
        .transpose()
}

fn set<T: Serialize + ?Sized>(
    session: &(impl Session + ?Sized),
    key: &str,
    value: &T,
) -> Result<(), Error> {
    // What the session itself allows may be less or more, and is checked there.
    let most = Limits { bytes: Limits::MAX_BYTES, depth: Limits::MAX_DEPTH, ..Limits::default() };
    session.set_encoded(key, value::encode(key, value, &most)?)
}
