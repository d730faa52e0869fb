//! Expiry: when records end, and how touches and saves move that.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::TestClock;
use crate::conformance::expect::{expect_eq, expect_matches};
use crate::conformance::sample::{HOUR, MILLI, empty, record, set, until, whole_second};
use crate::conformance::site::{Site, Visitor};
use crate::conformance::store::Store;
use crate::conformance::{Harness, skip};
use crate::provider::{Changes, ExpiryChange, Record, Token, Touch};
use crate::{Config, Error, SessionId, Timestamp};

/// A record exists until a millisecond before its expiry, and not from its expiry on.
pub fn a_record_lives_up_to_its_expiry_and_no_longer(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let last = store.after(HOUR - MILLI);
    let token = store.stored(&record);
    expect_eq!(
        store.found_at(&token, last),
        Some(record.clone()),
        "loaded a millisecond before the expiry"
    );
    for time in [HOUR, HOUR + MILLI, HOUR + 1000 * MILLI, 24 * HOUR] {
        expect_eq!(
            store.found_at(&token, store.after(time)),
            None,
            "loaded {time:?} after the creation of a record that lives for an hour"
        );
    }
    let saved = store.save(&store.stored(&record), &set("a", 5), last);
    expect_matches!(saved, Ok(_), "a save a millisecond before the expiry");
    let touched = store.touch(&store.stored(&record), store.after(2 * HOUR), last);
    expect_matches!(touched, Ok(_), "a touch a millisecond before the expiry");
    let renewed = store.renew(&store.stored(&record), last);
    expect_matches!(renewed, Ok(_), "a new secret a millisecond before the expiry");
}

/// Even before it is collected, an expired record doesn't exist for a load, a save, a touch, a count or a new secret,
/// and none of them brings it back.
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
            expect_matches!(
                result,
                Err(Error::Gone),
                "a save with {expiry:?}, {time:?} after the creation of a record that lives for an hour"
            );
        }
        let result = store.save(&token, &Changes::new().expecting("a", None), now);
        expect_matches!(
            result,
            Err(Error::Gone),
            "a compare-and-save {time:?} after the creation of a record that lives for an hour"
        );
        let result = store.touch(&token, later, now);
        expect_matches!(
            result,
            Err(Error::Gone),
            "a touch {time:?} after the creation of a record that lives for an hour"
        );
        let result = store.renew(&token, now);
        expect_matches!(
            result,
            Err(Error::Gone),
            "a new secret {time:?} after the creation of a record that lives for an hour"
        );
        expect_eq!(
            store.found_at(&token, now),
            None,
            "loaded {time:?} after the creation of a record that lives for an hour"
        );
        if store.can.count {
            expect_eq!(
                store.count(now).expect("counting works"),
                0,
                "live records, {time:?} after the creation of one that lives for an hour"
            );
        }
    }
    store.destroy(&token, store.much_later()).expect("an expired record can be destroyed");
}

/// A load removes nothing and moves no expiry: by a clock that is behind, an expired record still exists.
pub fn loading_never_writes(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    for time in [HOUR - MILLI, HOUR, 10 * HOUR] {
        store.found_at(&token, store.after(time));
        expect_eq!(
            store.found(&token),
            Some(record.clone()),
            "the record by the clock at its creation, after a load by one that is {time:?} ahead"
        );
    }
}

/// An expiry at the end of time is kept, and times that are out of order do no harm.
pub fn an_expiry_beyond_all_calendars_is_kept(harness: &dyn Harness) {
    let store = Store::open(harness);
    let endless = Record { expires: Timestamp::MAX, ..empty(store.now, HOUR) };
    let token = store.stored(&endless);
    assert!(
        store.found_at(&token, store.after(1000 * HOUR)).is_some(),
        "created with an expiry at the end of time, the record is gone after 1,000 hours"
    );
    let token = store.touch(&token, Timestamp::MAX, store.now).expect("touching works");
    assert!(
        store.found_at(&token, store.after(1000 * HOUR)).is_some(),
        "touched to an expiry at the end of time, the record is gone after 1,000 hours"
    );
    store.drain(store.much_later(), 10);
    assert!(store.found(&token).is_some(), "a record that never expires is collected");

    let token = store.stored(&empty(store.now, HOUR));
    let changes = Changes::new().with_expiry(ExpiryChange::Extend(until(Timestamp::MAX)));
    let token = store.saved(&token, &changes);
    assert!(
        store.found_at(&token, store.after(1000 * HOUR)).is_some(),
        "saved with an expiry at the end of time, the record is gone after 1,000 hours"
    );

    let early = Record { created: Timestamp::default(), ..empty(store.now, HOUR) };
    expect_eq!(
        store.found(&store.stored(&early)),
        Some(early),
        "a record that was created in 1970"
    );
    let token = store.stored(&empty(store.now, HOUR));
    let behind = store.found_at(&token, Timestamp::default());
    expect_eq!(
        behind.is_some(),
        store.can.from_the_future,
        "whether a clock in 1970 finds the record, as the capability from_the_future says"
    );
    expect_eq!(
        store.found_at(&token, Timestamp::MAX),
        None,
        "a record that lives for an hour, at the last instant that there is"
    );
}

/// A session lives exactly for the configured lifetime, remembered or not: for a second, for more milliseconds or
/// seconds than fit in 32 bits, and for as many seconds as fit in 64 bits.
pub fn a_lifetime_of_any_length_holds(harness: &dyn Harness) {
    const DAY: u64 = 86_400;
    const YEAR: u64 = 31_556_952;
    // A time that the calendars of all stores contain.
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
                    expect_eq!(
                        found.is_some(),
                        lives,
                        "whether a session with a lifetime of {length:?} is there {time:?} later"
                    );
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
    expect_eq!(
        store.found_at(&token, store.after(2 * HOUR - MILLI)),
        Some(touched),
        "loaded a millisecond before the expiry that a touch has set"
    );
    expect_eq!(store.found_at(&token, expires), None, "loaded at the expiry that a touch has set");
}

/// A touch with an earlier expiry changes nothing, however early that is.
pub fn a_touch_never_shortens(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let mut token = store.stored(&record);
    for expires in [store.after(HOUR), store.after(HOUR - MILLI), store.now, Timestamp::default()] {
        token = store.touch(&token, expires, store.now).expect("a live record is touched");
        expect_eq!(
            store.found(&token),
            Some(record.clone()),
            "the record, touched to {expires:?}, which is not later than its expiry"
        );
    }
}

/// A touch that arrives after a newer one of another handle changes nothing.
pub fn a_late_touch_changes_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let token = store.stored(&record);
    let newest = store.after(3 * HOUR);
    store.touch(&token, newest, store.now).expect("a live record is touched");
    store.another().touch(&token, store.after(2 * HOUR), store.now).expect("and again");
    let changes = Changes::new().with_expiry(ExpiryChange::Extend(until(store.after(2 * HOUR))));
    store.saved(&token, &changes);
    expect_eq!(
        store.found(&token),
        Some(Record { expires: newest, ..record }),
        "the record, after a touch and a save with an earlier expiry than the newest"
    );
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
        expect_eq!(
            found,
            Record { used: wanted, ..record.clone() },
            "the record, with its last use touched to {touched:?}"
        );
    }
}

/// A touch doesn't check the secret. It extends the session for its current holder, and gives the client of an old
/// secret nothing.
pub fn a_touch_goes_by_the_key(harness: &dyn Harness) {
    let store = Store::open(harness);
    let record = record(store.now);
    let old = store.stored(&record);
    let new = store.renew(&old, store.now).expect("a live session gets a new secret");
    let expires = store.after(2 * HOUR);
    store.touch(&old, expires, store.now).expect("the key is the session's");
    expect_eq!(store.found(&old), None, "what the old secret opens, after a touch with it");
    expect_eq!(
        store.found(&new),
        Some(Record { expires, ..record }),
        "what the new secret opens, after a touch with the old one"
    );
}

/// A create sets the store's own expiry of the record, such as a timer: by the caller's clock, for a lifetime of any
/// length, and also if it replaces an expired record.
pub fn a_create_sets_the_stores_own_expiry(harness: &dyn Harness) {
    const DAY: Duration = Duration::from_secs(86_400);
    const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let Some(timer) = Timer::of(harness, &token, store.after(HOUR), store.now) else { return };
    let created = |id: &SessionId, lives, now| {
        let created = store.create(id, &empty(now, lives), now);
        created.expect("a record is created under a new key and in the place of an expired record")
    };
    let later = store.much_later();
    for now in [store.now, later] {
        // The third has more milliseconds than fit in 32 bits.
        for lives in [HOUR, 25 * DAY, 50 * DAY, 400 * DAY, LONGEST] {
            let token = created(&store.new_id(), lives, now);
            let what = format!("created at {now:?} for {lives:?}");
            timer.check(&token, now.saturating_add(lives), now, &what);
        }
        let token = created(&store.new_id(), Duration::MAX, now);
        let capped = harness.store_expiry(&token.key(), now).expect("it was known before");
        assert!(
            capped >= now.saturating_add(LONGEST),
            "created at {now:?} for ever: the store lets the record go at {capped:?}. It may cap its timer at \
             what the server takes, and not below {LONGEST:?}"
        );
    }
    for lives in [3 * HOUR, HOUR / 2] {
        let old = store.stored(&record(store.now));
        let token = created(old.id(), lives, later);
        let what = format!(
            "created at {later:?} for {lives:?}, in the place of a record that had expired at {:?}",
            store.after(HOUR)
        );
        timer.check(&token, later.saturating_add(lives), later, &what);
    }
}

/// A touch moves the store's own expiry of the record, such as a timer. If the timer isn't moved, a live record is
/// lost.
pub fn a_touch_moves_the_stores_own_expiry(harness: &dyn Harness) {
    let store = Store::open(harness);
    let token = store.stored(&record(store.now));
    let Some(timer) = Timer::of(harness, &token, store.after(HOUR), store.now) else { return };
    for (time, touched, wanted) in
        [(HOUR / 2, 2 * HOUR, 2 * HOUR), (HOUR / 2, HOUR, 2 * HOUR), (HOUR, 72 * HOUR, 72 * HOUR)]
    {
        let now = store.after(time);
        let result = store.touch(&token, store.after(touched), now);
        result.expect("a live record is touched");
        let what = format!("touched at {now:?} to {:?}", store.after(touched));
        timer.check(&token, store.after(wanted), now, &what);
    }
}

/// A save moves the store's own expiry of the record in the same way as the record's: later and earlier, with a new
/// secret or without.
pub fn a_save_moves_the_stores_own_expiry(harness: &dyn Harness) {
    let store = Store::open(harness);
    let mut token = store.stored(&record(store.now));
    let Some(timer) = Timer::of(harness, &token, store.after(HOUR), store.now) else { return };
    let at = |time| until(store.after(time));
    for (time, is_renewed, change, wanted) in [
        (Duration::ZERO, false, ExpiryChange::Keep, HOUR),
        (HOUR / 4, false, ExpiryChange::Extend(at(2 * HOUR)), 2 * HOUR),
        (HOUR / 4, false, ExpiryChange::Extend(at(HOUR)), 2 * HOUR),
        (HOUR / 4, false, ExpiryChange::Set(at(HOUR / 2)), HOUR / 2),
        (HOUR / 4, false, ExpiryChange::Keep, HOUR / 2),
        (HOUR / 3, false, ExpiryChange::Set(at(72 * HOUR)), 72 * HOUR),
        (HOUR / 2, true, ExpiryChange::Extend(at(96 * HOUR)), 96 * HOUR),
        (HOUR / 2, true, ExpiryChange::Set(at(HOUR)), HOUR),
    ] {
        let now = store.after(time);
        let mut changes = set("a", 5).with_expiry(change);
        if is_renewed {
            changes = store.with_secret(&token, changes, now);
        }
        token = store.save(&token, &changes, now).expect("a live record is saved");
        let secret = if is_renewed { ", with a new secret" } else { "" };
        let what = format!("saved at {now:?} with {change:?}{secret}");
        timer.check(&token, store.after(wanted), now, &what);
    }
}

/// The expiry by which the store itself removes records.
struct Timer<'h> {
    harness: &'h dyn Harness,
    /// How much later than its expiry the first record is removed.
    margin: Duration,
}

impl<'h> Timer<'h> {
    /// Stores round times, and some count down while the test runs.
    const TOLERANCE: Duration = Duration::from_secs(60);

    /// Takes the margin from a record that was just created. `None` if the harness can't tell.
    fn of(
        harness: &'h dyn Harness,
        token: &Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> Option<Self> {
        let Some(timer) = harness.store_expiry(&token.key(), now) else {
            skip("the harness can't tell when the store lets a record go");
            return None;
        };
        assert!(
            timer >= expires,
            "created at {now:?} to expire at {expires:?}, the store lets the record go at {timer:?}, before \
             that: a timer goes by the caller's `now`, not by the system's clock"
        );
        Some(Self { harness, margin: timer.since(expires) })
    }

    /// Checks that the timer is the one of a new record with this expiry. The record was last written at `now`.
    fn check(&self, token: &Token, expires: Timestamp, now: Timestamp, what: &str) {
        let timer = self.harness.store_expiry(&token.key(), now);
        let timer = timer.unwrap_or_else(|| panic!("{what}: the store has no expiry any more"));
        assert!(
            timer >= expires,
            "{what}: the record expires at {expires:?}, and the store lets it go at {timer:?}, before that"
        );
        let latest = expires.saturating_add(self.margin + Self::TOLERANCE);
        assert!(
            timer <= latest,
            "{what}: the record expires at {expires:?}, and the store keeps it up to {timer:?}. The first \
             record had a margin of {:?}: is the timer set by each write, and by the caller's `now`?",
            self.margin
        );
    }
}
