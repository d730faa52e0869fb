//! After the response's head.
//!
//! The client can't be told anything any more: a new id, a login and the first value of a new session are
//! errors, never a record that no client can learn. A task that lives on can change and save the session,
//! can ask whether it is still there, and is told of its end.

use http::Method;
use session_core::Error;

use crate::support::*;

/// A request whose head was sent, and whose task goes on with its session.
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

/// A clone of the session is not enough: the handle has to load it again.
#[test]
fn a_clone_is_finished_until_the_handle_loads_the_session_again() {
    let site = Site::new();
    let visitor = site.visitor();
    let request = visitor.begin(Method::POST);
    let clone = request.session.clone();
    clone.set("n", &1u64).unwrap();
    visitor.receive(request.finish().unwrap());
    block_on(async {
        assert!(matches!(clone.set("n", &2u64), Err(Error::Finished)));
        assert!(matches!(clone.save().await, Err(Error::Finished)));
        request.handle.load().await.unwrap();
        clone.set("n", &2u64).unwrap();
        clone.save().await.unwrap();
    });
    assert_eq!(visitor.get("n"), Some(2));
}

#[test]
fn a_task_that_lives_on_is_told_of_the_sessions_end() {
    for is_logout in [true, false] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        // Whatever the method: nobody waits for this response's status any more.
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
