//! Requests and cookies.
//!
//! A session that is not used costs nothing and says nothing. A session that gets its first value
//! is announced by exactly one `Set-Cookie`; reading, and storing what is there already, announce
//! nothing. A client's id is used only if the store knows it. A cookie is removed with the
//! attributes that it was set with. What can't be saved is not announced.

use http::header::{CACHE_CONTROL, COOKIE, HeaderValue, SET_COOKIE, VARY};
use http::{Request, Response};
use session_core::transport::SameSite;
use session_core::{Error, SessionId};

use crate::support::*;

const UNKNOWN: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

#[test]
fn a_session_that_is_not_used_costs_no_store_call_and_no_header() {
    let site = Site::new();
    let known = site.visitor();
    known.set("n", 1);
    site.store.calls();
    for visitor in [site.visitor(), known.tab(), Visitor::with_cookie(&site, UNKNOWN)] {
        let ((), reply) = visitor.visit(async |_| ());
        assert!(reply.is_plain(), "{reply:?}");
        assert_eq!(site.store.calls(), [""; 0]);
    }
}

#[test]
fn an_empty_new_session_is_neither_stored_nor_announced() {
    let site = Site::new();
    let visitor = site.visitor();
    let (is_new, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.delete("nothing").unwrap();
        session.clear().unwrap();
        session.set("n", &1).unwrap();
        session.delete("n").unwrap();
        session.regenerate().await.unwrap();
        session.is_new()
    });
    assert!(is_new && reply.is_plain());
    assert_eq!(site.store.calls(), [""; 0]);
    assert_eq!(site.count(), 0);
}

#[test]
fn the_first_value_is_announced_once_with_all_attributes_and_read_by_the_next_request() {
    let site = Site::new();
    let visitor = site.visitor();
    let reply = visitor.set("n", 7);
    let text = visitor.cookie().unwrap();
    assert_eq!(
        reply.set_cookie().unwrap(),
        format!("__Host-id={text}; Path=/; Secure; HttpOnly; SameSite=Lax")
    );
    assert_eq!(text, &*visitor.id().text());
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    assert_eq!(reply.header("vary"), Some("Cookie"));
    assert_eq!(site.store.calls(), ["create"]);
    assert_eq!(visitor.get("n"), Some(7));
    assert_eq!(site.store.calls(), ["load"]);
    assert_eq!(site.manager.stats().created, 1);
}

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
fn reading_sends_no_cookie_and_writes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    let (keys, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        assert_eq!(session.get::<u64>("n").unwrap(), Some(1));
        assert_eq!(session.get::<u64>("absent").unwrap(), None);
        assert!(!session.is_new());
        session.keys().unwrap()
    });
    assert_eq!(keys, ["n"]);
    assert!(reply.is_plain(), "{reply:?}");
    assert_eq!(site.store.calls(), ["load"]);
}

#[test]
fn an_equal_value_writes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    assert!(visitor.set("n", 1).is_plain());
    assert_eq!(site.store.calls(), ["load"]);
    // Changed and changed back is equal too; so is deleting what is not there.
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &2).unwrap();
        session.delete("n").unwrap();
        session.set("n", &1u64).unwrap();
        session.delete("absent").unwrap();
    });
    assert!(reply.is_plain());
    assert_eq!(site.store.calls(), ["load"]);
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    let (n, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.update("n", |n: Option<u64>| n.unwrap()).await.unwrap()
    });
    assert_eq!(n, 1);
    assert!(reply.is_plain());
    assert!(site.store.calls().iter().all(|call| *call == "load"));
}

#[test]
fn a_changed_value_is_saved_without_a_cookie() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.calls();
    assert!(visitor.set("n", 2).is_plain());
    assert_eq!(site.store.calls(), ["load", "save"]);
    assert_eq!(visitor.get("n"), Some(2));
}

#[test]
fn several_writes_of_a_request_are_one_store_call_and_one_cookie() {
    let site = Site::new();
    let visitor = site.visitor();
    let ((), reply) = visitor.visit(async |handle| {
        for n in 0..20u64 {
            handle.load().await.unwrap().set(&format!("key {n}"), &n).unwrap();
        }
    });
    assert!(reply.set_cookie().is_some());
    assert_eq!(site.store.calls(), ["create"]);
}

#[test]
fn saving_and_regenerating_within_a_request_is_one_cookie_still() {
    let site = Site::new();
    let visitor = site.visitor();
    let (ids, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1u64).unwrap();
        session.save().await.unwrap();
        let first = session.id().unwrap();
        session.regenerate().await.unwrap();
        let second = session.id().unwrap();
        session.regenerate().await.unwrap();
        session.set("n", &2u64).unwrap();
        [first, second]
    });
    assert!(reply.set_cookie().is_some());
    assert!(!ids.contains(&visitor.id()) && ids[0] != ids[1]);
    assert!(!site.has(&ids[0]) && !site.has(&ids[1]));
    assert_eq!((visitor.get("n"), site.count()), (Some(2), 1));
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
    assert!(!site.has(&SessionId::parse(UNKNOWN).unwrap()));
    assert_eq!(visitor.get("n"), Some(1));
}

/// The value that a request with these `Cookie` headers reads.
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
fn two_different_ids_are_both_refused_and_the_same_one_twice_is_fine() {
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
    assert_eq!(read(&[format!("__Host-id={a}; __Host-id={b}")]), None);
    assert_eq!(read(&[format!("__Host-id={a}"), format!("__Host-id={b}")]), None);
    assert_eq!(read(&[format!("__Host-id={a}; __Host-id=")]), None);
    assert_eq!(site.store.calls(), [""; 0]);
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
fn a_new_session_that_is_destroyed_leaves_no_cookie_and_no_record() {
    let site = Site::new();
    let visitor = site.visitor();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        session.destroy().await.unwrap();
        assert!(session.is_new());
    });
    assert!(reply.is_plain());
    assert_eq!(site.store.calls(), [""; 0]);
    // Stored already, but never announced.
    let (id, reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        session.save().await.unwrap();
        let id = session.id().unwrap();
        session.destroy().await.unwrap();
        id
    });
    assert!(reply.is_plain());
    assert!(!site.has(&id));
    assert_eq!(site.count(), 0);
}

#[test]
fn destroyed_and_started_again_in_one_request_has_a_fresh_id() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("old", 1);
    let old = visitor.id();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.destroy().await.unwrap();
        assert_eq!(session.get::<u64>("old").unwrap(), None);
        assert_ne!(session.id().unwrap(), old);
        session.set("new", &2u64).unwrap();
    });
    assert!(reply.set_cookie().is_some());
    assert_ne!(visitor.id(), old);
    assert!(!site.has(&old));
    assert_eq!((visitor.get("old"), visitor.get("new")), (None, Some(2)));
    assert_eq!(site.count(), 1);
}

#[test]
fn destroying_twice_is_fine() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.destroy().await.unwrap();
        session.destroy().await.unwrap();
    });
    assert!(reply.attributes().contains("Max-Age=0"));
    assert_eq!(site.manager.stats().destroyed, 1);
}

#[test]
fn the_id_of_a_new_session_is_known_before_it_is_stored() {
    let site = Site::new();
    let visitor = site.visitor();
    let (id, _) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        let id = session.id().unwrap();
        assert_eq!(session.id().unwrap(), id);
        assert!(session.is_new() && !site.has(&id));
        session.set("n", &1).unwrap();
        assert_eq!(session.id().unwrap(), id);
        id
    });
    assert_eq!(visitor.id(), id);
    assert!(site.has(&id));
    // Asking is not using: nothing is stored for it.
    let other = site.visitor();
    let (_, reply) = other.visit(async |handle| handle.load().await.unwrap().id().unwrap());
    assert!(reply.is_plain());
    assert_eq!(site.count(), 1);
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
        handle.load().await.unwrap().regenerate().await.unwrap();
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

#[test]
fn a_store_that_fails_while_saving_is_an_error_and_the_response_is_untouched() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("kept", 1);
    for (operation, visitor) in [("create", site.visitor()), ("save", visitor.tab())] {
        site.store.break_(operation, Fault::Down);
        let mut response = Response::builder().header("x-mine", "1").body(()).unwrap();
        let request = visitor.request();
        block_on(async {
            let handle = site.manager.start(&request);
            handle.load().await.unwrap().set("n", &1u64).unwrap();
            let error = handle.finish(&mut response).await.unwrap_err();
            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
            assert_eq!(error.status(), 503);
            assert_eq!(response.headers().len(), 1);
            assert_eq!(
                site.store
                    .peek(&visitor_token(&visitor), site.manager.now())
                    .map(|r| r.values.len()),
                visitor.cookie().map(|_| 1)
            );

            // What was to be saved is kept for another try.
            site.store.mend();
            handle.finish(&mut response).await.unwrap();
        });
        visitor.receive(response);
        assert_eq!(visitor.get("n"), Some(1), "{operation}");
    }
    assert_eq!(visitor.get("kept"), Some(1));
    assert_eq!(site.manager.stats().unavailable, 2);
}

fn visitor_token(visitor: &Visitor<'_>) -> session_core::Token {
    let id = visitor.cookie().and_then(|text| SessionId::parse(&text));
    id.unwrap_or(SessionId::from_bytes([0; 32])).into()
}

#[test]
fn a_store_that_is_down_while_loading_is_an_error_and_never_an_empty_session() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.break_("load", Fault::Down);
    let (error, reply) = visitor.visit(async |handle| handle.load().await.map(|_| ()).unwrap_err());
    assert!(matches!(error, Error::Unavailable { .. }));
    assert!(reply.is_plain());
    site.store.mend();
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn a_new_id_is_announced_even_if_the_first_try_to_save_failed() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let old = visitor.id();
    let ((), reply) = visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.regenerate().await.unwrap();
        session.set("n", &2u64).unwrap();
        site.store.break_("save", Fault::Down);
        handle.finish(&mut Response::new(())).await.unwrap_err();
        site.store.mend();
        // A handler that starts over finds its changes again.
        assert_eq!(handle.load().await.unwrap().get::<u64>("n").unwrap(), Some(2));
    });
    assert!(reply.set_cookie().is_some());
    assert_ne!(visitor.id(), old);
    assert_eq!(visitor.get("n"), Some(2));
}

#[test]
fn an_unreadable_record_is_reported_once_and_treated_as_absent() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    site.store.break_("load", Fault::Unreadable);
    assert_eq!(visitor.get("n"), None);
    assert_eq!(visitor.get("n"), None);
    assert_eq!(site.manager.stats().unreadable, 2);
    let hash = visitor.id().log_hash().to_string();
    let reports = site.log.text();
    let reports = reports.lines().filter(|line| line.contains("WARN") && line.contains(&hash));
    assert_eq!(reports.count(), 1);
}

#[test]
fn a_forced_collision_of_ids_is_retried_and_overwrites_nobody() {
    let texts = [[1; 32], [1; 32], [2; 32], [1; 32], [2; 32], [3; 32]];
    let ids = parking_lot::Mutex::new(texts.into_iter());
    let site = Site::built(
        |_| (),
        |builder| {
            builder.with_id_source(move || {
                Ok(SessionId::from_bytes(ids.lock().next().expect("enough ids")))
            })
        },
    );
    let (one, two) = (site.visitor(), site.visitor());
    one.set("n", 1);
    two.set("n", 2);
    assert_eq!(site.store.calls(), ["create", "create", "create"]);
    let ((), _) = two.visit(async |handle| {
        handle.load().await.unwrap().regenerate().await.unwrap();
    });
    assert_eq!(two.id(), SessionId::from_bytes([3; 32]));
    assert_eq!((one.get("n"), two.get("n"), site.count()), (Some(1), Some(2), 2));
}

#[test]
fn a_generator_that_fails_fails_the_call_and_nothing_is_stored() {
    let site = Site::built(
        |_| (),
        |builder| builder.with_id_source(|| Err(Error::Random { source: "no entropy".into() })),
    );
    let visitor = site.visitor();
    let (id, reply) = visitor.try_visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        session.id().unwrap_err()
    });
    assert!(matches!(id, Error::Random { .. }));
    assert!(matches!(reply.unwrap_err(), Error::Random { .. }));
    assert_eq!(site.count(), 0);
}
