//! The demo's log at the most verbose level.

use std::collections::BTreeSet;

use crate::client::{Answer, Client};
use crate::demo::Demo;
use crate::url::{form, link};

const NAME: &str = "Hypatia-of-Alexandria";
const VALUE: &str = "astrolabe-4711";

/// A visitor who records every id that the server issues.
struct Witness {
    visitor: Client,
    ids: BTreeSet<String>,
}

impl Witness {
    fn send(&mut self, method: &str, target: &str, body: &str) -> Answer {
        let answer = self.visitor.send(method, target, body);
        let set = answer.all("set-cookie").filter_map(|set| set.split(';').next());
        let header = answer.all("x-session-id");
        let urls = [answer.header("location").unwrap_or_default(), &answer.body];
        let in_urls = urls.iter().flat_map(|text| text.split("sid=").skip(1));
        for text in set.filter_map(|pair| pair.split('=').nth(1)).chain(header).chain(in_urls) {
            let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let id: Vec<u8> = text.bytes().take_while(is_id).collect();
            if id.len() == 43 {
                self.ids.insert(String::from_utf8(id).expect("ASCII"));
            }
        }
        answer
    }
}

/// Uses every route, and once sends a wrong id.
fn journey(demo: &Demo) -> BTreeSet<String> {
    let mut witness = Witness { visitor: demo.visitor(), ids: BTreeSet::new() };
    let mut page = witness.send("GET", "/", "").expect(200).body;
    for (path, body) in [
        ("/login", format!("username={NAME}")),
        ("/regenerate", String::new()),
        ("/flash", format!("message={VALUE}")),
        ("/slow/draft", format!("draft=%22{VALUE}%22")),
        ("/add/n", String::new()),
        ("/remember", String::new()),
    ] {
        let target = form(&page, path).replace("ms=2000", "ms=1");
        let answer = witness.send("POST", &target, &body).expect(303);
        let home = answer.header("location").expect("the page").to_owned();
        page = witness.send("GET", &home, "").expect(200).body;
    }
    assert!(page.contains(NAME), "{page}");
    for path in ["/count", "/whoami", "/private", "/login", "/values", "/flash", "/stats"] {
        witness.send("GET", &link(&page, path), "").expect(200);
    }
    let value = link(&page, "/values/count");
    witness.send("PUT", &value, &format!("\"{VALUE}\"")).expect(204);
    witness.send("GET", &link(&page, "/count"), "").expect(409);
    witness.send("DELETE", &value, "").expect(204);
    for id in witness.ids.clone() {
        let mut stray = witness.visitor.with_id(&id);
        stray.get(&format!("/whoami?sid={id}&sid={id}"));
        stray.get(&format!("/count;sid={id}")).expect(404);
        stray.get(&format!("/values/{id}"));
        stray.get(&format!("/values/%zz{id}")).expect(400);
        stray.send_with("GET", "/whoami", format!("Cookie: __Host-id={id}; __Host-id=x\r\n"), "");
        stray.send_with("GET", "/whoami", format!("Cookie: __Host-id={id}x\r\n"), "");
        stray.exchange(format!("GET /{id}\0 HTTP/1.1\r\n\r\n").as_bytes());
        stray.exchange(format!("GET / HTTP/1.1\r\nCookie: {id}\0\r\n\r\n").as_bytes());
    }
    witness.send("POST", &form(&page, "/logout"), "").expect(303);
    witness.ids
}

#[test]
fn no_id_no_value_and_no_name_is_ever_printed() {
    for transport in ["cookie", "url", "auto"] {
        nothing_leaks(&["--transport", transport]);
    }
}

/// Runs a demo with these flags through the whole journey, and searches its output for ids.
pub(crate) fn nothing_leaks(arguments: &[&str]) {
    let demo = Demo::start_logging("trace", arguments);
    let ids = journey(&demo);
    assert!(ids.len() >= 3, "login and regenerate gave new ids: {}", ids.len());
    demo.signal("TERM");
    let (status, printed) = demo.wait();
    assert!(status.success());
    assert!(printed.contains("session created"), "it logs: {printed}");
    let secrets = ids.iter().map(|id| secret(id));
    for secret in secrets.chain([NAME, VALUE]) {
        assert!(!printed.contains(secret), "{secret} is in: {printed}");
    }
}

/// API clients follow no page, so this has its own requests.
#[test]
fn the_header_transport_prints_none_either() {
    let demo = Demo::start_logging("trace", &["--transport", "header"]);
    let mut witness = Witness { visitor: demo.visitor(), ids: BTreeSet::new() };
    witness.send("PUT", "/values/x", &format!("\"{VALUE}\"")).expect(204);
    let id = witness.ids.first().expect("an id in a header").clone();
    let header = format!("X-Session-Id: {id}\r\n");
    let answer = witness.visitor.send_with("GET", "/values/x", &header, "").expect(200);
    assert_eq!(answer.line(), format!("\"{VALUE}\""));
    demo.signal("TERM");
    let (_, printed) = demo.wait();
    assert!(printed.contains("session created"), "it logs: {printed}");
    assert!(!printed.contains(secret(&id)) && !printed.contains(VALUE), "{printed}");
}

/// The length of an id's key, which may be logged.
const KEY: usize = 16;

/// Returns an id's secret.
fn secret(id: &str) -> &str {
    &id[KEY..]
}

/// So a session can be followed in the log across its logins.
#[test]
fn the_log_names_a_session_by_its_key_which_stays_the_same() {
    let demo = Demo::start_logging("debug", &[]);
    let mut visitor = demo.visitor();
    visitor.get("/count");
    let before = visitor.id();
    visitor.post("/login", "username=ada").expect(303);
    let after = visitor.id();
    assert_eq!(before[..KEY], after[..KEY]);
    assert_ne!(secret(&before), secret(&after));
    visitor.post("/logout", "").expect(303);
    for event in ["session created", "session has a new id", "session ended"] {
        let line = demo.wait_for(event);
        assert!(line.contains(&format!("session={}", &after[..KEY])), "{line}");
    }
}
