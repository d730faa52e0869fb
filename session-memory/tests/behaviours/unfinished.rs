//! Tasks of a request while it ends: while the stores are called, before the head is written, when the
//! client disconnects, and after a panic. Nothing is stored that the response would have to tell but
//! can't, and nothing that is set is lost without an error.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;

use futures_lite::FutureExt as _;
use futures_lite::future::{pending, poll_once};
use http::{Method, Request, Response, StatusCode};
use hyper::service::Service;
use parking_lot::Mutex;
use session_core::provider::BoxError;
use session_core::{Error, Failure, LoadedSession, Managers, SessionService, Sessions};

use crate::support::*;

fn site_named(name: &str) -> Site {
    Site::configured(|config| config.cookie.name = name.into())
}

/// Returns two sites and managers for both.
fn two_sites() -> ([Site; 2], Managers) {
    let sites = ["__Host-first", "__Host-second"].map(site_named);
    let managers = Managers::new(sites.each_ref().map(|site| site.manager.clone())).unwrap();
    (sites, managers)
}

/// After the client has disconnected, `set` fails as it does after the response.
#[test]
fn after_the_client_went_away_set_says_that_nothing_would_store_it() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let task: Arc<Mutex<Option<LoadedSession>>> = Arc::default();
    let handle = site.manager.start_owned(&visitor.request());
    let page = async {
        *task.lock() = Some(handle.load().await?);
        pending::<Result<Response<String>, Error>>().await
    };
    block_on(async { assert!(poll_once(handle.respond(page, Failure::response)).await.is_none()) });
    let session = task.lock().take().unwrap();
    let set = session.set("n", &2u64);
    drop(session);
    assert!(set.is_err() || visitor.get("n") == Some(2), "{set:?}");
}

/// Code without a wrapper may leave by a `?` before `finish`. Without the warning, one would look for the lost change
/// at the store.
#[test]
fn changes_that_nobody_can_save_any_more_are_told_in_the_log() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let lost = |refuses: bool| {
        let page = async {
            let handle = site.manager.start_owned(&visitor.request());
            handle.load().await?.set("n", &2u64)?;
            if refuses {
                handle.refuse(&mut Response::new(())).await;
            }
            Ok::<_, Error>(())
        };
        let (page, log) = logged_by(|| block_on(page));
        page.unwrap();
        log.contains("changes of a session were lost")
    };
    assert!(lost(false));
    assert!(!lost(true));
    assert_eq!(visitor.get("n"), Some(1));
}

/// A service may work in `call`, and its future may be dropped before it is polled.
#[test]
fn a_future_that_was_never_polled_abandons_its_sessions() {
    struct Eager(Arc<Mutex<Option<Sessions>>>);
    impl Service<Request<()>> for Eager {
        type Response = Response<Frames>;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Frames>, BoxError>> + Send>>;
        fn call(&self, request: Request<()>) -> Self::Future {
            *self.0.lock() = request.extensions().get::<Sessions>().cloned();
            Box::pin(async { Ok(Response::new(Frames::default())) })
        }
    }
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let kept = Arc::default();
    let service = SessionService::new(site.manager.clone(), Eager(Arc::clone(&kept)));
    drop(service.call(visitor.request()));
    let sessions = kept.lock().take().unwrap();
    block_on(async {
        let session = sessions.only().unwrap().load().await.unwrap();
        let logged_in = session.log_in("ada");
        let saved = session.save().await;
        assert!(logged_in.is_err() || saved.is_err(), "stored a login that no response can tell");
    });
    assert_eq!(visitor.get("n"), Some(1));
}

/// The task logs in while the request's future is being dropped.
#[test]
fn a_task_that_logs_in_while_the_client_goes_away_stores_no_login() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    // Many attempts, because the window is small.
    for _ in 0..500 {
        let handle = site.manager.start_owned(&visitor.request());
        let session = block_on(handle.load()).unwrap();
        let task = session.clone();
        let start = Arc::new(std::sync::Barrier::new(2));
        let go = Arc::clone(&start);
        let thread = std::thread::spawn(move || {
            go.wait();
            for _ in 0..200 {
                if task.log_in("ada").is_err() {
                    break;
                }
            }
            task
        });
        let page = pending::<Result<Response<String>, Error>>();
        block_on(async {
            let mut responding = Box::pin(handle.respond(page, Failure::response));
            assert!(poll_once(&mut responding).await.is_none());
            start.wait();
            drop(responding);
        });
        let task = thread.join().unwrap();
        block_on(task.save()).unwrap();
        assert_eq!(visitor.get("n"), Some(1), "the visitor's id is dead");
    }
}

/// The head was sent, and the store was down for a moment.
#[test]
fn after_a_reload_that_failed_set_says_that_nothing_would_store_it() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    request.finish().unwrap();
    site.store.sabotage_once("load", Fault::Down);
    assert!(block_on(request.session.reload()).is_err());
    let set = request.session.set("n", &2u64);
    assert!(matches!(set, Err(Error::Finished)), "{set:?}");
}

/// A panic of a provider in the handler is a 500, and so it must be in the save at the end.
#[test]
fn a_panic_while_sessions_are_finished_is_a_response_too() {
    let site = Site::new();
    site.store.sabotage_once("create", Fault::Panic);
    let handler = Handler(|request: Request<()>| async move {
        let sessions = request.extensions().get::<Sessions>().unwrap().clone();
        sessions.only().unwrap().load().await?.set("n", &1u64)?;
        Ok(Response::new(Frames::default()))
    });
    let service = SessionService::new(site.manager, handler);
    let caught = block_on(AssertUnwindSafe(service.call(Request::new(()))).catch_unwind());
    assert!(caught.is_ok(), "the connection breaks");
    assert_eq!(caught.unwrap().unwrap().status(), StatusCode::INTERNAL_SERVER_ERROR);
}

/// The first session is stored while the second one's store is slow. A task that reloads the first
/// session then may ask for a new id, which must not be stored after the head, as no client would get
/// it.
#[test]
fn a_new_id_between_the_stores_and_the_head_logs_nobody_out() {
    let ([first, slow], managers) = two_sites();

    // A visitor with a session of the first manager.
    let mut response = Response::new(());
    block_on(async {
        let sessions = managers.start(&Request::new(()));
        sessions.get("__Host-first").unwrap().load().await.unwrap().set("n", &1u64).unwrap();
        sessions.finish(&mut response).await.unwrap();
    });
    let cookie =
        response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();

    let request = Request::builder().method("POST").header("cookie", &cookie).body(()).unwrap();
    let sessions = managers.start(&request);
    let (task, done) = block_on(async {
        let one = sessions.get("__Host-first").unwrap().load().await.unwrap();
        let two = sessions.get("__Host-second").unwrap().load().await.unwrap();
        two.set("n", &1u64).unwrap();
        let task = one.clone();
        let asked: Arc<Mutex<Option<Result<(), Error>>>> = Arc::default();
        let (hook_task, hook_asked) = (task.clone(), Arc::clone(&asked));
        slow.store.before_next("create", move || {
            block_on(hook_task.reload()).unwrap();
            *hook_asked.lock() = Some(hook_task.regenerate());
        });
        let mut response = Response::new(());
        sessions.finish(&mut response).await.unwrap();
        let told = response
            .headers()
            .get_all("set-cookie")
            .iter()
            .any(|value| value.to_str().unwrap().starts_with("__Host-first="));
        assert!(!told);
        let asked = asked.lock().take().unwrap();
        (task, asked)
    });
    let saved = block_on(task.save());
    // The visitor's next request.
    let again = first.manager.start_owned(&request);
    let n = block_on(again.load()).unwrap().get::<u64>("n").unwrap();
    assert_eq!(
        n,
        Some(1),
        "regenerate said {done:?}, save said {saved:?}: the visitor's id is dead"
    );
}

/// The same for `set` on a session that is not stored: it must not return Ok if nothing stores the
/// value.
#[test]
fn what_is_set_between_the_stores_and_the_head_is_stored_or_refused() {
    let ([_first, slow], managers) = two_sites();
    let sessions = managers.start(&Request::new(()));
    let set: Arc<Mutex<Option<Result<(), Error>>>> = Arc::default();
    let mut response = Response::new(());
    block_on(async {
        let one = sessions.get("__Host-first").unwrap();
        one.load().await.unwrap();
        sessions.get("__Host-second").unwrap().load().await.unwrap().set("n", &1u64).unwrap();
        let (all, kept) = (sessions.clone(), Arc::clone(&set));
        slow.store.before_next("create", move || {
            // A late task loads the session and sets a value.
            let session = block_on(all.get("__Host-first").unwrap().load()).unwrap();
            *kept.lock() = Some(session.set("n", &1u64));
        });
        sessions.finish(&mut response).await.unwrap();
    });
    let set = set.lock().take().unwrap();
    let told = response
        .headers()
        .get_all("set-cookie")
        .iter()
        .any(|v| v.to_str().unwrap().starts_with("__Host-first="));
    assert!(set.is_err() || told, "set said {set:?}, and nobody stores or tells it");
}

/// The session was not loaded when the error response was made.
#[test]
fn a_session_that_is_loaded_first_after_a_refused_response_gets_no_new_id() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let handle = site.manager.start_owned(&visitor.request());
    let (asked, saved) = block_on(async {
        let failing = async { Err::<Response<String>, Error>(Error::Gone) };
        handle.respond(failing, Failure::response).await;
        let session = handle.load().await.unwrap();
        (session.regenerate(), session.save().await)
    });
    assert_eq!(visitor.get("n"), Some(1), "{asked:?}, {saved:?}: the visitor's id is dead");
}

/// A task logs in while a refused response waits for another operation; then the store goes down.
#[test]
fn what_comes_in_while_a_request_is_refused_is_not_stored_after_its_head() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    let session = &request.session;
    site.store.sabotage_once("save", Fault::Late);
    site.store.sabotage_once("save", Fault::Down);
    let mut response = Response::new(());
    let updated = session.update("a", add_one);
    let ((updated, ()), asked) = block_on(futures_lite::future::zip(
        futures_lite::future::zip(updated, request.handle.refuse(&mut response)),
        async { session.log_in("ada") },
    ));
    updated.unwrap();
    let set = session.set("b", &1u64);
    let later = block_on(session.save());
    visitor.receive(response);
    assert_eq!(visitor.get("n"), Some(1), "log_in {asked:?}, set {set:?}, save {later:?}");
}

/// The same for a value: `set` must not return Ok if the value is not stored.
#[test]
fn after_a_refused_response_that_could_not_be_stored_set_says_that_nothing_would_store_it() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    let session = &request.session;
    site.store.sabotage_once("save", Fault::Late);
    site.store.sabotage_once("save", Fault::Down);
    let mut response = Response::new(());
    let updated = session.update("a", add_one);
    let _ = block_on(futures_lite::future::zip(
        futures_lite::future::zip(updated, request.handle.refuse(&mut response)),
        async { session.set("b", &1u64).unwrap() },
    ));
    let set = session.set("n", &2u64);
    assert!(matches!(set, Err(Error::Finished)), "{set:?}");
}

/// The login was stored and the store's reply lost. A task reloads the session while the request is
/// refused.
#[test]
fn a_task_that_reloads_keeps_no_refused_response_from_telling_a_login() {
    let owners = ["nothing", "reload", "update"].map(|way| {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let request = visitor.begin(Method::POST);
        let session = &request.session;
        session.log_in("ada").unwrap();
        site.store.sabotage_once("save", Fault::DoubtAfter);
        site.store.sabotage_once("save", Fault::DoubtAfter);
        block_on(session.save()).unwrap_err();
        site.store.sabotage_once("load", Fault::Late);
        let mut response = Response::new(());
        let task = async {
            match way {
                "reload" => drop(session.reload().await),
                "update" => drop(session.update("n", add_one).await),
                _ => {}
            }
        };
        block_on(futures_lite::future::zip(task, request.handle.refuse(&mut response)));
        visitor.receive(response);
        visitor.owner()
    });
    assert_eq!(owners, ["ada"; 3].map(|owner| Some(owner.to_owned())));
}

/// The store is down for a moment, more than ten seconds after the session was loaded.
#[test]
fn after_a_logout_that_failed_set_says_that_nothing_would_store_it() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    request.finish().unwrap();
    for late in [0, 11] {
        site.clock.advance(secs(late));
        site.store.sabotage_once("destroy", Fault::Down);
        assert!(block_on(request.session.destroy()).is_err());
        let set = request.session.set("n", &2u64);
        assert!(matches!(set, Err(Error::Finished)), "{late} s later: {set:?}");
    }
}

/// `end_others` reloads the session.
#[test]
fn after_others_were_ended_in_a_finished_request_set_says_that_nothing_would_store_it() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
    let request = visitor.begin(Method::POST);
    request.finish().unwrap();
    block_on(site.manager.end_others(&request.session)).unwrap();
    let set = request.session.set("n", &2u64);
    assert!(matches!(set, Err(Error::Finished)), "{set:?}");
}

/// A provider with a poisoned lock panics in each call.
#[test]
fn a_provider_that_panics_keeps_no_other_session_from_being_told() {
    let ([broken, _second], managers) = two_sites();
    let mut response = Response::new(());
    block_on(async {
        let sessions = managers.start(&Request::new(()));
        for handle in sessions.iter() {
            handle.load().await.unwrap().set("n", &1u64).unwrap();
        }
        sessions.finish(&mut response).await.unwrap();
    });
    let cookies: Vec<_> = response.headers().get_all("set-cookie").iter().collect();
    let pair =
        |value: &http::HeaderValue| value.to_str().unwrap().split(';').next().unwrap().to_owned();
    let cookies: Vec<_> = cookies.into_iter().map(pair).collect();
    let request =
        Request::builder().method("POST").header("cookie", cookies.join("; ")).body(()).unwrap();
    let sessions = managers.start(&request);
    let response = block_on(sessions.respond(
        async {
            let one = sessions.get("__Host-first").unwrap().load().await?;
            let two = sessions.get("__Host-second").unwrap().load().await?;
            two.log_in("ada")?;
            two.save().await?;
            one.regenerate()?;
            broken.store.sabotage_once("save", Fault::Panic);
            broken.store.sabotage("load", Fault::Panic);
            Ok::<_, Error>(Response::new(String::new()))
        },
        Failure::response,
    ));
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let told = response.headers().get_all("set-cookie").iter();
    let told: Vec<_> = told.map(pair).collect();
    assert!(told.iter().any(|pair| pair.starts_with("__Host-second=")), "told {told:?}");
}

/// Two tabs loaded the same page of messages.
#[test]
fn messages_that_another_request_took_are_not_shown_again() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        handle.load().await.unwrap().add_flash("info", "one").await.unwrap();
    });
    let (one, two) = (visitor.begin(Method::POST), visitor.begin(Method::POST));
    block_on(async {
        let first = one.session.take_flash::<String>("info").await.unwrap();
        let second = two.session.take_flash::<String>("info").await.unwrap();
        assert_eq!((first, second), (vec!["one".to_owned()], vec![]));
    });
}

/// A double click on a form of a page whose links have the id, after the cookie has come back.
#[test]
fn of_two_requests_that_leave_the_urls_the_one_that_changed_nothing_has_no_error() {
    let site =
        Site::configured(|config| config.transport = session_core::transport::TransportKind::Auto);
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (one, two) = (visitor.begin(Method::POST), visitor.begin(Method::POST));
    visitor.receive(one.finish().unwrap());
    let lost = two.finish().map(|response| response.status());
    assert!(lost.is_ok(), "{lost:?}");
}

/// The response replaces a failed one whose finishing panicked.
#[test]
fn a_task_stores_no_login_after_a_refused_response_that_panicked() {
    let broken = Site::new();
    let manager = &broken.manager;
    let mut response = Response::new(());
    block_on(async {
        let handle = manager.start_owned(&Request::new(()));
        handle.load().await.unwrap().set("n", &1u64).unwrap();
        handle.finish(&mut response).await.unwrap();
    });
    let cookie =
        response.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    let request = Request::builder().method("POST").header("cookie", cookie).body(()).unwrap();
    let handle = manager.start_owned(&request);
    let session = block_on(handle.load()).unwrap();
    let page = async {
        session.regenerate()?;
        broken.store.sabotage_once("save", Fault::Panic);
        broken.store.sabotage("load", Fault::Panic);
        Ok::<_, Error>(Response::new(String::new()))
    };
    block_on(handle.respond(page, Failure::response));
    broken.store.mend();
    let asked = session.log_in("ada");
    let saved = block_on(session.save());
    let again = manager.start_owned(&request);
    let n = block_on(again.load()).unwrap().get::<u64>("n").unwrap();
    assert_eq!(n, Some(1), "log_in {asked:?}, save {saved:?}: the visitor's id is dead");
}

/// The same without a task: the move from the URLs to the cookie could not be stored with the refused
/// response.
#[test]
fn a_move_out_of_the_urls_that_failed_is_not_stored_after_the_head() {
    let site =
        Site::configured(|config| config.transport = session_core::transport::TransportKind::Auto);
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    site.store.sabotage_once("save", Fault::Down);
    let mut response = Response::new(());
    block_on(request.handle.refuse(&mut response));
    visitor.receive(response);
    let saved = block_on(request.session.save());
    assert_eq!(visitor.get("n"), Some(1), "{saved:?}");
}

/// The response was finished before the session was loaded, and is finished again.
#[test]
fn a_response_that_is_finished_again_moves_no_id_out_of_urls() {
    let site =
        Site::configured(|config| config.transport = session_core::transport::TransportKind::Auto);
    let visitor = site.visitor();
    visitor.set("n", 1);
    let handle = site.manager.start_owned(&visitor.request());
    let finished = block_on(async {
        handle.finish(&mut Response::new(())).await.unwrap();
        handle.load().await.unwrap().set("n", &2u64).unwrap();
        handle.finish(&mut Response::new(())).await
    });
    assert_eq!(visitor.get("n"), Some(2), "{finished:?}");
}

/// Operations that acted at once stay.
#[test]
fn an_update_to_what_was_set_before_is_stored_at_once() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.begin(Method::POST);
    request.session.set("claimed", &true).unwrap();
    let claimed = block_on(request.session.update("claimed", |_: Option<bool>| true)).unwrap();
    request.finish_with(StatusCode::INTERNAL_SERVER_ERROR).unwrap();
    let stored = visitor.begin(Method::GET).session.get::<bool>("claimed").unwrap();
    assert_eq!(stored, Some(claimed));
}
