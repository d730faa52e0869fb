//! Faults, at every operation; and what only shows from inside.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use rustix::fs::Stat;
use session_core::provider::{Login, NewSecret, Page};
use session_core::{SessionKey, value};

use super::*;
use crate::faults::{Fault, FaultInjector, Operation};
use crate::format;
use crate::temporary::Temporary;

#[path = "../../tests/file/scratch.rs"]
mod scratch;

use scratch::{Scratch, index_entries};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const LATER: Timestamp = Timestamp::from_millis(1_800_003_600_000);
const SOON: Timestamp = Timestamp::from_millis(1_800_000_060_000);
const LATEST: Timestamp = Timestamp::from_millis(1_800_007_200_000);

const TOUCH: Touch = Touch { used: SOON, expires: LATEST };

/// Who holds the sample records at first, and after a save.
const HOLDER: Verifier = Verifier::from_bytes([1; 32]);
const NEXT: Verifier = Verifier::from_bytes([2; 32]);

/// For operations that wait for the disk, and for those that never do.
const BOTH: &[Durability] = &[Durability::None, Durability::Full];
const NONE: &[Durability] = &[Durability::None];

const ERRNOS: [Errno; 5] = [Errno::NOSPC, Errno::IO, Errno::MFILE, Errno::ROFS, Errno::INTR];

struct Tested {
    store: Store,
    injector: FaultInjector,
    scratch: Scratch,
}

impl Tested {
    fn new(sync: Durability) -> Self {
        Self::in_scratch(Scratch::new(), sync)
    }

    fn in_scratch(scratch: Scratch, sync: Durability) -> Self {
        let injector = FaultInjector::new();
        let config = FileConfig::new(scratch.path()).with_sync(sync);
        let mut store = Store::open(config).expect("opens");
        store.locks.set_timeout(Duration::ZERO);
        Self { store, injector, scratch }
    }

    fn queue(&self, name: &Name) -> Queued {
        block_on(self.store.locks.queue(name))
    }

    fn create(&self, name: &Name) -> Result<(), Error> {
        self.store.create(self.queue(name), name, &record(), NOW)
    }

    fn stored(&self) -> Name {
        let name = name();
        self.create(&name).expect("is stored");
        name
    }

    fn save(&self, name: &Name) -> Result<(), Error> {
        self.store.save(self.queue(name), name, &HOLDER, &changes(), NOW)
    }

    fn touch(&self, name: &Name) -> Result<(), Error> {
        self.store.touch(self.queue(name), name, TOUCH, NOW)
    }

    /// The sessions on the first page of an owner's list.
    fn list(&self, owner: &str) -> Result<Vec<SessionKey>, Error> {
        let page = Page { after: None, limit: 10 };
        let listed = self.store.list(owner, page, NOW)?;
        Ok(listed.sessions.iter().map(|summary| summary.key).collect())
    }

    /// Checks that a session is in the list of its owner, if it has one, and that nothing else is in any.
    fn check_lists(&self, found: &Option<Record>, name: &Name, what: &str) {
        for owner in ["ada", "grace"] {
            let is_owner = found.as_ref().is_some_and(|record| record.owner() == Some(owner));
            let wanted: Vec<_> = [name.key()].into_iter().filter(|_| is_owner).collect();
            assert_eq!(self.list(owner).expect("is listed"), wanted, "{what}: list of {owner}");
        }
    }

    fn load(&self, name: &Name) -> Result<Option<Record>, Error> {
        match self.store.load_cached(name, NOW) {
            Some(answer) => answer,
            None => self.store.load(name, NOW),
        }
    }

    fn found(&self, name: &Name) -> Option<Record> {
        self.load(name).expect("can be read")
    }

    /// The number of files that are no sessions.
    fn strays(&self) -> usize {
        let folders = std::fs::read_dir(&self.store.config.path).expect("is listed");
        let folders = folders.map(|folder| folder.expect("is listed").path());
        let files = folders.filter(|path| path.is_dir()).flat_map(|folder| {
            std::fs::read_dir(folder).expect("is listed").map(|file| file.expect("is listed"))
        });
        files.filter(|file| file.file_name().to_string_lossy().starts_with('.')).count()
    }
}

fn name() -> Name {
    Name::of(SessionId::generate().expect("has random numbers").key())
}

fn number(n: u64) -> Arc<[u8]> {
    value::encode("", &n, &Default::default()).expect("is a value")
}

fn login(owner: &str) -> Option<Box<Login>> {
    Some(Box::new(Login { owner: owner.into(), at: NOW, label: "phone".into() }))
}

fn record() -> Record {
    let values = [("count", number(1)), ("name", number(2))].into_iter().collect();
    Record { login: login("grace"), values, ..Record::new(HOLDER, NOW, LATER) }
}

/// A login by another owner: a value, the owner and the new secret, which arrive together or not at all. The
/// save can be repeated, as it names the holder before it.
fn changes() -> Changes {
    let id = SessionId::from_bytes([7; 32]);
    let secret = NewSecret { token: id.into(), holder: NEXT, at: NOW };
    let mut changes = Changes::new().with_login(login("ada")).with_secret(secret);
    changes.set("count", number(1_000_000));
    changes
}

fn saved() -> Record {
    let mut record = record();
    record.apply(&HOLDER, &changes(), NOW).expect("fits");
    record
}

/// Runs an operation with a fault at its first step, its second, and so on, until it comes to its
/// end without one; with each error, once and from then on, on these kinds of store.
///
/// `operate` gets a session; `check` gets the session, what the operation answered, and whether
/// that leaves open if it happened.
///
/// An operation that walks over the whole store has a thousand steps: each of them sees one of the errors.
fn with_every_fault<T: std::fmt::Debug>(
    kinds: &[Durability],
    operate: impl Fn(&Tested, &Name) -> Result<T, Error>,
    check: impl Fn(&Tested, &Name, &Result<T, Error>, &str),
) {
    for sync in kinds {
        let scratch = if kinds == NONE { Scratch::in_memory() } else { Scratch::new() };
        let tested = Tested::in_scratch(scratch, *sync);
        let faults = ERRNOS.iter().flat_map(|errno| [(*errno, false), (*errno, true)]);
        for (first, (errno, lasts)) in faults.enumerate() {
            let (first, step) = if kinds == NONE { (first, 2 * ERRNOS.len()) } else { (0, 1) };
            for at in (first..).step_by(step) {
                assert!(at < 2000, "the operation has no end");
                let name = tested.stored();
                tested.injector.set(Some(Fault { at, errno, lasts }));
                let result = operate(&tested, &name);
                let failed = tested.injector.unset();
                let what = format!("{sync:?}, {errno:?} at {at}, lasts: {lasts}: {result:?}");
                match &result {
                    Ok(_) => {}
                    Err(Error::Full { .. }) => assert_eq!(errno, Errno::NOSPC, "{what}"),
                    Err(Error::InDoubt { source } | Error::Unavailable { source }) => {
                        // Extracted behind the steps' names, for logs.
                        assert!(source.source().is_some(), "{what}");
                    }
                    Err(_) => panic!("{what}"),
                }
                assert!(failed || result.is_ok(), "{what}: without a fault");
                check(&tested, &name, &result, &what);
                let queued = tested.queue(&name);
                tested.store.destroy(queued, &name).expect("is removed");
                if !failed {
                    break;
                }
            }
        }
        // What could not be removed then is removed by others when this opening has ended.
        let Tested { store, injector, scratch } = tested;
        let config = store.config.clone();
        drop(store);
        let store = Store::open(config).expect("opens");
        let tested = Tested { store, injector, scratch };
        while tested.store.purge(NOW, 1000).expect("collects").more {}
        assert_eq!(tested.strays(), 0);
        assert_eq!(tested.store.count(NOW).expect("counts"), 0);
    }
}

/// Checks that an operation that failed changed nothing, that one that passed did what it should,
/// and that one in doubt did one of both.
fn check_outcome<T, V: PartialEq + std::fmt::Debug>(
    result: &Result<T, Error>,
    found: &V,
    before: &V,
    after: &V,
    what: &str,
) {
    match result {
        Ok(_) => assert_eq!(found, after, "{what}"),
        Err(Error::InDoubt { .. }) => assert!(found == before || found == after, "{what}"),
        Err(_) => assert_eq!(found, before, "{what}"),
    }
}

#[test]
fn a_fault_during_create_leaves_none_or_all() {
    let new = std::cell::Cell::new(name());
    with_every_fault(
        BOTH,
        |tested, _| {
            new.set(name());
            tested.create(&new.get())
        },
        |tested, name, result, what| {
            let found = tested.found(&new.get());
            check_outcome(result, &found, &None, &Some(record()), what);
            tested.store.destroy(tested.queue(name), name).expect("is removed");
            tested.check_lists(&found, &new.get(), what);
            tested.store.destroy(tested.queue(&new.get()), &new.get()).expect("is removed");
        },
    );
}

#[test]
fn a_fault_during_load_is_an_error_and_does_no_harm() {
    with_every_fault(BOTH, Tested::load, |tested, name, result, what| {
        if let Ok(found) = result {
            assert_eq!(*found, Some(record()), "{what}");
        }
        assert_eq!(tested.found(name), Some(record()), "{what}");
    });
}

#[test]
fn a_fault_during_save_leaves_the_old_or_the_new() {
    with_every_fault(BOTH, Tested::save, |tested, name, result, what| {
        let found = tested.found(name);
        check_outcome(result, &found, &Some(record()), &Some(saved()), what);
        tested.check_lists(&found, name, what);
    });
}

#[test]
fn a_fault_during_destroy_is_no_success() {
    with_every_fault(
        BOTH,
        |tested, name| tested.store.destroy(tested.queue(name), name),
        |tested, name, result, what| {
            let found = tested.found(name);
            check_outcome(result, &found, &Some(record()), &None, what);
            tested.check_lists(&found, name, what);
        },
    );
}

#[test]
fn a_fault_during_touch_leaves_the_old_times_or_the_new() {
    with_every_fault(BOTH, Tested::touch, |tested, name, result, what| {
        let touched = Record { used: SOON, expires: LATEST, ..record() };
        check_outcome(result, &tested.found(name), &Some(record()), &Some(touched), what);
    });
}

/// The entries of sessions that were destroyed before are on the list's way.
#[test]
fn a_fault_during_list_is_an_error_and_does_no_harm() {
    with_every_fault(
        BOTH,
        |tested, _| tested.list("grace"),
        |tested, name, result, what| {
            if let Ok(keys) = result {
                assert_eq!(*keys, [name.key()], "{what}");
            }
            tested.check_lists(&Some(record()), name, what);
            let entries = index_entries(tested.scratch.path());
            assert_eq!(entries.len(), 1, "{what}: one session, one entry");
        },
    );
}

#[test]
fn a_fault_during_count_is_an_error() {
    with_every_fault(
        NONE,
        |tested, _| tested.store.count(NOW),
        |_, _, result, what| {
            if let Ok(count) = result {
                assert_eq!(*count, 1, "{what}");
            }
        },
    );
}

#[test]
fn a_fault_during_purge_stops_it_for_a_while() {
    with_every_fault(
        NONE,
        |tested, _| tested.store.purge(LATEST, 1000),
        |tested, name, result, what| {
            if let Ok(purged) = result {
                assert_eq!((purged.removed, purged.more), (1, false), "{what}");
            }
            // Wherever it stopped, the next rounds come to the end and to the beginning.
            let round = || while tested.store.purge(LATEST, 1000).expect("collects").more {};
            round();
            round();
            assert_eq!(tested.found(name), None, "{what}");
            assert!(index_entries(tested.scratch.path()).is_empty(), "{what}: nor in the index");
        },
    );
}

#[test]
fn a_fault_during_open_is_an_error_and_the_next_open_works() {
    for fresh in [true, false] {
        let tested = Tested::in_scratch(Scratch::in_memory(), Durability::Full);
        let name = tested.stored();
        for at in 0.. {
            // A fresh store takes time, so each step sees one of the errors there.
            let errnos = if fresh { &ERRNOS[at % 5..=at % 5] } else { &ERRNOS[..] };
            let mut failed = false;
            for errno in errnos {
                let scratch = fresh.then(Scratch::in_memory);
                let mut config = tested.store.config.clone();
                if let Some(scratch) = &scratch {
                    config.path = scratch.path().into();
                }
                let injector = FaultInjector::new();
                injector.set(Some(Fault { at, errno: *errno, lasts: false }));
                let opened = Store::open(config.clone());
                failed |= injector.unset();
                match opened.map(drop) {
                    Ok(()) => {}
                    Err(Error::Full { .. } | Error::Unavailable { .. }) => {}
                    Err(error) => panic!("{errno:?} at {at}: {error:?}"),
                }
                Store::open(config).expect("opens without");
            }
            if !failed {
                break;
            }
        }
        assert_eq!(tested.found(&name), Some(record()));
    }
}

#[test]
fn short_reads_and_writes_are_completed() {
    for portion in [1, 7, 95] {
        let tested = Tested::new(Durability::None);
        tested.injector.set_portion(portion);
        let name = tested.stored();
        assert_eq!(tested.found(&name), Some(record()));
        tested.save(&name).expect("is live");
        assert_eq!(tested.found(&name), Some(saved()));
        tested.touch(&name).expect("is live");
        let touched = Record { used: SOON, expires: LATEST, ..saved() };
        assert_eq!(tested.found(&name), Some(touched));
    }
}

/// After a failed fsync a kernel takes the pages for clean: trying again would succeed and prove
/// nothing.
#[test]
fn a_failed_fsync_is_not_tried_again() {
    let tested = Tested::new(Durability::Full);
    let name = tested.stored();
    tested.save(&name).expect("makes its owner's entry");
    let steps = |errno| {
        tested.injector.set(None);
        tested.save(&name).expect("is live");
        let kinds = tested.injector.kinds();
        let syncs: Vec<_> = (0..kinds.len()).filter(|at| kinds[*at] == Operation::Sync).collect();
        assert_eq!(syncs.len(), 2, "the file, then its folder");
        syncs.into_iter().map(move |at| Fault { at, errno, lasts: false })
    };
    for errno in [Errno::IO, Errno::INTR, Errno::NOSPC] {
        for (number, fault) in steps(errno).enumerate() {
            tested.injector.set(Some(fault));
            let saved = tested.save(&name);
            assert!(tested.injector.unset());
            assert_eq!(
                tested.injector.seen(Operation::Sync),
                number + 1,
                "none after the failed one"
            );
            match saved {
                Err(Error::Unavailable { .. } | Error::Full { .. }) if number == 0 => {}
                Err(Error::InDoubt { .. }) if number == 1 => {}
                other => panic!("{errno:?} at fsync {number}: {other:?}"),
            }
            assert_eq!(tested.strays(), 0, "the file whose fsync failed is thrown away");
        }
    }
}

/// A record is not written whose entry may not be on the disk.
#[test]
fn an_entry_is_on_the_disk_before_its_record() {
    let tested = Tested::new(Durability::Full);
    let name = tested.stored();
    tested.injector.set(None);
    tested.save(&name).expect("is live");
    let (kinds, created) = (tested.injector.kinds(), tested.injector.seen(Operation::Create));
    let at = |kind| kinds.iter().rposition(|seen| *seen == kind).expect("is done");
    let synced: Vec<_> = (0..kinds.len()).filter(|at| kinds[*at] == Operation::Sync).collect();
    // The record's file; the folder of all owners, as never before; the entry, the owner's folder and
    // the one that this is in; the session's folder.
    assert_eq!(synced.len(), 6);
    assert!(synced[4] < at(Operation::Rename), "{kinds:?}");
    assert!(at(Operation::Create) < synced[2], "{kinds:?}");
    for (number, at) in synced[1..5].iter().enumerate() {
        let tested = Tested::new(Durability::Full);
        let name = tested.stored();
        tested.injector.set(Some(Fault { at: *at, errno: Errno::IO, lasts: false }));
        let failed = tested.save(&name);
        assert!(matches!(failed, Err(Error::Unavailable { .. })), "fsync {number}: {failed:?}");
        tested.check_lists(&Some(record()), &name, "after the fault");
        let entries = index_entries(tested.scratch.path());
        assert_eq!(entries.len(), 1, "fsync {number}: the next try begins anew");
        tested.injector.set(None);
        tested.save(&name).expect("is live");
        assert_eq!(
            tested.injector.seen(Operation::Create),
            created,
            "fsync {number}: and makes it"
        );
        tested.check_lists(&Some(saved()), &name, "after the next try");
    }
}

/// Another process removes the owner's folder, as it is empty.
#[test]
fn an_owners_folder_that_goes_is_made_again() {
    let tested = Tested::new(Durability::None);
    let (mut at, mut created) = (None, 0);
    for _ in 0..2 {
        let name = tested.stored();
        tested.injector.set(None);
        tested.save(&name).expect("is live");
        // Of the second one, whose owner has a folder.
        at = tested.injector.kinds().iter().rposition(|kind| *kind == Operation::Create);
        created = tested.injector.seen(Operation::Create);
    }
    let name = tested.stored();
    tested.injector.set(at.map(|at| Fault { at, errno: Errno::NOENT, lasts: false }));
    tested.save(&name).expect("is live");
    assert!(tested.injector.unset());
    assert_eq!(tested.injector.seen(Operation::Create), created + 1, "the entry twice");
    // Nor is it tried for ever.
    let name = tested.stored();
    tested.injector.set(at.map(|at| Fault { at, errno: Errno::NOENT, lasts: true }));
    let saved = tested.save(&name);
    assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
}

#[cfg(all(target_os = "linux", not(session_file_portable)))]
#[test]
fn a_file_system_that_cannot_swap_files_renames_them() {
    let tested = Tested::new(Durability::None);
    let name = tested.stored();
    let steps =
        || (tested.injector.seen(Operation::Exchange), tested.injector.seen(Operation::Rename));
    tested.injector.set(None);
    tested.save(&name).expect("is live");
    assert_eq!(steps(), (1, 0));
    tested.injector.set(None);
    tested.save(&name).expect("is live");
    let at = tested.injector.kinds().iter().position(|kind| *kind == Operation::Exchange);
    tested.injector.set(at.map(|at| Fault { at, errno: Errno::INVAL, lasts: false }));
    tested.save(&name).expect("is live");
    assert_eq!(steps(), (1, 1));
    assert_eq!(tested.strays(), 0);
}

#[test]
fn a_lock_that_is_not_given_back_is_not_waited_for_without_end() {
    let one = Tested::new(Durability::None);
    let name = one.stored();
    let mut other = Store::open(one.store.config.clone()).expect("opens");
    other.locks.set_timeout(Duration::ZERO);
    let held = one.store.hold(one.queue(&name)).expect("is free");
    let queue = || block_on(other.locks.queue(&name));
    let saved = other.save(queue(), &name, &HOLDER, &changes(), NOW);
    assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
    assert!(matches!(other.destroy(queue(), &name), Err(Error::Unavailable { .. })));
    assert_eq!(other.purge(LATEST, 10).expect("collects").removed, 0, "it is in use");
    assert_eq!(other.load(&name, NOW).expect("is read"), Some(record()), "readers don't wait");
    drop(held);
    other.save(queue(), &name, &HOLDER, &changes(), NOW).expect("is free");
}

#[test]
fn temporaries_of_the_living_are_left_alone() {
    let one = Tested::new(Durability::None);
    let other = Store::open(one.store.config.clone()).expect("opens");
    let folder = disk::open_folder(&one.store.directory.root, b"00").expect("opens");
    let temporary = Temporary::create(&folder, one.store.token, 7).expect("is new");
    for _ in 0..2 {
        one.store.purge(LATEST, 10).expect("collects");
        other.purge(LATEST, 10).expect("collects");
    }
    assert_eq!(one.strays(), 1);
    drop(temporary);
    assert_eq!(one.strays(), 0);
}

/// What a file is decides before anything is read from it.
#[test]
fn only_private_regular_files_are_read() {
    let tested = Tested::new(Durability::None);
    let name = tested.stored();
    let folder = tested.store.open_folder(&name).expect("opens");
    let good = disk::stat_at(&folder, name.file()).expect("is there");
    let checked = |change: &dyn Fn(&mut Stat)| {
        let mut stat = good;
        change(&mut stat);
        tested.store.check(&stat, NOW)
    };
    assert!(matches!(checked(&|_| {}), Ok(Some(LATER))));
    // sockets, links, block devices, directories, character devices, pipes, nothing known
    for kind in [0o14, 0o12, 0o06, 0o04, 0o02, 0o01, 0o00] {
        let result = checked(&|stat| stat.st_mode = kind << 12 | 0o600);
        assert!(matches!(result, Err(Error::Unreadable { .. })), "kind {kind:o}: {result:?}");
    }
    for mode in [0o666, 0o610, 0o4600, 0o400, 0] {
        let result = checked(&|stat| stat.st_mode = 0o100000 | mode);
        assert!(matches!(result, Err(Error::Unreadable { .. })), "mode {mode:o}: {result:?}");
    }
    for result in [
        checked(&|stat| stat.st_uid += 1),
        checked(&|stat| stat.st_size = i64::MAX),
        checked(&|stat| stat.st_size = -1),
        checked(&|stat| stat.st_size = format::HEADER as i64 - 1),
        checked(&|stat| stat.st_mtime = i64::MAX),
        checked(&|stat| stat.st_mtime = -1),
    ] {
        assert!(matches!(result, Err(Error::Unreadable { .. })), "{result:?}");
    }
    let expired = checked(&|stat| stat.st_mtime = 5);
    assert!(matches!(expired, Ok(None)), "{expired:?}");
}
