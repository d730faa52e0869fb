//! Which stored keys are the application's, and which the library's own.
//!
//! All share one map. The library's begin with NUL and a letter; an application's key that begins
//! with NUL gets a second one. So every key is allowed, and none meets the library's.

use std::borrow::Cow;

/// The lifetime that a handler gave the session, or that the visitor is remembered.
pub(crate) const LIFETIME: &str = "\0lifetime";
/// Whether the cookie is persistent, where that differs from the transport's default.
pub(crate) const PERSISTENT: &str = "\0persistent";
/// The session's id is, or was, in URLs.
pub(crate) const IN_URLS: &str = "\0url";

/// The stored key of a category of flash messages.
pub(crate) fn flash(category: &str) -> String {
    format!("\0flash.{category}")
}

/// The stored key of an application's key.
pub(crate) fn stored(key: &str) -> Cow<'_, str> {
    if key.starts_with('\0') { format!("\0{key}").into() } else { key.into() }
}

/// The application's key of a stored key; `None` for the library's own.
pub(crate) fn application(stored: &str) -> Option<&str> {
    match stored.strip_prefix('\0') {
        None => Some(stored),
        Some(rest) => rest.starts_with('\0').then_some(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_round_trips_and_meets_none_of_the_librarys(key in "[\u{0}a-z.]{0,12}") {
            let stored = stored(&key);
            prop_assert_eq!(application(&stored), Some(key.as_str()));
            prop_assert!(![LIFETIME, PERSISTENT, IN_URLS].contains(&&*stored));
            let flash = flash(&key);
            prop_assert_eq!(application(&flash), None);
        }
    }
}
