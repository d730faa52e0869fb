//! Concurrent requests of one browser around a login: a double click, a request that was under way, a
//! logout.

use std::thread;

use crate::client::{Answer, Client};
use crate::demo::{Demo, SEALED};
#[cfg(unix)]
use crate::files::Directory;
use crate::files::File;

/// Runs a check for each kind of store, each on a new demo: memory, files, the client's cookie, and
/// encrypted memory. The check gets the store's name.
fn on_each_store(check: impl Fn(&Demo, &str)) {
    let on = |name: &str, flags: &[&str]| check(&Demo::start_logging("debug", flags), name);
    on("memory", &[]);
    on("cookie", &SEALED);
    on("encrypted", &["--provider", "encrypted+memory", "--source", "ephemeral=true"]);
    #[cfg(unix)]
    {
        let directory = Directory::new();
        let source = directory.source();
        on("file", &["--provider", "file", "--source", &source]);
    }
}

/// Returns the visitor with the cookie of this response.
fn with_cookie_of(answer: &Answer, visitor: &Client) -> Client {
    let set = answer.header("set-cookie").expect("the login sets a cookie");
    let (pair, _) = set.split_once(';').expect("has attributes");
    let mut visitor = visitor.clone();
    visitor.cookie = Some(pair.to_owned());
    visitor
}

/// Logs in twice at once: both requests have loaded the session before either is done.
fn double_click(demo: &Demo, visitor: &Client, names: [&str; 2]) -> [Answer; 2] {
    thread::scope(|scope| {
        let logins = names.map(|name| {
            let mut visitor = visitor.clone();
            scope.spawn(move || visitor.post("/login?ms=1500", format!("username={name}")))
        });
        demo.wait_for_lines("loaded, waiting", 2);
        logins.map(|login| login.join().expect("is answered").expect(303))
    })
}

#[test]
fn after_a_double_click_on_login_each_cookie_is_logged_in() {
    on_each_store(|demo, store| {
        let mut visitor = demo.visitor();
        visitor.put("/values/cart", "[1,2]").expect(204);
        let answers = double_click(demo, &visitor, ["ada", "ada"]);
        let mut clients = answers.map(|answer| with_cookie_of(&answer, &visitor));
        assert_ne!(clients[0].id(), clients[1].id());
        for client in &mut clients {
            assert_eq!(client.get("/whoami").no_cookie().line(), "ada", "{store}");
            assert_eq!(client.get("/values/cart").no_cookie().line(), "[1,2]", "{store}");
            assert_eq!(client.get("/flash").line(), "[\"welcome ada\"]", "{store}");
        }
        assert_eq!(visitor.get("/whoami").line(), "anonymous", "the old id: {store}");
        assert_eq!(demo.counted().unwrap_or(2), 2, "{store}");
    });
}

/// The later login gets no value from the session of the earlier one.
#[test]
fn two_users_who_log_in_at_once_from_one_browser_get_a_session_each() {
    on_each_store(|demo, store| {
        let mut visitor = demo.visitor();
        visitor.get("/count");
        let names = ["ada", "grace"];
        let answers = double_click(demo, &visitor, names);
        for (name, answer) in names.iter().zip(&answers) {
            let mut client = with_cookie_of(answer, &visitor);
            assert_eq!(client.get("/whoami").line(), *name, "{store}");
            assert_eq!(client.get("/flash").json(), serde_json::json!([format!("welcome {name}")]));
        }
    });
}

/// Returns a visitor who has logged in, and the same visitor with the cookie from before.
fn logged_in(demo: &Demo) -> (Client, Client) {
    let mut visitor = demo.visitor();
    visitor.put("/values/cart", "[1,2]").expect(204);
    let before = visitor.clone();
    visitor.post("/login", "username=ada").expect(303);
    assert_eq!(visitor.get("/flash").line(), "[\"welcome ada\"]");
    (visitor, before)
}

#[test]
fn a_late_request_with_the_id_from_before_the_login_is_mute() {
    on_each_store(|demo, store| {
        let (mut visitor, mut before) = logged_in(demo);
        for target in ["/", "/hello", "/whoami", "/count", "/values", "/flash"] {
            let answer = before.get(target).expect(200).no_cookie();
            assert!(!answer.body.contains("ada"), "{answer:?}");
        }
        assert_eq!(before.get("/count").no_cookie().line(), "1");
        for (method, target, body) in [
            ("PUT", "/values/cart", "[]"),
            ("POST", "/add/n", ""),
            ("POST", "/slow/draft?ms=0", "1"),
            ("POST", "/flash", "x"),
            ("POST", "/remember?on=true", ""),
            ("POST", "/logout", ""),
        ] {
            before.send(method, target, body).expect(409).no_cookie().line();
        }
        // The request asked for a new id, and the session has got one.
        before.post("/regenerate", "").expect(204).no_cookie();
        let values = visitor.get("/values").json();
        let wanted = serde_json::json!({"cart": [1, 2], "username": "ada"});
        assert_eq!(values, wanted, "{store}");
        assert_eq!(demo.counted().unwrap_or(1), 1, "{store}");
    });
}

/// The record has the time of the new id, so every server knows it.
#[cfg(unix)]
#[test]
fn a_late_request_is_mute_at_another_server_too() {
    let directory = Directory::new();
    let source = directory.source();
    let flags = ["--provider", "file", "--source", &source];
    let (one, two) = (Demo::start(&flags), Demo::start(&flags));
    let (visitor, before) = logged_in(&one);
    let at_two = |client: &Client| {
        let mut elsewhere = two.visitor();
        elsewhere.cookie.clone_from(&client.cookie);
        elsewhere
    };
    let (mut visitor, mut before) = (at_two(&visitor), at_two(&before));
    assert_eq!(before.get("/count").expect(200).no_cookie().line(), "1");
    before.put("/values/cart", "[]").expect(409).no_cookie().line();
    before.post("/logout", "").expect(409).no_cookie().line();
    assert_eq!(visitor.get("/whoami").line(), "ada");
    assert_eq!(visitor.get("/values/cart").line(), "[1,2]");
    assert_eq!((one.sessions(), two.sessions()), (1, 1));
}

/// The response to the first login was lost.
#[test]
fn a_login_with_the_id_from_before_the_login_works_and_starts_empty() {
    on_each_store(|demo, store| {
        let (mut visitor, mut before) = logged_in(demo);
        visitor.put("/values/second_factor", "true").expect(204);
        before.post("/login", "username=ada").expect(303);
        assert_ne!(before.id(), visitor.id());
        assert_eq!(before.get("/values").line(), "{\"username\":\"ada\"}", "{store}");
        assert_eq!(visitor.get("/whoami").line(), "ada", "{store}");
    });
}

#[test]
fn after_the_window_a_replaced_id_is_a_strangers() {
    let window = File::new("window", "superseded_for = \"0s\"");
    let demo = Demo::start(&["--config", window.path()]);
    let (mut visitor, mut before) = logged_in(&demo);
    let answer = before.get("/count").expect(200);
    assert_eq!(answer.line(), "1");
    assert!(answer.header("set-cookie").is_some());
    assert_ne!(before.id()[..16], visitor.id()[..16]);
    assert_eq!(visitor.get("/whoami").line(), "ada");
    assert_eq!(demo.sessions(), 2);
}

#[test]
fn a_slow_save_that_a_login_overtook_is_a_conflict_without_a_cookie() {
    on_each_store(|demo, store| {
        let mut visitor = demo.visitor();
        visitor.put("/values/draft", "1").expect(204);
        let mut before = visitor.clone();
        // One request sets the stored value, the other sets another value.
        for (number, draft) in [(1, "1"), (2, "2")] {
            let mut slow = before.clone();
            let answer = thread::scope(|scope| {
                let slow = scope.spawn(move || slow.post("/slow/draft?ms=1500", draft));
                demo.wait_for_lines("loaded, waiting", number);
                visitor.post("/login", "username=ada").expect(303);
                slow.join().expect("is answered")
            });
            answer.expect(409).no_cookie().line();
            assert_eq!(visitor.get("/whoami").line(), "ada", "{store}");
            assert_eq!(visitor.get("/values/draft").line(), "1", "{store}");
            before = visitor.clone();
        }
    });
}

#[test]
fn logouts_at_once_all_succeed_and_clear_the_cookie() {
    on_each_store(|demo, store| {
        let (mut visitor, _) = logged_in(demo);
        let answers: Vec<Answer> = thread::scope(|scope| {
            let logouts: Vec<_> = (0..10)
                .map(|_| {
                    let mut visitor = visitor.clone();
                    scope.spawn(move || visitor.post("/logout", ""))
                })
                .collect();
            logouts.into_iter().map(|logout| logout.join().expect("is answered")).collect()
        });
        for answer in answers {
            let answer = answer.expect(303);
            let set = answer.header("set-cookie").expect("the cookie is cleared");
            assert!(set.starts_with("__Host-id=;"), "{set}");
        }
        assert_eq!(visitor.get("/whoami").line(), "anonymous", "{store}");
        assert_eq!(demo.counted().unwrap_or(0), 0, "{store}");
    });
}

/// The values of the ended session do not come back.
#[test]
fn a_login_that_loses_to_a_logout_starts_empty() {
    let demo = Demo::start_logging("debug", &[]);
    let mut visitor = demo.visitor();
    visitor.get("/count");
    let mut before = visitor.clone();
    let answer = thread::scope(|scope| {
        let login = scope.spawn(|| visitor.post("/login?ms=1500", "username=ada"));
        demo.wait_for("loaded, waiting");
        before.post("/logout", "").expect(303);
        login.join().expect("is answered")
    });
    answer.expect(303);
    assert_eq!(visitor.get("/values").line(), "{\"username\":\"ada\"}");
    assert_eq!(demo.sessions(), 1);
}
