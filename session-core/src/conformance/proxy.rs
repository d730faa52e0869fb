//! [`Proxy`]: breaks and stalls connections between a provider and its server on demand.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use parking_lot::{Condvar, Mutex};

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
    /// The thread that owns the listener. `None` while connections are refused.
    listening: Mutex<Option<thread::JoinHandle<()>>>,
}

/// Where an exchange is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Before the server gets anything of the request.
    Request,
    /// When the server has performed the request, before the client gets its answer.
    Answer,
}

/// What happens to the connection of an exchange that is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// It ends.
    End,
    /// It stays open, and nothing more passes in either direction.
    Stall,
    /// As [`Stall`](Self::Stall), after half of the bytes.
    StallHalfWay,
}

/// A rule for the exchanges that are cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    pub(crate) side: Side,
    pub(crate) effect: Effect,
    /// How many exchanges of each connection pass before the cut.
    pub(crate) passing: usize,
    /// Whether later connections are cut as well, so that retries fail, too.
    pub(crate) is_lasting: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when stalled connections go on or end.
    changed: Condvar,
}

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
    is_stalled: bool,
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
                if shared.state.lock().is_down {
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
        self.shared.state.lock().server = Some(server.into());
        self.address
    }

    /// Cuts exchanges from now on, until it is [healed](Self::heal).
    pub(crate) fn cut(&self, cut: Cut) {
        let mut state = self.shared.state.lock();
        for connection in state.connections.values_mut() {
            (connection.exchanges, connection.is_asking) = (0, false);
            connection.is_meant = true;
        }
        (state.cut, state.has_cut) = (Some(cut), false);
    }

    /// Returns whether any exchange was cut since the last [`cut`](Self::cut).
    pub(crate) fn has_cut(&self) -> bool {
        self.shared.state.lock().has_cut
    }

    /// Ends all connections and refuses new ones, until it is [healed](Self::heal).
    pub(crate) fn go_down(&self) {
        {
            let mut state = self.shared.state.lock();
            state.is_down = true;
            for connection in std::mem::take(&mut state.connections).into_values() {
                connection.end();
            }
            self.shared.changed.notify_all();
        }
        if let Some(listening) = self.listening.lock().take() {
            // The thread waits for a connection; this one wakes it up, so that it ends.
            let _ = TcpStream::connect(self.address);
            let _ = listening.join();
        }
    }

    /// Lets stalled connections go on, with the bytes that were held back, and cuts no more.
    pub(crate) fn resume(&self) {
        let mut state = self.shared.state.lock();
        state.cut = None;
        for connection in state.connections.values_mut() {
            connection.is_stalled = false;
        }
        self.shared.changed.notify_all();
    }

    /// Ends stalled connections, and lets everything through again.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.state.lock();
        (state.cut, state.is_down) = (None, false);
        for (_, stalled) in state.connections.extract_if(.., |_, one| one.is_stalled) {
            stalled.end();
        }
        self.shared.changed.notify_all();
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

impl Shared {
    /// Records that one side of a connection sent this many bytes. Returns how many to pass on now; `None` if
    /// the connection has ended.
    fn passing(&self, number: u64, speaks: Side, sent: usize) -> Option<usize> {
        let mut state = self.state.lock();
        let cut = state.cut;
        let connection = state.connections.get_mut(&number)?;
        if connection.is_stalled {
            return Some(0);
        }
        if speaks == Side::Request && !connection.is_asking {
            connection.exchanges += 1;
        }
        connection.is_asking = speaks == Side::Request;
        let cut = cut.filter(|cut| {
            cut.side == speaks && connection.is_meant && connection.exchanges > cut.passing
        });
        let Some(cut) = cut else { return Some(sent) };
        connection.is_stalled = cut.effect != Effect::End;
        state.has_cut = true;
        match cut.effect {
            Effect::End => {
                drop(state);
                self.end(number);
                None
            }
            Effect::Stall => Some(0),
            Effect::StallHalfWay => Some(sent / 2),
        }
    }

    /// Waits while a connection is stalled. Returns whether it goes on.
    fn goes_on(&self, number: u64) -> bool {
        let mut state = self.state.lock();
        loop {
            match state.connections.get(&number) {
                Some(connection) if connection.is_stalled => self.changed.wait(&mut state),
                connection => return connection.is_some(),
            }
        }
    }

    fn end(&self, number: u64) {
        if let Some(connection) = self.state.lock().connections.remove(&number) {
            connection.end();
            self.changed.notify_all();
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
    let Some(server) = shared.state.lock().server.clone() else { return Ok(()) };
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    let ways = [
        (client.try_clone()?, server.try_clone()?, Side::Request),
        (server.try_clone()?, client.try_clone()?, Side::Answer),
    ];
    let number = {
        let mut state = shared.state.lock();
        if state.is_down {
            return Ok(());
        }
        state.next += 1;
        let number = state.next;
        let is_meant = state.cut.is_some_and(|cut| cut.is_lasting);
        let connection = Connection {
            client,
            server,
            exchanges: 0,
            is_asking: false,
            is_meant,
            is_stalled: false,
        };
        state.connections.insert(number, connection);
        number
    };
    for (from, to, speaks) in ways {
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            // Lost connections are expected here.
            let _ = forward(&shared, number, speaks, from, to);
            shared.end(number);
        });
    }
    Ok(())
}

/// Passes on what one side of a connection sends, until it ends.
fn forward(
    shared: &Shared,
    number: u64,
    speaks: Side,
    mut from: TcpStream,
    mut to: TcpStream,
) -> io::Result<()> {
    let mut bytes = [0; 16 * 1024];
    loop {
        let sent = from.read(&mut bytes)?;
        let Some(passing) = shared.passing(number, speaks, sent).filter(|_| sent > 0) else {
            return Ok(());
        };
        to.write_all(&bytes[..passing])?;
        if passing < sent && !shared.goes_on(number) {
            return Ok(());
        }
        to.write_all(&bytes[passing..sent])?;
    }
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

                proxy.cut(Cut { side, effect: Effect::End, passing, is_lasting: false });
                for n in 0..passing {
                    assert_eq!(ask(&mut stream, 1), Some(2), "{side:?}, exchange {n}");
                }
                let before = *asked.lock();
                assert!(!proxy.has_cut());
                assert_eq!(ask(&mut stream, 1), None, "{side:?} after {passing}");
                assert!(proxy.has_cut());
                assert_eq!(*asked.lock() - before, reaches, "{side:?} after {passing}");
                assert_eq!(ask(&mut connect(), 3), Some(4), "a later connection");

                proxy.cut(Cut { side, effect: Effect::End, passing: 0, is_lasting: true });
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
    #[test]
    fn a_stalled_exchange_goes_on_or_ends_as_told() {
        let (address, asked) = server();
        let proxy = Proxy::start();
        let address = proxy.forward_to(&address);
        for (side, effect, reaches) in [
            (Side::Request, Effect::Stall, 0),
            (Side::Answer, Effect::Stall, 1),
            (Side::Answer, Effect::StallHalfWay, 1),
        ] {
            for goes_on in [true, false] {
                let mut stream = TcpStream::connect(address).unwrap();
                assert_eq!(ask(&mut stream, 1), Some(2));
                let before = *asked.lock();
                proxy.cut(Cut { side, effect, passing: 0, is_lasting: true });
                let asking = thread::spawn(move || ask(&mut stream, 3));
                while !proxy.has_cut() {
                    thread::yield_now();
                }
                assert_eq!(*asked.lock() - before, reaches, "{side:?}, {effect:?}");
                assert!(!asking.is_finished(), "{side:?}, {effect:?}: something came");
                if goes_on {
                    proxy.resume();
                } else {
                    proxy.heal();
                };
                let answer = asking.join().unwrap();
                assert_eq!(answer, goes_on.then_some(4), "{side:?}, {effect:?}");
                assert_eq!(ask(&mut TcpStream::connect(address).unwrap(), 3), Some(4));
            }
        }
    }
}
