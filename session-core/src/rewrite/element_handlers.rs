//! The handlers that the parser calls for the elements of a page.

use std::borrow::Cow;
use std::sync::Arc;

use lol_html::send::{Element, ElementContentHandlers, Settings};
use lol_html::{HandlerResult, Selector};
use parking_lot::Mutex;

use super::page::Page;
use super::well_formed::Region;

type PageHandler = fn(&mut Page, &Element<'_, '_>);

/// Elements of HTML, but not elements of the same names in SVG and MathML.
const ELEMENTS: [(&str, PageHandler); 10] = [
    ("a[href]", Page::anchor),
    ("area[href]", Page::anchor),
    ("frame[src]", |page, element| page.encode_attribute(element, "src")),
    ("iframe[src]", |page, element| page.encode_attribute(element, "src")),
    ("meta[http-equiv][content]", Page::meta),
    ("button[formaction]", Page::control),
    ("input[formaction]", Page::control),
    ("input[name]", Page::input),
    ("form", Page::form),
    ("noscript", |page, element| page.begin_region(element, Some(Region::NoScript))),
];

/// Elements of any namespace.
const EVERYWHERE: [(&str, PageHandler); 6] = [
    ("base[href]", Page::base),
    ("svg", |page, element| page.begin_region(element, Some(Region::Svg))),
    ("math", |page, element| page.begin_region(element, Some(Region::MathMl))),
    // Elements whose contents are text.
    (
        "title, textarea, style, script, xmp, iframe, noembed, noframes, plaintext",
        |page, element| page.begin_region(element, None),
    ),
    ("template", |page, _| page.template()),
    ("select", |page, _| page.select()),
];

/// Registers the handlers of the page's elements with the parser. The parser fails where it and browsers may
/// disagree about the rest of the page.
pub(super) fn register(
    page: &Arc<Mutex<Page>>,
    settings: Settings<'static, 'static>,
) -> Settings<'static, 'static> {
    let mut handlers_by_selector = Vec::new();
    let mut on = |selector: &str, handler: Box<Handler>| {
        let selector: Selector = selector.parse().expect("is a selector");
        let handlers = ElementContentHandlers::default().element(handler);
        handlers_by_selector.push((Cow::Owned(selector), handlers));
    };
    for (selector, handle) in EVERYWHERE {
        let page = Arc::clone(page);
        on(
            selector,
            Box::new(move |element| {
                handle(&mut page.lock(), element);
                Ok(())
            }),
        );
    }
    for (selector, handle) in ELEMENTS {
        let page = Arc::clone(page);
        on(
            selector,
            Box::new(move |element| {
                if element.namespace_uri() == "http://www.w3.org/1999/xhtml" {
                    handle(&mut page.lock(), element);
                }
                Ok(())
            }),
        );
    }
    for name in ["form", "template", "select"] {
        let page = Arc::clone(page);
        on(name, Box::new(move |element| on_end_tag_of(&page, element)));
    }
    on("select form", Box::new(|_| Err("the page has a form in a select element".into())));
    let page = Arc::clone(page);
    on(
        "col",
        Box::new(move |_| match page.lock().in_template() {
            // Behind a `col` in a template, browsers ignore elements whose contents the parser takes for
            // text.
            true => Err("the page has a col element in a template".into()),
            false => Ok(()),
        }),
    );
    handlers_by_selector.into_iter().fold(settings, Settings::append_element_content_handler)
}

type Handler = dyn FnMut(&mut Element<'_, '_>) -> HandlerResult + Send;

/// Registers a handler for the end of an element. The element may also be ended by another element's end tag,
/// which browsers handle in their own ways.
fn on_end_tag_of(page: &Arc<Mutex<Page>>, element: &mut Element<'_, '_>) -> HandlerResult {
    if !element.can_have_content() {
        return Ok(());
    }
    let (page, name) = (Arc::clone(page), element.tag_name());
    element.on_end_tag(Box::new(move |end| {
        let is_own = end.name() == name;
        match name.as_str() {
            "form" if is_own => page.lock().form_end(end.source_location().bytes().start),
            "template" if is_own => page.lock().template_end(),
            "select" if is_own => page.lock().select_end(),
            "select" => return Err("a select element has no end tag of its own".into()),
            _ => {}
        }
        Ok(())
    }))
}
