//! [`Registry`]: providers by name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use once_cell::sync::Lazy;
use parking_lot::RwLock;

use super::Provider;
use crate::Error;

type Open = Arc<dyn Fn(&str) -> Result<Arc<dyn Provider>, Error> + Send + Sync>;
type Wrap =
    Arc<dyn Fn(WrappedProvider<'_>, &str) -> Result<Arc<dyn Provider>, Error> + Send + Sync>;

/// Separates the name of a wrapper from the name of what it wraps.
const AROUND: char = '+';

/// Names and the functions that open their providers.
///
/// A name such as `encrypted+file` is the wrapper `encrypted` around the provider `file`; wrappers
/// may be around wrappers.
///
/// The functions [`register`], [`register_wrapper`], [`providers`] and [`open`] use one for the
/// whole process; a registry of one's own serves tests.
#[derive(Default)]
pub struct Registry(RwLock<Names>);

#[derive(Default)]
struct Names {
    providers: BTreeMap<Box<str>, Open>,
    wrappers: BTreeMap<Box<str>, Wrap>,
}

/// The provider inside a wrapper, not opened yet.
#[derive(Clone, Copy, Debug)]
pub struct WrappedProvider<'a> {
    registry: &'a Registry,
    name: &'a str,
}

impl WrappedProvider<'_> {
    /// Returns the name, which may itself contain wrappers.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Returns the name of the outermost wrapper, if it has one.
    pub fn wrapper(&self) -> Option<&str> {
        self.name.split_once(AROUND).map(|(wrapper, _)| wrapper)
    }

    /// Opens it with its part of the source string; see [`Source::split`](super::Source::split).
    ///
    /// # Errors
    /// The same errors as those of [`Registry::open`], but without the name in front of an [`Error::Config`], which the
    /// outermost call adds.
    pub fn open(&self, source: &str) -> Result<Arc<dyn Provider>, Error> {
        self.registry.open_inner(self.name, source)
    }
}

impl Registry {
    /// Returns a registry without providers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a provider known by this name.
    ///
    /// # Errors
    /// [`Error::DuplicateProvider`] if the name is taken; the earlier registration stays.
    pub fn register<F>(&self, name: &str, open: F) -> Result<(), Error>
    where
        F: Fn(&str) -> Result<Arc<dyn Provider>, Error> + Send + Sync + 'static,
    {
        insert_new(&mut self.0.write().providers, name, Arc::new(open))
    }

    /// Makes a wrapper known by this name. It gets the wrapped provider and the whole source string,
    /// takes its own options out of that string and opens the wrapped provider with the rest.
    ///
    /// # Errors
    /// [`Error::DuplicateProvider`] if a wrapper has the name; the earlier registration stays.
    pub fn register_wrapper<F>(&self, name: &str, open: F) -> Result<(), Error>
    where
        F: Fn(WrappedProvider<'_>, &str) -> Result<Arc<dyn Provider>, Error>
            + Send
            + Sync
            + 'static,
    {
        insert_new(&mut self.0.write().wrappers, name, Arc::new(open))
    }

    /// Returns the names of the registered providers without the wrappers, sorted.
    pub fn providers(&self) -> Vec<String> {
        self.0.read().providers.keys().map(|name| name.to_string()).collect()
    }

    /// Returns the names of the registered wrappers, sorted.
    pub fn wrappers(&self) -> Vec<String> {
        self.0.read().wrappers.keys().map(|name| name.to_string()).collect()
    }

    /// Opens the provider of this name, in its wrappers if it names some, with its source string.
    ///
    /// # Errors
    /// [`Error::UnknownProvider`] lists the registered names. The message of an [`Error::Config`] begins with this
    /// name; other errors are the provider's own.
    pub fn open(&self, name: &str, source: &str) -> Result<Arc<dyn Provider>, Error> {
        self.open_inner(name, source).map_err(|error| match error {
            Error::Config(message) => Error::config(format_args!("provider {name:?}: {message}")),
            other => other,
        })
    }

    fn open_inner(&self, name: &str, source: &str) -> Result<Arc<dyn Provider>, Error> {
        // The lock is not held while the provider opens: it may take long, or open another one.
        let open = self.0.read().providers.get(name).cloned();
        if let Some(open) = open {
            return open(source);
        }
        if let Some((wrapper, inner)) = name.split_once(AROUND) {
            let wrap = self.0.read().wrappers.get(wrapper).cloned();
            if let Some(wrap) = wrap {
                return wrap(WrappedProvider { registry: self, name: inner }, source);
            }
        }
        let wrappers = self.wrappers().into_iter().map(|name| format!("{name}{AROUND}..."));
        let known = self.providers().into_iter().chain(wrappers).collect();
        Err(Error::UnknownProvider { name: name.into(), known })
    }
}

fn insert_new<T>(names: &mut BTreeMap<Box<str>, T>, name: &str, open: T) -> Result<(), Error> {
    if names.contains_key(name) {
        return Err(Error::DuplicateProvider { name: name.into() });
    }
    names.insert(name.into(), open);
    Ok(())
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("providers", &self.providers())
            .field("wrappers", &self.wrappers())
            .finish()
    }
}

static GLOBAL: Lazy<Registry> = Lazy::new(Registry::new);

/// Makes a provider known to the whole process by this name; provider crates call it from their
/// `init()`.
///
/// # Errors
/// [`Error::DuplicateProvider`] if the name is taken; the earlier registration stays.
pub fn register<F>(name: &str, open: F) -> Result<(), Error>
where
    F: Fn(&str) -> Result<Arc<dyn Provider>, Error> + Send + Sync + 'static,
{
    GLOBAL.register(name, open)
}

/// Makes a wrapper known to the whole process by this name; see [`Registry::register_wrapper`].
///
/// # Errors
/// [`Error::DuplicateProvider`] if a wrapper has the name; the earlier registration stays.
pub fn register_wrapper<F>(name: &str, open: F) -> Result<(), Error>
where
    F: Fn(WrappedProvider<'_>, &str) -> Result<Arc<dyn Provider>, Error> + Send + Sync + 'static,
{
    GLOBAL.register_wrapper(name, open)
}

/// Returns the names of the registered providers without the wrappers, sorted.
pub fn providers() -> Vec<String> {
    GLOBAL.providers()
}

/// Opens a registered provider with its source string, for use without a manager or by a provider
/// that wraps another.
///
/// # Errors
/// [`Error::UnknownProvider`] lists the registered names. The message of an [`Error::Config`] begins with this name;
/// other errors are the provider's own.
pub fn open(name: &str, source: &str) -> Result<Arc<dyn Provider>, Error> {
    GLOBAL.open(name, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_is_named_before_what_it_is_around() {
        let registry = Registry::new();
        let refuse = |source: &str| Err(Error::config(format_args!("file({source})")));
        registry.register("file", refuse).unwrap();
        let wrap = |inner: WrappedProvider<'_>, source: &str| {
            let error = inner.open(source).unwrap_err();
            Err(Error::config(format_args!("{:?} {}: {error}", inner.wrapper(), inner.name())))
        };
        registry.register_wrapper("sealed", wrap).unwrap();
        assert!(registry.register_wrapper("sealed", wrap).is_err());
        let error = |name| registry.open(name, "x").unwrap_err().to_string();
        assert_eq!(error("file"), "provider \"file\": file(x)");
        assert_eq!(error("sealed+file"), "provider \"sealed+file\": None file: file(x)");
        assert_eq!(
            error("sealed+sealed+file"),
            "provider \"sealed+sealed+file\": Some(\"sealed\") sealed+file: None file: file(x)"
        );
        for name in ["sealed", "file+sealed", "sealed+", "+file", "sealed+fil"] {
            let unknown = error(name);
            assert!(unknown.contains("file, sealed+..."), "{name}: {unknown}");
        }
    }
}
