//! The names that clients know a session by: what is sealed or signed holds for one of them.

use session_core::provider::ProviderContext;

/// The name for which new texts are made, and those for which they were made before.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub(crate) current: Box<str>,
    also: Box<[String]>,
}

impl Names {
    pub(crate) fn of(context: &ProviderContext<'_>) -> Self {
        Self { current: context.name.into(), also: context.also.into() }
    }

    /// Returns the name for which new texts are made; the empty one before a manager said which.
    pub(crate) fn current(names: Option<&Self>) -> &str {
        names.map_or("", |names| &names.current)
    }

    /// Returns each name for which a text may have been made, and whether it is the current one.
    pub(crate) fn each(names: Option<&Self>) -> impl Iterator<Item = (&str, bool)> {
        let also = names.into_iter().flat_map(|names| names.also.iter());
        std::iter::once((Self::current(names), true)).chain(also.map(|name| (name.as_str(), false)))
    }
}
