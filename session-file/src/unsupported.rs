//! The provider on systems that it does not support yet: it is registered, but can't be opened.

use std::convert::Infallible;

use session_core::provider::{Answer, Changes, Provider, Purged, Record, Token, Touch, Verifier};
use session_core::{Error, SessionId, SessionKey, Timestamp};

use crate::FileConfig;

/// Keeps sessions in files. It does not support this system yet.
#[derive(Debug)]
pub struct FileProvider(Infallible);

impl FileProvider {
    /// Returns an error, because the provider does not support this system yet.
    ///
    /// # Errors
    /// [`Error::Config`], always.
    #[allow(clippy::needless_pass_by_value, reason = "as on other systems")]
    pub fn open(_config: FileConfig) -> Result<Self, Error> {
        Err(Error::config(format_args!(
            "the provider \"file\" does not run on {} yet; it runs on Linux and macOS",
            std::env::consts::OS
        )))
    }
}

impl Provider for FileProvider {
    fn create<'a>(
        &'a self,
        _id: &'a SessionId,
        _record: Record,
        _now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        match self.0 {}
    }

    fn load<'a>(&'a self, _token: &'a Token, _now: Timestamp) -> Answer<'a, Option<Record>> {
        match self.0 {}
    }

    fn save<'a>(
        &'a self,
        _token: &'a Token,
        _holder: &'a Verifier,
        _changes: &'a Changes,
        _now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        match self.0 {}
    }

    fn touch<'a>(
        &'a self,
        _token: &'a Token,
        _touch: Touch,
        _now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        match self.0 {}
    }

    fn destroy<'a>(
        &'a self,
        _key: &'a SessionKey,
        _until: Timestamp,
        _now: Timestamp,
    ) -> Answer<'a, ()> {
        match self.0 {}
    }

    fn count(&self, _now: Timestamp) -> Answer<'_, u64> {
        match self.0 {}
    }

    fn purge(&self, _now: Timestamp, _limit: usize) -> Result<Purged, Error> {
        match self.0 {}
    }
}
