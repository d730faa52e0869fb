//! The file: made, found, refused; damaged and locked.

use std::time::{Duration, Instant};

use session_core::provider::{Changes, Provider, Record, Token, Verifier};
use session_core::{Error, Manager, SessionId};
use session_sql::sqlite::{SqliteConfig, SqliteProvider, schema};
use session_sql::sqlx::{Executor as _, Row as _};

use crate::scratch::{EXPIRES, NOW, Scratch};

fn stored(scratch: &Scratch, provider: &SqliteProvider) -> (Token, Verifier) {
    let id = SessionId::generate().unwrap();
    let holder = Verifier::digest(&id, "");
    scratch.block_on(provider.create(&id, Record::new(holder, NOW, EXPIRES), NOW)).unwrap();
    (id.into(), holder)
}

fn refusal(config: SqliteConfig) -> String {
    match SqliteProvider::open(config) {
        Err(Error::Config(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_can_not_be_a_database_is_refused() {
    let scratch = Scratch::in_memory();
    let missing = scratch.path().join("sessions.db");
    assert!(refusal(SqliteConfig::new(missing)).contains("directory"));
    let folder = scratch.path().parent().unwrap().to_owned();
    assert!(refusal(SqliteConfig::new(folder)).contains("not a file"));
    let text = b"This is a file of another program, and it is not to be touched.".repeat(100);
    std::fs::write(scratch.path(), &text).unwrap();
    assert!(refusal(scratch.config()).contains("not a SQLite database"));
    assert_eq!(std::fs::read(scratch.path()).unwrap(), text);
}

/// Something other than a file is not opened, because reading a pipe may never end. A configuration that a program made
/// is checked like a source string, before anything is created.
#[test]
fn what_is_no_file_is_refused() {
    let scratch = Scratch::in_memory();
    let dangling = scratch.path().with_file_name("dangling");
    #[cfg(unix)]
    std::os::unix::fs::symlink(scratch.path(), &dangling).unwrap();
    assert!(refusal(SqliteConfig::new(dangling)).contains("directory"));
    #[cfg(unix)]
    assert!(refusal(SqliteConfig::new("/dev/null")).contains("not a file"));
    for path in ["", ":memory:", "file:a?mode=memory", "relative.db"] {
        assert!(refusal(SqliteConfig::new(path)).contains("/absolute/path"), "{path:?}");
        assert!(path.is_empty() || !std::fs::exists(path).unwrap(), "{path:?}");
    }
    for limit in [Duration::ZERO, Duration::from_secs(3601), Duration::MAX] {
        let config = scratch.config().with_operation_timeout(limit);
        assert!(refusal(config).contains("operation_timeout"), "{limit:?}");
    }
    // To SQLite, the tables of each connection.
    let config = scratch.config().with_table("temp.sessions".parse().unwrap());
    assert!(refusal(config).contains("schema"));
    assert!(!scratch.path().exists());
}

/// Whoever can write in the directory could replace the file.
#[cfg(unix)]
#[test]
fn a_directory_of_everybodys_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::in_memory();
    let folder = scratch.path().parent().unwrap().to_owned();
    let set_mode = |mode| std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode));
    for mode in [0o777, 0o1777] {
        set_mode(mode).unwrap();
        assert!(refusal(scratch.config()).contains("everybody"), "{mode:o}");
        assert!(!scratch.path().exists());
    }
    set_mode(0o770).unwrap();
    drop(scratch.open());
    let elsewhere = Scratch::in_memory();
    std::os::unix::fs::symlink(scratch.path(), elsewhere.path()).unwrap();
    set_mode(0o777).unwrap();
    assert!(refusal(elsewhere.config()).contains("everybody"));
    set_mode(0o700).unwrap();
    stored(&elsewhere, &elsewhere.open());
}

/// Files whose names have characters with a meaning in URIs.
#[test]
fn a_path_is_a_path() {
    let scratch = Scratch::in_memory();
    for name in ["a b", "a?b", "a%20b", "a#b", "a&b=c", "a;b'\"", "日本"] {
        let path = scratch.path().with_file_name(name);
        stored(&scratch, &SqliteProvider::open(SqliteConfig::new(&path)).unwrap());
        assert!(path.exists(), "{name}");
    }
}

/// SQLite itself would go on with a removed file, and acknowledge changes that are lost.
#[cfg(unix)]
#[test]
fn a_file_that_is_removed_or_replaced_is_noticed() {
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    let (token, holder) = stored(&scratch, &provider);
    let save = |changes: &Changes| {
        scratch.block_on(provider.save(&token, &holder, changes, NOW)).map(|_| ())
    };
    let load = || scratch.block_on(provider.load(&token, NOW));
    assert!(load().unwrap().is_some());
    scratch.query("PRAGMA wal_checkpoint(TRUNCATE)");
    let aside = scratch.path().with_file_name("aside.db");
    std::fs::rename(scratch.path(), &aside).unwrap();
    let saved = save(&Changes::new());
    assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
    let loaded = load();
    assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    // Another one, without our session.
    let other = scratch.open();
    let saved = save(&Changes::new());
    assert!(matches!(saved, Err(Error::Gone)), "{saved:?}");
    assert!(load().unwrap().is_none());
    drop(other);
    // And the first one again.
    std::fs::rename(&aside, scratch.path()).unwrap();
    for suffix in ["-wal", "-shm"] {
        let path = format!("{}{suffix}", scratch.path().display());
        let _ = std::fs::remove_file(path);
    }
    save(&Changes::new()).unwrap();
    assert!(load().unwrap().is_some());
}

/// If the table was dropped, or another program has a table of that name, the error says so.
#[test]
fn a_version_without_its_table_is_refused() {
    for columns in ["id text", "version text", "version integer"] {
        let scratch = Scratch::in_memory();
        std::fs::write(scratch.path(), "").unwrap();
        scratch.query(&format!("CREATE TABLE sessions_version ({columns})"));
        assert!(refusal(scratch.config()).contains("restore"), "{columns}");
        scratch.query("CREATE TABLE sessions (id text)");
        assert!(refusal(scratch.config()).contains("option `table`"), "{columns}");
    }
    let scratch = Scratch::in_memory();
    drop(scratch.open());
    scratch.query("DROP TABLE sessions; DROP TABLE sessions_version");
    stored(&scratch, &scratch.open());
}

#[test]
fn another_table_or_version_is_refused_and_left_alone() {
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    scratch.query("CREATE TABLE theirs (id)");
    let theirs = scratch.config().with_table("theirs".parse().unwrap());
    assert!(refusal(theirs).contains("option `table`"));
    // A second table in the same file is as good as the first.
    let second = scratch.config().with_table("Second".parse().unwrap());
    let second = SqliteProvider::open(second).unwrap();
    stored(&scratch, &second);
    assert_eq!(scratch.block_on(provider.count(NOW)).unwrap(), 0);
    scratch.query("UPDATE sessions_version SET version = 99");
    assert!(refusal(scratch.config()).contains("newer"));
}

#[test]
fn a_table_that_was_made_by_hand_is_used() {
    let scratch = Scratch::in_memory();
    std::fs::write(scratch.path(), "").unwrap();
    scratch.query(&schema(&"sessions".parse().unwrap()));
    let provider = scratch.open();
    stored(&scratch, &provider);
}

/// Nobody else reads it, nor the log beside it.
#[cfg(unix)]
#[test]
fn the_file_is_its_users_own() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    stored(&scratch, &provider);
    for suffix in ["", "-wal", "-shm"] {
        let path = format!("{}{suffix}", scratch.path().display());
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
}

/// Another process that writes for long, or forever.
#[test]
fn a_locked_database_is_unavailable_within_the_limit_and_read_meanwhile() {
    let scratch = Scratch::in_memory();
    let limit = Duration::from_millis(200);
    let provider = SqliteProvider::open(scratch.config().with_operation_timeout(limit)).unwrap();
    let (token, holder) = stored(&scratch, &provider);
    let mut other = scratch.connection();
    scratch.block_on(other.execute("BEGIN IMMEDIATE")).unwrap();
    let begun = Instant::now();
    let saved = scratch.block_on(provider.save(&token, &holder, &Changes::new(), NOW));
    assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
    assert!(begun.elapsed() < 10 * limit, "{:?}", begun.elapsed());
    assert!(scratch.block_on(provider.load(&token, NOW)).unwrap().is_some());
    scratch.block_on(other.execute("ROLLBACK")).unwrap();
    scratch.block_on(provider.save(&token, &holder, &Changes::new(), NOW)).unwrap();
}

/// The header says that only newer versions may write. So SQLite refuses to, whoever runs the test; with
/// permissions, root would write all the same.
#[test]
fn a_file_that_can_only_be_read_is_refused_or_read() {
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    let (token, holder) = stored(&scratch, &provider);
    // From the log into the file, after a change that has the provider read the file again.
    scratch.query("UPDATE sessions SET used = used; PRAGMA wal_checkpoint(TRUNCATE)");
    let mut bytes = std::fs::read(scratch.path()).unwrap();
    // The write version, at byte 18: https://www.sqlite.org/fileformat2.html#file_format_version_numbers
    bytes[18] = 3;
    std::fs::write(scratch.path(), &bytes).unwrap();
    assert!(refusal(scratch.config()).contains("written"));
    // One that was opened before.
    assert!(scratch.block_on(provider.load(&token, NOW)).unwrap().is_some());
    let saved = scratch.block_on(provider.save(&token, &holder, &Changes::new(), NOW));
    let Err(Error::Unavailable { source }) = saved else { panic!("{saved:?}") };
    assert!(source.to_string().contains("written"), "{source}");
    bytes[18] = 2;
    std::fs::write(scratch.path(), &bytes).unwrap();
    scratch.block_on(scratch.open().save(&token, &holder, &Changes::new(), NOW)).unwrap();
}

/// A file that was damaged is one that can't be opened, or read.
#[test]
fn damage_is_told() {
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    let (token, _) = stored(&scratch, &provider);
    // From the log into the file, whose first page has the schema.
    scratch.query("PRAGMA wal_checkpoint(TRUNCATE)");
    let whole = std::fs::read(scratch.path()).unwrap();
    let mut damaged = whole.clone();
    damaged[4096..].fill(0x5a);
    std::fs::write(scratch.path(), &damaged).unwrap();
    assert!(refusal(scratch.config()).contains("damaged"));
    // All pages but those of the version, which a provider looks at when it opens.
    let page = |number: usize| number * 4096..(number + 1) * 4096;
    let pages = 1..whole.len() / 4096;
    let version = pages.clone().find(|number| {
        let mut one = damaged.clone();
        one[page(*number)].copy_from_slice(&whole[page(*number)]);
        std::fs::write(scratch.path(), one).unwrap();
        SqliteProvider::open(scratch.config()).is_ok()
    });
    assert!(version.is_some(), "none of {pages:?} is the version's");
    let provider = scratch.open();
    let loaded = scratch.block_on(provider.load(&token, NOW));
    let Err(Error::Unavailable { source }) = loaded else { panic!("{loaded:?}") };
    assert!(source.to_string().contains("damaged"), "{source}");
}

/// What a request began is completed without it, and without the provider.
#[test]
fn a_dropped_request_leaves_a_whole_operation() {
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    let (token, holder) = stored(&scratch, &provider);
    for number in 0..20_u8 {
        let mut changes = Changes::new();
        changes.set("a", [number]);
        let save = provider.save(&token, &holder, &changes, NOW);
        let begun = futures_lite::future::block_on(futures_lite::future::poll_once(save));
        assert!(begun.is_none_or(|saved| saved.is_ok()));
        // Behind it in the queue for the only connection that writes.
        scratch.block_on(provider.save(&token, &holder, &Changes::new(), NOW)).unwrap();
        let loaded = scratch.block_on(provider.load(&token, NOW)).unwrap().unwrap();
        assert!(matches!(loaded.values.get("a"), Some([n]) if *n == number || *n + 1 == number));
    }
}

/// By name, as a program does it; on the manager's timer thread too.
#[test]
fn a_manager_opens_it_by_name() {
    session_sql::init();
    session_sql::init();
    let scratch = Scratch::in_memory();
    let manager = Manager::open("sqlite", &format!("path={}", scratch.path().display())).unwrap();
    let request = http::Request::new(());
    scratch.block_on(async {
        let handle = manager.start(&request);
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        let mut response = http::Response::new(());
        handle.finish(&mut response).await.unwrap();
        assert!(response.headers().contains_key("set-cookie"));
        assert_eq!(manager.count().await.unwrap(), 1);
        manager.collect().unwrap();
    });
    let rows: i64 = scratch.query("SELECT count(*) FROM sessions")[0].get(0);
    assert_eq!(rows, 1);
}
