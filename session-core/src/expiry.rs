//! How long a session lives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Error, Timestamp};

/// The two clocks of a session: it ends when it was not used for `idle`, and `absolute` after its
/// creation however busy it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// How long a session lives without use; every use counts anew.
    pub idle: Duration,
    /// How long a session lives at all.
    pub absolute: Duration,
}

/// How far ahead of ours another server's clock may be. A record that claims to be younger than
/// this comes from before a jump of the clock; its age is unknown, so it counts as expired.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

impl Lifetime {
    /// Checks that both are at least a millisecond.
    ///
    /// # Errors
    /// [`Error::Config`] names the one that is zero.
    pub fn validate(&self) -> Result<(), Error> {
        for (name, value) in [("idle", self.idle), ("absolute", self.absolute)] {
            if value < Duration::from_millis(1) {
                return Err(Error::config(format_args!("{name} must be longer than zero")));
            }
        }
        Ok(())
    }

    /// The end of the absolute lifetime.
    pub(crate) fn deadline(&self, created: Timestamp) -> Timestamp {
        created.saturating_add(self.absolute)
    }

    /// The expiry of a session that is used now.
    pub(crate) fn expires(&self, created: Timestamp, now: Timestamp) -> Timestamp {
        now.saturating_add(self.idle).min(self.deadline(created))
    }

    /// Whether the absolute lifetime is over, or can't be told.
    pub(crate) fn is_over(&self, created: Timestamp, now: Timestamp) -> bool {
        now >= self.deadline(created) || created > now.saturating_add(CLOCK_SKEW)
    }

    /// The expiry to tell the store after a mere read, if it is time to.
    ///
    /// It is when `every` has passed since the store was last told, or a quarter of the idle time,
    /// as the session would end between two touches if they were rarer; and once more when the
    /// absolute deadline comes within reach.
    pub(crate) fn touch_due(
        &self,
        created: Timestamp,
        stored: Timestamp,
        now: Timestamp,
        every: Duration,
    ) -> Option<Timestamp> {
        let expires = self.expires(created, now);
        let every = every.min(self.idle / 4);
        let is_due = expires >= stored.saturating_add(every) || expires == self.deadline(created);
        (expires > stored && is_due).then_some(expires)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Lifetime =
        Lifetime { idle: Duration::from_secs(100), absolute: Duration::from_secs(1000) };

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + secs * 1000)
    }

    /// However busy the session is.
    #[test]
    fn idle_slides_and_absolute_does_not() {
        assert_eq!(LIFETIME.expires(at(0), at(50)), at(150));
        assert_eq!(LIFETIME.expires(at(0), at(950)), at(1000));
        assert!(!LIFETIME.is_over(at(0), at(999)));
        assert!(LIFETIME.is_over(at(0), at(1000)));
    }

    #[test]
    fn touches_are_coarse_and_reach_the_deadline() {
        let every = Duration::from_secs(25);
        assert_eq!(LIFETIME.touch_due(at(0), at(100), at(24), every), None);
        assert_eq!(LIFETIME.touch_due(at(0), at(100), at(25), every), Some(at(125)));
        assert_eq!(LIFETIME.touch_due(at(0), at(990), at(900), every), Some(at(1000)));
        assert_eq!(LIFETIME.touch_due(at(0), at(1000), at(950), every), None);
        // What gains nothing is no touch.
        assert_eq!(LIFETIME.touch_due(at(0), at(100), at(0), Duration::ZERO), None);
        let forever = Lifetime { idle: Duration::MAX, absolute: Duration::MAX };
        assert_eq!(forever.touch_due(at(0), Timestamp::MAX, at(1), every), None);
    }

    /// Forward it ends sessions early; back, their age is unknown.
    #[test]
    fn a_clock_that_jumps_never_extends_the_absolute_lifetime() {
        let ten_years = Duration::from_secs(10 * 365 * 86_400);
        assert!(LIFETIME.is_over(at(0), at(0).saturating_add(ten_years)));
        assert!(LIFETIME.is_over(at(0).saturating_add(ten_years), at(0)));
        assert!(LIFETIME.is_over(at(3600), at(0)));
        assert!(!LIFETIME.is_over(at(2), at(0)), "another server's clock may be a little ahead");
        let forever = Lifetime { idle: Duration::MAX, absolute: Duration::MAX };
        assert_eq!(forever.expires(Timestamp::MAX, Timestamp::MAX), Timestamp::MAX);
    }
}
