//! The escaping of keys as field names.

use std::borrow::Cow;

/// The field name of the empty key, as a field name can't be empty.
const EMPTY: &str = "%";

/// Returns the name of the field in `values` that holds a key's value.
///
/// `.`, `$`, NUL and `%` are escaped as `%` and two hexadecimal digits, because MongoDB reads a dot as a
/// path and a dollar sign as an operator, and forbids NUL. The empty key becomes a single `%`. All other
/// characters stay, so that stored documents are readable. Different keys have different names.
pub(crate) fn name(key: &str) -> Cow<'_, str> {
    if key.is_empty() {
        return EMPTY.into();
    }
    if !key.contains(must_be_escaped) {
        return key.into();
    }
    let mut name = String::with_capacity(key.len() + 8);
    for character in key.chars() {
        if must_be_escaped(character) {
            name.push_str(escape(character));
        } else {
            name.push(character);
        }
    }
    name.into()
}

/// Returns the key of a field name; `None` for a name that [`name`] never returns, which is another
/// program's.
pub(crate) fn key(name: &str) -> Option<Cow<'_, str>> {
    if name == EMPTY {
        return Some("".into());
    }
    let mut parts = name.split('%');
    let plain = parts.next().filter(|part| !part.contains(must_be_escaped))?;
    if plain.len() == name.len() {
        return (!name.is_empty()).then(|| name.into());
    }
    let mut key = plain.to_owned();
    for part in parts {
        let (code, rest) = part.split_at_checked(2)?;
        key.push(['.', '$', '\0', '%'].into_iter().find(|c| escape(*c)[1..] == *code)?);
        if rest.contains(must_be_escaped) {
            return None;
        }
        key.push_str(rest);
    }
    Some(key.into())
}

fn must_be_escaped(character: char) -> bool {
    matches!(character, '.' | '$' | '\0' | '%')
}

fn escape(character: char) -> &'static str {
    match character {
        '.' => "%2E",
        '$' => "%24",
        '\0' => "%00",
        _ => "%25",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fixed vectors: the names are in stored documents and must never change.
    #[test]
    fn names_are_readable_and_free_of_what_mongodb_reserves() {
        for (key_, name_) in [
            ("count", "count"),
            ("", "%"),
            ("a.b", "a%2Eb"),
            ("$set", "%24set"),
            ("\0flash.info", "%00flash%2Einfo"),
            ("100%", "100%25"),
            ("%", "%25"),
            ("a/b é 0", "a/b é 0"),
            ("0", "0"),
        ] {
            assert_eq!(name(key_), name_);
            assert_eq!(key(name_).as_deref(), Some(key_));
        }
    }

    #[test]
    fn other_names_are_nobodys() {
        for foreign in ["", "a.b", "$x", "a\0", "%2", "%2e", "%41", "a%", "%%", "%2é", "%25.", "%é"]
        {
            assert_eq!(key(foreign), None, "{foreign:?}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_name_of_its_own(text in "[\u{0}-~é]{0,12}") {
            let name_ = name(&text);
            prop_assert!(!name_.is_empty() && !name_.contains(['.', '$', '\0']));
            let back = key(&name_);
            prop_assert_eq!(back.as_deref(), Some(text.as_str()));
        }

        #[test]
        fn every_name_that_is_read_is_the_one_that_is_written(text in "[%$.0245EF\u{0}aé]{0,12}") {
            if let Some(key) = key(&text) {
                prop_assert_eq!(name(&key), text.as_str());
            }
        }
    }
}
