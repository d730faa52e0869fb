//! Concurrent requests of one visitor, in every order.
//!
//! Each case runs many seeds; a seed decides how long each store operation takes and which request
//! is polled next. There are two managers over the store, as two processes have them.

use std::sync::Arc;

use crate::clock::TestClock;
use crate::conformance::expect::{expect_eq, expect_matches};
use crate::conformance::sample::{HOUR, MILLI, record};
use crate::conformance::site::{Reply, Site, Visitor, numbers};
use crate::conformance::store::{Store, wait};
use crate::conformance::{Harness, Task, interleave};
use crate::provider::{Record, Token};
use crate::transport::SameSite;
use crate::{Config, Error, LoadedSession, SessionId};

pub(crate) fn seeds(harness: &dyn Harness) -> impl Iterator<Item = u64> {
    0..harness.rounds().div_ceil(4) as u64
}

/// Requests that set different keys all succeed, and all keys are there afterwards.
pub fn requests_that_set_different_keys_lose_nothing(harness: &dyn Harness) {
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        wait(harness, async {
            let visitor = sites[0].enter(&[("a", 0), ("b", 0), ("x", 9)]).await;
            let tasks = ["a", "b", "c", "d"].iter().enumerate().map(|(n, key)| {
                let handler = async |session: LoadedSession| session.set(key, &1);
                Box::pin(sites[n % 2].request(&visitor, handler)) as Task<'_, _>
            });
            for answer in interleave(seed, tasks.collect()).await {
                expect_matches!(
                    answer,
                    Ok(Reply::Nothing),
                    "seed {seed}: a form that sets a key of its own, beside three others"
                );
            }
            let wanted = numbers(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("x", 9)]);
            expect_eq!(
                sites[1].values(&visitor).await,
                wanted,
                "seed {seed}: the values after four forms at once"
            );
        });
    }
}

/// Of parallel updates of one number, each counts once, and each sees a number of its own.
pub fn parallel_updates_lose_none(harness: &dyn Harness) {
    const REQUESTS: usize = 6;
    // Fewer seeds: updates that conflict back off in real time.
    for seed in seeds(harness).step_by(5) {
        let sites = Site::two(harness, seed);
        wait(harness, async {
            let visitor = sites[0].enter(&[("x", 9)]).await;
            let tasks = (0..REQUESTS).map(|n| {
                let (site, visitor) = (&sites[n % 2], &visitor);
                Box::pin(async move {
                    let mut seen = Vec::new();
                    let request = site.request(visitor, async |session| {
                        for _ in 0..2 {
                            let next = |n: Option<u64>| n.unwrap_or(0) + 1;
                            seen.push(session.update("n", next).await?);
                        }
                        Ok(())
                    });
                    request.await.expect("an update succeeds");
                    seen
                }) as Task<'_, Vec<u64>>
            });
            let seen = interleave(seed, tasks.collect()).await;
            let mut all: Vec<u64> = seen.into_iter().flatten().collect();
            all.sort_unstable();
            let most = 2 * REQUESTS as u64;
            assert!(
                all.iter().copied().eq(1..=most),
                "seed {seed}: {most} updates at once return not each a number of its own: {all:?}"
            );
            let wanted = numbers(&[("n", most), ("x", 9)]);
            expect_eq!(
                sites[1].values(&visitor).await,
                wanted,
                "seed {seed}: the values after updates at once"
            );
        });
    }
}

/// A request that loaded its session before it was destroyed elsewhere can't save it: a form is told
/// [`Error::Gone`], a page goes out as it is, neither announces anything, and the store has no record.
pub fn a_request_slower_than_a_logout_brings_nothing_back(harness: &dyn Harness) {
    let store = Store::open(harness);
    let destroy = async |session: LoadedSession| session.destroy().await;
    let sites = Site::two(harness, 0);
    wait(harness, async {
        let visitor = sites[0].enter(&[("user", 1)]).await;
        let slow = sites[0].request(&visitor, async |session| {
            let logout = sites[1].request(&visitor, destroy).await;
            expect_matches!(logout, Ok(Reply::Removed), "the logout itself");
            session.set("late", &1)
        });
        let result = slow.await;
        expect_matches!(result, Err(Error::Gone), "a form whose session was destroyed meanwhile");
        let visitor = sites[0].enter(&[("user", 1)]).await;
        let slow = sites[0].page(&visitor, async |session| {
            sites[1].request(&visitor, destroy).await?;
            session.set("late", &1)
        });
        let result = slow.await;
        expect_matches!(result, Ok(Reply::Nothing), "a page whose session was destroyed meanwhile");
        assert!(
            sites[0].values(&visitor).await.is_empty(),
            "the cookie of a destroyed session reads values"
        );
    });
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let dead = wait(harness, async {
            let visitor = sites[0].enter(&[("user", 1)]).await;
            let dead = sites[0].token(&visitor);
            let tasks = vec![
                Box::pin(sites[0].request(&visitor, async |session| session.set("late", &1)))
                    as Task<'_, _>,
                Box::pin(sites[1].request(&visitor, destroy)),
            ];
            match &interleave(seed, tasks).await[..] {
                [Ok(Reply::Nothing) | Err(Error::Gone), Ok(Reply::Removed)] => {}
                // It came after the logout, anonymous, and began a session of its own.
                [Ok(Reply::Issued(new)), Ok(Reply::Removed)] => {
                    assert!(
                        sites[0].token(new).key() != dead.key(),
                        "seed {seed}: a session that begins after a logout has the key of the one that ended"
                    );
                }
                other => {
                    panic!("seed {seed}: a form beside a logout, and the logout, return {other:?}")
                }
            }
            dead
        });
        let left = store.load(&dead, store.now).expect("loading works");
        expect_eq!(left, None, "seed {seed}: the session, after its logout beside a form");
    }
}

/// A request with the id from before a login, on this server or another, before or while the login runs:
/// what it saved is kept whole or refused whole; a late page announces nothing, so that the client keeps the
/// login's cookie; and the old id opens nothing.
pub fn a_request_slower_than_a_login_leaves_the_login_alone(harness: &dyn Harness) {
    let store = Store::open(harness);
    let login = async |session: LoadedSession| {
        session.set("user", &7)?;
        session.log_in("ada")
    };
    let late = async |session: LoadedSession| session.set("late", &1);
    let sites = Site::two(harness, 0);
    wait(harness, async {
        let visitor = sites[0].enter(&[("cart", 3)]).await;
        let mut after = None;
        let slow = sites[0].request(&visitor, async |session| {
            after = Some(sites[1].request(&visitor, login).await?);
            session.set("late", &1)
        });
        let result = slow.await;
        expect_matches!(result, Err(Error::Gone), "a form that a login overtakes");
        let after = after.expect("the login returns").reaches(visitor.clone());
        let result = sites[0].request(&visitor, late).await;
        expect_matches!(result, Err(Error::Gone), "a form with the id from before a login");
        let result = sites[0].page(&visitor, late).await;
        expect_matches!(result, Ok(Reply::Nothing), "a page with the id from before a login");
        expect_eq!(
            sites[0].values(&visitor).await,
            numbers(&[]),
            "the values by the id from before a login"
        );
        expect_eq!(
            sites[0].values(&after).await,
            numbers(&[("cart", 3), ("user", 7)]),
            "the values by the login's cookie"
        );
    });
    for seed in seeds(harness) {
        let is_page = seed % 2 == 0;
        let sites = Site::two(harness, seed);
        let old = wait(harness, async {
            let visitor = sites[0].enter(&[("cart", 3)]).await;
            let slow: Task<'_, _> = match is_page {
                true => Box::pin(sites[0].page(&visitor, late)),
                false => Box::pin(sites[0].request(&visitor, late)),
            };
            let tasks = vec![slow, Box::pin(sites[1].request(&visitor, login))];
            let mut replies = interleave(seed, tasks).await;
            let (login, slow) = (replies.pop(), replies.pop());
            let Some(Ok(Reply::Issued(after))) = login else {
                panic!(
                    "seed {seed}: a login beside a request with the old id: {login:?}, not a new cookie"
                )
            };
            let old = numbers(&[("cart", 3), ("user", 7)]);
            let new = numbers(&[("cart", 3), ("late", 1), ("user", 7)]);
            let values = sites[0].values(&after).await;
            match slow {
                Some(Ok(Reply::Nothing)) if is_page => {
                    assert!(
                        values == old || values == new,
                        "seed {seed}: the values after a login beside a page are neither with the page's nor without: {values:?}"
                    );
                }
                Some(Ok(Reply::Nothing)) => expect_eq!(
                    values,
                    new,
                    "seed {seed}: the values after a login beside a form that succeeded"
                ),
                // It may have loaded the session, and stored nothing.
                Some(Err(Error::Gone)) if !is_page => expect_eq!(
                    values,
                    old,
                    "seed {seed}: the values after a login beside a form that was refused"
                ),
                other => panic!(
                    "seed {seed}: a request with the id from before a login returns {other:?}"
                ),
            }
            sites[0].token(&visitor)
        });
        expect_eq!(store.found(&old), None, "seed {seed}: what the id from before a login opens");
    }
}

/// Of concurrent requests that give the session a new id, one does. The others have nothing to lose, and get no error.
pub fn racing_regenerations_leave_one_session(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let old = wait(harness, async {
            let visitor = sites[0].enter(&[("cart", 3)]).await;
            let tasks = (0..3).map(|n: usize| {
                let handler = async |session: LoadedSession| session.regenerate();
                Box::pin(sites[n % 2].request(&visitor, handler)) as Task<'_, _>
            });
            let mut issued = Vec::new();
            for reply in interleave(seed, tasks.collect()).await {
                match reply {
                    Ok(Reply::Issued(visitor)) => issued.push(visitor),
                    Ok(Reply::Nothing) => {}
                    other => {
                        panic!("seed {seed}: one of three regenerations at once returns {other:?}")
                    }
                }
            }
            expect_eq!(issued.len(), 1, "seed {seed}: new ids, of three regenerations at once");
            let values = sites[1].values(&issued[0]).await;
            expect_eq!(values, numbers(&[("cart", 3)]), "seed {seed}: the values by the new id");
            sites[0].token(&visitor)
        });
        expect_eq!(
            store.found(&old),
            None,
            "seed {seed}: what the id from before a regeneration opens"
        );
    }
}

/// Of logins at once from one old id each succeeds, and whichever cookie the browser keeps, it is logged in.
/// Those that had loaded the old session keep its values.
pub fn logins_at_once_all_succeed(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let (old, cookies) = wait(harness, async {
            let visitor = sites[0].enter(&[("cart", 3)]).await;
            let tasks = (0..3).map(|n: usize| {
                let handler = async |session: LoadedSession| {
                    session.set("user", &7)?;
                    session.log_in("ada")
                };
                Box::pin(sites[n % 2].request(&visitor, handler)) as Task<'_, _>
            });
            let mut cookies = Vec::new();
            for reply in interleave(seed, tasks.collect()).await {
                match reply {
                    Ok(Reply::Issued(visitor)) => cookies.push(visitor),
                    other => panic!(
                        "seed {seed}: one of three logins at once returns {other:?}, not a new cookie"
                    ),
                }
            }
            let mut kept = 0;
            for cookie in &cookies {
                let mut owner = None;
                let page = sites[0].page(cookie, async |session| {
                    owner = session.owner();
                    Ok(())
                });
                page.await.expect("a page is served");
                expect_eq!(
                    owner.as_deref(),
                    Some("ada"),
                    "seed {seed}: the owner by the cookie of one of three logins at once"
                );
                let values = sites[1].values(cookie).await;
                expect_eq!(
                    values.get("user"),
                    Some(&7),
                    "seed {seed}: the value that a login stored, by its cookie"
                );
                kept += usize::from(values.contains_key("cart"));
            }
            assert!(
                kept >= 1,
                "seed {seed}: none of three logins at once keeps the values from before"
            );
            let tokens: Vec<Token> = cookies.iter().map(|cookie| sites[0].token(cookie)).collect();
            (sites[0].token(&visitor), tokens)
        });
        expect_eq!(
            store.found(&old),
            None,
            "seed {seed}: what the id from before the logins opens"
        );
        assert!(
            cookies.iter().all(|token| store.found(token).is_some()),
            "seed {seed}: the cookie of one of three logins at once opens no record"
        );
    }
}

/// Logouts at once all succeed and clear the cookie, and the session is gone.
pub fn logouts_at_once_all_succeed(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let dead = wait(harness, async {
            let visitor = sites[0].enter(&[("user", 1)]).await;
            let tasks = (0..3).map(|n: usize| {
                let handler = async |session: LoadedSession| session.destroy().await;
                Box::pin(sites[n % 2].request(&visitor, handler)) as Task<'_, _>
            });
            let replies = interleave(seed, tasks.collect()).await;
            let all = replies.iter().all(|reply| matches!(reply, Ok(Reply::Removed)));
            assert!(
                all,
                "seed {seed}: of three logouts at once, one doesn't remove the cookie: {replies:?}"
            );
            sites[0].token(&visitor)
        });
        expect_eq!(
            store.load(&dead, store.now).expect("loading works"),
            None,
            "seed {seed}: the session, after three logouts at once"
        );
    }
}

/// A logout that succeeds has ended the session, even if another request gives it a new id at the
/// same time; one that comes after that, with the old id, ends nothing and is told so.
pub fn a_logout_does_not_miss_a_session_that_gets_a_new_id(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let (over, old) = wait(harness, async {
            let visitor = sites[0].enter(&[("user", 1)]).await;
            let destroy = async |session: LoadedSession| session.destroy().await;
            let regenerate = async |session: LoadedSession| session.regenerate();
            let tasks: Vec<Task<'_, _>> = vec![
                Box::pin(sites[0].request(&visitor, destroy)),
                Box::pin(sites[1].request(&visitor, regenerate)),
            ];
            let replies = interleave(seed, tasks).await;
            let over = match &replies[0] {
                Ok(Reply::Removed) => true,
                Err(Error::Gone) => false,
                other => panic!("seed {seed}: a logout beside a regeneration returns {other:?}"),
            };
            assert!(
                replies[1].is_ok(),
                "seed {seed}: a regeneration beside a logout: {:?}",
                replies[1]
            );
            (over, sites[0].token(&visitor))
        });
        let left = store.load(&old, store.now).expect("loading works");
        expect_eq!(
            left.is_none(),
            over,
            "seed {seed}: whether the session has ended, as its logout beside a regeneration returned"
        );
    }
}

/// A live session's key with a wrong secret is treated like an unknown key: nothing is loaded, nothing is written to
/// the record, and no session begins under the key.
pub fn a_wrong_secret_is_a_stranger(harness: &dyn Harness) {
    let store = Store::open(harness);
    let longer_ago = store.now.saturating_sub(super::super::sample::HOUR / 4);
    let victim = Record { renewed: longer_ago, ..record(store.now) };
    let token = store.stored(&victim);
    let guess = store.secret(&token, store.now).token;
    let site = Site::over(harness.provider(), harness);
    wait(harness, async {
        let stranger = guess.with_client_text(Visitor::with_text);
        expect_eq!(
            site.values(&stranger).await,
            numbers(&[]),
            "the values that a wrong secret reads"
        );
        let reply = site.request(&stranger, async |session| session.set("mine", &1)).await;
        let Ok(Reply::Issued(own)) = reply else {
            panic!("a form with a wrong secret returns {reply:?}, not a new cookie")
        };
        assert!(
            site.token(&own).key() != token.key(),
            "a form with a wrong secret begins a session under the key that it sent"
        );
        let reply = site.request(&stranger, async |session| session.destroy().await).await;
        expect_matches!(reply, Ok(Reply::Removed), "a logout with a wrong secret");
    });
    expect_eq!(
        store.found(&token),
        Some(victim),
        "the session, after requests with a wrong secret"
    );
}

/// An id of one namespace is unknown in every other: applications that share a store can't read, change or end each
/// other's sessions.
pub fn an_id_of_another_namespace_is_a_strangers(harness: &dyn Harness) {
    const NAMESPACES: [&str; 3] = ["", "shop", "shop2"];
    let store = Store::open(harness);
    let sites_after = |time| {
        NAMESPACES.map(|namespace| {
            let config = Config {
                namespace: namespace.into(),
                gc_every: Default::default(),
                ..Config::default()
            };
            let clock = Arc::new(TestClock::at(store.after(time)));
            Site::build(harness.provider(), harness, |builder| {
                builder.with_config(config).with_clock(clock)
            })
        })
    };
    // So long after the last new id that no id counts as superseded.
    let (first, sites) = (sites_after(Default::default()), sites_after(HOUR / 4));
    wait(harness, async {
        for ((first, home), namespace) in first.iter().zip(&sites).zip(NAMESPACES) {
            let visitor = first.enter(&[("a", 1)]).await;
            for (site, other) in sites.iter().zip(NAMESPACES) {
                if namespace == other {
                    continue;
                }
                let what =
                    format!("an id of the namespace {namespace:?}, in the namespace {other:?}");
                expect_eq!(site.values(&visitor).await, numbers(&[]), "{what}, reads values");
                let stored = site.request(&visitor, async |session| session.set("a", &2)).await;
                // A value that is set with an unknown id begins a new session.
                let adopted = match &stored {
                    Ok(Reply::Issued(new)) => site.token(new).key() == home.token(&visitor).key(),
                    _ => true,
                };
                assert!(!adopted, "{what}, saves: {stored:?}");
                let ended = site.request(&visitor, async |session| session.destroy().await).await;
                expect_matches!(ended, Ok(Reply::Removed), "{what}, logs out");
                let values = home.values(&visitor).await;
                expect_eq!(
                    values,
                    numbers(&[("a", 1)]),
                    "the values of the session, after {what}, was sent"
                );
            }
        }
    });
}

/// A new session whose random key is taken gets another key, and the record that has the key stays as it is.
pub fn a_taken_key_is_never_overwritten(harness: &dyn Harness) {
    let store = Store::open(harness);
    let somebody = record(store.now);
    let token = store.stored(&somebody);
    let taken = *token.id();
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let ids = move || match turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 3 {
        0 | 1 => Ok(taken),
        _ => SessionId::generate(),
    };
    let site = Site::build(harness.provider(), harness, |builder| builder.with_id_source(ids));
    wait(harness, async {
        let visitor = site.enter(&[("a", 1)]).await;
        assert!(
            site.token(&visitor).key() != taken.key(),
            "a new session has the key of another one"
        );
        expect_eq!(
            site.values(&visitor).await,
            numbers(&[("a", 1)]),
            "the values of a new session whose first key was taken"
        );
    });
    expect_eq!(store.found(&token), Some(somebody), "the record whose key was drawn again");
}

/// A lifetime that one request shortened holds, whatever the touch of another does that began before: that
/// may move the stored expiry, and the session's own lifetime counts when it is loaded.
pub fn a_late_touch_undoes_no_shortened_lifetime(harness: &dyn Harness) {
    const MINUTE: std::time::Duration = std::time::Duration::from_secs(60);
    let store = Store::open(harness);
    let site = Site::over(harness.provider(), harness);
    wait(harness, async {
        let visitor = site.enter(&[("a", 1)]).await;
        let short = async |session: LoadedSession| {
            session.set_lifetime(crate::Lifetime { idle: MINUTE, absolute: 10 * MINUTE })
        };
        let visitor = site.request(&visitor, short).await.expect("it is stored").reaches(visitor);
        // What a request computed that had loaded the session before.
        let late = crate::provider::Touch { used: store.now, expires: store.after(30 * MINUTE) };
        let token = site.token(&visitor);
        let touched = store.provider().touch(&token, late, store.now).await;
        touched.expect("a live record is touched");
        for (time, lives) in [(MINUTE / 2, true), (2 * MINUTE, false), (11 * MINUTE, false)] {
            let clock = TestClock::at(store.after(time));
            let site = Site::build(harness.provider(), harness, |builder| {
                builder.with_clock(Arc::new(clock))
            });
            let found = !site.values(&visitor).await.is_empty();
            expect_eq!(
                found,
                lives,
                "whether the session with a shortened lifetime is there, {time:?} later"
            );
        }
    });
}

/// A visitor who is remembered finds the session after a month without use, less a moment, where the others'
/// have ended; one who is remembered no longer doesn't.
pub fn a_remembered_session_outlives_the_others(harness: &dyn Harness) {
    let remember = crate::Config::default().remember;
    let store = Store::open(harness);
    let site = Site::over(harness.provider(), harness);
    wait(harness, async {
        let plain = site.enter(&[("a", 1)]).await;
        let switched = async |visitor: Visitor, on| {
            let reply = site.request(&visitor, async |session| session.remember(on)).await;
            reply.expect("it is stored").reaches(visitor)
        };
        let remembered = switched(plain.clone(), true).await;
        let forgotten = site.enter(&[("a", 1)]).await;
        let forgotten = switched(switched(forgotten, true).await, false).await;
        let other = site.enter(&[("a", 1)]).await;
        let idle = crate::Config::default().idle;
        for (time, lives) in [(idle, true), (remember - MILLI, true), (remember, false)] {
            let clock = TestClock::at(store.after(time));
            let site = Site::build(harness.another(), harness, |builder| {
                builder.with_clock(Arc::new(clock))
            });
            let found = async |visitor: &Visitor| {
                let mut found = None;
                let page = site.page(visitor, async |session| {
                    found = session.get::<u64>("a")?;
                    Ok(())
                });
                page.await.expect("a page is served");
                found.is_some()
            };
            expect_eq!(
                found(&remembered).await,
                lives,
                "whether a remembered session is there, {time:?} later"
            );
            assert!(
                !found(&forgotten).await,
                "a session that is remembered no longer is there, {time:?} later"
            );
            assert!(
                !found(&other).await,
                "a session that was never remembered is there, {time:?} later"
            );
        }
    });
}

/// A cookie with a Max-Age is announced again in each of its thirds, and once when its attributes are
/// configured differently; not by a page that a login overtakes.
pub fn a_cookie_is_announced_again_in_each_third(harness: &dyn Harness) {
    const THIRD: std::time::Duration = HOUR;
    let store = Store::open(harness);
    let site_after = |time, same_site| {
        let mut config = Config { gc_every: Default::default(), ..Config::default() };
        (config.idle, config.absolute) = (24 * HOUR, 24 * HOUR);
        config.cookie.same_site = same_site;
        config.cookie.persistent = true;
        config.cookie.max_age = Some(3 * THIRD);
        let clock = Arc::new(TestClock::at(store.after(time)));
        Site::build(harness.another(), harness, |builder| {
            builder.with_config(config).with_clock(clock)
        })
    };
    let is_told = async |site: &Site, visitor: &Visitor| {
        let page = site.page(visitor, async |session| session.get::<u64>("a").map(drop)).await;
        matches!(page.expect("a page is served"), Reply::Issued(told) if told == *visitor)
    };
    wait(harness, async {
        let (lax, strict) = (SameSite::Lax, SameSite::Strict);
        let first = site_after(THIRD / 2, lax);
        let visitor = site_after(THIRD / 4, lax).enter(&[("a", 1)]).await;
        assert!(
            !is_told(&first, &visitor).await,
            "a cookie is announced again in the first third of its Max-Age"
        );
        for (time, same_site) in [(2 * THIRD, lax), (3 * THIRD, lax), (3 * THIRD, strict)] {
            let site = site_after(time, same_site);
            assert!(
                is_told(&site, &visitor).await,
                "a cookie is not announced again after {time:?}, with SameSite {same_site:?}"
            );
            assert!(
                !is_told(&site, &visitor).await,
                "a cookie is announced a second time after {time:?}, with SameSite {same_site:?}"
            );
        }
        let site = site_after(4 * THIRD + THIRD / 2, strict);
        let mut login = None;
        let page = site.page(&visitor, async |_| {
            login = Some(site.request(&visitor, async |session| session.log_in("ada")).await?);
            Ok(())
        });
        let told = page.await.expect("a page is served");
        expect_matches!(told, Reply::Nothing, "a page that a login overtakes");
        let Some(Reply::Issued(visitor)) = login else {
            panic!("a login returns {login:?}, not a new cookie")
        };
        assert!(
            !is_told(&site, &visitor).await,
            "a cookie is announced again right after the login that announced it"
        );
    });
}
