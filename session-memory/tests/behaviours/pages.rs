//! Pages for visitors without cookies, with the wrapper around a hyper service.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_lite::future::block_on;
use http::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, ETAG, HeaderName, LOCATION, SET_COOKIE,
};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::service::{Service as _, service_fn};
use session_core::provider::BoxError;
use session_core::transport::TransportKind;
use session_core::{Config, Error, Manager, SessionService, Sessions};

use crate::support::logged_by;

const PAGE: &str = "<a href=\"/next\">next</a>";

/// A site whose handler counts and returns the same page to all.
struct Site {
    manager: Manager,
    headers: HeaderMap,
    handled: Arc<AtomicUsize>,
}

struct Reply {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

impl Reply {
    fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the id in the page's link.
    fn link_id(&self) -> Option<&str> {
        let (_, rest) = self.body.split_once("/next?sid=")?;
        rest.split('"').next()
    }

    /// Returns the id in the cookie.
    fn cookie_id(&self) -> Option<&str> {
        let value = self.header(&SET_COOKIE)?.strip_prefix("__Host-id=")?;
        value.split(';').next()
    }
}

impl Site {
    fn new(transport: TransportKind) -> Self {
        session_memory::init();
        let mut config = Config::default();
        config.transport = transport;
        config.gc_every = Duration::ZERO;
        let manager = Manager::from_config(&config).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "text/html; charset=utf-8".parse().unwrap());
        headers.insert(CONTENT_LENGTH, PAGE.len().into());
        headers.insert(ETAG, "\"1\"".parse().unwrap());
        Self { manager, headers, handled: Arc::default() }
    }

    fn with(mut self, name: HeaderName, value: &str) -> Self {
        self.headers.insert(name, value.parse().unwrap());
        self
    }

    fn send(&self, request: Request<Empty<Bytes>>) -> Reply {
        let (name, headers) = (self.manager.name().to_owned(), self.headers.clone());
        let handled = Arc::clone(&self.handled);
        let service = service_fn(move |request: Request<Empty<Bytes>>| {
            let (name, headers, handled) = (name.clone(), headers.clone(), Arc::clone(&handled));
            async move {
                handled.fetch_add(1, Ordering::Relaxed);
                let sessions: &Sessions = request.extensions().get().unwrap();
                let session = sessions.get(&name).unwrap().load().await?;
                session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
                let mut response = Response::new(Full::<Bytes>::from(PAGE));
                *response.headers_mut() = headers;
                Ok::<_, BoxError>(response)
            }
        });
        block_on(async {
            let service = SessionService::new(self.manager.clone(), service);
            let (parts, body) = service.call(request).await.unwrap().into_parts();
            let body: Result<_, Infallible> = body.collect().await;
            let body = String::from_utf8(body.unwrap().to_bytes().to_vec()).unwrap();
            Reply { status: parts.status, headers: parts.headers, body }
        })
    }

    fn get(&self, target: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Empty::new()).unwrap())
    }

    fn with_cookie(&self, target: &str, id: &str) -> Reply {
        self.get(target, &[(COOKIE.as_str(), &format!("__Host-id={id}"))])
    }
}

#[test]
fn a_page_carries_the_id_and_no_length_or_tag_of_another() {
    let site = Site::new(TransportKind::Url);
    let reply = site.get("/", &[]);
    assert_eq!(reply.link_id().map(str::len), Some(43), "{}", reply.body);
    assert_eq!(reply.header(&CONTENT_LENGTH), None);
    assert_eq!(reply.header(&ETAG), None);
    assert_eq!(reply.header(&HeaderName::from_static("referrer-policy")), Some("same-origin"));
    assert_eq!(reply.header(&HeaderName::from_static("cache-control")), Some("no-store"));
}

#[test]
fn what_is_no_page_and_what_is_compressed_goes_by_as_it_is() {
    for (name, value) in [(CONTENT_TYPE, "text/plain"), (CONTENT_ENCODING, "gzip")] {
        let reply = Site::new(TransportKind::Url).with(name, value).get("/", &[]);
        assert_eq!(reply.body, PAGE, "{value}");
        assert_eq!(reply.header(&CONTENT_LENGTH), Some("24"));
    }
    let site = Site::new(TransportKind::Url);
    let head = Request::builder().method(Method::HEAD).body(Empty::new()).unwrap();
    let head = site.send(head);
    assert_eq!(head.body, PAGE);
    assert_eq!(head.header(&CONTENT_LENGTH), None, "a page's length with ids in it is not known");
    let reply = Site::new(TransportKind::Cookie).get("/", &[]);
    assert_eq!((reply.body.as_str(), reply.header(&ETAG)), (PAGE, Some("\"1\"")));
}

#[test]
fn a_page_that_gets_no_ids_is_told_of() {
    let compressed = Site::new(TransportKind::Url).with(CONTENT_ENCODING, "gzip");
    let (reply, text) = logged_by(|| compressed.get("/", &[]));
    assert_eq!(reply.body, PAGE);
    assert!(text.contains("WARN") && text.contains("compressed page"), "{text}");
}

#[test]
fn a_cookie_that_comes_back_ends_the_id_in_urls() {
    let site = Site::new(TransportKind::Auto);
    let first = site.get("/", &[]);
    let old = first.link_id().unwrap().to_owned();
    assert_eq!(first.cookie_id(), Some(old.as_str()));

    let redirect = site.with_cookie(&format!("/next?a=1&sid={old}&b=2"), &old);
    assert_eq!(redirect.status, StatusCode::SEE_OTHER);
    assert_eq!(redirect.header(&LOCATION), Some("/next?a=1&b=2"));
    assert_eq!(redirect.body, "");
    assert_eq!(site.handled.load(Ordering::Relaxed), 1, "the handler is not asked");
    let new = redirect.cookie_id().unwrap().to_owned();
    assert_ne!(new, old);

    let clean = site.with_cookie("/next?a=1&b=2", &new);
    assert_eq!((clean.status, clean.body.as_str()), (StatusCode::OK, PAGE));
    assert_eq!(clean.cookie_id(), None);
    // Neither id opens the session from a URL any more: the new one is unknown there, and a request with
    // the old one is late.
    let stranger = site.get(&format!("/?sid={new}"), &[]);
    assert!(![&old, &new].contains(&&stranger.link_id().unwrap().to_owned()));
    assert_eq!(site.get(&format!("/?sid={old}"), &[]).link_id(), None);
    assert_eq!(block_on(site.manager.count()).unwrap(), 2);
}

/// Several tabs of one session return the cookie at once: one of them changes the id.
#[test]
fn whoever_lost_the_race_for_the_clean_url_is_sent_there_too() {
    let site = Site::new(TransportKind::Auto);
    let old = site.get("/", &[]).link_id().unwrap().to_owned();
    let target = format!("/next?sid={old}");
    let winner = site.with_cookie(&target, &old);
    let loser = site.with_cookie(&target, &old);
    assert_eq!(loser.status, StatusCode::SEE_OTHER);
    assert_eq!(loser.header(&LOCATION), Some("/next"));
    assert_eq!(loser.cookie_id(), None, "the winner's cookie stays");
    let clean = site.with_cookie("/next", winner.cookie_id().unwrap());
    assert_eq!((clean.status, clean.cookie_id()), (StatusCode::OK, None));
    assert_eq!(block_on(site.manager.count()).unwrap(), 1);
}

/// The session continues under the new id, so a success would be false.
#[test]
fn a_logout_that_comes_with_the_id_left_behind_is_refused() {
    let site = Site::new(TransportKind::Auto);
    let old = site.get("/", &[]).link_id().unwrap().to_owned();
    site.with_cookie(&format!("/?sid={old}"), &old);
    let request = Request::builder().header(COOKIE, format!("__Host-id={old}")).body(()).unwrap();
    let ended = block_on(async {
        let handle = site.manager.start(&request);
        handle.load().await.unwrap().destroy().await
    });
    assert!(matches!(ended, Err(Error::Gone)), "{ended:?}");
    assert_eq!(block_on(site.manager.count()).unwrap(), 1);
}

/// Requests of the page's scripts and images may be under way when the session gets its new id.
#[test]
fn only_a_page_in_a_tab_changes_the_id() {
    let site = Site::new(TransportKind::Auto);
    let id = site.get("/", &[]).link_id().unwrap().to_owned();
    let cookie = format!("__Host-id={id}");
    let of_the_page = |target: &str| {
        site.get(
            target,
            &[("cookie", &cookie), ("sec-fetch-dest", "image"), ("sec-fetch-mode", "no-cors")],
        )
    };
    for target in ["/image".to_owned(), format!("/image?sid={id}")] {
        let reply = of_the_page(&target);
        assert_eq!((reply.status, reply.cookie_id()), (StatusCode::OK, None));
    }
    let page = site.get(
        &format!("/next?sid={id}"),
        &[("cookie", &cookie), ("sec-fetch-dest", "document"), ("sec-fetch-mode", "navigate")],
    );
    assert_eq!(page.status, StatusCode::SEE_OTHER);
    // A late request stores nothing, and leaves the new cookie alone.
    let late = of_the_page("/image");
    assert_eq!((late.status, late.cookie_id()), (StatusCode::OK, None));
    assert_eq!(block_on(site.manager.count()).unwrap(), 1);
}

#[test]
fn a_redirect_to_the_clean_url_leads_to_no_other_site() {
    let site = Site::new(TransportKind::Auto);
    let id = site.get("/", &[]).link_id().unwrap().to_owned();
    for target in ["//evil.example/?sid=", "/\\evil.example/?sid="] {
        let reply = site.with_cookie(&format!("{target}{id}"), &id);
        assert_eq!(reply.header(&LOCATION), None, "{target}");
        let policy = reply.header(&HeaderName::from_static("referrer-policy"));
        assert_eq!(policy, Some("same-origin"), "{target}");
    }
}

/// A form is posted from the first page: the session moves from the URLs to the cookie with that
/// request.
#[test]
fn a_post_with_the_cookie_is_handled_and_changes_the_id() {
    let site = Site::new(TransportKind::Auto);
    let id = site.get("/", &[]).link_id().unwrap().to_owned();
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("/?sid={id}"))
        .header(COOKIE, format!("__Host-id={id}"))
        .body(Empty::new())
        .unwrap();
    let reply = site.send(request);
    assert_eq!((reply.status, reply.body.as_str()), (StatusCode::OK, PAGE));
    assert_ne!(reply.cookie_id().unwrap(), id);
    assert_eq!(block_on(site.manager.count()).unwrap(), 1);
}
