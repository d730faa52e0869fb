//! A renamed cookie: a cookie under an old name is read, replaced by one under the new name, and
//! removed.
//!
//! Texts under old names count as further texts under the current name (see `several`), except that a
//! live session under the current name wins. The response that sets the cookie under the new name, or
//! that ends the session, removes the cookies that the client sent under old names.

use std::cell::RefCell;
use std::collections::BTreeMap;

use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Method, Request, Response};

use crate::support::*;

fn site() -> Site {
    Site::configured(|config| {
        config.cookie.also = vec!["__Host-old".into(), "older".into()];
    })
}

/// A browser with several cookies.
#[derive(Default)]
struct Jar(RefCell<BTreeMap<String, String>>);

impl Jar {
    /// Returns a browser with these cookies.
    fn with(cookies: &[(&str, &str)]) -> Self {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self(RefCell::new(cookies.iter().map(own).collect()))
    }

    fn request(&self, method: Method) -> Request<()> {
        let pairs: Vec<_> =
            self.0.borrow().iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = Request::new(());
        *request.method_mut() = method;
        request.headers_mut().insert(COOKIE, HeaderValue::try_from(pairs.join("; ")).unwrap());
        request
    }

    fn begin(&self, site: &Site, method: Method) -> Underway {
        Underway::of(site, &self.request(method))
    }

    /// Receives a response's cookies. Returns the changes as `+name` or `-name`.
    fn receive(&self, response: &Response<()>) -> Vec<String> {
        let mut done = Vec::new();
        for cookie in response.headers().get_all(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            let (pair, attributes) = cookie.split_once("; ").unwrap();
            let (name, value) = pair.split_once('=').unwrap();
            assert!(attributes.starts_with("Path=/; Secure"), "{cookie}");
            if attributes.contains("Max-Age=0") {
                self.0.borrow_mut().remove(name);
                done.push(format!("-{name}"));
            } else {
                self.0.borrow_mut().insert(name.to_owned(), value.to_owned());
                done.push(format!("+{name}"));
            }
        }
        done
    }

    fn names(&self) -> Vec<String> {
        self.0.borrow().keys().cloned().collect()
    }

    fn visit(&self, site: &Site, method: Method) -> Vec<String> {
        self.receive(&self.begin(site, method).finish().unwrap())
    }
}

/// Returns the cookie of a session with one value, from before the cookie was renamed.
fn stored(site: &Site, n: u64) -> String {
    let visitor = site.visitor();
    visitor.set("n", n);
    site.clock.advance(secs(60));
    visitor.id()
}

#[test]
fn an_old_cookie_is_read_and_a_page_replaces_it() {
    for old in ["__Host-old", "older"] {
        let site = site();
        let id = stored(&site, 1);
        let jar = Jar::with(&[(old, &id), ("other", "x")]);
        site.store.calls();
        assert_eq!(jar.visit(&site, Method::GET), ["+__Host-id".to_owned(), format!("-{old}")]);
        assert_eq!(site.store.calls(), ["load", "save"]);
        assert_eq!(jar.names(), ["__Host-id", "other"]);
        let page = jar.begin(&site, Method::GET);
        assert_eq!(page.session.get::<u64>("n").unwrap(), Some(1));
        assert_eq!(text_of(&page.session), id, "the same id");
        assert!(is_silent(&page.finish().unwrap()), "told twice");
        assert_eq!(site.count(), 1);
    }
}

#[test]
fn a_request_in_the_background_goes_on_by_the_old_name() {
    let site = site();
    let jar = Jar::with(&[("older", &stored(&site, 1))]);
    for n in 2..5 {
        let mut request = jar.request(Method::POST);
        request.headers_mut().insert("sec-fetch-mode", HeaderValue::from_static("cors"));
        let form = Underway::of(&site, &request);
        form.session.set("n", &n).unwrap();
        assert!(is_silent(&form.finish().unwrap()));
        assert_eq!(jar.begin(&site, Method::GET).session.get("n").unwrap(), Some(n));
    }
    assert_eq!(jar.visit(&site, Method::GET), ["+__Host-id", "-older"]);
}

#[test]
fn a_login_gets_the_new_name_and_late_requests_say_nothing() {
    let site = site();
    let jar = Jar::with(&[("older", &stored(&site, 1))]);
    let (page, late) = (jar.begin(&site, Method::GET), jar.request(Method::GET));
    let login = jar.begin(&site, Method::POST);
    login.session.log_in("ada").unwrap();
    assert_eq!(jar.receive(&login.finish().unwrap()), ["+__Host-id", "-older"]);
    assert!(is_silent(&page.finish().unwrap()), "a page that was under way");
    let late = Underway::of(&site, &late);
    assert!(late.sees_nothing());
    assert!(is_silent(&late.finish().unwrap()), "a late one");
    let page = jar.begin(&site, Method::GET);
    assert_eq!(page.session.owner().as_deref(), Some("ada"));
    assert!(is_silent(&page.finish().unwrap()));
}

#[test]
fn a_logout_clears_the_old_names_that_were_presented() {
    for (presented, cleared) in [
        (&["__Host-old"][..], &["-__Host-id", "-__Host-old"][..]),
        (&["older"], &["-__Host-id", "-older"]),
        (&["__Host-old", "older"], &["-__Host-id", "-__Host-old", "-older"]),
        (&["__Host-id", "older"], &["-__Host-id", "-older"]),
        (&["__Host-id"], &["-__Host-id"]),
    ] {
        // A live, an unknown and a malformed one.
        for kind in 0..3 {
            let site = site();
            let text = [stored(&site, 1), UNKNOWN.to_owned(), "junk".to_owned()][kind].clone();
            let cookies: Vec<_> = presented.iter().map(|name| (*name, &*text)).collect();
            let jar = Jar::with(&cookies);
            let logout = jar.begin(&site, Method::POST);
            block_on(logout.session.destroy()).unwrap();
            assert_eq!(jar.receive(&logout.finish().unwrap()), cleared);
            assert!(jar.names().is_empty());
            assert_eq!(site.count(), u64::from(kind > 0));
        }
    }
}

#[test]
fn an_old_cookie_without_a_session_is_removed_with_the_first_announcement() {
    let site = site();
    let jar = Jar::with(&[("older", UNKNOWN)]);
    assert!(jar.visit(&site, Method::GET).is_empty(), "nothing to announce");
    let first = jar.begin(&site, Method::POST);
    first.session.set("n", &1).unwrap();
    assert_eq!(jar.receive(&first.finish().unwrap()), ["+__Host-id", "-older"]);
}

/// A browser that did not remove the old cookie, because it was set for another path, keeps sending
/// both.
#[test]
fn an_old_cookie_that_stays_does_no_harm() {
    let site = site();
    let id = stored(&site, 1);
    let stubborn = |jar: &Jar| {
        jar.0.borrow_mut().insert("older".into(), id.clone());
    };
    let jar = Jar::with(&[("older", &id), ("__Host-id", &id)]);
    assert!(jar.visit(&site, Method::GET).is_empty(), "the same under both names is no news");
    let login = jar.begin(&site, Method::POST);
    login.session.log_in("ada").unwrap();
    assert_eq!(jar.receive(&login.finish().unwrap()), ["+__Host-id", "-older"]);
    for wait in [0, 60, 1200] {
        stubborn(&jar);
        site.clock.advance(secs(wait));
        let page = jar.begin(&site, Method::GET);
        assert_eq!(page.session.owner().as_deref(), Some("ada"), "after {wait} s");
        assert!(is_silent(&page.finish().unwrap()));
    }
}

/// The current name may have a prefix that keeps out planted cookies, which old names lack.
#[test]
fn a_live_session_under_the_name_wins_over_old_names() {
    let site = site();
    let (old, new) = (stored(&site, 1), stored(&site, 2));
    let jar = Jar::with(&[("older", &old), ("__Host-id", &new)]);
    let page = jar.begin(&site, Method::GET);
    assert_eq!(page.session.get::<u64>("n").unwrap(), Some(2));
    assert!(is_silent(&page.finish().unwrap()));
    let login = jar.begin(&site, Method::POST);
    login.session.log_in("ada").unwrap();
    assert_eq!(jar.receive(&login.finish().unwrap()), ["+__Host-id", "-older"]);
    assert_eq!(jar.begin(&site, Method::GET).session.get::<u64>("n").unwrap(), Some(2));
}

#[test]
fn a_logout_ends_the_sessions_of_all_names() {
    let site = site();
    let (old, new) = (stored(&site, 1), stored(&site, 2));
    let jar = Jar::with(&[("older", &old), ("__Host-id", &new)]);
    let logout = jar.begin(&site, Method::POST);
    block_on(logout.session.destroy()).unwrap();
    assert_eq!(jar.receive(&logout.finish().unwrap()), ["-__Host-id", "-older"]);
    assert_eq!(site.count(), 0);
}

#[test]
fn two_live_sessions_under_old_names_are_several() {
    let site = site();
    let (old, new) = (stored(&site, 1), stored(&site, 2));
    let jar = Jar::with(&[("older", &old), ("__Host-old", &new)]);
    let page = jar.begin(&site, Method::GET);
    assert!(page.sees_nothing() && is_silent(&page.finish().unwrap()));
    let login = jar.begin(&site, Method::POST);
    login.session.log_in("ada").unwrap();
    assert_eq!(jar.receive(&login.finish().unwrap()), ["+__Host-id", "-__Host-old", "-older"]);
    assert_eq!((site.has(&old), site.has(&new), site.count()), (false, false, 1));
    assert_eq!(jar.begin(&site, Method::GET).session.owner().as_deref(), Some("ada"));
}

/// Of more than four texts, those under the current name are looked up first.
#[test]
fn old_names_do_not_crowd_out_the_name() {
    let site = site();
    let id = stored(&site, 1);
    let stale = |n: u8| session_core::SessionId::from_bytes([n; 32]).text().to_string();
    let mut pairs = vec![format!("__Host-id={id}")];
    pairs.extend((1..9).map(|n| format!("older={}", stale(n))));
    pairs.extend((11..14).map(|n| format!("__Host-id={}", stale(n))));
    for _ in 0..pairs.len() {
        pairs.rotate_left(1);
        let mut request = Request::new(());
        request.headers_mut().insert(COOKIE, HeaderValue::try_from(pairs.join("; ")).unwrap());
        site.store.calls();
        let page = Underway::of(&site, &request);
        assert_eq!(page.session.get::<u64>("n").unwrap(), Some(1));
        assert_eq!(site.store.calls(), ["load"; 4]);
    }
}

#[test]
fn a_store_that_fails_leaves_the_old_cookie() {
    let site = site();
    let jar = Jar::with(&[("older", &stored(&site, 1))]);
    site.store.sabotage("save", Fault::Down);
    assert!(jar.visit(&site, Method::GET).is_empty());
    site.store.mend();
    assert_eq!(jar.visit(&site, Method::GET), ["+__Host-id", "-older"]);
}

#[test]
fn managers_whose_names_meet_are_refused() {
    let named = |name: &str, also: &[&str]| {
        let site = Site::configured(|config| {
            config.cookie.name = name.into();
            config.cookie.also = also.iter().map(|name| (*name).to_owned()).collect();
        });
        site.manager
    };
    let meet =
        |managers: [session_core::Manager; 2]| session_core::Managers::new(managers).is_err();
    assert!(meet([named("a", &["c"]), named("b", &["a"])]));
    assert!(meet([named("a", &["c"]), named("b", &["c"])]));
    assert!(!meet([named("a", &["c"]), named("b", &["d"])]));
}
