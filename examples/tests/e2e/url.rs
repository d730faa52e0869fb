//! Ids in URLs, for visitors without cookies.

use crate::client::{Answer, COOKIE, Client};
use crate::demo::Demo;

/// Returns the target of the page's link to a path.
pub(crate) fn link(page: &str, path: &str) -> String {
    target(page, "href=\"", path)
}

/// Returns the target of the page's form for a path.
pub(crate) fn form(page: &str, path: &str) -> String {
    target(page, "action=\"", path)
}

fn target(page: &str, attribute: &str, path: &str) -> String {
    let mut targets = page.split(attribute).skip(1).map(|rest| {
        let (target, _) = rest.split_once('"').expect("a closing quote");
        target.replace("&amp;", "&")
    });
    let found = targets.find(|target| target.split('?').next() == Some(path));
    found.unwrap_or_else(|| panic!("no {attribute}{path} in {page}"))
}

/// Returns the id in a URL.
fn sid(url: &str) -> &str {
    let (_, query) = url.split_once('?').expect("a query");
    let mut ids = query.split('&').filter_map(|argument| argument.strip_prefix("sid="));
    let id = ids.next().expect("an id");
    assert_eq!((id.len(), ids.next()), (43, None), "{url}");
    id
}

/// Checks the headers that every response with ids must have.
fn guarded(answer: Answer) -> Answer {
    assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.no_cookie()
}

#[test]
fn without_cookies_the_journey_works_by_following_links() {
    let demo = Demo::start(&["--transport", "url"]);
    let mut visitor = demo.visitor();
    let page = guarded(visitor.get("/").expect(200)).body;
    assert_eq!(visitor.get(&link(&page, "/count")).line(), "2");
    assert_eq!(visitor.get(&link(&page, "/whoami")).line(), "anonymous");
    assert_eq!(visitor.post(&form(&page, "/add/n"), "").expect(303).status, 303);
    let old = sid(&link(&page, "/count")).to_owned();

    let answer = guarded(visitor.get(&link(&page, "/private")).expect(303));
    let login = visitor.get(answer.header("location").expect("there")).expect(200).body;
    let answer = visitor.post(&form(&login, "/login"), "username=ada").expect(303);
    let home = guarded(answer).header("location").expect("the page").to_owned();
    assert_ne!(sid(&home), old);
    let page = visitor.get(&home).expect(200).body;
    assert!(page.contains("<dd id=\"visits\">3</dd>") && page.contains("welcome ada"), "{page}");
    assert_eq!(visitor.get(&link(&page, "/whoami")).line(), "ada");
    assert_eq!(visitor.get(&format!("/whoami?sid={old}")).line(), "anonymous");

    visitor.post(&form(&page, "/flash"), "message=hello").expect(303);
    visitor.post(&form(&page, "/slow/draft").replace("2000", "1"), "draft=%5B1%5D").expect(303);
    assert_eq!(visitor.get(&link(&page, "/flash")).line(), "[\"hello\"]");
    let values = visitor.get(&link(&page, "/values")).json();
    assert_eq!((&values["n"], &values["draft"][0]), (&1.into(), &1.into()));

    let answer = visitor.post(&form(&page, "/regenerate"), "").expect(303);
    let home = answer.header("location").expect("the page").to_owned();
    assert_ne!(sid(&home), sid(&link(&page, "/count")));
    let page = visitor.get(&home).body;
    assert!(page.contains("<dd id=\"visits\">4</dd>"), "{page}");

    let answer = guarded(visitor.post(&form(&page, "/logout"), "").expect(303));
    assert_eq!(answer.header("location"), Some("/"));
    assert_eq!(visitor.get(&link(&page, "/whoami")).line(), "anonymous");
    assert_eq!(demo.sessions(), 0);
    assert_eq!(visitor.cookie, None);
}

#[test]
fn with_cookies_an_id_in_a_url_is_ignored() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let other = &mut demo.visitor();
    assert_eq!(other.get(&format!("/whoami?sid={}", visitor.id())).line(), "anonymous");
    assert!(!visitor.get("/").body.contains("sid="));
}

#[test]
fn auto_leaves_the_url_once_the_cookie_comes_back() {
    let demo = Demo::start(&["--transport", "auto"]);
    let mut visitor = demo.visitor();
    let answer = visitor.get("/");
    assert!(answer.header("set-cookie").is_some());
    assert_eq!(sid(&link(&answer.body, "/count")), visitor.id());

    let mut without_cookies = demo.visitor();
    assert_eq!(without_cookies.get(&link(&answer.body, "/count")).line(), "2");

    let page = visitor.get("/").body;
    assert_eq!(link(&page, "/count"), "/count");
    assert_eq!(visitor.get("/count").line(), "4");
}

/// A link with an invented or foreign id logs nobody in.
#[test]
fn an_id_that_the_store_does_not_know_is_not_adopted() {
    let made_up = "A".repeat(43);
    let by_url = Demo::start(&["--transport", "url"]);
    let page = by_url.visitor().get(&format!("/?sid={made_up}")).expect(200).body;
    assert_ne!(sid(&link(&page, "/count")), made_up);

    let by_cookie = Demo::start(&[]);
    let mut visitor: Client = by_cookie.visitor().with_id(&made_up);
    visitor.get("/whoami").no_cookie();
    assert_eq!(visitor.get("/count").line(), "1");
    assert_ne!(visitor.cookie, Some(format!("{COOKIE}={made_up}")));
}
