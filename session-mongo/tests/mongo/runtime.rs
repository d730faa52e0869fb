//! The provider works on any runtime, and without one.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use mongodb::event::EventHandler;
use mongodb::event::cmap::CmapEvent;
use mongodb::event::command::CommandEvent;
use session_core::provider::{Changes, Provider, Record, Verifier};
use session_core::{Error, Manager, SessionId, Timestamp};
use session_mongo::{MongoProvider, mongodb};

use crate::server::Server;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const EXPIRES: Timestamp = Timestamp::from_millis(1_800_003_600_123);

fn record() -> Record {
    let values = [("a", [1])].into_iter().collect();
    Record { values, ..Record::new(Verifier::from_bytes([7; 32]), NOW, EXPIRES) }
}

/// Performs all operations of a handler.
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
    // Without a runtime.
    futures_lite::future::block_on(journey(&*provider));
    // On runtimes of both kinds, which end before the provider does.
    for _ in 0..2 {
        let current = tokio::runtime::Builder::new_current_thread().build().unwrap();
        current.block_on(journey(&*provider));
        let multi = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        multi.block_on(journey(&*provider));
    }
}

/// `purge` may block, wherever it is called.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn collection_works_within_a_runtime_and_without() {
    let server = Server::new();
    let provider = server.provider("ensure_ttl=false");
    assert_eq!(provider.purge(NOW, 10).unwrap().removed, 0);
    server.block_on(async { provider.purge(NOW, 10) }).unwrap();
}

/// A tokio runtime can't be dropped where blocking is forbidden, so the provider shuts its runtime down
/// in the background.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_provider_can_be_dropped_on_a_runtime() {
    let server = Server::new();
    server.block_on(async {
        let provider = server.provider("ensure_ttl=false");
        journey(&*provider).await;
        drop(provider);
        // A provider that was never used can be dropped as well.
        drop(server.provider("ensure_ttl=false"));
    });
}

/// An operation is completed without its request, and without the provider.
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

/// Wherever a request is dropped, its operation is completed on the same connection.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_dropped_request_costs_no_connection() {
    let server = Server::new();
    let (opened, closed) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
    let counters = (Arc::clone(&opened), Arc::clone(&closed));
    let config = server.config("ensure_ttl=false&maxPoolSize=1");
    let config = config.with_driver_options(move |options| {
        let (opened, closed) = counters.clone();
        options.cmap_event_handler = Some(EventHandler::callback(move |event| match event {
            CmapEvent::ConnectionCreated(_) => _ = opened.fetch_add(1, Ordering::SeqCst),
            CmapEvent::ConnectionClosed(_) => _ = closed.fetch_add(1, Ordering::SeqCst),
            _ => {}
        }));
    });
    let provider = MongoProvider::new(config).unwrap();
    let id = SessionId::generate().unwrap();
    let (token, holder) = (id.into(), record().holder);
    futures_lite::future::block_on(provider.create(&id, record(), NOW)).unwrap();
    let mut dropped = 0;
    for (number, polls) in (1..=6).cycle().take(120).enumerate() {
        let value = number.to_le_bytes();
        let mut changes = Changes::new();
        changes.set("a", value);
        let mut left = polls;
        let mut save = Box::pin(provider.save(&token, &holder, &changes, NOW));
        let saved = poll_fn(|context| {
            left -= 1;
            match save.as_mut().poll(context) {
                Poll::Pending if left == 0 => Poll::Ready(None),
                pending_or_not => pending_or_not.map(Some),
            }
        });
        let saved = futures_lite::future::block_on(saved);
        dropped += usize::from(saved.is_none());
        assert!(saved.is_none_or(|saved| saved.is_ok()));
        drop(save);
        let arrived = (0..1000).any(|_| {
            let loaded = futures_lite::future::block_on(provider.load(&token, NOW)).unwrap();
            loaded.unwrap().values.get("a") == Some(&value)
        });
        assert!(arrived, "the save was completed after {polls} polls");
    }
    assert!(dropped >= 10, "{dropped} were dropped half-way");
    assert_eq!((opened.load(Ordering::SeqCst), closed.load(Ordering::SeqCst)), (1, 0));
}

/// A panic in the driver is an error of that operation only.
#[test]
#[ignore = "needs a MongoDB server: run scripts/test"]
fn a_panic_in_the_driver_fails_the_operation_alone() {
    let server = Server::new();
    let panics = Arc::<AtomicBool>::default();
    let panicking = Arc::clone(&panics);
    let config = server.config("ensure_ttl=false").with_driver_options(move |options| {
        let panics = Arc::clone(&panicking);
        options.command_event_handler = Some(EventHandler::callback(move |event| {
            if let CommandEvent::Started(_) = event
                && panics.swap(false, Ordering::SeqCst)
            {
                panic!("as the test wants it");
            }
        }));
    });
    let provider = MongoProvider::new(config).unwrap();
    let block_on = futures_lite::future::block_on::<Result<_, Error>>;
    let id = SessionId::generate().unwrap();
    let token = id.into();
    // In the first operation and in later ones.
    for _ in 0..2 {
        panics.store(true, Ordering::SeqCst);
        let loaded = block_on(provider.load(&token, NOW));
        assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
        assert_eq!(block_on(provider.load(&token, NOW)).unwrap(), None);
    }
    panics.store(true, Ordering::SeqCst);
    let created = futures_lite::future::block_on(provider.create(&id, record(), NOW));
    assert!(matches!(created, Err(Error::InDoubt { .. })), "{created:?}");
    assert_eq!(block_on(provider.load(&token, NOW)).unwrap(), None);
    futures_lite::future::block_on(journey(&provider));
}

/// A program opens the provider by name. It also works on the manager's timer thread.
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
