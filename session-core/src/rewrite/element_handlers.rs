//! What the parser is to tell of a page.

use std::borrow::Cow;
use std::sync::Arc;

use lol_html::send::{Element, ElementContentHandlers, Settings};
use lol_html::{HandlerResult, Selector};
use parking_lot::Mutex;

use super::page::Page;
use super::well_formed::Kind;

type See = fn(&mut Page, &Element<'_, '_>);

/// Elements of HTML; those of the same names in drawings and formulas are others.
const ELEMENTS: [(&str, See); 10] = [
    ("a[href]", Page::anchor),
    ("area[href]", Page::anchor),
    ("frame[src]", |page, element| page.link(element, "src")),
    ("iframe[src]", |page, element| page.link(element, "src")),
    ("meta[http-equiv][content]", Page::meta),
    ("button[formaction]", Page::control),
    ("input[formaction]", Page::control),
    ("input[name]", Page::input),
    ("form", Page::form),
    ("noscript", |page, element| page.begin(element, Some(Kind::Unscripted))),
];

/// Elements that matter wherever they are, or only seem to be.
const EVERYWHERE: [(&str, See); 6] = [
    ("base[href]", Page::base),
    ("svg", |page, element| page.begin(element, Some(Kind::Drawing))),
    ("math", |page, element| page.begin(element, Some(Kind::Formula))),
    // Their contents are text.
    (
        "title, textarea, style, script, xmp, iframe, noembed, noframes, plaintext",
        |page, element| page.begin(element, None),
    ),
    ("template", |page, _| page.template()),
    ("select", |page, _| page.select()),
];

/// Has the parser tell the page of the elements that matter. Where it and browsers may disagree
/// about what follows, it is to give up.
pub(super) fn watch(
    page: &Arc<Mutex<Page>>,
    settings: Settings<'static, 'static>,
) -> Settings<'static, 'static> {
    let mut watched = Vec::new();
    let mut on = |selector: &str, handler: Box<Handler>| {
        let selector: Selector = selector.parse().expect("is a selector");
        let handlers = ElementContentHandlers::default().element(handler);
        watched.push((Cow::Owned(selector), handlers));
    };
    for (selector, see) in EVERYWHERE {
        let page = Arc::clone(page);
        on(
            selector,
            Box::new(move |element| {
                see(&mut page.lock(), element);
                Ok(())
            }),
        );
    }
    for (selector, see) in ELEMENTS {
        let page = Arc::clone(page);
        on(
            selector,
            Box::new(move |element| {
                if element.namespace_uri() == "http://www.w3.org/1999/xhtml" {
                    see(&mut page.lock(), element);
                }
                Ok(())
            }),
        );
    }
    for name in ["form", "template", "select"] {
        let page = Arc::clone(page);
        on(name, Box::new(move |element| watch_end(&page, element)));
    }
    on("select form", Box::new(|_| Err("it has a form in a select element".into())));
    let page = Arc::clone(page);
    on(
        "col",
        Box::new(move |_| match page.lock().in_template() {
            // Behind it, browsers ignore elements whose contents the parser takes for text.
            true => Err("it has a col element in a template".into()),
            false => Ok(()),
        }),
    );
    watched.into_iter().fold(settings, Settings::append_element_content_handler)
}

type Handler = dyn FnMut(&mut Element<'_, '_>) -> HandlerResult + Send;

/// Has the parser tell of the end of an element. It may be another element's end tag that ends it,
/// too: then browsers have their own ways with it.
fn watch_end(page: &Arc<Mutex<Page>>, element: &mut Element<'_, '_>) -> HandlerResult {
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
            "select" => return Err("a select element has no end of its own".into()),
            _ => {}
        }
        Ok(())
    }))
}
