//! Concurrent requests of one session.

use std::sync::Barrier;
use std::thread;

use crate::client::{Answer, Client};
use crate::demo::Demo;

#[test]
fn two_hundred_parallel_additions_end_at_two_hundred() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.put("/values/n", "0").expect(204);
    let together = Barrier::new(200);
    let mut sums: Vec<u32> = thread::scope(|scope| {
        let requests: Vec<_> = (0..200)
            .map(|_| {
                let (mut visitor, together) = (visitor.clone(), &together);
                scope.spawn(move || {
                    together.wait();
                    visitor.post("/add/n", "").expect(200).line().parse().expect("a number")
                })
            })
            .collect();
        requests.into_iter().map(|request| request.join().expect("succeeds")).collect()
    });
    sums.sort_unstable();
    assert!(sums.into_iter().eq(1..=200));
    assert_eq!(visitor.get("/values/n").line(), "200");
}

/// Runs `meanwhile` while a slow request has loaded the session and not yet saved `draft`.
fn during_slow_save(demo: &Demo, visitor: &Client, meanwhile: impl FnOnce()) -> Answer {
    thread::scope(|scope| {
        let mut slow = visitor.clone();
        let slow = scope.spawn(move || slow.post("/slow/draft?ms=3000", "\"text\""));
        demo.wait_for("loaded, waiting");
        meanwhile();
        slow.join().expect("is answered")
    })
}

#[test]
fn saves_of_different_keys_merge() {
    let demo = Demo::start_logging("debug", &[]);
    let mut visitor = demo.visitor();
    visitor.get("/count");
    let answer = during_slow_save(&demo, &visitor, || {
        visitor.clone().put("/values/other", "1").expect(204);
        visitor.clone().get("/count");
    });
    answer.expect(204).no_cookie();
    let values = visitor.get("/values").json();
    assert_eq!((&values["draft"], &values["other"]), (&"text".into(), &1.into()));
    assert_eq!(values["count"], 2);
}

#[test]
fn a_slow_save_that_ends_after_the_logout_brings_nothing_back() {
    let demo = Demo::start_logging("debug", &[]);
    let mut visitor = demo.visitor();
    visitor.post("/login", "username=ada").expect(303);
    let mut before = visitor.clone();
    let answer = during_slow_save(&demo, &before, || {
        visitor.post("/logout", "").expect(303);
    });
    answer.expect(409).no_cookie().line();
    assert_eq!(demo.sessions(), 0);
    assert_eq!(before.get("/whoami").line(), "anonymous");
}

#[test]
fn a_slow_save_that_changes_nothing_learns_of_the_logout_too() {
    let demo = Demo::start_logging("debug", &[]);
    let mut visitor = demo.visitor();
    visitor.put("/values/draft", "\"text\"").expect(204);
    let before = visitor.clone();
    let answer = during_slow_save(&demo, &before, || {
        visitor.post("/logout", "").expect(303);
    });
    answer.expect(409).no_cookie().line();
    assert_eq!(demo.sessions(), 0);
}

#[test]
fn a_slow_save_under_the_id_before_the_login_does_not_undo_the_login() {
    let demo = Demo::start_logging("debug", &[]);
    let mut visitor = demo.visitor();
    visitor.get("/count");
    let before = visitor.clone();
    let answer = during_slow_save(&demo, &before, || {
        visitor.post("/login", "username=ada").expect(303);
    });
    answer.expect(409).no_cookie().line();
    assert_eq!(visitor.get("/whoami").line(), "ada");
    visitor.get("/values/draft").expect(404);
}

#[test]
fn a_slow_save_without_a_session_starts_one() {
    let demo = Demo::start(&[]);
    let mut visitor = demo.visitor();
    visitor.post("/slow/draft?ms=1", "[1]").expect(204);
    assert_eq!(visitor.get("/values").line(), "{\"draft\":[1]}");
    for ms in ["", "-1", "60001", "x", "1.5"] {
        visitor.post(&format!("/slow/draft?ms={ms}"), "1").expect(400).line();
    }
}
