//! A user sees their sessions in all browsers, and ends them.

use serde_json::Value;

use crate::client::Client;
use crate::demo::{Demo, SEALED};
use crate::webdriver::Browser;

fn log_in(demo: &Demo, name: &str, agent: &str) -> Client {
    let mut visitor = demo.visitor();
    let headers = format!("User-Agent: {agent}\r\n");
    let answer = visitor.send_with("POST", "/login", headers, format!("username={name}"));
    let cookie = answer.expect(303).header("set-cookie").expect("is logged in").to_owned();
    visitor.cookie = cookie.split(';').next().map(str::to_owned);
    visitor
}

fn listed(visitor: &mut Client) -> Vec<Value> {
    let list = visitor.get("/sessions").expect(200).json();
    list.as_array().expect("an array").clone()
}

fn key(visitor: &Client) -> String {
    visitor.id()[..16].to_owned()
}

#[test]
fn the_sessions_of_whoever_is_logged_in_are_listed_newest_login_first() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    assert_eq!(visitor.get("/sessions").expect(303).no_cookie().header("location"), Some("/login"));
    let long = "x".repeat(150);
    let mut phone = log_in(&demo, "ada", "Phone & <b>");
    let desk = log_in(&demo, "ada", &long);
    log_in(&demo, "bob", "Desk");
    let list = listed(&mut phone);
    let keys: Vec<_> = list.iter().map(|session| session["key"].as_str().unwrap()).collect();
    let mut wanted = [key(&phone), key(&desk)];
    let mut shown = keys.clone();
    // Both have the same second, so their order is undefined.
    wanted.sort();
    shown.sort();
    assert_eq!(shown, wanted);
    for session in &list {
        let is_phone = session["key"] == key(&phone);
        assert_eq!(session["current"], is_phone);
        let label = session["label"].as_str().unwrap();
        assert_eq!(label, if is_phone { "Phone & <b>" } else { &long[..100] });
        let [created, used, expires] =
            ["created", "used", "expires"].map(|name| session[name].as_u64().unwrap());
        assert!(created <= used && used < expires && expires <= used + 1800, "{session}");
    }
    // The page shows the sessions as well, and escapes the `User-Agent`.
    let page = phone.get("/").expect(200).body;
    assert!(page.contains("Phone &amp; &lt;b&gt; (this one)"), "{page}");
    assert!(!demo.visitor().get("/").body.contains("id=\"sessions\""));
}

#[test]
fn one_of_ones_own_sessions_can_be_ended_and_no_other() {
    let demo = Demo::start(&[]);
    let (mut phone, mut desk, mut bob) =
        (log_in(&demo, "ada", "a"), log_in(&demo, "ada", "b"), log_in(&demo, "bob", "c"));
    for target in [key(&bob), "AAECAwQFBgcICQoL".into(), "x".into(), String::new()] {
        phone.post(&format!("/sessions/{target}/end"), "").expect(404);
    }
    demo.visitor().post(&format!("/sessions/{}/end", key(&desk)), "").expect(404).no_cookie();
    assert_eq!(desk.get("/whoami").line(), "ada");
    let ended = phone.post(&format!("/sessions/{}/end", key(&desk)), "").expect(303);
    assert_eq!(ended.no_cookie().header("location"), Some("/"));
    assert_eq!(desk.get("/whoami").line(), "anonymous");
    assert_eq!(listed(&mut phone).len(), 1);
    // Ending the request's own session is a logout.
    let own = format!("/sessions/{}/end", key(&phone));
    assert!(phone.post(&own, "").expect(303).header("set-cookie").is_some());
    assert_eq!((phone.cookie, bob.get("/whoami").line()), (None, "bob"));
    bob.get("/sessions/x/end").expect(405);
}

#[test]
fn all_others_can_be_ended() {
    let demo = Demo::start(&[]);
    let mut visitors: Vec<_> = (0..5).map(|n| log_in(&demo, "ada", &n.to_string())).collect();
    let mut bob = log_in(&demo, "bob", "");
    visitors[2].post("/sessions/end-others", "").expect(303).no_cookie();
    for (at, visitor) in visitors.iter_mut().enumerate() {
        let name = if at == 2 { "ada" } else { "anonymous" };
        assert_eq!(visitor.get("/whoami").line(), name);
    }
    assert_eq!(bob.get("/whoami").line(), "bob");
    demo.visitor().post("/sessions/end-others", "").expect(303).no_cookie();
}

#[test]
fn a_provider_that_keeps_no_list_says_so() {
    let demo = Demo::start(&SEALED);
    let mut visitor = log_in(&demo, "ada", "");
    visitor.get("/sessions").expect(501).line();
    visitor.post("/sessions/end-others", "").expect(501);
    assert!(!visitor.get("/").expect(200).body.contains("id=\"sessions\""));
}

/// Returns a script that fails unless the table has this many rows.
fn rows(count: usize) -> String {
    format!(
        "const rows = document.querySelectorAll('#sessions tbody tr').length;
         if (rows !== {count}) throw `${{rows}} rows`;"
    )
}

/// One browser of a user ends the session of the user's other browser by a button. The other browser is
/// anonymous from then on.
#[test]
#[ignore = "needs chromium and its driver: run scripts/test"]
fn a_browser_ends_the_session_of_another_one() {
    let demo = Demo::start(&[]);
    let home = format!("http://{}/", demo.address);
    let [here, there] = ["devices-here", "devices-there"].map(|name| Browser::start(name, true));
    for browser in [&here, &there] {
        browser.open(&home);
        browser.type_into("#login input", "Ada");
        browser.click("#login button");
        browser.wait_for("username", "Ada");
    }
    here.reload();
    here.wait_for("username", "Ada");
    here.run(&rows(2));
    // The row without a mark is the other browser's.
    here.run(
        "[...document.querySelectorAll('#sessions tbody tr')]
            .find(row => !row.textContent.includes('this one'))
            .querySelector('button').click()",
    );
    here.wait_for_element("h1", "Session demo");
    there.reload();
    there.wait_for("username", "nobody");
    here.open(&home);
    here.wait_for("username", "Ada");
    here.run(&rows(1));
}
