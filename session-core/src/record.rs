//! What is stored.

use std::fmt;

use crate::settings::Settings;
use crate::{Changes, Error, Expected, Lifetime, Timestamp, Values};

/// A session as providers keep it, under its id.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// When the session was created; the absolute lifetime counts from here. Never changes.
    pub created: Timestamp,
    /// The instant from which the record is gone, collected or not.
    pub expires: Timestamp,
    /// The account that the session belongs to, as opaque text; providers that can, index it.
    pub owner: Option<Box<str>>,
    /// The encoded values by key.
    pub values: Values,
}

impl Record {
    /// Whether the record is there, as far as `load` and all other operations can tell.
    pub fn is_live(&self, now: Timestamp) -> bool {
        now < self.expires
    }

    /// The lifetime that the session was given for itself, if it was; the manager's applies
    /// otherwise.
    pub fn lifetime(&self) -> Option<Lifetime> {
        Settings::of(&self.values).lifetime
    }

    /// Checks a save's condition and applies its changes; the whole of what a provider that holds
    /// the record exclusively has to do.
    ///
    /// # Errors
    /// [`Error::Gone`] if the record is expired, [`Error::Conflict`] if the expected value is not
    /// the stored one, [`Error::TooLarge`] if the result is over a limit. Nothing is changed then.
    pub fn apply(&mut self, changes: &Changes, now: Timestamp) -> Result<(), Error> {
        self.check(changes, now)?;
        self.values.apply(changes, &changes.limits)?;
        self.expires = changes.expiry.apply(self.expires);
        if let Some(owner) = &changes.owner {
            self.owner.clone_from(owner);
        }
        Ok(())
    }

    /// The same where all that changes are values that keep their length, and the expiry: the
    /// record takes the memory that it took. Otherwise nothing is changed, and the answer is false.
    ///
    /// # Errors
    /// [`Error::Gone`] and [`Error::Conflict`], as [`apply`](Self::apply).
    pub fn overwrite(&mut self, changes: &Changes, now: Timestamp) -> Result<bool, Error> {
        self.check(changes, now)?;
        let fits = changes.owner.is_none() && self.values.overwrite(changes);
        if fits {
            self.expires = changes.expiry.apply(self.expires);
        }
        Ok(fits)
    }

    fn check(&self, changes: &Changes, now: Timestamp) -> Result<(), Error> {
        if !self.is_live(now) {
            return Err(Error::Gone);
        }
        match &changes.expected {
            Some(Expected { key, value }) if self.values.get(key) != value.as_deref() => {
                Err(Error::Conflict)
            }
            _ => Ok(()),
        }
    }
}

// The owner is a person's account: an address, as often as not.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("created", &self.created)
            .field("expires", &self.expires)
            .field("owned", &self.owner.is_some())
            .field("values", &self.values)
            .finish()
    }
}
