//! Values as JSON.

use crate::client::COOKIE;
use crate::demo::Demo;

#[test]
fn what_is_put_comes_back() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    for document in [
        "null",
        "true",
        "0",
        "-9223372036854775808",
        "9223372036854775807",
        "18446744073709551615",
        "1.5",
        "0.30000000000000004",
        "1.7976931348623157e308",
        "5e-324",
        "\"\"",
        r#""text with \" and \u0000 and é and 🦀""#,
        "[]",
        "{}",
        r#"{"a":[1,{"b":[null,false]}],"":{"c":"d"}}"#,
    ] {
        visitor.put("/values/key", document).expect(204);
        let wanted: serde_json::Value = serde_json::from_str(document).expect("JSON");
        assert_eq!(visitor.get("/values/key").expect(200).json(), wanted);
        assert_eq!(visitor.get("/values").json()["key"], wanted);
    }
    assert_eq!(visitor.get("/values/key").header("content-type"), Some("application/json"));
}

#[test]
fn keys_are_percent_decoded() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    let keys = [
        ("", ""),
        ("a%2Fb", "a/b"),
        ("a+b", "a+b"),
        ("%00x", "\0x"),
        ("%00", "\0"),
        ("%C3%A9%2e$", "é.$"),
        ("%25zz", "%zz"),
    ];
    for (number, (encoded, _)) in keys.iter().enumerate() {
        visitor.put(&format!("/values/{encoded}"), number.to_string()).expect(204);
    }
    let all = visitor.get("/values").json();
    assert_eq!(all.as_object().expect("an object").len(), keys.len());
    for (number, (encoded, key)) in keys.iter().enumerate() {
        assert_eq!(all[key], number);
        let target = format!("/values/{encoded}");
        assert_eq!(visitor.get(&target).line(), number.to_string());
        visitor.send("DELETE", &target, "").expect(204);
        visitor.get(&target).expect(404);
        visitor.send("DELETE", &target, "").expect(404);
    }
    for bad in ["%zz", "%", "%ff", "a%2"] {
        visitor.get(&format!("/values/{bad}")).expect(400).line();
        visitor.put(&format!("/values/{bad}"), "1").expect(400);
        visitor.post(&format!("/add/{bad}"), "").expect(400);
        visitor.post(&format!("/slow/{bad}?ms=0"), "1").expect(400);
    }
}

#[test]
fn bodies_that_are_not_json_are_refused() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    for body in ["", "tru", "{a:1}", "[1,]", "1 2", "\u{0}", "NaN"] {
        visitor.put("/values/key", body).expect(400).no_cookie().line();
        visitor.post("/slow/key?ms=0", body).expect(400).no_cookie().line();
    }
    visitor.put("/values/key", b"\"\xff\"").expect(400).no_cookie();
    visitor.put("/values/key", "[".repeat(500_000)).expect(400).no_cookie();
    assert_eq!(demo.sessions(), 0);
}

#[test]
fn what_is_over_the_limits_is_refused_and_nothing_is_lost() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.put("/values/kept", "1").expect(204);
    let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    visitor.put("/values/deep", nested(64)).expect(204);
    for body in [
        nested(65),
        nested(127),
        nested(128),
        nested(400_000),
        format!("\"{}\"", "x".repeat(66_000)),
        format!("\"{}\"", "x".repeat(1_048_575)),
        format!("\"{}\"", "x".repeat(3_000_000)),
    ] {
        visitor.put("/values/large", body).expect(413).no_cookie().line();
    }
    let value = format!("\"{}\"", "v".repeat(200));
    visitor.put(&format!("/values/{}", "k".repeat(65_400)), value).expect(413).no_cookie();
    visitor.post("/flash", "x".repeat(66_000)).expect(413).no_cookie();
    visitor.get("/values/large").expect(404);
    for key in 2..1024 {
        visitor.put(&format!("/values/{key}"), "1").expect(204);
    }
    visitor.put("/values/one-more", "1").expect(413).no_cookie();
    visitor.put("/values/kept", "2").expect(204);
    assert_eq!(visitor.get("/values").json().as_object().expect("an object").len(), 1024);
    assert_eq!(visitor.get("/values/kept").line(), "2");
}

#[test]
fn adding_is_exact_over_both_ranges_and_refuses_what_is_no_whole_number() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    assert_eq!(visitor.post("/add/n", "").line(), "1");
    assert_eq!(visitor.post("/add/n?n=41", "").line(), "42");
    assert_eq!(visitor.post("/add/n?n=-43", "").line(), "-1");
    assert_eq!(visitor.post("/add/", "").line(), "1");
    visitor.put("/values/n", "18446744073709551614").expect(204);
    assert_eq!(visitor.post("/add/n", "").line(), "18446744073709551615");
    visitor.post("/add/n", "").expect(409).line();
    visitor.put("/values/n", "-9223372036854775808").expect(204);
    visitor.post("/add/n?n=-1", "").expect(409).line();
    for value in ["1.5", "\"1\"", "null", "[]"] {
        visitor.put("/values/n", value).expect(204);
        visitor.post("/add/n", "").expect(409).no_cookie().line();
        assert_eq!(visitor.get("/values/n").line(), value);
    }
    for n in ["", "x", "1.0", "9223372036854775808", "%zz", "1&n=1"] {
        visitor.post(&format!("/add/m?n={n}"), "").expect(400).no_cookie().line();
    }
    visitor.get("/values/m").expect(404);
}

#[test]
fn messages_come_once_and_in_order_and_are_no_values() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    for message in ["one", "<b>two</b>", "a=b&c=d", ""] {
        visitor.post("/flash", message).expect(204);
    }
    assert_eq!(visitor.get("/values").line(), "{}");
    visitor.get("/values/%00flash.message").expect(404);
    visitor.send("DELETE", "/values/%00flash.message", "").expect(404);
    let answer = visitor.get("/flash").expect(200).no_cookie();
    assert_eq!(answer.json(), serde_json::json!(["one", "<b>two</b>", "a=b&c=d", ""]));
    assert_eq!(visitor.get("/flash").line(), "[]");

    // Nobody may see the responses to these requests.
    visitor.post("/flash", "four").expect(204);
    for target in ["/flash", "/"] {
        visitor.send("HEAD", target, "").expect(200);
        let cookie = format!("Cookie: {COOKIE}={}\r\n", visitor.id());
        for purpose in ["prefetch", "prefetch;prerender"] {
            let ahead = format!("{cookie}Sec-Purpose: {purpose}\r\n");
            let answer = visitor.send_with("GET", target, ahead, "").expect(200);
            assert!(!answer.body.contains("four"), "{answer:?}");
        }
    }
    assert_eq!(visitor.get("/flash").line(), "[\"four\"]");

    visitor.post("/flash?form=message", "message=%3Ci%3Ethree+%26%3C%2Fi%3E").expect(303);
    let page = visitor.get("/").body;
    assert!(page.contains("<li>&lt;i&gt;three &amp;&lt;/i&gt;</li>"), "{page}");
    assert!(!visitor.get("/").body.contains("three"));
}
