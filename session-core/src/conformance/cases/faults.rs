//! Requests that are dropped, and stores that fail under requests.

use std::sync::Arc;

use http::{Method, Response};
use parking_lot::Mutex;

use crate::conformance::expect::{expect_eq, expect_matches};
use crate::conformance::site::{Reply, Site, Visitor, numbers};
use crate::conformance::store::{Store, wait};
use crate::conformance::{
    Counting, Delayed, Fault, Faulty, Harness, Operation, Task, abandon_after, interleave,
};
use crate::provider::{Provider, Token};
use crate::{Error, LoadedSession, SessionId};

/// More polls than any request here takes.
const POLLS: usize = 30;

/// More operations than any request here has.
const OPERATIONS: usize = 5;

const FAULTS: [Fault; 2] = [Fault::NotDone, Fault::Unanswered];

/// A request that is dropped leaves the session with all that it had changed, or with none of it;
/// and does no harm to a request that goes on.
pub fn a_dropped_request_leaves_the_old_or_the_new(harness: &dyn Harness) {
    for seed in 0..harness.rounds().div_ceil(2) as u64 {
        let sites = Site::two(harness, seed);
        wait(harness, async {
            let visitor = sites[0].enter(&[("a", 1), ("b", 1), ("c", 1)]).await;
            let dropped = sites[0].request(&visitor, async |session| {
                session.set("a", &2)?;
                session.delete("c")?;
                session.set("b", &2)
            });
            let other = async |session: LoadedSession| session.set("other", &1);
            let tasks = vec![
                Box::pin(abandon_after(seed as usize % POLLS, dropped)) as Task<'_, _>,
                Box::pin(async { Some(sites[1].request(&visitor, other).await) }),
            ];
            let replies = interleave(seed, tasks).await;
            let ended = replies[0].is_some();
            let fine = replies.iter().flatten().all(|reply| matches!(reply, Ok(Reply::Nothing)));
            assert!(
                fine,
                "seed {seed}: a request, or the one beside it that is dropped, fails or announces something: {replies:?}"
            );
            let old = numbers(&[("a", 1), ("b", 1), ("c", 1), ("other", 1)]);
            let new = numbers(&[("a", 2), ("b", 2), ("other", 1)]);
            let values = sites[1].values(&visitor).await;
            assert!(
                values == new || (values == old && !ended),
                "seed {seed}: values that are half of a dropped request's, or lost: {values:?}"
            );
        });
    }
}

/// A login that is dropped is stored as a whole or not at all: the old id opens the session as it was, or opens nothing
/// of what the login stored.
pub fn a_dropped_login_is_whole_or_nothing(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in 0..harness.rounds().div_ceil(2) as u64 {
        let site = Site::over(Delayed::new(harness.provider(), seed), harness);
        let (token, done) = wait(harness, async {
            let visitor = site.enter(&[("cart", 3)]).await;
            let login = site.request(&visitor, async |session| {
                session.set("user", &7)?;
                session.log_in("ada")
            });
            (site.token(&visitor), abandon_after(seed as usize % POLLS, login).await)
        });
        whole_login(&store, &token, done.is_some(), &format!("seed {seed}"));
    }
}

/// Checks that a login has happened as a whole, or not at all; and that it has, if its request ended well.
fn whole_login(store: &Store<'_>, old: &Token, must_be: bool, what: &str) {
    let look = || {
        let record = store.load(old, store.now).expect("loading works").expect("it is there");
        let is_login = record.login.is_some();
        let has_user = record.values.get("user").is_some();
        let is_renewed = record.holder != store.holder(old);
        assert!(
            record.values.get("cart").is_some(),
            "{what}: a login loses the value of \"cart\" from before"
        );
        (is_login, has_user, is_renewed)
    };
    // Asked again: what was dropped may have reached the store between two questions.
    let first = look();
    let seen = if first.0 == must_be { first } else { look() };
    expect_matches!(
        seen,
        (false, false, false) | (true, true, true),
        "{what}: half a login: login, value and new secret are stored"
    );
    assert!(!must_be || seen.0, "{what}: a login that succeeded is not stored");
}

/// A first visit that is dropped leaves one session at most, and that one whole.
pub fn a_dropped_first_visit_leaves_one_session_at_most(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in 0..harness.rounds().div_ceil(2) as u64 {
        let (ids, site) = recording(Delayed::new(harness.provider(), seed), harness);
        let stranger = Visitor::stranger();
        let visit = site.request(&stranger, async |session| {
            session.set("a", &1)?;
            session.set("b", &1)
        });
        let done = wait(harness, abandon_after(seed as usize % POLLS, visit));
        let issued = |id: &SessionId| store.provider().issue(*id);
        let live: Vec<_> = ids.lock().iter().filter_map(|id| store.found(&issued(id))).collect();
        assert!(
            live.len() <= 1,
            "seed {seed}: a first visit that is dropped leaves {} sessions",
            live.len()
        );
        assert!(
            live.iter().all(|record| record.values.len() == 2),
            "seed {seed}: a first visit that is dropped leaves half a session"
        );
        assert!(
            done.is_none() || live.len() == 1,
            "seed {seed}: a first visit ends well, and its session is not stored"
        );
    }
}

/// A store that fails at any operation of a request makes it fail, with nothing announced and
/// nothing half written; finishing it again succeeds.
pub fn a_failing_store_is_an_error_and_a_retry_succeeds(harness: &dyn Harness) {
    for (fault, passing) in
        FAULTS.into_iter().flat_map(|fault| (0..OPERATIONS).map(move |n| (fault, n)))
    {
        let what = format!("{fault:?} after {passing}");
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let site = Site::over(Arc::clone(&faulty), harness);
        wait(harness, async {
            let visitor = site.enter(&[("a", 1), ("b", 1)]).await;
            faulty.fail_after(passing, fault);
            let handle = site.manager.start(&visitor.request(Method::POST));
            let mut response = Response::new(());
            let first = async {
                let session = handle.load().await?;
                session.set("a", &2)?;
                session.set("b", &2)?;
                handle.finish(&mut response).await
            };
            let failed = first.await;
            expect_eq!(
                failed.is_err(),
                !faulty.is_pending(),
                "{what}: whether the request fails, as one of its operations did; it returned {failed:?}"
            );
            faulty.cancel();
            if let Err(error) = &failed {
                expect_eq!(error.status(), 503, "{what}: the status of {error:?}");
                assert!(response.headers().is_empty(), "{what}: a request that fails sets headers");
                let values = site.values(&visitor).await;
                let (old, new) = (numbers(&[("a", 1), ("b", 1)]), numbers(&[("a", 2), ("b", 2)]));
                assert!(
                    values == old || values == new,
                    "{what}: values that are half written: {values:?}"
                );
                if passing == 0 {
                    // It came no further than loading. Later, what was set is kept for the retry.
                    let session = handle.load().await.expect("the store works again");
                    session.set("a", &2).expect("a small value");
                    session.set("b", &2).expect("a small value");
                }
                handle.finish(&mut response).await.expect("the retry succeeds");
            }
            let visitor = Reply::of(response.headers()).reaches(visitor);
            expect_eq!(
                site.values(&visitor).await,
                numbers(&[("a", 2), ("b", 2)]),
                "{what}: the values after the retry"
            );
        });
    }
}

/// A first visit whose record can't be stored gets no cookie; finishing it again succeeds. One whose record
/// was stored, and whose answer was lost, is repeated and gets its cookie.
pub fn a_failed_first_visit_gets_no_cookie(harness: &dyn Harness) {
    for fault in FAULTS {
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let site = Site::over(Arc::clone(&faulty), harness);
        wait(harness, async {
            faulty.fail_after(0, fault);
            let handle = site.manager.start(&Visitor::stranger().request(Method::POST));
            let session = handle.load().await.expect("a stranger needs no store");
            session.set("a", &1).expect("a small value");
            let mut response = Response::new(());
            let finished = handle.finish(&mut response).await;
            if fault == Fault::NotDone {
                let failed = finished.expect_err("the store failed");
                expect_eq!(failed.status(), 503, "{fault:?}: the status of {failed:?}");
                assert!(
                    response.headers().is_empty(),
                    "{fault:?}: a request that fails sets headers"
                );
                handle.finish(&mut response).await.expect("the retry succeeds");
            }
            let visitor = Reply::of(response.headers()).reaches(Visitor::stranger());
            expect_eq!(
                site.values(&visitor).await,
                numbers(&[("a", 1)]),
                "{fault:?}: the values by the cookie of the first visit"
            );
        });
    }
}

/// A login whose save fails announces nothing and leaves the old id as good as it was; finishing it again
/// succeeds. One that was stored, and whose answer was lost, is repeated and announced.
pub fn a_failed_login_leaves_the_old_id_good(harness: &dyn Harness) {
    for (fault, faults) in [(Fault::NotDone, 1), (Fault::Unanswered, 1), (Fault::Unanswered, 2)] {
        let what = format!("{fault:?}, {faults} times");
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let site = Site::over(Arc::clone(&faulty), harness);
        wait(harness, async {
            let visitor = site.enter(&[("cart", 3)]).await;
            let handle = site.manager.start(&visitor.request(Method::POST));
            let session = handle.load().await.expect("the store works");
            session.set("user", &7).expect("a small value");
            session.log_in("ada").expect("needs no store");
            faulty.fail_times(faults, fault);
            let mut response = Response::new(());
            let finished = handle.finish(&mut response).await;
            if fault == Fault::NotDone || faults > 1 {
                let failed = finished.expect_err("the store failed");
                expect_eq!(failed.status(), 503, "{what}: the status of {failed:?}");
                assert!(response.headers().is_empty(), "{what}: a login that fails sets headers");
                if fault == Fault::NotDone {
                    let values = site.values(&visitor).await;
                    expect_eq!(
                        values,
                        numbers(&[("cart", 3)]),
                        "{what}: the values by the old id, after a login that was not stored"
                    );
                }
                handle.finish(&mut response).await.expect("the retry succeeds");
            }
            let visitor = match Reply::of(response.headers()) {
                Reply::Issued(visitor) => visitor,
                other => panic!("{what}: a login announces {other:?}, not a new cookie"),
            };
            let wanted = numbers(&[("cart", 3), ("user", 7)]);
            expect_eq!(
                site.values(&visitor).await,
                wanted,
                "{what}: the values by the login's cookie"
            );
        });
    }
}

/// A login of which nobody knows whether it was stored, even after it was repeated, is an error without a
/// cookie; and when the visitor tries again, with the id from before, the next request logs in.
pub fn a_login_of_an_unknown_outcome_can_be_tried_again(harness: &dyn Harness) {
    for fault in [Fault::Unanswered, Fault::Undelivered] {
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let counting = Arc::new(Counting::new(Arc::clone(&faulty)));
        let site = Site::over(Arc::clone(&counting), harness);
        wait(harness, async {
            let visitor = site.enter(&[("cart", 3)]).await;
            let login = async |session: LoadedSession| {
                session.set("user", &7)?;
                session.log_in("ada")
            };
            let before = counting.calls(Operation::Save);
            let failed = site.request(&visitor, async |session| {
                faulty.fail_times(2, fault);
                login(session).await
            });
            let failed = failed.await.expect_err("nobody knows the outcome");
            expect_eq!(failed.status(), 503, "{fault:?}: the status of {failed:?}");
            let saves = counting.calls(Operation::Save) - before;
            expect_eq!(saves, 2, "{fault:?}: saves of the login, which is repeated once");
            let again = site.request(&visitor, login).await;
            let Ok(Reply::Issued(after)) = again else {
                panic!("{fault:?}: the next request's login: {again:?}, not a new cookie")
            };
            let values = site.values(&after).await;
            let wanted = match fault {
                // The first try gave the session a new id, and this one began a session of its own.
                Fault::Unanswered => numbers(&[("user", 7)]),
                _ => numbers(&[("cart", 3), ("user", 7)]),
            };
            expect_eq!(values, wanted, "{fault:?}: the values after the next request's login");
        });
    }
}

/// An update that fails counted once or not at all, and once where only the answer was lost.
pub fn a_failed_update_counts_once_at_most(harness: &dyn Harness) {
    for fault in FAULTS {
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let site = Site::over(Arc::clone(&faulty), harness);
        wait(harness, async {
            let visitor = site.enter(&[("n", 5)]).await;
            let failed = site.request(&visitor, async |session| {
                faulty.fail_after(0, fault);
                session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.map(|_| ())
            });
            let failed = failed.await.expect_err("the store failed");
            expect_eq!(failed.status(), 503, "{fault:?}: the status of {failed:?}");
            let wanted = if fault == Fault::Unanswered { 6 } else { 5 };
            expect_eq!(
                site.values(&visitor).await,
                numbers(&[("n", wanted)]),
                "{fault:?}: the number after an update that failed"
            );
        });
    }
}

/// While the store is down, no visitor is taken for a stranger: loading and ending a session fail,
/// and afterwards it is as it was.
pub fn a_store_that_is_down_makes_nobody_a_stranger(harness: &dyn Harness) {
    let faulty = Arc::new(Faulty::new(harness.provider()));
    let site = Site::over(Arc::clone(&faulty), harness);
    wait(harness, async {
        let visitor = site.enter(&[("a", 1)]).await;
        faulty.set_down(true);
        let load = site.request(&visitor, async |_| Ok(())).await;
        expect_matches!(load, Err(Error::Unavailable { .. }), "loading while the store is down");
        faulty.set_down(false);
        let destroy = site.request(&visitor, async |session| {
            faulty.set_down(true);
            session.destroy().await
        });
        let destroy = destroy.await;
        expect_matches!(
            destroy,
            Err(Error::Unavailable { .. }),
            "destroying while the store is down"
        );
        faulty.set_down(false);
        expect_eq!(
            site.values(&visitor).await,
            numbers(&[("a", 1)]),
            "the session, when the store is up again"
        );
    });
}

/// A request that doesn't use its session, or whose token is malformed, causes no call to the store.
pub fn an_untouched_session_costs_nothing(harness: &dyn Harness) {
    let counting = Arc::new(Counting::new(harness.provider()));
    let site = Site::over(Arc::clone(&counting), harness);
    wait(harness, async {
        let visitor = site.enter(&[("a", 1)]).await;
        let before = counting.total();
        for visitor in [&visitor, &Visitor::stranger()] {
            let handle = site.manager.start(&visitor.request(Method::POST));
            let mut response = Response::new(());
            handle.finish(&mut response).await.expect("there is nothing to do");
            assert!(
                response.headers().is_empty(),
                "a request that does not use its session sets headers"
            );
        }
        for text in ["", "A", "../../etc/passwd", "{\"$gt\":\"\"}", &"A".repeat(5000)] {
            let stranger = Visitor::with_text(text);
            let answer = site.request(&stranger, async |_| Ok(())).await;
            expect_matches!(
                answer,
                Ok(Reply::Nothing),
                "a request with nonsense of {} bytes for a token",
                text.len()
            );
        }
        expect_eq!(counting.total(), before, "operations at the store by requests that need none");
    });
}

/// A site that records each id that it creates.
fn recording(provider: impl Provider, harness: &dyn Harness) -> (Arc<Mutex<Vec<SessionId>>>, Site) {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&ids);
    let make = move || {
        let id = SessionId::generate()?;
        noted.lock().push(id);
        Ok(id)
    };
    (ids, Site::build(provider, harness, |builder| builder.with_id_source(make)))
}
