//! The layer beside those of tower-http, outside of them and inside.

use std::io::Read as _;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING,
    CONTENT_TYPE, ORIGIN, SET_COOKIE, VARY,
};
use http::{Method, Request, StatusCode};
use session_core::transport::TransportKind;
use session_tower::SessionLayer;
use session_tower::axum::{Failed, Session};
use tower::ServiceExt as _;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::timeout::TimeoutLayer;

use crate::support::{Site, Visitor, reply};

/// A macro, as each order is a type of its own: the router with the other layer inside, and outside.
macro_rules! orders {
    ($router:expr, $sessions:expr, $other:expr) => {
        [
            ("inside", $router.layer($other).layer($sessions)),
            ("outside", $router.layer($sessions).layer($other)),
        ]
    };
}

async fn count(session: Session) -> Result<String, Failed> {
    Ok(session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?.to_string())
}

async fn n(session: Session) -> Result<String, Failed> {
    Ok(session.get::<u32>("n")?.unwrap_or(0).to_string())
}

/// Changes the session and never comes to an end.
async fn hang(session: Session) -> Result<String, Failed> {
    session.set("n", &100)?;
    session.log_in("ada")?;
    std::future::pending().await
}

async fn panics(session: Session) -> Result<String, Failed> {
    session.set("n", &100)?;
    session.log_in("ada")?;
    panic!("this test panics")
}

/// A long page with a link.
async fn page(session: Session) -> Result<([(http::HeaderName, &'static str); 1], String), Failed> {
    session.set("n", &1)?;
    let page = format!("<!doctype html><title>x</title><a href=/next>{}</a>", "word ".repeat(500));
    Ok(([(CONTENT_TYPE, "text/html; charset=utf-8")], page))
}

async fn upload(session: Session, body: String) -> Result<String, Failed> {
    session.set("n", &body.len())?;
    Ok(body.len().to_string())
}

fn routes() -> Router {
    Router::new()
        .route("/", post(count).get(n))
        .route("/hang", post(hang))
        .route("/panic", post(panics))
        .route("/page", get(page))
        .route("/upload", post(upload))
}

/// The visitor goes on with the session, as it was.
async fn check_untouched(app: &Router, visitor: &mut Visitor, order: &str) {
    assert_eq!(visitor.get(app, "/").await.expect(200), "1", "{order}");
    assert_eq!(visitor.post(app, "/").await.expect(200), "2", "{order}");
}

#[tokio::test(start_paused = true)]
async fn a_timeout_leaves_the_session_as_it_was() {
    let site = Site::new();
    let other =
        || TimeoutLayer::with_status_code(StatusCode::REQUEST_TIMEOUT, Duration::from_secs(10));
    for (order, app) in orders!(routes(), SessionLayer::new(site.manager.clone()), other()) {
        let mut visitor = Visitor::default();
        visitor.post(&app, "/").await.expect(200);
        let timed_out = visitor.post(&app, "/hang").await;
        timed_out.expect(408);
        assert!(!timed_out.headers.contains_key(SET_COOKIE), "{order}");
        check_untouched(&app, &mut visitor, order).await;
    }
}

#[tokio::test]
async fn a_panic_leaves_the_session_as_it_was_whoever_catches_it() {
    let site = Site::new();
    for (order, app) in
        orders!(routes(), SessionLayer::new(site.manager.clone()), CatchPanicLayer::new())
    {
        let mut visitor = Visitor::default();
        visitor.post(&app, "/").await.expect(200);
        let caught = visitor.post(&app, "/panic").await;
        caught.expect(500);
        // Outside, it has nothing to catch.
        let is_ours = caught.text.starts_with("Something went wrong here.");
        assert_eq!(is_ours, order == "outside", "{caught:?}");
        assert!(!caught.headers.contains_key(SET_COOKIE), "{order}");
        check_untouched(&app, &mut visitor, order).await;
    }
}

#[tokio::test]
async fn compressed_responses_carry_the_cookie_on_either_side() {
    let site = Site::new();
    for (order, app) in
        orders!(routes(), SessionLayer::new(site.manager.clone()), CompressionLayer::new())
    {
        let mut request = Visitor::default().request("GET", "/page");
        request.headers_mut().insert(ACCEPT_ENCODING, "gzip".parse().unwrap());
        let response = app.oneshot(request).await.unwrap();
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip", "{order}");
        assert!(response.headers().contains_key(SET_COOKIE), "{order}");
        let vary: Vec<_> = response.headers().get_all(VARY).iter().collect();
        assert!(vary.contains(&&"Cookie".parse().unwrap()), "{order}: {vary:?}");
        assert!(vary.contains(&&"accept-encoding".parse().unwrap()), "{order}: {vary:?}");
        assert!(unzipped(response.into_body()).await.contains("href=/next"), "{order}");
    }
}

async fn unzipped(body: Body) -> String {
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    text
}

/// What is compressed already can't be read: the page goes by as it is.
#[cfg(feature = "rewrite")]
#[tokio::test]
async fn ids_go_into_pages_before_they_are_compressed() {
    let site = Site::configured(|config| config.transport = TransportKind::Url);
    for (order, app) in
        orders!(routes(), SessionLayer::new(site.manager.clone()), CompressionLayer::new())
    {
        let mut request = Visitor::default().request("GET", "/page");
        request.headers_mut().insert(ACCEPT_ENCODING, "gzip".parse().unwrap());
        let response = app.clone().oneshot(request).await.unwrap();
        let page = unzipped(response.into_body()).await;
        assert_eq!(page.contains("/next?sid="), order == "outside", "{page}");
        // A client that wants nothing compressed gets its ids in either order.
        let plain = reply(&app, Visitor::default().request("GET", "/page")).await;
        assert!(plain.text.contains("/next?sid="), "{order}: {}", plain.text);
    }
}

#[tokio::test]
async fn a_script_of_an_allowed_origin_reads_its_response() {
    let site = Site::configured(|config| {
        config.cross_site.trusted = [("https://app.example".into(), vec!["/*".into()])].into();
    });
    let allowed: http::HeaderValue = "https://app.example".parse().unwrap();
    let cors = CorsLayer::new()
        .allow_origin(allowed.clone())
        .allow_methods([Method::POST])
        .allow_credentials(true);
    for (order, app) in orders!(routes(), SessionLayer::new(site.manager.clone()), cors.clone()) {
        let from = |method: &str, origin: &str| {
            let mut request = Visitor::default().request(method, "/");
            request.headers_mut().insert(ORIGIN, origin.parse().unwrap());
            request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
            request
        };
        let done = reply(&app, from("POST", "https://app.example")).await;
        assert_eq!(done.expect(200), "1");
        assert_eq!(done.headers[ACCESS_CONTROL_ALLOW_ORIGIN], allowed, "{order}");
        assert!(done.headers.contains_key(SET_COOKIE), "{order}");
        site.store.calls();
        // A preflight is no request of the session's.
        let mut preflight = from("OPTIONS", "https://app.example");
        let post = "POST".parse().unwrap();
        preflight.headers_mut().insert(ACCESS_CONTROL_REQUEST_METHOD, post);
        let preflight = reply(&app, preflight).await;
        preflight.expect(200);
        assert_eq!(preflight.headers[ACCESS_CONTROL_ALLOW_ORIGIN], allowed, "{order}");
        assert!(!preflight.headers.contains_key(SET_COOKIE), "{order}");
        // What another site's script sends is refused, whatever CORS says of the response.
        reply(&app, from("POST", "https://evil.example")).await.expect(403);
        assert_eq!(site.store.calls(), [""; 0], "{order}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_and_the_session_is_as_it_was() {
    let site = Site::new();
    for (order, app) in
        orders!(routes(), SessionLayer::new(site.manager.clone()), RequestBodyLimitLayer::new(100))
    {
        let mut visitor = Visitor::default();
        visitor.post(&app, "/").await.expect(200);
        let upload = |body: Body, length: Option<usize>| {
            let mut request = visitor.request("POST", "/upload").map(|_| body);
            if let Some(length) = length {
                request.headers_mut().insert("content-length", length.into());
            }
            request
        };
        // By what it announces, and by what comes.
        reply(&app, upload(Body::empty(), Some(101))).await.expect(413);
        let chunks =
            futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>("ten bytes.")));
        let refused = reply(&app, upload(Body::from_stream(chunks), None)).await;
        refused.expect(413);
        check_untouched(&app, &mut visitor, order).await;
        let mut small: Request<Body> = visitor.request("POST", "/upload");
        *small.body_mut() = Body::from("small");
        assert_eq!(visitor.send(&app, small).await.expect(200), "5");
        assert_eq!(visitor.get(&app, "/").await.expect(200), "5");
    }
}
