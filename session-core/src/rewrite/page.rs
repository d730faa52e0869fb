//! [`Page`]: decides which attributes and forms of a page get an id, and collects the edits.

use std::ops::Range;
use std::sync::Arc;

use lol_html::html_content::Attribute;
use lol_html::send::Element;
use tracing::warn;

use super::base::{BaseAction, Bases};
use super::foreign_content::CheckedRegions;
use super::form::Forms;
use super::well_formed::Region;
use super::{entity, refresh};
use crate::transport::scope::Scope;
use crate::transport::{Transport, UrlTransport};

/// A session's id, to be put into a page.
pub(crate) struct Insertion {
    /// The transport, which has [URLs](Transport::urls).
    pub(crate) transport: Arc<dyn Transport>,
    /// The token's text, which is secret.
    pub(crate) text: String,
}

impl Insertion {
    fn urls(&self) -> &UrlTransport {
        self.transport.urls().expect("the transport puts ids into URLs")
    }
}

/// A change of a page's bytes.
pub(super) struct Edit {
    /// The bytes to replace, counted from the page's start.
    pub(super) range: Range<usize>,
    pub(super) text: Vec<u8>,
}

/// What is known of the page so far.
pub(super) struct Page {
    ids: Vec<Insertion>,
    edits: Vec<Edit>,
    bases: Bases,
    forms: Forms,
    /// The number of open `template` elements, whose contents are not part of the page.
    templates: usize,
    /// The number of open `select` elements, which an input would end.
    selects: usize,
    regions: CheckedRegions,
    /// The position of the first id. A `base` element behind it could lead the id to another site.
    first_id_at: Option<usize>,
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
            regions: CheckedRegions::default(),
            first_id_at: None,
        }
    }

    /// Takes the edits of the bytes in front of `end`.
    pub(super) fn take_edits(&mut self, end: usize) -> Vec<Edit> {
        let ready = self.edits.iter().take_while(|edit| edit.range.end <= end).count();
        self.edits.drain(..ready).collect()
    }

    /// Returns where the last edit that was not taken yet ends.
    pub(super) fn last_edit_end(&self) -> Option<usize> {
        self.edits.last().map(|edit| edit.range.end)
    }

    /// Drops the edits from `start` on.
    pub(super) fn forget_edits(&mut self, start: usize) {
        self.edits.retain(|edit| edit.range.start < start);
        self.first_id_at = self.first_id_at.filter(|at| *at < start);
    }

    /// Begins a region to [check](Self::check) with this element's start tag.
    pub(super) fn begin_region(&mut self, element: &Element<'_, '_>, region: Option<Region>) {
        self.regions.begin(element.source_location().bytes(), region);
    }

    /// Checks the next bytes; see [`CheckedRegions::check`].
    pub(super) fn check(&mut self, start: usize, bytes: &[u8]) -> Result<usize, usize> {
        self.regions.check(start, bytes)
    }

    fn edit(&mut self, range: Range<usize>, text: Vec<u8>) {
        self.edits.push(Edit { range, text });
    }

    /// Adds an edit whose text contains ids.
    fn write_ids(&mut self, range: Range<usize>, text: Vec<u8>) {
        self.first_id_at.get_or_insert(range.start);
        self.edit(range, text);
    }

    /// Inserts an attribute in front of the element's other attributes.
    fn insert(&mut self, element: &Element<'_, '_>, attribute: &str) {
        let name = name_end(element);
        self.edit(name..name, attribute.into());
    }

    /// Returns the reference with all ids in it; `None` if it must not carry one of them.
    fn encode(&self, reference: &str) -> Option<String> {
        let mut encoded = reference.to_owned();
        for id in &self.ids {
            let urls = id.urls();
            let mut next = None;
            for base in self.bases.urls() {
                next = Some(urls.encode_url(&encoded, base, &id.text)?);
            }
            encoded = next?;
        }
        Some(encoded)
    }

    /// Puts the ids into the URL of an attribute.
    pub(super) fn encode_attribute(&mut self, element: &Element<'_, '_>, name: &str) {
        let Some((value, range)) = attribute(element, name) else { return };
        if let Some(encoded) = self.encode(&value) {
            self.write_ids(range, entity::encode(&encoded));
        }
    }

    pub(super) fn anchor(&mut self, element: &Element<'_, '_>) {
        // Browsers send the link's URL to the sites that `ping` names.
        if !element.has_attribute("ping") {
            self.encode_attribute(element, "href");
        }
    }

    pub(super) fn meta(&mut self, element: &Element<'_, '_>) {
        let Some((kind, _)) = attribute(element, "http-equiv") else { return };
        let Some((content, range)) = attribute(element, "content") else { return };
        if !kind.eq_ignore_ascii_case("refresh") {
            return;
        }
        let Some(url) = refresh::url_range(&content) else { return };
        if let Some(encoded) = self.encode(&content[url.clone()]) {
            let content = [&content[..url.start], &encoded, &content[url.end..]].concat();
            self.write_ids(range, entity::encode(&content));
        }
    }

    pub(super) fn base(&mut self, element: &Element<'_, '_>) {
        let Some(attribute) = find(element, "href") else { return };
        let raw = attribute.value();
        // A reference that can't be decoded is treated as one to another site.
        let href = entity::decode(&raw).unwrap_or("//".into());
        let scopes: Vec<&Scope> = self.ids.iter().map(|id| id.urls().scope()).collect();
        if self.bases.add(&href, &scopes, self.has_ids()) == BaseAction::Neutralize {
            warn!(
                "a base element behind links was made ineffective: it would lead session ids to another site"
            );
            // The first attribute of a name counts, and an empty `href` means the page itself.
            self.insert(element, " href=\"\"");
        }
    }

    pub(super) fn form(&mut self, element: &Element<'_, '_>) {
        let method = attribute(element, "method").map(|(method, _)| method.to_ascii_lowercase());
        let posts = method.as_deref() == Some("post");
        let is_dialog = method.as_deref() == Some("dialog");
        let declared = element.has_attribute("action");
        let action = attribute(element, "action");
        // A missing or empty action means the page itself, whatever its base.
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
                Some((_, range)) => self.write_ids(range, value),
                None => {
                    let name = name_end(element);
                    self.write_ids(name..name, [b" action=\"", value.as_slice(), b"\""].concat());
                }
            }
        }
        if !self.in_template() {
            let gets = !posts && !is_dialog && encoded.is_some();
            let id = attribute(element, "id").map(|(id, _)| id);
            self.forms.open_if_free(id, gets.then_some(reference));
        }
    }

    /// Handles the end tag of a form, which starts at this position.
    pub(super) fn form_end(&mut self, at: usize) {
        if self.in_template() {
            return; // it may be a template's
        }
        let Some(action) = self.forms.close() else { return };
        if self.selects > 0 {
            return;
        }
        // A `base` element may have come after the form's start tag.
        if self.encode(&action).is_some() {
            let inputs = self.ids.iter().map(|id| {
                let (name, text) = (id.urls().name(), &id.text);
                format!("<input type=\"hidden\" name=\"{name}\" value=\"{text}\">")
            });
            let inputs: String = inputs.collect();
            self.write_ids(at..at, inputs.into_bytes());
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

    /// Handles a control with a `formaction`, the URL to which it sends the form.
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
        // Its form may be anywhere in the page.
        let form = attribute(element, "form").map(|(id, _)| id).unwrap_or_default();
        if self.forms.override_action(&form) {
            warn!("a control that would send a session id to another site was disabled");
            self.insert(element, " disabled");
        }
    }

    /// Returns whether the page contains ids, which the elements that follow must not lead to another site.
    pub(super) fn has_ids(&self) -> bool {
        self.first_id_at.is_some()
    }

    /// Handles an input. If the application put an input of the id's name into the form, the form gets no
    /// hidden input.
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

/// Returns where an element's name ends.
fn name_end(element: &Element<'_, '_>) -> usize {
    element.source_location().bytes().start + "<".len() + element.tag_name().len()
}

/// Returns the first attribute of a name, which is the one that counts.
fn find<'e>(element: &'e Element<'_, '_>, name: &str) -> Option<&'e Attribute<'e>> {
    element.attributes().iter().find(|attribute| attribute.name() == name)
}

/// Returns the attribute's value as browsers read it, and its position.
fn attribute(element: &Element<'_, '_>, name: &str) -> Option<(String, Range<usize>)> {
    let attribute = find(element, name)?;
    let raw = attribute.value();
    Some((entity::decode(&raw)?.into_owned(), attribute.value_source_location()?.bytes()))
}
