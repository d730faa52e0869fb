//! A pool that the application has already.

use std::sync::Arc;

use session_core::provider::Provider;
use session_core::{Error, Manager};
use session_sql::postgres::PostgresProvider;
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
    let outside = PostgresProvider::with_pool(pool.clone(), server.table.parse().unwrap());
    assert!(matches!(outside, Err(Error::Config(_))), "{outside:?}");
    let provider = server.block_on(async {
        PostgresProvider::with_pool(pool.clone(), server.table.parse().unwrap()).unwrap()
    });
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
