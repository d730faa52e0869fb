//! The provider's configuration, and its source string.

use std::path::PathBuf;

use session_core::Error;
use session_core::provider::Source;

/// Whether a change is on the disk before it is acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// Acknowledged changes are on the disk and survive a power cut. `sync=full`.
    #[default]
    Full,
    /// The operating system writes changes later: acknowledged changes survive the end of the process,
    /// but a power cut may lose the sessions that were written in the last half minute or so.
    /// `sync=none`.
    None,
}

/// Where and how sessions are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileConfig {
    /// The store's directory: an absolute path without symbolic links.
    pub path: PathBuf,
    /// Whether changes are on the disk before they are acknowledged. Defaults to [`Durability::Full`].
    pub sync: Durability,
    /// The maximum size of a session's file in bytes. Larger files are neither written nor read.
    /// Defaults to 1,048,576 (1 MiB).
    ///
    /// A file takes 108 bytes and 8 for each key, beside the keys, values, owner and label. The
    /// [`Limits`](session_core::Limits) of a manager are usually lower. If you raise them, raise this as
    /// well.
    pub max_bytes: usize,
}

impl FileConfig {
    /// The minimum of `max_bytes`.
    const MIN_BYTES: usize = 4096;
    /// The maximum of `max_bytes`: the highest [`Limits`](session_core::Limits), with room for the rest
    /// of the file.
    const MAX_BYTES: usize = 2 << 30;

    /// Makes a configuration for this directory with the defaults.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), sync: Durability::default(), max_bytes: 1 << 20 }
    }

    /// Sets the durability. Defaults to [`Durability::Full`].
    #[must_use]
    pub fn with_sync(mut self, sync: Durability) -> Self {
        self.sync = sync;
        self
    }

    /// Parses a source string.
    ///
    /// # Errors
    /// [`Error::Config`] for a missing or empty path, an unknown option, or a value that is out of
    /// range.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let mut source = Source::parse(source)?;
        let path = source.take("path")?.filter(|path| !path.is_empty()).ok_or_else(|| {
            Error::config("the source string names no directory; write path=/absolute/path")
        })?;
        let mut config = Self::new(path);
        config.sync = match source.take("sync")?.as_deref() {
            None | Some("full") => Durability::Full,
            Some("none") => Durability::None,
            Some(_) => {
                return Err(Error::config(
                    "option \"sync\" of the source string must be full or none",
                ));
            }
        };
        let wanted = "a number of bytes, 4096 to 2147483648";
        if let Some(bytes) = source.take_parsed("max_bytes", wanted)? {
            if !(Self::MIN_BYTES..=Self::MAX_BYTES).contains(&bytes) {
                return Err(Error::config(format_args!(
                    "option \"max_bytes\" of the source string must be {wanted}"
                )));
            }
            config.max_bytes = bytes;
        }
        source.finish()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let config = FileConfig::parse("path=/var/lib/my%20app").unwrap();
        assert_eq!(config, FileConfig::new("/var/lib/my app"));
        assert_eq!((config.sync, config.max_bytes), (Durability::Full, 1 << 20));
        let config = FileConfig::parse("sync=none&max_bytes=8192&path=/s").unwrap();
        assert_eq!((config.sync, config.max_bytes), (Durability::None, 8192));
    }

    #[test]
    fn bad_options_are_configuration_errors() {
        for source in [
            "",
            "path",
            "path=",
            "sync=none",
            "path=/s&path=/t",
            "path=/s&sync=",
            "path=/s&sync=half",
            "path=/s&sync=FULL",
            "path=/s&max_bytes=-1",
            "path=/s&max_bytes=0",
            "path=/s&max_bytes=4095",
            "path=/s&max_bytes=2147483649",
            "path=/s&max_bytes=99999999999999999999999",
            "path=/s&max_sessions=5",
        ] {
            let error = FileConfig::parse(source).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{source}: {error:?}");
        }
    }
}
