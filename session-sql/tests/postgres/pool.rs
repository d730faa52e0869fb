//! A pool that the application has already.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_core::provider::Provider;
use session_core::{Error, Manager};
use session_sql::postgres::{PostgresConfig, PostgresProvider};
use session_sql::sqlx::postgres::PgPoolOptions;

use crate::sample::{EXPIRES, NOW, Stored, set};
use crate::server::{Server, uri};

/// The provider uses the pool's connections, from whichever thread, and leaves them to the application.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_pool_can_be_handed_over() {
    let server = Server::new();
    let pool = server.block_on(async {
        PgPoolOptions::new().max_connections(1).connect(&uri()).await.expect("the server is there")
    });
    let config = PostgresConfig::of_table(server.table.parse().unwrap());
    let outside = PostgresProvider::with_pool(pool.clone(), config.clone());
    assert!(matches!(outside, Err(Error::Config(_))), "{outside:?}");
    let provider = server
        .block_on(async { PostgresProvider::with_pool(pool.clone(), config.clone()).unwrap() });
    let provider: Arc<dyn Provider> = Arc::new(provider);
    let stored = server.block_on(Stored::new(&*provider, 1));
    // Outside of the runtime, too, and on the timer thread.
    futures_lite::future::block_on(stored.save(&*provider, &set("a", &[1]))).unwrap();
    assert_eq!(provider.purge(EXPIRES, 5).unwrap().removed, 1);
    drop(provider);
    server.block_on(async {
        let one = session_sql::sqlx::query("SELECT 1").execute(&pool).await;
        assert_eq!(one.expect("the pool works still").rows_affected(), 1);
    });
    // A pool is needed, as nothing here says where the server is.
    let alone = PostgresProvider::new(config);
    assert!(matches!(alone, Err(Error::Config(_))), "{alone:?}");
}

/// The time limit is the provider's, whatever the pool's own is; and the pool may lead to a pooler.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn an_operation_on_a_pool_has_a_time_limit() {
    let server = Server::new();
    let limit = Duration::from_secs(1);
    let config = PostgresConfig::of_table(server.table.parse().unwrap());
    let config = config.with_operation_timeout(limit).with_pooler(true);
    let pool = server.block_on(async {
        PgPoolOptions::new().max_connections(1).connect(&uri()).await.expect("the server is there")
    });
    let provider =
        server.block_on(async { PostgresProvider::with_pool(pool.clone(), config).unwrap() });
    let stored = server.block_on(Stored::new(&provider, 1));
    let taken = server.block_on(pool.acquire()).expect("it is free");
    let begun = Instant::now();
    let saved = server.block_on(stored.save(&provider, &set("a", &[1])));
    assert!(matches!(saved, Err(Error::Unavailable { .. })), "{saved:?}");
    assert!(begun.elapsed() < 10 * limit, "{:?}", begun.elapsed());
    server.block_on(async { drop(taken) });
    server.block_on(stored.save(&provider, &set("a", &[2]))).unwrap();
}

/// A collection on a thread of the pool's runtime would wait for itself, and fails.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_collection_on_the_pools_own_thread_ends() {
    let server = Server::new();
    let limit = Duration::from_millis(300);
    let config = PostgresConfig::of_table(server.table.parse().unwrap());
    let config = config.with_operation_timeout(limit);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let pool = PgPoolOptions::new().connect(&uri()).await.expect("the server is there");
        let provider = Arc::new(PostgresProvider::with_pool(pool, config).unwrap());
        provider.count(NOW).await.unwrap();
        let begun = Instant::now();
        let purged = provider.purge(NOW, 5);
        assert!(matches!(purged, Err(Error::Unavailable { .. })), "{purged:?}");
        assert!(begun.elapsed() < 10 * limit, "{:?}", begun.elapsed());
        // A thread on which the runtime allows blocking.
        let purge = move || provider.purge(NOW, 5);
        assert_eq!(tokio::task::spawn_blocking(purge).await.unwrap().unwrap().removed, 0);
    });
}

/// By name, as a program does it; on the manager's timer thread too.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_manager_opens_it_by_name() {
    session_sql::init();
    session_sql::init();
    let server = Server::new();
    let manager = Manager::open("postgres", &server.source("")).unwrap();
    let request = http::Request::new(());
    server.block_on(async {
        let handle = manager.start(&request);
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        let mut response = http::Response::new(());
        handle.finish(&mut response).await.unwrap();
        assert!(response.headers().contains_key("set-cookie"));
        assert_eq!(manager.count().await.unwrap(), 1);
        manager.collect().unwrap();
    });
}

/// A runtime can't be dropped where blocking is not allowed; the provider's own is no exception to that, so
/// it isn't simply dropped.
#[test]
#[ignore = "needs a PostgreSQL server: run scripts/test"]
fn a_provider_can_be_used_and_dropped_on_any_runtime() {
    let server = Server::new();
    let provider = server.provider("");
    for _ in 0..2 {
        let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
        current.block_on(Stored::new(&*provider, 1));
    }
    server.block_on(async {
        provider.purge(NOW, 5).unwrap();
        drop(provider);
        // One that was never used, too.
        drop(server.provider(""));
    });
}
