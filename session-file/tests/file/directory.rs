//! Directories that are refused, and what is made in an accepted one.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use session_core::Error;
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::Scratch;
use crate::store::{Store, new_secret};

fn open(path: impl AsRef<Path>) -> Result<FileProvider, Error> {
    FileProvider::open(FileConfig::new(path.as_ref()).with_sync(Durability::None))
}

fn check_refused(path: impl AsRef<Path>, why: &str) {
    match open(path.as_ref()) {
        Err(Error::Config(message)) => assert!(message.contains(why), "{message:?} says {why:?}"),
        other => panic!("{:?}: {other:?}", path.as_ref()),
    }
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().expect("is there").permissions().mode() & 0o7777
}

#[test]
fn a_path_must_name_a_directory_of_our_own() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    check_refused("sessions", "is relative");
    check_refused("./sessions", "is relative");
    check_refused("../sessions", "is relative");
    check_refused(path("../sessions"), "has `..` or NUL");
    check_refused("/tmp\0/sessions", "has `..` or NUL");
    check_refused(path("missing"), "is missing");
    check_refused(path("missing/sessions"), "is missing");
    check_refused(path(&"x".repeat(300)), "is too long");
    fs::write(path("file"), "").unwrap();
    check_refused(path("file"), "is not a directory");
    check_refused(path("file/sessions"), "is not a directory");
    check_refused("/dev/null", "is not a directory");
    assert!(!path("sessions").exists(), "nothing is made on the way");
}

#[test]
fn links_are_not_followed_anywhere_on_the_way() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    fs::create_dir_all(path("real/sessions")).unwrap();
    symlink(path("real/sessions"), path("link")).unwrap();
    symlink(path("real"), path("parent")).unwrap();
    symlink(path("nowhere"), path("dangling")).unwrap();
    for link in ["link", "parent/sessions", "dangling"] {
        check_refused(path(link), "is reached through a symbolic link");
    }
    open(path("real/sessions")).expect("is fine without");
}

#[test]
fn a_directory_that_others_can_write_in_is_refused() {
    let scratch = Scratch::new();
    for wide in [0o777, 0o1777, 0o770, 0o702, 0o720] {
        fs::set_permissions(scratch.path(), Permissions::from_mode(wide)).unwrap();
        check_refused(scratch.path(), "can be written by other users");
        assert_eq!(mode(scratch.path()), wide, "it is as it was");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

/// Changing a directory's owner needs privileges.
#[test]
#[ignore = "needs the right to give directories away"]
fn a_directory_of_another_user_is_refused() {
    let scratch = Scratch::new();
    std::os::unix::fs::chown(scratch.path(), Some(65534), None).expect("is given away");
    check_refused(scratch.path(), "belongs to user 65534");
}

#[test]
fn a_directory_for_sessions_alone_is_closed_to_others() {
    let scratch = Scratch::new();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    open(scratch.path()).expect("is empty");
    assert_eq!(mode(scratch.path()), 0o700);
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o755)).unwrap();
    open(scratch.path()).expect("is a store");
    assert_eq!(mode(scratch.path()), 0o700);

    let home = Scratch::new();
    fs::write(home.path().join("thesis"), "").unwrap();
    fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
    check_refused(home.path(), "holds other files");
    assert_eq!(mode(home.path()), 0o755, "it is as it was");
}

#[test]
fn what_stands_in_the_way_is_refused() {
    let lock = "store-1.lock";
    let refused = |prepare: &dyn Fn(&Path), why: &str| {
        let scratch = Scratch::new();
        prepare(scratch.path());
        check_refused(scratch.path(), why);
    };
    refused(
        &|path| symlink("/dev/null", path.join(lock)).unwrap(),
        "has a lock file that is not a regular file",
    );
    refused(
        &|path| fs::create_dir(path.join(lock)).unwrap(),
        "has a lock file that is not a regular file",
    );
    refused(&|path| fs::write(path.join("7f"), "").unwrap(), "contains 7f");
    refused(&|path| symlink("/tmp", path.join("7f")).unwrap(), "contains 7f");
    refused(&|path| symlink("/tmp", path.join("owners")).unwrap(), "contains owners");
    refused(&|path| fs::write(path.join("owners"), "").unwrap(), "contains owners");
    refused(
        &|path| {
            fs::create_dir(path.join("7f")).unwrap();
            fs::set_permissions(path.join("7f"), Permissions::from_mode(0o777)).unwrap();
        },
        "contains 7f",
    );
}

/// A store with the previous layout, whose sessions had other ids, so none could be found.
#[test]
fn a_store_of_an_earlier_version_is_refused_and_left() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name);
    for folder in 0..256 {
        fs::create_dir(path(&format!("{folder:02x}"))).unwrap();
        fs::set_permissions(path(&format!("{folder:02x}")), Permissions::from_mode(0o700)).unwrap();
    }
    fs::write(path("00").join("a".repeat(62)), "session\x01").unwrap();
    fs::write(path("format-1.lock"), "").unwrap();
    for mode in [0o700, 0o755] {
        fs::set_permissions(scratch.path(), Permissions::from_mode(mode)).unwrap();
        check_refused(scratch.path(), "in the format of an earlier version, which can't be read");
    }
    assert!(!path("store-1.lock").exists(), "it is not made a store of ours");
    fs::remove_file(path("format-1.lock")).unwrap();
    fs::remove_dir_all(path("00")).unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o700)).unwrap();
    open(scratch.path()).expect("opens when what is in it was removed");
}

/// A process made the folder under a strict umask and was killed before it set the mode.
#[test]
fn a_folder_with_fewer_rights_is_put_right() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("7f");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, Permissions::from_mode(0o000)).unwrap();
    open(scratch.path()).expect("opens");
    assert_eq!(mode(&folder), 0o700);
}

/// A cleaning program removed the lock file, so other processes would not be excluded any more.
#[test]
fn without_its_lock_file_an_open_store_changes_nothing() {
    let store = Store::new();
    let token = store.stored();
    fs::remove_file(store.scratch.path().join("store-1.lock")).unwrap();
    for change in [store.save(&token, "n", 1), store.save_all(&token, &new_secret(&token))] {
        assert!(matches!(change, Err(Error::Unavailable { .. })), "{change:?}");
    }
    assert!(matches!(store.destroy(&token), Err(Error::Unavailable { .. })));
    assert!(store.load(&token).unwrap().is_some());
    let restarted = Store { provider: open(store.scratch.path()).unwrap(), ..store };
    restarted.save(&token, "n", 1).expect("a restart makes a new one");
}

#[test]
fn sources_are_checked_at_open() {
    session_file::init();
    session_file::init();
    assert!(session_core::provider::providers().contains(&"file".to_owned()));
    let scratch = Scratch::new();
    let path = scratch.path().display();
    for source in [
        "".to_owned(),
        "path=".to_owned(),
        "path=sessions".to_owned(),
        format!("path={path}/missing"),
        format!("path={path}&sync=maybe"),
        format!("path={path}&fsync=full"),
        format!("path={path}&max_bytes=-1"),
    ] {
        let opened = session_core::provider::open("file", &source);
        assert!(matches!(opened, Err(Error::Config(_))), "{source:?}: {opened:?}");
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    session_core::provider::open("file", &format!("path={path}&sync=none&max_bytes=4096"))
        .expect("opens");
}
