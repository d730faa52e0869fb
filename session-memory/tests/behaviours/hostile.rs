//! Hostile inputs: ids, the Cookie header, queries, links, and configured attributes.
//!
//! Nothing panics or hangs. Anything but one well-formed id makes the visitor anonymous without a call
//! to the store, and is logged as a hash at most.

use http::header::{COOKIE, HeaderName, HeaderValue, LOCATION};
use http::{Request, Response};
use session_core::transport::TransportKind;
use session_core::{Config, Error, Manager};

use crate::support::*;

/// Returns texts that are not ids, most of them with the right length.
fn malformed_ids() -> Vec<Vec<u8>> {
    let texts = [
        "",
        "A",
        &UNKNOWN[..42],
        &format!("{UNKNOWN}A"),
        &format!("{UNKNOWN}="),
        &format!("{}=", &UNKNOWN[..42]),
        &format!("\"{UNKNOWN}\""),
        &format!("\"{}\"", &UNKNOWN[..41]),
        &UNKNOWN.replace("Hh8", "Hh9"), // stray bits in the last character
        &UNKNOWN.replace("AAEC", "AA+C"),
        &UNKNOWN.replace("AAEC", "AA/C"),
        &UNKNOWN.replace("AAEC", "AA%4"),
        &UNKNOWN.replace("AAEC", "%41AEC"),
        &UNKNOWN.replace("AAEC", "AA,C"),
        &UNKNOWN.replace("AAEC", "AA C"),
        &UNKNOWN.replace("AAEC", "AA\tC"),
        &UNKNOWN.replace("AAEC", "A\u{e9}C"),
        &format!("{UNKNOWN},{UNKNOWN}"),
        &format!("{UNKNOWN} {UNKNOWN}"),
        "../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "..\\..\\windows\\win.ini",
        "CON",
        "NUL",
        "{\"$gt\":\"\"}",
        "' OR 1=1 --",
        "${jndi:ldap://evil}",
        "\u{ff0e}\u{ff0e}\u{ff0f}\u{ff0e}\u{ff0e}\u{ff0f}",
        "null",
        "0",
    ];
    let mut all: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    all.push(vec![b'A'; 400 * 1024]);
    all.push(vec![0xff; 43]);
    all.push([&UNKNOWN.as_bytes()[..42], &[0x80]].concat());
    all
}

/// Checks that the request is anonymous, calls the store not at all, and logs nothing of the text.
fn assert_anonymous(site: &Site, request: &Request<()>, text: &[u8]) {
    let log = Log::open();
    let (anonymous, calls) = is_anonymous(site, request);
    let shown = String::from_utf8_lossy(&text[..text.len().min(60)]);
    assert!(anonymous, "{shown:?}");
    assert_eq!(calls, 0, "{shown:?}");
    if let Ok(text) = std::str::from_utf8(text)
        && text.len() >= 8
    {
        log.assert_silent_about([text, &text[..text.floor_char_boundary(30)]]);
    }
}

fn request_with(name: HeaderName, value: &[u8]) -> Option<Request<()>> {
    let mut request = Request::new(());
    request.headers_mut().insert(name, HeaderValue::from_bytes(value).ok()?);
    Some(request)
}

#[test]
fn malformed_ids_in_the_cookie() {
    let site = Site::new();
    let mut tried = 0;
    for text in malformed_ids() {
        let cookie = [b"__Host-id=", &text[..]].concat();
        if let Some(request) = request_with(COOKIE, &cookie) {
            assert_anonymous(&site, &request, &text);
            tried += 1;
        }
    }
    assert_eq!(tried, malformed_ids().len());
    assert!(site.manager.stats().malformed >= tried as u64 - 1);
}

#[test]
fn malformed_ids_in_the_header_transport() {
    let site = Site::configured(|config| config.transport = TransportKind::Header);
    for text in malformed_ids() {
        let request = request_with(HeaderName::from_static("x-session-id"), &text);
        assert_anonymous(&site, &request.unwrap(), &text);
    }
}

#[test]
fn a_malformed_id_is_logged_without_its_text() {
    let site = Site::new();
    let text = format!("malformed-{UNKNOWN}");
    let cookie = format!("__Host-id={text}");
    let request = request_with(COOKIE, cookie.as_bytes()).unwrap();
    assert_anonymous(&site, &request, text.as_bytes());
    let log = site.log.text();
    assert!(log.lines().any(|line| line.contains("malformed")));
    assert!(!log.contains(UNKNOWN));
}

#[test]
fn a_handler_can_still_start_a_session_for_such_a_visitor() {
    let site = Site::new();
    let visitor = Visitor::with_cookie(&site, "../../etc/passwd");
    assert!(visitor.set("n", 1).set_cookie().is_some());
    assert_eq!(site.store.calls(), ["create"]);
    assert_eq!(visitor.get("n"), Some(1));
}

#[test]
fn cookie_headers_full_of_junk() {
    let site = Site::new();
    let visitor = site.visitor();
    visitor.set("n", 1);
    let ours = format!("__Host-id={}", visitor.cookie().unwrap());
    let read = |headers: &[Vec<u8>]| {
        let mut request = Request::new(());
        for header in headers {
            request.headers_mut().append(COOKIE, HeaderValue::from_bytes(header).unwrap());
        }
        block_on(async {
            let handle = site.manager.start(&request);
            handle.load().await.unwrap().get::<u64>("n").unwrap()
        })
    };
    let before = |junk: &[u8]| vec![[junk, b"; ", ours.as_bytes()].concat()];
    for junk in [
        "name=value; ".repeat(180).into_bytes(),
        "j=0; ".repeat(4096).into_bytes(),
        b";;;;; ; ;; ".to_vec(),
        b"no equals sign".to_vec(),
        b"=no name".to_vec(),
        b"name=".to_vec(),
        b"\xff\x80=\xfe; \xc3\x28".to_vec(),
        b"__Host-id".to_vec(),
        b"a=\"; b=\\\"; c='".to_vec(),
    ] {
        assert_eq!(read(&before(&junk)), Some(1), "{}", junk.len());
    }
    // Beyond the scan limit the visitor is anonymous, and the store is not called.
    site.store.calls();
    assert_eq!(read(&before(&vec![b'x'; 64 * 1024])), None);
    assert_eq!(read(&[vec![b'x'; 40 * 1024], vec![b'y'; 40 * 1024], ours.into_bytes()]), None);
    assert_eq!(site.store.calls(), [""; 0]);
    for nonsense in [&b""[..], b";", b"=", b"__Host-id", b"__Host-id=", b"__Host-id==", b"\xff"] {
        assert_eq!(read(&[nonsense.to_vec()]), None, "{nonsense:?}");
    }
    assert_eq!(site.store.calls(), [""; 0]);
}

#[test]
fn queries_that_are_not_one_plain_argument() {
    for kind in [TransportKind::Url, TransportKind::Auto] {
        let site = Site::configured(|config| config.transport = kind);
        let id = {
            let visitor = site.visitor();
            visitor
                .visit(async |handle| {
                    let session = handle.load().await.unwrap();
                    session.set("n", &1u64).unwrap();
                    session.id().unwrap().text().to_string()
                })
                .0
        };
        let get = |target: &str| Request::builder().uri(target).body(()).unwrap();
        let (anonymous, calls) = is_anonymous(&site, &get(&format!("/?sid={id}")));
        assert!(!anonymous && calls == 1);
        for target in [
            format!("/?sid={id}&sid={id}"),
            format!("/?sid={id}&sid="),
            format!("/?sid={id}&a=b&sid={UNKNOWN}"),
            format!("/?sid[$ne]={id}"),
            format!("/?sid[]={id}"),
            "/?sid[$ne]=x".to_owned(),
            "/?sid=%00".to_owned(),
            "/?sid=%zz".to_owned(),
            "/?sid=%0d%0aSet-Cookie:%20x=y".to_owned(),
            format!("/?sid={id}%00"),
            format!("/?sid=%41{}", &id[1..]),
            format!("/?sid=+{id}"),
            format!("/?sid={id};x=y"),
            format!("/;sid={id}"),
            format!("/page;sid={id}?a=b"),
            format!("/sid={id}"),
            format!("/?SID={id}"),
            format!("/?Sid={id}"),
            format!("/?s%69d={id}"),
            format!("/?xsid={id}"),
            format!("/?a=sid={id}"),
            format!("/?a?sid={id}"),
            "/?sid".to_owned(),
            "/?sid=".to_owned(),
            "/?".to_owned(),
            "/?&&&=&".to_owned(),
        ] {
            assert_anonymous(&site, &get(&target), target.as_bytes());
        }
        site.log.assert_silent_about([&*id]);
    }
}

#[test]
fn links_and_redirects_to_elsewhere_carry_no_id() {
    let site = Site::configured(|config| config.transport = TransportKind::Url);
    let request = Request::new(());
    block_on(async {
        let handle = site.manager.start(&request);
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        assert!(handle.encode_url("/here").contains("sid="));
        for link in [
            "//evil/",
            "///evil/",
            "https://evil",
            "HTTPS://evil/",
            "http:evil",
            "/\\evil",
            "\\/evil",
            "\\\\evil",
            "/\t/evil",
            "/\n/evil",
            "\u{1}//evil",
            " https://evil",
            "java\nscript:alert(1)",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "mailto:a@b",
            "tel:123",
            "https://example.com.evil/app",
            "blob:https://evil/1",
        ] {
            assert_eq!(handle.encode_url(link), link, "left alone");
            if let Ok(location) = HeaderValue::from_str(link) {
                let mut response = Response::new(());
                response.headers_mut().insert(LOCATION, location.clone());
                handle.finish(&mut response).await.unwrap();
                assert_eq!(response.headers()[LOCATION], location);
            }
        }
    });
}

#[test]
fn configured_attributes_that_would_break_a_header_are_configuration_errors() {
    let refuses = |edit: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        edit(&mut config);
        let store = Store::default();
        let built = Manager::builder().with_config(config).with_provider(store).build();
        match built {
            Err(Error::Config(message)) => {
                assert!(!message.chars().any(char::is_control), "{message:?}");
                true
            }
            _ => false,
        }
    };
    for bad in [";", "a;b", "a\r\nb", "\n", "a\0b", "a,b", "a b", "", "é", "a=b", "\"a\""] {
        assert!(refuses(&|config| config.cookie.name = bad.into()), "name {bad:?}");
        assert!(refuses(&|config| config.cookie.domain = Some(bad.into())), "domain {bad:?}");
        assert!(refuses(&|config| {
            config.transport = TransportKind::Url;
            config.url.param = bad.into();
        }));
        assert!(refuses(&|config| {
            config.transport = TransportKind::Header;
            config.header.name = bad.into();
        }));
    }
    for bad in [&["a;b"][..], &["é"], &[""], &["a b"], &["__Host-id"], &["a", "b", "a"], &["a"; 9]]
    {
        let also: Vec<String> = bad.iter().map(|name| (*name).to_owned()).collect();
        assert!(refuses(&|config| config.cookie.also.clone_from(&also)), "also {bad:?}");
    }
    for bad in ["/a;b", "/a\r\nSet-Cookie: x=y", "/a\0", "/a,b", "/a b", "/é"] {
        assert!(refuses(&|config| config.cookie.path = bad.into()), "path {bad:?}");
    }
    assert!(refuses(&|config| config.limits.bytes = 0));
    assert!(refuses(&|config| config.limits.keys = 0));
    assert!(refuses(&|config| config.limits.depth = 0));
    assert!(refuses(&|config| config.limits.depth = 100_000));
    assert!(!refuses(&|config| config.gc_every = Duration::ZERO), "and the rest is fine");
}
