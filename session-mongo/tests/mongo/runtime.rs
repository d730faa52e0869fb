//! The provider works wherever it is used from.

use session_core::provider::{Provider, Record, Verifier};
use session_core::{Manager, SessionId, Timestamp};

use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);

fn record() -> Record {
    let values = [("a", [1])].into_iter().collect();
    Record { values, ..Record::new(Verifier::from_bytes([7; 32]), NOW, EXPIRES) }
}

/// Everything that a handler does.
async fn journey(provider: &dyn Provider) {
    let id = SessionId::generate().unwrap();
    assert!(provider.create(&id, record(), NOW).await.unwrap().is_none());
    assert_eq!(provider.load(&id.into(), NOW).await.unwrap(), Some(record()));
    provider.destroy(&id.key(), EXPIRES, NOW).await.unwrap();
    assert_eq!(provider.count(NOW).await.unwrap(), 0);
}

#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn any_executor_will_do() {
    let server = Server::new();
    let provider = server.provider("ensure_ttl=false");
    // None at all.
    futures_lite::future::block_on(journey(&*provider));
    // Runtimes that end before the provider does, of both kinds.
    for _ in 0..2 {
        let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
        current.block_on(journey(&*provider));
        let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        multi.block_on(journey(&*provider));
    }
}

/// Collection may block, wherever it is called.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn collection_works_within_a_runtime_and_without() {
    let server = Server::new();
    let provider = server.provider("ensure_ttl=false");
    assert_eq!(provider.purge(NOW, 10).unwrap().removed, 0);
    server.block_on(async { provider.purge(NOW, 10) }).unwrap();
}

/// A runtime can't be dropped where blocking is not allowed; the provider's own is no exception to
/// that, so it isn't simply dropped.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_provider_can_be_dropped_on_a_runtime() {
    let server = Server::new();
    server.block_on(async {
        let provider = server.provider("ensure_ttl=false");
        journey(&*provider).await;
        drop(provider);
        // One that was never used, too.
        drop(server.provider("ensure_ttl=false"));
    });
}

/// What a request began is completed without it, and without the provider.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_dropped_request_leaves_a_whole_operation() {
    let server = Server::new();
    let provider = server.provider("ensure_ttl=false");
    futures_lite::future::block_on(journey(&*provider));
    let id = SessionId::generate().unwrap();
    let begun = futures_lite::future::block_on(futures_lite::future::poll_once(provider.create(
        &id,
        record(),
        NOW,
    )));
    assert!(begun.is_none_or(|created| created.is_ok()));
    drop(provider);
    let other = server.provider("ensure_ttl=false");
    let arrived = (0..1000).any(|_| {
        let loaded = server.block_on(other.load(&id.into(), NOW)).unwrap();
        loaded == Some(record())
    });
    assert!(arrived, "the record was stored");
}

/// By name, as a program does it; on the manager's timer thread too.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_manager_opens_it_by_name() {
    session_mongo::init();
    session_mongo::init();
    let server = Server::new();
    let manager = Manager::open("mongo", &server.source("ensure_ttl=false")).unwrap();
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
