//! The table's name.

use std::fmt;
use std::str::FromStr;

use session_core::Error;

/// The name of the sessions' table, after the name of its schema if one is given: `sessions`, `app.sessions`.
///
/// Each name is an identifier of letters, digits and `_` that doesn't begin with a digit, of at most 48
/// bytes, so that the names made from it fit PostgreSQL's 63. They are quoted in statements: reserved words
/// are names as others are, and upper case stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    schema: Option<Box<str>>,
    name: Box<str>,
}

impl TableName {
    const MOST: usize = 48;

    /// The name of the table that keeps the schema's version.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn version(&self) -> Self {
        Self { schema: self.schema.clone(), name: format!("{}_version", self.name).into() }
    }

    /// The name of an index on the table, which is always in the table's schema.
    #[cfg(any(feature = "postgres", feature = "sqlite"))]
    pub(crate) fn index(&self, suffix: &str) -> String {
        format!("\"{}_{suffix}\"", self.name)
    }

    /// Whether it has the name of a schema.
    #[cfg(feature = "sqlite")]
    pub(crate) fn has_schema(&self) -> bool {
        self.schema.is_some()
    }
}

impl Default for TableName {
    /// `sessions`.
    fn default() -> Self {
        Self { schema: None, name: "sessions".into() }
    }
}

impl FromStr for TableName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let is_identifier = |name: &str| {
            name.len() <= Self::MOST
                && name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        let (schema, name) = match text.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, text),
        };
        if !schema.into_iter().chain([name]).all(is_identifier) {
            return Err(Error::config(
                "table must be an identifier (letters, digits and `_`, not beginning with a digit, at \
                 most 48 bytes), or two with a dot between them: the schema and the table",
            ));
        }
        Ok(Self { schema: schema.map(Into::into), name: name.into() })
    }
}

/// As statements have it: quoted.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "\"{schema}\".")?;
        }
        write!(f, "\"{}\"", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_identifiers_and_quoted() {
        for (text, quoted) in [
            ("sessions", "\"sessions\""),
            ("App.Table", "\"App\".\"Table\""),
            ("_1", "\"_1\""),
            ("select", "\"select\""),
        ] {
            assert_eq!(text.parse::<TableName>().unwrap().to_string(), quoted);
        }
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a.b.c",
            "1a",
            "a b",
            "a\"b",
            "a;drop table b",
            "a'b",
            "a\0",
            "é",
            "a--",
            &"a".repeat(49),
        ] {
            let error = text.parse::<TableName>().unwrap_err();
            assert!(matches!(error, Error::Config(_)), "{text:?}");
        }
    }
}
