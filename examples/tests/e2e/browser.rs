//! The demo in a browser.

use crate::demo::Demo;
use crate::webdriver::Browser;

/// Counts, logs in, reads a message once and logs out, as a visitor does: by what the page offers.
/// On each page, `check` looks at the browser.
fn journey(demo: &Demo, browser: &Browser, check: impl Fn(&Browser)) {
    // Each page is told from the one before by its number.
    let visit = |number: u32| {
        browser.wait_for("visits", &number.to_string());
        if number > 1 {
            check(browser);
        }
    };
    browser.open(&format!("http://{}/", demo.address));
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

    browser.click("#logout button");
    visit(1);
    assert_eq!(browser.text("#username"), "nobody");
    assert_eq!(demo.sessions(), 1);
}

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_browser_with_cookies_makes_the_journey() {
    let demo = Demo::start(&[]);
    let browser = Browser::start("with-cookies", true);
    journey(&demo, &browser, |browser| {
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

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_browser_with_cookies_leaves_the_url_under_auto() {
    let demo = Demo::start(&["--transport", "auto"]);
    let browser = Browser::start("auto", true);
    browser.open(&format!("http://{}/", demo.address));
    browser.click("nav a[href^='/?']");
    browser.wait_for("visits", "2");
    assert_eq!(browser.cookies(), 1);
    browser.click("nav a[href='/']");
    browser.wait_for("visits", "3");
    assert!(!browser.url().contains("sid="), "{}", browser.url());
}
