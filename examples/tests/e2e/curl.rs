//! The first steps that people try with `curl` and its cookie jar.

use std::path::PathBuf;
use std::process::Command;

use crate::demo::{Demo, SEALED};

struct Curl<'d> {
    demo: &'d Demo,
    jar: PathBuf,
}

impl<'d> Curl<'d> {
    fn new(demo: &'d Demo, name: &str) -> Self {
        let jar = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}-{name}.jar", std::process::id()));
        Self { demo, jar }
    }

    /// Returns what `curl` prints for these arguments, of which the last one is the target.
    fn run(&self, arguments: &[&str]) -> String {
        let (target, options) = arguments.split_last().expect("a target");
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "60"])
            .arg("--cookie")
            .arg(&self.jar)
            .arg("--cookie-jar")
            .arg(&self.jar)
            .args(options)
            .arg(format!("http://{}{target}", self.demo.address))
            .output()
            .expect("curl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    /// Returns the id in the jar.
    fn id(&self) -> String {
        let jar = std::fs::read_to_string(&self.jar).expect("curl wrote it");
        let line = jar.lines().find(|line| line.contains("\t__Host-id\t")).expect("our cookie");
        line.rsplit('\t').next().expect("a value").to_owned()
    }
}

impl Drop for Curl<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.jar);
    }
}

#[test]
#[ignore = "needs curl: run scripts/test"]
fn a_thousand_visits_with_a_jar() {
    a_thousand_visits(&Demo::start(&[]), "thousand");
}

#[test]
#[ignore = "needs curl: run scripts/test"]
fn a_thousand_visits_with_the_session_sealed_in_the_jar() {
    a_thousand_visits(&Demo::start(&SEALED), "thousand-sealed");
}

fn a_thousand_visits(demo: &Demo, jar: &str) {
    let curl = Curl::new(demo, jar);
    // Curl's globbing requests one URL a thousand times in one process.
    let printed = curl.run(&["/count?visit=[1-1000]"]);
    let wanted: String = (1..=1000).map(|visit| format!("{visit}\n")).collect();
    assert_eq!(printed, wanted);
    assert_eq!(curl.run(&["/count"]), "1001\n");
}

#[test]
#[ignore = "needs curl: run scripts/test"]
fn logging_in_and_out_with_a_jar() {
    logging_in_and_out(&Demo::start(&[]), "login");
}

#[test]
#[ignore = "needs curl: run scripts/test"]
fn logging_in_and_out_with_the_session_sealed_in_the_jar() {
    logging_in_and_out(&Demo::start(&SEALED), "login-sealed");
}

fn logging_in_and_out(demo: &Demo, jar: &str) {
    let curl = Curl::new(demo, jar);
    curl.run(&["/count"]);
    let old = curl.id();
    let page = curl.run(&["--location", "--data-urlencode", "username=Ada L", "/login"]);
    assert!(page.contains("welcome Ada L"), "{page}");
    assert_ne!(curl.id(), old);
    assert_eq!(curl.run(&["/whoami"]), "Ada L\n");
    assert_eq!(demo.visitor().with_id(&old).get("/whoami").line(), "anonymous");

    assert_eq!(curl.run(&["--data", "hello", "--write-out", "%{http_code}", "/flash"]), "204");
    assert_eq!(curl.run(&["/flash"]), "[\"hello\"]\n");
    let code = ["--request", "PUT", "--data", "{\"tea\":2}", "--write-out", "%{http_code}"];
    assert_eq!(curl.run(&[&code[..], &["/values/cart"]].concat()), "204");
    assert_eq!(curl.run(&["/values/cart"]), "{\"tea\":2}\n");
    assert_eq!(curl.run(&["--request", "DELETE", "/values/cart"]), "");

    curl.run(&["--request", "POST", "/logout"]);
    let jar = std::fs::read_to_string(&curl.jar).expect("curl wrote it");
    assert!(!jar.contains("__Host-id"), "{jar}");
    assert_eq!(curl.run(&["/whoami"]), "anonymous\n");
}

/// `curl` waits for `100 Continue` before a large body.
#[test]
#[ignore = "needs curl: run scripts/test"]
fn a_body_that_is_too_large_is_refused_in_so_many_words() {
    let demo = Demo::start(&[]);
    let curl = Curl::new(&demo, "large");
    let body = std::env::temp_dir().join(format!("{}-large.json", std::process::id()));
    std::fs::write(&body, format!("\"{}\"", "x".repeat(5_000_000))).expect("there is room");
    let data = format!("@{}", body.display());
    let put = ["--request", "PUT", "--data-binary", &data, "--write-out", "%{http_code}"];
    let printed = curl.run(&[&put[..], &["/values/x"]].concat());
    let _ = std::fs::remove_file(&body);
    assert_eq!(printed, "the body is too large\n413");
}
