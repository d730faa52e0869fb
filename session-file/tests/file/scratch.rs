//! A directory for one test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new directory with mode 0700, removed with all that is in it when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// One whose file system waits for no disk, if there is such; for tests of many small steps.
    #[allow(dead_code, reason = "not every program that includes this file has such tests")]
    pub(crate) fn in_memory() -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory) } else { Self::new() }
    }

    fn below(base: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let base = base.canonicalize().expect("there is a directory for such");
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = base.join(format!("session-file-{}-{number}", std::process::id()));
            use std::os::unix::fs::DirBuilderExt as _;
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Self(path),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("no scratch directory: {error}"),
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// The entries in the index of owners of the store in a directory.
#[allow(dead_code, reason = "not every program that includes this file asks for them")]
pub(crate) fn index_entries(store: &Path) -> Vec<PathBuf> {
    // A folder that somebody removed meanwhile has nothing in it.
    let inside = |folder: &PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.expect("is listed").path()).collect::<Vec<_>>()
    };
    // The folder of all owners has folders, which have those of owners.
    (0..3).fold(vec![store.join("owners")], |folders, _| folders.iter().flat_map(inside).collect())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
