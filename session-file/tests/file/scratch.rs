//! A temporary directory for one test.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A new directory with mode 0700, which is removed with its content when dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Makes a directory in a file system in memory, if there is one, for tests with many small steps.
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

/// Returns the entries in the owner index of the store in a directory.
#[allow(dead_code, reason = "not every program that includes this file asks for them")]
pub(crate) fn index_entries(store: &Path) -> Vec<PathBuf> {
    // A folder that was removed meanwhile counts as empty.
    let inside = |folder: &PathBuf| {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        entries.map(|entry| entry.expect("is listed").path()).collect::<Vec<_>>()
    };
    // Three levels: the folder `owners`, the folders in it, and the owners' folders.
    (0..3).fold(vec![store.join("owners")], |folders, _| folders.iter().flat_map(inside).collect())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
