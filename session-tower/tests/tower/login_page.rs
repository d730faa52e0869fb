//! Strangers are sent to the login page, and from there back to where they wanted to go, and nowhere else.

use std::time::Duration;

use axum::routing::{get, post};
use axum::{Extension, Router};
use http::Request;
use http::header::{CACHE_CONTROL, VARY};
use session_core::transport::TransportKind;
use session_tower::SessionLayer;
use session_tower::axum::{Failed, FreshOwner, LoginPage, Owner, ReturnTo, Session};

use crate::support::{Reply, Site, Visitor};

async fn page(owner: Owner) -> String {
    format!("a page of {owner}")
}

async fn log_in(session: Session, back: ReturnTo) -> Result<ReturnTo, Failed> {
    session.log_in("ada")?;
    Ok(back)
}

async fn fresh(FreshOwner(owner): FreshOwner<60>) -> String {
    format!("a fresh page of {owner}")
}

fn app(site: &Site) -> Router {
    let pages = Router::new().route("/page", get(page).post(page)).route("/{*rest}", get(page));
    Router::new()
        .route("/", get(page))
        .route("/fresh", get(fresh))
        .nest("/nested", pages)
        .route("/login", post(log_in))
        .layer(Extension(LoginPage::new("/login").unwrap()))
        .layer(SessionLayer::new(site.manager.clone()))
}

#[tokio::test]
async fn a_stranger_logs_in_and_is_where_he_wanted_to_go() {
    let site = Site::new();
    let app = app(&site);
    for (target, login) in [
        ("/nested/page?q=a%20b&page=2", "/login?next=%2Fnested%2Fpage%3Fq%3Da%2520b%26page%3D2"),
        ("/nested/a//b", "/login?next=%2Fnested%2Fa%2F%2Fb"),
        ("/", "/login?next=%2F"),
    ] {
        let mut visitor = Visitor::default();
        let sent = visitor.get(&app, target).await;
        assert_eq!(sent.location(), login);
        // It is not for the next visitor, who may be logged in.
        assert_eq!(sent.header(VARY), Some("Cookie"));
        assert_eq!(sent.header(CACHE_CONTROL), Some("private, no-cache"));
        assert!(!visitor.has_cookie());
        let back = visitor.post(&app, login).await;
        assert_eq!(back.location(), target);
        assert_eq!(visitor.get(&app, target).await.expect(200), "a page of ada");
    }
}

#[tokio::test]
async fn a_login_that_is_too_old_is_asked_for_anew() {
    let site = Site::new();
    let (app, mut visitor) = (app(&site), Visitor::default());
    visitor.post(&app, "/login").await.location();
    site.clock.advance(Duration::from_secs(61));
    assert_eq!(visitor.get(&app, "/").await.expect(200), "a page of ada");
    assert_eq!(visitor.get(&app, "/fresh").await.location(), "/login?next=%2Ffresh");
    assert_eq!(visitor.post(&app, "/login?next=%2Ffresh").await.location(), "/fresh");
    assert_eq!(visitor.get(&app, "/fresh").await.expect(200), "a fresh page of ada");
}

#[tokio::test]
async fn only_a_browser_that_asks_for_a_page_is_sent_there() {
    let site = Site::new();
    let app = app(&site);
    let send = |method: &str, mode: Option<&str>| {
        let mut request = Visitor::default().request(method, "/nested/page");
        if let Some(mode) = mode {
            request.headers_mut().insert("sec-fetch-mode", mode.parse().unwrap());
        }
        crate::support::reply(&app, request)
    };
    send("GET", None).await.location();
    send("HEAD", None).await.location();
    send("GET", Some("navigate")).await.location();
    for (method, mode) in [
        ("GET", Some("cors")),
        ("GET", Some("same-origin")),
        ("GET", Some("no-cors")),
        ("POST", None),
        ("POST", Some("navigate")),
    ] {
        send(method, mode).await.expect(401);
    }
}

/// The login form's own links may be anybody's.
#[tokio::test]
async fn no_link_to_the_login_page_leads_elsewhere_afterwards() {
    let site = Site::new();
    let app = app(&site);
    for next in [
        "//evil.example",
        "%2F%2Fevil.example",
        "/%2Fevil.example",
        "%2F%5Cevil.example",
        "/%5cevil.example",
        "%5C%5Cevil.example",
        "/%09/evil.example",
        "/%0A/evil.example",
        "/%0D%0ALocation:%20//evil.example",
        "%09//evil.example",
        "%20//evil.example",
        "/%00/evil.example",
        "https://evil.example",
        "https:evil.example",
        "https%3A%2F%2Fevil.example%2F",
        "javascript:alert(1)",
        "evil.example",
        "@evil.example",
        "/%E2%80%A8/evil.example",
        "%EF%BC%8F%EF%BC%8Fevil.example",
        "%FF",
        "",
        "/a&next=//evil.example",
        "//evil.example&next=/a",
    ] {
        let back = Visitor::default().post(&app, &format!("/login?next={next}")).await;
        assert_eq!(back.location(), "/", "{next}");
    }
    let back = Visitor::default().post(&app, "/login").await;
    assert_eq!(back.location(), "/");
    // What a request's own target says is no way to another site either.
    let target = Request::builder().uri("http://evil.example/nested/page");
    let request = target.body(axum::body::Body::empty()).unwrap();
    let sent: Reply = Visitor::default().send(&app, request).await;
    assert_eq!(sent.location(), "/login?next=%2Fnested%2Fpage");
    let long = format!("/nested/{}", "a".repeat(3_000));
    assert_eq!(Visitor::default().get(&app, &long).await.location(), "/login");
    let doubled = Router::new()
        .fallback(page)
        .layer(Extension(LoginPage::new("/login?lang=en").unwrap()))
        .layer(SessionLayer::new(site.manager.clone()));
    assert_eq!(
        Visitor::default().get(&doubled, "//evil.example/").await.location(),
        "/login?lang=en"
    );
    let sent = Visitor::default().get(&doubled, "/page").await;
    assert_eq!(sent.location(), "/login?lang=en&next=%2Fpage");
}

/// The id in the URL ends with the login, so it is not remembered; the redirects carry the one of now.
#[tokio::test]
async fn ids_in_urls_are_not_remembered() {
    let site = Site::configured(|config| config.transport = TransportKind::Url);
    let app = app(&site).merge(
        Router::new().route("/begin", get(begin)).layer(SessionLayer::new(site.manager.clone())),
    );

    async fn begin(session: Session) -> Result<ReturnTo, Failed> {
        session.set("n", &1)?;
        Ok(ReturnTo::parse("/nested/page?q=1").expect("is a path"))
    }

    let mut visitor = Visitor::default();
    let target = visitor.get(&app, "/begin").await.location().to_owned();
    assert!(target.starts_with("/nested/page?q=1&sid="), "{target}");
    let login = visitor.get(&app, &target).await.location().to_owned();
    let id = &target["/nested/page?q=1&sid=".len()..];
    assert_eq!(login, format!("/login?next=%2Fnested%2Fpage%3Fq%3D1&sid={id}"));
    let back = visitor.post(&app, &login).await.location().to_owned();
    assert!(back.starts_with("/nested/page?q=1&sid="), "{back}");
    assert_ne!(back, target, "a login has another id");
    assert_eq!(visitor.get(&app, &back).await.expect(200), "a page of ada");
}
