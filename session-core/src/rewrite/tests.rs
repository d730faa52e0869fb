//! Pages before and after rewriting.

use std::sync::Arc;

use bytes::Bytes;

use super::{Insertion, Rewriter};
use crate::transport::{UrlOptions, UrlTransport};

/// Returns a rewriter for the page of this path, with the id `S`.
pub(super) fn rewriter(origin: Option<&str>, base: &str, page: &str) -> Rewriter {
    let options = UrlOptions {
        origin: origin.map(str::to_owned),
        base: base.into(),
        ..UrlOptions::default()
    };
    let transport = Arc::new(UrlTransport::new(options).unwrap());
    Rewriter::new(vec![Insertion { transport, text: "S".into() }], page.into())
}

/// Returns the page after rewriting, fed in pieces of this size.
fn run(rewriter: Rewriter, page: &[u8], piece: usize) -> Vec<u8> {
    run_at(rewriter, page, &[piece])
}

/// Returns the page after rewriting, fed in pieces of these sizes in turn.
pub(super) fn run_at(mut rewriter: Rewriter, mut page: &[u8], pieces: &[usize]) -> Vec<u8> {
    let mut output = Vec::new();
    for piece in pieces.iter().cycle() {
        if page.is_empty() {
            break;
        }
        let (piece, rest) = page.split_at((*piece).min(page.len()));
        output.extend_from_slice(&rewriter.feed(Bytes::copy_from_slice(piece)));
        page = rest;
    }
    output.extend_from_slice(&rewriter.finish());
    output
}

#[track_caller]
fn check(rewriter: impl Fn() -> Rewriter, page: &str, wanted: &str) {
    for piece in [1, 2, 7, page.len().max(1)] {
        let output = run(rewriter(), page.as_bytes(), piece);
        assert_eq!(String::from_utf8_lossy(&output), wanted, "in pieces of {piece}");
    }
}

/// Checks a page of an application without a configured origin.
#[track_caller]
fn becomes(page: &str, wanted: &str) {
    check(|| rewriter(None, "/", "/dir/page?q=1"), page, wanted);
}

#[track_caller]
fn stays(page: &str) {
    becomes(page, page);
}

#[test]
fn links_get_the_id_and_nothing_else_changes() {
    becomes(
        "<!doctype html>\n<P  CLASS = x ><A  HREF = '/x?a=1&amp;b' \n id=y>t</A ><a href=/x/>z</a>",
        "<!doctype html>\n<P  CLASS = x ><A  HREF = '/x?a=1&amp;b&amp;sid=S' \n id=y>t</A ><a href=/x/?sid=S>z</a>",
    );
    becomes(
        "<map><area href=a#f></map><iframe src=\"b\"></iframe><a href=''>c</a>",
        "<map><area href=a?sid=S#f></map><iframe src=\"b?sid=S\"></iframe><a href='?q=1&amp;sid=S'>c</a>",
    );
    becomes("<frameset><frame src=x></frameset>", "<frameset><frame src=x?sid=S></frameset>");
    becomes("<a href=/x?sid=OLD&a href=/y>", "<a href=/x?a&amp;sid=S href=/y>");
    becomes(
        "<meta http-equiv=Refresh content=\"5; url='/x'\">",
        "<meta http-equiv=Refresh content=\"5;&#32;url=&#39;/x?sid=S&#39;\">",
    );
}

#[test]
fn other_attributes_and_places_are_left_alone() {
    stays("<img src=/x><link href=/x><script src=/x></script><button formaction=/x>b</button>");
    stays("<a>x</a><a href>x</a><a name=/x data-href=/x>x</a>");
    stays("<!-- <a href=/x> --><script>'<a href=/x>'</script><style><a href=/x></style>");
    stays("<textarea><a href=/x></textarea><title><a href=/x></title>");
    stays("<svg><a href=/x></a></svg><math><a href=/x></math>");
    stays("<a href=/x ping=https://evil/>x</a>");
    stays("<meta http-equiv=refresh content=5><meta name=x content='5;url=/x'>");
    stays("<a href=\"/x");
    stays("<form method=dialog action=/x></form>");
}

#[test]
fn links_elsewhere_are_left_alone() {
    for href in [
        "//evil/",
        "https://evil/",
        "\\\\evil",
        "/\\evil",
        "&#47;&#x2f;evil",
        "&sol;&sol;evil",
        "&Tab;//evil",
        "/&NewLine;/evil",
        "/&#9;\\evil",
        "htt&#112;s&colon;//evil",
        "javascript:x",
        "java\nscript:x",
        "mailto:a@b",
        "#top",
        "https:/x",
        "&#xf7af;/x",
        "/x&#27;y",
    ] {
        stays(&format!("<a href=\"{href}\">x</a><form action=\"{href}\"></form>"));
        stays(&format!("<form method=post action=\"{href}\"></form>").replace("#top", "//x"));
    }
    let page = "<a href=https://example.com/app/x>a</a><a href=https://example.com/apple>b</a>\
                <a href=x>c</a><a href=../x>d</a><a href=/app>e</a>";
    let wanted = "<a href=https://example.com/app/x?sid=S>a</a><a href=https://example.com/apple>b</a>\
                  <a href=x?sid=S>c</a><a href=../x>d</a><a href=/app?sid=S>e</a>";
    check(|| rewriter(Some("https://example.com"), "/app", "/app/page"), page, wanted);
}

#[test]
fn forms_get_it_by_their_method() {
    let hidden = "<input type=\"hidden\" name=\"sid\" value=\"S\">";
    becomes(
        "<form action=/x><input name=q></form><form method=GET></form>",
        &format!("<form action=/x><input name=q>{hidden}</form><form method=GET>{hidden}</form>"),
    );
    becomes(
        "<form method=post action=/x?a><form method=Post></form>",
        "<form method=post action=/x?a&amp;sid=S><form method=Post></form>",
    );
    becomes(
        "<form method=\"POST\"></form><form method=post action=''></form>",
        "<form action=\"/dir/page?q=1&amp;sid=S\" method=\"POST\"></form>\
         <form method=post action='/dir/page?q=1&amp;sid=S'></form>",
    );
    // The application's own hidden input.
    stays("<form action=/x><input type=hidden name=sid value=T></form>");
}

/// A hidden input belongs to the form that browsers consider it in.
#[test]
fn a_hidden_input_gets_into_no_form_that_leads_elsewhere() {
    stays("<form action=//evil/><form action=/x></form>");
    stays("<div><form action=//evil/></div><form action=/x></form>");
    stays("<form action=//evil/><template></form></template><form action=/x></form>");
    stays("<form action=/x><button formaction=//evil/>b</button></form>");
    stays("<form action=/x><input type=submit formaction='https://evil/'></form>");
    stays("<button form=f formaction=//evil/>b</button><form id=f action=/x></form>");
    stays("<form action=/x id=f><p><button form=f formaction=//evil/>b</button></form>");
    becomes(
        "<form id=f action=/x></form><BUTTON form=f formaction=//evil/>b</BUTTON>",
        "<form id=f action=/x><input type=\"hidden\" name=\"sid\" value=\"S\"></form>\
         <BUTTON disabled form=f formaction=//evil/>b</BUTTON>",
    );
    becomes(
        "<form action=//evil/></form><form action=/x></form>",
        "<form action=//evil/></form><form action=/x><input type=\"hidden\" name=\"sid\" value=\"S\"></form>",
    );
}

#[test]
fn a_base_is_heeded() {
    stays("<base href=//evil/><a href=/x>x</a><form action=/y></form><form method=post></form>");
    stays("<base href='https://evil/'><a href=/x>x</a>");
    becomes("<base href=/other/><a href=x>", "<base href=/other/><a href=x?sid=S>");
    // The first `base` counts, and the rewriter can't know which one browsers take for the first.
    becomes(
        "<base target=_top><base href=/o/><base href=/p/><a href=x>",
        "<base target=_top><base href=/o/><base href=/p/><a href=x?sid=S>",
    );
    stays("<base href=/o/><base href=//evil/><a href=x>");
    stays("<table><td><base href=/o/></td></tr><base href=//evil/></table><a href=x>");
    stays("<template><base href=/o/></template><base href=//evil/><a href=x>");
    stays("<select><base href=//evil/></select><a href=x>");
    stays("<noscript><BASE href=//evil/></noscript><a href=x>");
    stays("<noscript><form action=//evil/></noscript><form action=/x></form>");
    let scoped = || rewriter(Some("https://example.com"), "/app", "/app/page");
    check(
        scoped,
        "<base href=https://example.com/app/a/><a href=x>a</a><a href=../../x>b</a>",
        "<base href=https://example.com/app/a/><a href=x?sid=S>a</a><a href=../../x>b</a>",
    );
    check(scoped, "<base href=/b/><a href=x>a</a>", "<base href=/b/><a href=x>a</a>");
}

/// Browsers resolve URLs in front of a `base` against it, too.
#[test]
fn a_late_base_takes_no_id_along() {
    becomes(
        "<a href=/x>x</a><base href=//evil/><a href=/y>y</a>",
        "<a href=/x?sid=S>x</a><base href=\"\" href=//evil/><a href=/y?sid=S>y</a>",
    );
    becomes(
        "<a href=/x>x</a><base href=/o/><a href=y>y</a>",
        "<a href=/x?sid=S>x</a><base href=/o/><a href=y?sid=S>y</a>",
    );
    becomes(
        "<a href=/x><base target=x HREF=//a href=//evil/>",
        "<a href=/x?sid=S><base href=\"\" target=x HREF=//a href=//evil/>",
    );
}

/// Where parsers may disagree about the rest of the page, that rest stays unchanged.
#[test]
fn what_browsers_may_read_otherwise_gets_no_id() {
    let icon = "<svg viewBox=\"0 0 9 9\"><title>x</title><path d='M0 0h9'/></svg>";
    let picture = "<noscript><img src=\"x.png\" alt=''></noscript>";
    becomes(&format!("{icon}{picture}<a href=/x>"), &format!("{icon}{picture}<a href=/x?sid=S>"));
    for odd in [
        "<svg/>",
        "<svg><desc></svg>",
        "<svg><style><p></style></svg>",
        "<svg><svg></svg></svg>",
        "<h1><svg></h2>",
        "<math><annotation-xml></math>",
        "<noscript><img src='//evil/</noscript>",
        "<noscript><form action=//evil/></noscript>",
        "<noscript><!--</noscript>",
        "<template><col><textarea></template>",
        "<title x=><p title='</title>",
        "<div><select></div>",
        "<select><form></form></select>",
    ] {
        let page = |link: &str| format!("<a href={link}>x</a>{odd}<a href=/y>y</a>");
        becomes(&page("/x"), &page("/x?sid=S"));
    }
    becomes(
        "<a href=/x><svg><p></svg><base href=//evil/><button formaction=//evil/>",
        "<a href=/x?sid=S><svg><p></svg><bas-e href=//evil/><button formactio-n=//evil/>",
    );
}

#[test]
fn any_encoding_with_ascii_in_it_comes_back_as_it_was() {
    let mut page = b"<a href=\"/x\xff\x80\xe4?\xc3\xa4&#228;\">".to_vec();
    page.extend((0u8..=255).filter(|byte| *byte != b'<' && *byte != 0x1b));
    let output = run(rewriter(None, "/", "/"), &page, 3);
    let mut wanted = b"<a href=\"/x\xff\x80\xe4?\xc3\xa4&#228;&amp;sid=S\">".to_vec();
    wanted.extend((0u8..=255).filter(|byte| *byte != b'<' && *byte != 0x1b));
    assert_eq!(output, wanted);
}

#[test]
fn what_the_parser_can_not_follow_goes_by() {
    let page =
        "<a href=/x>x</a><select><xmp><script>\"use strict\";</script></select><a href=/y>y</a>";
    becomes(page, &page.replacen("/x", "/x?sid=S", 1));
    // Another encoding may begin at the escape sequence, in which a `base` may be hidden.
    let page = format!("<a href=/x>{}\u{1b}(B<ba\u{1b}(Bse href=//evil/>", " ".repeat(100));
    let output = run(rewriter(None, "/", "/"), page.as_bytes(), 50);
    let wanted = page.replacen("/x", "/x?sid=S", 1).replace("se h", "s-e h");
    assert_eq!(String::from_utf8(output).unwrap(), wanted);
    let page = format!("<a href=/x>{}\u{1b}$B<a href=/y>", " ".repeat(100));
    let output = run(rewriter(None, "/", "/"), page.as_bytes(), 50);
    assert_eq!(String::from_utf8(output).unwrap(), page.replacen("/x", "/x?sid=S", 1));
}

#[test]
fn a_tag_without_end_is_passed_on_at_the_limit() {
    let page = format!("<a href=/x>x</a><a title=\"{}", "y".repeat(3 * 1024 * 1024));
    let mut rewriter = rewriter(None, "/", "/");
    let mut held = 0;
    let (mut given, mut got) = (0, 0);
    for piece in page.as_bytes().chunks(16 * 1024) {
        given += piece.len();
        got += rewriter.feed(Bytes::copy_from_slice(piece)).len();
        held = held.max((given + "?sid=S".len()).saturating_sub(got));
    }
    got += rewriter.finish().len();
    assert_eq!(got, page.len() + "?sid=S".len());
    assert!(held <= 2 * super::MEMORY_LIMIT, "{held}");
}
