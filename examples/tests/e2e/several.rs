//! Journeys across several demos with one store, whose flags each function takes.

use std::sync::Barrier;
use std::thread;

use crate::client::Client;
use crate::demo::{Demo, run};

/// Returns the same visitor at another server.
fn at(demo: &Demo, visitor: &Client) -> Client {
    let mut elsewhere = demo.visitor();
    elsewhere.cookie.clone_from(&visitor.cookie);
    elsewhere
}

/// Checks how many sessions both servers count; neither does if the provider can't.
fn check_count(demos: [&Demo; 2], counts: bool, wanted: u64) {
    assert_eq!(demos.map(Demo::counted), [counts.then_some(wanted); 2]);
}

/// A login at one server is seen at the other, and so is a logout. `counts` says whether the provider counts
/// sessions.
pub(crate) fn login_and_logout(flags: &[&str], counts: bool) {
    let (one, two) = (Demo::start(flags), Demo::start(flags));
    let mut visitor = one.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let mut elsewhere = at(&two, &visitor);
    assert_eq!(elsewhere.get("/whoami").line(), "ada");
    assert_eq!(elsewhere.get("/count").line(), "1");
    assert_eq!(visitor.get("/count").line(), "2");
    check_count([&one, &two], counts, 1);

    let old = elsewhere.id();
    elsewhere.post("/regenerate", "").expect(204);
    assert_eq!(visitor.with_id(&old).get("/whoami").line(), "anonymous");
    let mut visitor = at(&one, &elsewhere);
    visitor.post("/logout", "").expect(303);
    assert_eq!(elsewhere.get("/whoami").line(), "anonymous");
    check_count([&one, &two], counts, 0);
}

/// Additions at two servers at once all count.
pub(crate) fn additions_at_once(flags: &[&str]) {
    let demos = [Demo::start(flags), Demo::start(flags)];
    let mut visitor = demos[0].visitor();
    visitor.put("/values/n", "0").expect(204);
    let together = Barrier::new(40);
    thread::scope(|scope| {
        for number in 0..40 {
            let (mut visitor, together) = (at(&demos[number % 2], &visitor), &together);
            scope.spawn(move || {
                together.wait();
                visitor.post("/add/n", "").expect(200);
            });
        }
    });
    assert_eq!(visitor.get("/values/n").line(), "40");
}

/// A save at one server that ends after the logout at the other brings nothing back.
pub(crate) fn logout_against_a_slow_save(flags: &[&str], counts: bool) {
    let (one, two) = (Demo::start_logging("debug", flags), Demo::start(flags));
    let mut visitor = one.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let mut slow = visitor.clone();
    thread::scope(|scope| {
        let saved = scope.spawn(move || slow.post("/slow/draft?ms=3000", "\"text\""));
        one.wait_for("loaded, waiting");
        at(&two, &visitor).post("/logout", "").expect(303);
        saved.join().expect("is answered").expect(409).no_cookie();
    });
    assert_eq!(visitor.get("/values").line(), "{}");
    check_count([&one, &two], counts, 0);
}

/// The demo starts while the store is down, and no visitor loses the cookie. The source string has the password
/// `hunter2`, which isn't printed.
pub(crate) fn store_that_is_down(flags: &[&str]) {
    let demo = Demo::start(flags);
    let mut visitor = demo.visitor();
    visitor.get("/count").expect(503).no_cookie().line();
    visitor.put("/values/x", "1").expect(503).no_cookie().line();
    let id = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let mut known = visitor.with_id(id);
    known.get("/whoami").expect(503).no_cookie().line();
    known.post("/logout", "").expect(503).no_cookie().line();
    assert_eq!(known.id(), id);
    demo.signal("TERM");
    let (status, printed) = demo.wait();
    assert!(status.success());
    assert!(!printed.contains("hunter2"), "{printed}");
}

/// A source string that is wrong is one line without the password, of which all sources have `ter2` at the end.
pub(crate) fn bad_uri(provider: &str, sources: [&str; 2]) {
    for source in sources {
        let (status, stdout, stderr) = run(&["--provider", provider, "--source", source]);
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
        assert!(!stderr.contains("ter2"), "{stderr}");
    }
}
