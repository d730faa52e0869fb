//! A page's elements that carry ids.

use std::ops::Range;
use std::sync::Arc;

use lol_html::html_content::Attribute;
use lol_html::send::{Element, Settings};
use lol_html::{ElementContentHandlers, Selector};
use parking_lot::Mutex;
use tracing::warn;

use super::base::{Bases, Verdict};
use super::form::Forms;
use super::marks::Marks;
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
    /// How many elements are open in which an input would be none, or would change their end.
    enclosures: usize,
    /// The `base` element that comes is one that browsers may ignore.
    doubtful: bool,
    /// What is in `noscript` elements.
    unscripted: Marks,
    /// No more ids go into the page.
    halted: bool,
    /// There are ids in the page that a `base` element would lead astray.
    written: bool,
}

impl Page {
    pub(super) fn new(ids: Vec<Insertion>, path_and_query: String) -> Self {
        Self {
            ids,
            edits: Vec::new(),
            bases: Bases::new(path_and_query),
            forms: Forms::default(),
            templates: 0,
            enclosures: 0,
            doubtful: false,
            unscripted: Marks::default(),
            halted: false,
            written: false,
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

    fn edit(&mut self, range: Range<usize>, text: Vec<u8>) {
        self.edits.push(Edit { range, text });
    }

    /// The reference with all ids in it; `None` where they may not go.
    fn encode(&self, reference: &str) -> Option<String> {
        if self.halted {
            return None;
        }
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
    fn link(&mut self, element: &Element<'_, '_>, name: &str) {
        let Some((value, range)) = attribute(element, name) else { return };
        if is_html(element)
            && let Some(encoded) = self.encode(&value)
        {
            self.edit(range, entity::encode(&encoded));
            self.written = true;
        }
    }

    fn anchor(&mut self, element: &Element<'_, '_>) {
        // Browsers tell the URL to those whom `ping` names.
        if !element.has_attribute("ping") {
            self.link(element, "href");
        }
    }

    fn meta(&mut self, element: &Element<'_, '_>) {
        let Some((kind, _)) = attribute(element, "http-equiv") else { return };
        let Some((content, range)) = attribute(element, "content") else { return };
        if !kind.eq_ignore_ascii_case("refresh") {
            return;
        }
        let Some(url) = refresh::url(&content) else { return };
        if let Some(encoded) = self.encode(&content[url.clone()]) {
            let content = [&content[..url.start], &encoded, &content[url.end..]].concat();
            self.edit(range, entity::encode(&content));
            self.written = true;
        }
    }

    fn base(&mut self, element: &Element<'_, '_>) {
        let doubtful = std::mem::take(&mut self.doubtful) || !is_html(element);
        let Some(attribute) = find(element, "href") else { return };
        let raw = attribute.value();
        // Not to be decoded here is not to be understood: it leads anywhere.
        let href = entity::decode(&raw).unwrap_or("//".into());
        let scopes: Vec<&Scope> = self.ids.iter().map(|id| id.urls().scope()).collect();
        if self.bases.found(&href, &scopes, doubtful, self.written) == Verdict::Disarm
            && let Some(name) = attribute.name_source_location()
        {
            warn!("a base element behind links was disarmed: it would lead session ids elsewhere");
            self.edit(name.bytes(), b"data-href".to_vec());
        }
    }

    fn form(&mut self, element: &Element<'_, '_>) {
        if !is_html(element) {
            return self.forms.open_if_free(None, None);
        }
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
        if !self.forms.is_free() && self.templates == 0 {
            return; // browsers ignore a form within a form
        }
        let encoded = self.encode(&reference);
        if posts && let Some(encoded) = &encoded {
            let value = entity::encode(encoded);
            match action {
                Some((_, range)) => self.edit(range, value),
                None => {
                    let name = element.source_location().bytes().start + "<form".len();
                    self.edit(name..name, [b" action=\"", value.as_slice(), b"\""].concat());
                }
            }
            self.written = true;
        }
        if self.templates == 0 {
            let gets = !posts && !is_dialog && encoded.is_some();
            let id = attribute(element, "id").map(|(id, _)| id);
            self.forms.open_if_free(id, gets.then_some(reference));
        }
    }

    /// A form's end, which starts at this place.
    fn form_end(&mut self, at: usize) {
        if self.templates > 0 {
            return; // it may be a template's
        }
        let Some(action) = self.forms.close() else { return };
        if std::mem::take(&mut self.enclosures) > 0 {
            return;
        }
        // A base element may have come between.
        if self.encode(&action).is_some() {
            let inputs = self.ids.iter().map(|id| {
                let (name, text) = (id.urls().name(), &id.text);
                format!("<input type=\"hidden\" name=\"{name}\" value=\"{text}\">")
            });
            let inputs: String = inputs.collect();
            self.edit(at..at, inputs.into_bytes());
            self.written = true;
        }
    }

    /// A control with a URL of its own, to which a form's data go.
    fn control(&mut self, element: &Element<'_, '_>) {
        let target = attribute(element, "formaction").map(|(target, _)| target);
        let target = target.as_deref().map(|target| match target.trim_matches(blank) {
            "" => self.bases.page(),
            _ => target,
        });
        if target.is_some_and(|target| self.encode(target).is_some()) {
            return;
        }
        if !element.has_attribute("form") {
            return self.forms.spoil();
        }
        // Its form may be anywhere.
        let form = attribute(element, "form").map(|(id, _)| id).unwrap_or_default();
        if self.forms.leads_astray(&form) {
            warn!("a control that would send a session id elsewhere was disabled");
            let name = element.source_location().bytes().start + 1 + element.tag_name().len();
            self.edit(name..name, b" disabled".to_vec());
        }
    }

    /// Text in a `noscript` element, from this place on. The parser reads as a browser with scripts
    /// does, for which it is text; one without finds elements in it.
    fn unscripted(&mut self, text: &str, start: usize) {
        // A character is a byte: those beyond ASCII are in no word.
        let bytes = text.chars().map(|c| u8::try_from(c).unwrap_or(0xff));
        let found = self.unscripted.find(bytes);
        self.halted |= found.any;
        if self.written {
            for at in found.harmful {
                warn!(
                    "an element for browsers without scripts was disarmed: it comes behind links"
                );
                self.edit(start + at..start + at, b"-".to_vec());
            }
        }
    }

    /// Whether what follows could take ids elsewhere.
    pub(super) fn is_written(&self) -> bool {
        self.written
    }

    /// An input; one of our name is the application's own doing.
    fn input(&mut self, element: &Element<'_, '_>) {
        let name = attribute(element, "name");
        if name.is_some_and(|(name, _)| self.ids.iter().any(|id| id.urls().name() == name)) {
            self.forms.spoil();
        }
    }
}

fn blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{c}')
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

/// Has the parser tell the page of the elements that matter.
pub(super) fn watch(
    page: &Arc<Mutex<Page>>,
    settings: Settings<'static, 'static>,
) -> Settings<'static, 'static> {
    type See = fn(&mut Page, &Element<'_, '_>);
    let elements: [(&str, See); 10] = [
        // In front of the plain `base`: within these it may be none.
        ("template base, noscript base, select base, frameset base", |page, _| {
            page.doubtful = true;
        }),
        ("base[href]", Page::base),
        ("a[href]", Page::anchor),
        ("area[href]", Page::anchor),
        ("frame[src]", |page, element| page.link(element, "src")),
        ("iframe[src]", |page, element| page.link(element, "src")),
        ("meta[http-equiv][content]", Page::meta),
        ("button[formaction]", Page::control),
        ("input[formaction]", Page::control),
        ("input[name]", Page::input),
    ];
    let mut settings = settings;
    for (selector, see) in elements {
        let page = Arc::clone(page);
        let handlers = handlers(move |element| {
            see(&mut page.lock(), element);
            Ok(())
        });
        settings = settings.append_element_content_handler((parsed(selector), handlers));
    }
    let forms = Arc::clone(page);
    let form = handlers(move |element| {
        if !element.can_have_content() {
            return Ok(());
        }
        forms.lock().form(element);
        let page = Arc::clone(&forms);
        element.on_end_tag(Box::new(move |end| {
            if end.name() == "form" {
                page.lock().form_end(end.source_location().bytes().start);
            }
            Ok(())
        }))
    });
    let templates = Arc::clone(page);
    let template = handlers(move |element| {
        if !element.can_have_content() {
            return Ok(());
        }
        templates.lock().templates += 1;
        let page = Arc::clone(&templates);
        element.on_end_tag(Box::new(move |end| {
            if end.name() == "template" {
                page.lock().templates -= 1;
            }
            Ok(())
        }))
    });
    let unscripted = Arc::clone(page);
    let text: lol_html::send::TextHandler<'static> = Box::new(move |text| {
        let start = text.source_location().bytes().start;
        unscripted.lock().unscripted(text.as_str(), start);
        Ok(())
    });
    let noscript = ElementContentHandlers::default().text(text);
    let enclosures = Arc::clone(page);
    let enclosure: Box<Handler> = Box::new(move |element| {
        if !element.can_have_content() {
            return Ok(());
        }
        enclosures.lock().enclosures += 1;
        let (page, name) = (Arc::clone(&enclosures), element.tag_name());
        element.on_end_tag(Box::new(move |end| {
            if end.name() != name && name != "select" && end.name() != "form" {
                return Err("a drawing or formula has no end of its own".into());
            }
            if end.name() == name {
                let mut page = page.lock();
                page.enclosures = page.enclosures.saturating_sub(1);
            }
            Ok(())
        }))
    });
    let enclosure = ElementContentHandlers::default().element(enclosure);
    // Where such a one ends, the parser and browsers disagree: it is to give up.
    let nested: Box<Handler> = Box::new(|_| Err("it has drawings or formulas in others".into()));
    let nested = ElementContentHandlers::default().element(nested);
    settings
        .append_element_content_handler((parsed("svg svg, svg math, math svg, math math"), nested))
        .append_element_content_handler((parsed("svg, math, select"), enclosure))
        .append_element_content_handler((parsed("noscript"), noscript))
        .append_element_content_handler((parsed("form"), form))
        .append_element_content_handler((parsed("template"), template))
}

type Handler = dyn FnMut(&mut Element<'_, '_>) -> lol_html::HandlerResult + Send;

/// Whether it is an element of HTML, as far as the parser knows; those of the same names in drawings
/// and formulas are others. To be relied on only where a mistake costs no more than a link.
fn is_html(element: &Element<'_, '_>) -> bool {
    element.namespace_uri() == "http://www.w3.org/1999/xhtml"
}

fn handlers(
    mut handler: impl FnMut(&mut Element<'_, '_>) -> lol_html::HandlerResult + Send + 'static,
) -> lol_html::send::ElementContentHandlers<'static> {
    let handler: Box<Handler> =
        Box::new(move |element| match element.namespace_uri() == "http://www.w3.org/1999/xhtml" {
            true => handler(element),
            false => Ok(()),
        });
    ElementContentHandlers::default().element(handler)
}

fn parsed(selector: &str) -> std::borrow::Cow<'static, Selector> {
    std::borrow::Cow::Owned(selector.parse().expect("is a selector"))
}
