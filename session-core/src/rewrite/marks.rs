//! Words that mean trouble, in text whose elements are not known.

/// What could take ids elsewhere that stand in front of it.
const HARMFUL: [&str; 2] = ["<base", "formaction"];

/// What changes how the rest of a page is read.
const PARTING: [&str; 12] = [
    "<form",
    "</form",
    "<template",
    "<select",
    "<!",
    "<textarea",
    "<title",
    "<svg",
    "<math",
    "<xmp",
    "<plaintext",
    "<script",
];

/// The longest of them, less one byte.
const TAIL: usize = 9;

/// Looks for these words in text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// The end of what came before, in lower case.
    tail: Vec<u8>,
}

/// What was found in a piece of text.
pub(super) struct Found {
    /// Where in the piece harmful words have their last byte. A byte in front of it makes another
    /// word of each; what stands further ahead may have gone by.
    pub(super) harmful: Vec<usize>,
    /// Whether there are words of any kind.
    pub(super) any: bool,
}

impl Marks {
    pub(super) fn find(&mut self, piece: impl Iterator<Item = u8>) -> Found {
        let seen = self.tail.len();
        self.tail.extend(piece.map(|byte| byte.to_ascii_lowercase()));
        let text = &self.tail;
        let ends = |mark: &str| {
            let length = mark.len();
            let found = memchr::memmem::find_iter(text, mark).map(move |at| at + length - 1);
            found.filter(|last| *last >= seen).map(|last| last - seen).collect::<Vec<_>>()
        };
        let mut harmful: Vec<usize> = HARMFUL.iter().flat_map(|mark| ends(mark)).collect();
        harmful.sort_unstable();
        let any = !harmful.is_empty() || PARTING.iter().any(|mark| !ends(mark).is_empty());
        let keep = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..keep);
        Found { harmful, any }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_across_pieces_once() {
        let mut marks = Marks::default();
        let mut found = |piece: &str| marks.find(piece.bytes()).harmful;
        assert_eq!(found("<a><BASE x><base"), [7, 15]);
        assert_eq!(found(" href=/><ba"), [0; 0]);
        assert_eq!(found("s"), [0; 0]);
        assert_eq!(found("e> forMaction"), [0, 12]);
        let parting = marks.find("<template>".bytes());
        assert!(parting.any && parting.harmful.is_empty());
        assert!(!marks.find("<p>".bytes()).any);
    }
}
