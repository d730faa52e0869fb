//! The table: made, found, refused, and small.

use session_core::provider::{ExpiryChange, Provider as _, Touch};
use session_core::{Error, Timestamp};
use session_sql::postgres::schema;
use session_sql::sqlx::Row as _;

use crate::sample::{NOW, Stored, hex, set};
use crate::server::{Server, with_options};

/// Makes a role that may use tables and make none; returns the source string of a provider that logs in as it.
fn restricted(server: &Server) -> (String, String) {
    let role = format!("{}_role", server.table);
    server.query(&format!("CREATE ROLE {role} LOGIN PASSWORD 'hunter2'"));
    let uri = crate::server::uri();
    let (scheme, rest) = uri.split_once("://").unwrap();
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let uri = format!("{scheme}://{role}:hunter2@{host}");
    (with_options(&uri, &format!("table={}", server.table)), role)
}

#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn who_may_not_make_the_table_uses_one_that_was_made_by_hand() {
    let server = Server::new();
    let (source, role) = restricted(&server);
    server.query("REVOKE CREATE ON SCHEMA public FROM public");
    let open = || {
        let config = session_sql::postgres::PostgresConfig::parse(&source).unwrap();
        session_sql::postgres::PostgresProvider::new(config).unwrap()
    };
    let provider = open();
    let counted = server.block_on(provider.count(NOW));
    let Err(Error::Config(message)) = counted else { panic!("{counted:?}") };
    assert!(message.contains("schema()") && message.contains(&server.table), "{message}");
    server.query(&schema(&server.table.parse().unwrap()));
    let counted = server.block_on(provider.count(NOW));
    let Err(Error::Config(message)) = counted else { panic!("{counted:?}") };
    assert!(message.contains("grant") && message.contains(&server.table), "{message}");
    server.query(&format!("GRANT SELECT, INSERT, UPDATE, DELETE ON @ TO {role}"));
    server.query(&format!("GRANT SELECT ON @_version TO {role}"));
    // The same provider, as soon as the table is there.
    let stored = server.block_on(Stored::new(&provider, 1));
    server.block_on(stored.save(&provider, &set("a", &[1]))).unwrap();
    provider.purge(NOW, 5).unwrap();
    server.query(&format!("DROP OWNED BY {role}"));
    server.query(&format!("DROP ROLE {role}"));
}

#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn another_table_or_version_is_refused_and_left_alone() {
    let server = Server::new();
    server.query("CREATE TABLE @ (id text)");
    let provider = server.provider("");
    let counted = server.block_on(provider.count(NOW));
    let Err(Error::Config(message)) = counted else { panic!("{counted:?}") };
    assert!(message.contains("option `table`"), "{message}");
    server.query("INSERT INTO @ VALUES ('theirs')");
    server.query("DROP TABLE @");

    let provider = server.provider("");
    server.block_on(provider.count(NOW)).unwrap();
    server.query("UPDATE @_version SET version = 99");
    let counted = server.block_on(server.provider("").count(NOW));
    let Err(Error::Config(message)) = counted else { panic!("{counted:?}") };
    assert!(message.contains("newer"), "{message}");
}

/// After both tables were dropped, the next operation creates them. If only one is missing, the error says so.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn tables_that_were_dropped_are_made_anew() {
    let server = Server::new();
    let provider = server.provider("");
    let stored = server.block_on(Stored::new(&*provider, 1));
    server.query("DROP TABLE @");
    for provider in [&provider, &server.provider("")] {
        let loaded = server.block_on(stored.load(&**provider));
        let Err(Error::Config(message)) = loaded else { panic!("{loaded:?}") };
        assert!(message.contains("restore") && message.contains("_version"), "{message}");
    }
    server.query("DROP TABLE @_version");
    assert_eq!(server.block_on(stored.load(&*provider)).unwrap(), None);
    server.query("DROP TABLE @, @_version");
    let stored = server.block_on(Stored::new(&*provider, 1));
    server.block_on(stored.save(&*provider, &set("a", &[1]))).unwrap();
}

/// A table of another program that has the name of the table of versions.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_version_of_another_program_is_refused() {
    for columns in ["id text", "version text", "version bigint", "version integer"] {
        let server = Server::new();
        server.query(&format!("CREATE TABLE @ (id text); CREATE TABLE @_version ({columns})"));
        let counted = server.block_on(server.provider("").count(NOW));
        let Err(Error::Config(message)) = counted else { panic!("{columns}: {counted:?}") };
        assert!(message.contains("option `table`"), "{message}");
    }
}

/// Of many processes that begin at the same time, each finds the table.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_table_is_made_once() {
    for schema in [None, Some("Other")] {
        let server = Server::new();
        let table =
            schema.map_or(server.table.clone(), |schema| format!("{schema}.{}", server.table));
        if schema.is_some() {
            server.query("CREATE SCHEMA IF NOT EXISTS \"Other\"");
        }
        let providers: Vec<_> = (0..8)
            .map(|_| {
                let mut config = server.config("");
                config.table = table.parse().unwrap();
                session_sql::postgres::PostgresProvider::new(config).unwrap()
            })
            .collect();
        std::thread::scope(|scope| {
            for provider in &providers {
                scope.spawn(|| futures_lite::future::block_on(provider.count(NOW)).unwrap());
            }
        });
        if schema.is_some() {
            server.query("DROP SCHEMA \"Other\" CASCADE");
        }
    }
}

/// Touches and saves of values leave the row in its page, and the indexes alone.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn most_updates_change_no_index() {
    let server = Server::new();
    let provider = server.provider("max_connections=1");
    let stored = server.block_on(Stored::new(&*provider, 20));
    let (minute, updates) = (60_000, 60);
    server.block_on(async {
        for number in 0..updates {
            let now = Timestamp::from_millis(NOW.as_millis() + number * minute);
            let expires = Timestamp::from_millis(now.as_millis() + 60 * minute);
            let touch = Touch { used: now, expires };
            provider.touch(&stored.token, touch, now).await.unwrap();
            let changes = set("a", &number.to_le_bytes());
            let changes = changes.with_expiry(ExpiryChange::Extend(touch));
            provider.save(&stored.token, &stored.holder, &changes, now).await.unwrap();
        }
    });
    // A connection reports when it ends.
    drop(provider);
    let counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = '@'";
    let counted = (0..200).find_map(|_| {
        let row = server.query(counted).pop()?;
        let (all, hot): (i64, i64) = (row.get(0), row.get(1));
        (all == 2 * updates as i64).then_some(hot)
    });
    // Once in an eighth of an hour, `due` moves; and some pages are full.
    let hot = counted.expect("the server counts");
    assert!(hot >= 100, "{hot} of {} stayed", 2 * updates);
}

/// Sessions of others wait for no collection, nor it for them.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn collection_passes_over_rows_that_are_being_changed() {
    let server = Server::new();
    let provider = server.provider("");
    let later = Timestamp::from_millis(NOW.as_millis() + 3 * 3_600_000);
    let (held, free) = server
        .block_on(async { (Stored::new(&*provider, 1).await, Stored::new(&*provider, 1).await) });
    let lock = format!("SELECT 1 FROM @ WHERE key = '{}' FOR UPDATE", hex(&held.id.key()));
    server.locking(&lock, || {
        let purged = provider.purge(later, 10).unwrap();
        assert_eq!((purged.removed, purged.more), (1, false));
    });
    assert_eq!(server.block_on(free.load(&*provider)).unwrap(), None);
    assert!(server.block_on(held.load(&*provider)).unwrap().is_some());
    assert_eq!(provider.purge(later, 10).unwrap().removed, 1);
}
