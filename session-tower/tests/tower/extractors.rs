//! What handlers of axum are given, and what becomes of their errors.

use std::time::Duration;

use axum::extract::State;
use axum::response::Html;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::Response;
use http::header::{CACHE_CONTROL, SET_COOKIE, VARY};
use session_core::{Error, Managers, Sessions};
use session_tower::SessionLayer;
use session_tower::axum::{Failed, FreshOwner, Owner, Session, SessionName};

use crate::support::{Site, Visitor};

async fn count(session: Session) -> Result<String, Failed> {
    Ok(session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?.to_string())
}

async fn peek(session: Option<Session>) -> Result<String, Failed> {
    match session {
        Some(session) => Ok(format!("{:?}", session.get::<u32>("n")?)),
        None => Ok("nobody".into()),
    }
}

async fn log_in(session: Session) -> Result<(), Failed> {
    session.log_in("ada")?;
    Ok(())
}

async fn log_out(session: Session) -> Result<(), Failed> {
    session.destroy().await?;
    Ok(())
}

async fn private(owner: Owner) -> String {
    format!("hello, {owner}")
}

async fn public(owner: Option<Owner>) -> String {
    owner.map_or("hello, stranger".into(), |owner| format!("hello, {}", owner.as_str()))
}

async fn fresh(FreshOwner(owner): FreshOwner<300>) -> String {
    owner.session().key().expect("is stored").to_string() + " of " + &owner
}

fn routes() -> Router {
    Router::new()
        .route("/count", post(count))
        .route("/peek", get(peek))
        .route("/login", post(log_in))
        .route("/logout", post(log_out))
        .route("/private", get(private).post(private))
        .route("/public", get(public))
        .route("/fresh", get(fresh))
}

fn app(site: &Site) -> Router {
    routes().layer(SessionLayer::new(site.manager.clone()))
}

#[tokio::test]
async fn an_optional_session_of_a_visitor_without_one_costs_the_store_nothing() {
    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    let reply = visitor.get(&app, "/peek").await;
    assert_eq!(reply.expect(200), "nobody");
    assert_eq!(site.store.calls(), [""; 0]);
    assert!(!visitor.has_cookie());
    // The page depends on the cookie all the same.
    assert_eq!(reply.header(VARY), Some("Cookie"));
    assert_eq!(reply.header(CACHE_CONTROL), Some("private, no-cache"));

    visitor.post(&app, "/count").await.expect(200);
    site.store.calls();
    assert_eq!(visitor.get(&app, "/peek").await.expect(200), "Some(1)");
    assert_eq!(site.store.calls(), ["load"]);
    // One that has ended is none.
    let mut old = visitor.clone();
    visitor.post(&app, "/logout").await.expect(200);
    assert_eq!(old.get(&app, "/peek").await.expect(200), "nobody");
}

#[tokio::test]
async fn a_page_of_somebodys_is_401_for_a_stranger() {
    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    for method in ["GET", "POST"] {
        let refused = visitor.send(&app, visitor.request(method, "/private")).await;
        assert_eq!(refused.expect(401), "Please log in and try again.");
        assert_eq!(refused.headers["www-authenticate"], "Cookie");
        assert_eq!(refused.header(CACHE_CONTROL), Some("no-store"));
    }
    assert_eq!(visitor.get(&app, "/public").await.expect(200), "hello, stranger");
    visitor.get(&app, "/fresh").await.expect(401);
    assert_eq!(site.store.calls(), [""; 0]);
    assert!(!visitor.has_cookie());
    // A session without a login is a stranger's, too.
    visitor.post(&app, "/count").await.expect(200);
    visitor.get(&app, "/private").await.expect(401);

    visitor.post(&app, "/login").await.expect(200);
    assert_eq!(visitor.get(&app, "/private").await.expect(200), "hello, ada");
    assert_eq!(visitor.get(&app, "/public").await.expect(200), "hello, ada");
    visitor.post(&app, "/logout").await.expect(200);
    visitor.get(&app, "/private").await.expect(401);
}

#[tokio::test]
async fn a_login_is_fresh_for_as_long_as_the_page_says() {
    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    visitor.post(&app, "/login").await.expect(200);
    site.clock.advance(Duration::from_secs(300));
    assert!(visitor.get(&app, "/fresh").await.expect(200).ends_with(" of ada"));
    site.clock.advance(Duration::from_secs(1));
    visitor.get(&app, "/fresh").await.expect(401);
    assert_eq!(visitor.get(&app, "/private").await.expect(200), "hello, ada");
    visitor.post(&app, "/login").await.expect(200);
    visitor.get(&app, "/fresh").await.expect(200);
}

#[tokio::test]
async fn rejections_and_errors_reach_the_error_page_and_undo_what_was_pending() {
    async fn fails(session: Session) -> Result<(), Failed> {
        session.set("n", &100)?;
        Err(std::io::Error::other("out of paper"))?
    }

    async fn gone(session: Session) -> Result<(), Failed> {
        session.set("n", &100)?;
        let error: Error = Error::Gone;
        Err(error.into())
    }

    async fn too_large(session: Session) -> Result<(), Failed> {
        session.set("n", &100)?;
        Ok(session.set("large", &"x".repeat(100_000))?)
    }

    let site = Site::new();
    let routes = routes()
        .route("/fails", get(fails))
        .route("/gone", get(gone))
        .route("/too-large", get(too_large));
    let plain = routes.clone().layer(SessionLayer::new(site.manager.clone()));
    let layer = SessionLayer::new(site.manager.clone()).with_error_page(|failure, request| {
        let text = format!("{} {}: {}", request.method, request.uri.path(), failure.error());
        Response::builder().status(failure.status()).body(text.into()).unwrap()
    });
    let styled = routes.layer(layer);
    let mut visitor = Visitor::default();
    visitor.post(&plain, "/count").await.expect(200);
    for (path, status, error) in [
        ("/private", 401, "nobody is logged in, or the login is older than the page allows"),
        ("/fails", 500, "out of paper"),
        ("/gone", 409, "the session ended or got a new id meanwhile"),
        (
            "/too-large",
            413,
            "session bytes would exceed the limit of 65536; store less in the session, or raise the limit",
        ),
    ] {
        let reply = visitor.get(&plain, path).await;
        assert!(reply.expect(status).contains("Please "), "{reply:?}");
        let reply = visitor.get(&styled, path).await;
        assert_eq!(reply.expect(status), format!("GET {path}: {error}"));
        assert_eq!(reply.header(CACHE_CONTROL), Some("no-store"));
        assert_eq!(visitor.get(&plain, "/peek").await.expect(200), "Some(1)", "{path}");
    }
    site.store.fail(Some("load"));
    for path in ["/count", "/private", "/peek", "/public", "/fresh"] {
        let method = if path == "/count" { "POST" } else { "GET" };
        let reply = visitor.send(&styled, visitor.request(method, path)).await;
        assert_eq!(
            reply.expect(503),
            format!("{method} {path}: the session store is unavailable; retry later")
        );
        assert!(!reply.headers.contains_key(SET_COOKIE));
    }
    site.store.fail(Some("save"));
    let reply = visitor.post(&plain, "/count").await;
    assert_eq!(reply.expect(503), "This does not work right now. Please try again in a moment.");
}

/// It says what is missing, and panics nowhere.
#[tokio::test]
async fn without_the_layer_a_session_is_an_error_that_says_so() {
    let mut visitor = Visitor::default();
    let failed = Failed::from(Error::NoSession { names: [].into() });
    assert!(format!("{failed:?}").contains("NoSession"), "{failed:?}");
    visitor.post(&routes(), "/count").await.expect(500);
    visitor.get(&routes(), "/private").await.expect(500);
    visitor.get(&routes(), "/peek").await.expect(500);
}

struct Shop;
struct Staff;
struct Other;

impl SessionName for Shop {
    const NAME: Option<&'static str> = Some("__Host-shop");
}

impl SessionName for Staff {
    const NAME: Option<&'static str> = Some("__Host-staff");
}

impl SessionName for Other {
    const NAME: Option<&'static str> = Some("__Host-other");
}

#[tokio::test]
async fn several_sessions_are_extracted_by_their_names() {
    async fn both(shop: Session<Shop>, staff: Session<Staff>) -> Result<String, Failed> {
        let n = shop.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?;
        staff.log_in("grace")?;
        Ok(format!("{n}"))
    }

    async fn clerk(clerk: Owner<Staff>, customer: Option<Owner<Shop>>) -> String {
        format!("{clerk} serves {}", customer.map_or("a stranger".into(), |c| c.to_string()))
    }

    async fn fresh(FreshOwner(clerk): FreshOwner<60, Staff>) -> String {
        clerk.to_string()
    }

    async fn all(Extension(sessions): Extension<Sessions>) -> String {
        sessions.iter().map(|handle| handle.name()).collect::<Vec<_>>().join(" ")
    }

    let [shop, staff] = ["__Host-shop", "__Host-staff"].map(Site::named);
    let managers = Managers::new([shop.manager.clone(), staff.manager.clone()]).unwrap();
    let app = Router::new()
        .route("/both", post(both))
        .route("/clerk", get(clerk))
        .route("/fresh", get(fresh))
        .route("/all", get(all))
        .route("/other", get(async |_: Session<Other>| ()))
        .route("/only", get(async |_: Session| ()))
        .layer(SessionLayer::new(managers));
    let mut visitor = Visitor::default();
    visitor.get(&app, "/clerk").await.expect(401);
    assert_eq!(visitor.post(&app, "/both").await.expect(200), "1");
    assert_eq!(visitor.post(&app, "/both").await.expect(200), "2");
    assert_eq!(visitor.get(&app, "/clerk").await.expect(200), "grace serves a stranger");
    assert_eq!(visitor.get(&app, "/fresh").await.expect(200), "grace");
    assert_eq!(visitor.get(&app, "/all").await.expect(200), "__Host-shop __Host-staff");
    visitor.get(&app, "/other").await.expect(500);
    visitor.get(&app, "/only").await.expect(500);
    assert_eq!(shop.store.calls().iter().filter(|call| **call == "save").count(), 1);
}

#[tokio::test]
async fn sessions_go_with_state_and_nested_routers() {
    #[derive(Clone)]
    struct Greeting(&'static str);

    async fn greet(
        State(Greeting(greeting)): State<Greeting>,
        session: Session,
        owner: Option<Owner>,
    ) -> Result<Html<String>, Failed> {
        let n = session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?;
        let owner = owner.map_or("you".into(), |owner| owner.to_string());
        Ok(Html(format!("{greeting}, {owner} ({n})")))
    }

    let site = Site::new();
    let inner = Router::new().route("/greet", get(greet)).with_state(Greeting("hello"));
    let app = Router::new()
        .route("/greet", get(greet))
        .nest("/deep", Router::new().nest("/er", inner))
        .fallback(greet)
        .with_state(Greeting("good day"))
        .merge(routes())
        .layer(SessionLayer::new(site.manager.clone()));
    let mut visitor = Visitor::default();
    assert_eq!(visitor.get(&app, "/greet").await.expect(200), "good day, you (1)");
    assert_eq!(visitor.get(&app, "/deep/er/greet").await.expect(200), "hello, you (2)");
    visitor.post(&app, "/login").await.expect(200);
    assert_eq!(visitor.get(&app, "/nowhere").await.expect(200), "good day, ada (3)");
    // A layer of a nested router alone.
    let part = Router::new().route("/count", post(count));
    let app = Router::new()
        .route("/peek", get(peek))
        .nest("/part", part.layer(SessionLayer::new(site.manager.clone())));
    assert_eq!(visitor.post(&app, "/part/count").await.expect(200), "4");
    visitor.get(&app, "/peek").await.expect(500);
}
