//! Requests that a browser sends for another site: forms and WebSocket handshakes.

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use session_core::Error;

use crate::browser::journey_at;
use crate::client::{Answer, Client};
use crate::demo::Demo;
use crate::files::File;
use crate::site::{BoxError, Site, html};
use crate::url::{form, link};
use crate::webdriver::Browser;

/// `Sec-Fetch-Site` and `Origin` of requests from other sites. `OWN` stands for the demo's address.
const FOREIGN: &[&[&str]] = &[
    &["Sec-Fetch-Site: cross-site"],
    &["Sec-Fetch-Site: same-site"],
    &["Sec-Fetch-Site: cross-site", "Origin: http://OWN"],
    &["Sec-Fetch-Site: same-site", "Origin: http://evil.example"],
    &["Sec-Fetch-Site: same-origin", "Sec-Fetch-Site: same-origin"],
    &["Sec-Fetch-Site: same-origin, none"],
    &["Sec-Fetch-Site: Same-Origin"],
    &["Sec-Fetch-Site:"],
    &["Origin: http://evil.example"],
    &["Origin: http://OWN.evil.example"],
    &["Origin: http://evil.example/OWN"],
    &["Origin: http://127.0.0.1"],
    &["Origin: null"],
    &["Origin:"],
    &["Origin: http://OWN", "Origin: http://OWN"],
    &["Origin: http://OWN", "Origin: http://evil.example"],
    &["Origin: http://OWN, http://OWN"],
];

/// Those of requests from the site's own pages, from the address bar or bookmarks, and from programs.
const OWN: &[&[&str]] = &[
    &[],
    &["Sec-Fetch-Site: same-origin"],
    &["Sec-Fetch-Site: none"],
    &["Sec-Fetch-Site: same-origin", "Origin: http://OWN"],
    // From a page with `Referrer-Policy: no-referrer`.
    &["Sec-Fetch-Site: same-origin", "Origin: null"],
    &["Origin: http://OWN"],
    // A proxy in front of the demo may terminate TLS.
    &["Origin: https://OWN"],
];

/// Unsafe requests, with their bodies and further headers.
const UNSAFE: &[(&str, &str, &str, &[&str])] = &[
    ("POST", "/login", "username=mallory", &[]),
    ("POST", "/logout", "", &[]),
    ("PUT", "/values/x", "\"planted\"", &[]),
    ("DELETE", "/values/x", "", &[]),
    ("POST", "/add/n", "", &[]),
    ("POST", "/flash", "planted", &[]),
    ("POST", "/regenerate", "", &[]),
    ("POST", "/remember?on=true", "", &[]),
    ("GET", "/count", "", &["Upgrade: websocket", "Sec-WebSocket-Version: 13"]),
];

/// Sends a request with these header lines, and the cookie of the jar.
fn send(
    visitor: &Client,
    (method, target, body, more): (&str, &str, &str, &[&str]),
    headers: &[&str],
    own: &str,
) -> Answer {
    let cookie = visitor.cookie.as_ref().map(|cookie| format!("Cookie: {cookie}"));
    let lines = headers.iter().chain(more).copied().chain(cookie.as_deref());
    let lines: String = lines.map(|line| format!("{line}\r\n")).collect();
    visitor.send_with(method, target, lines.replace("OWN", own), body)
}

/// Checks that a request was refused because it came from another site.
#[track_caller]
pub(crate) fn refused(answer: Answer) {
    let answer = answer.expect(403).no_cookie();
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.line(), Error::CrossSite.visitor_text());
}

#[test]
fn unsafe_requests_from_elsewhere_are_refused_and_do_nothing() {
    let demo = Demo::start(&[]);
    let own = &demo.address.to_string();
    let mut ada = demo.visitor();
    ada.post("/login", "username=ada").expect(303);
    ada.put("/values/x", "1").expect(204);
    let stats = || {
        let mut stats = demo.visitor().get("/stats").expect(200).json();
        let refused = stats["counters"]["cross_site"].take();
        (stats, refused.as_u64().expect("a number"))
    };
    let values = ada.get("/values").body;
    let (before, _) = stats();
    let mut count = 0;
    for headers in FOREIGN {
        for request in UNSAFE {
            for visitor in [&ada, &demo.visitor()] {
                refused(send(visitor, *request, headers, own));
                count += 1;
            }
        }
    }
    assert_eq!(stats(), (before, count), "they reached no session");
    assert_eq!(ada.get("/values").no_cookie().body, values);
    assert_eq!(ada.get("/flash").line(), "[\"welcome ada\"]");
}

#[test]
fn the_sites_own_requests_pass_and_so_do_programs() {
    let demo = Demo::start(&[]);
    let own = &demo.address.to_string();
    for headers in OWN {
        for request in UNSAFE {
            let mut ada = demo.visitor();
            ada.post("/login", "username=ada").expect(303);
            ada.put("/values/x", "1").expect(204);
            let answer = send(&ada, *request, headers, own);
            assert!(matches!(answer.status, 200 | 204 | 303), "{headers:?} {request:?} {answer:?}");
        }
        let mut visitor = demo.visitor();
        visitor.keep(&send(&visitor, UNSAFE[0], headers, own).expect(303));
        assert_eq!(visitor.get("/whoami").line(), "mallory");
    }
    assert_eq!(demo.visitor().get("/stats").json()["counters"]["cross_site"], 0);
}

/// Links from other sites work and have the session, because `SameSite=Lax` permits the cookie.
#[test]
fn safe_requests_pass_from_anywhere() {
    let demo = Demo::start(&[]);
    let mut ada = demo.visitor();
    ada.post("/login", "username=ada").expect(303);
    for headers in FOREIGN {
        let answer = send(&ada, ("GET", "/whoami", "", &[]), headers, &demo.address.to_string());
        assert_eq!(answer.expect(200).line(), "ada");
        send(&ada, ("HEAD", "/", "", &[]), headers, "").expect(200);
        send(&ada, ("OPTIONS", "/", "", &[]), headers, "").expect(405);
    }
}

#[test]
fn a_trusted_origin_may_send_to_the_paths_that_are_named_for_it() {
    let trusting = File::new(
        "trusting",
        "[cross_site.trusted]\n\
         \"https://idp.example\" = [\"/login\"]\n\
         \"http://app.example:3000\" = [\"/values/*\", \"/flash\"]\n\
         \"null\" = [\"/flash\"]\n\
         [url]\n\
         origin = \"https://shop.example\"",
    );
    let demo = Demo::start(&["--config", trusting.path()]);
    for (origin, trusted) in [
        ("https://idp.example", &["/login"][..]),
        ("https://idp.example:443", &["/login"]),
        ("http://idp.example", &[]),
        ("https://idp.example.evil", &[]),
        ("http://app.example:3000", &["/values/x", "/flash"]),
        ("http://app.example", &[]),
        ("null", &["/flash"]),
    ] {
        for site in ["", "Sec-Fetch-Site: cross-site\r\n", "Sec-Fetch-Site: same-site\r\n"] {
            let headers = format!("{site}Origin: {origin}\r\n");
            for (method, target, body, passed) in [
                ("POST", "/login", "username=ada", 303),
                ("POST", "/login/", "username=ada", 404),
                ("PUT", "/values/x", "1", 204),
                ("POST", "/flash", "hello", 204),
                ("POST", "/flash/", "hello", 404),
            ] {
                let answer = demo.visitor().send_with(method, target, &headers, body);
                match trusted.contains(&target) {
                    true => assert_eq!(answer.status, passed, "{headers} {target}"),
                    false => refused(answer),
                }
            }
        }
    }
    // A proxy changed the `Host`, and the configuration has the public origin.
    let own = "Origin: https://shop.example\r\n";
    demo.visitor().send_with("POST", "/login", own, "username=ada").expect(303);
}

#[test]
fn the_check_can_be_turned_off() {
    let off = File::new("unchecked", "[cross_site]\nrefuse = false");
    let demo = Demo::start(&["--config", off.path()]);
    for headers in FOREIGN {
        let answer = send(&demo.visitor(), UNSAFE[0], headers, &demo.address.to_string());
        assert!(answer.expect(303).header("set-cookie").is_some());
    }
}

/// Another site can't make a browser send a custom header, or a URL with an id that it doesn't know.
#[test]
fn ids_in_headers_need_no_check_and_ids_in_urls_have_it_all_the_same() {
    let demo = Demo::start(&["--transport", "header"]);
    let foreign = "Sec-Fetch-Site: cross-site\r\nOrigin: https://app.example\r\n";
    let answer = demo.visitor().send_with("POST", "/login", foreign, "username=ada").expect(303);
    assert!(answer.header("x-session-id").is_some());

    for transport in ["url", "auto"] {
        let demo = Demo::start(&["--transport", transport]);
        let own = &demo.address.to_string();
        let page = demo.visitor().get("/").expect(200);
        assert_eq!(page.header("referrer-policy"), Some("same-origin"), "or it is `Origin: null`");
        let login = form(&page.body, "/login");
        let request = ("POST", login.as_str(), "username=ada", &[][..]);
        for headers in FOREIGN {
            refused(send(&demo.visitor(), request, headers, own));
        }
        assert_eq!(demo.visitor().get(&link(&page.body, "/whoami")).line(), "anonymous");
        for headers in OWN {
            // Each login gives the session a new id, so each needs a new page.
            let page = demo.visitor().get("/").expect(200).body;
            let request = ("POST", &*form(&page, "/login"), "username=ada", &[][..]);
            let answer = send(&demo.visitor(), request, headers, own).expect(303);
            let home = answer.header("location").expect("the page").to_owned();
            let page = demo.visitor().get(&home).expect(200).body;
            assert!(page.contains("<dd id=\"username\">ada</dd>"), "{page}");
        }
    }
}

/// A site with a page that posts a login to a demo when it is opened, and a page that does so invisibly
/// and opens a WebSocket.
fn attacker(demo: String) -> Site {
    Site::start(service_fn(move |request: Request<Incoming>| {
        let page = match request.uri().path() {
            "/form" => format!(
                "<form method=post action='http://{demo}/login'>
                 <input name=username value=mallory></form>
                 <script>document.forms[0].submit()</script>"
            ),
            _ => format!(
                "<p id=done></p>
                 <script>
                     const body = new URLSearchParams({{username: 'mallory'}});
                     const options = {{method: 'POST', mode: 'no-cors', credentials: 'include', body}};
                     const sent = fetch('http://{demo}/login', options);
                     const socket = new WebSocket('ws://{demo}/count');
                     const ended = new Promise(then => socket.onclose = then);
                     Promise.allSettled([sent, ended]).then(() => done.append('done'));
                 </script>"
            ),
        };
        std::future::ready(Ok::<_, BoxError>(html(page)))
    }))
}

/// Over plain HTTP a browser sends `Origin` but no `Sec-Fetch-Site`, except for local names, which it
/// trusts like HTTPS. The attacker's host is another site, another origin of the same site, or another
/// site over plain HTTP.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn another_sites_page_logs_nobody_in_and_opens_no_websocket() {
    let plain = File::new("plain", "[cookie]\nname = \"id\"\nsecure = false");
    for (flags, own, other) in [
        (&[][..], "127.0.0.1", "localhost"),
        (&[], "127.0.0.1", "127.0.0.1"),
        (&["--config", plain.path()], "shop.test", "evil.test"),
    ] {
        let demo = Demo::start(flags);
        let host = format!("{own}:{}", demo.address.port());
        let attacker = attacker(host.clone());
        let page = |path| format!("http://{other}:{}{path}", attacker.address.port());
        let browser = Browser::start(&format!("foreign-{own}-{other}"), true);
        let refused = || demo.visitor().get("/stats").json()["counters"]["cross_site"].take();

        // First a stranger, then a logged-in user.
        for name in ["nobody", "ada"] {
            if name == "ada" {
                browser.open(&format!("http://{host}/"));
                browser.type_into("#login input", name);
                browser.click("#login button");
                browser.wait_for("username", name);
            }
            let before = refused().as_u64().expect("a number");
            browser.open(&page("/form"));
            browser.wait_for_element("pre", Error::CrossSite.visitor_text());
            assert_eq!(browser.url(), format!("http://{host}/login"));
            browser.open(&page("/hidden"));
            browser.wait_for("done", "done");
            assert_eq!(refused(), before + 3, "a form, a request of a script, and a WebSocket");
            browser.open(&format!("http://{host}/"));
            browser.wait_for("username", name);
        }
        assert_eq!(demo.sessions(), 1);
        if own == "shop.test" {
            demo.wait_for("an unsafe request without Sec-Fetch-Site was refused");
        }

        // A WebSocket of the demo's own page is not refused as another site's, although the demo has no
        // WebSocket.
        let before = refused();
        browser.open(&format!("http://{host}/whoami"));
        browser.run(
            "return new Promise(then => new WebSocket(`ws://${location.host}/count`).onclose = then)",
        );
        assert_eq!(refused(), before);
        browser.open(&format!("http://{host}/"));
        browser.wait_for("visits", "6");
    }
}

/// Over plain HTTP, the site's own forms are recognized by `Origin`, which is `null` under some
/// `Referrer-Policy` values.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn the_sites_own_forms_pass_over_plain_http() {
    let plain = File::new("own-forms", "[cookie]\nname = \"id\"\nsecure = false");
    for (transport, cookies) in [("cookie", true), ("url", false), ("auto", false)] {
        let demo = Demo::start(&["--config", plain.path(), "--transport", transport]);
        let browser = Browser::start(&format!("own-{transport}"), cookies);
        let host = format!("shop.test:{}", demo.address.port());
        journey_at(&host, &demo, &browser, |browser| {
            assert_eq!(browser.cookies(), usize::from(cookies));
            assert_eq!(browser.url().contains("sid="), !cookies);
        });
        assert_eq!(demo.visitor().get("/stats").json()["counters"]["cross_site"], 0);
    }
}
