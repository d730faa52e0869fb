//! The filters and updates that are sent to the server.

use mongodb::bson::{Bson, Document, doc};
use session_core::provider::{Changes, ExpiryChange, Touch, Verifier};
use session_core::{SessionKey, Timestamp};

use crate::document::{
    COOKIE, CREATED, CURRENT, EXPIRES, HOLDER, ID, LOGIN, OWNER, RENEWED, USED, VALUES, VERSION,
    binary, date, holder, id, login,
};
use crate::field;

/// Finds the document with a session's key, in whatever state.
pub(crate) fn by_key(key: &SessionKey) -> Document {
    doc! { ID: id(key) }
}

/// Finds a session's document if it is live and can be changed. The filter checks the fields' types, so
/// a damaged document is treated as gone.
pub(crate) fn live(key: &SessionKey, now: Timestamp) -> Document {
    doc! {
        ID: id(key),
        EXPIRES: { "$gt": date(now) },
        VERSION: CURRENT,
        CREATED: { "$type": "date" },
        RENEWED: { "$type": "date" },
        USED: { "$type": "date" },
        VALUES: { "$type": "object" },
    }
}

/// Finds the documents of an owner's sessions, in whatever state, whose keys are greater than `after`.
///
/// Only the index by owner serves this filter. A condition on `expires` would make pages skip expired
/// documents, and servers that combine indexes would read the index of all live sessions for it.
pub(crate) fn owned(owner: &str, after: Option<SessionKey>) -> Document {
    // MongoDB sorts Binaries by length first, so only keys are between these two.
    let (above, bound) = after.map_or(("$gte", SessionKey::MIN), |after| ("$gt", after));
    doc! { OWNER: owner, ID: { above: id(&bound), "$lte": id(&SessionKey::MAX) } }
}

/// Finds the document that [`live`] finds, if this verifier is its holder.
pub(crate) fn held(key: &SessionKey, by: &Verifier, now: Timestamp) -> Document {
    let mut filter = live(key, now);
    filter.insert(HOLDER, holder(by));
    filter
}

/// Finds the document that [`held`] finds, if the save's expected values match.
pub(crate) fn expected(mut held: Document, changes: &Changes) -> Document {
    let condition = |expected: &session_core::provider::Expected| {
        let condition = match &expected.value {
            Some(value) => Bson::Binary(binary(value)),
            None => Bson::Document(doc! { "$exists": false }),
        };
        (path(&expected.key), condition)
    };
    match &changes.expected[..] {
        [] => {}
        [only] => {
            let (path, condition) = condition(only);
            held.insert(path, condition);
        }
        // Two expectations may be on the same key.
        several => {
            let all: Vec<Document> =
                several.iter().map(condition).map(|(path, value)| doc! { path: value }).collect();
            held.insert("$and", all);
        }
    }
    held
}

/// Finds the document with a session's key if it is expired.
pub(crate) fn expired(key: &SessionKey, now: Timestamp) -> Document {
    let mut filter = by_key(key);
    filter.insert(EXPIRES, doc! { "$lte": date(now) });
    filter
}

/// Finds the document that an earlier attempt of a creation inserted. No other document has the same
/// secret.
pub(crate) fn created(key: &SessionKey, own: &Verifier) -> Document {
    let mut filter = by_key(key);
    filter.insert(HOLDER, holder(own));
    filter
}

/// Finds the documents of all expired sessions.
pub(crate) fn all_expired(now: Timestamp) -> Document {
    doc! { EXPIRES: { "$lte": date(now), "$type": "date" } }
}

/// Finds the documents of all live sessions.
pub(crate) fn all_live(now: Timestamp) -> Document {
    doc! { EXPIRES: { "$gt": date(now) } }
}

/// Returns a save as one update, which names only the changed keys, or all keys if they are replaced.
pub(crate) fn save(changes: &Changes) -> Document {
    let mut set = Document::new();
    let mut unset = Document::new();
    let mut max = Document::new();
    if changes.replace {
        let values = changes.iter().filter_map(|(key, value)| Some((key, value?)));
        let values: Document = values
            .map(|(key, value)| (field::name(key).into_owned(), Bson::Binary(binary(value))))
            .collect();
        set.insert(VALUES, values);
    } else {
        for (key, value) in changes.iter() {
            match value {
                Some(value) => set.insert(path(key), binary(value)),
                None => unset.insert(path(key), ""),
            };
        }
    }
    match &changes.login {
        Some(Some(new)) => _ = set.insert(LOGIN, login(new)),
        Some(None) => _ = unset.insert(LOGIN, ""),
        None => {}
    }
    if let Some(secret) = &changes.secret {
        set.insert(HOLDER, holder(&secret.holder));
        set.insert(RENEWED, date(secret.at));
    }
    if let Some(cookie) = changes.cookie {
        set.insert(COOKIE, i64::from(cookie));
    }
    match changes.expiry {
        ExpiryChange::Keep => {}
        ExpiryChange::Extend(times) => max = later(times),
        ExpiryChange::Set(times) => {
            max.insert(USED, date(times.used));
            set.insert(EXPIRES, date(times.expires));
        }
    }
    if set.is_empty() && unset.is_empty() && max.is_empty() {
        // An update must not be empty. The filter has checked that this field has this value.
        set.insert(VERSION, CURRENT);
    }
    let mut update = Document::new();
    for (operator, fields) in [("$set", set), ("$unset", unset), ("$max", max)] {
        if !fields.is_empty() {
            update.insert(operator, fields);
        }
    }
    update
}

/// Returns a touch as an update. A touch that arrives after a newer one changes nothing.
pub(crate) fn touch(times: Touch) -> Document {
    doc! { "$max": later(times) }
}

fn later(times: Touch) -> Document {
    doc! { USED: date(times.used), EXPIRES: date(times.expires) }
}

fn path(key: &str) -> String {
    format!("{VALUES}.{}", field::name(key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::SessionId;
    use session_core::provider::{Login, NewSecret};

    const KEY: SessionKey = SessionKey::from_bytes([7; 12]);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn times(used: u64, expires: u64) -> Touch {
        Touch { used: at(used), expires: at(expires) }
    }

    fn verifier(byte: u8) -> Verifier {
        Verifier::from_bytes([byte; 32])
    }

    #[test]
    fn a_save_names_the_changed_keys_and_nothing_else() {
        let mut changes = Changes::new();
        changes.set("a.b", [1]);
        changes.delete("");
        changes.login = Some(None);
        changes.expiry = ExpiryChange::Extend(times(5, 7));
        assert_eq!(
            save(&changes),
            doc! {
                "$set": { "values.a%2Eb": binary(&[1]) },
                "$unset": { "values.%": "", "login": "" },
                "$max": { "used": date(at(5)), "expires": date(at(7)) },
            }
        );
    }

    #[test]
    fn a_lifetime_that_was_changed_is_set_outright() {
        let changes = Changes::new().with_expiry(ExpiryChange::Set(times(5, 7)));
        let wanted = doc! { "$set": { "expires": date(at(7)) }, "$max": { "used": date(at(5)) } };
        assert_eq!(save(&changes), wanted);
    }

    /// The new secret and the new owner are stored at the same time.
    #[test]
    fn a_login_is_one_update() {
        let id = SessionId::from_bytes([7; 32]);
        let mut changes = Changes::new();
        changes.replace = true;
        changes.set("a.b", [1]);
        changes.delete("c");
        changes.login =
            Some(Some(Box::new(Login { owner: "ada".into(), at: at(3), label: "".into() })));
        changes.secret =
            Some(Box::new(NewSecret { token: id.into(), holder: verifier(2), at: at(4) }));
        changes.cookie = Some(u32::MAX);
        assert_eq!(
            save(&changes),
            doc! { "$set": {
                "values": { "a%2Eb": binary(&[1]) },
                "login": { "owner": "ada", "at": date(at(3)), "label": "" },
                "holder": binary(&[2; 32]),
                "renewed": date(at(4)),
                "cookie": i64::from(u32::MAX),
            } }
        );
    }

    /// MongoDB refuses an empty update, and an empty replacement would delete the record.
    #[test]
    fn no_change_is_an_update_still() {
        assert_eq!(save(&Changes::new()), doc! { "$set": { "v": 1 } });
    }

    #[test]
    fn conditions_are_on_the_stored_values_of_their_keys() {
        let filter = held(&KEY, &verifier(1), at(5));
        assert_eq!(filter.get("holder"), Some(&Bson::Binary(binary(&[1; 32]))));
        assert_eq!(expected(filter.clone(), &Changes::new()), filter);
        let changes = Changes::new().expecting("$k", Some(&[1]));
        let one = expected(filter.clone(), &changes);
        assert_eq!(one.get("values.%24k"), Some(&Bson::Binary(binary(&[1]))));
        let several = expected(filter, &changes.expecting("$k", None));
        let absent = Bson::Document(doc! { "$exists": false });
        assert_eq!(
            several.get_array("$and").unwrap(),
            &[
                Bson::Document(doc! { "values.%24k": binary(&[1]) }),
                Bson::Document(doc! { "values.%24k": absent }),
            ]
        );
    }
}
