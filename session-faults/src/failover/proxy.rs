//! A proxy in front of a server, whose connections fail on demand.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// The state of the connections to a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Everything is passed on.
    #[default]
    Open,
    /// Connections are closed, and new ones are closed at once.
    Closed,
    /// Connections stay open and new ones are accepted, but what arrives is held back until the link is
    /// open again.
    Silent,
}

/// A running proxy, which lasts as long as the process.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    link: Mutex<Link>,
    changed: Condvar,
}

impl Proxy {
    /// Starts a proxy to `host:port`.
    pub(super) fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::<Shared>::default();
        let (accepting, server) = (Arc::clone(&shared), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, server) = (Arc::clone(&accepting), server.clone());
                thread::spawn(move || serve(&shared, &client, &server));
            }
        });
        Self { address, shared }
    }

    pub(super) fn set_link(&self, link: Link) {
        *self.shared.link.lock().unwrap() = link;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Waits until the link is not silent. Returns whether it is open.
    fn is_open(&self) -> bool {
        let link = self.link.lock().unwrap();
        let link = self.changed.wait_while(link, |link| *link == Link::Silent).unwrap();
        *link == Link::Open
    }

    /// Waits until the link is closed, or one of the streams of a connection has ended.
    fn await_end(&self, ended: &AtomicBool) {
        let link = self.link.lock().unwrap();
        let is_up = |link: &mut Link| *link != Link::Closed && !ended.load(Ordering::SeqCst);
        drop(self.changed.wait_while(link, is_up).unwrap());
    }
}

/// Passes on what both sides send, until the connection ends.
fn serve(shared: &Shared, client: &TcpStream, server: &str) {
    if !shared.is_open() {
        return;
    }
    let Ok(server) = &TcpStream::connect(server) else { return };
    for stream in [client, server] {
        let _ = stream.set_nodelay(true);
    }
    let ended = &AtomicBool::new(false);
    thread::scope(|scope| {
        for (from, to) in [(client, server), (server, client)] {
            scope.spawn(move || {
                pass_on(shared, from, to);
                ended.store(true, Ordering::SeqCst);
                // With the lock, so that whoever is about to wait has seen it or is told.
                drop(shared.link.lock());
                shared.changed.notify_all();
            });
        }
        shared.await_end(ended);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

fn pass_on(shared: &Shared, mut from: &TcpStream, mut to: &TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !shared.is_open() || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
}
