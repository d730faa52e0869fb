//! Random pages, whose rewritten form is checked with browsers' parsers of HTML (html5ever) and URLs (`url`):
//! no id may lead to another site, and nothing else may change.
//!
//! The pages are different in each run. A failure prints the smallest page that fails in the same way, and
//! adds it to `proptest-regressions`, whose pages are tested first. To test more pages, or the same pages
//! again:
//!
//! ```text
//! PROPTEST_CASES=200000 cargo test --release -p session-core --features rewrite browser_oracle
//! PROPTEST_RNG_SEED=8 cargo test -p session-core --features rewrite browser_oracle
//! ```

mod dom;
mod pages;

use markup5ever_rcdom::{Handle, NodeData};
use proptest::prelude::*;
use url::Url;

use self::dom::{Dom, HTML, html_name, value};
use super::refresh;
use super::tests::{rewriter, run_at};

const PAGE: &str = "https://example.com/app/page?q=1";

/// What a parser reads from a page: each node as text, and the places with the id.
#[derive(Default)]
struct Seen {
    /// All nodes, without attributes that may carry the id and without hidden inputs of its name.
    nodes: Vec<String>,
    /// The `href` of the first `base` element outside templates.
    base: Option<String>,
    /// The URLs that contain the id, and the URLs to which forms with the id are sent.
    carriers: Vec<String>,
    /// The attributes that contain the id and must not.
    strays: Vec<String>,
    /// The forms with a hidden input that has the id.
    filled: Vec<Handle>,
    /// The forms with their `id`s.
    forms: Vec<(String, Handle)>,
    /// The controls with a `formaction`, and its URL.
    controls: Vec<(Handle, String)>,
}

/// Returns the attribute of an element that may carry the id.
fn carrier(element: &str) -> &'static str {
    match element {
        "a" | "area" => "href",
        "frame" | "iframe" => "src",
        "form" => "action",
        "meta" => "content",
        _ => "",
    }
}

fn look(dom: &Dom, node: &Handle, in_template: bool, seen: &mut Seen) {
    match &node.data {
        NodeData::Element { name, attrs, template_contents, .. } => {
            let element = html_name(node).unwrap_or_default();
            if element == "base" && seen.base.is_none() && !in_template {
                seen.base = value(node, "href");
            }
            if element == "form" && !in_template {
                seen.forms.push((value(node, "id").unwrap_or_default(), node.clone()));
            }
            if matches!(element, "button" | "input")
                && value(node, "disabled").is_none()
                && let Some(target) = value(node, "formaction")
            {
                seen.controls.push((node.clone(), target));
            }
            if element == "input" && value(node, "value").as_deref() == Some("S") {
                seen.filled.extend(dom.owner(node));
                return;
            }
            let mut text = format!("{}:{}", name.ns, name.local);
            for attr in attrs.borrow().iter() {
                let name = attr.name.local.to_string();
                let has_id = attr.value.contains("sid=S");
                if name == carrier(element) {
                    if has_id {
                        let url = match element {
                            "meta" => refresh::url_range(&attr.value).unwrap_or_default(),
                            _ => 0..attr.value.len(),
                        };
                        seen.carriers.push(attr.value[url].to_owned());
                    }
                } else {
                    if has_id {
                        seen.strays.push(format!("{element} {name}={}", attr.value));
                    }
                    text += &format!(" {name}={:?}", &*attr.value);
                }
            }
            seen.nodes.push(text);
            if let Some(contents) = &*template_contents.borrow() {
                look(dom, contents, true, seen);
            }
        }
        NodeData::Text { contents } => {
            // A hidden input may split a text node.
            match seen.nodes.last_mut().filter(|last| last.starts_with('#')) {
                Some(last) => *last += &contents.borrow(),
                None => seen.nodes.push(format!("#{}", contents.borrow())),
            }
            return;
        }
        NodeData::Comment { contents } => seen.nodes.push(format!("!{contents}")),
        _ => {}
    }
    for child in node.children.borrow().iter() {
        look(dom, child, in_template, seen);
    }
    seen.nodes.push("/".to_owned());
}

/// Returns the nodes without their nesting, and without elements that browsers reopen.
///
/// Browsers treat an input like text: in front of it they reopen elements such as `b` that are not nested
/// properly (HTML, section 13.2.4.3), which the text behind it would do otherwise.
fn flat(nodes: &[String]) -> String {
    let reopened = ["a", "b", "font", "i", "nobr"].map(|name| format!("{HTML}:{name}"));
    let stays = |node: &&String| {
        *node != "/" && !reopened.iter().any(|name| node.split(' ').next() == Some(name))
    };
    nodes.iter().filter(stays).map(|node| node.trim_start_matches('#')).collect()
}

/// Parses a page like a browser with scripts or without.
fn see(page: &str, scripts: bool) -> Seen {
    let dom = Dom::parse(page, scripts);
    let mut seen = Seen::default();
    look(&dom, dom.document(), false, &mut seen);
    let is_filled = |form: &Handle| seen.filled.iter().any(|f| std::rc::Rc::ptr_eq(f, form));
    let mut targets = Vec::new();
    for form in &seen.filled {
        targets.push(value(form, "action").unwrap_or_default());
    }
    for (control, target) in &seen.controls {
        let named = value(control, "form");
        let form = match &named {
            Some(id) => {
                seen.forms.iter().find(|(other, _)| other == id).map(|(_, form)| form.clone())
            }
            None => dom.owner(control),
        };
        if form.is_some_and(|form| is_filled(&form)) {
            targets.push(target.clone());
        }
    }
    seen.carriers.extend(targets);
    seen
}

fn own(url: &str, base: &Url) -> bool {
    base.join(url).is_ok_and(|url| {
        url.origin() == Url::parse(PAGE).unwrap().origin()
            && (url.path() == "/app" || url.path().starts_with("/app/"))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_page_takes_an_id_elsewhere(
        page in pages::page(),
        cuts in proptest::collection::vec(1usize..60, 1..6),
        with_origin: bool,
        utf8: bool,
    ) {
        let origin = with_origin.then_some("https://example.com");
        // The other encoding is Latin-1, whose bytes are not all valid UTF-8.
        let bytes = match utf8 {
            true => page.clone().into_bytes(),
            false => page.chars().map(|character| character as u8).collect(),
        };
        let output = run_at(rewriter(origin, "/app", "/app/page?q=1"), &bytes, &cuts);
        let output: String = match utf8 {
            true => String::from_utf8(output).unwrap(),
            false => output.into_iter().map(char::from).collect(),
        };
        for scripts in [true, false] {
            let (before, after) = (see(&page, scripts), see(&output, scripts));
            let told = format!("{page}\n became\n{output}\n (scripts: {scripts})");

            prop_assert!(after.strays.is_empty(), "{:?}: {told}", after.strays);
            let page_url = Url::parse(PAGE).unwrap();
            let base = after.base.as_deref().and_then(|base| page_url.join(base).ok());
            let base = base.unwrap_or_else(|| page_url.clone());
            for url in &after.carriers {
                // An empty action means the page itself. A Content-Security-Policy may forbid the base.
                let is_own = own(url, &base) && own(url, &page_url);
                prop_assert!(url.is_empty() || is_own, "{url:?} on {base}: {told}");
            }
            // The rewriter changes something else only where it prevents that an id leads to another site.
            let harm = ["<base href=\"\"", " disabled", "<bas-e", "formactio-n"];
            let lower = output.to_lowercase();
            if !harm.iter().any(|change| lower.contains(change)) {
                match after.filled.is_empty() {
                    true => prop_assert_eq!(before.nodes, after.nodes, "{}", told),
                    false => prop_assert_eq!(flat(&before.nodes), flat(&after.nodes), "{}", told),
                }
            }
        }
    }
}
