//! A loaded session, as handlers use it.

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

/// A session whose values are in memory: what [`SessionHandle::load`](crate::SessionHandle::load)
/// returns.
///
/// It is cheap to clone and free to move into tasks; all clones see the same values. Reading and changing
/// values is synchronous and asks no store; [`finish`](crate::SessionHandle::finish) writes what changed,
/// in one save. The operations that are `async` act at the store at once.
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
    /// A stored value of another type than the wanted one counts as none.
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

    /// Returns the same session, where a stored value that is not of the wanted type counts as none, in
    /// [`get`](Self::get), [`take`](Self::take), [`update`](Self::update), [`try_update`](Self::try_update) and,
    /// message by message, [`take_flash`](Self::take_flash).
    ///
    /// For values whose type changed with a new version of the program: without it, what visitors have in
    /// their sessions is [`Error::Decode`] until these end. What is not of the wanted type is never deleted,
    /// not even by `take`, so that servers of the old version, which run beside the new ones for a while, still
    /// find it; the next value that is set replaces it.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("cart", &["milk", "tea"])?; // by an older version: names alone
    ///
    /// let session = session.lenient();
    /// let cart: Option<Vec<(String, u32)>> = session.get("cart")?; // names and quantities by now
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

    /// Decodes a value; to none, if it is of another type and the session is lenient.
    fn decode<T: DeserializeOwned>(&self, key: &str, bytes: &[u8]) -> Result<Option<T>, Error> {
        value::decode_leniently(key, bytes, &self.limits(), self.lenient)
    }

    /// Returns the session's id: the new one, if one is pending. The id of a new session is made at the
    /// first call, before it is stored.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// let id = session.id()?;
    /// assert_eq!(id.text().len(), 43); // what the client carries: a secret
    /// assert_eq!(session.id()?.key(), id.key());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Random`] if a new id is needed and can't be made.
    pub fn id(&self) -> Result<SessionId, Error> {
        self.operations.state().id(self.operations.shared())
    }

    /// Returns what names the session for as long as it lives, in logs and lists; no secret. A session that is
    /// not stored yet gets another key with a new id.
    ///
    /// Where the request may store nothing, because its id was replaced a moment ago or its session ended
    /// meanwhile, it is the key of a new id, which names no stored session.
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
    /// println!("order placed in session {key}"); // 16 characters that open nothing
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

    /// Whether this request has no stored session: it is not stored yet, or the request may store nothing,
    /// because its id was replaced a moment ago or its session ended meanwhile.
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

    /// Returns a key's value, or `None` if it has none. Only this value is decoded.
    ///
    /// `T` must not look at the session while it is decoded: the session is locked.
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
    /// [`Error::Decode`] if the value is not a `T`; the session stays usable, and [`lenient`](Self::lenient)
    /// helps where types change.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, Error> {
        match self.operations.state().value(&session_settings::stored_key(key)) {
            Some(bytes) => self.decode(key, bytes),
            None => Ok(None),
        }
    }

    /// Sets a key. Setting an equal value is no change.
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
    /// [`Error::Encode`] if the value can't be represented, [`Error::TooLarge`] over a limit,
    /// [`Error::HeadSent`] for the first value of a new session after the response's head,
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish); the session is as it was then.
    pub fn set<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), Error> {
        let bytes = value::encode(key, value, &self.limits_of_a_value())?;
        self.put(&session_settings::stored_key(key), Some(bytes))
    }

    /// Deletes a key; one that is not there is no error.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// session.set("draft", "Dear")?;
    /// session.delete("draft")?;
    /// session.delete("draft")?; // no error
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

    /// Returns a key's value and deletes the key. Two requests at once may both read it; where that
    /// matters, [`try_update`](Self::try_update) to nothing.
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
    /// [`Error::Decode`] if the value is not a `T`; it stays where it is then. [`Error::Finished`] after
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

    /// Deletes all keys that are there. Flash messages, lifetime and the like stay, and so does a key
    /// that another request adds meanwhile.
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

    /// Returns the keys that have values, sorted.
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

    /// Reads, changes and writes one value atomically at the store, whatever other requests do: a
    /// thousand parallel increments end at a thousand. Returns the new value.
    ///
    /// `f` may run more than once. Pending changes of other keys wait for the end of the request, unless a
    /// new id is pending: then all is written in the one save of this update. A new session, which no
    /// other request can know, is updated in memory and stored at the end of the request.
    ///
    /// In a safe request (GET, HEAD) whose session ended or got a new id meanwhile, the value is computed
    /// and not stored; [`try_update`](Self::try_update) tells.
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
    /// [`Error::Gone`] if the session ended or got a new id meanwhile, [`Error::Conflict`] if other
    /// processes changed the value each time, [`Error::Decode`] if the value is not a `T`,
    /// [`Error::Encode`] and [`Error::TooLarge`] as [`set`](Self::set), [`Error::Unavailable`] if the
    /// store is down, or if more updates of this session wait than can be served in 30 s. After
    /// [`Error::InDoubt`] the update may have happened: trying again may count twice.
    ///
    /// # Cancellation
    /// The value is as it was or as it was to become. Drop the future before another operation on the
    /// session: operations of a request wait for each other.
    pub async fn update<T, F>(&self, key: &str, mut f: F) -> Result<T, Error>
    where
        T: Serialize + DeserializeOwned + Send,
        F: FnMut(Option<T>) -> T + Send,
    {
        let updated = self.update_typed(key, false, |value| Ok::<_, Error>(Some(f(value)))).await?;
        Ok(updated.expect("the closure returns a value"))
    }

    /// Like [`update`](Self::update), with a closure that may fail, and that deletes the key by
    /// returning `None`. Returns the new value.
    ///
    /// For decisions that must be made once, such as to redeem a coupon: in a request that may not store
    /// anything, it is an error whatever the method.
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
    /// The closure's own, after which nothing is written; and those of [`update`](Self::update).
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
            // To leave what could not be read is no change, and no end of it.
            let is_change = encoded.is_some() || !is_absent;
            Ok((new, is_change.then_some(encoded)))
        };
        // The last run's outcome: the executor knows encoded values only.
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

    /// The limits of one value: its size counts with the session's, where one that shrinks is
    /// allowed even if it is too large still.
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

/// Flash messages, by category, in the order of their adding.
///
/// Adding and taking are atomic at the store: no message is lost or shown twice, whatever other
/// requests do. A category holds messages of one type.
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
    /// [`Error::TooLarge`] if the messages that nobody reads fill the session; and those of
    /// [`update`](Self::update).
    pub async fn add_flash<T>(&self, category: &str, message: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized + Sync,
    {
        let limits = self.limits_of_a_value();
        // One level is the list's own.
        let inner = Limits { depth: limits.depth - 1, ..limits };
        let message = value::encode(category, message, &inner)?;
        let mut add = |list: Option<&[u8]>| Some(Some(value::append(list, &message).into()));
        self.operations.update(&session_settings::flash_key(category), false, &mut add).await
    }

    /// Takes the messages of a category: they are gone from the session.
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
    /// [`Error::Decode`] if a message is not a `T`, in which case all stay; and those of
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
            // Of an earlier run, whose messages another request took.
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

/// Who holds the session, and who is logged in.
impl LoadedSession {
    /// Gives the session a new id with the next save: at the end of the request, or with
    /// [`save`](Self::save) or [`update`](Self::update) if they come before. It asks no store. The old id
    /// is as good as before until then, and opens nothing afterwards.
    ///
    /// For changes of privilege other than a login, which is [`log_in`](Self::log_in): a role that is
    /// dropped, a change of password. A second call while one is pending changes nothing.
    ///
    /// If another request gives the session a new id at the same time, one of the two wins. The other's
    /// changes fail with [`Error::Gone`]; where it has none, nothing is lost and nothing is said.
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
    /// [`Error::Random`] if no id can be made, [`Error::HeadSent`] after the response's head,
    /// [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn regenerate(&self) -> Result<(), Error> {
        let shared = self.operations.shared();
        self.operations.state().regenerate(shared, shared.clock.now())
    }

    /// Logs an owner in, with the next save: the session gets a new id and belongs to `owner`, in the
    /// same instant, and its absolute lifetime starts anew. It asks no store; if the save fails, nothing
    /// has happened, and the visitor's old id is as good as before.
    ///
    /// `owner` is opaque text of 1 to 1,024 bytes, the configured `namespace` included, such as an account's
    /// number. What an anonymous
    /// session held stays, and is the client's word. A session that belongs to another owner is emptied of
    /// what was stored in it. A login that loses a race, of a double click for instance, goes on in a
    /// session of its own.
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
    /// [`Error::Invalid`] for an empty owner, [`Error::TooLarge`] for a longer one, [`Error::Random`] if no id
    /// can be made, [`Error::HeadSent`] after the response's head, [`Error::Finished`] after
    /// [`finish`](crate::SessionHandle::finish).
    pub fn log_in(&self, owner: &str) -> Result<(), Error> {
        let shared = self.operations.shared();
        self.operations.state().log_in(owner, shared, shared.clock.now())
    }

    /// Sets what a list of the owner's sessions is to call this one, such as the name of a device: 1,024
    /// bytes at most. It is stored with the login. Does nothing unless someone is logged in.
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

    /// Returns the account that is logged in, as [`log_in`](Self::log_in) was told.
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

    /// Whether someone is logged in, and did so no longer ago than this: for what wants a fresh login,
    /// such as a change of password.
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

    /// Starts a session of its own in a request that may store nothing, because its id was replaced a
    /// moment ago: for pages that must store something before a login, such as a form's token. Any other
    /// request goes on as it is.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let handle = manager.start(&http::Request::new(()));
    /// # let session = handle.load().await?;
    /// // The page of a login form: visitors with a session of their own keep it.
    /// session.start_anew()?;
    /// session.set("form_token", "made at random")?;
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] after the response's head, [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn start_anew(&self) -> Result<(), Error> {
        self.operations.state().start_anew(self.operations.shared().clock.now())
    }

    /// Ends the session, at once and for good, and starts a new, empty one with a new id, which is
    /// stored only if something is put into it. Pending changes are dropped. The response clears the
    /// client's cookie, also one of a session that had ended before.
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
    /// [`Error::Gone`] if the client's id was replaced before this request loaded the session: it goes on
    /// under its new id. [`Error::Unavailable`] if the store is down: the session may live on then.
    ///
    /// # Cancellation
    /// The session has ended, or lives on as it was.
    pub async fn destroy(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Destroy).await
    }
}

/// The store, and time.
impl LoadedSession {
    /// Writes what changed to the store now, and goes on with the session.
    ///
    /// It is the way to save in a task that goes on after the response, and streams its body, for instance.
    /// Such a task keeps a clone of the session, and [reloads](Self::reload) it before it changes something.
    /// The client can't be told anything any more: a first value, a new id and the end of a session are for
    /// before.
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
    /// As [`finish`](crate::SessionHandle::finish); and [`Error::Gone`] if the session ended or got a new
    /// id meanwhile, whatever the method.
    pub async fn save(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Save).await
    }

    /// Loads the stored values anew, with what other requests changed, below the pending changes. A new
    /// session stays as it is.
    ///
    /// It is how a task that lives longer than a page takes, such as a stream of events or a WebSocket, learns
    /// that its visitor logged out. It doesn't count as a use: a stream keeps no idle session alive. Where
    /// what the client sends on a WebSocket is a use, [load](crate::SessionHandle::load) the session instead.
    /// At the task's end nothing is written.
    ///
    /// ```
    /// use session_core::{Error, LoadedSession};
    ///
    /// /// Sends news until the client goes away or the session ends.
    /// async fn stream<C>(session: LoadedSession, mut connection: C) -> Result<(), Error>
    /// where
    ///     C: AsyncFnMut(String) -> bool, // waits for the next news, and sends them
    /// {
    ///     while let Some(owner) = session.owner() {
    ///         if !connection(format!("news for {owner}")).await {
    ///             break;
    ///         }
    ///         match session.reload().await {
    ///             Ok(()) => {}
    ///             // The visitor logged out, or in, or the session expired: what follows is for nobody.
    ///             Err(Error::Gone) => break,
    ///             // The store is down for a moment: the session may live on, so better no news than old ones.
    ///             Err(error) => return Err(error),
    ///         }
    ///     }
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    /// [`Error::Gone`] if the session ended or got a new id meanwhile; pending changes are lost, but for a
    /// pending login, which succeeds and goes on in a session of its own. [`Error::Unavailable`] if the store
    /// is down.
    ///
    /// # Cancellation
    /// Safe: nothing is written.
    pub async fn reload(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Reload).await
    }

    /// Loads the stored values anew, as [`reload`](Self::reload) does; a finished session stays finished.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        self.operations.reach(Goal::Refresh).await
    }

    /// Returns when the session was created; now, for a new one.
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

    /// Remembers the visitor, or no longer: what a login form's "remember me" asks for.
    ///
    /// The cookie is kept when the browser ends, and the session lives for as long as the configuration's
    /// `remember` says (30 days by default), used or not, from the login, or from the session's creation
    /// where nobody is logged in. It is the configuration's duration at each request, so a changed one
    /// applies to sessions that exist. With `false` the session lives, and the cookie is kept, as the
    /// configuration says for all: one that is older than `absolute` ends with this request.
    ///
    /// It takes the place of a lifetime and persistence that were [set](Self::set_lifetime) before; of these
    /// calls the last one decides. A new id and a login as the same owner leave it; a login as another owner
    /// ends what was stored before it. On a new session that stays empty nothing is stored or announced.
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
    /// [`Error::TooLarge`] if the session has no room for it, [`Error::HeadSent`] on a new session after the
    /// response's head, [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn remember(&self, on: bool) -> Result<(), Error> {
        self.operations.state().remember(on, self.operations.shared())
    }

    /// Whether the visitor is [remembered](Self::remember).
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

    /// Returns the session's lifetime: its own, or the manager's.
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

    /// Gives this session a lifetime of its own, in whole milliseconds; `absolute` counts from the login,
    /// or from the session's creation where nobody is logged in.
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
    /// [`Error::Config`] if one of them is shorter than a second, [`Error::TooLarge`] if the session
    /// has no room for it, [`Error::Finished`] after [`finish`](crate::SessionHandle::finish).
    pub fn set_lifetime(&self, lifetime: Lifetime) -> Result<(), Error> {
        lifetime.validate()?;
        self.operations.state().set_lifetime(lifetime, self.operations.shared())
    }

    /// Whether the client keeps the token when the browser ends.
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

    /// Makes the client keep the token when the browser ends, or not. The next response says so.
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
    /// [`Error::TooLarge`] if the session has no room for it, [`Error::Finished`] after
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
