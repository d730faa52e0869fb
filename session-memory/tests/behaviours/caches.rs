//! Cache headers.
//!
//! A response to a request that looked up its session is private, unless the handler sets other headers.
//! A response that sets a cookie, or that tells of a race or a refusal, must not be stored. A response
//! to a request that never used its session has no cache headers.

use http::header::{CACHE_CONTROL, HeaderName, VARY};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use session_core::SessionHandle;
use session_core::transport::TransportKind;

use crate::support::*;

fn all(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let values = headers.get_all(name).iter();
    values.map(|value| value.to_str().unwrap().to_owned()).collect()
}

/// Returns Cache-Control and Vary of a response to a request, where the handler set this Cache-Control.
async fn told(
    handle: &SessionHandle<'_>,
    status: u16,
    said: Option<&str>,
) -> (Vec<String>, Vec<String>) {
    let mut response = Response::builder().status(status).header(VARY, "Accept");
    if let Some(said) = said {
        response = response.header(CACHE_CONTROL, said);
    }
    let mut response = response.body(()).unwrap();
    handle.finish(&mut response).await.unwrap();
    (all(response.headers(), &CACHE_CONTROL), all(response.headers(), &VARY))
}

const SAID: [(Option<&str>, &str); 6] = [
    (None, "private, no-cache"),
    (Some("max-age=60"), "max-age=60, private"),
    (Some("public, max-age=60"), "public, max-age=60"),
    (Some("s-maxage=60"), "s-maxage=60"),
    (Some("private, max-age=60"), "private, max-age=60"),
    (Some("no-store"), "no-store"),
];

#[test]
fn a_response_whose_session_was_looked_up_is_private_unless_the_handler_says_otherwise() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    for visitor in [&visitor, &site.visitor(), &Visitor::with_cookie(&site, UNKNOWN)] {
        for (said, wanted) in SAID {
            block_on(async {
                let handle = site.manager.start(&visitor.request());
                handle.load().await.unwrap().get::<u64>("n").unwrap();
                let (control, vary) = told(&handle, 200, said).await;
                assert_eq!(
                    (control, vary.join(", ")),
                    (vec![wanted.to_owned()], "Accept, Cookie".into())
                );
            });
        }
    }
}

#[test]
fn a_response_that_never_asked_says_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    for status in [200, 403, 409, 500] {
        for (said, _) in SAID {
            block_on(async {
                let handle = site.manager.start(&visitor.request());
                let (control, vary) = told(&handle, status, said).await;
                assert!(control.iter().map(String::as_str).eq(said));
                assert_eq!(vary, ["Accept"]);
            });
        }
    }
}

#[test]
fn a_response_of_one_moment_is_kept_by_nobody_whatever_the_handler_says() {
    for case in ["sets a cookie", "clears a cookie", "mute", "403", "409"] {
        for (said, _) in SAID {
            let site = Site::new();
            let visitor = site.visitor();
            visitor.set("n", 1);
            let old = visitor.tab();
            if case == "mute" {
                visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
            }
            let mut request = old.request();
            *request.method_mut() = Method::GET;
            block_on(async {
                let handle = site.manager.start(&request);
                let session = handle.load().await.unwrap();
                match case {
                    "sets a cookie" => session.regenerate().unwrap(),
                    "clears a cookie" => session.destroy().await.unwrap(),
                    _ => {}
                }
                let status = case.parse().unwrap_or(200);
                let (control, vary) = told(&handle, status, said).await;
                assert_eq!(control, ["no-store"], "{case}, {said:?}");
                assert_eq!(vary, ["Accept", "Cookie"]);
            });
        }
    }
}

/// The load failed and the handler made a page without the session, which must not be shown to the next
/// visitor.
#[test]
fn a_page_without_the_session_that_the_store_did_not_give_is_private() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.sabotage("load", Fault::Down);
    block_on(async {
        let handle = site.manager.start(&visitor.request());
        handle.load().await.unwrap_err();
        let (control, vary) = told(&handle, 200, None).await;
        assert_eq!((&*control[0], vary.len()), ("private, no-cache", 2));
    });
}

#[test]
fn a_refused_response_is_kept_by_nobody() {
    let site = Site::new();
    let handle = site.manager.start(&Request::new(()));
    let mut response = Response::builder()
        .status(StatusCode::NOT_FOUND)
        .header(CACHE_CONTROL, "public, max-age=60")
        .header("cdn-cache-control", "max-age=60")
        .body(())
        .unwrap();
    block_on(handle.refuse(&mut response));
    assert_eq!(all(response.headers(), &CACHE_CONTROL), ["no-store"]);
    assert_eq!(response.headers().len(), 1);
}

#[test]
fn each_transport_varies_by_what_it_reads() {
    for (transport, wanted) in [
        (TransportKind::Cookie, "Accept, Cookie"),
        (TransportKind::Auto, "Accept, Cookie"),
        (TransportKind::Header, "Accept, x-session-id"),
        (TransportKind::Url, "Accept"),
    ] {
        let site = Site::configured(|config| config.transport = transport);
        block_on(async {
            let handle = site.manager.start(&Request::new(()));
            handle.load().await.unwrap();
            let (control, vary) = told(&handle, 200, None).await;
            assert_eq!((&*control[0], vary.join(", ")), ("private, no-cache", wanted.into()));
        });
    }
}

/// The page's URL has an id.
#[test]
fn a_stricter_referrer_policy_of_the_handlers_own_stays() {
    let site = Site::configured(|config| {
        config.transport = session_core::transport::TransportKind::Url;
        config.url.base = "/shop".into();
    });
    let mut request = Request::new(());
    *request.uri_mut() = format!("/shop/?sid={UNKNOWN}").parse().unwrap();
    let handle = site.manager.start(&request);
    let mut response =
        Response::builder().header("referrer-policy", "no-referrer").body(()).unwrap();
    block_on(handle.finish(&mut response)).unwrap();
    // With `same-origin`, `/blog` on the same host would get the id.
    assert_eq!(response.headers()["referrer-policy"], "no-referrer");
}

/// Vercel, Netlify and Akamai prefer their own headers to `Cache-Control`.
#[test]
fn no_cdn_is_told_to_keep_a_cookie() {
    for name in ["vercel-cdn-cache-control", "netlify-cdn-cache-control", "edge-control"] {
        let site = Site::new();
        let handle = site.manager.start(&Request::new(()));
        let mut response = Response::builder().header(name, "max-age=60").body(()).unwrap();
        block_on(async {
            handle.load().await.unwrap().set("n", &1u64).unwrap();
            handle.finish(&mut response).await.unwrap();
        });
        assert!(!response.headers().contains_key(name), "{name} lets a CDN keep a Set-Cookie");
    }
}
