//! [`Lifetime`]: idle and absolute expiry, when a session is over, and when a read is due to touch it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::events::Ending;
use crate::provider::{Record, Touch};
use crate::{Error, Timestamp};

/// The two durations that limit a session: it ends after `idle` without use, and `absolute` after its login
/// (or after its creation, if nobody is logged in), however often it is used.
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
    /// How long a session lives without use. Every use restarts it. Defaults to 30 minutes.
    pub idle: Duration,
    /// How long a session lives at most, whether it is used or not. A login restarts it (NIST SP 800-63B-4,
    /// section 5.2). Defaults to 12 hours.
    pub absolute: Duration,
}

/// How far another server's clock may be ahead of this one's. A record from further in the future was stored
/// before the clock was set back; its age is unknown, so it counts as expired.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

impl Lifetime {
    /// Checks that both durations are at least a second. There is no upper limit: a duration that reaches
    /// beyond [`Timestamp::MAX`] never ends.
    ///
    /// # Errors
    /// [`Error::Config`] names the duration that is shorter.
    pub fn validate(&self) -> Result<(), Error> {
        check_duration("idle", self.idle, "30m")?;
        check_duration("absolute", self.absolute, "12h")
    }

    /// Returns the end of the absolute lifetime that began at `start`.
    pub(crate) fn deadline(&self, start: Timestamp) -> Timestamp {
        start.saturating_add(self.absolute)
    }

    /// Returns the last use and the expiry of a session that is used now and whose absolute lifetime began at
    /// `start`.
    pub(crate) fn touch(&self, start: Timestamp, now: Timestamp) -> Touch {
        Touch { used: now, expires: now.saturating_add(self.idle).min(self.deadline(start)) }
    }

    /// Returns the instant at which a record expires unless it is used again. This lifetime applies even if
    /// the record was stored with a longer one.
    pub(crate) fn end(&self, record: &Record) -> Timestamp {
        let idle = record.used.saturating_add(self.idle);
        record.expires.min(idle).min(self.deadline(start(record)))
    }

    /// Returns whether a record is expired by this lifetime, or its age is unknown.
    pub(crate) fn is_over(&self, record: &Record, now: Timestamp) -> bool {
        now >= self.end(record) || start(record) > now.saturating_add(CLOCK_SKEW)
    }

    /// Returns why a record that [is over](Self::is_over) ended; `None` if only its age is unknown, so that
    /// it may live on.
    pub(crate) fn ending(&self, record: &Record, now: Timestamp) -> Option<Ending> {
        if now >= self.deadline(start(record)) {
            Some(Ending::Absolute)
        } else {
            (now >= self.end(record)).then_some(Ending::Idle)
        }
    }

    /// Returns the touch that is due after a read: one that moves the stored last use or the stored expiry by
    /// at least `every`, or by a quarter of the idle time if that is shorter. Returns `None` if no touch is
    /// due.
    ///
    /// Both are compared, because something else than a touch may move the last use: a store that keeps it in
    /// a file's access time takes a backup for a use. If only the last use counted, a session whose file is
    /// read often would never be touched, and would expire while it is used.
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

/// Checks that a configured duration is at least a second: stores and cookies may keep whole seconds, and
/// would round a shorter one to zero.
///
/// # Errors
/// [`Error::Config`] names the key and suggests a value.
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

    /// Returns a record that was created at 0 s and last used at this second.
    fn used(secs: u64) -> Record {
        let mut record = Record::new(Verifier::NOBODY, at(0), at(0));
        record.used = at(secs);
        record.expires = LIFETIME.touch(at(0), at(secs)).expires;
        record
    }

    /// The idle time restarts with each use; the absolute time does not.
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
        // A touch is due after a quarter of the idle time at the latest.
        assert!(LIFETIME.touch_due(&used(0), at(25), Duration::MAX).is_some());
        // A touch that would change nothing is not due.
        assert_eq!(LIFETIME.touch_due(&used(10), at(10), Duration::ZERO), None);
        assert_eq!(LIFETIME.touch_due(&used(10), at(5), Duration::ZERO), None);
    }

    /// Something else than a touch, such as a backup that reads the session's file, moved the last use.
    #[test]
    fn a_later_last_use_does_not_keep_an_expiry_from_moving() {
        let every = Duration::from_secs(25);
        let mut record = used(0);
        record.used = at(20);
        assert_eq!(LIFETIME.touch_due(&record, at(24), every), None);
        assert_eq!(LIFETIME.touch_due(&record, at(25), every), Some(LIFETIME.touch(at(0), at(25))));
        // Where the absolute lifetime limits the expiry, only the last use counts.
        let late = used(990);
        assert_eq!(LIFETIME.touch_due(&late, at(999), every), None);
    }

    /// A clock that jumps forward ends sessions early. After one that jumps back, their age is unknown.
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
