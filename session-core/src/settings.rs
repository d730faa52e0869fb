//! What the library keeps about a session among its values.

use std::time::Duration;

use crate::provider::Values;
use crate::{Lifetime, Limits, key, value};

/// What the library keeps about a session among its values, decoded.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) lifetime: Option<Lifetime>,
    pub(crate) persistent: Option<bool>,
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
        let lifetime =
            value(key::LIFETIME).and_then(|bytes| value::decode("", bytes, &limits).ok());
        let persistent =
            value(key::PERSISTENT).and_then(|bytes| value::decode("", bytes, &limits).ok());
        Self {
            lifetime: lifetime.map(|(idle, absolute)| Lifetime {
                idle: Duration::from_millis(idle),
                absolute: Duration::from_millis(absolute),
            }),
            persistent,
        }
    }
}
