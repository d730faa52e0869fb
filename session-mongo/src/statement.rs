//! What is sent to the server: filters, and changes in MongoDB's terms.

use mongodb::bson::{Bson, Document, doc};
use session_core::{Changes, ExpiryChange, SessionId, Timestamp};

use crate::document::{CREATED, CURRENT, EXPIRES, KEY, OWNER, VALUES, VERSION, binary, date, key};
use crate::field;

/// The document of a session, in whatever state.
///
/// That the key is binary goes without saying. It is said because planners that know MongoDB's
/// operators but not its statistics (DocumentDB's) take a lone equality on a unique index for one
/// that many documents have, and read them all in the order of `_id` to find the first.
pub(crate) fn of(id: &SessionId) -> Document {
    doc! { KEY: { "$eq": key(id), "$type": "binData" } }
}

/// The document of a session if it is live and of a form that can be changed; the types are asked
/// for so that a damaged one is as good as gone.
///
/// The expiry's condition is turned around, so that no planner takes it for a reason to go through
/// all that is live by the index on `expires`.
pub(crate) fn live(id: &SessionId, now: Timestamp) -> Document {
    doc! {
        KEY: key(id),
        VERSION: CURRENT,
        CREATED: { "$type": "date" },
        VALUES: { "$type": "object" },
        "$nor": [{ EXPIRES: { "$lte": date(now) } }, { EXPIRES: { "$not": { "$type": "date" } } }],
    }
}

/// The document that [`live`] finds, if a save's condition holds.
pub(crate) fn expected(id: &SessionId, changes: &Changes, now: Timestamp) -> Document {
    let mut filter = live(id, now);
    if let Some(expected) = &changes.expected {
        let condition = match &expected.value {
            Some(value) => Bson::Binary(binary(value)),
            None => Bson::Document(doc! { "$exists": false }),
        };
        filter.insert(path(&expected.key), condition);
    }
    filter
}

/// The document of a session that expired.
pub(crate) fn expired(id: &SessionId, now: Timestamp) -> Document {
    let mut filter = of(id);
    filter.insert(EXPIRES, doc! { "$lte": date(now) });
    filter
}

/// All documents of expired sessions.
pub(crate) fn all_expired(now: Timestamp) -> Document {
    doc! { EXPIRES: { "$lte": date(now), "$type": "date" } }
}

/// All documents of live sessions.
pub(crate) fn all_live(now: Timestamp) -> Document {
    doc! { EXPIRES: { "$gt": date(now) } }
}

/// A save as one update: the changed keys and nothing else.
pub(crate) fn save(changes: &Changes) -> Document {
    let mut set = Document::new();
    let mut unset = Document::new();
    let mut update = Document::new();
    for (key, value) in changes.iter() {
        match value {
            Some(value) => set.insert(path(key), binary(value)),
            None => unset.insert(path(key), ""),
        };
    }
    match &changes.owner {
        Some(Some(owner)) => _ = set.insert(OWNER, &**owner),
        Some(None) => _ = unset.insert(OWNER, ""),
        None => {}
    }
    match changes.expiry {
        ExpiryChange::Keep => {}
        ExpiryChange::Extend(expires) => _ = update.insert("$max", doc! { EXPIRES: date(expires) }),
        ExpiryChange::Set(expires) => _ = set.insert(EXPIRES, date(expires)),
    }
    if set.is_empty() && unset.is_empty() && update.is_empty() {
        // There has to be something; the filter says that this is so already.
        set.insert(VERSION, CURRENT);
    }
    for (operator, fields) in [("$set", set), ("$unset", unset)] {
        if !fields.is_empty() {
            update.insert(operator, fields);
        }
    }
    update
}

/// A touch as an update: a late one after a newer one changes nothing.
pub(crate) fn touch(expires: Timestamp) -> Document {
    doc! { "$max": { EXPIRES: date(expires) } }
}

/// A rename as an update.
pub(crate) fn rename(new_id: &SessionId) -> Document {
    doc! { "$set": { KEY: key(new_id) } }
}

fn path(key: &str) -> String {
    format!("{VALUES}.{}", field::name(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_save_names_the_changed_keys_and_nothing_else() {
        let mut changes = Changes::new();
        changes.set("a.b", [1]);
        changes.delete("");
        changes.owner = Some(None);
        changes.expiry = ExpiryChange::Extend(at(7));
        assert_eq!(
            save(&changes),
            doc! {
                "$max": { "expires": date(at(7)) },
                "$set": { "values.a%2Eb": binary(&[1]) },
                "$unset": { "values.%": "", "owner": "" },
            }
        );
    }

    #[test]
    fn a_lifetime_that_was_changed_is_set_outright() {
        let changes = Changes::new().with_expiry(ExpiryChange::Set(at(7)));
        assert_eq!(save(&changes), doc! { "$set": { "expires": date(at(7)) } });
    }

    /// MongoDB takes no empty update, and an empty replacement would be the end of the record.
    #[test]
    fn no_change_is_an_update_still() {
        assert_eq!(save(&Changes::new()), doc! { "$set": { "v": 1 } });
    }

    #[test]
    fn a_condition_is_on_the_stored_value_of_its_key() {
        let id = SessionId::from_bytes([7; 32]);
        let filter = expected(&id, &Changes::new().expecting("$k", Some(&[1])), at(5));
        assert_eq!(filter.get("values.%24k"), Some(&Bson::Binary(binary(&[1]))));
        let filter = expected(&id, &Changes::new().expecting("$k", None), at(5));
        assert_eq!(filter.get("values.%24k"), Some(&Bson::Document(doc! { "$exists": false })));
        assert_eq!(expected(&id, &Changes::new(), at(5)), live(&id, at(5)));
    }

    #[test]
    fn no_id_is_in_a_statement() {
        let id = SessionId::from_bytes([7; 32]);
        for statement in [of(&id), live(&id, at(5)), expired(&id, at(5)), rename(&id)] {
            let bytes = statement.to_vec().unwrap();
            assert!(bytes.windows(32).any(|window| window == id.digest()));
            assert!(!bytes.windows(4).any(|window| window == [7; 4]));
        }
    }
}
