//! Lifetimes of single sessions, longer or shorter than the manager's.

use session_core::{Config, Error, Lifetime, Manager, Timestamp};

use super::{ABSOLUTE, IDLE, TOUCH};
use crate::support::*;

#[test]
fn a_session_may_have_a_lifetime_of_its_own() {
    let long = Lifetime { idle: secs(86_400), absolute: secs(10 * 86_400) };
    started!(site, visitor);
    let start = site.manager.now();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(session.lifetime(), Lifetime { idle: secs(IDLE), absolute: secs(ABSOLUTE) });
        session.set_lifetime(long).unwrap();
        assert_eq!((session.lifetime(), session.remaining()), (long, long.idle));
    });
    assert!(reply.is_plain(), "a cookie that ends with the browser has no lifetime");
    for half_day in 1..20 {
        site.clock.set(start.saturating_add(secs(half_day * 43_199)));
        assert!(visitor.get("n").is_some(), "half day {half_day}");
    }
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    site.clock.set(start.saturating_add(secs(10 * 86_400 - 1)));
    let (remaining, _) = visitor.visit(async |handle| handle.load().await.unwrap().remaining());
    assert_eq!(remaining, secs(1));
    site.clock.advance(secs(1));
    assert_eq!(visitor.get("n"), None);
}

#[test]
fn a_shortened_lifetime_holds_at_once() {
    for (after, alive) in [(59, true), (60, false)] {
        started!(site, visitor);
        visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            session.set_lifetime(Lifetime { idle: secs(60), absolute: secs(600) }).unwrap();
        });
        site.clock.advance(secs(after));
        assert_eq!(visitor.get("n").is_some(), alive);
    }
    // An absolute lifetime that has already passed ends the session.
    started!(site, visitor);
    site.clock.advance(secs(700));
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set_lifetime(Lifetime { idle: secs(60), absolute: secs(600) }).unwrap();
    });
    assert_eq!((site.count(), visitor.get("n")), (0, None));
}

#[test]
fn a_session_with_a_short_idle_time_of_its_own_lives_while_it_is_read() {
    started!(site, visitor);
    let short = Lifetime { idle: secs(60), absolute: secs(ABSOLUTE) };
    visitor.visit(async |handle| handle.load().await.unwrap().set_lifetime(short).unwrap());
    for visit in 0..50 {
        site.clock.advance(secs(44));
        assert!(visitor.get("n").is_some(), "visit {visit}");
    }
    site.clock.advance(secs(60));
    assert_eq!(visitor.get("n"), None);
}

/// The manager's shorter idle time would ask for more touches.
#[test]
fn a_session_with_a_long_idle_time_of_its_own_is_touched_as_rarely_as_configured() {
    started!(site, visitor, |config| config.touch_every = Some(secs(IDLE)));
    let long = Lifetime { idle: secs(100 * IDLE), absolute: secs(1000 * IDLE) };
    visitor.visit(async |handle| handle.load().await.unwrap().set_lifetime(long).unwrap());
    site.store.calls();
    site.clock.advance(secs(IDLE - 1));
    visitor.get("n");
    assert_eq!(site.store.calls(), ["load"]);
    site.clock.advance(secs(1));
    visitor.get("n");
    assert_eq!(site.store.calls(), ["load", "touch"]);
}

#[test]
fn an_update_does_not_undo_a_shortened_lifetime() {
    started!(site, visitor);
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set_lifetime(Lifetime { idle: secs(60), absolute: secs(600) }).unwrap();
        session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
    });
    site.clock.advance(secs(60));
    assert_eq!(visitor.get("n"), None);
}

#[test]
fn a_new_session_may_have_its_own_lifetime_from_the_start() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set_lifetime(Lifetime { idle: secs(10), absolute: secs(100) }).unwrap();
        session.set("n", &1).unwrap();
    });
    site.clock.advance(secs(9));
    assert_eq!(visitor.get("n"), Some(1));
    site.clock.advance(secs(10));
    assert_eq!(visitor.get("n"), None);
}

#[test]
fn a_persistent_cookie_is_told_a_new_lifetime() {
    started!(site, visitor, |config| config.cookie.persistent = true);
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set_lifetime(Lifetime { idle: secs(60), absolute: secs(600) }).unwrap();
    });
    assert!(reply.attributes().ends_with("; Max-Age=600"));
}

#[test]
fn a_lifetime_of_nothing_is_refused() {
    started!(site, visitor);
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        for (idle, absolute) in [(0, 1000), (1000, 0), (0, 0), (999, 1000), (1000, 999)] {
            let [idle, absolute] = [idle, absolute].map(Duration::from_millis);
            let error = session.set_lifetime(Lifetime { idle, absolute });
            assert!(matches!(error, Err(Error::Config(_))));
        }
        assert_eq!(session.lifetime().idle, secs(IDLE));
        let forever = Lifetime { idle: Duration::MAX, absolute: Duration::MAX };
        session.set_lifetime(forever).unwrap();
    });
    site.clock.set(Timestamp::from_millis(u64::MAX - 1));
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn an_absolute_lifetime_that_is_lowered_in_the_configuration_holds_for_all() {
    started!(site, visitor);
    let strict = site.reconfigured(|config| {
        config.idle = secs(300);
        config.absolute = secs(600);
    });
    let visitor = Visitor::with_cookie(&strict, &visitor.cookie().unwrap());
    for _ in 0..2 {
        site.clock.advance(secs(299));
        assert_eq!(visitor.get("n"), Some(1));
    }
    site.clock.advance(secs(1));
    assert_eq!(visitor.get("n"), Some(1));
    site.clock.advance(secs(1));
    assert_eq!(visitor.get("n"), None);
    assert_eq!(strict.manager.stats().expired, 1);
}

#[test]
fn an_idle_time_that_is_lowered_in_the_configuration_ends_at_once_what_is_too_old_by_it() {
    for (unused, alive) in [(299, true), (300, false)] {
        started!(site, visitor);
        site.clock.advance(secs(unused));
        let strict = site.reconfigured(|config| config.idle = secs(300));
        let visitor = Visitor::with_cookie(&strict, &visitor.cookie().unwrap());
        assert_eq!(visitor.get("n").is_some(), alive, "after {unused} s");
        assert_eq!(strict.manager.stats().expired, u64::from(!alive));
    }
}

/// Neither a save nor an update nor a due touch undoes it.
#[test]
fn a_lifetime_that_one_request_shortens_is_not_undone_by_another() {
    for other in ["save", "update", "touch"] {
        started!(site, visitor);
        site.clock.advance(secs(TOUCH));
        let tab = visitor.tab();
        let set = visitor.begin(http::Method::POST);
        let late = match other {
            "touch" => {
                // The request loads the session before the change and touches it afterwards.
                site.store.sabotage("touch", Fault::Late);
                None
            }
            _ => Some(tab.begin(http::Method::POST)),
        };
        set.session.set_lifetime(Lifetime { idle: secs(60), absolute: secs(600) }).unwrap();
        match late {
            None => {
                let request = tab.request();
                block_on(async {
                    let handle = site.manager.start(&request);
                    let finish = async { set.finish().unwrap() };
                    futures_lite::future::zip(handle.load(), finish).await.0.unwrap();
                });
            }
            Some(late) => {
                set.finish().unwrap();
                match other {
                    "save" => late.session.set("m", &1u64).unwrap(),
                    _ => {
                        let added = late.session.update("n", |n: Option<u64>| n.unwrap() + 1);
                        assert_eq!(block_on(added).unwrap(), 2);
                    }
                }
                late.finish().unwrap();
            }
        }
        site.store.mend();
        site.clock.advance(secs(59));
        let request = visitor.begin(http::Method::GET);
        assert!(!request.session.is_new(), "{other}");
        assert_eq!(request.session.lifetime().idle, secs(60), "{other}");
        site.clock.advance(secs(60));
        assert_eq!(visitor.get("n"), None, "{other}");
    }
}

/// With a touch, without one, and with one that fails.
#[test]
fn what_remaining_says_holds() {
    let short = Lifetime { idle: secs(60), absolute: secs(ABSOLUTE) };
    for unused in [0, 1, TOUCH - 1, TOUCH, IDLE - 1] {
        for what in ["read", "touch fails", "changed", "own lifetime", "logged in", "almost over"] {
            started!(site, visitor);
            if what == "almost over" {
                while site.manager.now().as_secs() < 1_000_000 + ABSOLUTE - IDLE {
                    site.clock.advance(secs(600));
                    visitor.get("n");
                }
            }
            site.clock.advance(secs(unused) + Duration::from_millis(1));
            if what == "touch fails" {
                site.store.sabotage("touch", Fault::Down);
            }
            let request = visitor.begin(http::Method::POST);
            assert!(!request.session.is_new(), "{what} after {unused} s");
            match what {
                "changed" => request.session.set("n", &2u64).unwrap(),
                "own lifetime" => request.session.set_lifetime(short).unwrap(),
                "logged in" => request.session.log_in("ada").unwrap(),
                _ => {}
            }
            let remaining = request.session.remaining();
            assert!(remaining > Duration::ZERO);
            visitor.receive(request.finish().unwrap());
            site.store.mend();
            site.clock.advance(remaining - Duration::from_millis(1));
            assert!(site.has(&visitor.id()), "{what} after {unused} s");
            let tab = visitor.tab();
            assert!(tab.get("n").is_some(), "{what} after {unused} s");
        }
    }
}

#[test]
fn settings_alone_store_and_announce_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set_lifetime(Lifetime { idle: secs(10), absolute: secs(100) }).unwrap();
        session.set_persistent(true).unwrap();
        session.remember(true).unwrap();
        session.label("a device").unwrap();
        session.regenerate().unwrap();
        session.save().await.unwrap();
    });
    assert!(reply.is_plain());
    assert_eq!((site.store.calls(), site.count()), (vec![], 0));
}

/// A change of a configuration by a duration.
type Edit = fn(&mut Config, Duration);

/// The error names the option, and says what to write.
#[test]
fn a_duration_that_rounds_to_nothing_is_a_configuration_error() {
    let keys: [(&str, &str, Edit); 5] = [
        ("idle", "30m", |config, duration| config.idle = duration),
        ("absolute", "12h", |config, duration| config.absolute = duration),
        ("remember", "30d", |config, duration| config.remember = duration),
        ("cookie.max_age", "30d", |config, duration| config.cookie.max_age = Some(duration)),
        ("superseded_for", "10s", |config, duration| config.superseded_for = duration),
    ];
    for (key, example, edit) in keys {
        let built = |duration| {
            let mut config = Config::default();
            config.gc_every = Duration::ZERO;
            edit(&mut config, duration);
            Manager::builder().with_config(config).with_provider(Store::default()).build()
        };
        for millis in [0, 1, 500, 999] {
            let is_off = key == "superseded_for" && millis == 0;
            match built(Duration::from_millis(millis)) {
                Ok(_) => assert!(is_off, "{key}: {millis} ms"),
                Err(error) => {
                    assert!(!is_off && matches!(error, Error::Config(_)), "{key}: {error}");
                    let wanted = format!(
                        "{key} is less than a second; write, for instance, {key} = \"{example}\""
                    );
                    assert_eq!(error.to_string(), wanted);
                }
            }
        }
        for secs in [1, 25 * 86_400, u64::MAX] {
            assert!(built(Duration::from_secs(secs)).is_ok(), "{key}: {secs} s");
        }
    }
    for every in [Duration::from_nanos(1), Duration::from_micros(999)] {
        let mut config = Config::default();
        config.gc_every = every;
        let built = Manager::builder().with_config(config).with_provider(Store::default()).build();
        let text = built.err().map(|error| error.to_string());
        assert_eq!(
            text.as_deref(),
            Some("gc_every is less than a millisecond; write at least \"1ms\", or \"0s\"")
        );
    }
}

/// A `Max-Age` of zero in a session's last second would remove the cookie.
#[test]
fn a_persistent_cookie_is_never_announced_for_no_time() {
    started!(site, visitor, |config| {
        config.cookie.persistent = true;
        config.idle = secs(ABSOLUTE);
    });
    site.clock.advance(secs(ABSOLUTE) - Duration::from_millis(1));
    let ((), reply) = visitor.visit(async |handle| {
        handle.load().await.unwrap().regenerate().unwrap();
    });
    assert!(reply.attributes().ends_with("; Max-Age=1"), "{reply:?}");
    assert_eq!(visitor.get("n"), Some(1));
}
