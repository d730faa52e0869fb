//! Ids in URLs and headers.
//!
//! An id from a URL is accepted only for a session that was created with its id in URLs. With the
//! transport `cookie`, ids in URLs are neither read nor written. Links and redirects of the application
//! get the id. Pages that have ids in their URLs stay out of caches and referrers.

use http::header::{CACHE_CONTROL, COOKIE, ETAG, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{Request, Response};
use session_core::SessionHandle;
use session_core::transport::TokenSource;
use session_core::transport::TransportKind;

use crate::support::*;

fn site(kind: TransportKind) -> Site {
    Site::configured(|config| config.transport = kind)
}

fn get(target: &str) -> Request<()> {
    Request::builder().uri(target).body(()).unwrap()
}

fn run<R>(
    site: &Site,
    request: &Request<()>,
    handler: impl AsyncFnOnce(&SessionHandle<'_>) -> R,
) -> (R, Response<()>) {
    let mut response = Response::builder()
        .header(LOCATION, "/next?x=1#part")
        .header(CACHE_CONTROL, "public, max-age=60")
        .header(REFERRER_POLICY, "unsafe-url")
        .header(ETAG, "\"1\"")
        .body(())
        .unwrap();
    block_on(async {
        let handle = site.manager.start(request);
        let answer = handler(&handle).await;
        handle.finish(&mut response).await.unwrap();
        (answer, response)
    })
}

/// Stores one value and returns the id.
fn begin(site: &Site, request: &Request<()>) -> (String, Response<()>) {
    run(site, request, async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1u64).unwrap();
        session.id().unwrap().text().to_string()
    })
}

fn read(site: &Site, request: &Request<()>) -> Option<u64> {
    run(site, request, async |handle| handle.load().await.unwrap().get("n").unwrap()).0
}

fn all<'r>(response: &'r Response<()>, name: &str) -> Vec<&'r str> {
    response.headers().get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn in_url_mode_links_and_redirects_carry_the_id_and_no_cookie_is_set() {
    let site = site(TransportKind::Url);
    let (id, response) = begin(&site, &get("/"));
    assert_eq!(all(&response, "location"), [format!("/next?x=1&sid={id}#part")]);
    assert!(response.headers()[LOCATION].is_sensitive());
    assert!(!response.headers().contains_key(SET_COOKIE));
    assert_eq!(read(&site, &get(&format!("/?sid={id}"))), Some(1));
    assert_eq!(read(&site, &get("/")), None);
    let cookie = Request::builder().header(COOKIE, format!("__Host-id={id}; sid={id}"));
    assert_eq!(read(&site, &cookie.body(()).unwrap()), None);
}

#[test]
fn a_redirect_to_elsewhere_carries_no_id() {
    let site = site(TransportKind::Url);
    let (id, _) = begin(&site, &get("/"));
    for elsewhere in
        ["https://elsewhere.example/a?b#c", "//elsewhere.example/", "/\\elsewhere.example"]
    {
        let handle = site.manager.start(&get(&format!("/?sid={id}")));
        let mut response = Response::builder().header(LOCATION, elsewhere).body(()).unwrap();
        block_on(async {
            handle.load().await.unwrap().set("at", elsewhere).unwrap();
            handle.finish(&mut response).await.unwrap();
        });
        assert_eq!(all(&response, "location"), [elsewhere]);
    }
}

#[test]
fn in_url_mode_responses_with_ids_stay_out_of_caches_and_referrers() {
    let site = site(TransportKind::Url);
    let (id, first) = begin(&site, &get("/"));
    let ((), unused) = run(&site, &get(&format!("/?sid={id}")), async |_| ());
    let ((), nobody) = run(&site, &get("/"), async |_| ());
    assert_eq!(all(&nobody, "cache-control"), ["public, max-age=60"], "there is no id in it");
    for response in [first, unused] {
        assert_eq!(all(&response, "cache-control"), ["no-store"]);
        assert_eq!(all(&response, "referrer-policy"), ["same-origin"]);
        assert!(!response.headers().contains_key(ETAG));
    }
}

#[test]
fn links_of_a_request_that_does_not_use_its_session_keep_the_id() {
    let site = site(TransportKind::Url);
    let (id, _) = begin(&site, &get("/"));
    site.store.calls();
    let (link, response) =
        run(&site, &get(&format!("/?sid={id}")), async |handle| handle.encode_url("/a"));
    assert_eq!(link, format!("/a?sid={id}"));
    assert_eq!(all(&response, "location"), [format!("/next?x=1&sid={id}#part")]);
    assert_eq!(site.store.calls(), [""; 0]);
}

#[test]
fn links_of_a_new_session_carry_its_id_once_it_has_a_value() {
    let site = site(TransportKind::Url);
    let ((before, after), response) = run(&site, &get("/"), async |handle| {
        let session = handle.load().await.unwrap();
        let before = handle.encode_url("/a");
        session.set("n", &1u64).unwrap();
        (before, handle.encode_url("/a"))
    });
    assert_eq!(before, "/a");
    let id = after.strip_prefix("/a?sid=").expect("the link has the id");
    assert_eq!(read(&site, &get(&format!("/?sid={id}"))), Some(1));
    assert_eq!(all(&response, "location"), [format!("/next?x=1&sid={id}#part")]);
    // A visitor without a session gets plain links.
    let ((), plain) = run(&site, &get("/"), async |_| ());
    assert_eq!(all(&plain, "location"), ["/next?x=1#part"]);
}

#[test]
fn links_follow_a_new_id_and_lose_a_destroyed_one() {
    let site = site(TransportKind::Url);
    let (id, _) = begin(&site, &get("/"));
    let (link, response) = run(&site, &get(&format!("/?sid={id}")), async |handle| {
        handle.load().await.unwrap().regenerate().unwrap();
        handle.encode_url(&format!("/a?sid={id}&b=1"))
    });
    let new = link.strip_prefix("/a?b=1&sid=").expect("replaced, not doubled");
    assert_ne!(new, id);
    assert_eq!(all(&response, "location"), [format!("/next?x=1&sid={new}#part")]);
    let (link, response) = run(&site, &get(&format!("/?sid={new}")), async |handle| {
        handle.load().await.unwrap().destroy().await.unwrap();
        handle.encode_url("/a")
    });
    assert_eq!(link, "/a");
    assert_eq!(all(&response, "location"), ["/next?x=1#part"]);
    assert!(!response.headers().contains_key(SET_COOKIE));
}

#[test]
fn in_cookie_mode_ids_in_urls_are_ignored_and_links_are_plain() {
    let site = site(TransportKind::Cookie);
    let (id, response) = begin(&site, &get("/"));
    assert_eq!(all(&response, "location"), ["/next?x=1#part"]);
    assert_eq!(all(&response, "referrer-policy"), ["unsafe-url"]);
    site.store.calls();
    let (link, _) = run(&site, &get(&format!("/?sid={id}&__Host-id={id}")), async |handle| {
        assert_eq!(handle.token_source(), None);
        assert!(handle.load().await.unwrap().is_new());
        handle.encode_url("/a")
    });
    assert_eq!(link, "/a");
    assert_eq!(site.store.calls(), [""; 0]);
}

#[test]
fn an_id_in_a_url_is_refused_unless_the_session_was_born_in_urls() {
    // Created with a cookie: under `auto`, a client that returned one, even an invalid one.
    let site = site(TransportKind::Auto);
    let stale = Request::builder().header(COOKIE, "__Host-id=stale").body(()).unwrap();
    let (id, response) = begin(&site, &stale);
    assert_eq!(all(&response, "location"), ["/next?x=1#part"]);
    let by_cookie = Request::builder().header(COOKIE, format!("__Host-id={id}")).body(()).unwrap();
    assert_eq!(read(&site, &by_cookie), Some(1));
    let by_url = get(&format!("/?sid={id}"));
    assert_eq!(read(&site, &by_url), None);
    // A visitor with that id in the URL gets a new session, and the other session is unharmed.
    let (other, _) = begin(&site, &by_url);
    assert_ne!(other, id);
    assert_eq!((read(&site, &by_cookie), read(&site, &by_url)), (Some(1), None));
    assert_eq!(read(&site, &get(&format!("/?sid={other}"))), Some(1));
}

#[test]
fn in_auto_mode_both_are_sent_until_the_cookie_returns() {
    let site = site(TransportKind::Auto);
    let (id, first) = begin(&site, &get("/"));
    assert_eq!(all(&first, "location"), [format!("/next?x=1&sid={id}#part")]);
    assert!(all(&first, "set-cookie")[0].starts_with(&format!("__Host-id={id}; ")));
    assert_eq!(all(&first, "cache-control"), ["no-store"]);
    assert_eq!(all(&first, "referrer-policy"), ["same-origin"]);
    // Without the cookie, the id stays in the URLs.
    let (value, second) = run(&site, &get(&format!("/?sid={id}")), async |handle| {
        assert_eq!(handle.token_source(), Some(TokenSource::Url));
        handle.load().await.unwrap().get::<u64>("n").unwrap()
    });
    assert_eq!(value, Some(1));
    assert_eq!(all(&second, "location"), [format!("/next?x=1&sid={id}#part")]);
    // With the cookie, the links are plain and the cookie decides. The session leaves the URLs.
    let both = Request::builder()
        .uri(format!("/?sid={}", "A".repeat(43)))
        .header(COOKIE, format!("__Host-id={id}"))
        .body(())
        .unwrap();
    let (value, third) = run(&site, &both, async |handle| {
        assert_eq!(handle.token_source(), Some(TokenSource::Cookie));
        assert_eq!(handle.encode_url("/a"), "/a");
        handle.load().await.unwrap().get::<u64>("n").unwrap()
    });
    assert_eq!(value, Some(1));
    assert_eq!(all(&third, "location"), ["/next?x=1#part"]);
    let set_cookie = all(&third, "set-cookie").concat();
    let (new, _) = set_cookie.strip_prefix("__Host-id=").unwrap().split_once(';').unwrap();
    assert_ne!(new, id);
    assert_eq!(read(&site, &get(&format!("/?sid={id}"))), None, "the old id is dead");
    assert_eq!(read(&site, &get(&format!("/?sid={new}"))), None, "the new one is for cookies");
    let cookie = |id: &str| Request::builder().header(COOKIE, format!("__Host-id={id}"));
    let (value, fourth) = run(&site, &cookie(new).body(()).unwrap(), async |handle| {
        handle.load().await.unwrap().get::<u64>("n").unwrap()
    });
    assert_eq!(value, Some(1));
    assert_eq!(all(&fourth, "set-cookie"), [""; 0]);
    assert_eq!(all(&fourth, "cache-control"), ["public, max-age=60"]);
}

#[test]
fn clearing_a_session_does_not_forget_where_it_was_born() {
    let site = site(TransportKind::Url);
    let (id, _) = begin(&site, &get("/"));
    let request = get(&format!("/?sid={id}"));
    run(&site, &request, async |handle| {
        let session = handle.load().await.unwrap();
        session.clear().unwrap();
        session.set("n", &2u64).unwrap();
        assert_eq!(session.keys(), ["n"]);
    });
    assert_eq!(read(&site, &request), Some(2));
}

#[test]
fn the_header_transport_carries_both_ways() {
    let site = site(TransportKind::Header);
    let (id, response) = begin(&site, &get("/"));
    assert_eq!(all(&response, "x-session-id"), [&id]);
    assert!(response.headers()["x-session-id"].is_sensitive());
    assert!(!response.headers().contains_key(SET_COOKIE));
    let request = |values: &[&str]| {
        let mut request = get(&format!("/?sid={id}"));
        for value in values {
            request.headers_mut().append("x-session-id", value.parse().unwrap());
        }
        request
    };
    assert_eq!(read(&site, &request(&[&id])), Some(1));
    assert_eq!(read(&site, &request(&[&id, &id])), Some(1));
    assert_eq!(read(&site, &request(&[])), None);
    assert_eq!(read(&site, &request(&[&id, "x"])), Some(1));
    let ((), removed) = run(&site, &request(&[&id]), async |handle| {
        handle.load().await.unwrap().destroy().await.unwrap();
    });
    assert_eq!(all(&removed, "x-session-id"), [""]);
    assert_eq!(read(&site, &request(&[&id])), None);
}
