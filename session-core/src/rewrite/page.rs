//! A page's elements that carry ids.

use std::ops::Range;
use std::sync::Arc;

use lol_html::html_content::Attribute;
use lol_html::send::Element;
use tracing::warn;

use super::base::{Bases, Verdict};
use super::foreign_content::Stretches;
use super::form::Forms;
use super::well_formed::Kind;
use super::{entity, refresh};
use crate::transport::scope::Scope;
use crate::transport::{Transport, UrlTransport};

/// A session's id on its way into a page.
pub(crate) struct Insertion {
    /// One with [URLs](Transport::urls).
    pub(crate) transport: Arc<dyn Transport>,
    /// What clients carry: a secret.
    pub(crate) text: String,
}

impl Insertion {
    fn urls(&self) -> &UrlTransport {
        self.transport.urls().expect("the transport puts ids into URLs")
    }
}

/// A change of a page's bytes.
pub(super) struct Edit {
    /// Counted from the page's start.
    pub(super) range: Range<usize>,
    pub(super) text: Vec<u8>,
}

/// What was seen of a page.
pub(super) struct Page {
    ids: Vec<Insertion>,
    edits: Vec<Edit>,
    bases: Bases,
    forms: Forms,
    /// How many `template` elements are open, whose contents are no part of the page.
    templates: usize,
    /// How many `select` elements are open, which an input would end.
    selects: usize,
    stretches: Stretches,
    /// Where the first id is, which a `base` element behind it would lead astray.
    written: Option<usize>,
}

impl Page {
    pub(super) fn new(ids: Vec<Insertion>, path_and_query: String) -> Self {
        Self {
            ids,
            edits: Vec::new(),
            bases: Bases::new(path_and_query),
            forms: Forms::default(),
            templates: 0,
            selects: 0,
            stretches: Stretches::default(),
            written: None,
        }
    }

    /// Takes the edits of the bytes in front of `end`.
    pub(super) fn take_edits(&mut self, end: usize) -> Vec<Edit> {
        let ready = self.edits.iter().take_while(|edit| edit.range.end <= end).count();
        self.edits.drain(..ready).collect()
    }

    /// Where the last edit ends that was not taken yet.
    pub(super) fn edited(&self) -> Option<usize> {
        self.edits.last().map(|edit| edit.range.end)
    }

    /// Takes back the edits from `start` on.
    pub(super) fn forget_edits(&mut self, start: usize) {
        self.edits.retain(|edit| edit.range.start < start);
        self.written = self.written.filter(|at| *at < start);
    }

    /// A stretch to be [checked](Self::check) begins with this element's start tag.
    pub(super) fn begin(&mut self, element: &Element<'_, '_>, kind: Option<Kind>) {
        self.stretches.begin(element.source_location().bytes(), kind);
    }

    /// Checks the bytes that come next; see [`Stretches::check`].
    pub(super) fn check(&mut self, start: usize, bytes: &[u8]) -> Result<usize, usize> {
        self.stretches.check(start, bytes)
    }

    fn edit(&mut self, range: Range<usize>, text: Vec<u8>) {
        self.edits.push(Edit { range, text });
    }

    /// Writes a text with ids in it.
    fn write(&mut self, range: Range<usize>, text: Vec<u8>) {
        self.written.get_or_insert(range.start);
        self.edit(range, text);
    }

    /// Gives an element an attribute in front of its others.
    fn insert(&mut self, element: &Element<'_, '_>, attribute: &str) {
        let name = name_end(element);
        self.edit(name..name, attribute.into());
    }

    /// The reference with all ids in it; `None` where they may not go.
    fn encode(&self, reference: &str) -> Option<String> {
        let mut encoded = reference.to_owned();
        for id in &self.ids {
            let urls = id.urls();
            let mut next = None;
            for place in self.bases.places() {
                next = Some(urls.encode_url(&encoded, place, &id.text)?);
            }
            encoded = next?;
        }
        Some(encoded)
    }

    /// Puts the ids into an attribute.
    pub(super) fn link(&mut self, element: &Element<'_, '_>, name: &str) {
        let Some((value, range)) = attribute(element, name) else { return };
        if let Some(encoded) = self.encode(&value) {
            self.write(range, entity::encode(&encoded));
        }
    }

    pub(super) fn anchor(&mut self, element: &Element<'_, '_>) {
        // Browsers tell the URL to those whom `ping` names.
        if !element.has_attribute("ping") {
            self.link(element, "href");
        }
    }

    pub(super) fn meta(&mut self, element: &Element<'_, '_>) {
        let Some((kind, _)) = attribute(element, "http-equiv") else { return };
        let Some((content, range)) = attribute(element, "content") else { return };
        if !kind.eq_ignore_ascii_case("refresh") {
            return;
        }
        let Some(url) = refresh::url(&content) else { return };
        if let Some(encoded) = self.encode(&content[url.clone()]) {
            let content = [&content[..url.start], &encoded, &content[url.end..]].concat();
            self.write(range, entity::encode(&content));
        }
    }

    pub(super) fn base(&mut self, element: &Element<'_, '_>) {
        let Some(attribute) = find(element, "href") else { return };
        let raw = attribute.value();
        // Not to be decoded here is not to be understood: it leads anywhere.
        let href = entity::decode(&raw).unwrap_or("//".into());
        let scopes: Vec<&Scope> = self.ids.iter().map(|id| id.urls().scope()).collect();
        if self.bases.found(&href, &scopes, self.is_written()) == Verdict::Neutralize {
            warn!("a base element behind links was disarmed: it would lead session ids elsewhere");
            // The first attribute of a name counts: an empty one means the page itself.
            self.insert(element, " href=\"\"");
        }
    }

    pub(super) fn form(&mut self, element: &Element<'_, '_>) {
        let method = attribute(element, "method").map(|(method, _)| method.to_ascii_lowercase());
        let posts = method.as_deref() == Some("post");
        let is_dialog = method.as_deref() == Some("dialog");
        let declared = element.has_attribute("action");
        let action = attribute(element, "action");
        // None, or an empty one, means the page itself, whatever its base.
        let reference = match &action {
            Some((value, _)) if !value.trim_matches(blank).is_empty() => value.clone(),
            None if declared => return self.forms.open_if_free(None, None),
            _ => self.bases.page().to_owned(),
        };
        if !self.forms.is_free() && !self.in_template() {
            return; // browsers ignore a form within a form
        }
        let encoded = self.encode(&reference);
        if posts && let Some(encoded) = &encoded {
            let value = entity::encode(encoded);
            match action {
                Some((_, range)) => self.write(range, value),
                None => {
                    let name = name_end(element);
                    self.write(name..name, [b" action=\"", value.as_slice(), b"\""].concat());
                }
            }
        }
        if !self.in_template() {
            let gets = !posts && !is_dialog && encoded.is_some();
            let id = attribute(element, "id").map(|(id, _)| id);
            self.forms.open_if_free(id, gets.then_some(reference));
        }
    }

    /// A form's end, which starts at this place.
    pub(super) fn form_end(&mut self, at: usize) {
        if self.in_template() {
            return; // it may be a template's
        }
        let Some(action) = self.forms.close() else { return };
        if self.selects > 0 {
            return;
        }
        // A base element may have come between.
        if self.encode(&action).is_some() {
            let inputs = self.ids.iter().map(|id| {
                let (name, text) = (id.urls().name(), &id.text);
                format!("<input type=\"hidden\" name=\"{name}\" value=\"{text}\">")
            });
            let inputs: String = inputs.collect();
            self.write(at..at, inputs.into_bytes());
        }
    }

    pub(super) fn template(&mut self) {
        self.templates += 1;
    }

    pub(super) fn template_end(&mut self) {
        self.templates -= 1;
    }

    pub(super) fn in_template(&self) -> bool {
        self.templates > 0
    }

    pub(super) fn select(&mut self) {
        self.selects += 1;
    }

    pub(super) fn select_end(&mut self) {
        self.selects -= 1;
    }

    /// A control with a URL of its own, to which a form's data go.
    pub(super) fn control(&mut self, element: &Element<'_, '_>) {
        let target = attribute(element, "formaction").map(|(target, _)| target);
        let target = target.as_deref().map(|target| match target.trim_matches(blank) {
            "" => self.bases.page(),
            _ => target,
        });
        if target.is_some_and(|target| self.encode(target).is_some()) {
            return;
        }
        if !element.has_attribute("form") {
            return self.forms.cancel_hidden_input();
        }
        // Its form may be anywhere.
        let form = attribute(element, "form").map(|(id, _)| id).unwrap_or_default();
        if self.forms.leads_astray(&form) {
            warn!("a control that would send a session id elsewhere was disabled");
            self.insert(element, " disabled");
        }
    }

    /// Whether what follows could take ids elsewhere.
    pub(super) fn is_written(&self) -> bool {
        self.written.is_some()
    }

    /// An input; one of our name is the application's own doing.
    pub(super) fn input(&mut self, element: &Element<'_, '_>) {
        let name = attribute(element, "name");
        if name.is_some_and(|(name, _)| self.ids.iter().any(|id| id.urls().name() == name)) {
            self.forms.cancel_hidden_input();
        }
    }
}

fn blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{c}')
}

/// Where an element's name ends.
fn name_end(element: &Element<'_, '_>) -> usize {
    element.source_location().bytes().start + "<".len() + element.tag_name().len()
}

/// The attribute that counts: the first of its name.
fn find<'e>(element: &'e Element<'_, '_>, name: &str) -> Option<&'e Attribute<'e>> {
    element.attributes().iter().find(|attribute| attribute.name() == name)
}

/// The attribute's value as browsers read it, and its place.
fn attribute(element: &Element<'_, '_>, name: &str) -> Option<(String, Range<usize>)> {
    let attribute = find(element, name)?;
    let raw = attribute.value();
    Some((entity::decode(&raw)?.into_owned(), attribute.value_source_location()?.bytes()))
}
