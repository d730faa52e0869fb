//! What relative references are resolved against.

use crate::transport::reference::{Reference, clean, resolve};
use crate::transport::scope::Scope;

/// How many of them are followed.
const PLACES: usize = 8;

/// The URLs that browsers may resolve a page's references against: the page's own, and that of its
/// `base` element. A policy may forbid the element, so a reference must be right for all of them.
#[derive(Debug)]
pub(super) struct Bases {
    /// Path and query of each; the page's own is the first.
    places: Vec<String>,
    /// References may lead to another site.
    off_site: bool,
}

/// What becomes of a `base` element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is followed.
    Heeded,
    /// It would lead ids astray that are written already, and must lose its effect.
    Neutralize,
}

impl Bases {
    pub(super) fn new(page: String) -> Self {
        Self { places: vec![page], off_site: false }
    }

    /// The page's own path and query.
    pub(super) fn page(&self) -> &str {
        &self.places[0]
    }

    /// All of them; none if references may lead elsewhere.
    pub(super) fn places(&self) -> &[String] {
        if self.off_site { &[] } else { &self.places }
    }

    /// Takes note of a `base` element.
    ///
    /// Browsers heed the first of a page, but which that is depends on tables, templates and
    /// frames that are open. So each counts here. HTML wants it in front of all elements with URLs:
    /// one that comes after such (`written`), and leads elsewhere, would take their ids along.
    pub(super) fn found(&mut self, href: &str, scopes: &[&Scope], written: bool) -> Verdict {
        let place = self.place(href, scopes);
        let leads_astray = match &place {
            None => true,
            Some(place) => *place != self.places[0] && scopes.iter().any(|s| !s.is_whole_origin()),
        };
        if written && leads_astray {
            return Verdict::Neutralize;
        }
        match place {
            Some(place) if self.places.contains(&place) => {}
            Some(place) if self.places.len() < PLACES => self.places.push(place),
            _ => self.off_site = true,
        }
        Verdict::Heeded
    }

    /// The path and query of a base on our own site; `None` for all others, and in doubt.
    fn place(&self, href: &str, scopes: &[&Scope]) -> Option<String> {
        let href = clean(href)?;
        let reference = Reference::parse(&href)?;
        if !scopes.iter().all(|scope| scope.is_same_site(&reference)) {
            return None;
        }
        let page = self.places[0].split('?').next().unwrap_or_default();
        let path = match reference.site {
            Some(_) if reference.path.is_empty() => "/",
            _ => reference.path,
        };
        let mut place = format!("/{}", resolve(path, page).join("/"));
        if let Some(query) = reference.query {
            place.push('?');
            place.push_str(query);
        }
        Some(place)
    }
}
