//! Every way in which a request can end, with the wrapper and by hand.
//!
//! Whatever happens in the handler, the visitor gets a response. If the handler fails, pending changes
//! are dropped, so the old id stays valid. What was stored stays, and the response sets its cookie.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use futures_lite::future::{pending, poll_once};
use http::header::CACHE_CONTROL;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::service::Service;
use parking_lot::Mutex;
use session_core::provider::BoxError;
use session_core::{Error, Failure, LoadedSession, SessionBody, SessionService, Sessions};

use crate::support::*;

/// How the handler ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// A session error.
    Session,
    /// An application's error that is caused by a session error.
    Caused,
    /// A session error several causes deep in an error of another type.
    Deep,
    /// An error without a session error.
    Other,
    /// A panic.
    Panic,
    /// A response with this status.
    Status(u16),
}

const ENDS: [(End, u16); 7] = [
    (End::Session, 409),
    (End::Caused, 409),
    (End::Deep, 409),
    (End::Other, 500),
    (End::Panic, 500),
    (End::Status(500), 500),
    (End::Status(408), 408),
];

/// An application's own errors.
#[derive(Debug)]
enum App {
    Session(Error),
    NotFound,
}

impl fmt::Display for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Session(_) => "the session failed",
            Self::NotFound => "no such page",
        })
    }
}

impl std::error::Error for App {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Session(error) => Some(error),
            Self::NotFound => None,
        }
    }
}

impl End {
    fn reach<B: Default>(self) -> Result<Response<B>, BoxError> {
        let caused = || App::Session(Error::Conflict);
        match self {
            Self::Session => Err(Error::Conflict.into()),
            Self::Caused => Err(caused().into()),
            Self::Deep => Err(std::io::Error::other(std::io::Error::other(caused())).into()),
            Self::Other => Err(App::NotFound.into()),
            Self::Panic => panic!("a handler's own"),
            Self::Status(status) => Ok(Response::builder().status(status).body(B::default())?),
        }
    }
}

/// Logs in and sets a value, and saves if `is_stored`.
async fn log_in(session: &LoadedSession, is_stored: bool) -> Result<(), Error> {
    session.log_in("ada")?;
    session.set("n", &2u64)?;
    if is_stored { session.save().await } else { Ok(()) }
}

fn sessions(request: &Request<()>) -> Sessions {
    request.extensions().get::<Sessions>().expect("the wrapper puts them there").clone()
}

/// Runs the handler with the wrapper or by hand.
fn respond(
    site: &Site,
    visitor: &Visitor<'_>,
    end: End,
    is_stored: bool,
    by_hand: bool,
) -> Response<()> {
    if by_hand {
        return block_on(async {
            let handle = site.manager.start(&visitor.request());
            let page = async {
                log_in(&handle.load().await?, is_stored).await?;
                end.reach::<String>()
            };
            handle.respond(page, Failure::response).await.map(drop)
        });
    }
    let handler = Handler(move |request: Request<()>| async move {
        log_in(&sessions(&request).only().unwrap().load().await?, is_stored).await?;
        end.reach::<Frames>()
    });
    let Ok(response) = served(site, handler, visitor.request());
    response.map(drop)
}

fn served<S>(
    site: &Site,
    handler: S,
    request: Request<()>,
) -> Result<Response<SessionBody<Frames>>, Infallible>
where
    S: Service<Request<()>, Response = Response<Frames>, Error = BoxError>,
    S::Future: Send + 'static,
{
    block_on(SessionService::new(site.manager.clone(), handler).call(request))
}

#[test]
fn what_is_pending_is_dropped_with_a_handler_that_fails() {
    for (end, status) in ENDS {
        for by_hand in [false, true] {
            let site = Site::new();
            let visitor = site.visitor();
            visitor.set("n", 1);
            let response = respond(&site, &visitor, end, false, by_hand);
            assert_eq!(response.status().as_u16(), status, "{end:?}");
            assert!(visitor.receive(response).set_cookie().is_none(), "{end:?}");
            assert_eq!((visitor.get("n"), visitor.owner()), (Some(1), None), "{end:?}");
            assert_eq!(site.count(), 1);
        }
    }
}

#[test]
fn what_was_stored_before_is_told_by_the_response_in_its_place() {
    for (end, status) in ENDS {
        for by_hand in [false, true] {
            let site = Site::new();
            let visitor = site.visitor();
            visitor.set("n", 1);
            let old = visitor.tab();
            let response = respond(&site, &visitor, end, true, by_hand);
            assert_eq!(response.status().as_u16(), status, "{end:?}");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            assert!(visitor.receive(response).set_cookie().is_some(), "{end:?}");
            assert_eq!((visitor.get("n"), visitor.owner().as_deref()), (Some(2), Some("ada")));
            assert!(!is_anonymous(&site, &visitor.request()).0 && old.owner().is_none());
            assert_eq!(site.count(), 1);
        }
    }
}

/// A service may work in `call`, before it returns the future.
#[test]
fn a_panic_in_the_call_is_one_in_the_handler() {
    struct Panics;
    impl Service<Request<()>> for Panics {
        type Response = Response<Frames>;
        type Error = BoxError;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Frames>, BoxError>> + Send>>;

        fn call(&self, _: Request<()>) -> Self::Future {
            panic!("a service's own")
        }
    }

    let site = Site::new();
    let Ok(response) = served(&site, Panics, site.visitor().request());
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(site.log.text().contains("panicked"));
}

/// The log has the error, the response doesn't.
#[test]
fn an_error_of_the_handlers_own_is_logged_and_not_shown() {
    let site = Site::new();
    let failing = Handler(async |_| Err(std::io::Error::other("disk 3 is on fire").into()));
    let Ok(response) = served(&site, failing, site.visitor().request());
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let body = block_on(response.into_body().collect()).unwrap().to_bytes();
    assert_eq!(body, "Something went wrong here. Please try again later.\n");
    assert!(site.log.text().contains("disk 3 is on fire"));
}

#[test]
fn an_error_page_of_the_applications_own_knows_the_error_and_the_request() {
    let site = Site::new();
    let handler = Handler(|request: Request<()>| async move {
        let session = sessions(&request).only().unwrap().load().await?;
        session.log_in("ada")?;
        session.save().await?;
        match request.uri().path() {
            "/panic" => panic!("a handler's own"),
            "/gone" => Err(App::Session(Error::Gone).into()),
            _ => Err(App::NotFound.into()),
        }
    });
    let service = SessionService::new(site.manager.clone(), handler);
    let service = service.with_error_page(|failure, request| {
        assert_ne!(request.uri.path(), "/panic", "a page's own");
        let is_missing = matches!(failure.error().downcast_ref(), Some(App::NotFound));
        let text = format!("{}: {}", request.uri.path(), failure.visitor_text());
        let status = if is_missing { StatusCode::NOT_FOUND } else { failure.status() };
        let mut response = Response::new(text.into());
        *response.status_mut() = status;
        response
    });
    for (path, status, wanted) in [
        ("/gone", 409, "/gone: This page is out of date. Please reload it and try again."),
        ("/none", 404, "/none: Something went wrong here. Please try again later."),
        ("/panic", 500, "Something went wrong here. Please try again later.\n"),
    ] {
        let visitor = site.visitor();
        let mut request = visitor.request();
        *request.uri_mut() = path.parse().unwrap();
        let (parts, body) = block_on(service.call(request)).unwrap().into_parts();
        assert_eq!(parts.status.as_u16(), status);
        let text = block_on(body.collect()).unwrap().to_bytes();
        assert_eq!(text, wanted);
        visitor.receive(Response::from_parts(parts, ()));
        assert_eq!(visitor.owner().as_deref(), Some("ada"), "{path}: it is finished all the same");
    }
}

/// The server drops the future. A task of the request that continues can't store anything that a
/// response would have to tell.
#[test]
fn when_the_client_goes_away_what_is_pending_is_dropped() {
    for by_hand in [false, true] {
        let site = Site::new();
        let visitor = site.visitor();
        visitor.set("n", 1);
        let task: Arc<Mutex<Option<LoadedSession>>> = Arc::default();
        block_on(async {
            if by_hand {
                let handle = site.manager.start(&visitor.request());
                let page = async {
                    let session = handle.load().await?;
                    log_in(&session, false).await?;
                    *task.lock() = Some(session);
                    pending::<Result<Response<String>, Error>>().await
                };
                assert!(poll_once(handle.respond(page, Failure::response)).await.is_none());
            } else {
                let kept = Arc::clone(&task);
                let handler = Handler(move |request: Request<()>| {
                    let kept = Arc::clone(&kept);
                    async move {
                        let session = sessions(&request).only().unwrap().load().await?;
                        log_in(&session, false).await?;
                        *kept.lock() = Some(session);
                        pending::<Result<Response<Frames>, BoxError>>().await
                    }
                });
                let service = SessionService::new(site.manager.clone(), handler);
                assert!(poll_once(service.call(visitor.request())).await.is_none());
            }
            let session = task.lock().take().expect("the handler ran");
            assert!(matches!(session.log_in("bob"), Err(Error::Finished)));
            session.save().await.unwrap();
        });
        assert_eq!((visitor.get("n"), visitor.owner()), (Some(1), None));
        assert_eq!(site.count(), 1);
    }
}

/// The handler returns `anyhow::Error`.
#[test]
fn an_anyhow_error_keeps_the_session_errors_status() {
    let mut seen = Vec::new();
    for (error, status) in [
        (Error::Gone, 409),
        (Error::unavailable("down"), 503),
        (Error::TooLarge { what: "session bytes", limit: 1 }, 413),
    ] {
        let site = Site::new();
        let handle = site.manager.start_owned(&site.visitor().request());
        let page = async { Err::<Response<String>, anyhow::Error>(anyhow::Error::from(error)) };
        let response = block_on(handle.respond(page, Failure::response));
        seen.push((response.status().as_u16(), status));
    }
    assert!(seen.iter().all(|(is, wanted)| is == wanted), "{seen:?}");
}

#[test]
fn an_anyhow_error_with_context_keeps_the_session_errors_status() {
    use anyhow::Context as _;
    let site = Site::new();
    let handle = site.manager.start_owned(&site.visitor().request());
    let page = async { Err::<Response<String>, Error>(Error::Gone).context("while counting") };
    let response = block_on(handle.respond(page, Failure::response));
    assert_eq!(response.status(), 409);
}

/// The error is like one that `thiserror` derives.
#[test]
fn a_transparent_error_keeps_the_session_errors_status() {
    #[derive(Debug)]
    struct App(Error);
    impl std::fmt::Display for App {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            self.0.fmt(f)
        }
    }
    impl std::error::Error for App {
        // The same as with `#[error(transparent)]`.
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            self.0.source()
        }
    }
    let site = Site::new();
    let handle = site.manager.start(&Request::new(()));
    let page = async { Err::<Response<String>, App>(App(Error::unavailable("down"))) };
    let response = block_on(handle.respond(page, Failure::response));
    assert_eq!(response.status(), 503);
}
