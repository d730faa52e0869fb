//! The settings that the library stores among a session's values: "remember me", lifetime, persistence, and
//! whether the id was in URLs. Also the stored keys of the application's values and flash messages.
//!
//! The library and the application share one map. The library's keys begin with NUL and a letter. An
//! application key that begins with NUL is stored with a second NUL in front. So every application key is
//! allowed, and none collides with the library's.

use std::borrow::Cow;
use std::time::Duration;

use crate::manager::Rules;
use crate::provider::Values;
use crate::{Lifetime, Limits, value};

/// The key of the [`LifetimeOverride`]: a lifetime that a handler set, or "remember me".
pub(crate) const LIFETIME_KEY: &str = "\0lifetime";
/// The key of the persistence that a handler set for the cookie.
pub(crate) const PERSISTENT_KEY: &str = "\0persistent";
/// The key of a session whose ids are in URLs, or were.
pub(crate) const IN_URLS_KEY: &str = "\0url";

/// Returns the stored key of a category of flash messages.
pub(crate) fn flash_key(category: &str) -> String {
    format!("\0flash.{category}")
}

/// Returns the stored key of an application key.
pub(crate) fn stored_key(key: &str) -> Cow<'_, str> {
    if key.starts_with('\0') { format!("\0{key}").into() } else { key.into() }
}

/// Returns the application key of a stored key; `None` for the library's keys.
pub(crate) fn application_key(stored: &str) -> Option<&str> {
    match stored.strip_prefix('\0') {
        None => Some(stored),
        Some(rest) => rest.starts_with('\0').then_some(rest),
    }
}

/// The decoded settings of a session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) lifetime: LifetimeOverride,
    pub(crate) persistent: Option<bool>,
}

/// The session's own lifetime, which replaces the configured one. The last call of a handler decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LifetimeOverride {
    /// The configured `idle` and `absolute` apply.
    #[default]
    Unset,
    /// A handler set these durations.
    Fixed(Lifetime),
    /// The visitor is remembered: the configured `remember` applies, as it is now.
    Remembered,
}

impl Settings {
    /// Returns the settings of a record. A look at the first keys shows that most records have none.
    #[inline]
    pub(crate) fn of(values: &Values) -> Self {
        match values.has_reserved_key() {
            true => Self::read(|key| values.get(key)),
            false => Self::default(),
        }
    }

    /// Reads the settings by stored key. A value that can't be decoded counts as not set.
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

    /// Returns the lifetime that applies to the session.
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

    /// Returns whether the client's token is persistent.
    pub(crate) fn is_persistent(&self, rules: &Rules) -> bool {
        self.persistent.unwrap_or(rules.persistent || self.is_remembered())
    }
}

/// The stored value is an array of two numbers of milliseconds (idle, absolute), or `true` for "remember me".
impl LifetimeOverride {
    /// Returns an override with the lifetime truncated to whole milliseconds.
    pub(crate) fn fixed(lifetime: Lifetime) -> Self {
        let whole = |d: Duration| Duration::from_millis(millis(d));
        Self::Fixed(Lifetime { idle: whole(lifetime.idle), absolute: whole(lifetime.absolute) })
    }

    /// Returns the encoded value; `None` for [`Unset`](Self::Unset).
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
