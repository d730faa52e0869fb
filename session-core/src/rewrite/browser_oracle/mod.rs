//! Random pages, judged by a browser's own parsers: of HTML (html5ever) and of URLs (`url`).
//!
//! The pages are others each time. A failure prints its page, the smallest that fails alike, and is
//! kept in `proptest-regressions`, from which it is run first from then on. More pages, or the same
//! ones again:
//!
//! ```text
//! PROPTEST_CASES=200000 cargo test --release -p session-core --features rewrite judge
//! PROPTEST_RNG_SEED=8 cargo test -p session-core --features rewrite judge
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

/// What a parser makes of a page: each node as text, and what carries the id.
#[derive(Default)]
struct Seen {
    /// All nodes, without attributes that may carry the id and without hidden inputs of its name.
    nodes: Vec<String>,
    /// The first base that counts.
    base: Option<String>,
    /// URLs with the id, and those that forms with it are sent to.
    carriers: Vec<String>,
    /// Places with the id that are none of these.
    strays: Vec<String>,
    /// Forms that are sent with an id.
    filled: Vec<Handle>,
    /// Forms' names, controls, and where these send them.
    forms: Vec<(String, Handle)>,
    controls: Vec<(Handle, String)>,
}

/// The attribute of an element that may carry the id.
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
                            "meta" => refresh::url(&attr.value).unwrap_or_default(),
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
            // A hidden input may part it.
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

/// The nodes without their nesting, and without those that browsers open again by themselves.
///
/// An input is text to browsers: where elements such as `b` are not nested properly, it opens them
/// again (HTML, section 13.2.4.3), which text behind it would do otherwise.
fn flat(nodes: &[String]) -> String {
    let reopened = ["a", "b", "font", "i", "nobr"].map(|name| format!("{HTML}:{name}"));
    let stays = |node: &&String| {
        *node != "/" && !reopened.iter().any(|name| node.split(' ').next() == Some(name))
    };
    nodes.iter().filter(stays).map(|node| node.trim_start_matches('#')).collect()
}

/// Looks as a browser with scripts or without.
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
        // The other encoding has a byte for each character, and bytes that are none of UTF-8's.
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
                // An action that is empty is the page itself. A policy may forbid the base.
                let is_own = own(url, &base) && own(url, &page_url);
                prop_assert!(url.is_empty() || is_own, "{url:?} on {base}: {told}");
            }
            // Three ways to prevent harm change something else, and say so.
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
