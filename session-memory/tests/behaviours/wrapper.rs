//! The wrapper around a hyper service.
//!
//! The session is saved before the response's head is sent, and a task that streams the body can save it
//! again. Bodies, trailers and upgrades pass unchanged. If the store is down, the response is a 503
//! without a cookie.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use futures_lite::future::{poll_once, zip};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::service::Service;
use parking_lot::Mutex;
use session_core::provider::BoxError;
use session_core::transport::Transport;
use session_core::transport::{Directive, Extracted, RequestHead};
use session_core::{
    Error, Failure, Managers, RequestSession, SessionBody, SessionService, Sessions,
};

use crate::support::*;

type Answer = Result<Response<SessionBody<Frames>>, Infallible>;

fn call<F, A>(sites: &[&Site], request: Request<()>, handler: F) -> Answer
where
    F: Fn(Request<()>) -> A,
    A: Future<Output = Result<Response<Frames>, BoxError>> + Send + 'static,
{
    let managers: Vec<_> = sites.iter().map(|site| site.manager.clone()).collect();
    block_on(SessionService::new(Managers::new(managers).unwrap(), Handler(handler)).call(request))
}

fn sessions(request: &Request<()>) -> Sessions {
    request.extensions().get::<Sessions>().expect("the wrapper puts them there").clone()
}

/// A handler that stores one value.
async fn store_one(request: Request<()>) -> Result<Response<Frames>, BoxError> {
    let sessions = sessions(&request);
    for handle in sessions.iter() {
        handle.load().await?.set("n", &1u64)?;
    }
    Ok(Response::new(Frames::default()))
}

fn text(response: Response<SessionBody<Frames>>) -> String {
    let body = block_on(response.into_body().collect()).unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[test]
fn the_session_is_saved_before_the_head_is_sent() {
    let site = Site::new();
    let visitor = site.visitor();
    let response = call(&[&site], visitor.request(), store_one).unwrap();
    assert_eq!(site.store.calls(), ["create"]);
    visitor.receive(response.map(drop));
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn a_session_that_is_not_used_leaves_the_response_as_it_is() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    let response = call(&[&site], visitor.request(), async |_| {
        Ok(Response::builder().status(418).header("etag", "\"1\"").body(Frames::default())?)
    })
    .unwrap();
    assert_eq!(response.status(), 418);
    assert_eq!(response.headers().len(), 1);
    assert_eq!(site.store.calls(), [""; 0]);
}

#[test]
fn streamed_bodies_pass_frame_by_frame_with_their_trailers_and_errors() {
    let site = Site::new();
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let mut response = call(&[&site], Request::new(()), move |request| {
        let polls = Arc::clone(&counted);
        async move {
            sessions(&request).only().unwrap().load().await?.set("n", &1)?;
            let trailers = HeaderMap::from_iter([("x-sum".parse()?, HeaderValue::from(3))]);
            let frames = VecDeque::from([
                Ok(Frame::data(Bytes::from_static(b"data: one\n\n"))),
                Ok(Frame::data(Bytes::new())),
                Ok(Frame::data(Bytes::from_static(b"data: two\n\n"))),
                Ok(Frame::trailers(trailers)),
                Err(io::Error::other("cut off")),
            ]);
            let mut hint = SizeHint::new();
            hint.set_lower(5);
            hint.set_upper(500);
            let response = Response::builder().header(CONTENT_TYPE, "text/event-stream");
            Ok(response.body(Frames { frames, hint, polls })?)
        }
    })
    .unwrap();
    assert_eq!(polls.load(Ordering::Relaxed), 0, "nobody looked into the body");
    assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream");
    assert!(!response.headers().contains_key("content-length"));
    let body = response.body_mut();
    assert_eq!((body.size_hint().lower(), body.size_hint().upper()), (5, Some(500)));
    for wanted in [&b"data: one\n\n"[..], b"", b"data: two\n\n"] {
        assert!(!body.is_end_stream());
        let frame = block_on(body.frame()).unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), wanted);
    }
    let trailers = block_on(body.frame()).unwrap().unwrap().into_trailers().unwrap();
    assert_eq!(trailers["x-sum"], "3");
    assert_eq!(block_on(body.frame()).unwrap().unwrap_err().to_string(), "cut off");
    assert!(body.is_end_stream());
    assert!(block_on(body.frame()).is_none());
    assert_eq!(polls.load(Ordering::Relaxed), 6, "one poll for each");
}

#[test]
fn the_session_can_be_saved_again_from_the_task_that_streams_the_body() {
    let site = Site::new();
    let visitor = site.visitor();
    let (task, tasks) = std::sync::mpsc::channel();
    let response = call(&[&site], visitor.request(), move |request| {
        let task = task.clone();
        async move {
            let sessions = sessions(&request);
            let handle = sessions.only().unwrap();
            handle.load().await?.set("n", &1u64)?;
            task.send(sessions.clone())?;
            Ok(Response::new(Frames::default()))
        }
    })
    .unwrap();
    visitor.receive(response.map(drop));
    assert_eq!(visitor.get("n"), Some(1));
    // The head was sent. From here on only the body's task runs.
    let sessions = tasks.recv().unwrap();
    let streaming = std::thread::spawn(move || {
        block_on(async {
            let session = sessions.only().unwrap().load().await.unwrap();
            assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
            session.set("n", &2u64).unwrap();
            session.set("sent", &100u64).unwrap();
            session.save().await.unwrap();
            session.update("sent", |n: Option<u64>| n.unwrap() + 1).await.unwrap();
        });
    });
    streaming.join().unwrap();
    assert_eq!((visitor.get("n"), visitor.get("sent")), (Some(2), Some(101)));
    assert_eq!(site.count(), 1);
}

#[test]
fn upgrades_and_extensions_pass_untouched() {
    #[derive(Clone, Debug, PartialEq)]
    struct OnUpgrade(u8);

    let site = Site::new();
    let mut request = Request::new(());
    request.extensions_mut().insert(OnUpgrade(1));
    let response = call(&[&site], request, async |request| {
        let upgrade = request.extensions().get::<OnUpgrade>().cloned().unwrap();
        sessions(&request).only().unwrap().load().await?.set("n", &1)?;
        let mut response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .body(Frames::default())?;
        response.extensions_mut().insert(upgrade);
        Ok(response)
    })
    .unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["connection"], "upgrade");
    assert_eq!(response.headers()["upgrade"], "websocket");
    assert_eq!(response.extensions().get(), Some(&OnUpgrade(1)));
    assert!(response.headers().contains_key(SET_COOKIE), "the session is saved all the same");
    assert!(response.body().is_end_stream());
}

#[test]
fn a_store_that_is_down_is_a_503_without_a_cookie() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("kept", 1);
    for (operation, visitor) in
        [("create", site.visitor()), ("save", visitor.tab()), ("load", visitor.tab())]
    {
        site.store.sabotage(operation, Fault::Down);
        let response = call(&[&site], visitor.request(), store_one).unwrap();
        site.store.mend();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE, "{operation}");
        assert!(!response.headers().contains_key(SET_COOKIE));
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/plain; charset=utf-8");
        let size = response.body().size_hint().exact();
        let text = text(response);
        assert_eq!(size, Some(text.len() as u64));
        assert_eq!(text, format!("{}\n", Error::unavailable("").visitor_text()));
    }
    assert_eq!((visitor.get("kept"), visitor.get("n")), (Some(1), None));
}

#[test]
fn a_session_error_of_the_handler_is_a_response_of_its_status() {
    let statuses: [(fn() -> Error, u16); 7] = [
        (|| Error::Gone, 409),
        (|| Error::Conflict, 409),
        (|| Error::Finished, 500),
        (|| Error::TooLarge { what: "session bytes", limit: 1 }, 413),
        (|| Error::Full { what: "max_sessions" }, 503),
        (|| Error::unavailable("down"), 503),
        (|| Error::InDoubt { source: "cut off".into() }, 503),
    ];
    let site = Site::new();
    for (error, status) in statuses {
        let response = call(&[&site], Request::new(()), move |request| async move {
            sessions(&request).only().unwrap().load().await?.set("n", &1)?;
            Err(error().into())
        })
        .unwrap();
        assert_eq!(response.status(), status, "{:?}", error());
        assert!(!response.headers().contains_key(SET_COOKIE));
        assert_eq!(text(response), format!("{}\n", error().visitor_text()));
    }
    assert_eq!(site.count(), 0, "what a handler that failed left is not stored");
}

/// The old id is invalid in the store already, so without the new cookie the visitor would be logged
/// out.
#[test]
fn what_a_handler_did_before_it_failed_is_announced() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let old = visitor.id();
    let response = call(&[&site], visitor.request(), async |request| {
        let sessions = sessions(&request);
        let session = sessions.only().unwrap().load().await?;
        session.regenerate()?;
        session.save().await?;
        session.set("n", &2)?;
        Err(Error::Conflict.into())
    })
    .unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    visitor.receive(response.map(drop));
    assert_ne!(visitor.id(), old);
    assert_eq!(
        visitor.get("n"),
        Some(1),
        "the session goes on without the failed request's changes"
    );
}

/// The task's save is acknowledged after the handler failed, and before the response is there.
#[test]
fn what_a_task_stores_while_the_handler_fails_is_announced() {
    type Saving = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.sabotage("save", Fault::Late);
    let task: Arc<Mutex<Option<Saving>>> = Arc::default();
    let handed_over = Arc::clone(&task);
    let handler = Handler(move |request: Request<()>| {
        let task = Arc::clone(&handed_over);
        async move {
            let session = sessions(&request).only().unwrap().load().await?;
            session.log_in("ada")?;
            let mut saving: Saving = Box::pin(async move { session.save().await });
            assert!(poll_once(&mut saving).await.is_none());
            *task.lock() = Some(saving);
            Err::<Response<Frames>, BoxError>(Error::Conflict.into())
        }
    });
    let service = SessionService::new(site.manager.clone(), handler);
    // The service is polled first, so the task exists when it is polled.
    let (response, saved) = block_on(zip(service.call(visitor.request()), async {
        let saving = task.lock().take().expect("the handler ran");
        saving.await
    }));
    saved.unwrap();
    let response = response.unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    visitor.receive(response.map(drop));
    let (owner, _) = visitor.visit(async |handle| handle.load().await.unwrap().owner());
    assert_eq!(owner.as_deref(), Some("ada"));
}

/// Session errors name keys, types and limits. They are logged, and visitors get other texts.
#[test]
fn errors_that_are_nobodys_business_are_logged_and_not_shown() {
    let site = Site::new();
    for (value, status, told, logged) in [
        (1, 500, "Something went wrong here. Please try again later.\n", "\"salary of ada\""),
        (
            100_000,
            413,
            "That is more than can be kept here. Please shorten it and try again.\n",
            "session bytes would exceed the limit of 65536",
        ),
    ] {
        let response = call(&[&site], Request::new(()), move |request| async move {
            let sessions = sessions(&request);
            let session = sessions.only().unwrap().load().await?;
            session.set("salary of ada", &vec![1u8; value])?;
            session.get::<String>("salary of ada")?;
            unreachable!("a list is no text")
        })
        .unwrap();
        assert_eq!(response.status().as_u16(), status);
        assert_eq!(text(response), told);
        assert!(site.log.text().contains(logged), "{logged}");
    }
}

#[test]
fn a_session_that_ended_meanwhile_is_a_conflict_for_the_client() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let request = visitor.request();
    let manager = site.manager.clone();
    let response = call(&[&site], visitor.request(), move |own| {
        let other = manager.start_owned(&request);
        async move {
            sessions(&own).only().unwrap().load().await?.set("n", &2)?;
            other.load().await?.destroy().await?;
            Ok(Response::new(Frames::default()))
        }
    })
    .unwrap();
    assert_eq!(response.status(), StatusCode::CONFLICT);
    assert_eq!(site.count(), 0);
}

fn two_sites() -> [Site; 2] {
    ["__Host-shop", "__Host-admin"].map(|name| Site::configured(|c| c.cookie.name = name.into()))
}

#[test]
fn several_sessions_are_found_by_name_and_finished_together() {
    let [shop, admin] = two_sites();
    let response = call(&[&shop, &admin], Request::new(()), async |request| {
        let sessions = sessions(&request);
        assert!(sessions.get("__Host-other").is_none());
        assert!(sessions.only().is_none(), "there are two");
        sessions.get("__Host-shop").unwrap().load().await?.set("n", &1u64)?;
        sessions.get("__Host-admin").unwrap().load().await?.set("n", &2u64)?;
        // Another call returns the same session.
        let again = sessions.get("__Host-admin").unwrap().load().await?;
        assert_eq!(again.get::<u64>("n")?, Some(2));
        Ok(Response::new(Frames::default()))
    })
    .unwrap();
    let cookies = response.headers().get_all(SET_COOKIE).iter();
    let cookies: Vec<_> = cookies.map(|cookie| cookie.to_str().unwrap()).collect();
    assert_eq!(cookies.len(), 2);
    let jar: Vec<_> = cookies.iter().map(|cookie| cookie.split(';').next().unwrap()).collect();
    let request = Request::builder().header(COOKIE, jar.join("; ")).body(()).unwrap();
    for (site, wanted) in [(&shop, 1), (&admin, 2)] {
        let handle = site.manager.start(&request);
        let n = block_on(async { handle.load().await.unwrap().get::<u64>("n").unwrap() });
        assert_eq!(n, Some(wanted));
    }
}

/// A transport that can't write to the response.
#[derive(Debug)]
struct Mute;

impl Transport for Mute {
    fn name(&self) -> &str {
        "mute"
    }

    fn extract<'r>(&self, _: RequestHead<'r>) -> Extracted<'r> {
        Extracted::nothing()
    }

    fn write_response(&self, _: Directive<'_>, _: &mut HeaderMap) -> Result<(), Error> {
        Err(Error::TooLarge { what: "cookie bytes", limit: 0 })
    }
}

#[test]
fn a_session_that_cannot_be_announced_keeps_no_other_from_being_announced() {
    let sites = [Site::new(), Site::built(|_| (), |builder| builder.with_transport(Mute))];
    for order in [[0, 1], [1, 0]] {
        let sites = order.map(|at| &sites[at]);
        let response = call(&sites, Request::new(()), store_one).unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(response.headers().get_all(SET_COOKIE).iter().count(), 1, "{order:?}");
    }
}

#[test]
fn one_sessions_store_that_is_down_keeps_no_other_session_from_its_client() {
    for broken in [0, 1] {
        let sites = two_sites();
        sites[broken].store.sabotage("create", Fault::Down);
        let response = call(&[&sites[0], &sites[1]], Request::new(()), store_one).unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
        assert_eq!(cookies.len(), 1);
        let healthy = sites[1 - broken].manager.name();
        assert!(cookies[0].to_str().unwrap().starts_with(&format!("{healthy}=")));
        assert_eq!((sites[broken].count(), sites[1 - broken].count()), (0, 1));
    }
}

/// One call loads the session, or returns an error that says what is missing.
#[test]
fn a_request_gives_its_session_in_one_call() {
    let [shop, admin] = two_sites();
    let bare = Request::new(());
    let missing = block_on(bare.session()).unwrap_err();
    assert!(matches!(&missing, Error::NoSession { names } if names.is_empty()), "{missing:?}");
    call(&[&shop], Request::new(()), async |request| {
        request.session().await?.set("n", &1u64)?;
        assert_eq!(request.session_named("__Host-shop").await?.get::<u64>("n")?, Some(1));
        let (parts, ()) = request.into_parts();
        assert_eq!(parts.session().await?.get::<u64>("n")?, Some(1), "the same one");
        assert!(parts.session_named("__Host-admin").await.is_err());
        Ok(Response::new(Frames::default()))
    })
    .unwrap();
    assert_eq!(shop.count(), 1);
    call(&[&shop, &admin], Request::new(()), async |request| {
        let error = request.session().await.unwrap_err();
        assert!(matches!(&error, Error::NoSession { names } if names.len() == 2), "{error:?}");
        assert!(error.to_string().contains("__Host-admin"), "{error}");
        request.session_named("__Host-admin").await?.set("n", &2u64)?;
        Ok(Response::new(Frames::default()))
    })
    .unwrap();
    assert_eq!(admin.count(), 1);
}

/// Where handlers return no errors, as in axum: nothing pending is stored, and the error page is asked.
#[test]
fn a_response_that_carries_a_failure_is_that_failure() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let handler = Handler(async |request: Request<()>| {
        request.session().await?.set("n", &2)?;
        let mut response = Response::new(Frames::default());
        response.extensions_mut().insert(Failure::new(Error::NotLoggedIn));
        Ok::<_, BoxError>(response)
    });
    let service = SessionService::new(site.manager.clone(), handler);
    let response = block_on(service.call(visitor.request())).unwrap();
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(response.headers()["www-authenticate"], "Cookie");
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
    assert!(response.extensions().get::<Failure>().is_none(), "it is dealt with");
    assert_eq!(text(response), "Please log in and try again.\n");
    let service = service.with_error_page(|failure, request| {
        let error = failure.session_error().expect("is one");
        Response::new(format!("{error} at {}", request.uri).into())
    });
    let response = block_on(service.call(visitor.request())).unwrap();
    assert_eq!(
        text(response),
        "nobody is logged in, or the login is older than the page allows at /"
    );
    assert_eq!(visitor.get("n"), Some(1));
}
