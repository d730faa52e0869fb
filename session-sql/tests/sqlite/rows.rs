//! Rows that somebody else wrote, and texts that would be statements.

use session_core::provider::{Changes, Login, Page, Provider as _, Record, Touch, Verifier};
use session_core::{Error, SessionId};
use session_sql::sqlx::Row as _;

use crate::scratch::{EXPIRES, NOW, Scratch};

/// A damaged row is unreadable, can't be changed, is in no list, and can be destroyed.
#[test]
fn a_damaged_row_is_no_session() {
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    for damage in [
        "holder = x'00'",
        "owner = x'616461'",
        "authenticated = 5",
        "label = x'00'",
        "owner = x'ff', authenticated = 5, label = x'00'",
        "cookie = -1",
        "cookie = 4294967296",
        "data = x''",
        "data = x'8000'",
        "data = x'81a161'",
        "data = x'dfffffffff'",
        "data = zeroblob(140000000)",
    ] {
        let id = SessionId::generate().unwrap();
        let (token, holder) = (id.into(), Verifier::digest(&id, ""));
        scratch.block_on(provider.create(&id, Record::new(holder, NOW, EXPIRES), NOW)).unwrap();
        scratch.query(&format!("UPDATE sessions SET {damage}"));
        scratch.block_on(async {
            let loaded = provider.load(&token, NOW).await;
            assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{damage}: {loaded:?}");
            let saved = provider.save(&token, &holder, &Changes::new(), NOW).await;
            assert!(matches!(saved, Err(Error::Gone)), "{damage}: {saved:?}");
            let touch = Touch { used: NOW, expires: EXPIRES };
            let touched = provider.touch(&token, touch, NOW).await;
            assert!(matches!(touched, Err(Error::Gone)), "{damage}: {touched:?}");
            let listed = provider.list("ada", Page { after: None, limit: 5 }, NOW).await;
            assert!(listed.unwrap().sessions.is_empty(), "{damage}");
            provider.destroy(&id.key(), EXPIRES, NOW).await.unwrap();
            assert_eq!(provider.load(&token, NOW).await.unwrap(), None);
        });
        let left: i64 = scratch.query("SELECT count(*) FROM sessions")[0].get(0);
        assert_eq!(left, 0, "{damage}");
    }
}

/// No text of a session is a part of a statement.
#[test]
fn texts_are_no_statements() {
    let scratch = Scratch::in_memory();
    let provider = scratch.open();
    for text in ["'; DROP TABLE sessions; --", "?1", "\"", "a\0b'\"", "x'41'", "NULL"] {
        scratch.block_on(async {
            let id = SessionId::generate().unwrap();
            let (token, holder) = (id.into(), Verifier::digest(&id, ""));
            let login = Login { owner: text.into(), at: NOW, label: text.into() };
            let values = [(text, text.as_bytes())].into_iter().collect();
            let record = Record {
                login: Some(Box::new(login)),
                values,
                ..Record::new(holder, NOW, EXPIRES)
            };
            provider.create(&id, record.clone(), NOW).await.unwrap();
            assert_eq!(provider.load(&token, NOW).await.unwrap(), Some(record), "{text:?}");
            let listed = provider.list(text, Page { after: None, limit: 5 }, NOW).await.unwrap();
            assert_eq!(listed.sessions.len(), 1, "{text:?}");
        });
    }
}
