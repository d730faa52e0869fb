//! The names of cookies, headers or query arguments that texts are sealed or signed for.

use session_core::provider::ProviderContext;

/// The name for which new texts are made, and the older names whose texts are still accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) current: Box<str>,
    also: Box<[String]>,
}

impl Names {
    pub(crate) fn of(context: &ProviderContext<'_>) -> Self {
        Self { current: context.name.into(), also: context.also.into() }
    }

    /// Returns the name for which new texts are made; an empty one before the provider is configured.
    pub(crate) fn current(names: Option<&Self>) -> &str {
        names.map_or("", |names| &names.current)
    }

    /// Returns each accepted name, and whether it is the current one.
    pub(crate) fn each(names: Option<&Self>) -> impl Iterator<Item = (&str, bool)> {
        let also = names.into_iter().flat_map(|names| names.also.iter());
        std::iter::once((Self::current(names), true)).chain(also.map(|name| (name.as_str(), false)))
    }
}
