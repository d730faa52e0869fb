//! What a case says when a promise is broken: what was done, what is expected, and what came.

/// Checks that something came as expected. The message says what it is and what was done before.
macro_rules! expect_eq {
    ($came:expr, $expected:expr, $($what:tt)+) => {
        match (&$came, &$expected) {
            (came, expected) => assert!(
                *came == *expected,
                "{}\n  expected: {expected:?}\n  came:     {came:?}",
                format_args!($($what)+)
            ),
        }
    };
}

/// Checks that what came matches a pattern. The message says what was done.
macro_rules! expect_matches {
    ($came:expr, $expected:pat $(if $condition:expr)?, $($what:tt)+) => {
        match &$came {
            $expected $(if $condition)? => {}
            came => panic!(
                "{}\n  expected: {}\n  came:     {came:?}",
                format_args!($($what)+),
                stringify!($expected $(if $condition)?)
            ),
        }
    };
}

pub(crate) use {expect_eq, expect_matches};
