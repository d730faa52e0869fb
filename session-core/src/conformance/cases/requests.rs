//! Requests of one visitor at the same time, in every order: what the contract is for.
//!
//! Each case runs many seeds; a seed decides how long each store operation takes and which request
//! is polled next. There are two managers over the store, as two processes have them.

use crate::conformance::sample::record;
use crate::conformance::site::{Answer, Site, numbers};
use crate::conformance::store::{Store, wait};
use crate::conformance::{Harness, Task, interleave};
use crate::{Error, LoadedSession, SessionId};

fn seeds(harness: &dyn Harness) -> impl Iterator<Item = u64> {
    0..harness.rounds().div_ceil(4) as u64
}

/// Requests that set different keys all succeed, and all keys are there afterwards.
pub fn requests_that_set_different_keys_lose_nothing(harness: &dyn Harness) {
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        wait(harness, async {
            let visitor = sites[0].enter(&[("a", 0), ("b", 0), ("x", 9)]).await;
            let tasks = ["a", "b", "c", "d"].iter().enumerate().map(|(n, key)| {
                let handler = async |session: LoadedSession<'_>| session.set(key, &1);
                Box::pin(sites[n % 2].request(&visitor, handler)) as Task<'_, _>
            });
            for answer in interleave(seed, tasks.collect()).await {
                assert!(matches!(answer, Ok(Answer::Nothing)), "seed {seed}: {answer:?}");
            }
            let wanted = numbers(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("x", 9)]);
            assert_eq!(sites[1].values(&visitor).await, wanted, "seed {seed}");
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
            assert!(all.iter().copied().eq(1..=most), "seed {seed}: {all:?}");
            let wanted = numbers(&[("n", most), ("x", 9)]);
            assert_eq!(sites[1].values(&visitor).await, wanted, "seed {seed}");
        });
    }
}

/// A request that loaded its session before it was destroyed elsewhere can't save it: it is
/// [`Error::Gone`], announces nothing, and the store has no record.
pub fn a_request_slower_than_a_logout_brings_nothing_back(harness: &dyn Harness) {
    let store = Store::open(harness);
    let sites = Site::two(harness, 0);
    wait(harness, async {
        let visitor = sites[0].enter(&[("user", 1)]).await;
        let slow = sites[0].request(&visitor, async |session| {
            let logout = sites[1].request(&visitor, async |session| session.destroy().await);
            assert!(matches!(logout.await, Ok(Answer::Removed)), "the logout itself");
            session.set("late", &1)
        });
        let result = slow.await;
        assert!(matches!(result, Err(Error::Gone)), "one after the other: {result:?}");
        assert!(sites[0].values(&visitor).await.is_empty(), "the visitor is anonymous");
    });
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let dead = wait(harness, async {
            let visitor = sites[0].enter(&[("user", 1)]).await;
            let dead = sites[0].token(&visitor);
            let tasks = vec![
                Box::pin(sites[0].request(&visitor, async |session| session.set("late", &1)))
                    as Task<'_, _>,
                Box::pin(sites[1].request(&visitor, async |session| session.destroy().await)),
            ];
            match &interleave(seed, tasks).await[..] {
                [Ok(Answer::Nothing) | Err(Error::Gone), Ok(Answer::Removed)] => {}
                // It came after the logout, anonymous, and began a session of its own.
                [Ok(Answer::Issued(new)), Ok(Answer::Removed)] => {
                    assert!(sites[0].token(new).id() != dead.id(), "seed {seed}: an adopted id");
                }
                other => panic!("seed {seed}: {other:?}"),
            }
            dead
        });
        assert_eq!(store.found(&dead), None, "seed {seed}: brought back");
    }
}

/// A request that loaded its session before its id changed elsewhere can't save it: it is
/// [`Error::Gone`], and the session lives on under the new id with what it had.
pub fn a_request_slower_than_a_login_is_gone(harness: &dyn Harness) {
    let store = Store::open(harness);
    let login = async |session: LoadedSession<'_>| {
        session.set("user", &7)?;
        session.regenerate().await
    };
    let sites = Site::two(harness, 0);
    wait(harness, async {
        let visitor = sites[0].enter(&[("cart", 3)]).await;
        let mut after = None;
        let slow = sites[0].request(&visitor, async |session| {
            after = Some(sites[1].request(&visitor, login).await?);
            session.set("late", &1)
        });
        let result = slow.await;
        assert!(matches!(result, Err(Error::Gone)), "one after the other: {result:?}");
        let after = after.expect("the login answers").reaches(visitor);
        assert_eq!(sites[0].values(&after).await, numbers(&[("cart", 3), ("user", 7)]));
    });
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let old = wait(harness, async {
            let visitor = sites[0].enter(&[("cart", 3)]).await;
            let late = async |session: LoadedSession<'_>| session.set("late", &1);
            let tasks = vec![
                Box::pin(sites[0].request(&visitor, late)) as Task<'_, _>,
                Box::pin(sites[1].request(&visitor, login)),
            ];
            let mut answers = interleave(seed, tasks).await;
            let (login, slow) = (answers.pop(), answers.pop());
            let Some(Ok(Answer::Issued(after))) = login else { panic!("seed {seed}: {login:?}") };
            let mut wanted = numbers(&[("cart", 3), ("user", 7)]);
            match slow {
                Some(Ok(Answer::Nothing)) => wanted.extend(numbers(&[("late", 1)])),
                Some(Err(Error::Gone) | Ok(Answer::Issued(_))) => {}
                other => panic!("seed {seed}: {other:?}"),
            }
            assert_eq!(sites[0].values(&after).await, wanted, "seed {seed}");
            sites[0].token(&visitor)
        });
        assert_eq!(store.found(&old), None, "seed {seed}: the old id lives");
    }
}

/// Of racing regenerations one gives the session its new id; the others find it gone.
pub fn racing_regenerations_leave_one_session(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let old = wait(harness, async {
            let visitor = sites[0].enter(&[("cart", 3)]).await;
            let tasks = (0..3).map(|n: usize| {
                let handler = async |session: LoadedSession<'_>| session.regenerate().await;
                Box::pin(sites[n % 2].request(&visitor, handler)) as Task<'_, _>
            });
            let mut issued = Vec::new();
            for answer in interleave(seed, tasks.collect()).await {
                match answer {
                    Ok(Answer::Issued(visitor)) => issued.push(visitor),
                    // The latter came after the winner, anonymous, and had nothing to rename.
                    Err(Error::Gone) | Ok(Answer::Nothing) => {}
                    other => panic!("seed {seed}: {other:?}"),
                }
            }
            assert_eq!(issued.len(), 1, "seed {seed}: winners");
            let values = sites[1].values(&issued[0]).await;
            assert_eq!(values, numbers(&[("cart", 3)]), "seed {seed}");
            sites[0].token(&visitor)
        });
        assert_eq!(store.found(&old), None, "seed {seed}: the old id lives");
    }
}

/// Of requests that end a session at once one does, and the others learn that it is gone.
pub fn of_logouts_at_once_one_wins(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let dead = wait(harness, async {
            let visitor = sites[0].enter(&[("user", 1)]).await;
            let tasks = (0..3).map(|n: usize| {
                let handler = async |session: LoadedSession<'_>| session.destroy().await;
                Box::pin(sites[n % 2].request(&visitor, handler)) as Task<'_, _>
            });
            let answers = interleave(seed, tasks.collect()).await;
            let ended = answers.iter().filter(|answer| matches!(answer, Ok(Answer::Removed)));
            assert_eq!(ended.count(), 1, "seed {seed}: {answers:?}");
            for answer in &answers {
                // Nothing: it came when all was over.
                let fine =
                    matches!(answer, Ok(Answer::Removed | Answer::Nothing) | Err(Error::Gone));
                assert!(fine, "seed {seed}: {answer:?}");
            }
            sites[0].token(&visitor)
        });
        assert_eq!(store.found(&dead), None, "seed {seed}");
    }
}

/// A logout that succeeds has ended the session, even if another request gives it a new id at the
/// same time.
pub fn a_logout_does_not_miss_a_session_that_gets_a_new_id(harness: &dyn Harness) {
    let store = Store::open(harness);
    for seed in seeds(harness) {
        let sites = Site::two(harness, seed);
        let (over, issued) = wait(harness, async {
            let visitor = sites[0].enter(&[("user", 1)]).await;
            let destroy = async |session: LoadedSession<'_>| session.destroy().await;
            let regenerate = async |session: LoadedSession<'_>| session.regenerate().await;
            let tasks: Vec<Task<'_, _>> = vec![
                Box::pin(sites[0].request(&visitor, destroy)),
                Box::pin(sites[1].request(&visitor, regenerate)),
            ];
            let mut answers = interleave(seed, tasks).await.into_iter();
            let over = matches!(answers.next(), Some(Ok(Answer::Removed)));
            let issued = match answers.next() {
                Some(Ok(Answer::Issued(visitor))) => Some(sites[0].token(&visitor)),
                _ => None,
            };
            (over, issued)
        });
        let alive = issued.is_some_and(|token| store.found(&token).is_some());
        assert!(!(over && alive), "seed {seed}: the session goes on after its logout");
        assert!(over || alive, "seed {seed}: neither request did anything");
    }
}

/// A new session whose random id is taken gets another one, and so does a regenerated one; the
/// record that has the id stays as it is.
pub fn a_taken_id_is_never_overwritten(harness: &dyn Harness) {
    let store = Store::open(harness);
    let somebody = record(store.now);
    let taken = *store.stored(&somebody).id();
    let turn = std::sync::atomic::AtomicUsize::new(0);
    let ids = move || match turn.fetch_add(1, std::sync::atomic::Ordering::SeqCst) % 3 {
        0 | 1 => Ok(taken),
        _ => SessionId::generate(),
    };
    let site = Site::build(harness.provider(), harness, |builder| builder.with_id_source(ids));
    wait(harness, async {
        let visitor = site.enter(&[("a", 1)]).await;
        assert!(*site.token(&visitor).id() != taken, "a new session has a taken id");
        let regenerated = site.request(&visitor, async |session| session.regenerate().await);
        let visitor = regenerated.await.expect("regenerating works").reaches(visitor);
        assert!(*site.token(&visitor).id() != taken, "a regenerated session has a taken id");
        assert_eq!(site.values(&visitor).await, numbers(&[("a", 1)]));
    });
    assert_eq!(store.found(&taken.into()), Some(somebody));
}
