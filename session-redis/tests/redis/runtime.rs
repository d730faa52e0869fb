//! The provider works wherever it is used from.

use std::sync::Arc;

use futures_lite::future::block_on;
use session_core::provider::{Provider, Token};
use session_core::{Error, Manager, SessionId};
use session_redis::{RedisConfig, RedisProvider};

use crate::faults::{EXPIRES, NOW, record};
use crate::server::{Server, url};

/// Everything that a handler does.
async fn journey(provider: &dyn Provider) {
    let id = SessionId::generate().unwrap();
    assert!(provider.create(&id, record(), NOW).await.unwrap().is_none());
    assert_eq!(provider.load(&id.into(), NOW).await.unwrap(), Some(record()));
    provider.destroy(&id.key(), EXPIRES, NOW).await.unwrap();
    assert_eq!(provider.load(&id.into(), NOW).await.unwrap(), None);
}

fn multi() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn any_executor_will_do() {
    let server = Server::new();
    let provider = server.provider("");
    // None at all.
    block_on(journey(&*provider));
    // Runtimes that end before the provider does, of both kinds; and what they leave is noticed.
    for _ in 0..2 {
        for provider in [&provider, &server.provider("")] {
            let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
            current.block_on(journey(&**provider));
            multi().block_on(journey(&**provider));
        }
    }
    // One that can neither connect nor wait.
    let poor = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    poor.block_on(journey(&*server.provider("")));
    assert_eq!(provider.purge(NOW, 10).unwrap().removed, 0);
    multi().block_on(async { provider.purge(NOW, 10) }).unwrap();
}

/// No connection can be made on a runtime whose only thread is blocked. Operations of others still connect.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_runtime_that_stands_still_keeps_nobody_else_from_connecting() {
    let server = Server::new();
    let provider = server.provider("operation_timeout=500ms");
    let standing = multi();
    let token = Token::from(SessionId::generate().unwrap());
    let (waiting, same) = (Arc::clone(&provider), token.clone());
    let blocked = standing.spawn(async move { block_on(waiting.load(&same, NOW)) });
    let loaded = block_on(blocked).unwrap();
    assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
    let (go, goes) = std::sync::mpsc::channel::<()>();
    let standing_still = standing.spawn(async move { goes.recv() });
    let loaded = (0..3).find_map(|_| block_on(provider.load(&token, NOW)).ok());
    assert_eq!(loaded, Some(None));
    go.send(()).unwrap();
    block_on(standing_still).unwrap().unwrap();
}

/// A runtime can't be dropped where blocking is not allowed; the provider's own is no exception to
/// that, so it isn't simply dropped.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_provider_can_be_dropped_on_a_runtime() {
    let server = Server::new();
    multi().block_on(async {
        let provider = server.provider("");
        journey(&*provider).await;
        drop(provider);
        // One that was never used, too.
        drop(server.provider(""));
    });
}

/// By name, as a program does it; on the manager's timer thread too.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_manager_opens_it_by_name() {
    session_redis::init();
    session_redis::init();
    let server = Server::new();
    let manager = Manager::open("redis", &server.source_at(&url(), "")).unwrap();
    let request = http::Request::new(());
    block_on(async {
        let handle = manager.start(&request);
        let session = handle.load().await.unwrap();
        session.set("n", &1).unwrap();
        let mut response = http::Response::new(());
        handle.finish(&mut response).await.unwrap();
        assert!(response.headers().contains_key("set-cookie"));
        manager.collect().unwrap();
    });
    assert_eq!(server.keys().len(), 1);
}

/// Opening waits for no server.
#[test]
fn opening_does_not_connect() {
    for source in [
        "redis://127.0.0.1:1",
        "redis://127.0.0.1:1?mode=sentinel",
        "redis://127.0.0.1:1,127.0.0.1:2?mode=cluster",
        "redis+unix:///nonexistent/redis.sock",
        "rediss://localhost:1",
    ] {
        let config = RedisConfig::parse(&format!(
            "{source}{}operation_timeout=300ms",
            if source.contains('?') { '&' } else { '?' }
        ));
        let provider = RedisProvider::new(config.unwrap()).unwrap();
        let id = SessionId::generate().unwrap();
        let created = block_on(provider.create(&id, record(), NOW));
        let is_right = matches!(created, Err(Error::Unavailable { .. }));
        assert!(is_right, "{source}: {created:?}");
    }
}
