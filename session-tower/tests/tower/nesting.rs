//! Layers within routers, and pages that lead to a login.

use axum::extract::{Request as AxumRequest, WebSocketUpgrade};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::header::LOCATION;
use session_core::transport::TransportKind;
use session_tower::SessionLayer;
use session_tower::axum::{Failed, LoginPage, Owner, Session};

use crate::support::{Site, Visitor, reply};

async fn count(session: Session) -> Result<String, Failed> {
    Ok(session.update("n", |n: Option<u32>| n.unwrap_or(0) + 1).await?.to_string())
}

/// The layer of a nested router: the configured paths are those of browsers.
#[tokio::test]
async fn a_nested_layer_trusts_the_paths_that_browsers_send_to() {
    let site = Site::configured(|config| {
        config.cross_site.trusted =
            [("https://app.example".into(), vec!["/api/count".into()])].into();
    });
    let api =
        Router::new().route("/count", post(count)).layer(SessionLayer::new(site.manager.clone()));
    let app = Router::new().nest("/api", api);
    let mut request = Visitor::default().request("POST", "/api/count");
    request.headers_mut().insert("origin", "https://app.example".parse().unwrap());
    request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    reply(&app, request).await.expect(200);
}

#[tokio::test]
async fn a_nested_layer_does_not_trust_a_path_of_another_meaning() {
    let site = Site::configured(|config| {
        config.cross_site.trusted = [("null".into(), vec!["/signed-in".into()])].into();
    });
    let part = Router::new()
        .route("/signed-in", post(count))
        .layer(SessionLayer::new(site.manager.clone()));
    let app = Router::new().nest("/admin", part);
    let mut request = Visitor::default().request("POST", "/admin/signed-in");
    request.headers_mut().insert("origin", "null".parse().unwrap());
    request.headers_mut().insert("sec-fetch-site", "cross-site".parse().unwrap());
    reply(&app, request).await.expect(403);
}

#[tokio::test]
async fn a_nested_layer_cleans_the_url_that_the_browser_asked_for() {
    let site = Site::configured(|config| config.transport = TransportKind::Auto);
    let part =
        Router::new().route("/count", get(count)).layer(SessionLayer::new(site.manager.clone()));
    let app = Router::new().nest("/shop", part);
    let mut visitor = Visitor::default();
    let first = visitor.get(&app, "/shop/count").await;
    first.expect(200);
    let id = visitor.cookie().split_once('=').unwrap().1.to_owned();
    let sent = visitor.get(&app, &format!("/shop/count?sid={id}&q=1")).await;
    assert_eq!(sent.location(), "/shop/count?q=1");
}

#[tokio::test]
async fn a_nested_layer_shows_the_error_page_the_whole_path() {
    let site = Site::new();
    let layer = SessionLayer::new(site.manager.clone()).with_error_page(|failure, request| {
        let text = request.uri.path().to_owned();
        http::Response::builder().status(failure.status()).body(text.into()).unwrap()
    });
    let app = Router::new()
        .nest("/api", Router::new().route("/me", get(async |_: Owner| ())).layer(layer));
    assert_eq!(
        reply(&app, Visitor::default().request("GET", "/api/me")).await.expect(401),
        "/api/me"
    );
}

/// Chromium's handshakes have no Sec-Fetch-Mode.
#[tokio::test]
async fn a_strangers_websocket_is_401_beside_a_login_page() {
    let site = Site::new();
    let app = Router::new()
        .route("/socket", get(async |_: Owner, up: WebSocketUpgrade| up.on_upgrade(async |_| ())))
        .layer(Extension(LoginPage::new("/login").unwrap()))
        .layer(SessionLayer::new(site.manager.clone()));
    let mut request = Visitor::default().request("GET", "/socket");
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("host", "here"),
        ("origin", "http://here"),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    reply(&app, request).await.expect(401);
}

/// A guard around everything.
#[tokio::test]
async fn a_guarded_login_page_does_not_lead_to_itself() {
    let site = Site::new();
    let app = Router::new()
        .route("/login", get(async || "form"))
        .layer(middleware::from_extractor::<Owner>())
        .layer(Extension(LoginPage::new("/login").unwrap()))
        .layer(SessionLayer::new(site.manager.clone()));
    let reply = reply(&app, Visitor::default().request("GET", "/login")).await;
    assert_eq!(reply.header(LOCATION), None);
}

/// Remember-me by a middleware, as an example.
#[tokio::test]
async fn a_session_that_a_middleware_began_is_there_for_the_handler() {
    async fn greet(session: Session, request: AxumRequest, next: Next) -> Result<Response, Failed> {
        session.set("greeting", "hello")?;
        session.log_in("ada")?;
        Ok(next.run(request).await)
    }
    async fn page(session: Option<Session>, owner: Option<Owner>) -> Result<String, Failed> {
        let greeting: Option<String> = session.map(|s| s.get("greeting")).transpose()?.flatten();
        Ok(format!("{greeting:?} {}", owner.is_some()))
    }
    let site = Site::new();
    let app = Router::new()
        .route("/", get(page))
        .layer(middleware::from_fn(greet))
        .layer(SessionLayer::new(site.manager.clone()));
    let reply = reply(&app, Visitor::default().request("GET", "/")).await;
    assert_eq!(reply.expect(200), "Some(\"hello\") true");
}
