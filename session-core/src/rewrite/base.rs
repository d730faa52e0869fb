//! [`Bases`]: the base URLs that a page's relative references may be resolved against.

use crate::transport::reference::{self, Reference, clean};
use crate::transport::scope::Scope;

/// The maximum number of base URLs; a page with more gets no further ids.
const MAX_BASES: usize = 8;

/// The URLs that browsers may resolve a page's references against: the page's own URL, and that of its `base`
/// element. A Content-Security-Policy may forbid the element, so a reference must be valid for all of them.
#[derive(Debug)]
pub(super) struct Bases {
    /// The path and query of each; the page's own is the first.
    urls: Vec<String>,
    /// Relative references may lead to another site.
    off_site: bool,
}

/// What to do with a `base` element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaseAction {
    /// It stays as it is, and counts as a base URL.
    Keep,
    /// It must be made ineffective, because it would lead ids in front of it to another site.
    Neutralize,
}

impl Bases {
    pub(super) fn new(page: String) -> Self {
        Self { urls: vec![page], off_site: false }
    }

    /// Returns the page's own path and query.
    pub(super) fn page(&self) -> &str {
        &self.urls[0]
    }

    /// Returns all base URLs; none if relative references may lead to another site.
    pub(super) fn urls(&self) -> &[String] {
        if self.off_site { &[] } else { &self.urls }
    }

    /// Adds a `base` element.
    ///
    /// Browsers use the first `base` element of a page, but which one that is depends on open tables,
    /// templates and frames. So each counts here. HTML requires it to be in front of all elements with URLs;
    /// one behind an element with an id (`has_ids`) that leads to another site would lead the id there.
    pub(super) fn add(&mut self, href: &str, scopes: &[&Scope], has_ids: bool) -> BaseAction {
        let url = self.resolve(href, scopes);
        let leads_astray = match &url {
            None => true,
            Some(url) => *url != self.urls[0] && scopes.iter().any(|s| !s.is_whole_origin()),
        };
        if has_ids && leads_astray {
            return BaseAction::Neutralize;
        }
        match url {
            Some(url) if self.urls.contains(&url) => {}
            Some(url) if self.urls.len() < MAX_BASES => self.urls.push(url),
            _ => self.off_site = true,
        }
        BaseAction::Keep
    }

    /// Returns the path and query of a base on the application's own site; `None` for all others, and in
    /// doubt.
    fn resolve(&self, href: &str, scopes: &[&Scope]) -> Option<String> {
        let href = clean(href)?;
        let reference = Reference::parse(&href)?;
        if !scopes.iter().all(|scope| scope.is_same_site(&reference)) {
            return None;
        }
        let page = self.urls[0].split('?').next().unwrap_or_default();
        let path = match reference.site {
            Some(_) if reference.path.is_empty() => "/",
            _ => reference.path,
        };
        let mut url = format!("/{}", reference::resolve(path, page).join("/"));
        if let Some(query) = reference.query {
            url.push('?');
            url.push_str(query);
        }
        Some(url)
    }
}
