//! Random pages, judged by a browser's own parsers: of HTML (html5ever) and of URLs (`url`).

use html5ever::tendril::TendrilSink as _;
use html5ever::{ParseOpts, parse_document};
use markup5ever_rcdom::{Handle, NodeData, RcDom};
use proptest::prelude::*;
use url::Url;

use super::tests::{rewriter, run};

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

fn look(node: &Handle, form: Option<&str>, seen: &mut Seen) {
    let mut own_form = None;
    match &node.data {
        NodeData::Element { name, attrs, template_contents, .. } => {
            let attrs = attrs.borrow();
            let value = |wanted: &str| {
                let found = attrs.iter().find(|attr| &*attr.name.local == wanted);
                found.map(|attr| attr.value.to_string())
            };
            let element = name.local.to_string();
            let is_html = &*name.ns == "http://www.w3.org/1999/xhtml";
            if is_html && element == "base" && seen.base.is_none() {
                seen.base = value("href");
            }
            if element == "form" {
                own_form = Some(value("action").unwrap_or_default());
            }
            if element == "input" && value("name").as_deref() == Some("sid") {
                // It is sent to where its form is.
                seen.carriers.push(form.unwrap_or("").to_owned());
                return;
            }
            let mut text = element.clone();
            for attr in attrs.iter() {
                let name = attr.name.local.to_string();
                if name == carrier(&element) {
                    let value = attr.value.to_string();
                    if value.contains("sid=S") {
                        seen.carriers.push(value);
                    }
                } else {
                    if attr.value.contains("sid=S") {
                        seen.strays.push(format!("{element} {name}={}", attr.value));
                    }
                    text += &format!(" {name}={:?}", attr.value);
                }
            }
            seen.nodes.push(text);
            if let Some(contents) = &*template_contents.borrow() {
                let base = seen.base.clone().or(Some(String::new()));
                let before = std::mem::replace(&mut seen.base, base);
                look(contents, None, seen);
                seen.base = before;
            }
        }
        NodeData::Text { contents } => {
            let text = contents.borrow();
            if text.contains("sid=S") {
                seen.nodes.push("a stray".to_owned());
            }
            seen.nodes.push(format!("#{text}"));
        }
        NodeData::Comment { contents } => seen.nodes.push(format!("!{contents}")),
        _ => {}
    }
    let form = own_form.as_deref().or(form);
    for child in node.children.borrow().iter() {
        look(child, form, seen);
    }
    seen.nodes.push("/".to_owned());
}

/// Looks as a browser with scripts or without.
fn see(page: &str, scripts: bool) -> Seen {
    let mut options = ParseOpts::default();
    options.tree_builder.scripting_enabled = scripts;
    let dom = parse_document(RcDom::default(), options).one(page);
    let mut seen = Seen::default();
    look(&dom.document, None, &mut seen);
    seen
}

/// Pieces of pages, well and ill.
fn page() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        12 => proptest::sample::select(vec![
            "<a href=/app/x>", "<a href='y?z#f'>", "<a href=\"//evil/\">", "<a href=https://evil/app>", "</a>",
            "<a href=https://example.com/app/y>", "<a href=&#47;&#47;evil/>", "<area href=x>", "<a href=\"",
            "<iframe src=x></iframe>", "<iframe src=//evil/></iframe>", "<frameset><frame src=x></frameset>",
            "<form action=x>", "<form action=//evil/>", "<form method=post action=x>", "</form>", "<form>",
            "<form method=post>", "<form method=post action=//evil/>", "<form id=f action=x>",
            "<button formaction=//evil/>", "<button form=f formaction=//evil/>", "<input name=q>", "<button>",
            "<base href=/app/y/>", "<base href=//evil/>", "<base href=https://evil/>", "<base href=/>", "<base>",
            "<meta http-equiv=refresh content='5;url=x'>", "<meta http-equiv=refresh content='5;url=//evil/'>",
            "<template>", "</template>", "<svg>", "</svg>", "<math>", "<title>", "</title>", "<script>", "</script>",
            "<style>", "</style>", "<textarea>", "</textarea>", "<select>", "</select>", "<option>", "<noscript>",
            "</noscript>", "<!--", "-->", "<table>", "</table>", "<tr>", "<td>", "</td>", "<div>", "</div>", "<p>",
            "</p>", "<b>", "</b>", "<head>", "</head>", "<body>", "</body>", "<plaintext>", "<xmp>", "</xmp>",
            "\"", "'", ">", "<", "=", "&", " ", "/", "<br/>", "text", "<desc>", "<![CDATA[", "]]>", "<mi>",
        ]).prop_map(str::to_owned),
        1 => "[ -~]{0,4}",
    ];
    proptest::collection::vec(piece, 0..14).prop_map(|pieces| pieces.concat())
}

fn own(url: &str, base: &Url) -> bool {
    base.join(url).is_ok_and(|url| {
        url.origin() == Url::parse(PAGE).unwrap().origin()
            && (url.path() == "/app" || url.path().starts_with("/app/"))
    })
}

proptest! {
    // The same pages each time; change the seed to look at others.
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(8), ..ProptestConfig::with_cases(4000) })]

    #[test]
    fn no_page_takes_an_id_elsewhere(page in page(), piece in 1usize..40, with_origin: bool, scripts: bool) {
        let origin = with_origin.then_some("https://example.com");
        let output = run(rewriter(origin, "/app", "/app/page?q=1"), page.as_bytes(), piece);
        let output = String::from_utf8(output).unwrap();
        let (before, after) = (see(&page, scripts), see(&output, scripts));
        let told = format!("{page}\n became\n{output}");

        prop_assert!(after.strays.is_empty(), "{:?}: {told}", after.strays);
        let page_url = Url::parse(PAGE).unwrap();
        let base = after.base.as_deref().and_then(|base| page_url.join(base).ok());
        let base = base.unwrap_or_else(|| page_url.clone());
        for carrier in &after.carriers {
            let url = match super::refresh::url(carrier) {
                Some(url) => &carrier[url],
                None => carrier,
            };
            // An action that is empty is the page itself.
            prop_assert!(url.is_empty() || own(url, &base), "{carrier:?} on {base}: {told}");
        }
        // Three ways to prevent harm change something else, and say so.
        let harm = ["data-href", " disabled", "<bas-e", "formactio-n"];
        // What is text for a browser with scripts may end elsewhere for one without.
        if scripts && !harm.iter().any(|change| output.contains(change)) {
            prop_assert_eq!(before.nodes, after.nodes, "{}", told);
        }
    }
}
