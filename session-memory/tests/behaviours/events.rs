//! Logs and counters for operators: at INFO, with the session's key, everything that ends or replaces a
//! session; one warning for each problem of the whole site; and counters.

use http::header::{COOKIE, HeaderValue};
use http::{Method, Request};

use crate::support::*;

/// Returns the lines at INFO that contain this text.
fn infos(site: &Site, about: &str) -> Vec<String> {
    let text = site.log.text();
    let wanted = |line: &&str| line.contains(" INFO ") && line.contains(about);
    text.lines().filter(wanted).map(str::to_owned).collect()
}

/// Checks that there is exactly one new line at INFO about a visitor's session, and that it contains
/// these words.
fn assert_told(site: &Site, key: &str, told: &mut usize, words: &[&str]) {
    let lines = infos(site, key);
    let [line] = &lines[*told..] else { panic!("one event of {words:?}: {lines:?}") };
    for word in words {
        assert!(line.contains(word), "{word:?} is missing: {line}");
    }
    *told += 1;
}

#[test]
fn a_new_id_a_login_and_a_logout_are_told_with_the_key() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let key = visitor.key().to_string();
    let mut told = 0;
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    assert_told(&site, &key, &mut told, &["new id", "login=false"]);
    visitor.visit(async |handle| {
        handle.load().await.unwrap().log_in("nobody-may-read-this").unwrap();
    });
    assert_told(&site, &key, &mut told, &["new id", "login=true"]);
    visitor.visit(async |handle| handle.load().await.unwrap().destroy().await.unwrap());
    assert_told(&site, &key, &mut told, &["session ended", "logout"]);
    assert!(!site.log.text().contains("nobody-may-read-this"));
}

#[test]
fn a_login_that_lost_its_race_is_told_with_both_keys() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let (old, tab) = (visitor.key().to_string(), visitor.tab());
    let logins = [visitor.begin(Method::POST), tab.begin(Method::POST)];
    for login in &logins {
        login.session.log_in("ada").unwrap();
    }
    visitor.receive(logins[0].finish().unwrap());
    tab.receive(logins[1].finish().unwrap());
    let new = tab.key().to_string();
    assert_ne!(new, old);
    assert_told(&site, &new, &mut 0, &["created by a login that lost a race", &old]);
}

#[test]
fn a_session_that_is_over_when_it_is_met_is_told_with_the_reason() {
    let site = Site::new();
    for (reason, idle, absolute) in [("idle", 60, 3600), ("absolute", 3600, 60)] {
        let visitor = site.visitor();
        visitor.set("n", 1);
        site.clock.advance(secs(100));
        let strict = site.reconfigured(|config| {
            (config.idle, config.absolute) = (secs(idle), secs(absolute));
        });
        assert!(is_anonymous(&strict, &visitor.request()).0);
        let key = visitor.key().to_string();
        let reason = format!("reason=\"{reason}\"");
        assert_told(&strict, &key, &mut 0, &["session expired", &reason]);
    }
}

#[test]
fn a_session_that_gave_way_is_told_and_the_full_store_once() {
    let site = Site::over_source("max_sessions=2");
    let keys: Vec<String> = (0..5)
        .map(|n| {
            site.clock.advance(Duration::from_millis(1));
            let visitor = site.visitor();
            visitor.set("n", n);
            visitor.key().to_string()
        })
        .collect();
    for key in &keys[..3] {
        assert_told(&site, key, &mut 0, &["evicted from a full store"]);
    }
    for key in &keys[3..] {
        assert!(infos(&site, key).is_empty());
    }
}

/// Returns a site with a unique cookie name, because all tests log into one text.
fn named(name: &str) -> Site {
    Site::configured(|config| config.cookie.name = name.into())
}

fn warnings(site: &Site, name: &str) -> usize {
    let text = site.log.text();
    let wanted = |line: &&str| line.contains(" WARN ") && line.contains(name);
    let lines: Vec<&str> = text.lines().filter(wanted).collect();
    for cause in ["Secure over plain HTTP", "Domain or Path", "SameSite=None without Secure"] {
        assert!(lines.iter().all(|line| line.contains(cause)), "{cause}: {lines:?}");
    }
    lines.len()
}

#[test]
fn a_site_to_which_nobody_comes_back_is_warned_once() {
    let name = "__Host-nobody-comes-back";
    let site = named(name);
    let announce = |sessions: usize| {
        let visitors: Vec<Visitor<'_>> = (0..sessions).map(|_| site.visitor()).collect();
        for visitor in &visitors {
            visitor.set("n", 1);
        }
        visitors
    };
    announce(99);
    assert_eq!(warnings(&site, name), 0);
    announce(1);
    assert_eq!(warnings(&site, name), 1);
    let visitors = announce(200);
    assert_eq!(warnings(&site, name), 1);
    let stats = site.manager.stats();
    assert_eq!((stats.created, stats.announced, stats.came_back), (300, 300, 0));
    for _ in 0..3 {
        visitors[0].get("n");
    }
    assert_eq!(site.manager.stats().came_back, 1, "a session comes back once");
}

#[test]
fn a_site_to_which_somebody_comes_back_is_not_warned() {
    let name = "__Host-somebody-comes-back";
    let site = named(name);
    for n in 0..300 {
        let visitor = site.visitor();
        visitor.set("n", 1);
        if n % 90 == 0 {
            // An ordinary user, with a login and more requests.
            visitor.visit(async |handle| handle.load().await.unwrap().log_in("ada").unwrap());
            site.clock.advance(secs(600));
            visitor.set("n", 2);
        }
    }
    assert_eq!(warnings(&site, name), 0);
    let stats = site.manager.stats();
    assert_eq!((stats.announced, stats.came_back, stats.regenerated), (300, 4, 4));
}

/// A session that is loaded again by the request that created it has not come back, and a new id is not
/// a new session.
#[test]
fn what_is_announced_and_what_came_back_is_counted_once() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.visit(async |handle| {
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        session.save().await.unwrap();
        session.reload().await.unwrap();
        session.update("n", |n: Option<u64>| n.unwrap_or(0) + 1).await.unwrap();
    });
    let counted = || {
        let stats = site.manager.stats();
        (stats.announced, stats.came_back)
    };
    assert_eq!(counted(), (1, 0));
    let tabs = [visitor.tab(), visitor.tab()];
    let requests = tabs.each_ref().map(|tab| tab.begin(Method::GET));
    for (tab, request) in tabs.iter().zip(&requests) {
        tab.receive(request.finish().unwrap());
    }
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    assert_eq!(counted(), (1, 1));
    // A response that replaces another one sets the same cookie again.
    let another = site.visitor().begin(Method::POST);
    another.session.set("n", &1).unwrap();
    another.finish().unwrap();
    another.finish().unwrap();
    assert_eq!(counted(), (2, 1));
}

/// A superseded request sets no cookie, and counts what it dropped.
#[test]
fn what_a_superseded_request_drops_is_counted() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let old = visitor.tab();
    visitor.visit(async |handle| handle.load().await.unwrap().regenerate().unwrap());
    let late = old.begin(Method::GET);
    late.session.set("n", &2).unwrap();
    assert!(is_silent(&late.finish().unwrap()));
    let stats = site.manager.stats();
    assert_eq!((stats.superseded, stats.dropped, stats.announced), (1, 1, 1));
}

#[test]
fn clocks_that_disagree_are_warned_of_once() {
    let site = Site::new();
    let ahead = |site: &Site, by: u64| {
        let visitor = site.visitor();
        visitor.set("n", 1);
        let now = site.manager.now();
        site.clock.set(now.saturating_sub(secs(by)));
        visitor.get("n");
        site.clock.set(now);
        let key = visitor.key().to_string();
        let text = site.log.text();
        let wanted =
            |line: &&str| line.contains(" WARN ") && line.contains(&key) && line.contains("clocks");
        text.lines().filter(wanted).count()
    };
    assert_eq!(ahead(&site, 3), 0, "so much is within the ordinary");
    assert_eq!(ahead(&site, 8), 1);
    assert_eq!(ahead(&site, 8), 0, "once");
    assert_eq!(ahead(&site.reconfigured(|_| ()), 50), 1, "for each manager");
}

/// Anybody can send such requests, enough to fill a log.
#[test]
fn more_ids_than_are_looked_up_are_warned_of_once() {
    let site = named("__Host-flooded");
    let cookie: Vec<_> = (0..2000).map(|n| format!("__Host-flooded={n}")).collect();
    let send = |site: &Site| {
        let mut request = Request::new(());
        request.headers_mut().insert(COOKIE, HeaderValue::try_from(cookie.join(";")).unwrap());
        Underway::of(site, &request);
        let text = site.log.text();
        let lines = text.lines().filter(|line| line.contains("more ids than are looked up"));
        let ours: Vec<_> = lines.filter(|line| line.contains("__Host-flooded")).collect();
        ["WARN", "DEBUG"].map(|level| ours.iter().filter(|line| line.contains(level)).count())
    };
    assert_eq!(send(&site), [1, 0]);
    assert_eq!(send(&site), [1, 1]);
    assert_eq!(send(&site), [1, 2]);
}
