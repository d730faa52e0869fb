//! The demo with sessions that are sealed in the client's cookie.

use crate::demo::{Demo, SEALED, run};

#[test]
fn counting_logging_in_and_out_work_as_with_any_provider() {
    let demo = Demo::start(&SEALED);
    let mut visitor = demo.visitor();
    for visit in 1..=20 {
        assert_eq!(visitor.get("/count").line(), visit.to_string());
    }
    visitor.put("/values/cart", "{\"tea\":2}").expect(204);
    let before = visitor.id();
    visitor.post("/login", "username=Ada").expect(303);
    assert_eq!(visitor.get("/whoami").no_cookie().line(), "Ada");
    assert_eq!(visitor.get("/values/cart").no_cookie().line(), "{\"tea\":2}");
    assert_eq!(visitor.get("/flash").line(), "[\"welcome Ada\"]");
    assert_eq!(visitor.with_id(&before).get("/whoami").no_cookie().line(), "anonymous");

    let logged_in = visitor.id();
    visitor.post("/logout", "").expect(303);
    assert_eq!(visitor.get("/whoami").line(), "anonymous");
    for replayed in [before, logged_in] {
        let mut thief = visitor.with_id(&replayed);
        assert_eq!(thief.get("/whoami").no_cookie().line(), "anonymous", "replayed after logout");
    }
    assert_eq!(demo.counted(), None, "nobody can count what is at the clients");
}

#[test]
fn more_than_a_cookie_holds_is_refused_and_the_session_stays() {
    let demo = Demo::start(&SEALED);
    let mut visitor = demo.visitor();
    visitor.put("/values/small", "1").expect(204);
    let large = format!("\"{}\"", "x".repeat(4_000));
    visitor.put("/values/large", &large).expect(413).no_cookie().line();
    assert_eq!(visitor.get("/values").line(), "{\"small\":1}");
}

#[test]
fn without_a_key_it_says_what_to_do() {
    for (arguments, says) in [
        (&["--provider", "cookie"][..], "there is no key"),
        (&["--provider", "cookie", "--source", "key=short"], "session-key"),
        (&["--provider", "encrypted+memory"], "there is no key"),
        (&["--provider", "cookie", "--source", "ephemeral=true", "--transport", "url"], "URLs"),
    ] {
        let (status, _, stderr) = run(arguments);
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(says) && stderr.trim_end().lines().count() == 1, "{stderr}");
    }
}

/// The command `session-key` prints a valid key.
#[test]
fn a_fresh_key_opens_the_demo() {
    let fresh = || {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_session-key")).output();
        String::from_utf8(output.expect("it runs").stdout).expect("UTF-8").trim().to_owned()
    };
    let (key, other) = (fresh(), fresh());
    assert_eq!(key.len(), 43);
    assert_ne!(key, other);
    let source = format!("key={key}&key={other}");
    let demo = Demo::start(&["--provider", "signed+memory", "--source", &source]);
    let mut visitor = demo.visitor();
    visitor.get("/count");
    assert_eq!(visitor.get("/count").line(), "2");
    assert_eq!(visitor.id().len(), 67);
}
