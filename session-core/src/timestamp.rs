//! [`Timestamp`]: an instant of wall-clock time.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An instant of wall-clock time: milliseconds since the Unix epoch.
///
/// Arithmetic saturates, so that no stored or configured number makes it panic. Instants before 1970 become
/// the epoch.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use session_core::Timestamp;
///
/// let now = Timestamp::from(SystemTime::now());
/// assert_eq!(now.saturating_add(Duration::from_secs(5)).since(now), Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The last representable instant.
    pub const MAX: Self = Self(u64::MAX);

    /// Returns the instant that is this many milliseconds after the Unix epoch.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Returns the milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Returns the whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the instant that is `duration` later, or [`Timestamp::MAX`] if that is not representable.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// Returns the instant that is `duration` earlier, or the epoch if that is before it.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Returns the time from `earlier` to `self`; zero if `earlier` is later than `self`.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1000).saturating_add(u64::from(duration.subsec_millis()))
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        Self(millis(time.duration_since(UNIX_EPOCH).unwrap_or_default()))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        assert_eq!(Timestamp::MAX.saturating_add(Duration::MAX), Timestamp::MAX);
        assert_eq!(Timestamp::default().saturating_sub(Duration::MAX), Timestamp::default());
        assert_eq!(Timestamp::default().since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::from(UNIX_EPOCH - Duration::from_secs(1)), Timestamp::default());
    }
}
