//! The demo's flags and configuration.

use crate::demo::{Demo, run};
use crate::files::File;

/// Checks that the demo refuses to start with one line, and returns the line.
fn refused(arguments: &[&str]) -> String {
    let (status, stdout, stderr) = run(arguments);
    assert_eq!(status.code(), Some(2), "{arguments:?}: {stderr}");
    assert_eq!(stdout, "");
    let line = stderr.strip_suffix('\n').expect("a line");
    assert!(!line.contains('\n') && !line.is_empty(), "{stderr}");
    line.to_owned()
}

#[test]
fn bad_flags_are_refused_with_one_line() {
    for (arguments, says) in [
        (&["--bogus"][..], "--bogus"),
        (&["-x"], "-x"),
        (&["--listen"], "--listen"),
        (&["--listen", "8080"], "--listen"),
        (&["--listen", "127.0.0.1:x"], "--listen"),
        (&["--listen", "127.0.0.1:65536"], "--listen"),
        (&["--transport", "pigeon"], "`header`"),
        (&["--transport", ""], "--transport"),
        (&["--server", "inn"], "hyper or axum"),
        (&["--provider", "mango"], "memory"),
        (&["--provider", "line\nbreak"], "named"),
        (&["--source", "max_session=1"], "max_session"),
        (&["--source", "max_sessions=0"], "max_sessions"),
        (&["--config", "/nowhere/demo.toml"], "/nowhere/demo.toml"),
        (&["--config", "/"], "/"),
        (&["--help=x"], "--help"),
    ] {
        let line = refused(arguments);
        assert!(line.contains(says), "{line}");
    }
}

#[test]
fn a_source_is_never_shown() {
    let source = "mongodb://user:hunter2@host/";
    for arguments in [&["--source", source][..], &[source], &["--config", source, source]] {
        let line = refused(arguments);
        assert!(!line.contains("hunter2"), "{line}");
    }
    for text in [
        "source = \"mongodb://user:hunter2@host/\"\nidel = \"1m\"",
        "source = \"mongodb://user:hunter2@host/",
        "source = \"mongodb://user:hunter2@host/\" x",
        "source = \"mongodb://user:hunter2@host/\"\nsource = \"mongodb://user:hunter2@host/\"",
    ] {
        let file = File::new("secret", text);
        let line = refused(&["--config", file.path()]);
        assert!(!line.contains("hunter2"), "{line}");
        assert!(line.contains("line "), "{line}");
    }
}

#[test]
fn a_bad_configuration_says_where_and_what() {
    for (text, says) in [
        ("\n\nidel = \"1m\"", "line 3: unknown field `idel`"),
        ("[cookie]\nnames = \"x\"", "`names`"),
        ("idle = \"soon\"", "line 1"),
        ("transport = \"pigeon\"", "`cookie`"),
        ("[cookie]\nname = \"__Host-id\"\nsecure = false", "__Host-"),
        ("[cookie]\nname = \"a b\"", "cookie name"),
        ("[cookie]\nname = \"id\"\ndomain = \"a;b\"", "cookie domain"),
        ("[cookie]\npath = \"/\\r\\n\"", "cookie path"),
        ("idle = \"0s\"", "idle"),
        ("[limits]\nkeys = 0", "limits.keys"),
        ("provider = ", "line 1"),
    ] {
        let file = File::new("bad", text);
        let line = refused(&["--config", file.path()]);
        assert!(line.contains(says), "{line}");
    }
}

/// Also under a wrapper's name, and without a word of the source string.
#[test]
fn a_provider_that_is_not_built_in_says_how_to_get_it() {
    for (name, is_built, source) in [
        ("mongo", cfg!(feature = "mongo"), "mongodb://user:hunter2@host/"),
        ("postgres", cfg!(feature = "postgres"), "postgres://user:hunter2@host/"),
        ("redis", cfg!(feature = "redis"), "redis://user:hunter2@host/"),
        ("sqlite", cfg!(feature = "sqlite"), "path=/hunter2/sessions.db"),
    ] {
        if is_built {
            continue;
        }
        for (provider, key) in
            [(name.to_owned(), ""), (format!("encrypted+{name}"), "ephemeral=true")]
        {
            let separator = match (key, source.contains("://")) {
                ("", _) => "",
                (_, true) => "?",
                (_, false) => "&",
            };
            let source = format!("{source}{separator}{key}");
            let line = refused(&["--provider", &provider, "--source", &source]);
            assert!(line.contains(&format!("--features {name}")), "{line}");
            assert!(!line.contains("hunter2"), "{line}");
        }
    }
}

#[test]
fn a_configuration_is_used_and_flags_have_the_last_word() {
    let file = File::new(
        "good",
        "provider = \"mango\"\ntransport = \"url\"\nidle = \"30m\"\nabsolute = \"2h\"\n\
         gc_every = \"1m\"\n[cookie]\nname = \"visitor\"\nsame_site = \"strict\"\n\
         persistent = true\nmax_age = \"1h\"\n[url]\nparam = \"s\"\n[header]\nname = \"x-id\"",
    );
    let demo = Demo::start(&["--config", file.path(), "--provider=memory", "--transport=cookie"]);
    let answer = demo.visitor().get("/count").expect(200);
    let cookie = answer.header("set-cookie").expect("a new session");
    assert!(cookie.starts_with("visitor="), "{cookie}");
    assert!(cookie.contains("; SameSite=Strict"), "{cookie}");
    assert!(cookie.ends_with("; Max-Age=3600"), "{cookie}");

    let demo = Demo::start(&["--config", file.path(), "--provider", "memory"]);
    assert!(demo.visitor().get("/").body.contains("/count?s="));

    let args = ["--config", file.path(), "--provider", "memory", "--transport", "header"];
    let demo = Demo::start(&args);
    let mut visitor = demo.visitor();
    let answer = visitor.get("/count").expect(200).no_cookie();
    let id = answer.header("x-id").expect("a new session");
    let answer = visitor.send_with("GET", "/count", format!("X-Id: {id}\r\n"), "");
    assert_eq!(answer.line(), "2");
}

#[test]
fn help_is_no_error() {
    let (status, stdout, stderr) = run(&["--help"]);
    assert!(status.success() && stderr.is_empty(), "{stderr}");
    for flag in ["--listen", "--config", "--provider", "--source", "--transport"] {
        assert!(stdout.contains(flag), "{stdout}");
    }
}

/// The flag `--source` replaces the file's source together with its `revocations`.
#[test]
fn another_source_takes_none_of_the_files_revocations() {
    let file = File::new(
        "revocations",
        "provider = \"cookie\"\nsource = \"ephemeral=true\"\nrevocations = { provider = \"memory\" }",
    );
    drop(Demo::start(&["--config", file.path()]));
    let other = ["--config", file.path(), "--provider", "memory"];
    assert!(refused(&other).contains("ephemeral"));
    drop(Demo::start(&[&other[..], &["--source", ""]].concat()));
}
