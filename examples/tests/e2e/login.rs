//! Login and logout.

use crate::demo::Demo;

#[test]
fn logging_in_changes_the_id_and_the_old_one_is_dead() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.put("/values/cart", "[1,2]").expect(204);
    let old = visitor.id();
    assert_eq!(visitor.get("/private").expect(303).header("location"), Some("/login"));

    let answer = visitor.post("/login", "username=Ada+L%C3%B6velace").expect(303);
    assert_eq!(answer.header("location"), Some("/"));
    assert!(answer.header("set-cookie").is_some());
    assert_ne!(visitor.id(), old);
    assert_eq!(visitor.get("/whoami").no_cookie().line(), "Ada Lövelace");
    assert!(visitor.get("/private").expect(200).line().contains("Ada Lövelace"));
    assert_eq!(visitor.get("/values/cart").line(), "[1,2]");
    assert_eq!(visitor.get("/flash").line(), "[\"welcome Ada Lövelace\"]");

    let mut thief = visitor.with_id(&old);
    assert_eq!(thief.get("/whoami").no_cookie().line(), "anonymous");
    assert_eq!(thief.get("/values").line(), "{}");
}

#[test]
fn a_name_that_is_no_name_is_refused_and_leaves_no_trace() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    for form in
        ["", "username=", "username=+%09", "name=ada", "username=%zz", "username=a&username=b"]
    {
        visitor.post("/login", form).expect(400).no_cookie().line();
    }
    for ms in ["", "-1", "60001", "x", "1.5"] {
        visitor.post(&format!("/login?ms={ms}"), "username=ada").expect(400).no_cookie().line();
    }
    visitor.post("/login", b"username=\xff").expect(400).no_cookie();
    assert_eq!(demo.sessions(), 0);
}

#[test]
fn a_name_over_the_limits_is_refused_and_the_session_stays() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    let endless = format!("username={}", "a".repeat(70_000));
    visitor.post("/login", &endless).expect(413).no_cookie().line();
    assert_eq!(demo.sessions(), 0);
    visitor.get("/count");
    let id = visitor.id();
    // An owner may have at most 1,024 bytes.
    for name in [endless, format!("username={}", "a".repeat(1_025))] {
        visitor.post("/login", name).expect(413).no_cookie();
    }
    assert_eq!(visitor.id(), id);
    assert_eq!(visitor.get("/whoami").line(), "anonymous");
    assert_eq!(visitor.get("/count").line(), "2");
}

/// The welcome message doesn't fit beside the name, but the login succeeds.
#[test]
fn a_name_that_leaves_no_room_for_the_message_logs_in_all_the_same() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.put("/values/draft", format!("\"{}\"", "x".repeat(64_000))).expect(204);
    let old = visitor.id();
    visitor.post("/login", format!("username={}", "a".repeat(1_000))).expect(303);
    assert_ne!(visitor.id(), old);
    assert_eq!(visitor.get("/whoami").line().len(), 1_000);
    assert_eq!(visitor.get("/flash").line(), "[]");
}

#[test]
fn logging_out_ends_the_session_and_clears_the_cookie() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let old = visitor.id();
    let answer = visitor.post("/logout", "").expect(303);
    assert_eq!(answer.header("location"), Some("/"));
    assert_eq!(answer.header("set-cookie"), Some(CLEARED));
    assert_eq!(demo.sessions(), 0);
    assert_eq!(visitor.with_id(&old).get("/whoami").line(), "anonymous");
}

const CLEARED: &str = "__Host-id=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0; \
                       Expires=Thu, 01 Jan 1970 00:00:00 GMT";

#[test]
fn logging_out_clears_a_cookie_that_opens_nothing() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let ended = visitor.id();
    visitor.post("/logout", "").expect(303);
    let unknown = "A".repeat(43);
    for id in [ended.as_str(), &unknown, "malformed", ""] {
        let answer = visitor.with_id(id).post("/logout", "").expect(303);
        assert_eq!(answer.header("set-cookie"), Some(CLEARED), "{id:?}");
    }
    // Without a cookie there is nothing to clear.
    visitor.post("/logout", "").expect(303).no_cookie();
}

#[test]
fn greeting_leaves_headers_and_sessions_alone() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    let answer = visitor.get("/hello").expect(200).no_cookie();
    assert_eq!(answer.line(), "hello stranger");
    assert_eq!(answer.header("content-type"), None);
    assert_eq!(demo.sessions(), 0);
    visitor.post("/login", "username=Ada+L%C3%B6velace").expect(303);
    assert_eq!(visitor.get("/hello").expect(200).no_cookie().line(), "hello Ada Lövelace");
}

#[test]
fn another_users_login_starts_empty() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.post("/login", "username=ada").expect(303);
    visitor.put("/values/cart", "[1]").expect(204);
    visitor.post("/login", "username=ada").expect(303);
    assert_eq!(visitor.get("/values/cart").expect(200).line(), "[1]");
    visitor.post("/login", "username=grace").expect(303);
    assert_eq!(visitor.get("/values").line(), "{\"username\":\"grace\"}");
    assert_eq!(visitor.get("/flash").line(), "[\"welcome grace\"]");
    assert_eq!(demo.sessions(), 1);
}

#[test]
fn regenerating_keeps_the_values_under_a_new_id() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.post("/regenerate", "").expect(204).no_cookie();
    visitor.get("/count");
    let old = visitor.id();
    visitor.post("/regenerate", "").expect(204);
    assert_ne!(visitor.id(), old);
    assert_eq!(visitor.get("/count").line(), "2");
    assert_eq!(visitor.with_id(&old).get("/values").line(), "{}");
    assert_eq!(demo.sessions(), 1);
}

#[test]
fn remembering_makes_the_cookie_persistent_and_back() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.get("/count");
    for (on, persistent) in [("true", true), ("false", false), ("true", true)] {
        let answer = visitor.post(&format!("/remember?on={on}"), "").expect(204);
        let cookie = answer.header("set-cookie").expect("the client is told");
        // The default is 30 days.
        assert_eq!(cookie.contains("Max-Age=259"), persistent, "{cookie}");
        assert_eq!(cookie.contains("Max-Age"), persistent, "{cookie}");
    }
    visitor.post("/remember?on=true", "").expect(204).no_cookie();
    for target in ["/remember", "/remember?on=", "/remember?on=yes", "/remember?on=1"] {
        visitor.post(target, "").expect(400).line();
    }
}
