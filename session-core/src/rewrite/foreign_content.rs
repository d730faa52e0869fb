//! Stretches of a page that are checked to be plain.
//!
//! A parser that sees tags only, as ours does, can lose track of browsers at three places. Where a
//! drawing or formula ends depends on all elements that are open (HTML, section 13.2.6.5). What is in
//! a `noscript` is text for browsers with scripts and elements for those without. And the parser
//! takes no text behind a start tag for text if the last attribute's value is missing (`<title x=>`).
//! So there everything is to be of a form that all read alike, whatever they take it for; nearly all
//! is. Otherwise the page is left as it is from there on.

use std::collections::VecDeque;
use std::ops::Range;

use super::markup::{self, Flaw, Markup};
use super::well_formed::{Kind, TEXTS};

/// How long a tag or comment within may be: that much is held until its end comes.
const LONGEST: usize = 16 * 1024;

/// How many elements may be open in each other.
const DEEPEST: usize = 64;

/// A page's stretches, as the parser finds them and the bytes come.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    /// Their start tags, counted from the page's start.
    begins: VecDeque<(Range<usize>, Option<Kind>)>,
    current: Option<ForeignContent>,
}

impl Stretches {
    /// One begins with this start tag; without a `kind` it is no longer than that.
    pub(super) fn begin(&mut self, tag: Range<usize>, kind: Option<Kind>) {
        self.begins.push_back((tag, kind));
    }

    /// Checks the bytes that come next, from `start` on, and returns how many can go on: those left
    /// are the begin of a tag.
    ///
    /// # Errors
    /// The number of bytes in front of what is not plain.
    pub(super) fn check(&mut self, start: usize, bytes: &[u8]) -> Result<usize, usize> {
        let mut at = 0;
        loop {
            let Some(stretch) = &mut self.current else {
                let Some((tag, kind)) = self.begins.pop_front() else { return Ok(bytes.len()) };
                if tag.start < start + at {
                    continue; // it is within one that was read
                }
                let end = bytes.len().min(tag.end - start);
                at = end.min(tag.start - start);
                if lacks_value(&bytes[at..end]) {
                    return Err(at);
                }
                at = end;
                self.current = kind.map(|kind| ForeignContent { kind, open: Vec::new() });
                continue;
            };
            match stretch.read(&bytes[at..]) {
                Read::End(length) => {
                    at += length;
                    self.current = None;
                }
                Read::Begun(length) => return Ok(at + length),
                Read::Unsafe(length) => return Err(at + length),
            }
        }
    }
}

/// Whether a start tag's last attribute has an equals sign and no value.
fn lacks_value(tag: &[u8]) -> bool {
    tag.strip_suffix(b">").is_some_and(|tag| tag.trim_ascii_end().ends_with(b"="))
}

/// A stretch that is being read.
#[derive(Debug)]
struct ForeignContent {
    kind: Kind,
    /// The elements that are open, for drawings and formulas, or the last one that contains text.
    open: Vec<&'static str>,
}

/// How far a stretch was read.
enum Read {
    /// To its end.
    End(usize),
    /// To the last tag, whose end is not there yet; or through all.
    Begun(usize),
    /// To what is not plain.
    Unsafe(usize),
}

impl ForeignContent {
    fn read(&mut self, bytes: &[u8]) -> Read {
        let mut at = 0;
        while let Some(next) = memchr::memchr(b'<', &bytes[at..]) {
            at += next;
            let rest = &bytes[at..];
            match markup::read(rest) {
                Ok((Markup::End(name), length)) if self.is_end(name) => {
                    return Read::End(at + length);
                }
                Ok((markup, length)) if self.admits(&markup) => at += length,
                Err(Flaw::Cut) if rest.len() < LONGEST => return Read::Begun(at),
                _ => return Read::Unsafe(at),
            }
        }
        Read::Begun(bytes.len())
    }

    fn is_end(&self, name: &[u8]) -> bool {
        self.open.is_empty() && name.eq_ignore_ascii_case(self.kind.name().as_bytes())
    }

    fn admits(&mut self, markup: &Markup<'_>) -> bool {
        let last = self.open.last().copied();
        let in_text = last.is_some_and(|name| TEXTS.contains(&name));
        match *markup {
            Markup::Comment => !in_text,
            Markup::Start { name, closed } => {
                let Some(name) = self.allowed(name) else { return false };
                let is_text = TEXTS.contains(&name);
                let nests = self.kind != Kind::Unscripted && !closed;
                if is_text || nests {
                    self.open.push(name);
                }
                !in_text && self.open.len() <= DEEPEST
            }
            Markup::End(name) => {
                let name = self.allowed(name);
                if name.is_some() && name == last {
                    self.open.pop();
                    return true;
                }
                // Browsers end what is open in front of it as they like; no text depends on it.
                name.is_some() && self.kind == Kind::Unscripted && !in_text
            }
        }
    }

    fn allowed(&self, name: &[u8]) -> Option<&'static str> {
        let mut names = self.kind.allowed().iter();
        names.find(|allowed| name.eq_ignore_ascii_case(allowed.as_bytes())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a page with one stretch from its begin on, in pieces of this size: nothing,
    /// or what begins with the part that is not plain.
    fn left(kind: Kind, page: &str, piece: usize) -> &str {
        let mut stretches = Stretches::default();
        stretches.begin(0..0, Some(kind));
        let (mut passed, mut seen) = (0, 0);
        while seen < page.len() {
            seen = page.len().min(seen + piece);
            match stretches.check(passed, &page.as_bytes()[passed..seen]) {
                Ok(length) => passed += length,
                Err(length) => return &page[passed + length..],
            }
        }
        &page[passed..]
    }

    #[track_caller]
    fn check(kind: Kind, page: &str, wanted: &str) {
        for piece in [1, 2, 5, page.len()] {
            assert_eq!(left(kind, page, piece), wanted, "{page} in pieces of {piece}");
        }
    }

    #[test]
    fn drawings_as_they_are_usually_made_are_plain() {
        for page in [
            "</svg><h1>",
            "<path d='M0 0h24v24H0z'/><g fill=none><Circle r=\"1\"></circle></g></SVG ><div>",
            "\n<!-- Generator: x --><title>An icon</title><defs><style>.a{fill:#fff}</style></defs>\
             <linearGradient id=\"a\"><stop offset=0 /></linearGradient><use xlink:href=\"#a\"/></svg>",
        ] {
            check(Kind::Drawing, page, "");
        }
        let formula = "<mrow><mi>x</mi><mo>=</mo><mfrac><mn>1</mn><mn>2</mn></mfrac></mrow></math>";
        check(Kind::Formula, formula, "");
    }

    #[test]
    fn what_leads_out_of_a_drawing_is_not_plain() {
        for odd in [
            "<h1>",
            "<p>",
            "</p>",
            "</h2>",
            "</tr>",
            "</g>",
            "<svg>",
            "<math>",
            "<foreignObject>",
            "<a href=x>",
            "<script>",
            "<title><b>",
            "<style><path>",
            "<style><!-- -->",
            "<![CDATA[x]]>",
            "<?xml?>",
            "<!doctype html>",
            "<!--<-->",
            "<!-- > -->",
            "< ",
            "</ g>",
            "<path d=\">",
            "<base",
            "<path d=\"x\"y>",
            "<path =\"x\">",
            "<path d=x=\"y>",
            "<path d='<'>",
            "<path 'x'>",
            "<path\0>",
        ] {
            let inner = odd.strip_prefix("<style>").or(odd.strip_prefix("<title>")).unwrap_or(odd);
            check(Kind::Drawing, &format!("<path/>{odd} x></svg>"), &format!("{inner} x></svg>"));
        }
        check(Kind::Drawing, "<g></svg>", "</svg>");
        check(Kind::Formula, "<mi>x</math>", "</math>");
        check(
            Kind::Formula,
            "<annotation-xml encoding=text/html>",
            "<annotation-xml encoding=text/html>",
        );
    }

    #[test]
    fn what_is_for_visitors_without_scripts_is_plain_if_it_ends_for_them_too() {
        for page in [
            "<img src=\"https://x/?a&b\" alt='>'/></noscript>",
            "<p class=x>Please <b>enable</b><br> scripts: <a href=/help>how</a></noscript>",
            "<iframe src=x style='display:none'></iframe><style>p { x: y }</style></div></noscript>",
        ] {
            check(Kind::Unscripted, page, "");
        }
        for odd in [
            "<base href=x>",
            "<form>",
            "</form>",
            "<textarea>",
            "<template>",
            "<table>",
            "<svg>",
            "<noscript>",
            "<img src='</noscript>",
            "<!--</noscript>",
        ] {
            check(Kind::Unscripted, &format!("<p>{odd}<a>"), &format!("{odd}<a>"));
        }
        check(Kind::Unscripted, "<style></noscript>", "</noscript>");
    }

    #[test]
    fn a_start_tag_in_front_of_text_is_plain_unless_a_value_is_missing() {
        for (page, wanted) in [
            ("<title>x", Ok(8)),
            ("<title x>", Ok(9)),
            ("<title x='='>", Ok(13)),
            ("<title x=>y", Err(2)),
            ("<title x= \n>y", Err(2)),
        ] {
            let mut stretches = Stretches::default();
            stretches.begin(7..7 + page.rfind('>').unwrap() + 1, None);
            let checked = stretches.check(5, format!("ab{page}").as_bytes());
            assert_eq!(checked, wanted.map(|length| length + 2), "{page}");
        }
    }

    #[test]
    fn tags_are_held_up_to_a_limit() {
        let page = format!("<path d='{}'/>", "x".repeat(2 * LONGEST));
        check_long(&page);
        check_long(&format!("<!--{}-->", "x".repeat(2 * LONGEST)));
        assert_eq!(left(Kind::Drawing, &"<g>".repeat(DEEPEST + 1), 99), "<g>");
    }

    #[track_caller]
    fn check_long(page: &str) {
        let mut stretches = Stretches::default();
        stretches.begin(0..0, Some(Kind::Drawing));
        assert_eq!(stretches.check(0, &page.as_bytes()[..LONGEST - 1]), Ok(0));
        assert_eq!(stretches.check(0, &page.as_bytes()[..LONGEST]), Err(0));
    }
}
