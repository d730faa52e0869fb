//! A proxy between driver and server that injects faults.
//!
//! It knows just enough of the wire protocol: a message begins with its length, and a command is an
//! OP_MSG with one document. So it can drop a reply after the write was applied, cut a message in two,
//! or reply in the server's place.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use mongodb::bson::{Document, doc};
use session_mongo::mongodb;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// A fault of a command.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// The server performs it, and its reply is lost with the connection.
    LoseReply,
    /// Half of the command reaches the server, then the connection is lost.
    CutRequest,
    /// The server performs it, and half of its reply arrives, then the connection is lost.
    CutReply,
    /// The proxy replies with this document, and the server doesn't get the command.
    Answer(Document),
    /// The server performs it, and these fields are added to its reply.
    Amend(Document),
    /// The server performs it, and the reply is never passed on.
    Hang,
    /// The connection is lost, and [`Proxy::deliver`] passes the command to the server later.
    Delay,
}

/// The state of the connections to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Open,
    /// Connections are closed, and new ones are closed at once.
    Closed,
    /// Connections stay open, but nothing is passed on any more.
    Silent,
}

/// The kind of server that the proxy pretends to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pose {
    /// The server's real kind.
    Itself,
    /// A standalone server, which keeps no record of writes: the driver doesn't retry.
    Standalone,
    /// A primary. The proxy keeps the record of writes in its place, by session and number.
    Primary,
}

/// A running proxy, which ends with its runtime.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: String,
    pose: Pose,
    link: watch::Sender<Link>,
    /// The pending faults: the command, the number of times, and the fault.
    faults: Mutex<Vec<(&'static str, usize, Fault)>>,
    /// Recorded replies to numbered writes.
    book: Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    /// One permit for each delayed command that may continue, and for each that the server has
    /// performed.
    released: Semaphore,
    performed: Semaphore,
}

impl Proxy {
    /// Starts a proxy to `host:port` on the current runtime.
    pub(crate) async fn start(server: &str, pose: Pose) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            pose,
            link: watch::Sender::new(Link::Open),
            faults: Mutex::default(),
            book: Mutex::default(),
            released: Semaphore::new(0),
            performed: Semaphore::new(0),
        });
        let accepting = Arc::clone(&shared);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                tokio::spawn(async move {
                    // Lost connections are intended.
                    let _ = shared.serve(client).await;
                });
            }
        });
        Ok(Self { address, shared })
    }

    /// Makes the next `times` commands of this name fail.
    pub(crate) fn fail(&self, command: &'static str, times: usize, fault: Fault) {
        self.shared.faults.lock().unwrap().push((command, times, fault));
    }

    /// Returns whether all faults have happened.
    pub(crate) fn is_done(&self) -> bool {
        self.shared.faults.lock().unwrap().is_empty()
    }

    /// Passes on one delayed command. Returns when the server has performed it.
    pub(crate) async fn deliver(&self) {
        self.shared.released.add_permits(1);
        self.shared.performed.acquire().await.expect("it is never closed").forget();
    }

    pub(crate) fn set_link(&self, link: Link) {
        self.shared.link.send_replace(link);
    }
}

impl Shared {
    async fn serve(&self, mut client: TcpStream) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut link = self.link.subscribe();
        let state = *link.borrow_and_update();
        let mut server = match state {
            Link::Closed => return Ok(()),
            Link::Open => Some(self.connect().await?),
            Link::Silent => None,
        };
        loop {
            let state = *link.borrow_and_update();
            match (state, &mut server) {
                (Link::Closed, _) => return Ok(()),
                // The state changed while this connection was in use, so it is closed.
                (Link::Silent, _) | (Link::Open, None) => {
                    server = None;
                    if link.changed().await.is_err() {
                        return Ok(());
                    }
                    if *link.borrow() == Link::Open {
                        return Ok(());
                    }
                }
                (Link::Open, Some(server)) => tokio::select! {
                    biased;
                    _ = link.changed() => {}
                    done = self.exchange(&mut client, server) => done?,
                },
            }
        }
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let server = TcpStream::connect(&self.server).await?;
        server.set_nodelay(true)?;
        Ok(server)
    }

    /// Passes one command to the server, and the reply back.
    async fn exchange(&self, client: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let mut request = read(client).await?;
        let command = parse(&request);
        let name = command.as_ref().map(name).unwrap_or_default();
        let fault = self.fault(&name);
        if let Some(Fault::Answer(answer)) = &fault {
            return client.write_all(&reply(&request, answer)).await;
        }
        if matches!(fault, Some(Fault::CutRequest)) {
            server.write_all(&request[..request.len() / 2]).await?;
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if matches!(fault, Some(Fault::Delay)) {
            client.shutdown().await?;
            self.released.acquire().await.expect("it is never closed").forget();
            server.write_all(&request).await?;
            read(server).await?;
            self.performed.add_permits(1);
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let number = match (self.pose, &command) {
            (Pose::Primary, Some(command)) => number(command),
            _ => None,
        };
        let known = number.as_ref().and_then(|n| self.book.lock().unwrap().get(n).cloned());
        let mut answer = match known {
            Some(body) => body,
            None => {
                if let (Some(_), Some(mut plain)) = (&number, command.clone()) {
                    // The real server doesn't support numbered writes.
                    plain.remove("txnNumber");
                    request = with_command(&request, &plain);
                }
                server.write_all(&request).await?;
                read(server).await?
            }
        };
        if let Some(number) = number {
            self.book.lock().unwrap().insert(number, answer.clone());
        }
        if let Some(document) = self.posed(&name, &answer) {
            answer = reply(&request, &document);
        }
        match fault {
            Some(Fault::LoseReply) => Err(io::ErrorKind::ConnectionAborted.into()),
            Some(Fault::CutReply) => {
                client.write_all(&answer[..answer.len() / 2]).await?;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Amend(fields)) => {
                let mut document = parse(&answer).expect("a server answers with a document");
                document.extend(fields);
                client.write_all(&reply(&request, &document)).await
            }
            _ => {
                // The recorded reply may be to an earlier request, so its request id is replaced.
                answer[8..12].copy_from_slice(&request[4..8]);
                client.write_all(&answer).await
            }
        }
    }

    fn fault(&self, name: &str) -> Option<Fault> {
        let mut faults = self.faults.lock().unwrap();
        let at = faults.iter().position(|(command, ..)| *command == name)?;
        let (_, times, fault) = &mut faults[at];
        *times -= 1;
        let (left, fault) = (*times, fault.clone());
        if left == 0 {
            faults.remove(at);
        }
        Some(fault)
    }

    /// Returns the server's `hello` reply, changed for the pose.
    fn posed(&self, command: &str, answer: &[u8]) -> Option<Document> {
        let hello = matches!(command, "hello" | "isMaster" | "ismaster");
        if !hello || self.pose == Pose::Itself {
            return None;
        }
        let mut document = parse(answer)?;
        // Without `topologyVersion`, the driver polls instead of waiting for changes.
        for field in ["topologyVersion", "setName", "hosts", "me", "primary", "msg"] {
            document.remove(field);
        }
        if self.pose == Pose::Primary {
            document.extend(doc! {
                "setName": "rs", "setVersion": 1, "secondary": false, "hosts": ["proxy:1"],
                "me": "proxy:1", "primary": "proxy:1", "logicalSessionTimeoutMinutes": 30,
            });
        }
        Some(document)
    }
}

/// Returns a command's name for faults, with a mark if it reads with read concern majority.
fn name(command: &Document) -> String {
    let name = command.keys().next().cloned().unwrap_or_default();
    match command.get_document("readConcern").and_then(|concern| concern.get_str("level")) {
        Ok("majority") => name + " majority",
        _ => name,
    }
}

/// Returns the identification of a numbered write: the session and the number in it.
fn number(command: &Document) -> Option<Vec<u8>> {
    let key = doc! { "lsid": command.get("lsid")?, "n": command.get("txnNumber")? };
    key.to_vec().ok()
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let rest = usize::try_from(i32::from_le_bytes(length)).unwrap_or(0).saturating_sub(4);
    let mut message = length.to_vec();
    message.resize(4 + rest, 0);
    stream.read_exact(&mut message[4..]).await?;
    Ok(message)
}

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

fn opcode(message: &[u8]) -> i32 {
    i32::from_le_bytes(message[12..16].try_into().expect("four bytes"))
}

/// Returns the document of a message, a command or a reply.
fn parse(message: &[u8]) -> Option<Document> {
    let document = match opcode(message) {
        // Flags, then one section of kind 0.
        OP_MSG => message.get(21..)?,
        // Flags, cursor, position, number of documents.
        OP_REPLY => message.get(36..)?,
        // Flags, the collection's name with NUL, two numbers.
        OP_QUERY => {
            let name = message[20..].iter().position(|byte| *byte == 0)?;
            message.get(20 + name + 1 + 8..)?
        }
        _ => return None,
    };
    Document::from_reader(document).ok()
}

/// Returns a message with a document, and with these eight bytes of ids.
fn message(numbers: &[u8], document: &Document) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, 0];
    body.extend(document.to_vec().expect("a document has bytes"));
    let length = i32::try_from(16 + body.len()).expect("messages are small");
    [&length.to_le_bytes()[..], numbers, &OP_MSG.to_le_bytes(), &body].concat()
}

/// Returns the message with another command. What follows it, such as the documents of an insert, stays.
fn with_command(request: &[u8], command: &Document) -> Vec<u8> {
    let old = request[21..25].try_into().expect("four bytes");
    let rest = 21 + usize::try_from(i32::from_le_bytes(old)).expect("a length");
    let mut changed = message(&request[4..12], command);
    changed.extend(&request[rest..]);
    let length = i32::try_from(changed.len()).expect("messages are small");
    changed[..4].copy_from_slice(&length.to_le_bytes());
    changed
}

/// Returns a reply to a request in the matching form.
fn reply(request: &[u8], document: &Document) -> Vec<u8> {
    let numbers = [&[1, 0, 0, 0], &request[4..8]].concat();
    if opcode(request) == OP_MSG {
        return message(&numbers, document);
    }
    let mut body = vec![0; 20];
    body[16] = 1;
    body.extend(document.to_vec().expect("a document has bytes"));
    let length = i32::try_from(16 + body.len()).expect("messages are small");
    [&length.to_le_bytes()[..], &numbers, &OP_REPLY.to_le_bytes(), &body].concat()
}
