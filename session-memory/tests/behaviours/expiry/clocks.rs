//! Clocks that jump: nothing panics, and no session lives longer than its absolute age.

use session_core::{Error, Timestamp};

use super::{ABSOLUTE, IDLE};
use crate::support::*;

const HOUR: Duration = secs(3600);
const TEN_YEARS: Duration = secs(10 * 365 * 86_400);

#[test]
fn a_clock_that_jumps_makes_no_session_live_longer_than_its_absolute_age() {
    // The clock starts well after the epoch, so that it can jump back.
    let start = Timestamp::from_millis(1_700_000_000_000);
    for jump in [HOUR, TEN_YEARS] {
        for back in [false, true] {
            let site = Site::new();
            site.clock.set(start);
            let visitor = site.visitor();
            visitor.set("n", 1);
            let there = match back {
                true => start.saturating_sub(jump),
                false => start.saturating_add(jump),
            };
            site.clock.set(there);
            // After a jump forward the session is expired. After a jump back it is from the future, so
            // its age is unknown.
            assert_eq!(visitor.get("n"), None, "{jump:?} {back}");
            // A session that is created now works, and ends when the clock is right again at the latest.
            let other = site.visitor();
            other.set("n", 2);
            assert_eq!(other.get("n"), Some(2));
            site.clock.advance(secs(IDLE));
            assert_eq!(other.get("n"), None);
            site.clock.set(start.saturating_add(secs(ABSOLUTE)));
            assert_eq!(visitor.get("n"), None);
            assert_eq!(other.get("n"), None);
        }
    }
}

#[test]
fn a_clock_that_is_a_little_ahead_elsewhere_costs_no_session() {
    started!(site, visitor);
    site.clock.set(site.manager.now().saturating_sub(secs(30)));
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn a_clock_that_jumps_during_a_request_does_no_harm() {
    for jump in [HOUR, TEN_YEARS, Duration::MAX] {
        for back in [false, true] {
            started!(site, visitor);
            let start = Timestamp::from_millis(1_700_000_000_000);
            site.clock.set(start);
            let visitor = {
                drop(visitor);
                site.visitor()
            };
            visitor.set("n", 1);
            let ((), finished) = visitor.try_visit(async |handle| {
                let session = handle.load().await.unwrap();
                site.clock.set(match back {
                    true => start.saturating_sub(jump),
                    false => start.saturating_add(jump),
                });
                session.set("n", &2u64).unwrap();
                session.remaining();
            });
            assert!(matches!(finished, Ok(_) | Err(Error::Gone)));
            let deadline = start.saturating_add(secs(ABSOLUTE));
            if let Some(record) = site.store.peek(&visitor.token(), start) {
                assert!(record.expires <= deadline, "{jump:?} {back}");
            }
            site.clock.set(deadline);
            assert_eq!(visitor.get("n"), None);
        }
    }
}
