//! Several demos with one SQLite file.

use crate::demo::run;
use crate::files::Directory;
use crate::leaks::nothing_leaks;
use crate::several;

/// A database in a directory of its own.
struct Store {
    _directory: Directory,
    source: String,
}

impl Store {
    fn new() -> Self {
        let directory = Directory::new();
        // Forty threads wait for each other here.
        let path = directory.path().join("sessions.db");
        let source = format!("path={}&sync=none&operation_timeout=1m", path.display());
        Self { _directory: directory, source }
    }

    fn flags(&self) -> [&str; 4] {
        ["--provider", "sqlite", "--source", &self.source]
    }
}

#[test]
fn a_login_at_one_server_is_seen_at_the_other_and_so_is_a_logout() {
    let store = Store::new();
    several::login_and_logout(&store.flags(), true);
}

#[test]
fn additions_at_two_servers_at_once_all_count() {
    let store = Store::new();
    several::additions_at_once(&store.flags());
}

#[test]
fn a_logout_at_one_server_wins_against_a_slow_save_at_the_other() {
    let store = Store::new();
    several::logout_against_a_slow_save(&store.flags(), true);
}

#[test]
fn no_id_no_value_and_no_name_is_printed_on_sqlite_either() {
    let store = Store::new();
    nothing_leaks(&store.flags());
}

#[test]
fn a_file_that_is_no_database_is_one_line() {
    let directory = Directory::new();
    let path = directory.path().join("notes.txt");
    std::fs::write(&path, "Not a database, and not to be overwritten. ".repeat(100))
        .expect("the directory is there");
    let missing = directory.path().join("missing/sessions.db");
    for path in [path, missing] {
        let source = format!("path={}", path.display());
        let (status, stdout, stderr) = run(&["--provider", "sqlite", "--source", &source]);
        assert_eq!(status.code(), Some(2), "{stderr}");
        assert_eq!((stdout.as_str(), stderr.lines().count()), ("", 1), "{stderr}");
    }
}
