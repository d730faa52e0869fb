//! Temporary files and directories, which are removed when dropped.

use std::path::PathBuf;

/// A file that the demo is told to read.
pub(crate) struct File(PathBuf);

impl File {
    /// Writes the file. The name must be unique in this process.
    pub(crate) fn new(name: &str, text: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}-{name}.toml", std::process::id()));
        std::fs::write(&path, text).expect("the directory is there");
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A directory with mode 700.
#[cfg(unix)]
pub(crate) struct Directory(PathBuf);

#[cfg(unix)]
impl Directory {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt as _;
        use std::sync::atomic::{AtomicU32, Ordering};

        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("{}-directory-{number}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).expect("the directory is new");
        Self(path)
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Returns the source string of the file provider for this directory.
    pub(crate) fn source(&self) -> String {
        format!("path={}&sync=none", self.0.display())
    }
}

#[cfg(unix)]
impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
