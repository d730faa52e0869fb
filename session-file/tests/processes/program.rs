//! The tests by name, and the roles of this program's child processes.

use std::path::Path;
use std::process::ExitCode;

use session_core::conformance;
use session_core::provider::Provider;
use session_faults::killed::{self, Store};
use session_faults::program::{self, Options, Role, Test};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::{self, Scratch};
use crate::{modes, remote};

const ROLES: [Role; 3] = [
    // Performs operations for another process.
    ("--serve", remote::serve),
    // Stores sessions under an umask.
    ("--masked", modes::masked),
    // Changes sessions until it is killed.
    ("--victim", killed::victim::<Directory>),
];

pub(crate) fn main() -> ExitCode {
    program::main(&ROLES, tests)
}

fn tests(options: Options) -> Vec<(String, Test)> {
    let Options { kills, seed } = options;
    let cases = conformance::cases().iter().map(|case| {
        let test: Test = Box::new(|| case.run(&remote::Processes::new(4)));
        (format!("four_processes::{}", case.name()), test)
    });
    let mut tests: Vec<_> = cases.collect();
    tests.push(("the_umask_decides_nothing".into(), Box::new(modes::run)));
    let killed = move || killed::run::<Directory>(Scratch::new().path(), kills, seed);
    tests.push(("killed_processes_lose_nothing".into(), Box::new(killed)));
    tests
}

/// The store in a directory.
struct Directory;

impl Store for Directory {
    fn open(path: &Path, sync: bool) -> Box<dyn Provider> {
        let sync = if sync { Durability::Full } else { Durability::None };
        let config = FileConfig::new(path).with_sync(sync);
        Box::new(FileProvider::open(config).expect("the store opens"))
    }

    fn index_entries(path: &Path) -> usize {
        scratch::index_entries(path).len()
    }

    fn strays(path: &Path) -> usize {
        let entries = |path: &Path| std::fs::read_dir(path).expect("is listed").flatten();
        let folders = entries(path).filter(|entry| entry.path().is_dir());
        let files = folders.flat_map(|folder| entries(&folder.path()));
        files.filter(|file| file.file_name().to_string_lossy().starts_with(".new-")).count()
    }
}
