//! [`Proxy`]: breaks connections between a provider and its server on demand.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::Mutex;

/// A TCP proxy of the suite, which a harness puts between a provider and its server.
///
/// It knows no protocol and only distinguishes the two directions. One *exchange* is a request of the client up
/// to the server's answer. The proxy runs its own threads and needs no runtime; it stops when it is dropped.
///
/// ```
/// # use std::sync::Arc;
/// # use session_core::conformance::{Harness, Proxy};
/// # use session_core::provider::Provider;
/// # mod my_store {
/// #     pub fn open(_: &str) -> std::sync::Arc<dyn session_core::provider::Provider> { unimplemented!() }
/// # }
/// # struct MyStore;
/// impl Harness for MyStore {
/// #     fn provider(&self) -> Arc<dyn Provider> { unimplemented!() }
///     fn through(&self, proxy: &Proxy) -> Option<Arc<dyn Provider>> {
///         let address = proxy.forward_to("localhost:6379");
///         Some(my_store::open(&format!("redis://{address}?timeout=1s")))
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// The thread that has the listener; none while connections are refused.
    listening: Mutex<Option<thread::JoinHandle<()>>>,
}

/// Where an exchange is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The connection ends before the server gets anything of the request.
    Request,
    /// The server has performed the request, and its answer is lost with the connection.
    Answer,
}

/// Which exchanges are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) side: Side,
    /// How many exchanges of each connection pass before the cut.
    pub(crate) passing: usize,
    /// Whether later connections are cut as well, so that retries fail, too.
    pub(crate) is_lasting: bool,
}

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    server: Option<String>,
    cut: Option<Cut>,
    has_cut: bool,
    is_down: bool,
    connections: BTreeMap<u64, Connection>,
    next: u64,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    server: TcpStream,
    /// Exchanges since the last [`Proxy::cut`].
    exchanges: usize,
    is_asking: bool,
    /// Whether the cut applies to this connection.
    is_meant: bool,
}

impl Proxy {
    /// Starts a proxy on a free port of this machine.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let proxy = Self { address, shared: Arc::default(), listening: Mutex::default() };
        proxy.listen(listener);
        proxy
    }

    fn listen(&self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        let accepting = move || {
            for client in listener.incoming() {
                if shared.0.lock().is_down {
                    return;
                }
                // Lost connections are expected here.
                let _ = client.and_then(|client| accept(&shared, client));
            }
        };
        *self.listening.lock() = Some(thread::spawn(accepting));
    }

    /// Sets the address of the server, as `host:port`. Returns the address to connect to in its place.
    pub fn forward_to(&self, server: impl Into<String>) -> SocketAddr {
        self.shared.0.lock().server = Some(server.into());
        self.address
    }

    /// Cuts exchanges from now on, until it is [healed](Self::heal).
    pub(crate) fn cut(&self, cut: Cut) {
        let mut state = self.shared.0.lock();
        for connection in state.connections.values_mut() {
            (connection.exchanges, connection.is_asking) = (0, false);
            connection.is_meant = true;
        }
        (state.cut, state.has_cut) = (Some(cut), false);
    }

    /// Returns whether any exchange was cut since the last [`cut`](Self::cut).
    pub(crate) fn has_cut(&self) -> bool {
        self.shared.0.lock().has_cut
    }

    /// Ends all connections and refuses new ones, until it is [healed](Self::heal).
    pub(crate) fn go_down(&self) {
        {
            let mut state = self.shared.0.lock();
            state.is_down = true;
            state.end_all();
        }
        if let Some(listening) = self.listening.lock().take() {
            // The thread waits for a connection; this one wakes it up, so that it ends.
            let _ = TcpStream::connect(self.address);
            let _ = listening.join();
        }
    }

    /// Lets everything through again.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.0.lock();
        (state.cut, state.is_down) = (None, false);
        drop(state);
        if self.listening.lock().is_none() {
            self.listen(TcpListener::bind(self.address).expect("the port is free still"));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.go_down();
    }
}

impl State {
    fn end_all(&mut self) {
        for connection in std::mem::take(&mut self.connections).into_values() {
            connection.end();
        }
    }

    /// Records that one side of a connection sent something. Returns whether to pass it on.
    fn passes(&mut self, number: u64, speaks: Side) -> bool {
        let Some(connection) = self.connections.get_mut(&number) else { return false };
        if speaks == Side::Request && !connection.is_asking {
            connection.exchanges += 1;
        }
        connection.is_asking = speaks == Side::Request;
        let is_cut = self.cut.is_some_and(|cut| {
            cut.side == speaks && connection.is_meant && connection.exchanges > cut.passing
        });
        if is_cut {
            self.has_cut = true;
            self.end(number);
        }
        !is_cut
    }

    fn end(&mut self, number: u64) {
        if let Some(connection) = self.connections.remove(&number) {
            connection.end();
        }
    }
}

impl Connection {
    fn end(&self) {
        // It may have ended by itself.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.server.shutdown(Shutdown::Both);
    }
}

/// Connects a client to the server, and forwards both directions in two threads that end with the connection.
fn accept(shared: &Arc<Shared>, client: TcpStream) -> io::Result<()> {
    let Some(server) = shared.0.lock().server.clone() else { return Ok(()) };
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let ways = [
        (client.try_clone()?, server.try_clone()?, Side::Request),
        (server.try_clone()?, client.try_clone()?, Side::Answer),
    ];
    let number = {
        let mut state = shared.0.lock();
        if state.is_down {
            return Ok(());
        }
        state.next += 1;
        let number = state.next;
        let is_meant = state.cut.is_some_and(|cut| cut.is_lasting);
        let connection = Connection { client, server, exchanges: 0, is_asking: false, is_meant };
        state.connections.insert(number, connection);
        number
    };
    for (mut from, mut to, speaks) in ways {
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let mut bytes = [0; 16 * 1024];
            while let Ok(read @ 1..) = from.read(&mut bytes) {
                if !shared.0.lock().passes(number, speaks) || to.write_all(&bytes[..read]).is_err()
                {
                    break;
                }
            }
            shared.0.lock().end(number);
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that answers each byte with the next one, and counts what it was asked.
    fn server() -> (String, Arc<Mutex<usize>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(0));
        let counting = Arc::clone(&asked);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, counting) = (stream.unwrap(), Arc::clone(&counting));
                thread::spawn(move || {
                    let mut byte = [0];
                    while stream.read_exact(&mut byte).is_ok() {
                        *counting.lock() += 1;
                        if stream.write_all(&[byte[0] + 1]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, asked)
    }

    fn ask(stream: &mut TcpStream, byte: u8) -> Option<u8> {
        let mut answer = [0];
        stream.write_all(&[byte]).and_then(|()| stream.read_exact(&mut answer)).ok()?;
        Some(answer[0])
    }

    #[test]
    fn an_exchange_is_cut_where_it_is_told() {
        let (address, asked) = server();
        for (side, reaches) in [(Side::Request, 0), (Side::Answer, 1)] {
            for passing in [0, 2] {
                let proxy = Proxy::start();
                let address = proxy.forward_to(&address);
                let connect = || TcpStream::connect(address).unwrap();
                let mut stream = connect();
                assert_eq!(ask(&mut stream, 1), Some(2));

                proxy.cut(Cut { side, passing, is_lasting: false });
                for n in 0..passing {
                    assert_eq!(ask(&mut stream, 1), Some(2), "{side:?}, exchange {n}");
                }
                let before = *asked.lock();
                assert!(!proxy.has_cut());
                assert_eq!(ask(&mut stream, 1), None, "{side:?} after {passing}");
                assert!(proxy.has_cut());
                assert_eq!(*asked.lock() - before, reaches, "{side:?} after {passing}");
                assert_eq!(ask(&mut connect(), 3), Some(4), "a later connection");

                proxy.cut(Cut { side, passing: 0, is_lasting: true });
                assert_eq!(ask(&mut connect(), 3), None, "a later connection, too");
                proxy.heal();
                let mut stream = connect();
                assert_eq!(ask(&mut stream, 3), Some(4), "healed");
                proxy.go_down();
                assert_eq!(ask(&mut stream, 3), None, "down");
                assert!(TcpStream::connect(address).is_err(), "and refuses new ones");
                proxy.heal();
                assert_eq!(ask(&mut connect(), 3), Some(4), "up again");
            }
        }
    }
}
