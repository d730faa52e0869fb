//! [`Region`]: the elements that are allowed in SVG, MathML and `noscript`, so that all browsers parse the
//! region alike.

/// The SVG elements that don't contain HTML. `title`, `desc` and `style` could, and may contain only text
/// here.
#[rustfmt::skip]
const SVG_ELEMENTS: &[&str] = &[
    "animate", "animatemotion", "animatetransform", "circle", "clippath", "defs", "desc",
    "ellipse", "feblend", "fecolormatrix", "fecomponenttransfer", "fecomposite",
    "feconvolvematrix", "fediffuselighting", "fedisplacementmap", "fedistantlight",
    "fedropshadow", "feflood", "fefunca", "fefuncb", "fefuncg", "fefuncr", "fegaussianblur",
    "feimage", "femerge", "femergenode", "femorphology", "feoffset", "fepointlight",
    "fespecularlighting", "fespotlight", "fetile", "feturbulence", "filter", "g", "image",
    "line", "lineargradient", "marker", "mask", "metadata", "mpath", "path", "pattern",
    "polygon", "polyline", "radialgradient", "rect", "set", "stop", "style", "switch", "symbol",
    "text", "textpath", "title", "tspan", "use", "view",
];

/// The MathML elements that don't contain HTML. `mi`, `mn`, `mo`, `ms` and `mtext` could, and may contain
/// only text here.
#[rustfmt::skip]
const MATHML_ELEMENTS: &[&str] = &[
    "annotation", "maction", "math", "menclose", "merror", "mfenced", "mfrac", "mi",
    "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom", "mprescripts", "mroot", "mrow",
    "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext",
    "mtr", "munder", "munderover", "semantics",
];

/// The elements that are allowed in `noscript`: no forms, bases or tables, and no elements that contain raw
/// text but `style` and `iframe`.
#[rustfmt::skip]
const NOSCRIPT_ELEMENTS: &[&str] = &[
    "a", "b", "br", "center", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
    "iframe", "img", "li", "link", "meta", "ol", "p", "picture", "pre", "section", "small",
    "source", "span", "strong", "style", "u", "ul",
];

/// Elements that may contain only text.
pub(super) const TEXT_ONLY: &[&str] =
    &["desc", "iframe", "mi", "mn", "mo", "ms", "mtext", "style", "title"];

/// The element that a region is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Region {
    /// `svg`
    Svg,
    /// `math`
    MathMl,
    /// `noscript`
    NoScript,
}

impl Region {
    /// Returns the name of the element.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Svg => "svg",
            Self::MathMl => "math",
            Self::NoScript => "noscript",
        }
    }

    /// Returns the elements that the region may contain.
    pub(super) fn allowed(self) -> &'static [&'static str] {
        match self {
            Self::Svg => SVG_ELEMENTS,
            Self::MathMl => MATHML_ELEMENTS,
            Self::NoScript => NOSCRIPT_ELEMENTS,
        }
    }
}
