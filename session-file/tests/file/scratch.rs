//! A temporary directory for one test.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::UNIX_EPOCH;

use session_core::{SessionKey, Timestamp};

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

/// The file of a session in the store in a directory.
#[allow(dead_code, reason = "not every program that includes this file asks for it")]
pub(crate) fn session_file(store: &Path, key: &SessionKey) -> PathBuf {
    let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    store.join(&hex[..2]).join(&hex[2..])
}

/// When the store in a directory lets a session go: its file's modification time.
#[allow(dead_code, reason = "not every program that includes this file asks for it")]
pub(crate) fn store_expiry(store: &Path, key: &SessionKey) -> Timestamp {
    let file = session_file(store, key).metadata().expect("the session's file is there");
    let modified = file.modified().expect("it has a time");
    let since_1970 = modified.duration_since(UNIX_EPOCH).expect("it is later than 1970");
    Timestamp::from_millis(since_1970.as_millis().try_into().expect("it is in range"))
}

/// Flips the last bit of a session's file, and leaves its times as they are.
#[allow(dead_code, reason = "not every program that includes this file does it")]
pub(crate) fn damage(store: &Path, key: &SessionKey) {
    let path = session_file(store, key);
    let file = File::options().read(true).write(true).open(&path).expect("the file is there");
    let metadata = file.metadata().expect("it has metadata");
    let times = FileTimes::new()
        .set_accessed(metadata.accessed().expect("it has a time"))
        .set_modified(metadata.modified().expect("it has a time"));
    let mut last = [0];
    file.read_exact_at(&mut last, metadata.len() - 1).expect("it is read");
    file.write_all_at(&[last[0] ^ 1], metadata.len() - 1).expect("it is written");
    file.set_times(times).expect("its times are set");
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
