//! [`ForbiddenWords`]: finds words in the unparsed rest of a page that could lead ids to another site.

/// The words of markup that could lead ids in front of it to another site.
const FORBIDDEN: [&str; 2] = ["<base", "formaction"];

/// The length of the longest word, less one byte.
const TAIL_LEN: usize = 9;

/// The byte that begins an escape sequence, which switches characters sets in some encodings (Encoding
/// Standard, section 12.2.1).
pub(super) const ESCAPE: u8 = 0x1b;

/// Searches text that comes in pieces for forbidden words.
#[derive(Debug, Default)]
pub(super) struct ForbiddenWords {
    /// The end of the earlier text, in lower case and without escape sequences.
    tail: Vec<u8>,
    sequence: Sequence,
}

/// How many bytes of an escape sequence, of three, were read.
#[derive(Clone, Copy, Debug, Default)]
enum Sequence {
    #[default]
    None,
    One,
    Two,
}

impl ForbiddenWords {
    /// Returns the positions in the piece of the last byte of each forbidden word. A byte inserted in front
    /// of it breaks the word; the word's other bytes may have been sent already.
    pub(super) fn find(&mut self, piece: &[u8]) -> Vec<usize> {
        let seen = self.tail.len();
        // The positions in the piece of the bytes of the text.
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
        let ends = |word: &str| {
            let length = word.len();
            let found = memchr::memmem::find_iter(text, word).map(move |at| at + length - 1);
            found.filter(|last| *last >= seen).map(|last| places[last - seen]).collect::<Vec<_>>()
        };
        let mut harmful: Vec<usize> = FORBIDDEN.iter().flat_map(|word| ends(word)).collect();
        harmful.sort_unstable();
        let keep = self.tail.len().saturating_sub(TAIL_LEN);
        self.tail.drain(..keep);
        harmful
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_found_across_pieces_once() {
        let mut words = ForbiddenWords::default();
        let mut found = |piece: &str| words.find(piece.as_bytes());
        assert_eq!(found("<a><BASE x><base"), [7, 15]);
        assert_eq!(found(" href=/><ba"), [0; 0]);
        assert_eq!(found("s"), [0; 0]);
        assert_eq!(found("e> forMaction"), [0, 12]);
        assert_eq!(found("<template>"), [0; 0]);
    }

    /// In ISO-2022-JP escape sequences are not part of the text, wherever they are.
    #[test]
    fn words_are_found_through_escape_sequences() {
        let mut words = ForbiddenWords::default();
        assert_eq!(words.find(b"<\x1b(Bba\x1b(Jse <ba\x1b"), [10]);
        assert_eq!(words.find(b"(Bse \x1b<base \x1b(<base"), [3, 10, 18]);
    }
}
