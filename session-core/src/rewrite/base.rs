//! What relative references are resolved against.

use crate::transport::reference::{self, Reference, clean};
use crate::transport::scope::Scope;

/// How many of them are followed.
const MAX_BASES: usize = 8;

/// The URLs that browsers may resolve a page's references against: the page's own, and that of its
/// `base` element. A policy may forbid the element, so a reference must be right for all of them.
#[derive(Debug)]
pub(super) struct Bases {
    /// Path and query of each; the page's own is the first.
    urls: Vec<String>,
    /// References may lead to another site.
    off_site: bool,
}

/// What becomes of a `base` element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaseAction {
    /// It is followed.
    Keep,
    /// It would lead ids astray that are written already, and must lose its effect.
    Neutralize,
}

impl Bases {
    pub(super) fn new(page: String) -> Self {
        Self { urls: vec![page], off_site: false }
    }

    /// The page's own path and query.
    pub(super) fn page(&self) -> &str {
        &self.urls[0]
    }

    /// All of them; none if references may lead elsewhere.
    pub(super) fn urls(&self) -> &[String] {
        if self.off_site { &[] } else { &self.urls }
    }

    /// Takes note of a `base` element.
    ///
    /// Browsers heed the first of a page, but which that is depends on tables, templates and
    /// frames that are open. So each counts here. HTML wants it in front of all elements with URLs:
    /// one that comes after such (`written`), and leads elsewhere, would take their ids along.
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

    /// The path and query of a base on our own site; `None` for all others, and in doubt.
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
