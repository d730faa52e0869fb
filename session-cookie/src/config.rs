//! The provider's configuration, and its source string.

use std::fmt;
use std::sync::Arc;

use session_core::Error;
use session_core::provider::{Provider, Source};

use crate::{KeyRing, Mode};

/// How sessions are sealed, and the store that records their new ids and their ends.
#[derive(Clone)]
#[non_exhaustive]
pub struct CookieConfig {
    /// The keys.
    pub keys: KeyRing,
    /// Whether sessions are encrypted or signed. Defaults to [`Mode::Encrypted`].
    pub mode: Mode,
    /// The store of new ids and of ended sessions. Defaults to none.
    pub revocations: Option<Arc<dyn Provider>>,
}

impl CookieConfig {
    /// Makes a configuration that encrypts under these keys, without a store of revocations.
    pub fn new(keys: KeyRing) -> Self {
        Self { keys, mode: Mode::Encrypted, revocations: None }
    }

    /// Parses a source string, and opens the store of revocations that it names.
    ///
    /// # Errors
    /// [`Error::Config`] for an unknown option, and for keys that [`KeyRing::take`] refuses. Errors of
    /// the store of revocations are returned as they are.
    pub fn parse(source: &str) -> Result<Self, Error> {
        let mut source = Source::parse(source)?;
        let keys = KeyRing::take(&mut source)?;
        let mode = match source.take("mode")?.as_deref() {
            None | Some("encrypted") => Mode::Encrypted,
            Some("signed") => Mode::Signed,
            Some(_) => return Err(Error::config("option \"mode\" must be encrypted or signed")),
        };
        let (name, rest) = (source.take("revocations")?, source.take("revocations_source")?);
        source.finish()?;
        let revocations = match (name, rest) {
            (None, None) => None,
            (None, Some(_)) => {
                return Err(Error::config("revocations_source needs revocations=PROVIDER"));
            }
            (Some(name), _) if is_at_the_client(&name) => {
                return Err(Error::config("revocations need a provider that stores at the server"));
            }
            (Some(name), rest) => {
                Some(session_core::provider::open(&name, rest.as_deref().unwrap_or_default())?)
            }
        };
        Ok(Self { keys, mode, revocations })
    }
}

/// Returns whether a provider of this name, wrapped or not, keeps sessions at the client.
pub(crate) fn is_at_the_client(name: &str) -> bool {
    name.rsplit('+').next() == Some(crate::NAME)
}

impl fmt::Debug for CookieConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CookieConfig")
            .field("keys", &self.keys)
            .field("mode", &self.mode)
            .field("revocations", &self.revocations)
            .finish()
    }
}
