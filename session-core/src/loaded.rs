//! A loaded session: values in memory.

use std::fmt;
use std::time::Duration;

use parking_lot::MappedMutexGuard;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::manager::Shared;
use crate::state::{Phase, State};
use crate::transport::Carrier;
use crate::turn::Core;
use crate::{Error, Lifetime, Limits, Session, SessionId, Timestamp, key, value};

/// The longest owner in bytes: names and addresses are shorter, and databases index it.
const OWNER_LIMIT: usize = 1024;

/// A session whose values are in memory: what [`SessionHandle::load`](crate::SessionHandle::load)
/// answers.
///
/// It is a view of the handle, cheap to copy; all copies see the same values. Reading and changing
/// values is synchronous and touches no store; [`finish`](crate::SessionHandle::finish) writes what
/// changed. The operations that are `async` act at the store at once.
///
/// ```
/// # async fn handler(handle: &session_core::SessionHandle<'_>) -> Result<(), session_core::Error> {
/// let session = handle.load().await?;
/// if session.get::<String>("user")?.is_none() {
///     session.set("user", "ada")?;
///     session.regenerate().await?; // a new id for a new privilege
/// }
/// let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy)]
pub struct LoadedSession<'h> {
    pub(crate) shared: &'h Shared,
    pub(crate) core: &'h Core,
    pub(crate) carrier: Option<Carrier>,
}

/// Values.
impl<'h> LoadedSession<'h> {
    pub(crate) fn new(shared: &'h Shared, core: &'h Core, carrier: Option<Carrier>) -> Self {
        Self { shared, core, carrier }
    }

    /// The session's id; that of a new session is made at the first call, before it is stored.
    ///
    /// # Errors
    /// [`Error::Random`] if a new id is needed and can't be made.
    pub fn id(&self) -> Result<SessionId, Error> {
        let mut state = self.core.lock();
        match &state.token {
            Some(token) => Ok(*token.id()),
            None => state.fresh_token(self.shared).map(|token| *token.id()),
        }
    }

    /// Whether the session is not stored yet.
    pub fn is_new(&self) -> bool {
        self.core.lock().token.is_none()
    }

    /// A key's value, or `None` if it has none. Only this value is decoded.
    ///
    /// `T` must not look at the session while it is decoded: the session is locked.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; the session stays usable. [`Error::Finished`] if
    /// the values were released.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        match self.loaded()?.value(&key::stored(key)) {
            Some(bytes) => value::decode(key, bytes, &self.shared.limits).map(Some),
            None => Ok(None),
        }
    }

    /// Sets a key. Setting an equal value is no change.
    ///
    /// # Errors
    /// [`Error::Encode`] if the value can't be represented, [`Error::TooLarge`] over a limit,
    /// [`Error::Finished`] if the values were released; the session is as it was then.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        let bytes = value::encode(key, value, &self.limits_of_a_value())?;
        self.put(&key::stored(key), Some(bytes))
    }

    /// Deletes a key; one that is not there is no error.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.put(&key::stored(key), None)
    }

    /// Reads a key's value and deletes the key. Two requests at once may both read it; where that
    /// matters, [`try_update`](Self::try_update) to nothing.
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`; it stays where it is then. [`Error::Finished`] if
    /// the values were released.
    pub fn take<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let stored = key::stored(key);
        let mut state = self.loaded()?;
        let value = state.value(&stored);
        let value =
            value.map(|bytes| value::decode(key, bytes, &self.shared.limits)).transpose()?;
        state.put(&stored, None, self.shared)?;
        Ok(value)
    }

    /// Deletes all keys that are there. Flash messages, lifetime and the like stay, and so does a key
    /// that another request adds meanwhile.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn clear(&self) -> Result<(), Error> {
        for key in self.keys()? {
            self.delete(&key)?;
        }
        Ok(())
    }

    /// The keys that have values, sorted.
    ///
    /// # Errors
    /// [`Error::Finished`] if the values were released.
    pub fn keys(&self) -> Result<Vec<String>, Error> {
        self.with(|state| {
            let stored = state.record.values.iter().map(|(key, _)| key);
            let set = state.changes.iter().map(|(key, _)| key);
            let present = stored.chain(set).filter(|key| state.value(key).is_some());
            let mut keys: Vec<String> =
                present.filter_map(key::application).map(str::to_owned).collect();
            keys.sort_unstable();
            keys.dedup();
            keys
        })
    }

    /// When the session was created; now, for a new one.
    pub fn created(&self) -> Timestamp {
        self.core.lock().record.created
    }

    /// How long the session lives from now if it is not used again.
    pub fn remaining(&self) -> Duration {
        let (state, now) = (self.core.lock(), self.shared.clock.now());
        state.lifetime(self.shared).expires(state.record.created, now).since(now)
    }

    /// The session's lifetime: its own, or the manager's.
    pub fn lifetime(&self) -> Lifetime {
        *self.core.lock().lifetime(self.shared)
    }

    /// Gives this session a lifetime of its own, in whole milliseconds; `absolute` counts from its
    /// creation.
    ///
    /// # Errors
    /// [`Error::Config`] if one of them is zero, [`Error::TooLarge`] if the session has no room for
    /// it, [`Error::Finished`] if the values were released.
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), Error> {
        lifetime.validate()?;
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX);
        let pair = (millis(lifetime.idle), millis(lifetime.absolute));
        let lifetime = Lifetime {
            idle: Duration::from_millis(pair.0),
            absolute: Duration::from_millis(pair.1),
        };
        if lifetime != self.lifetime() {
            let bytes = value::encode(key::LIFETIME, &pair, &self.shared.limits)?;
            let mut state = self.loaded()?;
            state.put(key::LIFETIME, Some(bytes), self.shared)?;
            state.settings.lifetime = Some(lifetime);
            state.reissue |= state.persistent(self.shared);
        }
        Ok(())
    }

    /// Whether the client keeps the token when the browser ends ("remember me").
    pub fn is_persistent(&self) -> bool {
        self.core.lock().persistent(self.shared)
    }

    /// Makes the client keep the token when the browser ends, or not. The next response says so.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the session has no room for it, [`Error::Finished`] if the values were
    /// released.
    pub fn set_persistent(&self, persistent: bool) -> Result<(), Error> {
        if persistent != self.is_persistent() {
            let bytes = value::encode(key::PERSISTENT, &persistent, &self.shared.limits)?;
            let mut state = self.loaded()?;
            state.put(key::PERSISTENT, Some(bytes), self.shared)?;
            state.settings.persistent = Some(persistent);
            state.reissue = true;
        }
        Ok(())
    }

    /// The account that the session belongs to, as opaque text.
    pub fn owner(&self) -> Option<String> {
        let state = self.core.lock();
        state.changes.owner.as_ref().unwrap_or(&state.record.owner).as_deref().map(str::to_owned)
    }

    /// Says which account the session belongs to, as opaque text of 1,024 bytes at most; `None` for
    /// nobody's.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a longer text, [`Error::Finished`] if the values were released.
    pub fn set_owner(&self, owner: Option<&str>) -> Result<(), Error> {
        if owner.is_some_and(|owner| owner.len() > OWNER_LIMIT) {
            return Err(Error::TooLarge { what: "owner bytes", limit: OWNER_LIMIT });
        }
        let owner: Option<Box<str>> = owner.map(Into::into);
        self.with(|state| {
            state.changes.owner = (owner != state.record.owner).then_some(owner);
        })
    }

    /// The limits of one value: its size counts with the session's, where one that shrinks is
    /// allowed even if it is too large still.
    pub(crate) fn limits_of_a_value(&self) -> Limits {
        Limits { bytes: usize::MAX, ..self.shared.limits }
    }

    /// Runs `f` on the state if values are there.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut State) -> R) -> Result<R, Error> {
        self.loaded().map(|mut state| f(&mut state))
    }

    /// The state, while there are values.
    pub(crate) fn loaded(&self) -> Result<MappedMutexGuard<'h, State>, Error> {
        let state = self.core.lock();
        match state.phase {
            Phase::Loaded => Ok(state),
            Phase::Finished => Err(Error::Finished),
        }
    }

    fn put(&self, key: &str, value: Option<Box<[u8]>>) -> Result<(), Error> {
        self.loaded()?.put(key, value, self.shared)
    }

    /// A value by its stored key.
    pub(crate) fn stored_value(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.with(|state| state.value(key).map(<[u8]>::to_vec))
    }
}

impl Session for LoadedSession<'_> {
    fn id(&self) -> Result<SessionId, Error> {
        Self::id(self)
    }

    fn get_encoded(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        self.stored_value(&key::stored(key))
    }

    fn set_encoded(&self, key: &str, value: Vec<u8>) -> Result<(), Error> {
        match value::check(&value, self.shared.limits.depth) {
            Ok(()) => self.put(&key::stored(key), Some(value.into())),
            Err(value::Malformed::TooDeep) => {
                Err(Error::TooLarge { what: "value depth", limit: self.shared.limits.depth })
            }
            Err(value::Malformed::NotOneValue) => {
                Err(Error::Encode { key: key.into(), given: "encoded bytes" })
            }
        }
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        Self::delete(self, key)
    }
}

impl fmt::Debug for LoadedSession<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.core.lock();
        f.debug_struct("LoadedSession")
            .field("token", &state.token)
            .field("keys", &state.keys)
            .field("changed", &state.changes.iter().len())
            .finish_non_exhaustive()
    }
}
