//! What is in a stretch of a page that all browsers read alike.

/// The elements of drawings that are no doorway to HTML; `title`, `desc` and `style` are, and
/// contain nothing but text here.
#[rustfmt::skip]
const DRAWING: &[&str] = &[
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

/// Those of formulas; `mi`, `mn`, `mo`, `ms` and `mtext` contain nothing but text here.
#[rustfmt::skip]
const FORMULA: &[&str] = &[
    "annotation", "maction", "math", "menclose", "merror", "mfenced", "mfrac", "mi",
    "mmultiscripts", "mn", "mo", "mover", "mpadded", "mphantom", "mprescripts", "mroot", "mrow",
    "ms", "mspace", "msqrt", "mstyle", "msub", "msubsup", "msup", "mtable", "mtd", "mtext",
    "mtr", "munder", "munderover", "semantics",
];

/// What is for visitors without scripts: no forms, bases or tables, and nothing that is text but
/// `style` and `iframe`.
#[rustfmt::skip]
const UNSCRIPTED: &[&str] = &[
    "a", "b", "br", "center", "code", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
    "iframe", "img", "li", "link", "meta", "ol", "p", "picture", "pre", "section", "small",
    "source", "span", "strong", "style", "u", "ul",
];

/// Elements that contain nothing but text.
pub(super) const TEXTS: &[&str] =
    &["desc", "iframe", "mi", "mn", "mo", "ms", "mtext", "style", "title"];

/// What a stretch is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `svg`
    Drawing,
    /// `math`
    Formula,
    /// `noscript`
    Unscripted,
}

impl Kind {
    /// The element that it ends with.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Drawing => "svg",
            Self::Formula => "math",
            Self::Unscripted => "noscript",
        }
    }

    /// The elements that it may contain.
    pub(super) fn allowed(self) -> &'static [&'static str] {
        match self {
            Self::Drawing => DRAWING,
            Self::Formula => FORMULA,
            Self::Unscripted => UNSCRIPTED,
        }
    }
}
