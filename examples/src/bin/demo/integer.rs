//! Whole numbers of JSON's two exact ranges.

use serde_json::Number;
use session_core::LoadedSession;

use crate::reply::Failure;

const NOT_WHOLE: Failure = Failure::conflict("the stored value is not a whole number");

/// A key's value as a whole number.
pub(crate) fn get(session: &LoadedSession<'_>, key: &str) -> Result<Option<i128>, Failure> {
    let number = session.get::<Number>(key)?;
    number.map(|number| value(&number).ok_or(NOT_WHOLE)).transpose()
}

/// Adds to a key's value, atomically at the store. What is not there is zero.
pub(crate) async fn add(session: &LoadedSession<'_>, key: &str, n: i64) -> Result<Number, Failure> {
    let plus_n = |old: Option<Number>| {
        let old = old.map_or(Some(0), |old| value(&old)).ok_or(NOT_WHOLE)?;
        let sum = number(old + i128::from(n));
        sum.map(Some).ok_or(Failure::conflict("the sum is out of range"))
    };
    Ok(session.try_update(key, plus_n).await?.expect("the closure answers a number"))
}

/// The value, if it is a whole number from the lowest `i64` to the highest `u64`.
fn value(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// The number, if the value is in one of the two ranges.
fn number(value: i128) -> Option<Number> {
    i64::try_from(value).map(Number::from).or_else(|_| u64::try_from(value).map(Number::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ranges_are_exact_to_their_ends() {
        for whole in [i128::from(i64::MIN), -1, 0, i128::from(i64::MAX) + 1, i128::from(u64::MAX)] {
            assert_eq!(number(whole).as_ref().and_then(value), Some(whole));
        }
        assert_eq!(number(i128::from(u64::MAX) + 1), None);
        assert_eq!(number(i128::from(i64::MIN) - 1), None);
        assert_eq!(value(&Number::from_f64(3.0).expect("is finite")), None);
    }
}
