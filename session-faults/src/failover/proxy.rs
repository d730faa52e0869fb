//! A proxy in front of a server, whose connections fail on demand.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

/// The address from which servers connect to proxies.
const SERVERS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

/// The state of connections to a server.
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

/// Who connects to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Peer {
    Client,
    /// A replica, or a server that watches the others, such as a Sentinel.
    Server,
}

/// A running proxy, which lasts as long as the process.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    /// The address of the server.
    pub(super) server: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    /// The states of the connections of each [`Peer`].
    links: Mutex<[Link; 2]>,
    changed: Condvar,
}

impl Proxy {
    /// Starts a proxy at an address to the server at `host:port`.
    pub(super) fn start(address: &str, server: &str) -> Self {
        let listener = TcpListener::bind(address).expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::<Shared>::default();
        let (accepting, target) = (Arc::clone(&shared), server.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (shared, target) = (Arc::clone(&accepting), target.clone());
                thread::spawn(move || serve(&shared, &client, &target));
            }
        });
        Self { address, server: server.to_owned(), shared }
    }

    /// Changes the connections of these peers.
    pub(super) fn set_link(&self, peers: &[Peer], link: Link) {
        let mut links = self.shared.links.lock().unwrap();
        for peer in peers {
            links[*peer as usize] = link;
        }
        drop(links);
        self.shared.changed.notify_all();
    }
}

impl Shared {
    /// Waits until the link is not silent. Returns whether it is open.
    fn is_open(&self, peer: Peer) -> bool {
        let links = self.links.lock().unwrap();
        let is_silent = |links: &mut [Link; 2]| links[peer as usize] == Link::Silent;
        let links = self.changed.wait_while(links, is_silent).unwrap();
        links[peer as usize] == Link::Open
    }

    /// Waits until the link is closed, or both streams of a connection have ended.
    fn await_end(&self, peer: Peer, ended: &AtomicUsize) {
        let links = self.links.lock().unwrap();
        let is_up = |links: &mut [Link; 2]| {
            links[peer as usize] != Link::Closed && ended.load(Ordering::SeqCst) < 2
        };
        drop(self.changed.wait_while(links, is_up).unwrap());
    }
}

/// Passes on what both sides send, until the connection ends.
fn serve(shared: &Shared, client: &TcpStream, server: &str) {
    let peer = match client.peer_addr() {
        Ok(address) if address.ip() == SERVERS => Peer::Server,
        _ => Peer::Client,
    };
    if !shared.is_open(peer) {
        return;
    }
    let Ok(server) = &TcpStream::connect(server) else { return };
    for stream in [client, server] {
        let _ = stream.set_nodelay(true);
    }
    let ended = &AtomicUsize::new(0);
    thread::scope(|scope| {
        for (from, to) in [(client, server), (server, client)] {
            scope.spawn(move || {
                pass_on(shared, peer, from, to);
                ended.fetch_add(1, Ordering::SeqCst);
                // With the lock, so that a thread about to wait has seen the new count or is notified.
                drop(shared.links.lock());
                shared.changed.notify_all();
            });
        }
        shared.await_end(peer, ended);
        let _ = client.shutdown(Shutdown::Both);
        let _ = server.shutdown(Shutdown::Both);
    });
}

/// Passes on one stream until it ends. What a server sent before it died still arrives, as without a proxy.
fn pass_on(shared: &Shared, peer: Peer, mut from: &TcpStream, mut to: &TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(length @ 1..) = from.read(&mut bytes) {
        if !shared.is_open(peer) || to.write_all(&bytes[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
