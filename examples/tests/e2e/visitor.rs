//! The effects of browsers on sessions: double clicks, several tabs, the back button, lost responses,
//! cookies whose configuration changed.

use crate::demo::Demo;
#[cfg(unix)]
use crate::files::{Directory, File};
use crate::proxy::Proxy;
use crate::webdriver::Browser;

/// Logs in by the form of the current page.
fn log_in(browser: &Browser, name: &str) {
    browser.type_into("#login input", name);
    browser.click("#login button");
    browser.wait_for("username", name);
}

/// Logs out by the form of the current page. The next page starts a new session.
fn log_out(browser: &Browser) {
    browser.click("#logout button");
    browser.wait_for("username", "nobody");
    assert_eq!(browser.text("#visits"), "1");
}

/// Both requests are sent with the same cookie before either gets a response. The browser ignores the
/// response to the first one.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_double_click_on_a_slow_login_or_logout_does_as_one() {
    let demo = Demo::start(&[]);
    let proxy = Proxy::start(&demo);
    let browser = Browser::start("double-click", true);
    let home = format!("http://{}/", proxy.address);
    browser.open(&home);
    browser.wait_for("visits", "1");
    browser.run("document.querySelector('#login').action = '/login?ms=300'");
    browser.type_into("#login input", "Ada");
    // The driver blocks in a tab that waits for a response, so another tab clicks.
    let page = browser.open_tab("/whoami");
    browser.wait_for_element("pre", "anonymous");
    let elsewhere = browser.tab();
    for (form, name) in [("login", "Ada"), ("logout", "nobody")] {
        browser.go_to_tab(&elsewhere);
        proxy.hold(&format!("POST /{form}"));
        for click in 1..=2 {
            browser.run(&format!("opener.document.querySelector('#{form} button').click()"));
            proxy.wait_for(click);
        }
        proxy.pass();
        browser.go_to_tab(&page);
        browser.wait_for("username", name);
        // The next request shows the same.
        browser.open(&home);
        browser.wait_for("username", name);
    }
}

/// Scripts of a second tab, which the visitor's page opened: two count visits continuously, and the
/// functions wait for them and send the page's forms.
const POLLING: &str = "
    window.polls = [0, 0, 0];
    polls.forEach(async (_, poller) => {
        for (;;) {
            const response = await fetch('/count');
            const text = await response.text();
            if (!response.ok) throw window.failure = `${response.status}: ${text}`;
            polls[poller]++;
        }
    });
    const next = () => new Promise(then => setTimeout(then));
    // Resolves when every poll that is under way now has ended, and one that was sent later.
    window.settled = async () => {
        const before = [...polls];
        while (polls.some((count, poller) => count < before[poller] + 2)) {
            if (window.failure) throw failure;
            await next();
        }
    };
    // Sends a form of the page, and waits for the next page, which must be the demo's page and show this
    // name.
    window.send = async (form, name) => {
        const left = opener.document;
        left.querySelector(form).submit();
        while (opener.document === left || opener.document.readyState !== 'complete') await next();
        const shown = opener.document.querySelector('#username')?.textContent;
        if (shown !== name) throw `${form} led to ${opener.document.body.innerText}`;
    };
";

/// A visitor without a cookie gets one at the first poll. If the response to that poll arrived after the
/// response to a login that was sent later, its cookie would replace the login's; no server can prevent
/// that. So the visitor waits for the running polls before each login.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_tab_that_polls_logs_nobody_out() {
    const TIMES: u32 = 50;
    let demo = Demo::start(&[]);
    let browser = Browser::start("polling", true);
    browser.open(&format!("http://{}/", demo.address));
    browser.wait_for("username", "nobody");
    // This page is plain text, so its policy allows scripts.
    browser.open_tab("/whoami");
    browser.wait_for_element("pre", "anonymous");
    browser.run(POLLING);
    for _ in 0..TIMES {
        browser.run(
            "return (async () => {
                await settled();
                const form = opener.document.querySelector('#login');
                form.action = '/login?ms=20';
                form.querySelector('input').value = 'Ada';
                await send('#login', 'Ada');
                await settled();
                const name = await (await fetch('/whoami')).text();
                if (name !== 'Ada\\n') throw `polls made Ada ${name}`;
                await send('#logout', 'nobody');
            })()",
        );
    }
    let counters = demo.visitor().get("/stats").json()["counters"].take();
    assert_eq!(counters["logins"], TIMES);
    assert!(counters["superseded"].as_u64() > Some(0), "no poll met a login: {counters}");
}

#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn the_back_button_shows_nothing_of_a_session_that_has_ended() {
    let demo = Demo::start(&[]);
    let browser = Browser::start("back", true);
    browser.open(&format!("http://{}/", demo.address));
    log_in(&browser, "Ada");
    browser.click("nav a[href='/private']");
    browser.wait_for_element("pre", "this is private to Ada");
    browser.open(&format!("http://{}/whoami", demo.address));
    browser.wait_for_element("pre", "Ada");
    browser.open(&format!("http://{}/", demo.address));
    browser.wait_for("username", "Ada");
    log_out(&browser);
    // The earlier pages are requested again.
    browser.back();
    browser.wait_for("visits", "2");
    assert_eq!(browser.text("#username"), "nobody");
    browser.back();
    browser.wait_for_element("pre", "anonymous");
    browser.back();
    browser.wait_for_element("h1", "Log in");
    browser.back();
    browser.wait_for("visits", "3");
    assert_eq!(browser.text("#username"), "nobody");
}

/// Cookies of the same name with and without `Partitioned` are different cookies, and a browser sends
/// both.
#[cfg(unix)]
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn cookies_that_become_partitioned_log_nobody_out_and_lock_nobody_out() {
    let directory = Directory::new();
    let source = directory.source();
    let partitioned = File::new("partitioned", "[cookie]\npartitioned = true");
    let flags = ["--provider", "file", "--source", &source];
    let anew = [&flags[..], &["--config", partitioned.path()]].concat();
    let browser = Browser::start("partitioned", true);
    // Cookies don't depend on the port.
    let open = |demo: &Demo| browser.open(&format!("http://{}/", demo.address));

    let before = Demo::start(&flags);
    open(&before);
    log_in(&browser, "Ada");
    assert_eq!(browser.cookies(), 1);
    drop(before);
    // To the other configuration, and back.
    for (flags, number) in [(&anew[..], 2), (&flags[..], 2)] {
        let demo = Demo::start(flags);
        open(&demo);
        browser.wait_for("username", "Ada");
        assert_eq!(browser.cookies(), number);
        // The two cookies differ from now on.
        let visits: u32 = browser.text("#visits").parse().expect("a number");
        browser.click("#regenerate button");
        browser.wait_for("visits", &(visits + 1).to_string());
        assert_eq!(browser.text("#username"), "Ada");
        open(&demo);
        browser.wait_for("username", "Ada");
        log_out(&browser);
        open(&demo);
        browser.wait_for("visits", "2");
        assert_eq!(browser.text("#username"), "nobody");
        log_in(&browser, "Ada");
        open(&demo);
        browser.wait_for("username", "Ada");
        assert_eq!(demo.sessions(), 1);
    }
}

/// Chromium repeats a request once or twice if there is no response, so each of these logins arrived
/// several times.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_login_whose_response_was_lost_works_at_the_next_click() {
    let demo = Demo::start(&[]);
    let proxy = Proxy::start(&demo);
    let browser = Browser::start("lost", true);
    let home = format!("http://{}/", proxy.address);
    let again: [&dyn Fn(); 2] = [
        &|| {
            browser.back();
            browser.wait_for("username", "nobody");
            log_in(&browser, "Ada");
        },
        &|| browser.reload(),
    ];
    browser.open(&home);
    for again in again {
        browser.wait_for("username", "nobody");
        browser.type_into("#login input", "Ada");
        proxy.cut("POST /login");
        browser.click("#login button");
        proxy.wait_for(1);
        assert_eq!(browser.text(".error-code"), "ERR_EMPTY_RESPONSE");
        proxy.pass();
        again();
        browser.wait_for("username", "Ada");
        browser.open(&home);
        browser.wait_for("username", "Ada");
        log_out(&browser);
    }
}
