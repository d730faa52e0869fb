//! Many requests that wait for one connection.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use futures_lite::future::{block_on, poll_once};
use session_core::provider::Provider;
use session_core::{Error, SessionId};

use crate::faults::{NOW, load};
use crate::own_server::OwnServer;
use session_redis::{RedisConfig, RedisProvider};

/// Accepts connections and counts them; what becomes of each is up to `with`.
fn listen(with: impl Fn(TcpStream) + Send + Sync + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let count = Arc::<AtomicUsize>::default();
    let accepted = Arc::clone(&count);
    let with = Arc::new(with);
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("it is accepted");
            accepted.fetch_add(1, Ordering::SeqCst);
            let with = Arc::clone(&with);
            thread::spawn(move || with(client));
        }
    });
    (address, count)
}

fn provider(address: SocketAddr, options: &str) -> RedisProvider {
    let config = RedisConfig::parse(&format!("redis://{address}?{options}"));
    RedisProvider::new(config.expect("the source is right")).expect("it opens")
}

/// However many requests there are, a server that doesn't answer gets one connection at a time.
#[test]
fn a_server_that_does_not_answer_is_not_flooded_with_connections() {
    let (address, count) = listen(|mut client| {
        // Requests are read and never answered.
        let _ = client.read_to_end(&mut Vec::new());
    });
    let provider = provider(address, "operation_timeout=200ms");
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                for _ in 0..4 {
                    let loaded = load(&provider, &SessionId::generate().unwrap().into());
                    assert!(matches!(loaded, Err(Error::Unavailable { .. })), "{loaded:?}");
                }
            });
        }
    });
    let (count, took) = (count.load(Ordering::SeqCst), began.elapsed());
    let wanted = took.as_millis() / 200 + 2;
    assert!(count as u128 <= wanted, "{count} connections within {took:?}");
}

/// A connection that is established after its request has timed out serves later requests.
#[test]
#[ignore = "needs a Redis server: run scripts/test"]
fn a_connection_is_made_for_others_when_a_request_gives_up() {
    let own = OwnServer::start();
    let (began, has_begun) = mpsc::channel();
    let (go, goes) = mpsc::channel::<()>();
    let (port, goes) = (own.port, parking_lot::Mutex::new(goes));
    let (address, count) = listen(move |client| {
        let mut server = TcpStream::connect(("127.0.0.1", port)).expect("the server is there");
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        let mut hello = [0; 1024];
        let read = from.read(&mut hello).expect("the client says hello");
        began.send(()).expect("the test waits");
        goes.lock().recv().expect("the test goes on");
        server.write_all(&hello[..read]).expect("the server is there");
        thread::spawn(move || {
            // It ends with the connection.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
        let _ = std::io::copy(&mut server, &mut &client);
        let _ = client.shutdown(Shutdown::Both);
    });
    let provider = provider(address, "operation_timeout=20s");
    let token = SessionId::generate().unwrap().into();
    {
        let mut gives_up = provider.load(&token, NOW);
        assert!(block_on(poll_once(&mut gives_up)).is_none());
        has_begun.recv().expect("it connects");
    }
    go.send(()).expect("the relay waits");
    assert_eq!(load(&provider, &token).unwrap(), None);
    assert_eq!(count.load(Ordering::SeqCst), 1);
}
