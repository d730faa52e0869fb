//! What the library keeps about a session among its values.

use std::time::Duration;

use crate::manager::Rules;
use crate::provider::Values;
use crate::{Lifetime, Limits, key, value};

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
            value(key::PERSISTENT).and_then(|bytes| value::decode("", bytes, &limits).ok());
        let lifetime = match value(key::LIFETIME) {
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
                value::encode(key::LIFETIME, &(millis(idle), millis(absolute)), limits).map(Some)
            }
            Self::Remembered => value::encode(key::LIFETIME, &true, limits).map(Some),
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
