//! The demo in a browser.

use std::convert::Infallible;
use std::sync::mpsc::channel;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, REFERER};
use hyper::service::service_fn;

use crate::demo::{Demo, PATIENCE, SEALED};
use crate::site::{Site, with_header};
use crate::webdriver::Browser;

/// Counts, logs in, reads a message once and logs out, by the links and forms of the page. Calls `check`
/// on each page.
fn journey(demo: &Demo, browser: &Browser, check: impl Fn(&Browser)) {
    journey_at(&demo.address.to_string(), demo, browser, check);
}

/// The same journey, with the demo under another host name.
pub(crate) fn journey_at(host: &str, demo: &Demo, browser: &Browser, check: impl Fn(&Browser)) {
    // The number of visits distinguishes each page from the one before.
    let visit = |number: u32| {
        browser.wait_for("visits", &number.to_string());
        if number > 1 {
            check(browser);
        }
    };
    browser.open(&format!("http://{host}/"));
    visit(1);
    assert_eq!(browser.text("#username"), "nobody");
    browser.click("nav a[href^='/?'], nav a[href='/']");
    visit(2);

    browser.type_into("#login input", "Ada <b>L</b>");
    browser.click("#login button");
    visit(3);
    assert_eq!(browser.text("[role=status] li"), "welcome Ada <b>L</b>");
    assert_eq!(browser.text("#username"), "Ada <b>L</b>");

    browser.type_into("#flash input", "Fish & \"chips\"");
    browser.click("#flash button");
    visit(4);
    assert_eq!(browser.text("[role=status] li"), "Fish & \"chips\"");
    browser.click("#add button");
    visit(5);
    assert!(!browser.text("main").contains("Fish"));
    browser.click("#regenerate button");
    visit(6);
    assert_eq!(browser.text("#username"), "Ada <b>L</b>");

    // A form with GET, whose response is not a page.
    let home = browser.url();
    browser.click("#count button");
    browser.wait_for_element("pre", "7");
    check(browser);
    browser.open(&home);
    visit(8);

    browser.click("#logout button");
    visit(1);
    assert_eq!(browser.text("#username"), "nobody");
    assert!(matches!(demo.counted(), Some(1) | None));
}

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_browser_with_cookies_makes_the_journey() {
    let demo = Demo::start(&[]);
    let browser = Browser::start("with-cookies", true);
    with_cookies(&demo, &browser);
    assert_eq!(demo.sessions(), 1);
}

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_browser_makes_the_journey_with_its_session_sealed_in_the_cookie() {
    let demo = Demo::start(&SEALED);
    let browser = Browser::start("sealed", true);
    with_cookies(&demo, &browser);
    assert_eq!(demo.counted(), None);
}

fn with_cookies(demo: &Demo, browser: &Browser) {
    journey(demo, browser, |browser| {
        assert!(!browser.url().contains("sid="), "{}", browser.url());
        assert_eq!(browser.cookies(), 1);
    });
}

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_browser_that_blocks_cookies_makes_the_journey_under_auto() {
    let demo = Demo::start(&["--transport", "auto"]);
    let browser = Browser::start("without-cookies", false);
    journey(&demo, &browser, |browser| {
        assert!(browser.url().contains("sid="), "{}", browser.url());
        assert_eq!(browser.cookies(), 0);
    });
}

/// The page has no link to another site, so a script adds one, which the browser follows like any other.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn another_site_learns_nothing_of_an_id_in_the_url() {
    let demo = Demo::start(&["--transport", "url"]);
    let (sender, requests) = channel();
    let elsewhere = Site::start(service_fn(move |request: Request<Incoming>| {
        // The browser may also request an icon.
        if request.uri().path() == "/elsewhere" {
            sender.send(request.into_parts().0).expect("the test waits for it");
        }
        let page = with_header(CONTENT_TYPE, "text/plain", "elsewhere".to_owned());
        std::future::ready(Ok::<_, Infallible>(page))
    }));
    let browser = Browser::start("referer", false);
    browser.open(&format!("http://{}/", demo.address));
    browser.click("nav a[href^='/?']");
    browser.wait_for("visits", "2");
    assert!(browser.url().contains("sid="), "{}", browser.url());
    browser.run(&format!(
        "const link = document.createElement('a');
         link.href = 'http://{}/elsewhere';
         link.id = 'elsewhere';
         link.append('Elsewhere');
         document.querySelector('main').prepend(link);",
        elsewhere.address
    ));
    browser.click("#elsewhere");
    browser.wait_for_element("pre", "elsewhere");
    let request = requests.recv_timeout(PATIENCE).expect("the site was asked");
    assert!(!format!("{request:?}").contains("sid="), "{request:?}");
    assert_eq!(request.headers.get(REFERER), None);
}

/// The protected page redirects to the login page, whose form and response carry the id on.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_redirect_keeps_the_visitor_without_cookies() {
    let demo = Demo::start(&["--transport", "url"]);
    let browser = Browser::start("redirect", false);
    browser.open(&format!("http://{}/", demo.address));
    browser.click("nav a[href^='/private']");
    browser.wait_for_element("h1", "Log in");
    assert!(browser.url().contains("/login?sid="), "{}", browser.url());
    browser.type_into("#login input", "Ada");
    browser.click("#login button");
    browser.wait_for("visits", "2");
    assert_eq!(browser.text("#username"), "Ada");
    browser.click("nav a[href^='/private']");
    browser.wait_for_element("pre", "this is private to Ada");
    assert_eq!(demo.sessions(), 1);
}

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_browser_with_cookies_leaves_the_url_under_auto() {
    let demo = Demo::start(&["--transport", "auto"]);
    let browser = Browser::start("auto", true);
    browser.open(&format!("http://{}/", demo.address));
    // The link has the id and the browser sends the cookie, so the URLs have no id after this step.
    browser.click("nav a[href^='/?']");
    browser.wait_for("visits", "2");
    assert_eq!(browser.url(), format!("http://{}/", demo.address));
    assert_eq!(browser.cookies(), 1);
    browser.click("nav a[href='/']");
    browser.wait_for("visits", "3");
    assert_eq!(browser.url(), format!("http://{}/", demo.address));
    assert_eq!(demo.sessions(), 1);
}
