//! Times in columns, and durations in options.

use std::time::Duration;

use session_core::provider::Source;
use session_core::{Error, Timestamp};

/// Converts a time to a signed number of milliseconds. Times that don't fit become the last one that does.
pub(crate) fn to_column(time: Timestamp) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Converts a column to a time. Numbers before 1970 become 1970, and the last number becomes [`Timestamp::MAX`].
pub(crate) fn from_column(millis: i64) -> Timestamp {
    match millis {
        i64::MAX => Timestamp::MAX,
        millis => Timestamp::from_millis(u64::try_from(millis).unwrap_or(0)),
    }
}

/// Takes the option `operation_timeout`, 3 seconds if it is not given.
///
/// # Errors
/// [`Error::Config`] if it is no duration, or out of range.
pub(crate) fn take_timeout(options: &mut Source) -> Result<Duration, Error> {
    let Some(text) = options.take("operation_timeout")? else {
        return Ok(Duration::from_secs(3));
    };
    // A text that is no duration becomes zero, which is out of range.
    let limit = humantime::parse_duration(&text).unwrap_or_default();
    check_timeout(limit)?;
    Ok(limit)
}

/// Checks an `operation_timeout`, which a program may also set directly.
///
/// # Errors
/// [`Error::Config`] if it is out of range.
pub(crate) fn check_timeout(limit: Duration) -> Result<(), Error> {
    match limit {
        limit if (Duration::from_millis(1)..=Duration::from_secs(3600)).contains(&limit) => Ok(()),
        _ => Err(Error::config("operation_timeout must be a duration of 1ms to 1h, such as 3s")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_instant_has_a_column_and_every_column_an_instant() {
        for millis in [0, 1, 1_800_000_000_123, i64::MAX as u64 - 1] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(from_column(to_column(time)), time);
        }
        for late in [i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
            assert_eq!(from_column(to_column(Timestamp::from_millis(late))), Timestamp::MAX);
        }
        assert_eq!(from_column(i64::MIN), Timestamp::from_millis(0));
    }
}
