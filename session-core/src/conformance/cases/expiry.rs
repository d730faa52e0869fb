//! Expiry: when records end, and how touches and saves move that.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::TestClock;
use crate::conformance::sample::{HOUR, MILLI, empty, record, set, until, whole_second};
use crate::conformance::site::{Site, Visitor};
use crate::conformance::store::Store;
use crate::conformance::{Harness, skip};
use crate::provider::{Changes, ExpiryChange, Record, Token, Touch};
use crate::{Config, Error, Timestamp};

/// A record is there a millisecond before its expiry, and not at it.
pub fn a_record_lives_up_to_its_expiry_and_no_longer(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let last = store.after(HOUR - MILLI);
    let token = store.stored(&record);
    assert_eq!(store.found_at(&token, last), Some(record.clone()), "a millisecond before");
    for time in [HOUR, HOUR + MILLI, HOUR + 1000 * MILLI, 24 * HOUR] {
        assert_eq!(store.found_at(&token, store.after(time)), None, "after {time:?}");
    }
    let saved = store.save(&store.stored(&record), &set("a", 5), last);
    assert!(saved.is_ok(), "saved a millisecond before: {saved:?}");
    let touched = store.touch(&store.stored(&record), store.after(2 * HOUR), last);
    assert!(touched.is_ok(), "touched a millisecond before: {touched:?}");
    let renewed = store.renew(&store.stored(&record), last);
    assert!(renewed.is_ok(), "a new secret a millisecond before: {renewed:?}");
}

/// Without any collection, an expired record is not there: not to load, save, touch or count, nor for a
/// new secret; and none of them brings it back.
pub fn an_expired_record_is_gone_for_every_operation(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    for time in [HOUR, HOUR + MILLI, 24 * HOUR] {
        let now = store.after(time);
        let later = store.after(48 * HOUR);
        for expiry in [
            ExpiryChange::Keep,
            ExpiryChange::Extend(until(later)),
            ExpiryChange::Set(until(later)),
        ] {
            let result = store.save(&token, &set("a", 5).with_expiry(expiry), now);
            assert!(matches!(result, Err(Error::Gone)), "saved after {time:?}: {result:?}");
        }
        let result = store.save(&token, &Changes::new().expecting("a", None), now);
        assert!(matches!(result, Err(Error::Gone)), "compared after {time:?}: {result:?}");
        let result = store.touch(&token, later, now);
        assert!(matches!(result, Err(Error::Gone)), "touched after {time:?}: {result:?}");
        let result = store.renew(&token, now);
        assert!(matches!(result, Err(Error::Gone)), "a new secret after {time:?}: {result:?}");
        assert_eq!(store.found_at(&token, now), None, "loaded after {time:?}");
        if store.can.count {
            assert_eq!(store.count(now).expect("counting works"), 0, "counted after {time:?}");
        }
    }
    store.destroy(&token, store.much_later()).expect("an expired record can be destroyed");
}

/// Loading removes nothing and moves no expiry: by a clock that is behind, an expired record is
/// still there.
pub fn loading_never_writes(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    for time in [HOUR - MILLI, HOUR, 10 * HOUR] {
        store.found_at(&token, store.after(time));
        assert_eq!(store.found(&token), Some(record.clone()), "loaded after {time:?}");
    }
}

/// An expiry at the end of time is an expiry; and times out of order do no harm.
pub fn an_expiry_beyond_all_calendars_is_kept(harness: &dyn Harness) {
    let store = Store::open(harness);
    let endless = Record { expires: Timestamp::MAX, ..empty(store.now, HOUR) };
    let token = store.stored(&endless);
    assert!(store.found_at(&token, store.after(1000 * HOUR)).is_some(), "created so");
    let token = store.touch(&token, Timestamp::MAX, store.now).expect("touching works");
    assert!(store.found_at(&token, store.after(1000 * HOUR)).is_some(), "touched so");
    store.drain(store.much_later(), 10);
    assert!(store.found(&token).is_some(), "never collected");

    let token = store.stored(&empty(store.now, HOUR));
    let changes = Changes::new().with_expiry(ExpiryChange::Extend(until(Timestamp::MAX)));
    let token = store.saved(&token, &changes);
    assert!(store.found_at(&token, store.after(1000 * HOUR)).is_some(), "saved so");

    let early = Record { created: Timestamp::default(), ..empty(store.now, HOUR) };
    assert_eq!(store.found(&store.stored(&early)), Some(early), "created long ago");
    let token = store.stored(&empty(store.now, HOUR));
    let behind = store.found_at(&token, Timestamp::default());
    assert_eq!(behind.is_some(), store.can.from_the_future, "by a clock far behind");
    assert_eq!(store.found_at(&token, Timestamp::MAX), None, "by a clock far ahead");
}

/// Configured lifetimes of a second, of more days than 32-bit numbers of milliseconds have, of more years than
/// 32-bit numbers of seconds have, and of all seconds that a number of 64 bits has: a session lives for
/// as long and no longer, remembered or not.
pub fn a_lifetime_of_any_length_holds(harness: &dyn Harness) {
    const DAY: u64 = 86_400;
    const YEAR: u64 = 31_556_952;
    // A time that no calendar of a store ends before.
    let ages = Duration::from_secs(150 * YEAR);
    let store = Store::open(harness);
    for secs in [1, 25 * DAY, 31 * DAY, 69 * YEAR, 137 * YEAR, u64::MAX / 1000, u64::MAX] {
        let length = Duration::from_secs(secs);
        let site_after = |time| {
            let config = Config {
                gc_every: Duration::ZERO,
                idle: length,
                absolute: length,
                remember: length,
                ..Config::default()
            };
            let clock = Arc::new(TestClock::at(store.after(time)));
            Site::build(harness.another(), harness, |builder| {
                builder.with_config(config).with_clock(clock)
            })
        };
        for is_remembered in [false, true] {
            store.wait(async {
                let (site, stranger) = (site_after(Duration::ZERO), Visitor::stranger());
                let entered = site.request(&stranger, async |session| {
                    session.set("a", &1)?;
                    session.remember(is_remembered)
                });
                let visitor = entered.await.expect("it is stored").reaches(stranger.clone());
                for (time, lives) in [
                    (Duration::ZERO, true),
                    (ages.min(length - MILLI), true),
                    (length, store.after(length) == Timestamp::MAX),
                ] {
                    // Nobody asks at the last instant there is.
                    let time = if time > ages { ages } else { time };
                    let mut found = None;
                    let site = site_after(time);
                    let page = site.page(&visitor, async |session| {
                        found = session.get::<u64>("a")?;
                        Ok(())
                    });
                    page.await.expect("a page is served");
                    assert_eq!(found.is_some(), lives, "{length:?}, {time:?} later");
                }
            });
        }
    }
}

/// A touch moves the expiry and nothing else.
pub fn a_touch_extends(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let expires = store.after(2 * HOUR);
    let token = store.touch(&store.stored(&record), expires, store.after(HOUR / 2));
    let token = token.expect("a live record is touched");
    let touched = Record { expires, ..record };
    assert_eq!(
        store.found_at(&token, store.after(2 * HOUR - MILLI)),
        Some(touched),
        "a millisecond before the new expiry"
    );
    assert_eq!(store.found_at(&token, expires), None, "at the new expiry");
}

/// A touch to an earlier expiry is none, wherever that lies.
pub fn a_touch_never_shortens(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let mut token = store.stored(&record);
    for expires in [store.after(HOUR), store.after(HOUR - MILLI), store.now, Timestamp::default()] {
        token = store.touch(&token, expires, store.now).expect("a live record is touched");
        assert_eq!(store.found(&token), Some(record.clone()), "touched to {expires:?}");
    }
}

/// A touch that arrives after a newer one, by another handle, changes nothing.
pub fn a_late_touch_changes_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let newest = store.after(3 * HOUR);
    store.touch(&token, newest, store.now).expect("a live record is touched");
    store.another().touch(&token, store.after(2 * HOUR), store.now).expect("and again");
    let changes = Changes::new().with_expiry(ExpiryChange::Extend(until(store.after(2 * HOUR))));
    store.saved(&token, &changes);
    assert_eq!(store.found(&token), Some(Record { expires: newest, ..record }), "after late ones");
}

/// A touch moves the last use forward, and never back.
pub fn a_touch_moves_the_last_use_forward(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let mut token = store.stored(&record);
    let used = |time| whole_second(store.after(time));
    for (touched, wanted) in [
        (used(HOUR / 2), used(HOUR / 2)),
        (used(HOUR / 4), used(HOUR / 2)),
        (used(HOUR), used(HOUR)),
    ] {
        let touch = Touch { used: touched, expires: record.expires };
        token = store.touch_as(&token, touch, store.now).expect("a live record is touched");
        let found = store.found(&token).expect("the record is there");
        assert_eq!(found, Record { used: wanted, ..record.clone() }, "touched at {touched:?}");
    }
}

/// A touch doesn't look at the secret, and gives the client of an old one nothing: it extends the session
/// of whoever holds it, by no more than it says.
pub fn a_touch_goes_by_the_key(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let old = store.stored(&record);
    let new = store.renew(&old, store.now).expect("a live session gets a new secret");
    let expires = store.after(2 * HOUR);
    store.touch(&old, expires, store.now).expect("the key is the session's");
    assert_eq!(store.found(&old), None, "the old secret opens something");
    assert_eq!(store.found(&new), Some(Record { expires, ..record }), "by the new secret");
}

/// A touch moves the store's own expiry of the record, its timer for instance: a record whose timer stays
/// behind is lost while it is live.
pub fn a_touch_moves_the_stores_own_expiry(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let Some(timer) = Timer::of(harness, &token, store.after(HOUR)) else { return };
    for (touched, wanted) in [(2 * HOUR, 2 * HOUR), (HOUR, 2 * HOUR), (72 * HOUR, 72 * HOUR)] {
        let result = store.touch(&token, store.after(touched), store.now);
        result.expect("a live record is touched");
        timer.check(&token, store.after(wanted), &format!("touched to {touched:?} from now"));
    }
}

/// A save moves the store's own expiry of the record as it moves the record's: later and earlier, with a
/// new secret or without.
pub fn a_save_moves_the_stores_own_expiry(harness: &dyn Harness) {
    let store = Store::open(harness);
    let mut token = store.stored(&record(store.now));
    let Some(timer) = Timer::of(harness, &token, store.after(HOUR)) else { return };
    let at = |time| until(store.after(time));
    for (change, wanted) in [
        (ExpiryChange::Keep, HOUR),
        (ExpiryChange::Extend(at(2 * HOUR)), 2 * HOUR),
        (ExpiryChange::Extend(at(HOUR)), 2 * HOUR),
        (ExpiryChange::Set(at(HOUR / 2)), HOUR / 2),
        (ExpiryChange::Keep, HOUR / 2),
        (ExpiryChange::Set(at(72 * HOUR)), 72 * HOUR),
    ] {
        token = store.saved(&token, &set("a", 5).with_expiry(change));
        timer.check(&token, store.after(wanted), &format!("saved with {change:?}"));
    }
    for (time, change) in
        [(96 * HOUR, ExpiryChange::Extend(at(96 * HOUR))), (HOUR, ExpiryChange::Set(at(HOUR)))]
    {
        let changes = store.with_secret(&token, set("a", 6).with_expiry(change), store.now);
        token = store.saved(&token, &changes);
        timer.check(&token, store.after(time), &format!("a new secret with {change:?}"));
    }
}

/// What the store itself goes by.
struct Timer<'h> {
    harness: &'h dyn Harness,
    /// By how much it lets a new record go later than that expires.
    margin: Duration,
}

impl<'h> Timer<'h> {
    /// Stores round, and some count down while the test runs.
    const TOLERANCE: Duration = Duration::from_secs(60);

    /// The timer of a record that was just created and expires so; `None` if it can't be told.
    fn of(harness: &'h dyn Harness, token: &Token, expires: Timestamp) -> Option<Self> {
        let Some(timer) = harness.store_expiry(&token.key()) else {
            skip("the harness can't tell when the store lets a record go");
            return None;
        };
        assert!(
            timer >= expires,
            "created to expire at {expires:?}, the store lets it go at {timer:?}, before that"
        );
        Some(Self { harness, margin: timer.since(expires) })
    }

    /// Checks that the timer is what it would be for a new record that expires so.
    fn check(&self, token: &Token, expires: Timestamp, what: &str) {
        let timer = self.harness.store_expiry(&token.key());
        let timer = timer.unwrap_or_else(|| panic!("{what}: the store has no expiry any more"));
        assert!(
            timer >= expires,
            "{what}: the record expires at {expires:?}, and the store lets it go at {timer:?}, before that"
        );
        let latest = expires.saturating_add(self.margin + Self::TOLERANCE);
        assert!(
            timer <= latest,
            "{what}: the record expires at {expires:?}, and the store keeps it up to {timer:?}, longer \
             than its margin of {:?}",
            self.margin
        );
    }
}
