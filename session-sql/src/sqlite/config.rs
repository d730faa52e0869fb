//! The configuration, and how the source string is parsed.

use std::path::PathBuf;
use std::time::Duration;

use session_core::Error;
use session_core::provider::Source;

use crate::TableName;
use crate::time::{check_timeout, take_timeout};

/// Whether acknowledged changes are on the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Durability {
    /// They are, so they survive a power cut. `sync=full`, SQLite's `synchronous=FULL`.
    #[default]
    Full,
    /// The operating system writes them later. They survive the end of the process, but a power cut may lose the last
    /// changes of all sessions. It never loses a change and keeps a later one, and never damages the file. `sync=none`,
    /// SQLite's `synchronous=NORMAL`.
    None,
}

/// Where and how sessions are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteConfig {
    /// The database's file: an absolute path in UTF-8, whose directory exists.
    pub path: PathBuf,
    /// The table, without a schema. Defaults to `sessions`.
    pub table: TableName,
    /// Whether changes are on the disk when they are acknowledged. Defaults to [`Durability::Full`].
    pub sync: Durability,
    /// The time limit of an operation, including the wait for other processes: 1 ms to 1 hour. Defaults to
    /// 3 seconds.
    pub operation_timeout: Duration,
}

impl SqliteConfig {
    /// Returns the defaults with this file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            table: TableName::default(),
            sync: Durability::default(),
            operation_timeout: Duration::from_secs(3),
        }
    }

    /// Sets `table`.
    #[must_use]
    pub fn with_table(mut self, table: TableName) -> Self {
        self.table = table;
        self
    }

    /// Sets `sync`.
    #[must_use]
    pub fn with_sync(mut self, sync: Durability) -> Self {
        self.sync = sync;
        self
    }

    /// Sets `operation_timeout`.
    #[must_use]
    pub fn with_operation_timeout(mut self, limit: Duration) -> Self {
        self.operation_timeout = limit;
        self
    }

    /// Reads a source string.
    ///
    /// # Errors
    /// [`Error::Config`] for a missing or relative path, an unknown option, or a value that is out of range.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let mut source = Source::parse(source)?;
        let mut config = Self::new(source.take("path")?.unwrap_or_default());
        if let Some(table) = source.take("table")? {
            config.table = table.parse()?;
        }
        config.sync = match source.take("sync")?.as_deref() {
            None | Some("full") => Durability::Full,
            Some("none") => Durability::None,
            Some(_) => {
                return Err(Error::config(
                    "option \"sync\" of the source string must be full or none",
                ));
            }
        };
        config.operation_timeout = take_timeout(&mut source)?;
        source.finish()?;
        config.check()?;
        Ok(config)
    }

    /// Checks what a program may have set.
    ///
    /// # Errors
    /// [`Error::Config`] if the path is relative or not UTF-8, the table's name has a schema, or the time limit is
    /// out of range.
    pub(crate) fn check(&self) -> Result<(), Error> {
        // Names such as `:memory:` and `file:...?...` mean something else to SQLite; none of them is absolute.
        if !self.path.is_absolute() || self.path.to_str().is_none() {
            return Err(Error::config("path must name a file, in UTF-8: path=/absolute/path"));
        }
        if self.table.has_schema() {
            return Err(Error::config("table must be one name, as SQLite has no schemas"));
        }
        check_timeout(self.operation_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let config = SqliteConfig::parse("path=/var/lib/my%20app/s.db").unwrap();
        assert_eq!(config, SqliteConfig::new("/var/lib/my app/s.db"));
        let options = "sync=none&operation_timeout=1m&path=/s&table=web_sessions";
        let config = SqliteConfig::parse(options).unwrap();
        assert_eq!(config.sync, Durability::None);
        assert_eq!(config.operation_timeout, Duration::from_secs(60));
        assert_eq!(config.table, "web_sessions".parse().unwrap());
    }

    #[test]
    fn bad_options_are_configuration_errors() {
        for source in [
            "",
            "path",
            "path=",
            "path=s.db",
            "path=:memory:",
            "sync=none",
            "path=/s&path=/t",
            "path=/s&sync=",
            "path=/s&sync=off",
            "path=/s&table=a;b",
            "path=/s&table=",
            "path=/s&table=main.sessions",
            "path=/s&operation_timeout=0s",
            "path=/s&operation_timeout=9",
            "path=/s&mode=ro",
        ] {
            let error = SqliteConfig::parse(source).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{source}: {error:?}");
        }
    }
}
