//! A proxy between a browser and a demo, which delays requests or drops responses on demand.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use crate::client::Client;
use crate::demo::{Demo, PATIENCE};

/// A proxy on a free port. Each connection has one request.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    order: Arc<Order>,
}

/// A rule for requests that a test selects.
#[derive(Default)]
struct Order {
    current: Mutex<Current>,
    changed: Condvar,
}

#[derive(Default)]
struct Current {
    /// The beginning of the requests, such as `POST /login`.
    start: String,
    treatment: Treatment,
    /// How many of these requests have arrived.
    met: usize,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Treatment {
    #[default]
    Pass,
    /// The request is held.
    Hold,
    /// The request is passed on, and the response is dropped.
    Cut,
}

impl Proxy {
    pub(crate) fn start(demo: &Demo) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("is bound");
        let order = Arc::new(Order::default());
        let (client, followed) = (demo.visitor(), Arc::clone(&order));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, client) = (stream.expect("a connection"), client.clone());
                let order = Arc::clone(&followed);
                std::thread::spawn(move || order.pass_on(stream, &client));
            }
        });
        Self { address, order }
    }

    /// Holds the requests that begin like this from now on.
    pub(crate) fn hold(&self, start: &str) {
        self.order.set(start, Treatment::Hold);
    }

    /// Drops the responses to the requests that begin like this from now on.
    pub(crate) fn cut(&self, start: &str) {
        self.order.set(start, Treatment::Cut);
    }

    /// Passes everything on from now on, including the requests that it holds.
    pub(crate) fn pass(&self) {
        self.order.set("", Treatment::Pass);
    }

    /// Waits until `count` requests were held, or their responses dropped.
    pub(crate) fn wait_for(&self, count: usize) {
        self.order.wait_while(|current| current.met < count);
    }
}

impl Order {
    fn set(&self, start: &str, treatment: Treatment) {
        *self.current.lock().unwrap() = Current { start: start.to_owned(), treatment, met: 0 };
        self.changed.notify_all();
    }

    fn wait_while(&self, wanting: impl FnMut(&mut Current) -> bool) {
        let current = self.current.lock().unwrap();
        let (current, timeout) =
            self.changed.wait_timeout_while(current, PATIENCE, wanting).unwrap();
        let Current { start, met, .. } = &*current;
        assert!(!timeout.timed_out(), "only {met} requests began with {start:?}");
    }

    fn met(&self) {
        self.current.lock().unwrap().met += 1;
        self.changed.notify_all();
    }

    /// Passes a request to the demo, and the response to the browser.
    fn pass_on(&self, mut browser: TcpStream, demo: &Client) {
        let Some(request) = read(&browser) else { return };
        let treatment = {
            let current = self.current.lock().unwrap();
            let is_meant = request.starts_with(current.start.as_bytes());
            if is_meant { current.treatment } else { Treatment::Pass }
        };
        if treatment == Treatment::Hold {
            self.met();
            self.wait_while(|current| current.treatment == Treatment::Hold);
        }
        let answer = demo.try_exchange(&request).expect("the demo answers");
        if treatment == Treatment::Cut {
            self.met();
        } else {
            // The browser may have aborted the request, so this may fail.
            let _ = browser.write_all(&answer);
        }
    }
}

/// Reads a request, and adds a header that closes the connection after it. Returns `None` for
/// connections that browsers open and don't use.
fn read(browser: &TcpStream) -> Option<Vec<u8>> {
    let mut reader = BufReader::new(browser);
    let (mut request, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        match line.to_ascii_lowercase().split_once(':') {
            Some(("connection", _)) => "Connection: close\r\n".clone_into(&mut line),
            Some(("content-length", value)) => length = value.trim().parse().expect("a number"),
            _ => {}
        }
        request.extend(line.as_bytes());
        if line == "\r\n" {
            break;
        }
    }
    reader.take(length).read_to_end(&mut request).ok()?;
    Some(request)
}
