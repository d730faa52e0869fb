//! Whole numbers in the ranges of `i64` and `u64`, which JSON keeps exactly.

use serde_json::Number;
use session_core::LoadedSession;

use crate::reply::Failure;

const NOT_WHOLE: Failure = Failure::conflict("the stored value is not a whole number");

/// Returns a key's value as a whole number.
pub(crate) fn get(session: &LoadedSession, key: &str) -> Result<Option<i128>, Failure> {
    let number = session.get::<Number>(key)?;
    number.map(|number| value(&number).ok_or(NOT_WHOLE)).transpose()
}

/// Adds to a key's value, atomically in the store. A missing value counts as zero.
pub(crate) async fn add(session: &LoadedSession, key: &str, n: i64) -> Result<Number, Failure> {
    let mut refused = None;
    // Not `try_update`, which fails in a request that may store nothing: if a visitor's GET was
    // overtaken by the visitor's login, it should return a page, not an error. If `n` can't be added,
    // the value stays as it is.
    let plus_n = |old: Option<Number>| {
        refused = None;
        sum(old.as_ref(), n).unwrap_or_else(|failure| {
            refused = Some(failure);
            old.unwrap_or_else(|| 0.into())
        })
    };
    let number = session.update(key, plus_n).await?;
    refused.map_or(Ok(number), Err)
}

fn sum(old: Option<&Number>, n: i64) -> Result<Number, Failure> {
    let old = old.map_or(Some(0), value).ok_or(NOT_WHOLE)?;
    number(old + i128::from(n)).ok_or(Failure::conflict("the sum is out of range"))
}

/// Returns the value if it is a whole number from the lowest `i64` to the highest `u64`.
fn value(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Returns the number if the value is in one of the two ranges.
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
