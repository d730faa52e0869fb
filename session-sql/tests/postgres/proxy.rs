//! A way to the server that counts, and that breaks as it is told to.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What happens to what comes from either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Way {
    /// It is passed on.
    Open,
    /// What the server answers is kept back.
    Frozen,
    /// What the server answers to the next statement is kept back, and the connection is closed; then the way
    /// is open again.
    LosesOneAnswer,
    /// New connections are closed at once.
    Closed,
}

/// A proxy on a port of its own, until it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    way: AtomicU8,
    ended: AtomicBool,
    /// Messages of clients that ask the server for an answer: one is a round trip.
    round_trips: AtomicUsize,
    /// How many connections, counted from the first, were dropped silently.
    forgotten: AtomicUsize,
    /// Bytes of clients.
    sent: AtomicUsize,
    /// Bytes of the server.
    received: AtomicUsize,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn is(&self, way: Way) -> bool {
        self.way.load(Ordering::SeqCst) == way as u8
    }
}

/// What went through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) round_trips: usize,
    pub(crate) sent: usize,
    pub(crate) received: usize,
    pub(crate) connections: usize,
}

impl Proxy {
    /// A proxy to a server.
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if accepting.ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(client) = client else { continue };
                let number = accepting.accepted.fetch_add(1, Ordering::SeqCst);
                if !accepting.is(Way::Closed) {
                    connect(&accepting, number, client, server);
                }
            }
        });
        Self { address, shared }
    }

    pub(crate) fn set(&self, way: Way) {
        self.shared.way.store(way as u8, Ordering::SeqCst);
    }

    /// Drops all present connections silently, as a firewall does: they stay open, and nothing passes any more.
    pub(crate) fn forget(&self) {
        self.shared.forgotten.store(self.traffic().connections, Ordering::SeqCst);
    }

    /// Closes all connections.
    pub(crate) fn cut(&self) {
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        let read = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
        Traffic {
            round_trips: read(&self.shared.round_trips),
            sent: read(&self.shared.sent),
            received: read(&self.shared.received),
            connections: read(&self.shared.accepted),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        let _ = TcpStream::connect(self.address);
    }
}

fn connect(shared: &Arc<Shared>, number: usize, client: TcpStream, server: SocketAddr) {
    let Ok(server) = TcpStream::connect(server) else { return };
    let both = || Some((client.try_clone().ok()?, server.try_clone().ok()?));
    let Some((client_too, server_too)) = both() else { return };
    shared
        .open
        .lock()
        .unwrap()
        .extend(both().map(|(client, server)| [client, server]).into_iter().flatten());
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    // Whether the answer that comes next is lost.
    let loses = Arc::<AtomicBool>::default();
    let (up, up_loses) = (Arc::clone(shared), Arc::clone(&loses));
    std::thread::spawn(move || pass_up(&up, &up_loses, client, server));
    let down = Arc::clone(shared);
    std::thread::spawn(move || pass_down(&down, number, &loses, server_too, client_too));
}

/// From the client to the server, message by message: a type (but for the first one), and a length.
fn pass_up(shared: &Shared, loses: &AtomicBool, mut client: TcpStream, mut server: TcpStream) {
    let mut is_first = true;
    loop {
        let mut head = vec![0; if is_first { 4 } else { 5 }];
        if client.read_exact(&mut head).is_err() {
            break;
        }
        let length = u32::from_be_bytes(head[head.len() - 4..].try_into().unwrap()) as usize;
        let kind = if is_first { 0 } else { head[0] };
        is_first = false;
        let start = head.len();
        head.resize(start + length - 4, 0);
        if client.read_exact(&mut head[start..]).is_err() {
            break;
        }
        shared.sent.fetch_add(head.len(), Ordering::SeqCst);
        // Sync, or a query of the simple protocol.
        if kind == b'S' || kind == b'Q' {
            shared.round_trips.fetch_add(1, Ordering::SeqCst);
        }
        // Execution, of what was prepared before.
        let (lossy, open) = (Way::LosesOneAnswer as u8, Way::Open as u8);
        let change =
            || shared.way.compare_exchange(lossy, open, Ordering::SeqCst, Ordering::SeqCst);
        if kind == b'E' && change().is_ok() {
            loses.store(true, Ordering::SeqCst);
        }
        if server.write_all(&head).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}

/// From the server to the client, as it comes.
fn pass_down(
    shared: &Shared,
    number: usize,
    loses: &AtomicBool,
    mut server: TcpStream,
    mut client: TcpStream,
) {
    let mut buffer = vec![0; 65536];
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        if loses.load(Ordering::SeqCst) {
            break;
        }
        if shared.is(Way::Frozen) || number < shared.forgotten.load(Ordering::SeqCst) {
            continue;
        }
        shared.received.fetch_add(length, Ordering::SeqCst);
        if client.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}
