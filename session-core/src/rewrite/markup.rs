//! Reads tags and comments that are so well formed that every parser reads them alike, in whatever context.

/// A tag or comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Markup<'a> {
    /// A start tag with this name. It is `closed` by a slash at its end, which matters in SVG and MathML
    /// only.
    Start {
        name: &'a [u8],
        closed: bool,
    },
    End(&'a [u8]),
    Comment,
}

/// Why the bytes are not well-formed markup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// More bytes are needed.
    Incomplete,
    /// Parsers might read the bytes differently.
    Unsafe,
}

/// Returns the tag or comment at the start of the bytes, which begin with `<`, and its length.
///
/// # Errors
/// [`Flaw`] says why there is none. Quotes, angle brackets and equals signs are allowed only where
/// well-formed tags have them, and a comment must not contain angle brackets.
pub(super) fn read(bytes: &[u8]) -> Result<(Markup<'_>, usize), Flaw> {
    let mut reader = Reader { bytes, at: 1 };
    match reader.peek()? {
        b'!' => {
            reader.comment()?;
            Ok((Markup::Comment, reader.at))
        }
        b'/' => {
            reader.at += 1;
            let name = reader.name()?;
            reader.attributes()?;
            Ok((Markup::End(name), reader.at))
        }
        _ => {
            let name = reader.name()?;
            let closed = reader.attributes()?;
            Ok((Markup::Start { name, closed }, reader.at))
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Result<u8, Flaw> {
        self.bytes.get(self.at).copied().ok_or(Flaw::Incomplete)
    }

    /// Takes the bytes up to the first one that is not of a kind.
    fn take(&mut self, is_kind: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|byte| !is_kind(*byte)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn comment(&mut self) -> Result<(), Flaw> {
        for wanted in *b"!--" {
            match self.peek()? {
                byte if byte == wanted => self.at += 1,
                _ => return Err(Flaw::Unsafe),
            }
        }
        self.take(|byte| !matches!(byte, b'<' | b'>'));
        let is_end = self.peek()? == b'>' && self.bytes[..self.at].ends_with(b"--");
        self.at += 1;
        is_end.then_some(()).ok_or(Flaw::Unsafe)
    }

    fn name(&mut self) -> Result<&'a [u8], Flaw> {
        let name = self.take(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        let end = self.peek()?;
        let begins = name.first().is_some_and(u8::is_ascii_alphabetic);
        (begins && is_separator(end)).then_some(name).ok_or(Flaw::Unsafe)
    }

    /// Takes the attributes and the end of the tag. Returns whether the tag ends with a slash.
    fn attributes(&mut self) -> Result<bool, Flaw> {
        loop {
            let slash = self.take(is_gap).ends_with(b"/");
            if self.peek()? == b'>' {
                self.at += 1;
                return Ok(slash);
            }
            let is_letter =
                |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b':' | b'.');
            if self.take(is_letter).is_empty() {
                return Err(Flaw::Unsafe);
            }
            if self.peek()? == b'=' {
                self.at += 1;
                self.value()?;
            }
            if !is_separator(self.peek()?) {
                return Err(Flaw::Unsafe);
            }
        }
    }

    fn value(&mut self) -> Result<(), Flaw> {
        let quote = self.peek()?;
        if matches!(quote, b'"' | b'\'') {
            self.at += 1;
            self.take(|byte| byte != quote && byte != b'<');
            let is_end = self.peek()? == quote;
            self.at += 1;
            return is_end.then_some(()).ok_or(Flaw::Unsafe);
        }
        let is_bare = |b: u8| {
            !b.is_ascii_whitespace() && !matches!(b, b'"' | b'\'' | b'<' | b'>' | b'=' | b'`')
        };
        match self.take(is_bare) {
            [] => Err(Flaw::Unsafe),
            _ => Ok(()),
        }
    }
}

fn is_gap(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == b'/'
}

fn is_separator(byte: u8) -> bool {
    is_gap(byte) || byte == b'>'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_formed_tags_and_comments_are_read() {
        let start = |name, closed| Markup::Start { name, closed };
        for (text, wanted) in [
            ("<a>", start(b"a".as_slice(), false)),
            ("<G/>", start(b"G", true)),
            ("<path d=\"M0 0>\" x='\"' y z=1/2 />", start(b"path", true)),
            ("<path d=m/>", start(b"path", false)),
            ("<path/d=m\nx:y=1>", start(b"path", false)),
            ("</annotation-xml >", Markup::End(b"annotation-xml")),
            ("<!---->", Markup::Comment),
            ("<!-->", Markup::Comment),
            ("<!-- x ' -- -->", Markup::Comment),
        ] {
            assert_eq!(read(text.as_bytes()), Ok((wanted, text.len())), "{text}");
            assert_eq!(
                read(format!("{text} rest>").as_bytes()),
                Ok((wanted, text.len())),
                "{text}"
            );
            for end in 1..text.len() {
                assert_eq!(
                    read(&text.as_bytes()[..end]),
                    Err(Flaw::Incomplete),
                    "{text} up to {end}"
                );
            }
        }
    }

    #[test]
    fn what_parsers_might_read_otherwise_is_odd() {
        for text in [
            "<>",
            "< a>",
            "</>",
            "</ a>",
            "<1>",
            "<?x?>",
            "<!x>",
            "<![CDATA[x]]>",
            "<a\0>",
            "<a\"x\">",
            "<a =x>",
            "<a x=>",
            "<a x= y>",
            "<a x =y>",
            "<a x==y>",
            "<a x='y'z>",
            "<a x=y'z>",
            "<a x=y=z>",
            "<a x='<'>",
            "<a x=<>",
            "<a x=`y`>",
            "<a 'x'>",
            "<a x<y>",
            "<!-- <b> -->",
            "<!-- > -->",
            "<!-- --!>",
        ] {
            assert_eq!(read(text.as_bytes()), Err(Flaw::Unsafe), "{text}");
        }
    }
}
