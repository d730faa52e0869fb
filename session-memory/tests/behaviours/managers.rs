//! Several managers in one request: they are independent, one call finishes them, and each one's error
//! is kept.

use http::header::SET_COOKIE;
use http::{Request, Response};
use session_core::{Error, Managers};

use crate::support::*;

fn two_sites() -> [Site; 2] {
    ["__Host-shop", "__Host-admin"].map(|name| Site::configured(|c| c.cookie.name = name.into()))
}

fn together<const N: usize>(sites: [&Site; N]) -> Managers {
    Managers::new(sites.map(|site| site.manager.clone())).unwrap()
}

/// Cookies, query arguments and headers have separate names.
#[test]
fn managers_that_would_take_each_others_ids_are_refused() {
    use session_core::transport::TransportKind::{self, Auto, Cookie, Header, Url};

    let site = |kind: TransportKind, cookie: &str, param: &str, header: &str| {
        let site = Site::configured(|config| {
            config.transport = kind;
            config.cookie.name = cookie.into();
            config.url.param = param.into();
            config.header.name = header.into();
        });
        site.manager
    };
    let meet = |one, other| Managers::new([one, other]).is_err();
    for kind in [Auto, Url] {
        assert!(meet(site(Auto, "a", "sid", "x"), site(kind, "b", "sid", "y")), "{kind:?}");
        assert!(!meet(site(Auto, "a", "sid", "x"), site(kind, "b", "tid", "x")), "{kind:?}");
    }
    assert!(meet(site(Auto, "a", "sid", "x"), site(Cookie, "a", "tid", "y")));
    assert!(meet(site(Header, "a", "sid", "X-Id"), site(Header, "b", "tid", "x-id")));
    assert!(meet(site(Cookie, "sid", "a", "x"), site(Url, "b", "sid", "y")), "found by one name");
    assert!(!meet(site(Cookie, "a", "sid", "x"), site(Url, "a", "sid", "x")));
    assert!(!meet(site(Cookie, "a", "sid", "x"), site(Header, "a", "sid", "x")));
    assert!(Managers::new([]).is_err());
    let error = Managers::new([site(Auto, "a", "sid", "x"), site(Auto, "b", "sid", "y")]);
    assert!(error.unwrap_err().to_string().contains("\"sid\""));
}

#[test]
fn two_managers_of_one_request_are_independent() {
    let [shop, admin] = two_sites();
    let mut response = Response::new(());
    let request = Request::new(());
    block_on(async {
        let sessions = together([&shop, &admin]).start(&request);
        let [a, b] = [0, 1].map(|at| sessions.iter().nth(at).unwrap());
        a.load().await.unwrap().set("n", &1u64).unwrap();
        b.load().await.unwrap().set("n", &2u64).unwrap();
        assert_ne!(a.load().await.unwrap().key().unwrap(), b.load().await.unwrap().key().unwrap());
        sessions.finish(&mut response).await.unwrap();
    });
    let cookies: Vec<_> = response.headers().get_all(SET_COOKIE).iter().collect();
    assert_eq!(cookies.len(), 2);
    assert!(cookies[0].to_str().unwrap().starts_with("__Host-shop="));
    assert!(cookies[1].to_str().unwrap().starts_with("__Host-admin="));
    assert_eq!((shop.count(), admin.count()), (1, 1));
    // One manager ignores the other one's cookie.
    let text = cookies[0].to_str().unwrap().split([';', '=']).nth(1).unwrap().to_owned();
    assert_eq!(Visitor::with_cookie(&shop, &text).get("n"), Some(1));
    assert_eq!(Visitor::with_cookie(&admin, &text).get("n"), None);
}

#[test]
fn one_call_finishes_all_and_keeps_the_errors_of_each() {
    for broken in [&[0][..], &[1], &[0, 1]] {
        let sites = two_sites();
        for at in broken {
            sites[*at].store.sabotage("create", Fault::Down);
        }
        let sessions = together(sites.each_ref()).start(&Request::new(()));
        let mut response = Response::new(());
        let errors = block_on(async {
            for handle in sessions.iter() {
                handle.load().await.unwrap().set("n", &1).unwrap();
            }
            sessions.finish(&mut response).await.unwrap_err()
        });
        let names: Vec<_> = errors.iter().map(|(name, _)| name).collect();
        let wanted: Vec<_> = broken.iter().map(|at| sites[*at].manager.name()).collect();
        assert_eq!(names, wanted);
        assert!(errors.iter().all(|(_, error)| matches!(error, Error::Unavailable { .. })));
        for name in wanted {
            assert!(errors.to_string().contains(name), "{errors}");
        }
        // The working one is stored and its cookie is set.
        let cookies = response.headers().get_all(SET_COOKIE).iter().count();
        assert_eq!(cookies, 2 - broken.len());
        for (at, site) in sites.iter().enumerate() {
            assert_eq!(site.store.calls(), ["create"]);
            assert_eq!(site.count(), u64::from(!broken.contains(&at)));
        }
    }
}

#[test]
fn the_first_error_is_that_of_a_store_that_is_down() {
    let [shop, admin] = two_sites();
    let mine = shop.visitor();
    mine.set("n", 1);
    admin.store.sabotage("create", Fault::Down);
    let request = mine.request();
    let errors = block_on(async {
        let sessions = together([&shop, &admin]).start(&request);
        for handle in sessions.iter() {
            handle.load().await.unwrap().set("n", &2).unwrap();
        }
        let again = shop.manager.start(&request);
        again.load().await.unwrap().destroy().await.unwrap();
        sessions.finish(&mut Response::new(())).await.unwrap_err()
    });
    assert_eq!(errors.iter().count(), 2);
    assert!(matches!(errors.first(), Error::Unavailable { .. }));
}
