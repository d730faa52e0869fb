//! [`Record`]: a session as it is stored.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use super::{Changes, Touch, Values, Verifier};
use crate::{Error, SessionKey, Timestamp};

use super::list::Summary;

/// Something that a provider found in a stored record and wants to see again when the record is
/// saved: the ciphertext that was read, for instance. It is handed to
/// [`save`](super::Provider::save) as [`Changes::seen`].
pub type Note = Option<Arc<dyn Any + Send + Sync>>;

/// Who a session belongs to, since when.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The account, as opaque text of 1 to 1,024 bytes; providers that can, index it.
    pub owner: Box<str>,
    /// When the owner logged in; the absolute lifetime counts from here.
    pub at: Timestamp,
    /// What a list of the owner's sessions calls this one, such as the name of a device. May be empty.
    pub label: Box<str>,
}

// The owner is a person's account: an address, as often as not.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("at", &self.at).finish_non_exhaustive()
    }
}

/// A session as providers keep it, under its [key](SessionKey).
#[derive(Clone)]
pub struct Record {
    /// Which client holds the session: the only one whose saves are accepted.
    pub holder: Verifier,
    /// When the session was created. Never changes.
    pub created: Timestamp,
    /// When the session got its current secret; at first, when it was created.
    pub renewed: Timestamp,
    /// When the session was last used, give or take the manager's `touch_every`.
    pub used: Timestamp,
    /// The instant from which the record is gone, collected or not.
    pub expires: Timestamp,
    /// Who is logged in, if someone is.
    pub login: Option<Box<Login>>,
    /// A fingerprint of what the client was told last beside its token: the cookie's attributes and, where it
    /// has one, the Max-Age and which third of it passed then. Only the core computes and compares it.
    pub cookie: u32,
    /// The values.
    pub values: Values,
    /// What the provider wants to see again in a save. Not stored, and not compared.
    pub note: Note,
}

impl Record {
    /// Returns the record of a session that `holder` creates now, without values.
    pub fn new(holder: Verifier, now: Timestamp, expires: Timestamp) -> Self {
        Self {
            holder,
            created: now,
            renewed: now,
            used: now,
            expires,
            login: None,
            cookie: 0,
            values: Values::new(),
            note: None,
        }
    }

    /// Returns whether the record has not expired by `now`.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// Returns the owner, if someone is logged in.
    pub fn owner(&self) -> Option<&str> {
        self.login.as_deref().map(|login| &*login.owner)
    }

    /// Checks a save and applies its changes. A provider that has exclusive access to the record needs to do
    /// nothing else.
    ///
    /// Applying the same changes again is harmless where they set a new secret: a record that has
    /// that secret already accepts them.
    ///
    /// # Errors
    /// In this order: [`Error::Gone`] if the record is expired, or its holder is neither `holder` nor
    /// the one that these changes set; [`Error::Conflict`] if an expected value is not the stored one;
    /// [`Error::TooLarge`] if the result is over a limit and larger than before. Nothing is changed
    /// then.
    pub fn apply(
        &mut self,
        holder: &Verifier,
        changes: &Changes,
        now: Timestamp,
    ) -> Result<(), Error> {
        let is_held = self.holder == *holder || changes.secret_is(&self.holder);
        if !self.is_live(now) || !is_held {
            return Err(Error::Gone);
        }
        let holds = |expected: &super::Expected| {
            self.values.get(&expected.key) == expected.value.as_deref()
        };
        if !changes.expected.iter().all(holds) {
            return Err(Error::Conflict);
        }
        self.values.apply(changes, &changes.limits)?;
        (self.used, self.expires) = changes.expiry.apply(self.used, self.expires);
        if let Some(login) = &changes.login {
            self.login.clone_from(login);
        }
        if let Some(secret) = &changes.secret {
            self.holder = secret.holder;
            self.renewed = secret.at;
        }
        if let Some(cookie) = changes.cookie {
            self.cookie = cookie;
        }
        Ok(())
    }

    /// Applies a touch: both times only move forward.
    ///
    /// # Errors
    /// [`Error::Gone`] if the record is expired.
    pub fn touch(&mut self, touch: Touch, now: Timestamp) -> Result<(), Error> {
        if !self.is_live(now) {
            return Err(Error::Gone);
        }
        self.used = self.used.max(touch.used);
        self.expires = self.expires.max(touch.expires);
        Ok(())
    }

    /// Returns the record's entry in a list, if someone is logged in.
    pub fn summary(&self, key: SessionKey) -> Option<Summary> {
        self.login.as_deref().map(|login| Summary {
            key,
            created: self.created,
            used: self.used,
            expires: self.expires,
            authenticated: login.at,
            label: login.label.clone(),
        })
    }
}

/// Compares everything but the note.
impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        let times = |record: &Self| (record.created, record.renewed, record.used, record.expires);
        self.holder == other.holder
            && times(self) == times(other)
            && self.login == other.login
            && self.cookie == other.cookie
            && self.values == other.values
    }
}

impl Eq for Record {}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("created", &self.created)
            .field("renewed", &self.renewed)
            .field("used", &self.used)
            .field("expires", &self.expires)
            .field("login", &self.login)
            .field("cookie", &self.cookie)
            .field("values", &self.values)
            .finish_non_exhaustive()
    }
}
