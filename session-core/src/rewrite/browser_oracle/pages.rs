//! Random HTML pages, well formed and malformed.

use proptest::prelude::*;
use proptest::sample::select;

/// Names of elements, by how they affect the parsing of what follows.
#[rustfmt::skip]
const NAMES: &[&str] = &[
    // elements with URLs, and elements that change how URLs are resolved
    "a", "a", "a", "area", "base", "base", "base", "button", "button", "form", "form", "form",
    "frame", "frameset", "iframe", "img", "input", "input", "link", "meta", "object",
    // elements with raw text
    "noembed", "noframes", "noscript", "noscript", "plaintext", "script", "style", "textarea",
    "title", "xmp",
    // SVG and MathML, and elements that end them
    "annotation-xml", "desc", "foreignobject", "g", "math", "math", "mi", "path", "svg", "svg",
    "font", "h1", "h2",
    // elements that browsers move, nest or repair in special ways
    "body", "br", "caption", "col", "colgroup", "div", "dd", "fieldset", "head", "html",
    "keygen", "li", "option", "optgroup", "p", "pre", "ruby", "rt", "select", "select", "table",
    "table", "tbody", "td", "template", "template", "th", "tr", "b", "i", "nobr", "marquee",
    "image", "isindex", "hr", "dialog", "details", "search",
];

/// Names of attributes.
#[rustfmt::skip]
const ATTRIBUTES: &[&str] = &[
    "href", "href", "href", "src", "src", "action", "action", "formaction", "formaction", "id",
    "form", "method", "formmethod", "name", "type", "content", "http-equiv", "ping", "target",
    "srcdoc", "color", "encoding", "x", "data-href", "xlink:href",
];

/// Values of attributes.
#[rustfmt::skip]
const VALUES: &[&str] = &[
    "x", "y?z#f", "/app/x", "/app/", "/", "", "?", "?sid=OLD&a", "?a&amp;sid=OLD", "../x",
    "//evil/", "//evil/app/", "https://evil/app/", "https://example.com/app/y",
    "https://example.com/", "https://example.com@evil/app/", "&#47;&#47;evil/", "&#x2fx/evil",
    "&#47/evil/", "&sol;&sol;evil/", "&Tab;//evil/", "\\\\evil/", "/\\evil/", "/\t/evil/",
    "javascript:x", "&amp", "&lt=", "&copy=1", "x\0y", "\0//evil/", "post", "POST", "get",
    "dialog", "f", "f", "sid", "q", "hidden", "submit", "refresh", "5;url=x", "0; URL='/app/x'",
    "5;url=//evil/", "5,&quot;//evil/", ".5 u=//evil/", "<base href=//evil/><a href=/app/x>",
    "<a href=/app/x>", "</svg>", "-->", "text/html", "é", "/app/ÿ?é", "#f", "_top",
];

/// Other pieces of pages.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "\"", "'", ">", "<", "=", "&", " ", "/", "text", "\0", "\n", "<!--", "-->", "--!>", "<!-->",
    "<!--->", "<!", "<?x", "</ >", "</>", "<![CDATA[", "]]>", "<!doctype html>", "<a href=\"",
    "<a href='", "<a title=\"", "<img src='//evil/", "<!--<script>", "</script >",
    "</noscript x=\">", "</title/>", "<svg/>", "<svg><path d=m /></svg>",
    "<svg><title>t</title></svg>", "<math><mi>x</mi></math>", "<svg><desc></svg>",
    "<svg><style><a href=x></style>", "<noscript><img src=x></noscript>",
    "<noscript><base href=//evil/></noscript>", "<noscript><!--</noscript>",
    "<noscript><img src='//evil/</noscript>", "<noscript><style></noscript>",
    "<template><col><textarea></template>",
    "<table><tr><td><base href=/app/></td></tr><base href=//evil/></table>",
    "<form id=f action=x></form>", "<form id=f action=x>", "<form action=//evil/>",
    "<form method=post action=x>", "<button form=f formaction=//evil/>", "<base href=//evil/>",
    "<base href=/app/y/>", "<a href=x>", "<a href=/app/x>", "<a href=/app/x>", "</form>",
    "</form>", "<title x=>", "<script x= >", "<textarea x=\n>", "<xmp x='' y=>", "</title>",
    "</xmp>", "</script>", "</textarea>", "<h1>", "<h1><svg></h2>", "<select></form></select>",
    "<div><select></div>", "<select><form></select>", "</select>", "</template>", "</table>",
    "</svg>", "</math>", "</p>", "</br>", "</tr>", "</h2>",
    "<meta http-equiv=refresh content='5;url=x'>",
    "<meta http-equiv=refresh content=\"5;url='//evil/\">",
    "<input type=hidden name=sid value=T>", "<select><option>x</select>",
    "<frameset><frame src=x></frameset>",
];

/// A name, sometimes with upper-case letters.
fn cased(name: &'static str) -> impl Strategy<Value = String> {
    prop_oneof![
        5 => Just(name.to_owned()),
        1 => Just(name.to_uppercase()),
        1 => Just(name[..1].to_uppercase() + &name[1..]),
    ]
}

fn attribute() -> impl Strategy<Value = String> {
    let parting = select(vec![" ", " ", " ", "/", " / ", "\n", "\t", "\u{c}", ""]);
    let equals = select(vec!["=", "=", "=", " = ", "=\n", "==", ""]);
    let quotes =
        select(vec![("", ""), ("\"", "\""), ("'", "'"), ("\"", "'"), ("'", ""), ("`", "`")]);
    let name = select(ATTRIBUTES).prop_flat_map(cased);
    (parting, name, equals, quotes, select(VALUES)).prop_map(
        |(parting, name, equals, (open, close), value)| {
            format!("{parting}{name}{equals}{open}{value}{close}")
        },
    )
}

fn tag() -> impl Strategy<Value = String> {
    let attributes = proptest::collection::vec(attribute(), 0..4);
    let name = select(NAMES).prop_flat_map(cased);
    let end = select(vec![">", ">", ">", ">", "/>", " >", "\n>", ""]);
    (name, attributes, end)
        .prop_map(|(name, attributes, end)| format!("<{name}{}{end}", attributes.concat()))
}

fn plain_tag() -> impl Strategy<Value = String> {
    (any::<bool>(), select(NAMES))
        .prop_map(|(ends, name)| format!("<{}{name}>", if ends { "/" } else { "" }))
}

/// A page of characters that all have one byte in Latin-1.
pub(super) fn page() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        8 => select(PIECES).prop_map(str::to_owned),
        4 => tag(),
        6 => plain_tag(),
        1 => "[ -~]{0,4}",
    ];
    proptest::collection::vec(piece, 0..20).prop_map(|pieces| pieces.concat())
}
