//! Assertions whose messages say what was done, what was expected and what was found.

/// Checks that a value is the expected one. The message says what the value is and what was done before.
macro_rules! expect_eq {
    ($came:expr, $expected:expr, $($what:tt)+) => {
        match (&$came, &$expected) {
            (came, expected) => assert!(
                *came == *expected,
                "{}\n  expected: {expected:?}\n  found:    {came:?}",
                format_args!($($what)+)
            ),
        }
    };
}

/// Checks that a value matches a pattern. The message says what was done.
macro_rules! expect_matches {
    ($came:expr, $expected:pat $(if $condition:expr)?, $($what:tt)+) => {
        match &$came {
            $expected $(if $condition)? => {}
            came => panic!(
                "{}\n  expected: {}\n  found:    {came:?}",
                format_args!($($what)+),
                stringify!($expected $(if $condition)?)
            ),
        }
    };
}

pub(crate) use {expect_eq, expect_matches};
