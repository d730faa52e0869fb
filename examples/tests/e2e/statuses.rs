//! The responses of every route.

use crate::demo::Demo;

/// Requests that don't start a session.
const UNTOUCHED: &[(&str, &str, u16)] = &[
    ("GET", "/whoami", 200),
    ("GET", "/hello", 200),
    ("GET", "/private", 303),
    ("GET", "/login", 200),
    ("GET", "/values", 200),
    ("GET", "/values/", 404),
    ("GET", "/values/x", 404),
    ("GET", "/flash", 200),
    ("GET", "/stats", 200),
    ("HEAD", "/whoami", 200),
    ("HEAD", "/hello", 200),
    ("HEAD", "/private", 303),
    ("HEAD", "/login", 200),
    ("HEAD", "/values", 200),
    ("HEAD", "/values/x", 404),
    ("HEAD", "/flash", 200),
    ("HEAD", "/stats", 200),
    ("POST", "/logout", 303),
    ("POST", "/regenerate", 204),
    ("DELETE", "/values/x", 404),
    ("PUT", "/values/x", 400),
    ("POST", "/login", 400),
    ("POST", "/slow/x?ms=0", 400),
    ("POST", "/add/x?n=x", 400),
    ("POST", "/remember", 400),
    ("POST", "/flash?form=message", 400),
    ("GET", "/nothing", 404),
    ("GET", "/count/", 404),
    ("GET", "//count", 404),
    ("GET", "/values/a/b", 404),
    ("GET", "/%63ount", 404),
    ("POST", "/nothing", 404),
];

#[test]
fn many_requests_leave_a_visitor_without_a_session_as_he_is() {
    let demo = Demo::start(&[]);
    for (method, target, status) in UNTOUCHED {
        let answer = demo.visitor().send(method, target, "").expect(*status).no_cookie();
        if *method == "HEAD" {
            assert_eq!(answer.body, "", "{target}");
        }
    }
    assert_eq!(demo.visitor().get("/whoami").line(), "anonymous");
    assert_eq!(demo.visitor().get("/values").line(), "{}");
    assert_eq!(demo.visitor().get("/flash").line(), "[]");
    let stats = demo.visitor().get("/stats").json();
    assert_eq!(stats["provider"], "memory");
    assert_eq!(stats["sessions"], 0);
    assert_eq!(stats["counters"]["created"], 0);
}

#[test]
fn a_wrong_method_is_told_the_right_ones() {
    let demo = Demo::start(&[]);
    for (allowed, targets) in [
        ("GET, HEAD", &["/", "/count", "/whoami", "/hello", "/private", "/values", "/stats"][..]),
        ("GET, HEAD, POST", &["/login", "/flash"]),
        ("GET, HEAD, PUT, DELETE", &["/values/x", "/values/"]),
        ("POST", &["/logout", "/add/x", "/slow/x", "/regenerate", "/remember"]),
    ] {
        for target in targets {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get"] {
                if allowed.split(", ").any(|name| name == method) {
                    continue;
                }
                let answer = demo.visitor().send(method, target, "").expect(405).no_cookie();
                assert_eq!(answer.header("allow"), Some(allowed), "{method} {target}");
            }
        }
    }
    assert_eq!(demo.sessions(), 0);
}

#[test]
fn a_query_is_ignored_where_none_is_meant() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    assert_eq!(visitor.get("/count?%zz&n=x&sid=x").line(), "1");
    assert_eq!(visitor.get("/count?").line(), "2");
    visitor.put("/values/x?y=z", "1").expect(204);
    assert_eq!(visitor.get("/values/x?").line(), "1");
}

#[test]
fn a_full_store_is_a_503_without_a_cookie() {
    let demo = Demo::start(&["--source", "max_sessions=1"]);
    let mut first = demo.visitor();
    first.get("/count").expect(200);
    // A session whose client came back is not evicted.
    first.get("/whoami").expect(200);
    let mut second = demo.visitor();
    for (method, target, body) in [
        ("GET", "/count", ""),
        ("GET", "/", ""),
        ("POST", "/login", "username=ada"),
        ("PUT", "/values/x", "1"),
        ("POST", "/add/x", ""),
        ("POST", "/slow/x?ms=0", "1"),
        ("POST", "/flash", "x"),
    ] {
        second.send(method, target, body).expect(503).no_cookie().line();
    }
    assert_eq!(second.get("/whoami").line(), "anonymous");
    assert_eq!(first.get("/count").line(), "2");
}

#[test]
fn a_store_full_of_visitors_who_never_came_back_refuses_nobody() {
    let demo = Demo::start(&["--source", "max_sessions=2"]);
    let mut user = demo.visitor();
    user.post("/login", "username=ada").expect(303);
    for _ in 0..10 {
        demo.visitor().get("/count").expect(200);
    }
    assert_eq!(user.get("/whoami").line(), "ada");
    let mut another = demo.visitor();
    another.post("/login", "username=grace").expect(303);
    assert_eq!(another.get("/whoami").line(), "grace");
    demo.visitor().get("/count").expect(503).no_cookie();
}

#[test]
fn the_page_has_no_script_and_names_its_parts() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.post("/login", "username=%3Cscript%3E%22").expect(303);
    let answer = visitor.get("/").expect(200);
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    let page = answer.body;
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("<html lang=\"en\">") && page.contains("<title>"));
    assert!(page.contains("<dd id=\"username\">&lt;script&gt;&quot;</dd>"), "{page}");
    assert!(page.contains("<li>welcome &lt;script&gt;&quot;</li>"));
    assert!(page.contains("<dd id=\"provider\">memory</dd>"));
}
