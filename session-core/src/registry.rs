//! Providers by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;

use crate::{Error, Provider};

type Open = Arc<dyn Fn(&str) -> Result<Arc<dyn Provider>, Error> + Send + Sync>;

/// Names and the functions that open their providers.
///
/// The functions [`register`], [`providers`] and [`open`] use one for the whole process; a registry
/// of one's own serves tests.
#[derive(Default)]
pub struct Registry(RwLock<BTreeMap<Box<str>, Open>>);

impl Registry {
    /// A registry without providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a provider known by this name.
    ///
    /// # Errors
    /// [`Error::DuplicateProvider`] if the name is taken; what it stood for stays.
    pub fn register<F>(&self, name: &str, open: F) -> Result<(), Error>
    where
        F: Fn(&str) -> Result<Arc<dyn Provider>, Error> + Send + Sync + 'static,
    {
        let mut providers = self.0.write();
        if providers.contains_key(name) {
            return Err(Error::DuplicateProvider { name: name.into() });
        }
        providers.insert(name.into(), Arc::new(open));
        Ok(())
    }

    /// The registered names, sorted.
    pub fn providers(&self) -> Vec<String> {
        self.0.read().keys().map(|name| name.to_string()).collect()
    }

    /// Opens the provider of this name with its source string.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`] lists the registered names; other errors are the provider's own.
    pub fn open(&self, name: &str, source: &str) -> Result<Arc<dyn Provider>, Error> {
        // The lock is not held while the provider opens: it may take long, or open another one.
        let open = self.0.read().get(name).cloned();
        match open {
            Some(open) => open(source),
            None => {
                Err(Error::UnknownProvider { name: name.into(), known: self.providers().into() })
            }
        }
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.providers()).finish()
    }
}

static GLOBAL: LazyLock<Registry> = LazyLock::new(Registry::new);

/// Makes a provider known to the whole process by this name; provider crates call it from their
/// `init()`.
///
/// # Errors
/// [`Error::DuplicateProvider`] if the name is taken; what it stood for stays.
pub fn register<F>(name: &str, open: F) -> Result<(), Error>
where
    F: Fn(&str) -> Result<Arc<dyn Provider>, Error> + Send + Sync + 'static,
{
    GLOBAL.register(name, open)
}

/// The names of the registered providers, sorted.
pub fn providers() -> Vec<String> {
    GLOBAL.providers()
}

/// Opens a registered provider with its source string, for use without a manager or by a provider
/// that wraps another.
///
/// # Errors
/// [`Error::UnknownProvider`] lists the registered names; other errors are the provider's own.
pub fn open(name: &str, source: &str) -> Result<Arc<dyn Provider>, Error> {
    GLOBAL.open(name, source)
}
