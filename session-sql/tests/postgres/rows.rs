//! Rows that somebody else wrote, and texts that would be statements.

use session_core::provider::{Login, Page, Provider as _, Record, Touch, Verifier};
use session_core::{Error, SessionId};
use session_sql::sqlx::Row as _;

use crate::sample::{EXPIRES, NOW, Stored, record, set};
use crate::server::Server;

const TOUCH: Touch = Touch { used: NOW, expires: EXPIRES };

/// A damaged row is unreadable, can't be changed, is in no list, and can be destroyed.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_damaged_row_is_no_session() {
    let server = Server::new();
    let provider = server.provider("");
    for (damage, is_changed) in [
        ("holder = '\\x00'", false),
        ("owner = 'ada'", false),
        ("authenticated = 5", false),
        ("label = 'x'", false),
        ("owner = '\\xff', authenticated = 5, label = 'x'", true),
        ("cookie = -1", false),
        ("cookie = 4294967296", false),
        ("size = 2147483647", false),
        ("size = -1", false),
        ("size = 5", true),
        ("names = '{}'", false),
        ("data = '{}'", false),
        ("names = names || 'x'::bytea", false),
        ("names = array['\\xff'::bytea, 'b'], data = array['a'::bytea, 'b']", true),
        ("names = array['a'::bytea, 'a'], data = array['a'::bytea, 'b']", true),
        ("names = array[null::bytea, 'b'], data = array['a'::bytea, 'b']", false),
        ("names = array['a'::bytea, 'b'], data = array['a'::bytea, null]", false),
        (
            "names = array[array['a'::bytea], array['b'::bytea]], data = array[array['a'::bytea], array['b'::bytea]]",
            false,
        ),
        (
            "data = array[convert_to(repeat('x', 140000000), 'UTF8')], names = array['a'::bytea]",
            false,
        ),
    ] {
        let stored = server.block_on(Stored::new(&*provider, 1));
        server.query(&format!("UPDATE @ SET {damage}"));
        server.block_on(async {
            let loaded = stored.load(&*provider).await;
            assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{damage}: {loaded:?}");
            // Nothing is changed that the statement can tell to be damaged.
            if !is_changed {
                let saved = stored.save(&*provider, &set("a", &[1])).await;
                assert!(matches!(saved, Err(Error::Gone)), "{damage}: {saved:?}");
                let touched = provider.touch(&stored.token, TOUCH, NOW).await;
                assert!(matches!(touched, Err(Error::Gone)), "{damage}: {touched:?}");
            }
            for owner in ["ada", "\\xff"] {
                let listed = provider.list(owner, Page { after: None, limit: 5 }, NOW).await;
                assert!(listed.unwrap().sessions.is_empty(), "{damage}");
            }
            provider.destroy(&stored.id.key(), EXPIRES, NOW).await.unwrap();
            assert_eq!(stored.load(&*provider).await.unwrap(), None);
        });
        assert_eq!(server.query("SELECT count(*) FROM @")[0].get::<i64, _>(0), 0, "{damage}");
    }
}

/// Columns of other types, and what else others add to the table.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn columns_of_other_types_are_unreadable_and_other_columns_nobodys() {
    let server = Server::new();
    let provider = server.provider("");
    let stored = server.block_on(Stored::new(&*provider, 1));
    server.block_on(stored.load(&*provider)).unwrap().unwrap();
    server.query("ALTER TABLE @ ADD COLUMN more text, ADD CONSTRAINT other CHECK (size < 10000)");
    server.block_on(stored.save(&*provider, &set("a", &[1]))).unwrap();
    server.block_on(stored.load(&*provider)).unwrap().unwrap();
    server.query("ALTER TABLE @ ALTER COLUMN cookie TYPE text");
    let loaded = server.block_on(stored.load(&*provider));
    assert!(matches!(loaded, Err(Error::Unreadable { .. })), "{loaded:?}");
}

/// No text of a session is a part of a statement.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn texts_are_no_statements() {
    let server = Server::new();
    let provider = server.provider("");
    for text in [
        format!("'; DROP TABLE {}; --", server.table),
        "$1".into(),
        "\\'; --".into(),
        "{\"a\",NULL}".into(),
        "NULL".into(),
        "') ON CONFLICT DO NOTHING; --".into(),
        "\\x41".into(),
        "a\0b'\"".into(),
    ] {
        server.block_on(async {
            let id = SessionId::generate().unwrap();
            let holder = Verifier::digest(&id, "");
            let login = Login { owner: text.clone().into(), at: NOW, label: text.clone().into() };
            let mut wanted = Record { login: Some(Box::new(login)), ..record(holder, 0) };
            wanted.values = [(&text, text.as_bytes())].into_iter().collect();
            provider.create(&id, wanted.clone(), NOW).await.unwrap();
            let token = id.into();
            assert_eq!(provider.load(&token, NOW).await.unwrap(), Some(wanted.clone()), "{text:?}");
            let changes = set(&text, b"new").expecting(&text, Some(text.as_bytes()));
            provider.save(&token, &holder, &changes, NOW).await.unwrap();
            let mut two = set(&text, text.as_bytes());
            two.set("other", [1]);
            let two = two.expecting(&text, Some(b"new")).expecting("other", None);
            provider.save(&token, &holder, &two, NOW).await.unwrap();
            let loaded = provider.load(&token, NOW).await.unwrap().unwrap();
            assert_eq!(loaded.values.get(&text), Some(text.as_bytes()), "{text:?}");
            let listed = provider.list(&text, Page { after: None, limit: 5 }, NOW).await.unwrap();
            assert_eq!(listed.sessions.len(), 1, "{text:?}");
            provider.destroy(&id.key(), EXPIRES, NOW).await.unwrap();
        });
    }
}

/// Functions for `bytea` arrays that another user has created in a schema of the `search_path` are not called, although
/// PostgreSQL prefers them to its own for arrays of any type.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn functions_of_other_users_are_not_called() {
    let server = Server::new();
    let made = "CREATE FUNCTION @_other.$ RETURNS integer LANGUAGE plpgsql \
         AS 'BEGIN RAISE EXCEPTION ''called''; END'";
    server.query("CREATE SCHEMA @_other");
    for function in [
        "array_position(bytea[], bytea)",
        "cardinality(bytea[])",
        "array_ndims(bytea[])",
        "array_lower(bytea[], integer)",
        "array_agg(bytea)",
        "unnest(bytea[])",
        "unnest(bytea[], bytea[])",
        "pg_column_size(bytea[])",
        "octet_length(bytea)",
        "sum(integer)",
        "to_regclass(text)",
    ] {
        server.query(&made.replace('$', function));
    }
    let path = format!("set=search_path:public,{}_other", server.table);
    let provider = server.provider(&path);
    server.block_on(async {
        let stored = Stored::new(&*provider, 2).await;
        let one = set("a", &[1]).expecting("a", None);
        stored.save(&*provider, &one).await.unwrap();
        let mut several = set("a", &[2]).expecting("a", Some(&[1])).expecting("c", None);
        several.set("b", [3]);
        several.delete("key0");
        stored.save(&*provider, &several).await.unwrap();
        provider.touch(&stored.token, TOUCH, NOW).await.unwrap();
        let loaded = stored.load(&*provider).await.unwrap().unwrap();
        assert_eq!(loaded.values.len(), 3);
        provider.list("ada", Page { after: None, limit: 5 }, NOW).await.unwrap();
        assert_eq!(provider.count(NOW).await.unwrap(), 1);
    });
    assert_eq!(provider.purge(EXPIRES, 5).unwrap().removed, 1);
    server.query("DROP SCHEMA @_other CASCADE");
}
