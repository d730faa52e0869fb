//! How long a session lives.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::events::Ending;
use crate::provider::{Record, Touch};
use crate::{Error, Timestamp};

/// The two clocks of a session: it ends when it was not used for `idle`, and `absolute` after its
/// login, or after its creation where nobody is logged in, however busy it is.
///
/// ```
/// use std::time::Duration;
/// use session_core::Lifetime;
///
/// let lifetime = Lifetime { idle: Duration::from_secs(30 * 60), absolute: Duration::from_secs(8 * 3_600) };
/// assert!(lifetime.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// How long a session lives without use; every use counts anew.
    pub idle: Duration,
    /// How long a session lives at all. A login starts this time anew (NIST SP 800-63B-4, section 5.2).
    pub absolute: Duration,
}

/// How far ahead of ours another server's clock may be. A record that claims to be younger than
/// this comes from before a jump of the clock; its age is unknown, so it counts as expired.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

impl Lifetime {
    /// Checks that both are at least a second. There is no upper limit: what lies beyond the last instant
    /// that a store can name never comes.
    ///
    /// # Errors
    /// [`Error::Config`] names the one that is shorter.
    pub fn validate(&self) -> Result<(), Error> {
        check_duration("idle", self.idle, "30m")?;
        check_duration("absolute", self.absolute, "12h")
    }

    /// Returns the end of the absolute lifetime that began at `start`.
    pub(crate) fn deadline(&self, start: Timestamp) -> Timestamp {
        start.saturating_add(self.absolute)
    }

    /// Returns the times of a session that is used now, whose absolute lifetime began at `start`.
    pub(crate) fn touch(&self, start: Timestamp, now: Timestamp) -> Touch {
        Touch { used: now, expires: now.saturating_add(self.idle).min(self.deadline(start)) }
    }

    /// Returns the instant at which a record ends unless it is used again, whatever lifetime it was
    /// stored by: a lifetime that became shorter meanwhile applies.
    pub(crate) fn end(&self, record: &Record) -> Timestamp {
        let idle = record.used.saturating_add(self.idle);
        record.expires.min(idle).min(self.deadline(start(record)))
    }

    /// Whether a record that the store takes for live is over by this lifetime, or of an unknown age.
    pub(crate) fn is_over(&self, record: &Record, now: Timestamp) -> bool {
        now >= self.end(record) || start(record) > now.saturating_add(CLOCK_SKEW)
    }

    /// Returns why a record that is over ended; `None` if it may live on, but is of an unknown age.
    pub(crate) fn ending(&self, record: &Record, now: Timestamp) -> Option<Ending> {
        if now >= self.deadline(start(record)) {
            Some(Ending::Absolute)
        } else {
            (now >= self.end(record)).then_some(Ending::Idle)
        }
    }

    /// Returns the touch to tell the store about, if a read should: it moves the last use that the store
    /// knows of, or the expiry, by at least `every` or a quarter of the idle time.
    ///
    /// Both, because the last use may be moved by others: a store that keeps it in a file's time of access
    /// takes a backup for a use. Going by it alone, a session whose file is read often would never be
    /// touched, and would end while it is used.
    pub(crate) fn touch_due(
        &self,
        record: &Record,
        now: Timestamp,
        every: Duration,
    ) -> Option<Touch> {
        let touch = self.touch(start(record), now);
        let moved = now.since(record.used).max(touch.expires.since(record.expires));
        (now > record.used && moved >= every.min(self.idle / 4)).then_some(touch)
    }
}

/// Checks that a configured duration is at least a second: stores and cookies may keep whole seconds, of
/// which less is nothing.
///
/// # Errors
/// [`Error::Config`] names the key, and a value to write in place of this one.
pub(crate) fn check_duration(key: &str, value: Duration, instead: &str) -> Result<(), Error> {
    if value < Duration::from_secs(1) {
        return Err(Error::config(format_args!(
            "{key} is less than a second; write, for instance, {key} = \"{instead}\""
        )));
    }
    Ok(())
}

/// Returns the instant from which the absolute lifetime counts.
pub(crate) fn start(record: &Record) -> Timestamp {
    record.login.as_deref().map_or(record.created, |login| login.at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::{Login, Verifier};

    const LIFETIME: Lifetime =
        Lifetime { idle: Duration::from_secs(100), absolute: Duration::from_secs(1000) };

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + secs * 1000)
    }

    /// A record created at 0 and used at this second.
    fn used(secs: u64) -> Record {
        let mut record = Record::new(Verifier::NOBODY, at(0), at(0));
        record.used = at(secs);
        record.expires = LIFETIME.touch(at(0), at(secs)).expires;
        record
    }

    /// However busy the session is.
    #[test]
    fn idle_slides_and_absolute_does_not() {
        assert_eq!(LIFETIME.touch(at(0), at(50)).expires, at(150));
        assert_eq!(LIFETIME.touch(at(0), at(950)).expires, at(1000));
        assert!(!LIFETIME.is_over(&used(950), at(999)));
        assert!(LIFETIME.is_over(&used(950), at(1000)));
        assert!(!LIFETIME.is_over(&used(50), at(149)));
        assert!(LIFETIME.is_over(&used(50), at(150)));
    }

    #[test]
    fn a_shorter_lifetime_applies_to_what_is_stored() {
        let short = Lifetime { idle: Duration::from_secs(10), absolute: Duration::from_secs(40) };
        assert!(!short.is_over(&used(20), at(29)));
        assert!(short.is_over(&used(20), at(30)));
        assert!(short.is_over(&used(39), at(40)));
    }

    #[test]
    fn the_absolute_lifetime_counts_from_the_login() {
        let mut record = used(900);
        record.login = Some(Box::new(Login { owner: "ada".into(), at: at(900), label: "".into() }));
        record.expires = LIFETIME.touch(start(&record), at(990)).expires;
        record.used = at(990);
        assert!(!LIFETIME.is_over(&record, at(1050)));
        assert_eq!(LIFETIME.deadline(start(&record)), at(1900));
    }

    #[test]
    fn touches_are_coarse() {
        let every = Duration::from_secs(25);
        assert_eq!(LIFETIME.touch_due(&used(0), at(24), every), None);
        assert_eq!(
            LIFETIME.touch_due(&used(0), at(25), every),
            Some(LIFETIME.touch(at(0), at(25)))
        );
        // A quarter of the idle time at most.
        assert!(LIFETIME.touch_due(&used(0), at(25), Duration::MAX).is_some());
        // A touch that would change nothing is none.
        assert_eq!(LIFETIME.touch_due(&used(10), at(10), Duration::ZERO), None);
        assert_eq!(LIFETIME.touch_due(&used(10), at(5), Duration::ZERO), None);
    }

    /// Something else than a touch moved the last use: a backup that read the session's file.
    #[test]
    fn a_later_last_use_does_not_keep_an_expiry_from_moving() {
        let every = Duration::from_secs(25);
        let mut record = used(0);
        record.used = at(20);
        assert_eq!(LIFETIME.touch_due(&record, at(24), every), None);
        assert_eq!(LIFETIME.touch_due(&record, at(25), every), Some(LIFETIME.touch(at(0), at(25))));
        // Where the absolute lifetime keeps the expiry, only the last use counts.
        let late = used(990);
        assert_eq!(LIFETIME.touch_due(&late, at(999), every), None);
    }

    /// Forward it ends sessions early; back, their age is unknown.
    #[test]
    fn a_clock_that_jumps_never_extends_the_absolute_lifetime() {
        let record = |created: Timestamp| Record::new(Verifier::NOBODY, created, Timestamp::MAX);
        let ten_years = Duration::from_secs(10 * 365 * 86_400);
        let later = at(0).saturating_add(ten_years);
        assert!(LIFETIME.is_over(&record(at(0)), later));
        assert!(LIFETIME.is_over(&record(later), at(0)));
        assert!(LIFETIME.is_over(&record(at(3600)), at(0)));
        assert!(!LIFETIME.is_over(&record(at(2)), at(0)), "another clock may be a little ahead");
        let forever = Lifetime { idle: Duration::MAX, absolute: Duration::MAX };
        assert_eq!(forever.touch(Timestamp::MAX, Timestamp::MAX).expires, Timestamp::MAX);
    }
}
