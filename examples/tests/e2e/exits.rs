//! Every way in which a request can end, over HTTP. Each has a response, which tells the client exactly
//! what was stored.

use std::future::{Future, pending};
use std::io::Write as _;
use std::net::TcpStream;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::channel;

use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response, StatusCode};
use session_core::{Error, SessionService};
use tokio::sync::oneshot;

use crate::client::{Answer, Client};
use crate::demo::PATIENCE;
use crate::site::{BoxError, Site, manager, session, with_header};

type Outcome<E> = Result<Response<String>, E>;

/// The errors of an application.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("nobody is called that")]
    Unknown,
    #[error("the session")]
    Session(#[from] Error),
    #[error("the order")]
    Order(#[source] BoxError),
}

/// Runs the routes of an application. All but the first two end with `fail`.
async fn app<E: From<Error>>(
    request: Request<Incoming>,
    fail: fn() -> Outcome<E>,
) -> Result<Response<String>, E> {
    let session = session(&request).await?;
    match request.uri().path() {
        "/n" => {
            let n: Option<u32> = session.get("n")?;
            let owner = session.owner();
            return Ok(Response::new(format!(
                "{} of {}\n",
                n.unwrap_or(0),
                owner.as_deref().unwrap_or("nobody")
            )));
        }
        "/set" => {
            session.set("n", &1)?;
            return Ok(Response::default());
        }
        "/log-in" => session.log_in("ada")?,
        "/regenerate" => session.regenerate()?,
        "/saved" => {
            session.log_in("ada")?;
            session.save().await?;
        }
        "/updated" => {
            session.log_in("ada")?;
            let _: u32 = session.update("logins", |n| n.unwrap_or(0) + 1).await?;
        }
        path => unreachable!("{path}"),
    }
    session.set("n", &2)?;
    fail()
}

/// Returns a visitor whose session has a value.
fn known(site: &Site) -> Client {
    let mut visitor = site.visitor();
    visitor.post("/set", "").expect(200);
    assert_eq!(visitor.get("/n").line(), "1 of nobody");
    visitor
}

/// Checks the response to a request that failed.
fn check(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    let says_nothing = answer.body == OWN_WORDS && answer.header("set-cookie").is_none();
    let caching = if says_nothing { "private, no-cache" } else { "no-store" };
    assert_eq!(answer.header("cache-control"), Some(caching), "{answer:?}");
}

/// Checks that requests that end with `fail` keep only what they stored before.
fn fails<E>(status: u16, fail: fn() -> Outcome<E>)
where
    E: From<Error> + Into<BoxError> + Send + 'static,
{
    let handler = service_fn(move |request| app(request, fail));
    let manager = manager("");
    let site = Site::start(SessionService::new(manager.clone(), handler));
    // A stranger gets no session.
    site.visitor().post("/log-in", "").no_cookie().expect(status);
    assert_eq!(manager.stats().created, 0);
    let mut visitor = known(&site);
    for path in ["/log-in", "/regenerate"] {
        let answer = visitor.post(path, "").no_cookie();
        check(&answer, status);
        assert_eq!(visitor.get("/n").no_cookie().line(), "1 of nobody", "{path} {status}");
    }
    for path in ["/saved", "/updated"] {
        let mut visitor = known(&site);
        let old = visitor.id();
        let answer = visitor.post(path, "");
        check(&answer, status);
        assert!(answer.header("set-cookie").is_some(), "{answer:?}");
        assert_ne!(visitor.id(), old);
        assert_eq!(visitor.get("/n").no_cookie().line(), "1 of ada", "{path} {status}");
        assert_eq!(visitor.with_id(&old).get("/n").line(), "0 of nobody");
    }
}

const OWN_WORDS: &str = "the handler's own words\n";

fn failed(status: StatusCode) -> Response<String> {
    let mut response = Response::new(OWN_WORDS.to_owned());
    *response.status_mut() = status;
    response
}

#[test]
fn an_error_of_any_type_is_answered_and_undoes_what_was_pending() {
    fails(409, || Err(Error::Gone));
    fails(500, || Err(AppError::Unknown));
    fails(500, || Err(BoxError::from("out of paper")));
    // The session error may be anywhere in the chain of causes.
    fails(503, || Err(AppError::Session(down())));
    fails(503, || Err(AppError::Order(AppError::Session(down()).into())));
    fails(503, || Err(BoxError::from(std::io::Error::other(down()))));
    fails(503, || Err(AppError::Order(Box::new(Arc::new(down())))));
}

fn down() -> Error {
    Error::unavailable("connection refused")
}

#[test]
fn a_panic_is_answered_and_undoes_what_was_pending() {
    fails::<Error>(500, || panic!("this test panics"));
    fails::<BoxError>(500, || std::panic::panic_any(1));
}

#[test]
fn a_response_that_says_that_the_handler_failed_undoes_what_was_pending() {
    fails::<Error>(500, || Ok(failed(StatusCode::INTERNAL_SERVER_ERROR)));
    fails::<Error>(503, || Ok(failed(StatusCode::SERVICE_UNAVAILABLE)));
    fails::<Error>(408, || Ok(failed(StatusCode::REQUEST_TIMEOUT)));
}

/// A service that panics before it returns a future.
#[derive(Clone)]
struct AtOnce;

impl Service<Request<Incoming>> for AtOnce {
    type Response = Response<String>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Outcome<BoxError>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        assert!(request.uri().path() != "/panic", "this test panics");
        Box::pin(app(request, || Ok(Response::default())))
    }
}

#[test]
fn a_panic_before_there_is_a_future_is_answered() {
    let site = Site::start(SessionService::new(manager(""), AtOnce));
    let mut visitor = known(&site);
    let answer = visitor.get("/panic").no_cookie();
    check(&answer, 500);
    assert_eq!(answer.line(), "Something went wrong here. Please try again later.");
    assert_eq!(visitor.get("/n").line(), "1 of nobody");
}

/// A task that the handler spawned doesn't store the login either, because no response could tell the
/// client.
#[test]
fn a_client_that_goes_away_keeps_its_session() {
    let (events, happened) = channel();
    let handler = service_fn(move |request: Request<Incoming>| {
        let events = events.clone();
        async move {
            if request.uri().path() != "/hang" {
                return app(request, || Ok::<_, Error>(Response::default())).await;
            }
            let session = session(&request).await?;
            session.log_in("ada")?;
            session.set("n", &2)?;
            let (_here, gone) = oneshot::channel::<()>();
            tokio::spawn(async move {
                events.send("logged in").expect("the test waits for it");
                let _ = gone.await;
                // This may be an error or not; nothing is stored either way.
                let _ = session.save().await;
                events.send("tried to save").expect("the test waits for it");
            });
            pending().await
        }
    });
    let site = Site::start(SessionService::new(manager(""), handler));
    let mut visitor = known(&site);
    let mut stream = TcpStream::connect(site.address).expect("it listens");
    let cookie = visitor.cookie.as_deref().expect("has one");
    write!(stream, "POST /hang HTTP/1.1\r\nHost: here\r\nCookie: {cookie}\r\n\r\n").expect("sent");
    let next = || happened.recv_timeout(PATIENCE).expect("it happens");
    assert_eq!(next(), "logged in");
    drop(stream);
    assert_eq!(next(), "tried to save");
    assert_eq!(visitor.get("/n").no_cookie().line(), "1 of nobody");
}

#[test]
fn pages_of_the_application_take_the_place_of_the_line_of_text() {
    let fail: fn() -> Outcome<AppError> = || Err(AppError::Unknown);
    let gone: fn() -> Outcome<AppError> = || Err(AppError::Session(Error::Gone));
    for (fail, status) in [(fail, StatusCode::NOT_FOUND), (gone, StatusCode::CONFLICT)] {
        // The application has each route twice: for people, and for scripts.
        let handler = service_fn(move |mut request: Request<Incoming>| {
            let path = request.uri().path();
            let path = path.strip_prefix("/api").unwrap_or(path).parse().expect("a path");
            *request.uri_mut() = path;
            app(request, fail)
        });
        let service = SessionService::new(manager(""), handler);
        let site = Site::start(service.with_error_page(|failure, request| {
            let path = request.uri.path();
            assert!(path != "/regenerate", "this test panics");
            let text = failure.visitor_text();
            let (kind, page) = match path.starts_with("/api/") {
                true => ("application/json", format!("{{\"error\": \"{text}\"}}")),
                false => ("text/html", format!("<!doctype html><title>Sorry</title><p>{text}")),
            };
            let mut response = with_header(CONTENT_TYPE, kind, page).map(Into::into);
            *response.status_mut() = match failure.error().downcast_ref() {
                Some(AppError::Unknown) => StatusCode::NOT_FOUND,
                _ => failure.status(),
            };
            response
        }));
        let status = status.as_u16();
        let text = match status {
            409 => Error::Gone.visitor_text(),
            _ => "Something went wrong here. Please try again later.",
        };
        for path in ["/log-in", "/saved"] {
            let mut visitor = known(&site);
            let answer = visitor.post(&format!("/api{path}"), "");
            check(&answer, status);
            assert_eq!(answer.header("content-type"), Some("application/json"));
            assert_eq!(answer.json()["error"], text);
            assert_eq!(answer.header("set-cookie").is_some(), path == "/saved");

            let mut visitor = known(&site);
            let answer = visitor.post(path, "");
            check(&answer, status);
            assert_eq!(answer.header("content-type"), Some("text/html"));
            assert!(answer.body.ends_with(&format!("<p>{text}")), "{answer:?}");
            assert_eq!(answer.header("set-cookie").is_some(), path == "/saved");
        }
        // A panic gets a response as well.
        let answer = known(&site).post("/regenerate", "").no_cookie();
        assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(answer.line(), text);
    }
}
