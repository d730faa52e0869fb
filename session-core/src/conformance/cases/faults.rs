//! Requests that are dropped, and stores that fail under requests.

use std::sync::Arc;

use http::Response;
use parking_lot::Mutex;

use crate::conformance::site::{Answer, Site, Visitor, numbers};
use crate::conformance::store::{Store, wait};
use crate::conformance::{
    Counting, Delayed, Fault, Faulty, Harness, Task, abandon_after, interleave,
};
use crate::{Error, LoadedSession, Provider, SessionId, Token};

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
            let other = async |session: LoadedSession<'_>| session.set("other", &1);
            let tasks = vec![
                Box::pin(abandon_after(seed as usize % POLLS, dropped)) as Task<'_, _>,
                Box::pin(async { Some(sites[1].request(&visitor, other).await) }),
            ];
            let answers = interleave(seed, tasks).await;
            let ended = answers[0].is_some();
            let fine = answers.iter().flatten().all(|answer| matches!(answer, Ok(Answer::Nothing)));
            assert!(fine, "seed {seed}: {answers:?}");
            let old = numbers(&[("a", 1), ("b", 1), ("c", 1), ("other", 1)]);
            let new = numbers(&[("a", 2), ("b", 2), ("other", 1)]);
            let values = sites[1].values(&visitor).await;
            assert!(values == new || (values == old && !ended), "seed {seed}: {values:?}");
        });
    }
}

/// A login that is dropped leaves the session under its old id or under the new one, whole.
pub fn a_dropped_login_leaves_one_session(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in 0..harness.rounds().div_ceil(2) as u64 {
        let (ids, site) = recording(Delayed::new(harness.provider(), seed), harness);
        wait(harness, async {
            let visitor = site.enter(&[("cart", 3)]).await;
            let login = site.request(&visitor, async |session| session.regenerate().await);
            abandon_after(seed as usize % POLLS, login).await
        });
        one_is_live(&store, &ids.lock(), &format!("seed {seed}"));
    }
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
        let live: Vec<_> =
            ids.lock().iter().filter_map(|id| store.found(&Token::from(*id))).collect();
        assert!(live.len() <= 1, "seed {seed}: {} sessions", live.len());
        assert!(live.iter().all(|record| record.values.len() == 2), "seed {seed}: half a session");
        assert!(done.is_none() || live.len() == 1, "seed {seed}: answered and not stored");
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
            let handle = site.manager.start(&visitor.request());
            let mut response = Response::new(());
            let first = async {
                let session = handle.load().await?;
                session.set("a", &2)?;
                session.set("b", &2)?;
                handle.finish(&mut response).await
            };
            let failed = first.await;
            assert_eq!(failed.is_err(), !faulty.is_pending(), "{what}: {failed:?}");
            faulty.cancel();
            if let Err(error) = &failed {
                assert_eq!(error.status(), 503, "{what}: {error:?}");
                assert!(response.headers().is_empty(), "{what}: announced");
                let values = site.values(&visitor).await;
                let (old, new) = (numbers(&[("a", 1), ("b", 1)]), numbers(&[("a", 2), ("b", 2)]));
                assert!(values == old || values == new, "{what}: {values:?}");
                if passing == 0 {
                    // It came no further than loading. Later, what was set is kept for the retry.
                    let session = handle.load().await.expect("the store works again");
                    session.set("a", &2).expect("a small value");
                    session.set("b", &2).expect("a small value");
                }
                handle.finish(&mut response).await.expect("the retry succeeds");
            }
            let visitor = Answer::of(response.headers()).reaches(visitor);
            assert_eq!(site.values(&visitor).await, numbers(&[("a", 2), ("b", 2)]), "{what}");
        });
    }
}

/// A first visit whose record can't be stored gets no cookie; finishing it again succeeds.
pub fn a_failed_first_visit_gets_no_cookie(harness: &dyn Harness) {
    for fault in FAULTS {
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let site = Site::over(Arc::clone(&faulty), harness);
        wait(harness, async {
            faulty.fail_after(0, fault);
            let handle = site.manager.start(&Visitor::stranger().request());
            let session = handle.load().await.expect("a stranger needs no store");
            session.set("a", &1).expect("a small value");
            let mut response = Response::new(());
            let failed = handle.finish(&mut response).await.expect_err("the store failed");
            assert_eq!(failed.status(), 503, "{fault:?}: {failed:?}");
            assert!(response.headers().is_empty(), "{fault:?}: announced");
            handle.finish(&mut response).await.expect("the retry succeeds");
            let visitor = Answer::of(response.headers()).reaches(Visitor::stranger());
            assert_eq!(site.values(&visitor).await, numbers(&[("a", 1)]), "{fault:?}");
        });
    }
}

/// A login whose values can't be saved announces no new id, until finishing it again succeeds.
pub fn a_failed_save_after_a_login_announces_nothing(harness: &dyn Harness) {
    for fault in FAULTS {
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let site = Site::over(Arc::clone(&faulty), harness);
        wait(harness, async {
            let visitor = site.enter(&[("cart", 3)]).await;
            let handle = site.manager.start(&visitor.request());
            let session = handle.load().await.expect("the store works");
            session.regenerate().await.expect("the store works");
            session.set("user", &7).expect("a small value");
            faulty.fail_after(0, fault);
            let mut response = Response::new(());
            let failed = handle.finish(&mut response).await.expect_err("the store failed");
            assert_eq!(failed.status(), 503, "{fault:?}: {failed:?}");
            assert!(response.headers().is_empty(), "{fault:?}: announced");
            handle.finish(&mut response).await.expect("the retry succeeds");
            let visitor = match Answer::of(response.headers()) {
                Answer::Issued(visitor) => visitor,
                other => panic!("{fault:?}: {other:?}"),
            };
            let wanted = numbers(&[("cart", 3), ("user", 7)]);
            assert_eq!(site.values(&visitor).await, wanted, "{fault:?}");
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
            assert_eq!(failed.status(), 503, "{fault:?}: {failed:?}");
            let wanted = if fault == Fault::Unanswered { 6 } else { 5 };
            assert_eq!(site.values(&visitor).await, numbers(&[("n", wanted)]), "{fault:?}");
        });
    }
}

/// A regeneration that fails leaves one session, under the old id or the new one.
pub fn a_failed_login_leaves_one_session(harness: &dyn Harness) {
    let store = Store::open(harness);
    for fault in FAULTS {
        let faulty = Arc::new(Faulty::new(harness.provider()));
        let (ids, site) = recording(Arc::clone(&faulty), harness);
        wait(harness, async {
            let visitor = site.enter(&[("cart", 3)]).await;
            let failed = site.request(&visitor, async |session| {
                faulty.fail_after(0, fault);
                session.regenerate().await
            });
            let failed = failed.await.expect_err("the store failed");
            assert_eq!(failed.status(), 503, "{fault:?}: {failed:?}");
        });
        one_is_live(&store, &ids.lock(), &format!("{fault:?}"));
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
        assert!(matches!(load, Err(Error::Unavailable { .. })), "loading: {load:?}");
        faulty.set_down(false);
        let destroy = site.request(&visitor, async |session| {
            faulty.set_down(true);
            session.destroy().await
        });
        let destroy = destroy.await;
        assert!(matches!(destroy, Err(Error::Unavailable { .. })), "destroying: {destroy:?}");
        faulty.set_down(false);
        assert_eq!(site.values(&visitor).await, numbers(&[("a", 1)]));
    });
}

/// A request that doesn't use its session, or whose token is nonsense, never reaches the store.
pub fn an_untouched_session_costs_nothing(harness: &dyn Harness) {
    let counting = Arc::new(Counting::new(harness.provider()));
    let site = Site::over(Arc::clone(&counting), harness);
    wait(harness, async {
        let visitor = site.enter(&[("a", 1)]).await;
        let before = counting.total();
        for visitor in [&visitor, &Visitor::stranger()] {
            let handle = site.manager.start(&visitor.request());
            let mut response = Response::new(());
            handle.finish(&mut response).await.expect("there is nothing to do");
            assert!(response.headers().is_empty(), "announced");
        }
        for text in ["", "A", "../../etc/passwd", "{\"$gt\":\"\"}", &"A".repeat(5000)] {
            let stranger = Visitor::with_text(text);
            let answer = site.request(&stranger, async |session| session.keys().map(|_| ())).await;
            assert!(matches!(answer, Ok(Answer::Nothing)), "{answer:?}");
        }
        assert_eq!(counting.total(), before);
    });
}

/// A site that notes each id that it makes.
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

/// Checks that of all ids one has a record, with the one value that it had.
fn one_is_live(store: &Store<'_>, ids: &[SessionId], what: &str) {
    let live =
        || -> Vec<_> { ids.iter().filter_map(|id| store.found(&Token::from(*id))).collect() };
    // Asked again: a rename that was dropped may have reached the store between two questions.
    let live = Some(live()).filter(|live| live.len() == 1).unwrap_or_else(live);
    assert_eq!(live.len(), 1, "{what}: sessions");
    assert_eq!(live[0].values.len(), 1, "{what}: values");
}
