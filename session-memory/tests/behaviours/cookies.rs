//! The session cookie.
//!
//! The cookie is set and removed with all configured attributes, beside the handler's cookies. Only its
//! exact name counts. Of two different ids, the live one is used. An id that the store doesn't know is
//! never adopted. The session decides whether the cookie outlives the browser, for 400 days at most.

use http::Request;
use http::Response;
use http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE, VARY};
use session_core::transport::SameSite;

use crate::support::*;

#[test]
fn configured_attributes_are_announced_and_repeated_on_removal() {
    let site = Site::configured(|config| {
        config.cookie.name = "shop".into();
        config.cookie.path = "/shop".into();
        config.cookie.domain = Some("example.com".into());
        config.cookie.same_site = SameSite::None;
        config.cookie.partitioned = true;
        config.cookie.persistent = true;
    });
    let visitor = site.visitor();
    let set = visitor.set("n", 1);
    let attributes =
        "Path=/shop; Domain=example.com; Secure; HttpOnly; SameSite=None; Partitioned; Max-Age=";
    assert_eq!(set.attributes(), format!("{attributes}{}", 12 * 3600));
    let ((), removed) =
        visitor.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
    assert_eq!(
        removed.set_cookie().unwrap(),
        format!("shop=; {attributes}0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
    );
    assert_eq!(visitor.cookie(), None);
}

#[test]
fn plain_http_attributes_are_removed_as_plainly() {
    let site = Site::configured(|config| {
        config.cookie.name = "id".into();
        config.cookie.secure = false;
        config.cookie.http_only = false;
        config.cookie.same_site = SameSite::Strict;
    });
    let visitor = site.visitor();
    assert_eq!(visitor.set("n", 1).attributes(), "Path=/; SameSite=Strict");
    let ((), removed) =
        visitor.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
    assert_eq!(
        removed.set_cookie().unwrap(),
        "id=; Path=/; SameSite=Strict; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT"
    );
}

#[test]
fn the_handlers_own_cookies_stay_and_one_of_the_sessions_name_is_replaced() {
    let site = Site::new();
    let request = Request::new(());
    let mut response = Response::builder()
        .header(SET_COOKIE, "theme=dark")
        .header(SET_COOKIE, "__Host-id=forged; Path=/")
        .header(SET_COOKIE, "__Host-id2=other")
        .header(CACHE_CONTROL, "public, max-age=600")
        .header(VARY, "Accept-Encoding")
        .body(())
        .unwrap();
    block_on(async {
        let handle = site.manager.start(&request);
        handle.load().await.unwrap().set("n", &1).unwrap();
        handle.finish(&mut response).await.unwrap();
    });
    let cookies: Vec<&[u8]> =
        response.headers().get_all(SET_COOKIE).iter().map(HeaderValue::as_bytes).collect();
    assert_eq!(cookies[..2], [&b"theme=dark"[..], b"__Host-id2=other"]);
    assert_eq!(cookies.len(), 3);
    assert!(cookies[2].starts_with(b"__Host-id=") && !cookies[2].starts_with(b"__Host-id=forged"));
    assert_eq!(response.headers().get_all(CACHE_CONTROL).iter().collect::<Vec<_>>(), ["no-store"]);
    let vary: Vec<_> = response.headers().get_all(VARY).iter().collect();
    assert_eq!(vary, ["Accept-Encoding", "Cookie"]);
}

#[test]
fn an_id_that_the_store_does_not_know_is_never_adopted() {
    let site = Site::new();
    let visitor = Visitor::with_cookie(&site, UNKNOWN);
    assert_eq!(visitor.get("n"), None);
    assert_eq!(visitor.cookie().as_deref(), Some(UNKNOWN), "nothing is said about it");
    site.store.calls();
    assert!(visitor.set("n", 1).set_cookie().is_some());
    assert_eq!(site.store.calls(), ["load", "create"]);
    assert_ne!(visitor.cookie().as_deref(), Some(UNKNOWN));
    assert!(!site.has(UNKNOWN));
    assert_eq!(visitor.get("n"), Some(1));
}

/// Returns the value that a request with these `Cookie` headers reads.
fn read_with(site: &Site, cookies: &[Vec<u8>]) -> Option<u64> {
    let mut request = Request::new(());
    for cookie in cookies {
        request.headers_mut().append(COOKIE, HeaderValue::from_bytes(cookie).unwrap());
    }
    block_on(async {
        let handle = site.manager.start(&request);
        handle.load().await.unwrap().get("n").unwrap()
    })
}

#[test]
fn of_two_different_ids_the_live_one_counts_and_of_two_live_ones_none() {
    let site = Site::new();
    let (one, two) = (site.visitor(), site.visitor());
    one.set("n", 1);
    two.set("n", 2);
    let (a, b) = (one.cookie().unwrap(), two.cookie().unwrap());
    let read = |cookies: &[String]| {
        read_with(
            &site,
            &cookies.iter().map(|cookie| cookie.clone().into_bytes()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(read(&[format!("__Host-id={a}")]), Some(1));
    assert_eq!(read(&[format!("__Host-id={a}; __Host-id={a}")]), Some(1));
    assert_eq!(read(&[format!("__Host-id={a}"), format!("x=y; __Host-id={a}")]), Some(1));
    site.store.calls();
    for stale in [UNKNOWN, "", "nonsense"] {
        assert_eq!(read(&[format!("__Host-id={a}; __Host-id={stale}")]), Some(1));
        assert_eq!(read(&[format!("__Host-id={stale}; __Host-id={a}")]), Some(1));
    }
    assert_eq!(site.store.calls(), [["load"; 4].as_slice(), &["load"; 4]].concat());
    assert_eq!(read(&[format!("__Host-id={a}; __Host-id={b}")]), None);
    assert_eq!(read(&[format!("__Host-id={a}"), format!("__Host-id={b}")]), None);
}

#[test]
fn other_cookies_may_hold_anything_and_only_the_exact_name_counts() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let id = visitor.cookie().unwrap();
    let cookie = |before: &[u8], name: &str, after: &[u8]| {
        [before, name.as_bytes(), b"=", id.as_bytes(), after].concat()
    };
    for found in [
        cookie(b"a=\xff\xfe\x80; =; ;;; no equals; ", "__Host-id", b"; z=\xc3"),
        cookie(b"x=\"a; ", "__Host-id", b"; b\""),
        cookie(b"__host-id=other; ", "__Host-id", b""),
        cookie(b"a=b;", "__Host-id", b""),
    ] {
        assert_eq!(read_with(&site, &[found]), Some(1));
    }
    for name in ["__host-id", "__HOST-ID", "x__Host-id", "__Host-idx", "__Host-i", "Host-id"] {
        assert_eq!(read_with(&site, &[cookie(b"", name, b"")]), None, "{name}");
    }
}

#[test]
fn a_session_is_kept_beyond_the_browsers_end_or_not_as_it_says() {
    let site = Site::new();
    let visitor = site.visitor();
    let plain = "Path=/; Secure; HttpOnly; SameSite=Lax";
    let lasting = |left: u64| format!("{plain}; Max-Age={left}");
    let switch = |to: bool| {
        let (was, reply) = visitor.visit(async |handle| {
            let session = handle.load().await.unwrap();
            let was = session.is_persistent();
            session.set_persistent(to).unwrap();
            was
        });
        (was, reply)
    };
    assert_eq!(visitor.set("n", 1).attributes(), plain);
    let (was, reply) = switch(true);
    assert!(!was);
    assert_eq!(reply.attributes(), lasting(12 * 3600));
    let (was, reply) = switch(true);
    assert!(was && reply.is_plain(), "no news");
    site.clock.advance(secs(600));
    let ((), reply) = visitor.visit(async |handle| {
        handle.load().await.unwrap().regenerate().unwrap();
    });
    assert_eq!(reply.attributes(), lasting(12 * 3600 - 600), "it survives a new id");
    let (was, reply) = switch(false);
    assert!(was);
    assert_eq!(reply.attributes(), plain);
    assert_eq!(switch(true).1.attributes(), lasting(12 * 3600 - 600));
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn a_new_session_may_be_persistent_from_the_start() {
    let site = Site::new();
    let visitor = site.visitor();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set_persistent(true).unwrap();
        session.set("n", &1).unwrap();
    });
    assert!(reply.attributes().ends_with("; Max-Age=43200"));
}

#[test]
fn a_max_age_beyond_four_hundred_days_is_capped_and_the_largest_does_no_harm() {
    const CAP: u64 = 400 * 86_400;
    for (configured, wanted) in
        [(1, 1), (CAP, CAP), (CAP + 1, CAP), (u64::MAX, CAP), (u64::MAX / 1000, CAP)]
    {
        let site = Site::configured(|config| {
            config.cookie.persistent = true;
            config.cookie.max_age = Some(secs(configured));
        });
        let reply = site.visitor().set("n", 1);
        assert!(reply.attributes().ends_with(&format!("; Max-Age={wanted}")), "{reply:?}");
    }
    let site = Site::configured(|config| {
        config.cookie.persistent = true;
        config.idle = Duration::MAX;
        config.absolute = Duration::MAX;
        config.touch_every = Some(Duration::MAX);
    });
    let visitor = site.visitor();
    assert!(visitor.set("n", 1).attributes().ends_with(&format!("; Max-Age={CAP}")));
    assert_eq!(visitor.get("n"), Some(1));
}
