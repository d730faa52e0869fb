//! What the library keeps about a session among the session's values, such as "remember me", and under which
//! keys.
//!
//! The library and the application share one map. The library's keys begin with NUL and a letter; an
//! application's key that begins with NUL gets a second one. So every key is allowed, and none meets the
//! library's.

use std::borrow::Cow;
use std::time::Duration;

use crate::manager::Rules;
use crate::provider::Values;
use crate::{Lifetime, Limits, value};

/// The lifetime that a handler gave the session, or that the visitor is remembered.
pub(crate) const LIFETIME_KEY: &str = "\0lifetime";
/// Whether the cookie is persistent, where that differs from the transport's default.
pub(crate) const PERSISTENT_KEY: &str = "\0persistent";
/// The session's id is, or was, in URLs.
pub(crate) const IN_URLS_KEY: &str = "\0url";

/// The stored key of a category of flash messages.
pub(crate) fn flash_key(category: &str) -> String {
    format!("\0flash.{category}")
}

/// The stored key of an application's key.
pub(crate) fn stored_key(key: &str) -> Cow<'_, str> {
    if key.starts_with('\0') { format!("\0{key}").into() } else { key.into() }
}

/// The application's key of a stored key; `None` for the library's own.
pub(crate) fn application_key(stored: &str) -> Option<&str> {
    match stored.strip_prefix('\0') {
        None => Some(stored),
        Some(rest) => rest.starts_with('\0').then_some(rest),
    }
}

/// What the library keeps about a session among its values, decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) lifetime: LifetimeOverride,
    pub(crate) persistent: Option<bool>,
}

/// How long a session lives, where it says so itself. The last call decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LifetimeOverride {
    /// It says nothing: the manager's `idle` and `absolute` apply.
    #[default]
    Unset,
    /// A handler set these durations.
    Fixed(Lifetime),
    /// The visitor is remembered, for as long as the manager's `remember` says by now.
    Remembered,
}

impl Settings {
    /// Those of a record. Most have none, which is told by a look at the first keys.
    #[inline]
    pub(crate) fn of(values: &Values) -> Self {
        match values.has_reserved_key() {
            true => Self::read(|key| values.get(key)),
            false => Self::default(),
        }
    }

    /// Reads them by stored key. What is not as the library wrote it counts as not set.
    pub(crate) fn read<'a>(value: impl Fn(&str) -> Option<&'a [u8]>) -> Self {
        let limits = Limits::default();
        let persistent =
            value(PERSISTENT_KEY).and_then(|bytes| value::decode("", bytes, &limits).ok());
        let lifetime = match value(LIFETIME_KEY) {
            Some(bytes) => LifetimeOverride::decode(bytes, &limits),
            None => LifetimeOverride::Unset,
        };
        Self { lifetime, persistent }
    }

    pub(crate) fn is_remembered(&self) -> bool {
        self.lifetime == LifetimeOverride::Remembered
    }

    /// Returns the lifetime that applies.
    #[inline]
    pub(crate) fn lifetime(&self, rules: &Rules) -> Lifetime {
        match self.lifetime {
            LifetimeOverride::Unset => rules.lifetime,
            LifetimeOverride::Fixed(lifetime) => lifetime,
            LifetimeOverride::Remembered => {
                Lifetime { idle: rules.remember, absolute: rules.remember }
            }
        }
    }

    /// Whether the client keeps its token when the browser ends.
    pub(crate) fn is_persistent(&self, rules: &Rules) -> bool {
        self.persistent.unwrap_or(rules.persistent || self.is_remembered())
    }
}

/// In a stored value: two numbers of milliseconds, or `true`.
impl LifetimeOverride {
    /// In whole milliseconds.
    pub(crate) fn fixed(lifetime: Lifetime) -> Self {
        let whole = |d: Duration| Duration::from_millis(millis(d));
        Self::Fixed(Lifetime { idle: whole(lifetime.idle), absolute: whole(lifetime.absolute) })
    }

    /// Returns the stored value; `None` for no value.
    pub(crate) fn encode(
        self,
        limits: &Limits,
    ) -> Result<Option<std::sync::Arc<[u8]>>, crate::Error> {
        match self {
            Self::Unset => Ok(None),
            Self::Fixed(Lifetime { idle, absolute }) => {
                value::encode(LIFETIME_KEY, &(millis(idle), millis(absolute)), limits).map(Some)
            }
            Self::Remembered => value::encode(LIFETIME_KEY, &true, limits).map(Some),
        }
    }

    fn decode(bytes: &[u8], limits: &Limits) -> Self {
        let from_millis = Duration::from_millis;
        match value::decode("", bytes, limits) {
            Ok((idle, absolute)) => {
                Self::Fixed(Lifetime { idle: from_millis(idle), absolute: from_millis(absolute) })
            }
            Err(_) if matches!(value::decode("", bytes, limits), Ok(true)) => Self::Remembered,
            Err(_) => Self::Unset,
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_round_trips_and_meets_none_of_the_librarys(key in "[\u{0}a-z.]{0,12}") {
            let stored = stored_key(&key);
            prop_assert_eq!(application_key(&stored), Some(key.as_str()));
            prop_assert!(![LIFETIME_KEY, PERSISTENT_KEY, IN_URLS_KEY].contains(&&*stored));
            let flash = flash_key(&key);
            prop_assert_eq!(application_key(&flash), None);
        }
    }
}
