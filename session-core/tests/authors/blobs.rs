//! The guide's provider over a blob store, with a server behind a network.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::thread;
use std::time::Instant;

#[allow(unreachable_pub, dead_code, reason = "the guide shows a crate of its own")]
#[path = "../../src/provider/guide/blobs.rs"]
mod guide;

pub(crate) use guide::BlobProvider;
use guide::{Blob, Blobs, Failure};

/// What a server keeps.
#[derive(Default)]
struct Shelf {
    blobs: BTreeMap<SessionKey, (Blob, Instant)>,
    versions: u64,
}

/// A blob store: a thread for each connection, until its client goes.
///
/// A request is a letter, a key, a version, the milliseconds that the blob lives, the length of the bytes, and
/// the bytes. The answer is whether it was so, a version, the length of the bytes, and the bytes. Numbers have
/// eight bytes.
pub(crate) struct Server {
    address: SocketAddr,
    shelf: Arc<Mutex<Shelf>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("the listener has an address");
        let shelf = Arc::new(Mutex::new(Shelf::default()));
        let server = Self { address, shelf: Arc::clone(&shelf) };
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shelf = Arc::clone(&shelf);
                thread::spawn(move || while serve(&shelf, &stream).is_ok() {});
            }
        });
        server
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn time_left(&self, key: &SessionKey) -> Duration {
        let shelf = self.shelf.lock().expect("no thread panics");
        let (_, until) = shelf.blobs.get(key).expect("the blob is there");
        until.saturating_duration_since(Instant::now())
    }

    fn truncate(&self, key: &SessionKey) {
        let mut shelf = self.shelf.lock().expect("no thread panics");
        let (blob, _) = shelf.blobs.get_mut(key).expect("the blob is there");
        blob.bytes.truncate(blob.bytes.len() / 2);
    }
}

fn serve(shelf: &Mutex<Shelf>, mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let ([letter], key) = (read(stream)?, SessionKey::from_bytes(read(stream)?));
    let [version, lives] = [number(stream)?, number(stream)?];
    let bytes = text(stream)?;
    let mut answer = (false, 0, Vec::new());
    let mut shelf = shelf.lock().expect("no thread panics");
    shelf.blobs.retain(|_, (_, until)| *until > Instant::now());
    let stored = shelf.blobs.get(&key).map(|(blob, _)| blob);
    match letter {
        b'g' => {
            if let Some(blob) = stored {
                answer = (true, blob.version, blob.bytes.clone());
            }
        }
        b'p' if stored.map_or(0, |blob| blob.version) == version => {
            shelf.versions += 1;
            let version = shelf.versions;
            let until = Instant::now() + Duration::from_millis(lives.min(1 << 40));
            shelf.blobs.insert(key, (Blob { bytes, version }, until));
            answer.0 = true;
        }
        b'r' => answer.0 = shelf.blobs.remove(&key).is_some(),
        _ => {}
    }
    drop(shelf);
    let (is_so, version, bytes) = answer;
    let mut sent = vec![u8::from(is_so)];
    sent.extend(version.to_be_bytes());
    sent.extend((bytes.len() as u64).to_be_bytes());
    sent.extend(bytes);
    stream.write_all(&sent)
}

fn read<const N: usize>(mut stream: &TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number(stream: &TcpStream) -> io::Result<u64> {
    Ok(u64::from_be_bytes(read(stream)?))
}

fn text(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; number(stream)? as usize];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// The server's client. Its calls block, so a pool of threads makes them.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    /// The time limit of a call. Only a broken provider has none.
    limit: Option<Duration>,
    /// Whether futures make the calls on their own thread. Only those of a broken provider do.
    blocks: bool,
    idle: Arc<Mutex<Vec<TcpStream>>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, limit: Option<Duration>, blocks: bool) -> Self {
        Self { address, limit, blocks, idle: Arc::default() }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.idle.lock().expect("no thread panics")
    }

    async fn ask(
        &self,
        letter: u8,
        key: SessionKey,
        version: u64,
        lives: Duration,
        bytes: &[u8],
    ) -> Result<(bool, Blob), Failure> {
        let mut request = vec![letter];
        request.extend(key.as_bytes());
        request.extend(version.to_be_bytes());
        request.extend(u64::try_from(lives.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
        request.extend((bytes.len() as u64).to_be_bytes());
        request.extend(bytes);
        let client = self.clone();
        let call = move || client.call(&request);
        if self.blocks { call() } else { blocking::unblock(call).await }
    }

    fn call(&self, request: &[u8]) -> Result<(bool, Blob), Failure> {
        let idle = self.idle().pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => self.connect().map_err(Failure::NotSent)?,
        };
        let answer = stream.write_all(request).and_then(|()| {
            let [is_so] = read(&stream)?;
            Ok((is_so == 1, Blob { version: number(&stream)?, bytes: text(&stream)? }))
        });
        match answer {
            Ok(answer) => {
                self.idle().push(stream);
                Ok(answer)
            }
            Err(error) => {
                // The others are as old.
                self.idle().clear();
                Err(Failure::NoAnswer(error))
            }
        }
    }

    fn connect(&self) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(self.limit)?;
        stream.set_write_timeout(self.limit)?;
        Ok(stream)
    }
}

impl Blobs for Client {
    async fn get(&self, key: SessionKey) -> Result<Option<Blob>, Failure> {
        let (is_there, blob) = self.ask(b'g', key, 0, Duration::ZERO, &[]).await?;
        Ok(is_there.then_some(blob))
    }

    async fn put(
        &self,
        key: SessionKey,
        bytes: Vec<u8>,
        lives: Duration,
        version: u64,
    ) -> Result<bool, Failure> {
        Ok(self.ask(b'p', key, version, lives, &bytes).await?.0)
    }

    async fn remove(&self, key: SessionKey) -> Result<(), Failure> {
        self.ask(b'r', key, 0, Duration::ZERO, &[]).await.map(drop)
    }
}

/// Opens a provider with this time limit.
fn open(address: SocketAddr, limit: Duration) -> Arc<dyn Provider> {
    Arc::new(BlobProvider::new(Client::new(address, Some(limit), false)))
}

// The example of the suite's documentation, and its one line that runs the suite.
include!("../../src/provider/guide/harness.rs");

impl BlobStore {
    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }
}
