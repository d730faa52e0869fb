//! Files that the provider did not write, in the places of sessions' files.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use session_core::provider::{Changes, Record, Token};
use session_core::{Error, Limits, Timestamp};

use crate::scratch::{Scratch, index_entries};
use crate::store::{HOUR, NOW, Store, id, list, log_in, new_secret, number, record};

/// Checks every operation on a session whose file can't be read, and that other sessions are not
/// affected.
fn check_absent(store: &Store, token: &Token, what: &str) {
    let bystander = store.stored();
    match store.load(token) {
        Err(Error::Unreadable { reason }) => assert!(!reason.is_empty()),
        other => panic!("{what}: loaded as {other:?}"),
    }
    let saved = store.save(token, "count", 2);
    assert!(matches!(saved, Err(Error::Gone)), "{what}: saved as {saved:?}");
    let renewed = store.save_all(token, &new_secret(token));
    assert!(matches!(renewed, Err(Error::Gone)), "{what}: renewed as {renewed:?}");
    let created = store.create(token.id(), record());
    assert!(matches!(created, Err(Error::Exists)), "{what}: created as {created:?}");
    assert_eq!(store.load(&bystander).unwrap(), Some(record()), "{what}: another session");
    store.destroy(&bystander).unwrap();
    assert!(store.beside(token).iter().all(|name| !name.starts_with('.')), "{what}: strays");
}

fn set_modified(path: &Path, seconds: i64, nanos: i64) {
    let kept = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let time = Timespec { tv_sec: seconds, tv_nsec: nanos };
    let times = Timestamps { last_access: kept, last_modification: time };
    utimensat(CWD, path, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).expect("times are set");
}

/// Sets the modification time of a path to the expiry of sample records.
fn make_live(path: &Path) {
    set_modified(path, (NOW.as_secs() + HOUR.as_secs()) as i64, 123_000_000);
}

/// Overwrites a file. It doesn't truncate the file to nothing first, because ext4 would wait for the
/// disk then.
fn overwrite(path: &Path, content: &[u8]) {
    let file = File::options().write(true).open(path).expect("is there");
    file.write_all_at(content, 0).expect("is written");
    file.set_len(content.len() as u64).expect("is cut");
    make_live(path);
}

/// Returns a store with a session whose file `change` replaced. `change` gets the old content.
fn with_file(change: impl FnOnce(&Path, Vec<u8>)) -> (Store, Token) {
    let store = Store::new();
    let token = store.stored();
    let path = store.path(&token);
    let content = fs::read(&path).expect("the session's file is there");
    change(&path, content);
    (store, token)
}

fn check_content(what: &str, content: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let (store, token) = with_file(|path, old| {
        fs::write(path, content(old)).expect("is written");
        make_live(path);
    });
    check_absent(&store, &token, what);
    store.destroy(&token).expect("is removed");
    assert_eq!(store.load(&token).unwrap(), None, "{what}: after it was destroyed");
}

#[test]
fn a_file_of_another_content_is_no_session() {
    check_content("empty", |_| Vec::new());
    check_content("text", |_| b"count=1\n".repeat(100));
    check_content("zeros", |old| vec![0; old.len()]);
    check_content("a byte more", |old| [&old[..], &[0]].concat());
    check_content("twice", |old| old.repeat(2));
    check_content("unknown version", |mut old| {
        old[7] = 2;
        old
    });
    check_content("another owner", |mut old| {
        let at = old.windows(3).position(|bytes| bytes == b"ada").expect("the owner is in it");
        old[at] = b'A';
        old
    });
    check_content("4 GiB of keys", |mut old| {
        old[113..117].copy_from_slice(&[0xff; 4]);
        old
    });
}

#[test]
fn a_file_cut_anywhere_is_no_session() {
    let (store, token) = with_file(|_, _| {});
    let path = store.path(&token);
    let content = fs::read(&path).unwrap();
    for length in 0..content.len() {
        overwrite(&path, &content[..length]);
        let loaded = store.load(&token);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "cut at {length}: {loaded:?}");
    }
    fs::write(&path, &content).unwrap();
    make_live(&path);
    assert_eq!(store.load(&token).unwrap(), Some(record()), "whole again");
}

#[test]
fn a_flipped_bit_anywhere_is_found() {
    let (store, token) = with_file(|_, _| {});
    let path = store.path(&token);
    let content = fs::read(&path).unwrap();
    for bit in 0..content.len() * 8 {
        let mut content = content.clone();
        content[bit / 8] ^= 1 << (bit % 8);
        overwrite(&path, &content);
        let loaded = store.load(&token);
        assert!(matches!(loaded, Err(Error::Unreadable { .. })), "bit {bit}: {loaded:?}");
    }
}

#[test]
fn another_sessions_file_is_refused() {
    let store = Store::new();
    let (victim, thief) = (store.stored(), store.stored());
    fs::copy(store.path(&victim), store.path(&thief)).unwrap();
    make_live(&store.path(&thief));
    check_absent(&store, &thief, "copied");
    fs::rename(store.path(&victim), store.path(&thief)).unwrap();
    check_absent(&store, &thief, "moved");
}

#[test]
fn a_symbolic_link_is_not_followed() {
    let store = Store::new();
    let (victim, thief) = (store.stored(), store.stored());
    let path = store.path(&thief);
    let outside = store.scratch.path().join("outside");
    fs::write(&outside, "outside").unwrap();
    for target in [store.path(&victim), outside.clone(), "/dev/zero".into(), "dangling".into()] {
        fs::remove_file(&path).unwrap();
        symlink(&target, &path).unwrap();
        make_live(&path);
        check_absent(&store, &thief, "a link");
        assert!(path.symlink_metadata().unwrap().is_symlink(), "it was left alone");
    }
    let touched = store.touch(&thief, NOW.saturating_add(2 * HOUR));
    assert!(matches!(touched, Err(Error::Gone)), "{touched:?}");
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
    assert!(outside.metadata().unwrap().modified().unwrap() < SystemTime::now() + HOUR);
    assert_eq!(store.drain(NOW.saturating_add(10 * HOUR)), 1, "the other session only");
    store.destroy(&thief).expect("the link itself is removed");
    assert!(!path.is_symlink() && outside.exists());
}

fn make_pipe(path: &Path) {
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(path).status();
    assert!(made.expect("starts").success());
}

#[test]
fn a_pipe_is_not_waited_for() {
    let (store, token) = with_file(|path, _| {
        fs::remove_file(path).unwrap();
        make_pipe(path);
        make_live(path);
    });
    check_absent(&store, &token, "a pipe");
    assert!(store.path(&token).symlink_metadata().unwrap().file_type().is_fifo());
}

#[test]
fn a_socket_is_refused() {
    let (store, token) = with_file(|path, _| {
        // The paths of sockets must be shorter than those of sessions.
        let short = path.parent().unwrap().join("s");
        std::os::unix::net::UnixListener::bind(&short).expect("is made");
        fs::set_permissions(&short, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&short, path).unwrap();
        make_live(path);
    });
    check_absent(&store, &token, "a socket");
}

#[test]
fn a_directory_is_refused_and_left() {
    let (store, token) = with_file(|path, _| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        make_live(path);
    });
    check_absent(&store, &token, "a directory");
    store.destroy(&token).expect("there was no session");
    assert_eq!(store.drain(NOW.saturating_add(10 * HOUR)), 0);
    assert!(store.path(&token).is_dir(), "it was left alone");
}

/// Making a device needs privileges. That other kinds of files are refused is tested without privileges
/// elsewhere.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "needs the right to make devices"]
fn a_device_is_refused() {
    use rustix::fs::{FileType, Mode, mknodat};

    for (kind, minor) in [(FileType::CharacterDevice, 5), (FileType::BlockDevice, 0)] {
        let (store, token) = with_file(|path, _| {
            fs::remove_file(path).unwrap();
            let device = rustix::fs::makedev(1, minor); // /dev/zero, /dev/ram0
            mknodat(CWD, path, kind, Mode::from_raw_mode(0o600), device).expect("is made");
            make_live(path);
        });
        check_absent(&store, &token, "a device");
    }
}

/// Changing a file's owner needs privileges; see `a_device_is_refused`.
#[test]
#[ignore = "needs the right to give files away"]
fn a_file_of_another_user_is_refused() {
    let (store, token) = with_file(|path, _| {
        std::os::unix::fs::chown(path, Some(65534), None).expect("is given away");
    });
    check_absent(&store, &token, "another user's");
}

#[test]
fn a_file_that_others_may_read_or_write_is_refused() {
    for mode in [0o666, 0o644, 0o640, 0o601, 0o602, 0o4600, 0o1600, 0o700, 0o400] {
        let (store, token) = with_file(|path, _| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        });
        check_absent(&store, &token, &format!("mode {mode:o}"));
    }
}

#[test]
fn a_huge_file_is_neither_read_nor_allocated_for() {
    for length in [(1 << 20) + 1, 10 << 30] {
        let (store, token) = with_file(|path, _| {
            File::options().write(true).open(path).unwrap().set_len(length).unwrap();
            make_live(path);
        });
        check_absent(&store, &token, &format!("{length} bytes"));
        assert_eq!(
            store.drain(NOW.saturating_add(2 * HOUR)),
            1,
            "collected when its time has come"
        );
    }
}

#[test]
fn an_expiry_at_the_end_of_time_does_no_harm() {
    let gone = |time: i64| {
        let (store, token) = with_file(|path, _| set_modified(path, time, 999_999_999));
        let kept = store.path(&token).symlink_metadata().unwrap().mtime();
        match store.load(&token) {
            Ok(None) | Err(Error::Unreadable { .. }) => {}
            // A file system that can't store such a time may store its last one.
            other => assert!(kept < time, "{time}: loaded as {other:?}"),
        }
        let saved = store.save(&token, "count", 2);
        assert!(matches!(saved, Err(Error::Gone)) || kept < time, "{time}: {saved:?}");
        store.drain(Timestamp::MAX);
        store.drain(NOW);
        store.destroy(&token).unwrap();
        assert_eq!(store.load(&token).unwrap(), None);
    };
    for time in [i64::MIN, i64::MIN + 1, -(1 << 33), -1, 0, 1, 1 << 33, 1 << 40, i64::MAX] {
        gone(time);
    }
    // Of two expiries that this provider writes, the later one is never read as the earlier one.
    let store = Store::new();
    let token = store.stored();
    for millis in [NOW.as_millis() + (1 << 40), (1 << 33) * 1000 - 1001, u64::MAX / 2, u64::MAX] {
        let expires = Timestamp::from_millis(millis);
        store.touch(&token, expires).expect("is live");
        let found = store.load(&token).unwrap().expect("is live");
        assert!(found.expires >= expires, "{expires:?} is kept as {:?}", found.expires);
        store.save(&token, "count", 3).expect("is live");
        let saved = store.load(&token).unwrap().expect("is live");
        assert_eq!(saved.expires, found.expires, "after a save");
    }
}

/// Reading a session writes nothing, not even the time of access if the system has a way to avoid that.
#[test]
fn reading_leaves_no_trace() {
    let store = Store::new();
    let token = store.stored();
    let path = store.path(&token);
    let long_ago = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let times = fs::FileTimes::new().set_accessed(long_ago);
    File::open(&path).unwrap().set_times(times).unwrap();
    let trace = || {
        let metadata = path.symlink_metadata().unwrap();
        let accessed = cfg!(all(target_os = "linux", not(session_file_portable)))
            .then(|| metadata.accessed().unwrap());
        (accessed, metadata.modified().unwrap(), metadata.ctime_nsec())
    };
    let before = trace();
    assert_eq!(File::open(&path).unwrap().metadata().unwrap().accessed().unwrap(), long_ago);
    for _ in 0..3 {
        assert!(store.load(&token).unwrap().is_some());
    }
    assert_eq!(trace(), before);
}

#[test]
fn stray_temporaries_go() {
    let store = Store::new();
    let token = store.stored();
    let folder = store.path(&token).parent().unwrap().to_owned();
    let stray = folder.join(".new-0123456789abcdef-1");
    let other = folder.join(".new-by-something-else");
    for path in [&stray, &other] {
        fs::write(path, "half a sess").unwrap();
        set_modified(path, (NOW.as_secs() + 3600) as i64, 0);
    }
    assert_eq!(store.count(), 1, "temporaries are no sessions");
    assert_eq!(store.drain(NOW), 0, "and are not counted as removed ones");
    assert!(!stray.exists(), "its maker never lived");
    assert!(other.exists(), "no temporary of ours");
    assert_eq!(store.load(&token).unwrap(), Some(record()));
}

#[test]
fn a_record_over_max_bytes_is_not_written() {
    let store = Store::new();
    let token = store.stored();
    let mut changes = Changes::new();
    changes.limits.bytes = Limits::MAX_BYTES;
    let length = 2 << 20;
    changes.set("large", [&[0xc6, 0, 0x20, 0, 0], &vec![7; length][..]].concat());
    let saved = store.save_all(&token, &changes);
    assert!(matches!(saved, Err(Error::TooLarge { limit: 1_048_576, .. })), "{saved:?}");
    assert_eq!(store.load(&token).unwrap(), Some(record()));
    let large = Record { values: [("k", vec![0xc0; 2 << 20])].into_iter().collect(), ..record() };
    let created = store.create(&id(), large);
    assert!(matches!(created, Err(Error::TooLarge { .. })), "{created:?}");
}

#[test]
fn a_folder_that_is_gone_is_made_again() {
    let store = Store::new();
    let token = store.stored();
    for folder in fs::read_dir(store.scratch.path()).unwrap().flatten() {
        if folder.path().is_dir() {
            fs::remove_dir_all(folder.path()).unwrap();
        }
    }
    assert_eq!(store.load(&token).unwrap(), None);
    assert!(matches!(store.save(&token, "count", 1), Err(Error::Gone)));
    store.destroy(&token).expect("there is nothing to destroy");
    assert_eq!((store.count(), store.drain(NOW)), (0, 0));
    store.create(token.id(), record()).expect("is stored");
    assert_eq!(store.load(&token).unwrap(), Some(record()));
}

#[test]
fn a_folder_that_is_a_link_leads_nowhere() {
    let store = Store::new();
    let outside = Store::new();
    let token = outside.stored();
    let (folder, target) = (store.path(&token), outside.path(&token));
    let (folder, target) = (folder.parent().unwrap(), target.parent().unwrap());
    fs::remove_dir(folder).unwrap();
    symlink(target, folder).unwrap();
    let loaded = store.load(&token);
    assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{loaded:?}");
    for result in [
        store.save(&token, "count", 9),
        store.touch(&token, Timestamp::MAX),
        store.destroy(&token),
        store.create(token.id(), record()),
    ] {
        assert!(result.is_err());
    }
    assert_eq!((store.count(), store.drain(Timestamp::MAX)), (0, 0));
    assert_eq!(outside.load(&token).unwrap(), Some(record()), "as it was");
    assert_eq!(outside.load(&token).unwrap().unwrap().values.get("count"), Some(&number(1)[..]));
}

/// Returns Ada's folder in the owner index, where she has one session.
fn owners_folder(store: &Store) -> PathBuf {
    let [entry] = &index_entries(store.scratch.path())[..] else { panic!("there is one session") };
    entry.parent().expect("is in a folder").to_owned()
}

/// Returns an entry's name.
fn entry(token: &Token) -> String {
    token.key().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_is_no_entry_is_not_listed_and_not_followed() {
    let store = Store::new();
    let token = store.stored();
    let folder = owners_folder(&store);
    let outside = store.scratch.path().join("outside");
    fs::write(&outside, "outside").unwrap();
    let (graces, nobodys) = (store.stored(), id());
    store.save_all(&graces, &log_in("grace")).expect("is live");
    store.create(&nobodys, Record { login: None, ..record() }).expect("is stored");
    // Entries of other owners' sessions, of sessions without an owner and of missing sessions, as files
    // and as other things.
    let names = [entry(&graces), entry(&nobodys.into()), entry(&id().into()), entry(&id().into())];
    let [other, link, pipe, directory] = names.map(|name| folder.join(name));
    fs::write(&other, "").unwrap();
    symlink(&outside, &link).unwrap();
    make_pipe(&pipe);
    fs::create_dir(&directory).unwrap();
    // Names that no entry has.
    fs::write(folder.join("junk"), "").unwrap();
    fs::write(folder.join(entry(&token).to_uppercase()), "").unwrap();
    fs::write(folder.join(&entry(&token)[1..]), "").unwrap();
    symlink("..", folder.join("loop")).unwrap();
    for _ in 0..2 {
        assert_eq!(store.list("ada"), [token.key()]);
        assert_eq!(store.list("grace"), [graces.key()]);
        assert_eq!(store.drain(NOW), 0);
    }
    assert!(!other.exists(), "another owner's session");
    assert!(!link.is_symlink() && !pipe.exists(), "what can be removed is, whatever it is");
    assert!(directory.is_dir(), "a directory is left");
    assert_eq!(fs::read(&outside).unwrap(), b"outside");
    store.destroy(&token).unwrap();
    assert_eq!((store.list("ada"), store.drain(NOW)), (vec![], 0));
    assert!(folder.join("junk").exists(), "what is no entry is left");
}

/// Only the name of an entry matters.
#[test]
fn what_has_an_entrys_name_already_does_for_one() {
    type Make = fn(&Path);
    let makes: [Make; 5] = [
        |path| fs::write(path, "left by a process that was killed").unwrap(),
        |path| {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
        },
        |path| symlink("dangling", path).unwrap(),
        |path| fs::create_dir(path).unwrap(),
        |path| make_pipe(path),
    ];
    for store in [Store::new(), Store::synced()] {
        store.stored();
        let folder = owners_folder(&store);
        for (number, make) in makes.iter().enumerate() {
            let id = id();
            make(&folder.join(entry(&id.into())));
            store.create(&id, record()).unwrap_or_else(|error| panic!("{number}: {error:?}"));
            assert!(store.list("ada").contains(&id.key()), "{number}");
        }
    }
}

#[test]
fn an_index_folder_that_is_none_keeps_logins_out_and_leads_nowhere() {
    let outside = Scratch::new();
    for depth in 0..3 {
        for replace in [
            (|path, outside| symlink(outside, path).unwrap()) as fn(&Path, &Path),
            |path, _| fs::write(path, "").unwrap(),
            |path, _| make_pipe(path),
        ] {
            let store = Store::new();
            let token = store.stored();
            let folder = owners_folder(&store);
            let folder = folder.ancestors().nth(depth).unwrap();
            fs::remove_dir_all(folder).unwrap();
            replace(folder, outside.path());
            let anonymous = id();
            store.create(&anonymous, Record { login: None, ..record() }).expect("needs no entry");
            let refused = [
                store.create(&id(), record()),
                store.save_all(&anonymous.into(), &log_in("ada")),
                list(&store.provider, "ada", NOW).map(drop),
            ];
            for refused in refused {
                assert!(matches!(refused, Err(Error::Unavailable { .. })), "{refused:?}");
            }
            let loaded = store.load(&anonymous.into()).unwrap().expect("is live");
            assert_eq!(loaded.owner(), None, "not logged in");
            assert_eq!((store.drain(NOW), store.count()), (0, 2));
            store.save(&token, "count", 2).expect("its owner stays");
        }
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn an_index_that_is_gone_is_made_again() {
    let store = Store::new();
    store.stored();
    for depth in 0..3 {
        let folder = owners_folder(&store);
        fs::remove_dir_all(folder.ancestors().nth(depth).unwrap()).unwrap();
        assert_eq!((store.list("ada"), store.drain(NOW)), (vec![], 0));
        let token = store.stored();
        assert_eq!(store.list("ada"), [token.key()]);
    }
}

/// A process made the folders under a strict umask and was killed before it set their modes.
#[test]
fn an_index_folder_with_fewer_rights_is_put_right() {
    let store = Store::new();
    let token = store.stored();
    let folder = owners_folder(&store);
    for depth in 0..3 {
        let folder = folder.ancestors().nth(depth).unwrap();
        let close = || fs::set_permissions(folder, Permissions::from_mode(0o000)).unwrap();
        close();
        assert_eq!(store.list("ada"), [token.key()]);
        close();
        assert_eq!(store.drain(NOW), 0);
        close();
        let other = store.stored();
        assert_eq!(store.list("ada").len(), 2);
        store.destroy(&other).unwrap();
    }
}

#[test]
fn a_session_that_cannot_be_read_is_not_listed_and_keeps_its_entry() {
    let store = Store::new();
    let (broken, whole) = (store.stored(), store.stored());
    let path = store.path(&broken);
    for mode in [0o644, 0o600] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let wanted: Vec<_> = match mode {
            0o600 => vec![broken.key().min(whole.key()), broken.key().max(whole.key())],
            _ => vec![whole.key()],
        };
        assert_eq!(store.list("ada"), wanted, "mode {mode:o}");
        assert_eq!(store.drain(NOW), 0);
    }
    fs::rename(&path, store.path(&whole)).unwrap();
    make_live(&store.path(&whole));
    assert_eq!(store.list("ada"), [], "one that was written for another key is no session");
    assert_eq!(index_entries(store.scratch.path()).len(), 1);
}
