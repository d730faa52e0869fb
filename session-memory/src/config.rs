//! The provider's configuration, and its source string.

use session_core::Error;
use session_core::provider::Source;

/// Limits of the store. The [crate's documentation](crate#a-full-store) says what happens when the store
/// is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryConfig {
    /// The maximum number of sessions. Defaults to 1,000,000.
    pub max_sessions: usize,
    /// The maximum number of bytes that all sessions take together, bookkeeping included. Defaults to 1
    /// GiB.
    pub max_bytes: usize,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { max_sessions: 1_000_000, max_bytes: 1 << 30 }
    }
}

impl MemoryConfig {
    /// Parses a source string.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown option, and for a value that is not a whole number above zero.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let mut source = Source::parse(source)?;
        let mut config = Self::default();
        for (name, value) in
            [("max_sessions", &mut config.max_sessions), ("max_bytes", &mut config.max_bytes)]
        {
            let wanted = "a whole number above zero";
            if let Some(given) = source.take_parsed::<std::num::NonZeroUsize>(name, wanted)? {
                *value = given.get();
            }
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
        assert_eq!(MemoryConfig::parse("").unwrap(), MemoryConfig::default());
        let config = MemoryConfig::parse("max_bytes=1000&max_sessions=5").unwrap();
        assert_eq!(config, MemoryConfig { max_sessions: 5, max_bytes: 1000 });
    }

    /// Every source string is either parsed completely or refused.
    #[test]
    fn bad_options_are_configuration_errors() {
        for source in [
            "max_sessions",
            "max_sessions=",
            "max_sessions=0",
            "max_sessions=-1",
            "max_sessions=1e6",
            "max_sessions=99999999999999999999999",
            "max_sessions=1&max_sessions=2",
            "max_session=1",
            "path=/tmp",
        ] {
            let error = MemoryConfig::parse(source).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{source}: {error:?}");
        }
    }
}
