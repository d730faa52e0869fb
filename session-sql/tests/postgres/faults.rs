//! What a session's operations say when the server, or the way to it, fails.

use std::error::Error as _;
use std::time::{Duration, Instant};

use session_core::provider::{Provider as _, Record, Touch};
use session_core::{Error, SessionId, Timestamp};
use session_sql::postgres::{PostgresConfig, PostgresProvider};
use session_sql::sqlx::Row as _;

use crate::proxy::Way;
use crate::sample::{EXPIRES, NOW, Stored, record, set, with_secret};
use crate::server::{Server, pooler_uri};

const LATER: Timestamp = Timestamp::from_millis(1_800_007_200_123);
const TOUCH: Touch = Touch { used: NOW, expires: EXPIRES };

/// A server that is not there, that does not answer, and one that closes connections at once.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_dead_server_is_unavailable_within_the_limit_and_found_again() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "operation_timeout=500ms");
    let stored = server.block_on(Stored::new(&*provider, 1));
    for way in [Way::Closed, Way::Frozen] {
        proxy.set(way);
        proxy.cut();
        let begun = Instant::now();
        let loaded = server.block_on(stored.load(&*provider));
        assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{way:?}: {loaded:?}");
        // There is no connection for a save either, so that nothing is sent.
        let saved = server.block_on(stored.save(&*provider, &set("a", &[1])));
        assert!(matches!(saved, Err(Error::Unavailable { .. })), "{way:?}: {saved:?}");
        let purged = provider.purge(NOW, 10);
        assert!(matches!(purged, Err(Error::Unavailable { .. })), "{way:?}: {purged:?}");
        assert!(begun.elapsed() < Duration::from_secs(3), "{way:?}: {:?}", begun.elapsed());
        proxy.set(Way::Open);
        server.block_on(stored.load(&*provider)).expect("it is up again").expect("and has it");
    }
}

/// A write whose answer doesn't come, on a connection that is up.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn an_answer_that_does_not_come_leaves_a_doubt() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "operation_timeout=500ms");
    server.block_on(async {
        let stored = Stored::new(&*provider, 1).await;
        stored.save(&*provider, &set("a", &[0])).await.unwrap();
        proxy.set(Way::Frozen);
        let begun = Instant::now();
        let saved = stored.save(&*provider, &set("a", &[1])).await;
        assert!(matches!(saved, Err(Error::InDoubt { .. })), "{saved:?}");
        assert!(begun.elapsed() < Duration::from_secs(2));
        proxy.set(Way::Open);
        let loaded = stored.load(&*provider).await.unwrap().unwrap();
        assert_eq!(loaded.values.get("a"), Some(&[1][..]), "it had arrived");
    });
}

/// What does no harm twice is sent again: everything but a save that changes values alone.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_lost_answer_is_asked_for_again_where_that_does_no_harm() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "");
    let provider = &*provider;
    server.block_on(async {
        let stored = Stored::new(provider, 1).await;
        let lose = || proxy.set(Way::LosesOneAnswer);

        lose();
        stored.load(provider).await.unwrap().unwrap();
        lose();
        provider.touch(&stored.token, TOUCH, NOW).await.unwrap();

        let id = SessionId::generate().unwrap();
        lose();
        provider.create(&id, record(stored.holder, 1), NOW).await.unwrap();
        let again = provider.create(&id, record(stored.holder, 1), NOW).await;
        assert!(matches!(again, Err(Error::Exists)), "{again:?}");
        lose();
        provider.destroy(&id.key(), EXPIRES, NOW).await.unwrap();
        assert_eq!(provider.count(NOW).await.unwrap(), 1);

        lose();
        let saved = stored.save(provider, &set("a", &[1])).await;
        assert!(matches!(saved, Err(Error::InDoubt { .. })), "{saved:?}");
        assert_eq!(stored.load(provider).await.unwrap().unwrap().values.get("a"), Some(&[1][..]));

        // The conditions of a save hold no more once it is applied.
        let (changes, holder) = with_secret(set("a", &[2]).expecting("a", Some(&[1])), stored.id);
        lose();
        stored.save(provider, &changes).await.unwrap();
        let loaded = stored.load(provider).await.unwrap().unwrap();
        assert_eq!((loaded.holder, loaded.values.get("a")), (holder, Some(&[2][..])));
    });
}

/// A transaction that fails before its commit had no effect, so any save can be sent again.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn an_answer_that_is_lost_before_the_commit_leaves_no_doubt() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "pooler=true");
    server.block_on(async {
        let stored = Stored::new(&*provider, 1).await;
        proxy.set(Way::LosesOneAnswer);
        stored.save(&*provider, &set("a", &[1]).expecting("a", None)).await.unwrap();
        assert_eq!(proxy.traffic().connections, 2);
        let loaded = stored.load(&*provider).await.unwrap().unwrap();
        assert_eq!(loaded.values.get("a"), Some(&[1][..]));
    });
}

/// Connections that broke are replaced, one and all.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn the_pool_heals() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "max_connections=4");
    let stored = server.block_on(Stored::new(&*provider, 1));
    let crowd = || {
        std::thread::scope(|scope| {
            let load = || futures_lite::future::block_on(stored.load(&*provider));
            let loads: Vec<_> = (0..8).map(|_| scope.spawn(load)).collect();
            for load in loads {
                load.join().unwrap().expect("loading works").expect("and finds it");
            }
        });
    };
    for _ in 0..5 {
        crowd();
        proxy.cut();
    }
    crowd();
    server.query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'session-sql'");
    crowd();
    assert!(proxy.traffic().connections >= 6);
}

/// Whatever the server's default isolation is: what was taken back is sent again.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn serialization_failures_are_nobodys_concern() {
    let server = Server::new();
    let options = "operation_timeout=30s&set=default_transaction_isolation:serializable";
    let provider = server.provider(options);
    let stored = server.block_on(Stored::new(&*provider, 1));
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (stored, provider) = (&stored, &*provider);
            scope.spawn(move || {
                for number in 0..10 {
                    let changes = set(&format!("{thread}.{number}"), &[1]);
                    futures_lite::future::block_on(stored.save(provider, &changes)).unwrap();
                }
            });
        }
    });
    let loaded = server.block_on(stored.load(&*provider)).unwrap().unwrap();
    assert_eq!(loaded.values.len(), 61);
}

/// What a request began is completed without it, on the connection that it began on.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_dropped_request_costs_no_connection() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "max_connections=1");
    let stored = server.block_on(Stored::new(&*provider, 1));
    for number in 0..60_u8 {
        let changes = set("a", &[number]);
        let save = stored.save(&*provider, &changes);
        let begun = futures_lite::future::block_on(futures_lite::future::poll_once(save));
        assert!(begun.is_none_or(|saved| saved.is_ok()));
        // It is in the queue for the only connection behind the save.
        let loaded = server.block_on(stored.load(&*provider)).unwrap().unwrap();
        let arrived = loaded.values.get("a") == Some(&[number])
            || (0..1000).any(|_| {
                let loaded = server.block_on(stored.load(&*provider)).unwrap().unwrap();
                loaded.values.get("a") == Some(&[number])
            });
        assert!(arrived, "save {number}");
    }
    assert_eq!(proxy.traffic().connections, 1);
}

/// No error shows a password, what is stored, or the statement.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn no_error_shows_a_secret() {
    let shown = |error: &Error| {
        let source = error.source().map(|source| format!("{source} {source:?}"));
        format!("{error} {error:?} {source:?}")
    };
    let server = Server::new();
    let dead = "postgres://ada:hunter2@127.0.0.1:1/shop?operation_timeout=300ms";
    let dead = PostgresProvider::new(PostgresConfig::parse(dead).unwrap()).unwrap();
    let id = SessionId::generate().unwrap();
    let error = server.block_on(dead.load(&id.into(), NOW)).unwrap_err();
    let text = shown(&error);
    assert!(matches!(error, Error::Unavailable { .. }), "{text}");
    let text = format!("{dead:?} {text}");
    assert!(!text.contains("hunter2") && !text.contains("ada"), "{text}");

    let provider = server.provider("");
    let stored = server.block_on(Stored::new(&*provider, 1));
    // The server's message quotes the row.
    server.query(
        "CREATE FUNCTION @_refuse() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN RAISE EXCEPTION ''no to %'', NEW; END'",
    );
    server.query("CREATE TRIGGER refuse BEFORE UPDATE ON @ EXECUTE FUNCTION @_refuse()");
    let changes = set("hunter2", b"hunter2");
    let error = server.block_on(stored.save(&*provider, &changes)).unwrap_err();
    let text = shown(&error);
    assert!(matches!(error, Error::Unavailable { .. }), "{text}");
    assert!(text.contains("P0001") && !text.contains("hunter2"), "{text}");
    server.query("DROP FUNCTION @_refuse() CASCADE");
    server.block_on(stored.save(&*provider, &changes)).unwrap();
}

/// An attempt that may have been applied already leaves what was saved since.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_create_that_is_sent_again_undoes_no_save() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "");
    server.block_on(async {
        let stored = Stored::new(&*provider, 1).await;
        stored.save(&*provider, &set("a", &[1])).await.unwrap();
        proxy.set(Way::LosesOneAnswer);
        provider.create(&stored.id, record(stored.holder, 1), NOW).await.unwrap();
        let loaded = stored.load(&*provider).await.unwrap().unwrap();
        assert_eq!(loaded.values.get("a"), Some(&[1][..]));
        // Where it expired meanwhile, there is nothing to keep.
        let record = Record::new(stored.holder, EXPIRES, LATER);
        proxy.set(Way::LosesOneAnswer);
        provider.create(&stored.id, record.clone(), EXPIRES).await.unwrap();
        let loaded = provider.load(&stored.token, EXPIRES).await.unwrap();
        assert_eq!(loaded, Some(record));
    });
}

/// A firewall drops idle connections without closing them. The first operation finds this out, and later ones don't
/// ping one dead connection after another.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn connections_that_died_in_silence_are_replaced_together() {
    let server = Server::new();
    let proxy = server.proxy();
    let provider = server.provider_through(proxy.address, "operation_timeout=1s");
    let stored = server.block_on(Stored::new(&*provider, 1));
    // Uses all connections at the same time.
    let lock = "LOCK TABLE @ IN ACCESS EXCLUSIVE MODE";
    std::thread::scope(|scope| {
        server.locking(lock, || {
            for _ in 0..10 {
                scope.spawn(|| futures_lite::future::block_on(stored.load(&*provider)));
            }
            while proxy.traffic().connections < 10 {
                std::thread::yield_now();
            }
        });
    });
    server.block_on(stored.load(&*provider)).unwrap().unwrap();
    proxy.forget();
    // On a connection that was used a moment ago.
    let loaded = server.block_on(stored.load(&*provider));
    assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    for _ in 0..10 {
        server.block_on(stored.load(&*provider)).expect("there is another").expect("it is there");
    }
}

/// Abandoned statements that wait for a lock must not use up the server's connections.
#[test]
#[ignore = "needs PgBouncer in front of a PostgreSQL server: run scripts/test"]
fn pooled_and_other_statements_end_with_their_operation() {
    for (server, pooler) in [(Server::new(), false), (Server::behind(pooler_uri()), true)] {
        let options = format!("max_connections=1&operation_timeout=200ms&pooler={pooler}");
        let provider = server.provider(&options);
        let stored = server.block_on(Stored::new(&*provider, 1));
        server.locking("LOCK TABLE @", || {
            for _ in 0..10 {
                let saved = server.block_on(stored.save(&*provider, &set("a", &[1])));
                assert!(
                    matches!(saved, Err(Error::InDoubt { .. } | Error::Unavailable { .. })),
                    "{saved:?}"
                );
            }
            // The last statement may still run, beside the one before it.
            let waiting = "SELECT count(*) FROM pg_stat_activity \
                 WHERE wait_event_type = 'Lock' AND query LIKE '%UPDATE%@%'";
            let waiting: i64 = server.query(waiting)[0].get(0);
            assert!(waiting <= 2, "{waiting} wait");
        });
        server.block_on(async {
            // An abandoned statement is not applied later.
            let loaded = stored.load(&*provider).await.unwrap().unwrap();
            assert_eq!(loaded.values.get("a"), None);
            stored.save(&*provider, &set("a", &[2])).await.unwrap();
        });
    }
}

/// A `statement_timeout` of the server or the user stays.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_shorter_limit_on_statements_is_kept_and_costs_no_connection() {
    for setting in ["statement_timeout:300", "lock_timeout:300"] {
        let server = Server::new();
        let proxy = server.proxy();
        let provider = server.provider_through(proxy.address, &format!("set={setting}"));
        // The table is created with a longer time limit.
        let stored = server.block_on(Stored::new(&*server.provider(""), 1));
        server.block_on(stored.load(&*provider)).unwrap().unwrap();
        server.locking("LOCK TABLE @", || {
            for _ in 0..3 {
                let begun = Instant::now();
                let saved = server.block_on(stored.save(&*provider, &set("a", &[1])));
                assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
                assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
            }
        });
        server.block_on(stored.save(&*provider, &set("a", &[1]))).unwrap();
        assert_eq!(proxy.traffic().connections, 1, "{setting}");
    }
}
