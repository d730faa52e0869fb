//! [`Clock`]: the source of time of a manager, [`SystemClock`] or the [`TestClock`] of a test.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use crate::Timestamp;

/// A source of time. A manager has one clock, and passes `now` to each call of a provider.
pub trait Clock: Send + Sync + fmt::Debug + 'static {
    /// Returns the current time.
    fn now(&self) -> Timestamp;
}

/// The operating system's wall clock. The clocks of servers that share a store must be synchronized.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        SystemTime::now().into()
    }
}

/// A clock that stands still until a test sets it.
///
/// ```
/// use std::time::Duration;
/// use session_core::clock::{Clock, TestClock};
/// use session_core::Timestamp;
///
/// let clock = TestClock::at(Timestamp::from_millis(5_000));
/// clock.advance(Duration::from_secs(1));
/// assert_eq!(clock.now(), Timestamp::from_millis(6_000));
/// ```
#[derive(Debug)]
pub struct TestClock(AtomicU64);

impl TestClock {
    /// Returns a clock that shows this instant.
    pub const fn at(now: Timestamp) -> Self {
        Self(AtomicU64::new(now.as_millis()))
    }

    /// Sets the clock, forward or back.
    pub fn set(&self, now: Timestamp) {
        self.0.store(now.as_millis(), Ordering::SeqCst);
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.set(self.now().saturating_add(by));
    }
}

impl Default for TestClock {
    /// Returns a clock at an arbitrary instant, 11 days after the epoch.
    fn default() -> Self {
        Self::at(Timestamp::from_millis(1_000_000_000))
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_shows_the_time() {
        let (before, shown) = (SystemTime::now(), SystemClock.now());
        assert!(shown >= Timestamp::from(before));
        assert!(shown <= Timestamp::from(SystemTime::now()));
    }
}
