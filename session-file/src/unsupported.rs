//! The provider on systems that it does not run on yet: it can be named and never opened.

use std::convert::Infallible;

use session_core::{
    Changes, Error, Provider, ProviderFuture, Purged, Record, SessionId, Timestamp, Token,
};

use crate::FileConfig;

/// Keeps sessions in files; not on this system yet.
#[derive(Debug)]
pub struct FileProvider(Infallible);

impl FileProvider {
    /// Returns an error: the provider does not run on this system yet.
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
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        match self.0 {}
    }

    fn load<'a>(
        &'a self,
        _token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        match self.0 {}
    }

    fn save<'a>(
        &'a self,
        _token: &'a Token,
        _changes: &'a Changes,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        match self.0 {}
    }

    fn rename<'a>(
        &'a self,
        _token: &'a Token,
        _new_id: &'a SessionId,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        match self.0 {}
    }

    fn destroy<'a>(
        &'a self,
        _token: &'a Token,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        match self.0 {}
    }

    fn touch<'a>(
        &'a self,
        _token: &'a Token,
        _expires: Timestamp,
        _now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        match self.0 {}
    }

    fn count(&self, _now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        match self.0 {}
    }

    fn purge(&self, _now: Timestamp, _limit: usize) -> Result<Purged, Error> {
        match self.0 {}
    }
}
