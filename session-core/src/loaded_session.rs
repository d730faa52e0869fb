//! [`LoadedSession`]: every operation that a handler calls on a session, such as get, set, update, flash
//! messages, log in, regenerate, "remember me" and destroy.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::operations::Operations;
use crate::state::Goal;
use crate::{
    Error, Lifetime, Limits, Session, SessionId, SessionKey, Timestamp, session_settings, value,
};

/// A session whose values are in memory. [`SessionHandle::load`](crate::SessionHandle::load) returns it.
///
/// It is cheap to clone and can be moved into tasks; all clones share the same values. Reading and changing
/// values is synchronous and does not access the store; [`finish`](crate::SessionHandle::finish) saves the
/// changes in one operation. The `async` operations access the store at once.
///
/// ```
/// # async fn handler(handle: &session_core::SessionHandle<'_>) -> Result<(), session_core::Error> {
/// let session = handle.load().await?;
/// if session.get::<String>("theme")?.is_none() {
///     session.set("theme", "dark")?;
/// }
/// let visits: u64 = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct LoadedSession {
    operations: Arc<Operations>,
    /// A stored value that does not decode to the requested type is treated as absent.
    lenient: bool,
}

/// Values.
impl LoadedSession {
    pub(crate) fn new(operations: Operations) -> Self {
        Self { operations: Arc::new(operations), lenient: false }
    }

    pub(crate) fn operations(&self) -> &Operations {
        &self.operations
    }

    /// Returns the same session with lenient decoding: [`get`](Self::get), [`take`](Self::take),
    /// [`update`](Self::update), [`try_update`](Self::try_update) and, message by message,
    /// [`take_flash`](Self::take_flash) treat a stored value that is not of the requested type as absent.
    ///
    /// Use it for values whose type changed with a new version of the program. Without it, reading such a
    /// value fails with [`Error::Decode`] until the visitor's session ends. A value of another type is never
    /// deleted, not even by `take`, so that servers that still run the old version can read it; the next
    /// `set` of the key replaces it.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("cart", &["milk", "tea"])?; // an older version stored names only
    ///
    /// let session = session.lenient();
    /// let cart: Option<Vec<(String, u32)>> = session.get("cart")?; // the new version stores names and quantities
    /// assert_eq!(cart, None);
    /// session.set("cart", &[("milk", 1)])?;
    /// assert_eq!(session.get("cart")?, Some(vec![("milk".to_owned(), 1)]));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    #[must_use]
    pub fn lenient(&self) -> Self {
        Self { operations: Arc::clone(&self.operations), lenient: true }
    }

    /// Decodes a value. Returns `None` if the value is of another type and the session is lenient.
    fn decode<T: DeserializeOwned>(&self, key: &str, bytes: &[u8]) -> Result<Option<T>, Error> {
        value::decode_leniently(key, bytes, &self.limits(), self.lenient)
    }

    /// Returns the session's id, or its new id if one is pending. A new session gets its id at the first
    /// call, before it is stored.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// let id = session.id()?;
    /// assert_eq!(id.text().len(), 43); // the text in the cookie, which is a secret
    /// assert_eq!(session.id()?.key(), id.key());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Random`] if a new id is needed and the operating system's random generator fails.
    pub fn id(&self) -> Result<SessionId, Error> {
        self.operations.state().id(self.operations.shared())
    }

    /// Returns the session's key, which names the session for as long as it lives, in logs and lists. A key
    /// is not a secret. A session that is not stored yet gets another key when it gets a new id.
    ///
    /// If the request may store nothing, because its id is superseded or its session ended while it ran, this
    /// is the key of a fresh id, which names no stored session.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("cart", &["milk"])?;
    /// session.save().await?;
    /// let key = session.key()?;
    /// println!("order placed in session {key}"); // 16 characters, not a secret
    /// session.regenerate()?;
    /// assert_eq!(session.key()?, key);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// As [`id`](Self::id).
    pub fn key(&self) -> Result<SessionKey, Error> {
        self.id().map(|id| id.key())
    }

    /// Returns whether this request has no stored session: either the session is not stored yet, or the
    /// request may store nothing, because its id is superseded or its session ended while it ran.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// assert!(session.is_new());
    /// session.set("theme", "dark")?;
    /// session.save().await?;
    /// assert!(!session.is_new());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn is_new(&self) -> bool {
        self.operations.state().is_new()
    }

    /// Returns the value of a key, or `None` if the key has no value. Only this value is decoded.
    ///
    /// The `Deserialize` implementation of `T` must not use the session: the session is locked while it runs.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("visits", &3)?;
    /// assert_eq!(session.get::<u32>("visits")?, Some(3));
    /// assert_eq!(session.get::<u32>("coupons")?, None);
    /// assert!(session.get::<String>("visits").is_err());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`. The session stays usable; use [`lenient`](Self::lenient)
    /// where types change.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        match self.operations.state().value(&session_settings::stored_key(key)) {
            Some(bytes) => self.decode(key, bytes),
            None => Ok(None),
        }
    }

    /// Sets the value of a key. Setting the value that the key already has is not a change.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    /// struct Address {
    ///     street: String,
    ///     zip: u32,
    /// }
    ///
    /// let address = Address { street: "High Street 1".into(), zip: 1010 };
    /// session.set("address", &address)?;
    /// assert_eq!(session.get("address")?, Some(address));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Encode`] if the value can't be encoded, [`Error::TooLarge`] if the session would exceed a
    /// limit, [`Error::HeadSent`] for the first value of a new session after the response's head was sent,
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish). On an error the session is
    /// unchanged.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        let bytes = value::encode(key, value, &self.limits_of_a_value())?;
        self.put(&session_settings::stored_key(key), Some(bytes))
    }

    /// Deletes a key. Deleting a key that has no value is not an error.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("draft", "Dear")?;
    /// session.delete("draft")?;
    /// session.delete("draft")?; // not an error
    /// assert_eq!(session.get::<String>("draft")?, None);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn delete(&self, key: &str) -> Result<(), Error> {
        self.put(&session_settings::stored_key(key), None)
    }

    /// Returns the value of a key and deletes the key. Two concurrent requests may both read the value; where
    /// that matters, use [`try_update`](Self::try_update) with a closure that returns `None`.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("return_to", "/orders")?;
    /// assert_eq!(session.take::<String>("return_to")?.as_deref(), Some("/orders"));
    /// assert_eq!(session.take::<String>("return_to")?, None);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Decode`] if the value is not a `T`, which is not deleted then. [`Error::Finished`] after
    /// [`finish`](crate::SessionHandle::finish).
    pub fn take<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        let stored = session_settings::stored_key(key);
        let mut state = self.operations.state();
        let value = match state.value(&stored) {
            Some(bytes) => self.decode(key, bytes)?,
            None => None,
        };
        if value.is_some() {
            state.put(&stored, None, self.operations.shared())?;
        }
        Ok(value)
    }

    /// Deletes all keys that this request sees. Flash messages, the session's lifetime and its other settings
    /// stay, and so does a key that another request adds meanwhile.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("cart", &["milk"])?;
    /// session.set("theme", "dark")?;
    /// session.clear()?;
    /// assert!(session.keys().is_empty());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn clear(&self) -> Result<(), Error> {
        for key in self.keys() {
            self.delete(&key)?;
        }
        Ok(())
    }

    /// Returns the keys that have values, in sorted order.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("theme", "dark")?;
    /// session.set("cart", &["milk"])?;
    /// assert_eq!(session.keys(), ["cart", "theme"]);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn keys(&self) -> Vec<String> {
        self.operations.state().application_keys()
    }

    /// Reads, changes and writes one value atomically at the store, whatever other requests do: after a
    /// thousand concurrent increments the value is a thousand higher. Returns the new value.
    ///
    /// `f` may run more than once. Pending changes of other keys are saved at the end of the request, unless
    /// a new id is pending: then this update saves everything in one operation. A new session, which no other
    /// request can know, is updated in memory and stored at the end of the request.
    ///
    /// In a safe request (GET, HEAD) whose session ended or got a new id meanwhile, the value is computed and
    /// returned but not stored; [`try_update`](Self::try_update) returns an error in that case.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
    /// assert_eq!(visits, 1);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or got a new id meanwhile, [`Error::Conflict`] if other processes
    /// changed the value during each of the 64 attempts, [`Error::Decode`] if the value is not a `T`,
    /// [`Error::Encode`] and [`Error::TooLarge`] as for [`set`](Self::set), [`Error::Unavailable`] if the
    /// store is down, or if the update waited for 30 s behind other updates of this session. After
    /// [`Error::InDoubt`] the update may have been stored, so repeating it may apply it twice.
    ///
    /// # Cancellation
    /// The value is either unchanged or fully updated. Drop the future before you start another operation on
    /// the session: the operations of a request wait for each other.
    pub async fn update<T, F>(&self, key: &str, mut f: F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> T + Send,
    {
        let updated = self.update_typed(key, false, |value| Ok::<_, Error>(Some(f(value)))).await?;
        Ok(updated.expect("the closure returns a value"))
    }

    /// Updates one value like [`update`](Self::update), with a closure that may fail, and that deletes the
    /// key by returning `None`. Returns the new value.
    ///
    /// Use it for decisions that must be made once, such as redeeming a coupon. A request that may not store
    /// anything gets an error, whatever its method.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// #[derive(Debug)]
    /// enum Refused {
    ///     NoCoupon,
    ///     Session(session_core::Error),
    /// }
    ///
    /// impl From<session_core::Error> for Refused {
    ///     fn from(error: session_core::Error) -> Self {
    ///         Self::Session(error)
    ///     }
    /// }
    ///
    /// session.set("coupon", "SPRING")?;
    /// session.save().await?;
    /// // Of any number of requests at once, one redeems it.
    /// let redeem = |coupon: Option<String>| coupon.map(|_| None).ok_or(Refused::NoCoupon);
    /// assert!(session.try_update("coupon", redeem).await.is_ok());
    /// assert!(matches!(session.try_update("coupon", redeem).await, Err(Refused::NoCoupon)));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// Errors of the closure, after which nothing is written; and the errors of [`update`](Self::update).
    pub async fn try_update<T, F, E>(&self, key: &str, f: F) -> Result<Option<T>, E>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> Result<Option<T>, E> + Send,
        E: From<Error> + Send,
    {
        self.update_typed(key, true, f).await
    }

    async fn update_typed<T, F, E>(&self, key: &str, strict: bool, mut f: F) -> Result<Option<T>, E>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> Result<Option<T>, E> + Send,
        E: From<Error> + Send,
    {
        let limits = &self.limits_of_a_value();
        let mut step = |bytes: Option<&[u8]>| -> Result<_, E> {
            let value = match bytes {
                Some(bytes) => self.decode(key, bytes)?,
                None => None,
            };
            let is_absent = value.is_none();
            let new: Option<T> = f(value)?;
            let encoded = new.as_ref().map(|new| value::encode(key, new, limits)).transpose()?;
            // Leaving a value alone that could not be decoded is not a change, and does not delete it.
            let is_change = encoded.is_some() || !is_absent;
            Ok((new, is_change.then_some(encoded)))
        };
        // The result of the closure's last run; the executor handles encoded values only.
        let mut outcome = Ok(None);
        let mut run = |bytes: Option<&[u8]>| match step(bytes) {
            Ok((new, encoded)) => {
                outcome = Ok(new);
                encoded
            }
            Err(error) => {
                outcome = Err(error);
                None
            }
        };
        self.operations.update(&session_settings::stored_key(key), strict, &mut run).await?;
        outcome
    }

    /// Returns the limits for encoding one value. Its size is checked with the session's, because a session
    /// that is too large may still become smaller.
    fn limits_of_a_value(&self) -> Limits {
        Limits { bytes: usize::MAX, ..self.limits() }
    }

    fn limits(&self) -> Limits {
        self.operations.shared().rules.limits
    }

    fn put(&self, key: &str, value: Option<Arc<[u8]>>) -> Result<(), Error> {
        self.operations.state().put(key, value, self.operations.shared())
    }
}

/// Flash messages, by category, in the order in which they were added.
///
/// Adding and taking are atomic at the store: no message is lost or shown twice, whatever other requests do.
/// All messages of a category must have the same type.
impl LoadedSession {
    /// Adds a message to a category.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// // The handler of a form, which responds with a redirect:
    /// session.add_flash("info", "Your order was sent.").await?;
    /// // The page that the redirect leads to:
    /// assert_eq!(session.take_flash::<String>("info").await?, ["Your order was sent."]);
    /// assert!(session.take_flash::<String>("info").await?.is_empty());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] if unread messages fill the session; and the errors of [`update`](Self::update).
    pub async fn add_flash<T>(&self, category: &str, message: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized + Sync,
    {
        let limits = self.limits_of_a_value();
        // The list of messages is one level of nesting.
        let inner = Limits { depth: limits.depth - 1, ..limits };
        let message = value::encode(category, message, &inner)?;
        let mut add = |list: Option<&[u8]>| Some(Some(value::append(list, &message).into()));
        self.operations.update(&session_settings::flash_key(category), false, &mut add).await
    }

    /// Returns the messages of a category and removes them from the session.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    /// enum Notice {
    ///     Saved,
    ///     Sent { to: String },
    /// }
    ///
    /// session.add_flash("notices", &Notice::Saved).await?;
    /// session.add_flash("notices", &Notice::Sent { to: "ada".into() }).await?;
    /// let notices: Vec<Notice> = session.take_flash("notices").await?;
    /// assert_eq!(notices, [Notice::Saved, Notice::Sent { to: "ada".into() }]);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Decode`] if a message is not a `T`, in which case all messages stay; and the errors of
    /// [`update`](Self::update).
    pub async fn take_flash<T: DeserializeOwned + Send>(
        &self,
        category: &str,
    ) -> Result<Vec<T>, Error> {
        let stored = session_settings::flash_key(category);
        if self.operations.state().value(&stored).is_none() {
            return Ok(Vec::new());
        }
        let mut taken = Ok(Vec::new());
        let mut take = |list: Option<&[u8]>| {
            let (mut messages, mut left) = (Vec::new(), None);
            // Discards the result of an earlier run, whose messages another request has taken.
            taken = Ok(Vec::new());
            for message in value::elements(list?) {
                match self.decode(category, message) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => left = Some(value::append(left.as_deref(), message)),
                    Err(error) => {
                        taken = Err(error);
                        return None;
                    }
                }
            }
            taken = Ok(messages);
            Some(left.map(Into::into))
        };
        self.operations.update(&stored, false, &mut take).await?;
        taken
    }
}

/// New ids, logins and logouts.
impl LoadedSession {
    /// Gives the session a new id with the next save: at the end of the request, or with [`save`](Self::save)
    /// or [`update`](Self::update) if one is called before. This call does not access the store. The old id
    /// is valid until that save, and invalid afterwards.
    ///
    /// Use it for changes of privilege other than a login, such as dropping a role or changing the password.
    /// For logins use [`log_in`](Self::log_in). A second call while a new id is pending changes nothing.
    ///
    /// If another request gives the session a new id at the same time, one of the two wins. The changes of
    /// the other fail with [`Error::Gone`]; if it has no changes, it succeeds.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("role", "guest")?;
    /// session.save().await?;
    /// let before = session.id()?;
    /// session.set("role", "admin")?;
    /// session.regenerate()?; // stored together with the role, at the end of the request
    /// assert_ne!(session.id()?.text().as_bytes(), before.text().as_bytes());
    /// assert_eq!(session.id()?.key(), before.key());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Random`] if the operating system's random generator fails, [`Error::HeadSent`] after the
    /// response's head was sent, [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn regenerate(&self) -> Result<(), Error> {
        let shared = self.operations.shared();
        self.operations.state().regenerate(shared, shared.clock.now())
    }

    /// Logs an owner in with the next save: the session gets a new id and belongs to `owner` in one atomic
    /// operation, and its absolute lifetime starts anew. This call does not access the store. If the save
    /// fails, the login has not happened, and the visitor's old id stays valid.
    ///
    /// `owner` is opaque text, such as an account number, of 1 to 1,024 bytes including the configured
    /// `namespace`. The values of an anonymous session stay; treat them as untrusted input. A session that
    /// belongs to another owner loses its stored values. A login that loses a race, for example after a
    /// double click, gets a session of its own.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// // ... the password was right
    /// session.log_in("ada")?;
    /// session.label("Firefox on Linux")?;
    /// assert_eq!(session.owner().as_deref(), Some("ada"));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Invalid`] for an empty owner, [`Error::TooLarge`] for a longer one, [`Error::Random`] if the
    /// operating system's random generator fails, [`Error::HeadSent`] after the response's head was sent,
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn log_in(&self, owner: &str) -> Result<(), Error> {
        let shared = self.operations.shared();
        self.operations.state().log_in(owner, shared, shared.clock.now())
    }

    /// Sets the label of the session in the list of the owner's sessions, such as the name of a device: at
    /// most 1,024 bytes. The label is stored with the login. Does nothing if nobody is logged in.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.log_in("ada")?;
    /// session.label("Firefox on Linux")?;
    /// session.save().await?;
    /// assert_eq!(manager.sessions_of("ada").await?[0].label, "Firefox on Linux");
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a longer label, [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn label(&self, label: &str) -> Result<(), Error> {
        self.operations.state().set_label(label)
    }

    /// Returns the owner that is logged in, as passed to [`log_in`](Self::log_in); `None` if nobody is.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// assert_eq!(session.owner(), None);
    /// session.log_in("ada")?;
    /// assert_eq!(session.owner().as_deref(), Some("ada"));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn owner(&self) -> Option<String> {
        let rules = &self.operations.shared().rules;
        self.operations.state().login().map(|login| rules.shown_owner(&login.owner).to_owned())
    }

    /// Returns whether an owner is logged in and logged in at most `duration` ago. Use it before actions that
    /// require a recent login, such as changing the password.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// use std::time::Duration;
    ///
    /// session.log_in("ada")?;
    /// match session.authenticated_within(Duration::from_secs(10 * 60)) {
    ///     true => println!("here is the form for a new password"),
    ///     false => println!("please log in again"),
    /// }
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn authenticated_within(&self, duration: Duration) -> bool {
        let now = self.operations.shared().clock.now();
        self.operations.state().login().is_some_and(|login| now.since(login.at) <= duration)
    }

    /// Starts a new session in a request that may store nothing because its id is superseded. Use it for
    /// pages that must store something before a login, such as a form token. In any other request it does
    /// nothing.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # use http::header::{COOKIE, SET_COOKIE};
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # handle.load().await?.set("cart", &1)?;
    /// # let mut response = http::Response::new(());
    /// # handle.finish(&mut response).await?;
    /// # let cookie = response.headers()[SET_COOKIE].to_str().unwrap();
    /// # let cookie = cookie.split_once(';').unwrap().0;
    /// # let request = http::Request::builder().header(COOKIE, cookie).body(()).unwrap();
    /// # let handle = manager.start(&request);
    /// # handle.load().await?.log_in("ada")?;
    /// # handle.finish(&mut http::Response::new(())).await?;
    /// // The page of a login form. Another request of the browser has just logged in, so the id of this one
    /// // is superseded, and it sees nothing of the session.
    /// let handle = manager.start(&request);
    /// let session = handle.load().await?;
    /// assert_eq!(session.owner(), None);
    ///
    /// session.start_anew()?;
    /// session.set("form_token", "made at random")?; // without `start_anew`, this would not be stored
    /// let mut response = http::Response::new(());
    /// handle.finish(&mut response).await?;
    /// assert!(response.headers().contains_key(SET_COOKIE)); // of a session of its own
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] after the response's head was sent, [`Error::Finished`] after
    /// [`finish`](crate::SessionHandle::finish).
    pub fn start_anew(&self) -> Result<(), Error> {
        self.operations.state().start_anew(self.operations.shared().clock.now())
    }

    /// Ends the session at once and for good, and starts a new, empty session with a new id, which is stored
    /// only if a value is set in it. Pending changes are dropped. The response clears the client's cookie,
    /// including the cookie of a session that had already ended.
    ///
    /// A session that gets a new id at the same time is ended, too.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.log_in("ada")?;
    /// session.save().await?;
    /// session.destroy().await?;
    /// assert_eq!(session.owner(), None);
    /// assert!(manager.sessions_of("ada").await?.is_empty());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] if the client's id was replaced before this request loaded the session; the session
    /// lives on under its new id. [`Error::Unavailable`] if the store is down; the session may live on then.
    ///
    /// # Cancellation
    /// The session has either ended or is unchanged.
    pub async fn destroy(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Destroy).await
    }
}

/// Saving, reloading, and the session's lifetime.
impl LoadedSession {
    /// Saves the changes to the store now; the session can still be read and changed afterwards.
    ///
    /// Use it in a task that runs on after the response, for example to stream the body. Such a task keeps a
    /// clone of the session, and [reloads](Self::reload) it before it changes a value. The client can't be
    /// sent a cookie any more, so a new session, a new id and a logout must come before the response.
    ///
    /// ```
    /// use http::{Request, Response};
    /// use session_core::{Error, Manager};
    ///
    /// async fn export(manager: &Manager, request: Request<()>) -> Result<Response<String>, Error> {
    ///     let handle = manager.start(&request);
    ///     let session = handle.load().await?;
    ///     session.set("export", "started")?;
    ///     let mut response = Response::default();
    ///     handle.finish(&mut response).await?;
    ///     let task = async move {
    ///         session.reload().await?;
    ///         session.set("export", "done")?;
    ///         session.save().await
    ///     };
    ///     // ... the runtime runs the task while the body is sent
    /// #   let _: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(task);
    ///     Ok(response)
    /// }
    /// ```
    ///
    /// # Errors
    /// As [`finish`](crate::SessionHandle::finish); and [`Error::Gone`] if the session ended or got a new id
    /// meanwhile, whatever the request's method.
    pub async fn save(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Save).await
    }

    /// Loads the values from the store again, including the changes of other requests. Pending changes stay
    /// pending. A new session is unchanged.
    ///
    /// With it a task that runs for long, such as an event stream or a WebSocket, learns that its visitor
    /// logged out. A reload does not count as use of the session, so a stream does not keep an idle session
    /// alive. Where the client's WebSocket messages should count as use, [load](crate::SessionHandle::load)
    /// the session instead. Nothing is saved when the task ends.
    ///
    /// ```
    /// use session_core::{Error, LoadedSession};
    ///
    /// /// Sends messages until the client disconnects or the session ends.
    /// async fn stream<C>(session: LoadedSession, mut connection: C) -> Result<(), Error>
    /// where
    ///     C: AsyncFnMut(String) -> bool, // waits for the next message, and sends it
    /// {
    ///     while let Some(owner) = session.owner() {
    ///         if !connection(format!("message for {owner}")).await {
    ///             break;
    ///         }
    ///         match session.reload().await {
    ///             Ok(()) => {}
    ///             // The visitor logged out or in, or the session expired: stop sending.
    ///             Err(Error::Gone) => break,
    ///             // The store is down, so it is unknown whether the session lives on: stop, too.
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or got a new id meanwhile; pending changes are lost. The
    /// exception is a pending login: it succeeds, and gets a session of its own. [`Error::Unavailable`] if
    /// the store is down.
    ///
    /// # Cancellation
    /// Safe: nothing is written.
    pub async fn reload(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Reload).await
    }

    /// Loads the values from the store again like [`reload`](Self::reload), but a finished session stays
    /// finished.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Refresh).await
    }

    /// Returns when the session was created; for a new session, now.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// let age = manager.now().since(session.created());
    /// assert!(age.as_secs() < 60);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn created(&self) -> Timestamp {
        self.operations.state().created()
    }

    /// Returns how long the session lives from now if it is not used again.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// use std::time::Duration;
    ///
    /// // By default a session ends after 30 minutes without a request.
    /// assert!(session.remaining() <= Duration::from_secs(30 * 60));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn remaining(&self) -> Duration {
        let shared = self.operations.shared();
        self.operations.state().remaining(shared, shared.clock.now())
    }

    /// Turns "remember me" on or off for this session.
    ///
    /// With `true` the cookie is persistent, and the session lives for the configured `remember` (30 days by
    /// default), whether it is used or not, counted from the login, or from the session's creation if nobody
    /// is logged in. The configuration of the current process applies at each request, so a changed
    /// `remember` also applies to existing sessions. With `false` the cookie's persistence and the session's
    /// lifetime are the configured ones; a session that is older than `absolute` ends with this request.
    ///
    /// This call replaces the lifetime and persistence that [`set_lifetime`](Self::set_lifetime) and
    /// [`set_persistent`](Self::set_persistent) set before; of the three, the last call wins. The setting
    /// survives a new id and a login of the same owner; a login of another owner drops it. On a new session
    /// without values nothing is stored and no cookie is sent.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// // The login form has a box "remember me".
    /// # let ticked = true;
    /// session.log_in("ada")?;
    /// session.remember(ticked)?;
    /// assert!(session.is_remembered());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the setting would make the session exceed a limit, [`Error::HeadSent`] on a new
    /// session after the response's head was sent, [`Error::Finished`] after
    /// [`finish`](crate::SessionHandle::finish).
    pub fn remember(&self, on: bool) -> Result<(), Error> {
        self.operations.state().remember(on, self.operations.shared())
    }

    /// Returns whether "remember me" is [on](Self::remember).
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// assert!(!session.is_remembered());
    /// session.remember(true)?;
    /// assert!(session.is_remembered());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn is_remembered(&self) -> bool {
        self.operations.state().is_remembered()
    }

    /// Returns the session's lifetime: the one that was set for it, or the configured one.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// let lifetime = session.lifetime();
    /// println!("ends after {:?} without use, and after {:?} at the latest", lifetime.idle, lifetime.absolute);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn lifetime(&self) -> Lifetime {
        self.operations.state().lifetime(self.operations.shared())
    }

    /// Sets a lifetime for this session, in whole milliseconds. `absolute` counts from the login, or from the
    /// session's creation if nobody is logged in.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// use std::time::Duration;
    /// use session_core::Lifetime;
    ///
    /// // At a terminal that many people use:
    /// let lifetime = Lifetime { idle: Duration::from_secs(120), absolute: Duration::from_secs(900) };
    /// session.set_lifetime(lifetime)?;
    /// assert_eq!(session.lifetime(), lifetime);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] if one of the durations is shorter than a second, [`Error::TooLarge`] if the setting
    /// would make the session exceed a limit, [`Error::Finished`] after
    /// [`finish`](crate::SessionHandle::finish).
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), Error> {
        lifetime.validate()?;
        self.operations.state().set_lifetime(lifetime, self.operations.shared())
    }

    /// Returns whether the cookie is persistent: whether it survives the end of the browser.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// assert!(!session.is_persistent()); // by default, the cookie ends with the browser
    /// session.set_persistent(true)?;
    /// assert!(session.is_persistent());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn is_persistent(&self) -> bool {
        self.operations.state().is_persistent(self.operations.shared())
    }

    /// Makes the cookie persistent or not, with the next response. A persistent cookie has a `Max-Age` and
    /// survives the end of the browser.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("language", "cy")?;
    /// session.set_persistent(true)?; // kept with a Max-Age; the session lives no longer for that
    /// # let mut response = http::Response::new(());
    /// # handle.finish(&mut response).await?;
    /// # assert!(response.headers()["set-cookie"].to_str().unwrap().contains("Max-Age="));
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the setting would make the session exceed a limit, [`Error::Finished`] after
    /// [`finish`](crate::SessionHandle::finish).
    pub fn set_persistent(&self, persistent: bool) -> Result<(), Error> {
        self.operations.state().set_persistent(persistent, self.operations.shared())
    }
}

impl Session for LoadedSession {
    fn id(&self) -> Result<SessionId, Error> {
        Self::id(self)
    }

    fn get_encoded(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.operations.state().value(&session_settings::stored_key(key)).map(<[u8]>::to_vec))
    }

    fn set_encoded(&self, key: &str, value: Vec<u8>) -> Result<(), Error> {
        let depth = self.limits().depth;
        match value::check(&value, depth) {
            Ok(()) => self.put(&session_settings::stored_key(key), Some(value.into())),
            Err(value::Malformed::TooDeep) => {
                Err(Error::TooLarge { what: "value depth", limit: depth })
            }
            Err(value::Malformed::NotOneValue) => {
                Err(Error::Encode { key: key.into(), given: "encoded bytes" })
            }
        }
    }

    fn is_lenient(&self) -> bool {
        self.lenient
    }

    fn delete(&self, key: &str) -> Result<(), Error> {
        Self::delete(self, key)
    }
}

impl fmt::Debug for LoadedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoadedSession").field(&*self.operations.state()).finish()
    }
}
