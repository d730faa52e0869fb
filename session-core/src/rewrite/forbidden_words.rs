//! Words that mean trouble, in text whose elements are not known.

/// What could take ids elsewhere that stand in front of it.
const HARMFUL: [&str; 2] = ["<base", "formaction"];

/// The longest of them, less one byte.
const TAIL: usize = 9;

/// Begins a sequence that switches encodings, in some of them (Encoding Standard, section 12.2.1).
pub(super) const ESCAPE: u8 = 0x1b;

/// Looks for these words in text that comes in pieces.
#[derive(Debug, Default)]
pub(super) struct ForbiddenWords {
    /// The end of what came before, in lower case and without escape sequences.
    tail: Vec<u8>,
    sequence: Sequence,
}

/// How much there is of an escape sequence: three bytes are one.
#[derive(Clone, Copy, Debug, Default)]
enum Sequence {
    #[default]
    None,
    One,
    Two,
}

impl ForbiddenWords {
    /// Where in the piece harmful words have their last byte. A byte in front of it makes another
    /// word of each; what stands further ahead may have gone by.
    pub(super) fn find(&mut self, piece: &[u8]) -> Vec<usize> {
        let seen = self.tail.len();
        // Where the bytes of the text are in the piece.
        let mut places = Vec::with_capacity(piece.len());
        for (at, byte) in piece.iter().enumerate() {
            self.sequence = match (self.sequence, *byte) {
                (_, ESCAPE) => Sequence::One,
                (Sequence::One, b'(' | b'$') => Sequence::Two,
                (Sequence::Two, b'@' | b'B' | b'I' | b'J') => Sequence::None,
                (_, byte) => {
                    self.tail.push(byte.to_ascii_lowercase());
                    places.push(at);
                    Sequence::None
                }
            };
        }
        let text = &self.tail;
        let ends = |mark: &str| {
            let length = mark.len();
            let found = memchr::memmem::find_iter(text, mark).map(move |at| at + length - 1);
            found.filter(|last| *last >= seen).map(|last| places[last - seen]).collect::<Vec<_>>()
        };
        let mut harmful: Vec<usize> = HARMFUL.iter().flat_map(|mark| ends(mark)).collect();
        harmful.sort_unstable();
        let keep = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..keep);
        harmful
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_across_pieces_once() {
        let mut marks = ForbiddenWords::default();
        let mut found = |piece: &str| marks.find(piece.as_bytes());
        assert_eq!(found("<a><BASE x><base"), [7, 15]);
        assert_eq!(found(" href=/><ba"), [0; 0]);
        assert_eq!(found("s"), [0; 0]);
        assert_eq!(found("e> forMaction"), [0, 12]);
        assert_eq!(found("<template>"), [0; 0]);
    }

    /// In ISO-2022-JP they are nothing, wherever they stand.
    #[test]
    fn words_are_found_through_escape_sequences() {
        let mut marks = ForbiddenWords::default();
        assert_eq!(marks.find(b"<\x1b(Bba\x1b(Jse <ba\x1b"), [10]);
        assert_eq!(marks.find(b"(Bse \x1b<base \x1b(<base"), [3, 10, 18]);
    }
}
