//! Malicious requests. The visitor is anonymous, and the demo keeps running.

use crate::client::{COOKIE, Client};
use crate::demo::Demo;

/// Texts that are not valid ids, to be sent as ids.
fn not_ids() -> Vec<Vec<u8>> {
    let id = "A".repeat(43);
    let mut texts: Vec<Vec<u8>> = [
        "",
        "=",
        "\"\"",
        "../../etc/passwd",
        "..%2f",
        "..%2f..%2fetc%2fpasswd",
        "CON",
        "{\"$gt\":\"\"}",
        "null",
        "0",
        "．．／",
        &id[1..],
        &format!("{id}A"),
        &format!("{id}="),
        &format!("{}=", &id[1..]),
        &format!("\"{id}\""),
        &format!("{}%41", &id[1..]),
        &format!("{},{}", &id[..21], &id[..21]),
        &format!("{} {}", &id[..21], &id[..21]),
        &format!("{}B", &id[1..]), // its last bits are not zero
        &format!("{}+", &id[1..]),
        &format!("{}/", &id[1..]),
        &format!("{}é", &id[2..]),
        &id.repeat(500),
    ]
    .into_iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    texts.push([&b"\xff\xfe"[..], &id.as_bytes()[2..]].concat());
    texts
}

/// Checks that a request with these header lines is anonymous.
fn is_anonymous(demo: &Demo, headers: &[u8]) {
    let shown = String::from_utf8_lossy(headers);
    let answer = demo.visitor().send_with("GET", "/whoami", headers, "").expect(200).no_cookie();
    assert_eq!(answer.line(), "anonymous", "{shown}");
    let answer = demo.visitor().send_with("GET", "/values", headers, "").expect(200).no_cookie();
    assert_eq!(answer.line(), "{}", "{shown}");
    let answer = demo.visitor().send_with("GET", "/count", headers, "").expect(200);
    assert_eq!(answer.line(), "1", "{shown}");
    assert!(answer.header("set-cookie").is_some());
}

fn cookie(text: &[u8]) -> Vec<u8> {
    [format!("Cookie: {COOKIE}=").as_bytes(), text, b"\r\n"].concat()
}

#[test]
fn text_that_is_not_an_id_makes_an_anonymous_visitor() {
    let demo = Demo::start(&[]);
    for text in not_ids() {
        is_anonymous(&demo, &cookie(&text));
    }
}

#[test]
fn a_head_of_400_kb_is_refused_and_the_demo_goes_on() {
    let demo = Demo::start(&[]);
    let answer = demo.visitor().send_with("GET", "/whoami", cookie(&[b'A'; 400_000]), "");
    assert!(matches!(answer.status, 200 | 431), "{answer:?}");
    let answer = demo.visitor().get(&format!("/whoami?sid={}", "A".repeat(400_000)));
    assert!(matches!(answer.status, 200 | 414 | 431), "{answer:?}");
    assert_eq!(demo.visitor().get("/whoami").line(), "anonymous");
}

/// Returns a visitor with counted visits, and the visitor's id.
fn counted(demo: &Demo) -> (Client, String) {
    let mut visitor = demo.visitor();
    assert_eq!(visitor.get("/count").line(), "1");
    let id = visitor.id();
    (visitor, id)
}

#[test]
fn ours_is_found_among_other_cookies() {
    let demo = Demo::start(&[]);
    let (_, id) = counted(&demo);
    let ours = format!("{COOKIE}={id}");
    let headers: [Vec<u8>; 10] = [
        format!("Cookie: {}{ours}\r\n", "junk=0123456789; ".repeat(180)).into(),
        format!("Cookie: {}{ours}\r\n", "j=0123456789; ".repeat(1500)).into(),
        format!("Cookie: ;;{ours};;\r\n").into(),
        format!("Cookie: junk; =; {ours}; junk\r\n").into(),
        format!("Cookie:{ours}\r\n").into(),
        format!("cOOKIE: {ours}; {ours}\r\n").into(),
        format!("Cookie: a=b\r\nCookie: {ours}\r\n").into(),
        format!("Cookie: x=\"a; {ours}; b\"\r\n").into(),
        format!("Cookie: __host-id=x; id=y; X{ours}x; {ours}\r\n").into(),
        [b"Cookie: bytes=\xff\xfe\x80; ", ours.as_bytes(), b"\r\n"].concat(),
    ];
    for (number, lines) in headers.iter().enumerate() {
        let answer = demo.visitor().send_with("GET", "/count", lines, "").expect(200).no_cookie();
        assert_eq!(answer.line(), (number + 2).to_string(), "{}", String::from_utf8_lossy(lines));
    }
}

#[test]
fn nonsense_about_our_cookie_is_nobodys() {
    let demo = Demo::start(&[]);
    let (mut visitor, id) = counted(&demo);
    for lines in [
        format!("Cookie: {COOKIE}\r\n"),
        format!("Cookie: {}={id}\r\n", COOKIE.to_lowercase()),
        format!("Cookie: {COOKIE}x={id}\r\n"),
        format!("Cookie: {COOKIE}={id},{id}\r\n"),
        format!("Cookie: {COOKIE}={}\r\n", id.to_lowercase()),
        format!("X-Session-Id: {id}\r\n"),
        "Cookie: ;;;\r\nCookie: =\r\nCookie:\r\n".to_owned(),
    ] {
        is_anonymous(&demo, lines.as_bytes());
    }
    assert_eq!(visitor.get("/count").line(), "2");
}

/// Another cookie of the same name may be left from another path or an earlier configuration, or be
/// planted.
#[test]
fn the_only_live_session_among_several_ids_is_the_visitors() {
    let demo = Demo::start(&[]);
    let (_, id) = counted(&demo);
    let (mut gone, ended) = counted(&demo);
    gone.post("/logout", "").expect(303);
    let unknown = "A".repeat(43);
    let mut visits = 1;
    for other in [ended.as_str(), &unknown, "malformed", ""] {
        for lines in [
            format!("Cookie: {COOKIE}={id}; {COOKIE}={other}\r\n"),
            format!("Cookie: {COOKIE}={other}; {COOKIE}={id}\r\n"),
            format!("Cookie: {COOKIE}={other}\r\nCookie: {COOKIE}={id}\r\n"),
        ] {
            visits += 1;
            let answer = demo.visitor().send_with("GET", "/count", &lines, "").expect(200);
            assert_eq!(answer.no_cookie().line(), visits.to_string(), "{lines}");
        }
    }
    assert_eq!(demo.sessions(), 1);
}

/// Nobody knows which of them is the visitor's, until a login.
#[test]
fn several_live_sessions_are_nobodys_until_a_login_ends_them() {
    let demo = Demo::start(&[]);
    let (mut one, two) = (counted(&demo).0, counted(&demo).1);
    let both = format!("Cookie: {COOKIE}={}; {COOKIE}={two}\r\n", one.id());
    let send = |method, target, body| demo.visitor().send_with(method, target, &both, body);
    for _ in 0..3 {
        assert_eq!(send("GET", "/whoami", "").expect(200).no_cookie().line(), "anonymous");
        assert_eq!(send("GET", "/values", "").expect(200).no_cookie().line(), "{}");
        assert_eq!(send("GET", "/count", "").expect(200).no_cookie().line(), "1");
        send("PUT", "/values/x", "1").expect(409).no_cookie().line();
    }
    assert_eq!(demo.sessions(), 2);
    assert_eq!(one.get("/count").line(), "2");

    let answer = send("POST", "/login", "username=ada").expect(303);
    let cookie = answer.header("set-cookie").expect("a new session");
    let (pair, _) = cookie.split_once(';').expect("has attributes");
    let mut visitor = demo.visitor();
    visitor.cookie = Some(pair.to_owned());
    assert_eq!(visitor.get("/whoami").line(), "ada");
    assert_eq!(demo.sessions(), 1);
    // The browser may keep sending the stale cookie beside the new one.
    let stale = format!("Cookie: {COOKIE}={two}; {pair}\r\n");
    let answer = demo.visitor().send_with("GET", "/whoami", stale, "").expect(200).no_cookie();
    assert_eq!(answer.line(), "ada");
}

#[test]
fn a_logout_with_several_live_sessions_ends_them() {
    let demo = Demo::start(&[]);
    let (one, two) = (counted(&demo).1, counted(&demo).1);
    let both = format!("Cookie: {COOKIE}={one}; {COOKIE}={two}\r\n");
    let answer = demo.visitor().send_with("POST", "/logout", both, "").expect(303);
    assert!(answer.header("set-cookie").is_some_and(|set| set.starts_with("__Host-id=;")));
    assert_eq!(demo.sessions(), 0);
}

#[test]
fn nonsense_in_the_query_is_nobodys() {
    let demo = Demo::start(&["--transport", "url"]);
    let mut visitor = demo.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let location = visitor.post("/login", "username=ada").expect(303);
    let location = location.header("location").expect("the page");
    let id = location.split_once("sid=").expect("an id").1;
    assert_eq!(visitor.get(&format!("/whoami?sid={id}")).line(), "ada");
    for query in [
        format!("sid={id}&sid={id}"),
        format!("sid={id}&sid=x"),
        format!("sid[$ne]={id}"),
        format!("sid%5B%24ne%5D={id}"),
        format!("SID={id}"),
        format!("sid={id}%00"),
        format!("sid=%00{id}"),
        format!("sid={id}%0d%0aSet-Cookie:x=y"),
        format!("sid={id}%zz"),
        format!("sid=%{id}"),
        format!("sid={id};"),
        format!("a;sid={id}"),
        format!("a=sid={id}"),
        "sid".to_owned(),
        "sid=".to_owned(),
        "&&&===&".to_owned(),
    ] {
        let answer = visitor.get(&format!("/whoami?{query}")).expect(200);
        assert_eq!(answer.line(), "anonymous", "{query}");
        assert_eq!(visitor.get(&format!("/count?{query}")).expect(200).line(), "1", "{query}");
    }
    visitor.get(&format!("/whoami;sid={id}")).expect(404);
    visitor.get(&format!("/;sid={id}")).expect(404);
    assert_eq!(visitor.get(&format!("/whoami?a=b&sid={id}&c=d")).line(), "ada");
}

/// The page's links are fixed: no input of a visitor gets into a link.
#[test]
fn no_link_of_the_page_leads_elsewhere() {
    let demo = Demo::start(&["--transport", "url"]);
    for target in ["/?next=//evil/", "/?sid=//evil/", "/?form=https://evil/", "/?a=%22%3E%3Ca%20b="]
    {
        let page = demo.visitor().get(target).expect(200).body;
        assert!(!page.contains("evil") && !page.contains("\"><a b"), "{page}");
        for rest in page.split("href=\"/").skip(1) {
            assert!(!rest.starts_with('/') && !rest.starts_with('\\'), "{page}");
        }
    }
    let answer = demo.visitor().send_with("GET", "/", "Host: evil\r\n", "");
    assert!(!answer.body.contains("evil"), "{answer:?}");
}

#[test]
fn bytes_that_are_not_http_do_not_stop_it() {
    let demo = Demo::start(&[]);
    for bytes in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET /count\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /count HTTP/1.1\r\nHost: x\r\nCookie: a\0b\r\nConnection: close\r\n\r\n",
        b"GET /co\x80unt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"PUT /values/x HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"PUT /values/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    ] {
        let answer = demo.visitor().exchange(bytes);
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert_eq!(demo.visitor().get("/count").line(), "1");
}
