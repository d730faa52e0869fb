//! Unsafe requests from other sites are refused before the handler runs, and change nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::header::{CACHE_CONTROL, HOST, ORIGIN, SET_COOKIE, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::service::Service;
use session_core::provider::BoxError;
use session_core::transport::TransportKind;
use session_core::{Config, Error, Failure, Managers, SessionService, Sessions};

use crate::support::*;

/// Returns a form request as a browser sends it for this site or for another one.
fn form(site: Option<&str>, origin: Option<&str>) -> Request<()> {
    let mut request = Request::builder().method(Method::POST).uri("/login").header(HOST, "here");
    for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    request.body(()).unwrap()
}

const FOREIGN: [(Option<&str>, Option<&str>); 5] = [
    (Some("cross-site"), Some("https://evil.example")),
    (Some("same-site"), None),
    (Some("cross-site"), Some("http://here")),
    (None, Some("https://evil.example")),
    (None, Some("null")),
];

const OWN: [(Option<&str>, Option<&str>); 5] = [
    (Some("same-origin"), Some("http://here")),
    (Some("none"), None),
    (Some("same-origin"), Some("null")),
    (None, Some("http://here")),
    (None, None),
];

/// Returns a handler that logs in and counts its calls.
fn login(
    calls: &Arc<AtomicUsize>,
) -> impl Service<Request<()>, Response = Response<Frames>, Error = BoxError, Future: Send + 'static>
+ use<> {
    let calls = Arc::clone(calls);
    Handler(move |request: Request<()>| {
        calls.fetch_add(1, Ordering::Relaxed);
        async move {
            let sessions = request.extensions().get::<Sessions>().unwrap();
            for handle in sessions.iter() {
                handle.load().await?.log_in("mallory")?;
            }
            Ok(Response::new(Frames::default()))
        }
    })
}

#[test]
fn another_sites_form_logs_nobody_in() {
    for transport in [TransportKind::Cookie, TransportKind::Auto, TransportKind::Url] {
        for (site, origin) in FOREIGN {
            let here = Site::configured(|config| config.transport = transport);
            let calls = Arc::default();
            let service = SessionService::new(here.manager.clone(), login(&calls));
            let response = block_on(service.call(form(site, origin))).unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN, "{site:?} {origin:?}");
            assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
            assert!(!response.headers().contains_key(SET_COOKIE));
            let text = block_on(response.into_body().collect()).unwrap().to_bytes();
            assert_eq!(text, format!("{}\n", Error::CrossSite.visitor_text()));
            assert_eq!((calls.load(Ordering::Relaxed), here.count()), (0, 0));
            assert!(here.store.calls().is_empty());
            assert_eq!(here.manager.stats().cross_site, 1);
        }
        for (site, origin) in OWN {
            let here = Site::configured(|config| config.transport = transport);
            let calls = Arc::default();
            let service = SessionService::new(here.manager.clone(), login(&calls));
            let response = block_on(service.call(form(site, origin))).unwrap();
            assert_eq!((response.status().as_u16(), here.count()), (200, 1), "{site:?} {origin:?}");
            assert_eq!(here.manager.stats().cross_site, 0);
        }
    }
}

#[test]
fn by_hand_it_is_the_same() {
    let here = Site::new();
    for (requests, status) in [(FOREIGN, 403), (OWN, 200)] {
        for (site, origin) in requests {
            let handle = here.manager.start(&form(site, origin));
            assert_eq!(matches!(handle.check_site(), Err(Error::CrossSite)), status == 403);
            let page = async {
                assert_eq!(status, 200, "the handler of another site's form runs");
                Ok::<_, Error>(Response::new(String::new()))
            };
            let response = block_on(handle.respond(page, Failure::response));
            assert_eq!(response.status().as_u16(), status);
        }
    }
}

#[test]
fn another_site_opens_no_websocket_and_links_from_it_work() {
    let here = Site::new();
    for (site, origin) in FOREIGN {
        let mut request = form(site, origin);
        *request.method_mut() = Method::GET;
        assert!(here.manager.start(&request).check_site().is_ok(), "a link");
        request.headers_mut().insert(UPGRADE, "websocket".parse().unwrap());
        assert!(here.manager.start(&request).check_site().is_err(), "{site:?} {origin:?}");
    }
}

#[test]
fn ids_in_headers_need_no_check() {
    let here = Site::configured(|config| config.transport = TransportKind::Header);
    for (site, origin) in FOREIGN {
        assert!(here.manager.start(&form(site, origin)).check_site().is_ok());
    }
    // If another manager of the service takes cookies, requests are checked.
    let cookie = Site::new();
    for order in [[&here, &cookie], [&cookie, &here]] {
        let calls = Arc::default();
        let managers = Managers::new(order.map(|site| site.manager.clone())).unwrap();
        let service = SessionService::new(managers, login(&calls));
        for (site, origin) in FOREIGN {
            let response = block_on(service.call(form(site, origin))).unwrap();
            assert_eq!(response.status(), StatusCode::FORBIDDEN);
        }
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_the_configuration_trusts_passes() {
    let trusts = |config: &mut Config| {
        let paths = vec!["/login".to_owned()];
        config.cross_site.trusted.insert("https://idp.example".into(), paths);
    };
    let refuses_nothing = |config: &mut Config| config.cross_site.refuse = false;
    let (trusting, careless) = (Site::configured(trusts), Site::configured(refuses_nothing));
    for (here, path, status) in
        [(&trusting, "/login", 200), (&trusting, "/logout", 403), (&careless, "/logout", 200)]
    {
        for site in [None, Some("cross-site")] {
            let mut request = form(site, Some("https://idp.example"));
            *request.uri_mut() = path.parse().unwrap();
            let is_refused = here.manager.start(&request).check_site().is_err();
            assert_eq!(is_refused, status == 403, "{path}");
        }
    }
}

/// Behind a proxy that changes the host, every form of a browser without `Sec-Fetch-Site` looks foreign.
#[test]
fn forms_that_fail_by_their_origin_alone_are_reported_once_with_the_way_out() {
    let here = Site::new();
    for _ in 0..3 {
        here.manager.start(&form(Some("cross-site"), None)).check_site().unwrap_err();
    }
    assert!(!here.log.text().contains("url.origin"));
    for _ in 0..3 {
        here.manager.start(&form(None, Some("https://shop.example"))).check_site().unwrap_err();
    }
    assert_eq!(here.log.text().matches("url.origin").count(), 1);
    let known = here.reconfigured(|config| config.url.origin = Some("https://shop.example".into()));
    let mut request = form(None, None);
    request.headers_mut().insert(ORIGIN, "https://shop.example".parse().unwrap());
    known.manager.start(&request).check_site().unwrap();
}
