//! Sessions after the response's head was sent.
//!
//! The client can't get a cookie any more, so a new id, a login and the first value of a new session are
//! errors: no record is stored whose id no client gets. A task that continues can change and save the
//! session, check whether it still exists, and is told of its end.

use futures_lite::future::zip;
use http::{Method, Response};
use session_core::Error;

use crate::support::*;

/// Returns a request whose head was sent and whose task continues with the session.
fn streaming(visitor: &Visitor<'_>, method: Method) -> Underway {
    let request = visitor.begin(method);
    visitor.receive(request.finish().unwrap());
    block_on(request.handle.load()).unwrap();
    request
}

fn is_late<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::HeadSent))
}

#[test]
fn a_new_session_can_have_no_first_value() {
    for method in [Method::GET, Method::POST] {
        let site = Site::new();
        let task = streaming(&site.visitor(), method);
        let session = &task.session;
        block_on(async {
            assert!(is_late(&session.set("n", &1)));
            assert!(is_late(&session.update("n", |_: Option<u64>| 1).await));
            assert!(is_late(&session.add_flash("info", "hello").await));
            assert!(is_late(&session.set_persistent(true)));
            assert!(is_late(&session.remember(true)));
            assert!(is_late(&session.regenerate()));
            assert!(is_late(&session.log_in("ada")));
            session.delete("n").unwrap();
            session.save().await.unwrap();
        });
        assert_eq!((site.store.calls(), site.count()), (vec![], 0));
    }
}

#[test]
fn a_stored_session_is_changed_and_saved_but_gets_no_new_id() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let id = visitor.id();
    let task = streaming(&visitor, Method::GET);
    let session = &task.session;
    block_on(async {
        assert!(is_late(&session.regenerate()));
        assert!(is_late(&session.log_in("ada")));
        session.set("n", &2u64).unwrap();
        session.save().await.unwrap();
        assert_eq!(session.update("n", |n: Option<u64>| n.unwrap() + 1).await.unwrap(), 3);
        assert_eq!(session.owner(), None);
    });
    assert_eq!((visitor.get("n"), visitor.id()), (Some(3), id));
}

/// A change in memory would not be saved by anything, so it is refused. Operations that act at once
/// work.
#[test]
fn after_the_response_a_session_is_read_and_reloaded_to_be_changed() {
    let site = Site::new();
    let visitor = site.visitor();
    let request = visitor.begin(Method::POST);
    let task = request.session.clone();
    task.set("n", &1u64).unwrap();
    visitor.receive(request.finish().unwrap());
    block_on(async {
        assert_eq!(task.get::<u64>("n").unwrap(), Some(1));
        assert!(matches!(task.set("n", &2u64), Err(Error::Finished)));
        assert_eq!(task.update("n", |n: Option<u64>| n.unwrap() + 10).await.unwrap(), 11);
        task.save().await.unwrap();
        task.reload().await.unwrap();
        task.set("n", &12u64).unwrap();
        task.save().await.unwrap();
    });
    assert_eq!(visitor.get("n"), Some(12));
}

/// The load waits until the response is finished, and then loads separately.
#[test]
fn a_load_while_the_response_is_finished_is_as_good_as_one_after_it() {
    for stored in [false, true] {
        let site = Site::new();
        let visitor = site.visitor();
        if stored {
            visitor.set("n", 0);
        }
        let request = visitor.begin(Method::POST);
        request.session.set("n", &1u64).unwrap();
        site.store.sabotage(if stored { "save" } else { "create" }, Fault::Late);
        let task = async {
            let session = request.handle.load().await.unwrap();
            assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
            session.set("n", &2u64).unwrap();
            session.save().await.unwrap();
        };
        let mut response = Response::new(());
        let (finished, ()) = block_on(zip(request.handle.finish(&mut response), task));
        finished.unwrap();
        site.store.mend();
        visitor.receive(response);
        assert_eq!(visitor.get("n"), Some(2), "stored before: {stored}");
    }
}

/// The task is the first to load the session, so finishing the response could not set a cookie.
#[test]
fn a_session_that_is_loaded_first_after_the_head_is_told_nothing_either() {
    let site = Site::new();
    let visitor = site.visitor();
    let handle = site.manager.start_owned(&visitor.request());
    block_on(async {
        handle.finish(&mut Response::new(())).await.unwrap();
        let session = handle.load().await.unwrap();
        assert!(is_late(&session.set("n", &1)));
        assert!(is_late(&session.log_in("ada")));
        assert!(is_late(&session.regenerate()));
        session.save().await.unwrap();
    });
    assert_eq!(site.count(), 0);
}

#[test]
fn a_task_that_lives_on_is_told_of_the_sessions_end() {
    for is_logout in [true, false] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        // The method doesn't matter, because the response's status was sent already.
        let tasks = [Method::GET, Method::POST].map(|method| streaming(&visitor, method));
        for task in &tasks {
            block_on(task.session.reload()).unwrap();
        }
        let other = visitor.begin(Method::POST);
        match is_logout {
            true => block_on(other.session.destroy()).unwrap(),
            false => other.session.regenerate().unwrap(),
        }
        other.finish().unwrap();
        for task in &tasks {
            let session = &task.session;
            block_on(async {
                assert!(matches!(session.reload().await, Err(Error::Gone)));
                assert!(matches!(session.reload().await, Err(Error::Gone)), "and again");
                assert!(matches!(session.set("n", &2u64), Err(Error::Gone)));
                let updated = session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await;
                assert!(matches!(updated, Err(Error::Gone)), "{updated:?}");
                assert!(matches!(session.save().await, Err(Error::Gone)));
                assert!(matches!(session.start_anew(), Err(Error::Gone)));
            });
        }
        assert_eq!(site.count(), u64::from(!is_logout));
    }
}

#[test]
fn what_a_task_wanted_to_save_in_a_session_that_ended_is_told_gone() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let tasks = [Method::GET, Method::POST].map(|method| streaming(&visitor, method));
    tasks.iter().for_each(|task| task.session.set("n", &2u64).unwrap());
    let other = visitor.begin(Method::POST);
    block_on(other.session.destroy()).unwrap();
    for task in &tasks {
        assert!(matches!(block_on(task.session.save()), Err(Error::Gone)));
    }
    assert_eq!(site.count(), 0);
}
