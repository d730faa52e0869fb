//! [`Source`]: a provider's source string.

use std::fmt;
use std::str::FromStr;

use crate::Error;

/// The parsed `name=value` pairs of a source string, such as `path=/var/lib/app&sync=full`.
///
/// Names and values are percent-encoded (RFC 3986, section 2.1); `+` stands for itself. A provider
/// takes the options it knows, one by one, and [`finish`](Self::finish) refuses what is left.
/// Values may be secrets, so no error and no `Debug` shows one.
///
/// ```
/// use session_core::provider::Source;
///
/// let mut source = Source::parse("path=/var/lib/my%20app&sync=full")?;
/// assert_eq!(source.take("path")?.as_deref(), Some("/var/lib/my app"));
/// assert_eq!(source.take_parsed::<usize>("max_sessions", "a number")?, None);
/// let error = source.finish().unwrap_err();
/// assert_eq!(error.to_string(), "unknown option \"sync\" in the source string");
/// # Ok::<(), session_core::Error>(())
/// ```
pub struct Source(Vec<(String, String)>);

impl Source {
    /// Parses a source string; an empty one has no options.
    ///
    /// # Errors
    /// [`Error::Config`] for a part without `=`, an empty name, or percent-encoding that is not
    /// UTF-8.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut options = Vec::new();
        for (at, part) in text.split('&').enumerate().filter(|_| !text.is_empty()) {
            let place = at + 1;
            let (name, value) = part.split_once('=').ok_or_else(|| {
                Error::config(format_args!(
                    "option {place} of the source string has no `=`; write name=value"
                ))
            })?;
            let decoded = |text: &str| match malformed_percent(text) {
                false => urlencoding::decode(text).map(|text| text.into_owned()).ok(),
                true => None,
            };
            match (decoded(name), decoded(value)) {
                (Some(name), Some(value)) if !name.is_empty() => options.push((name, value)),
                (Some(_), Some(_)) => {
                    return Err(Error::config(format_args!(
                        "option {place} of the source string has no name"
                    )));
                }
                _ => {
                    return Err(Error::config(format_args!(
                        "option {place} of the source string is not percent-encoded UTF-8"
                    )));
                }
            }
        }
        Ok(Self(options))
    }

    /// Takes the options of these names out of a source string; returns them and the other text as
    /// it was. For a wrapper, whose options are among those of the wrapped provider.
    ///
    /// A URI (`scheme://...`) has options behind its `?`.
    ///
    /// ```
    /// use session_core::provider::Source;
    ///
    /// let (mut ours, rest) = Source::split("mongodb://h/db?w=1&key_env=KEYS", &["key_env"])?;
    /// assert_eq!(ours.take("key_env")?.as_deref(), Some("KEYS"));
    /// assert_eq!(rest, "mongodb://h/db?w=1");
    /// # Ok::<(), session_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] as [`parse`](Self::parse), for the options of these names.
    pub fn split(text: &str, names: &[&str]) -> Result<(Self, String), Error> {
        let (before, options) = match is_uri(text) {
            true => text.split_once('?').unwrap_or((text, "")),
            false => ("", text),
        };
        let is_ours = |part: &&str| {
            let name = part.split_once('=').map_or(*part, |(name, _)| name);
            names.contains(&name)
        };
        let (ours, others): (Vec<&str>, Vec<&str>) = options.split('&').partition(is_ours);
        let others = others.join("&");
        let separator = if before.is_empty() || others.is_empty() { "" } else { "?" };
        Ok((Self::parse(&ours.join("&"))?, [before, separator, &others].concat()))
    }

    /// Takes an option that may be given once.
    ///
    /// # Errors
    /// [`Error::Config`] if it is given twice.
    pub fn take(&mut self, name: &str) -> Result<Option<String>, Error> {
        let mut values = self.take_all(name);
        match values.len() {
            0 | 1 => Ok(values.pop()),
            _ => Err(Error::config(format_args!(
                "option {name:?} is given twice in the source string"
            ))),
        }
    }

    /// Takes an option and parses it; `what` says what is wanted, with its unit.
    ///
    /// # Errors
    /// [`Error::Config`] if it is given twice or doesn't parse.
    pub fn take_parsed<T: FromStr>(&mut self, name: &str, what: &str) -> Result<Option<T>, Error> {
        match self.take(name)? {
            None => Ok(None),
            Some(value) => match value.parse() {
                Ok(value) => Ok(Some(value)),
                Err(_) => Err(Error::config(format_args!(
                    "option {name:?} of the source string must be {what}"
                ))),
            },
        }
    }

    /// Takes all values of an option that may be given more than once, in order.
    pub fn take_all(&mut self, name: &str) -> Vec<String> {
        self.0.extract_if(.., |(other, _)| other == name).map(|(_, value)| value).collect()
    }

    /// Returns what is left, written as a source string again; for a provider that wraps
    /// another.
    pub fn rest(self) -> String {
        let pairs = self.0.iter().map(|(name, value)| written(name, value));
        pairs.collect::<Vec<_>>().join("&")
    }

    /// Checks that all options were taken.
    ///
    /// # Errors
    /// [`Error::Config`] names an option that was not taken. The name is left out if it does not look like an
    /// option name, because it may contain a password, as in a URI that was meant for another provider.
    pub fn finish(self) -> Result<(), Error> {
        let is_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) if name.len() <= 32 && name.bytes().all(is_name) => {
                Err(Error::config(format_args!("unknown option {name:?} in the source string")))
            }
            Some(_) => Err(Error::config(
                "the source string has an option that this provider doesn't know; \
                 is it meant for another one?",
            )),
        }
    }
}

/// Appends options to a source string. Returns an error for a URI, because drivers treat unknown options
/// differently.
pub(crate) fn with_options(text: &str, options: &[(&str, &str)]) -> Result<String, Error> {
    if is_uri(text) {
        let (name, _) = options[0];
        return Err(Error::config(format_args!("a source that is a URI has no option {name:?}")));
    }
    let options = options.iter().map(|(name, value)| written(name, value));
    let own = (!text.is_empty()).then(|| text.to_owned());
    Ok(own.into_iter().chain(options).collect::<Vec<_>>().join("&"))
}

/// Writes an option as it is in a source string.
fn written(name: &str, value: &str) -> String {
    format!("{}={}", urlencoding::encode(name), urlencoding::encode(value))
}

/// Returns whether the text begins with a scheme (RFC 3986, section 3.1).
fn is_uri(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        let of_scheme = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
        scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(of_scheme)
    })
}

/// Returns whether a `%` is not followed by two hexadecimal digits, which the decoder would accept.
pub(crate) fn malformed_percent(text: &str) -> bool {
    text.split('%').skip(1).any(|rest| {
        !rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    })
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({} options)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_decoded_and_left_over_ones_are_named() {
        let mut source = Source::parse("a=1&b=x%26y%3D&a=2&c=p+q").unwrap();
        assert!(source.take("a").unwrap_err().to_string().contains("twice"));
        assert_eq!(source.take("b").unwrap().as_deref(), Some("x&y="));
        assert_eq!(source.take("c").unwrap().as_deref(), Some("p+q"));
        source.finish().unwrap();
        Source::parse("").unwrap().finish().unwrap();
    }

    #[test]
    fn options_are_taken_out_of_pairs_and_uris_and_the_rest_stays_as_it_was() {
        for (text, ours, rest) in [
            ("", "", ""),
            ("key=A", "key=A", ""),
            ("path=/x%20y&key=A&sync=full&key=B", "key=A&key=B", "path=/x%20y&sync=full"),
            ("keys=A&=x&&y", "", "keys=A&=x&&y"),
            ("mongodb://u:p%40@h:1,i/db", "", "mongodb://u:p%40@h:1,i/db"),
            ("mongodb://u:p@h/db?key=A", "key=A", "mongodb://u:p@h/db"),
            ("mongodb+srv://h/?w=1&key=A&x=%zz", "key=A", "mongodb+srv://h/?w=1&x=%zz"),
            ("key=A&source=x://y?key=B", "key=A", "source=x://y?key=B"),
        ] {
            let (source, left) = Source::split(text, &["key"]).unwrap();
            assert_eq!((source.rest().as_str(), left.as_str()), (ours, rest), "{text:?}");
        }
        assert!(Source::split("mongodb://h/?key=%zz", &["key"]).is_err());
        assert!(Source::split("key", &["key"]).is_err());
    }

    #[test]
    fn bad_sources_are_configuration_errors_without_their_values() {
        for text in ["a", "=1", "a=%zz", "a=%f", "a=%ff", "a=secret&", "&", "a=1&&b=2", "%=1"] {
            let error = Source::parse(text).unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{text:?}: {error:?}");
            assert!(!error.to_string().contains("secret"));
        }
        for text in ["mongodb://u:secret@h/?w=majority", "u:secret@tcp(h)/db?parseTime=true"] {
            let source = Source::parse(text).unwrap();
            assert!(!format!("{source:?}").contains("secret"));
            assert!(!source.finish().unwrap_err().to_string().contains("secret"));
        }
        let mut source = Source::parse("n=secret").unwrap();
        assert!(!format!("{source:?}").contains("secret"));
        let error = source.take_parsed::<u32>("n", "a number").unwrap_err();
        assert_eq!(error.to_string(), "option \"n\" of the source string must be a number");
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_rest_round_trips(text in "[a-b=&%2f+é]{0,20}") {
            if let Ok(source) = Source::parse(&text) {
                let options = source.0.clone();
                prop_assert_eq!(Source::parse(&source.rest()).unwrap().0, options);
            }
        }
    }
}
