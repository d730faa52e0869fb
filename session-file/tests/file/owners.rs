//! The owner index from outside: its cost, and its entries after sessions have ended.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use session_core::provider::{Changes, Provider as _, Record, Token};

use crate::scratch::index_entries;
use crate::store::{HOUR, NOW, Store, id, list, log_in, new_secret, open, record};

fn owned(store: &Store, owner: &str) -> Token {
    let token = store.stored();
    store.save_all(&token, &log_in(owner)).expect("is live");
    token
}

/// Returns the entries and the number of owners' folders.
fn index(store: &Store) -> (Vec<PathBuf>, usize) {
    let entries = index_entries(store.scratch.path());
    let shards = fs::read_dir(store.scratch.path().join("owners")).expect("is there");
    let owners = shards.flat_map(|shard| fs::read_dir(shard.expect("is listed").path()).unwrap());
    (entries, owners.count())
}

#[test]
fn sessions_without_owners_leave_the_index_alone() {
    let store = Store::new();
    let id = id();
    store.create(&id, Record { login: None, ..record() }).expect("is stored");
    store.save(&id.into(), "n", 1).expect("is live");
    store.touch(&id.into(), NOW.saturating_add(2 * HOUR)).expect("is live");
    assert_eq!(store.list("ada"), []);
    assert_eq!(index(&store), (vec![], 0));
    assert_eq!(fs::read_dir(store.scratch.path().join("owners")).unwrap().count(), 0);
}

#[test]
fn a_session_whose_owner_stays_leaves_its_entry_alone() {
    let store = Store::new();
    let token = store.stored();
    let entry = index(&store).0.pop().expect("it has an owner");
    let seen = || {
        let metadata = entry.symlink_metadata().expect("is there");
        let folder = entry.parent().unwrap().metadata().unwrap();
        let changed = |of: &fs::Metadata| (of.ino(), of.ctime(), of.ctime_nsec());
        (metadata.len(), changed(&metadata), changed(&folder))
    };
    let before = seen();
    assert_eq!(before.0, 0, "it is empty");
    store.save(&token, "n", 1).expect("is live");
    store.save_all(&token, &log_in("ada")).expect("is live");
    store.touch(&token, NOW.saturating_add(2 * HOUR)).expect("is live");
    store.save_all(&token, &new_secret(&token)).expect("is live");
    assert_eq!(store.list("ada"), [token.key()]);
    assert_eq!(seen(), before);
}

#[test]
fn owners_are_not_in_names() {
    let store = Store::new();
    let owners = ["../../../ada", "/ada", ".", "..", "", "a\0da", "ADA", &"日".repeat(341)];
    let tokens = owners.map(|owner| owned(&store, owner));
    let is_hexadecimal = |name: &str| name.bytes().all(|byte| b"0123456789abcdef".contains(&byte));
    let entries = index(&store).0;
    // The entries of their first owner are still there, too.
    assert_eq!(entries.len(), 2 * owners.len());
    for entry in entries {
        let path = entry.strip_prefix(store.scratch.path().join("owners")).expect("is in it");
        let names: Vec<_> = path.iter().map(|name| name.to_str().expect("is text")).collect();
        assert_eq!(names.iter().map(|name| name.len()).collect::<Vec<_>>(), [2, 30, 24]);
        assert!(names.into_iter().all(is_hexadecimal), "{}", path.display());
    }
    for (owner, token) in owners.into_iter().zip(tokens) {
        assert_eq!(store.list(owner), [token.key()], "{owner:?}");
    }
}

/// The owner never lists the sessions.
#[test]
fn a_collection_removes_entries_of_sessions_that_are_gone() {
    let store = Store::new();
    let tokens: Vec<_> = (0..30).map(|_| store.stored()).collect();
    let kept = owned(&store, "grace");
    store.touch(&kept, NOW.saturating_add(9 * HOUR)).expect("is live");
    for token in &tokens[..10] {
        store.destroy(token).expect("is removed");
    }
    assert_eq!(index(&store).0.len(), 30 + 2);
    // No entry of a live session is removed, not even of the one that has another owner by now.
    assert_eq!(store.drain(NOW), 0);
    assert_eq!(index(&store).0.len(), 20 + 2);
    // An expired session that is not collected yet may be live by another process's clock.
    let later = NOW.saturating_add(2 * HOUR);
    assert_eq!(store.list_at("ada", later), []);
    assert_eq!(
        index(&store).0.len(),
        20 + 1,
        "the former owner's is stale, the expired ones' are not"
    );
    let (mut slices, mut most) = (0, 0);
    loop {
        let before = index(&store).0.len();
        let more = store.provider.purge(later, 7).expect("collects").more;
        most = most.max(before - index(&store).0.len());
        slices += 1;
        if !more {
            break;
        }
    }
    assert!(slices >= 5 && most == 7, "{slices} slices of {most} entries at most");
    assert_eq!(index(&store).1, 1, "the folder of an owner without sessions is gone");
    assert_eq!(store.list_at("grace", later), [kept.key()]);
}

#[test]
fn a_list_removes_what_is_stale_and_the_empty_folder() {
    let store = Store::new();
    let (destroyed, moved, kept) = (store.stored(), store.stored(), store.stored());
    store.destroy(&destroyed).expect("is removed");
    store.save_all(&moved, &log_in("grace")).expect("is live");
    assert_eq!(index(&store).0.len(), 4);
    assert_eq!(store.list("ada"), [kept.key()]);
    assert_eq!((index(&store).0.len(), index(&store).1), (2, 2));
    store.save_all(&kept, &Changes::new().with_login(None)).expect("is live");
    assert_eq!(store.list("ada"), []);
    assert_eq!((index(&store).0.len(), index(&store).1), (1, 1));
    store.save_all(&moved, &log_in("ada")).expect("is live");
    assert_eq!((store.list("ada"), store.list("grace")), (vec![moved.key()], vec![]));
    assert_eq!((index(&store).0.len(), index(&store).1), (1, 1));
}

/// The owner's folder is made and removed continuously.
#[test]
fn a_login_that_meets_the_removal_of_its_folder_is_listed() {
    const ROUNDS: usize = 2000;
    let store = Store::in_memory();
    let others = [open(&store.scratch).unwrap(), open(&store.scratch).unwrap()];
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for other in &others {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    list(other, "ada", NOW).expect("is listed");
                    other.purge(NOW, 100).expect("collects");
                }
            });
        }
        for round in 0..ROUNDS {
            let id = id();
            let created = store.create(&id, record());
            let listed = store.list("ada");
            store.destroy(&id.into()).expect("is removed");
            let left = store.list("ada");
            if created.is_err() || listed != [id.key()] || !left.is_empty() {
                is_over.store(true, Ordering::Relaxed);
                panic!("round {round}: {created:?}, then {listed:?}, then {left:?}");
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    store.drain(NOW);
    assert_eq!(index(&store), (vec![], 0));
}
