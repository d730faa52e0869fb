//! Flash messages: shown once, usually after a redirect.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Limits, LoadedSession, key, value};

/// Flash messages, by category, in the order of their adding.
///
/// Adding and taking are atomic at the store: no message is lost or shown twice, whatever other
/// requests do. A category holds messages of one type.
impl LoadedSession<'_> {
    /// Adds a message to a category.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if the messages that nobody reads fill the session; and what
    /// [`update`](Self::update) answers.
    pub async fn add_flash<T>(&self, category: &str, message: &T) -> Result<(), Error>
    where
        T: Serialize + ?Sized + Sync,
    {
        let limits = self.limits_of_a_value();
        // One level is the list's own.
        let inner = Limits { depth: limits.depth - 1, ..limits };
        let message = value::encode(category, message, &inner)?;
        self.update_encoded(&key::flash(category), &mut |list| {
            Some(Some(append(list, &message).into()))
        })
        .await
    }

    /// Takes the messages of a category: they are gone from the session.
    ///
    /// # Errors
    /// [`Error::Decode`] if a message is not a `T`, in which case all stay; and what
    /// [`update`](Self::update) answers.
    pub async fn take_flash<T: DeserializeOwned + Send>(
        &self,
        category: &str,
    ) -> Result<Vec<T>, Error> {
        let stored = key::flash(category);
        if self.stored_value(&stored)?.is_none() {
            return Ok(Vec::new());
        }
        let limits = self.limits_of_a_value();
        let mut taken = Ok(Vec::new());
        self.update_encoded(&stored, &mut |list| {
            taken = list.map_or(Ok(Vec::new()), |list| value::decode(category, list, &limits));
            taken.is_ok().then_some(None)
        })
        .await?;
        taken
    }
}

/// A MessagePack array with one more element, already encoded. Anything that is no array starts
/// a new one.
fn append(list: Option<&[u8]>, element: &[u8]) -> Vec<u8> {
    let mut rest = list.unwrap_or_default();
    let count = rmp::decode::read_array_len(&mut rest).unwrap_or_else(|_| {
        rest = &[];
        0
    });
    let mut longer = Vec::with_capacity(rest.len() + element.len() + 5);
    rmp::encode::write_array_len(&mut longer, count.saturating_add(1)).expect("memory takes it");
    longer.extend(rest);
    longer.extend(element);
    longer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn appending_keeps_the_order_past_every_length_of_header() {
        let mut list = None;
        for n in 0..70_000u32 {
            let element = value::encode("", &n, &Limits::default()).unwrap();
            list = Some(append(list.as_deref(), &element));
            if n % 7919 != 0 && n > 20 {
                continue;
            }
            let numbers: Vec<u32> =
                value::decode("", list.as_ref().unwrap(), &Limits::default()).unwrap();
            assert!(numbers.into_iter().eq(0..=n));
        }
        assert_eq!(append(Some(&[0xa1, b'x']), &[7]), [0x91, 7]);
    }
}
