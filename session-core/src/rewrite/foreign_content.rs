//! [`CheckedRegions`]: checks the regions of a page in which the parser and browsers could disagree: SVG,
//! MathML, `noscript`, and start tags in front of raw text.
//!
//! lol_html, which sees only tags, can parse three kinds of regions differently from browsers. Where SVG and
//! MathML end depends on all open elements (HTML, section 13.2.6.5). The contents of `noscript` are text for
//! browsers with scripts and elements for those without. And if the last attribute of a start tag has an
//! equals sign without a value (`<title x=>`), lol_html does not take what follows for raw text. So such
//! regions must be so well formed that all parsers read them alike, which nearly all are. Otherwise the rest
//! of the page gets no ids.

use std::collections::VecDeque;
use std::ops::Range;

use super::markup::{self, Flaw, Markup};
use super::well_formed::{Region, TEXT_ONLY};

/// The maximum length in bytes of a tag or comment in a region, which is held back until its end is read.
const MAX_TAG_LEN: usize = 16 * 1024;

/// The maximum nesting of elements in a region.
const MAX_DEPTH: usize = 64;

/// The regions of a page to check.
#[derive(Debug, Default)]
pub(super) struct CheckedRegions {
    /// The start tags of regions that the parser has found, counted from the page's start.
    begins: VecDeque<(Range<usize>, Option<Region>)>,
    current: Option<OpenRegion>,
}

impl CheckedRegions {
    /// Begins a region with this start tag. Without a `region`, only the tag is checked.
    pub(super) fn begin(&mut self, tag: Range<usize>, region: Option<Region>) {
        self.begins.push_back((tag, region));
    }

    /// Checks the next bytes, which begin at `start`. Returns how many of them can be sent on; the rest is
    /// the beginning of a tag.
    ///
    /// # Errors
    /// The number of bytes in front of the first one that is not well formed.
    pub(super) fn check(&mut self, start: usize, bytes: &[u8]) -> Result<usize, usize> {
        let mut at = 0;
        loop {
            let Some(region) = &mut self.current else {
                let Some((tag, region)) = self.begins.pop_front() else { return Ok(bytes.len()) };
                if tag.start < start + at {
                    continue; // it is within one that was read
                }
                let end = bytes.len().min(tag.end - start);
                at = end.min(tag.start - start);
                if lacks_value(&bytes[at..end]) {
                    return Err(at);
                }
                at = end;
                self.current = region.map(|region| OpenRegion { region, open: Vec::new() });
                continue;
            };
            match region.scan(&bytes[at..]) {
                Scan::Ended(length) => {
                    at += length;
                    self.current = None;
                }
                Scan::Incomplete(length) => return Ok(at + length),
                Scan::Unsafe(length) => return Err(at + length),
            }
        }
    }
}

/// Returns whether a start tag's last attribute has an equals sign and no value.
fn lacks_value(tag: &[u8]) -> bool {
    tag.strip_suffix(b">").is_some_and(|tag| tag.trim_ascii_end().ends_with(b"="))
}

/// A region that is being read.
#[derive(Debug)]
struct OpenRegion {
    region: Region,
    /// The open elements of SVG or MathML; for `noscript`, the open element that may contain only text.
    open: Vec<&'static str>,
}

/// How far a region was read.
enum Scan {
    /// To its end.
    Ended(usize),
    /// To the last tag, whose end is not read yet, or to the end of the bytes.
    Incomplete(usize),
    /// To bytes that are not well formed.
    Unsafe(usize),
}

impl OpenRegion {
    fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut at = 0;
        while let Some(next) = memchr::memchr(b'<', &bytes[at..]) {
            at += next;
            let rest = &bytes[at..];
            match markup::read(rest) {
                Ok((Markup::End(name), length)) if self.is_end(name) => {
                    return Scan::Ended(at + length);
                }
                Ok((markup, length)) if self.allows(&markup) => at += length,
                Err(Flaw::Incomplete) if rest.len() < MAX_TAG_LEN => return Scan::Incomplete(at),
                _ => return Scan::Unsafe(at),
            }
        }
        Scan::Incomplete(bytes.len())
    }

    fn is_end(&self, name: &[u8]) -> bool {
        self.open.is_empty() && name.eq_ignore_ascii_case(self.region.name().as_bytes())
    }

    fn allows(&mut self, markup: &Markup<'_>) -> bool {
        let last = self.open.last().copied();
        let in_text = last.is_some_and(|name| TEXT_ONLY.contains(&name));
        match *markup {
            Markup::Comment => !in_text,
            Markup::Start { name, closed } => {
                let Some(name) = self.allowed(name) else { return false };
                let is_text = TEXT_ONLY.contains(&name);
                let nests = self.region != Region::NoScript && !closed;
                if is_text || nests {
                    self.open.push(name);
                }
                !in_text && self.open.len() <= MAX_DEPTH
            }
            Markup::End(name) => {
                let name = self.allowed(name);
                if name.is_some() && name == last {
                    self.open.pop();
                    return true;
                }
                // Browsers may close different elements for this end tag, but none that contains only text.
                name.is_some() && self.region == Region::NoScript && !in_text
            }
        }
    }

    fn allowed(&self, name: &[u8]) -> Option<&'static str> {
        let mut names = self.region.allowed().iter();
        names.find(|allowed| name.eq_ignore_ascii_case(allowed.as_bytes())).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns what is left of a page, which is one region from its start, in pieces of this size: nothing,
    /// or the part from the first byte on that is not well formed.
    fn left(region: Region, page: &str, piece: usize) -> &str {
        let mut regions = CheckedRegions::default();
        regions.begin(0..0, Some(region));
        let (mut passed, mut seen) = (0, 0);
        while seen < page.len() {
            seen = page.len().min(seen + piece);
            match regions.check(passed, &page.as_bytes()[passed..seen]) {
                Ok(length) => passed += length,
                Err(length) => return &page[passed + length..],
            }
        }
        &page[passed..]
    }

    #[track_caller]
    fn check(region: Region, page: &str, wanted: &str) {
        for piece in [1, 2, 5, page.len()] {
            assert_eq!(left(region, page, piece), wanted, "{page} in pieces of {piece}");
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
            check(Region::Svg, page, "");
        }
        let formula = "<mrow><mi>x</mi><mo>=</mo><mfrac><mn>1</mn><mn>2</mn></mfrac></mrow></math>";
        check(Region::MathMl, formula, "");
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
            check(Region::Svg, &format!("<path/>{odd} x></svg>"), &format!("{inner} x></svg>"));
        }
        check(Region::Svg, "<g></svg>", "</svg>");
        check(Region::MathMl, "<mi>x</math>", "</math>");
        check(
            Region::MathMl,
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
            check(Region::NoScript, page, "");
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
            check(Region::NoScript, &format!("<p>{odd}<a>"), &format!("{odd}<a>"));
        }
        check(Region::NoScript, "<style></noscript>", "</noscript>");
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
            let mut regions = CheckedRegions::default();
            regions.begin(7..7 + page.rfind('>').unwrap() + 1, None);
            let checked = regions.check(5, format!("ab{page}").as_bytes());
            assert_eq!(checked, wanted.map(|length| length + 2), "{page}");
        }
    }

    #[test]
    fn tags_are_held_up_to_a_limit() {
        let page = format!("<path d='{}'/>", "x".repeat(2 * MAX_TAG_LEN));
        check_long(&page);
        check_long(&format!("<!--{}-->", "x".repeat(2 * MAX_TAG_LEN)));
        assert_eq!(left(Region::Svg, &"<g>".repeat(MAX_DEPTH + 1), 99), "<g>");
    }

    #[track_caller]
    fn check_long(page: &str) {
        let mut regions = CheckedRegions::default();
        regions.begin(0..0, Some(Region::Svg));
        assert_eq!(regions.check(0, &page.as_bytes()[..MAX_TAG_LEN - 1]), Ok(0));
        assert_eq!(regions.check(0, &page.as_bytes()[..MAX_TAG_LEN]), Err(0));
    }
}
