//! The visit counter.

use crate::demo::Demo;

#[test]
fn a_thousand_visits_are_numbered_from_one_to_a_thousand() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    for visit in 1..=1000 {
        let answer = visitor.get("/count").expect(200);
        assert_eq!(answer.line(), visit.to_string());
        assert_eq!(answer.header("set-cookie").is_some(), visit == 1);
    }
    assert_eq!(demo.sessions(), 1);
}

#[test]
fn the_first_visit_sets_one_cookie_with_the_default_attributes() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    let answer = visitor.get("/count");
    let cookie = answer.header("set-cookie").expect("a new session");
    let wanted = format!("__Host-id={}; Path=/; Secure; HttpOnly; SameSite=Lax", visitor.id());
    assert_eq!(cookie, wanted);
    assert_eq!(visitor.id().len(), 43);
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(answer.header("vary"), Some("Cookie"));
}

#[test]
fn the_page_and_head_count_as_well() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    assert!(visitor.get("/").body.contains("<dd id=\"visits\">1</dd>"));
    for target in ["/count", "/"] {
        let answer = visitor.send("HEAD", target, "").expect(200);
        assert_eq!(answer.body, "");
    }
    assert_eq!(visitor.get("/count").line(), "4");
}

#[test]
fn after_six_minutes_the_session_is_replaced_within_the_request() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.get("/count");
    visitor.put("/values/note", "1").expect(204);
    let old = visitor.id();
    visitor.put("/values/createtime", "1").expect(204);

    let answer = visitor.get("/count").expect(200);
    assert_eq!(answer.line(), "1");
    assert!(answer.header("set-cookie").is_some());
    assert_ne!(visitor.id(), old);
    let values = visitor.get("/values").json();
    assert_eq!(values["count"], 1);
    assert!(values["createtime"].as_u64().expect("unix seconds") > 1_700_000_000);
    assert_eq!(values.get("note"), None);
    assert_eq!(visitor.with_id(&old).get("/values").no_cookie().line(), "{}");
    assert_eq!(demo.sessions(), 1);
}

#[test]
fn a_begin_that_is_not_a_whole_number_is_a_conflict() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    for value in ["\"yesterday\"", "1.5", "null", "[1]"] {
        visitor.put("/values/createtime", value).expect(204);
        assert!(!visitor.get("/count").expect(409).no_cookie().line().is_empty());
    }
    visitor.put("/values/createtime", "18446744073709551615").expect(204);
    visitor.get("/count").expect(200);
}
