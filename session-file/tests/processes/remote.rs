//! A provider whose operations run in other processes.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_lite::future::block_on;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use session_core::conformance::{Capabilities, Harness};
use session_core::provider::Secret;
use session_core::provider::{
    Answer, Changes, Expected, ExpiryChange, Listed, Login, NewSecret, Page, Provider,
    ProviderFuture, Purged, Record, Summary, Token, Touch, Verifier,
};
use session_core::{Error, Limits, SessionId, SessionKey, Timestamp};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::{Scratch, damage, index_entries, store_expiry};

type Key = [u8; SessionKey::BYTES];

/// A serialized operation. It has no secret of the token, because files are found by the key.
#[derive(Serialize, Deserialize)]
enum Call {
    /// With [`Record::to_bytes`], as a found record has.
    Create(Key, Vec<u8>, u64),
    Load(Key, u64),
    Save(Key, [u8; 32], Box<SentChanges>, u64),
    Destroy(Key, u64, u64),
    Touch(Key, SentTouch, u64),
    List(String, Option<Key>, usize, u64),
    Count(u64),
    Purge(u64, usize),
}

#[derive(Serialize, Deserialize)]
enum Reply {
    Done,
    Found(Option<Vec<u8>>),
    /// The sessions, and the key after which the next page begins.
    Listed(Vec<SentSummary>, Option<Key>),
    Count(u64),
    Purged(usize, bool),
    Failed(Failure),
}

#[derive(Serialize, Deserialize)]
enum Failure {
    Gone,
    Conflict,
    Exists,
    Unreadable,
    TooManyBytes(usize),
    TooManyKeys(usize),
    Other(String),
}

#[derive(Serialize, Deserialize)]
struct SentLogin {
    owner: String,
    at: u64,
    label: String,
}

#[derive(Serialize, Deserialize)]
struct SentSummary {
    key: Key,
    created: u64,
    used: u64,
    expires: u64,
    authenticated: u64,
    label: String,
}

#[derive(Serialize, Deserialize)]
struct SentTouch {
    used: u64,
    expires: u64,
}

#[derive(Serialize, Deserialize)]
struct SentChanges {
    entries: Vec<(String, Option<Vec<u8>>)>,
    replace: bool,
    expected: Vec<(String, Option<Vec<u8>>)>,
    expiry: SentExpiry,
    /// The inner option is in a tuple, because MessagePack has only one `nil`.
    login: Option<(Option<SentLogin>,)>,
    /// The bytes of the new holder, and the time of its secret.
    secret: Option<([u8; 32], u64)>,
    cookie: Option<u32>,
    limits: Limits,
}

#[derive(Serialize, Deserialize)]
enum SentExpiry {
    Keep,
    Extend(SentTouch),
    Set(SentTouch),
}

fn read(record: &[u8]) -> Record {
    Record::from_bytes(record).expect("a record was sent")
}

const fn time(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

impl From<&Login> for SentLogin {
    fn from(login: &Login) -> Self {
        let Login { owner, at, label } = login;
        Self { owner: (**owner).into(), at: at.as_millis(), label: (**label).into() }
    }
}

impl From<SentLogin> for Login {
    fn from(sent: SentLogin) -> Self {
        Self { owner: sent.owner.into(), at: time(sent.at), label: sent.label.into() }
    }
}

impl From<Touch> for SentTouch {
    fn from(touch: Touch) -> Self {
        Self { used: touch.used.as_millis(), expires: touch.expires.as_millis() }
    }
}

impl From<SentTouch> for Touch {
    fn from(sent: SentTouch) -> Self {
        Self { used: time(sent.used), expires: time(sent.expires) }
    }
}

impl From<Summary> for SentSummary {
    fn from(summary: Summary) -> Self {
        Self {
            key: *summary.key.as_bytes(),
            created: summary.created.as_millis(),
            used: summary.used.as_millis(),
            expires: summary.expires.as_millis(),
            authenticated: summary.authenticated.as_millis(),
            label: summary.label.into(),
        }
    }
}

impl From<SentSummary> for Summary {
    fn from(sent: SentSummary) -> Self {
        Self {
            key: SessionKey::from_bytes(sent.key),
            created: time(sent.created),
            used: time(sent.used),
            expires: time(sent.expires),
            authenticated: time(sent.authenticated),
            label: sent.label.into(),
        }
    }
}

impl From<&Changes> for SentChanges {
    fn from(changes: &Changes) -> Self {
        let bytes = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        let expected =
            |expected: &Expected| (expected.key.to_string(), bytes(expected.value.as_deref()));
        Self {
            entries: changes.iter().map(|(key, value)| (key.into(), bytes(value))).collect(),
            replace: changes.replace,
            expected: changes.expected.iter().map(expected).collect(),
            expiry: match changes.expiry {
                ExpiryChange::Keep => SentExpiry::Keep,
                ExpiryChange::Extend(touch) => SentExpiry::Extend(touch.into()),
                ExpiryChange::Set(touch) => SentExpiry::Set(touch.into()),
            },
            login: (changes.login.as_ref()).map(|login| (login.as_deref().map(SentLogin::from),)),
            secret: (changes.secret.as_deref())
                .map(|secret| (*secret.holder.as_bytes(), secret.at.as_millis())),
            cookie: changes.cookie,
            limits: changes.limits,
        }
    }
}

impl SentChanges {
    fn into_changes(self, key: SessionKey) -> Changes {
        let mut changes = Changes::new();
        for (key, value) in self.entries {
            match value {
                Some(value) => changes.set(&key, value),
                None => changes.delete(&key),
            }
        }
        changes.replace = self.replace;
        let expected = |(key, value): (String, Option<Vec<u8>>)| Expected {
            key: key.into(),
            value: value.map(Into::into),
        };
        changes.expected = self.expected.into_iter().map(expected).collect();
        changes.expiry = match self.expiry {
            SentExpiry::Keep => ExpiryChange::Keep,
            SentExpiry::Extend(touch) => ExpiryChange::Extend(touch.into()),
            SentExpiry::Set(touch) => ExpiryChange::Set(touch.into()),
        };
        changes.login = self.login.map(|(login,)| login.map(|login| Box::new(login.into())));
        changes.secret = self.secret.map(|(holder, at)| {
            let holder = Verifier::from_bytes(holder);
            Box::new(NewSecret { token: id(key).into(), holder, at: time(at) })
        });
        changes.cookie = self.cookie;
        changes.limits = self.limits;
        changes
    }
}

/// Returns an id with this key. The provider doesn't use the secret.
fn id(key: SessionKey) -> SessionId {
    SessionId::new(key, Secret::from_bytes([0; Secret::BYTES]))
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Gone => Self::Gone,
            Error::Conflict => Self::Conflict,
            Error::Exists => Self::Exists,
            Error::Unreadable { .. } => Self::Unreadable,
            Error::TooLarge { what: "session bytes", limit } => Self::TooManyBytes(limit),
            Error::TooLarge { what: "session keys", limit } => Self::TooManyKeys(limit),
            other => Self::Other(format!("{other:?}")),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Gone => Self::Gone,
            Failure::Conflict => Self::Conflict,
            Failure::Exists => Self::Exists,
            Failure::Unreadable => Self::Unreadable { reason: "the other process can't read it" },
            Failure::TooManyBytes(limit) => Self::TooLarge { what: "session bytes", limit },
            Failure::TooManyKeys(limit) => Self::TooLarge { what: "session keys", limit },
            Failure::Other(text) => Self::unavailable(text),
        }
    }
}

fn send(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let bytes = rmp_serde::to_vec(message).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes(), &bytes[..]].concat())
}

fn receive<T: for<'de> Deserialize<'de>>(mut stream: &UnixStream) -> io::Result<T> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u32::from_be_bytes(length) as usize];
    stream.read_exact(&mut bytes)?;
    rmp_serde::from_slice(&bytes).map_err(io::Error::other)
}

/// The main function of the other process: performs one operation after another until the connection
/// closes.
pub(crate) fn serve(arguments: &[String]) -> ExitCode {
    let [socket, directory] = arguments else { panic!("wrong arguments: {arguments:?}") };
    let stream = UnixStream::connect(socket).expect("the parent listens");
    let config = FileConfig::new(directory).with_sync(Durability::None);
    let provider = FileProvider::open(config).expect("the store opens");
    while let Ok(call) = receive(&stream) {
        let reply = reply(&provider, call).unwrap_or_else(|error| Reply::Failed(error.into()));
        send(&stream, &reply).expect("the parent waits for the reply");
    }
    ExitCode::SUCCESS
}

fn reply(provider: &FileProvider, call: Call) -> Result<Reply, Error> {
    let key = SessionKey::from_bytes;
    let token = |bytes| Token::from(id(key(bytes)));
    Ok(match call {
        Call::Create(new, record, now) => {
            block_on(provider.create(&id(key(new)), read(&record), time(now)))?;
            Reply::Done
        }
        Call::Load(key, now) => {
            let found = block_on(provider.load(&token(key), time(now)))?;
            Reply::Found(found.as_ref().map(Record::to_bytes))
        }
        Call::Save(saved, holder, changes, now) => {
            let (holder, changes) =
                (Verifier::from_bytes(holder), changes.into_changes(key(saved)));
            block_on(provider.save(&token(saved), &holder, &changes, time(now)))?;
            Reply::Done
        }
        Call::Destroy(destroyed, until, now) => {
            block_on(provider.destroy(&key(destroyed), time(until), time(now)))?;
            Reply::Done
        }
        Call::Touch(key, touch, now) => {
            block_on(provider.touch(&token(key), touch.into(), time(now)))?;
            Reply::Done
        }
        Call::List(owner, after, limit, now) => {
            let page = Page { after: after.map(key), limit };
            let Listed { sessions, next } = block_on(provider.list(&owner, page, time(now)))?;
            let sessions = sessions.into_iter().map(SentSummary::from).collect();
            Reply::Listed(sessions, next.map(|key| *key.as_bytes()))
        }
        Call::Count(now) => Reply::Count(block_on(provider.count(time(now)))?),
        Call::Purge(now, limit) => {
            let Purged { removed, more } = provider.purge(time(now), limit)?;
            Reply::Purged(removed, more)
        }
    })
}

/// Processes that share a directory, the store of one test case.
pub(crate) struct Processes {
    provider: Arc<Remote>,
    scratch: Scratch,
}

/// Passes each operation to the next process.
#[derive(Debug)]
struct Remote {
    processes: Vec<Mutex<Process>>,
    next: AtomicUsize,
}

#[derive(Debug)]
struct Process {
    stream: UnixStream,
    child: Child,
}

impl Processes {
    pub(crate) fn new(number: usize) -> Self {
        let scratch = Scratch::new();
        let (socket, directory) = (scratch.path().join("socket"), scratch.path().join("store"));
        std::fs::create_dir(&directory).expect("is new");
        let listener = UnixListener::bind(&socket).expect("is new");
        let program = std::env::current_exe().expect("this program has a file");
        let start = |_| {
            let mut command = Command::new(&program);
            command.arg("--serve").arg(&socket).arg(&directory).stdin(Stdio::null());
            let child = command.spawn().expect("the process starts");
            let (stream, _) = listener.accept().expect("the process connects");
            Mutex::new(Process { stream, child })
        };
        let processes = (0..number).map(start).collect();
        let provider = Arc::new(Remote { processes, next: AtomicUsize::new(0) });
        Self { provider, scratch }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        let _ = self.child.wait();
    }
}

impl Harness for Processes {
    fn provider(&self) -> Arc<dyn Provider> {
        Arc::<Remote>::clone(&self.provider)
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities { lists: true, ..Capabilities::default() }
    }

    fn rounds(&self) -> usize {
        200
    }

    fn index_entries(&self, _now: Timestamp) -> Option<usize> {
        Some(index_entries(&self.scratch.path().join("store")).len())
    }

    fn store_expiry(&self, key: &SessionKey, _now: Timestamp) -> Option<Timestamp> {
        Some(store_expiry(&self.scratch.path().join("store"), key))
    }

    fn damage(&self, key: &SessionKey) -> bool {
        damage(&self.scratch.path().join("store"), key);
        true
    }
}

impl Remote {
    fn ask(&self, call: &Call) -> Result<Reply, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.processes.len();
        let process = self.processes[number].lock();
        send(&process.stream, call).expect("the process listens");
        match receive(&process.stream).expect("the process replies") {
            Reply::Failed(failure) => Err(failure.into()),
            reply => Ok(reply),
        }
    }

    fn done<'a>(&self, call: &Call) -> Answer<'a, Option<Token>> {
        ProviderFuture::ready(self.ask(call).map(|_| None))
    }
}

impl Provider for Remote {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.done(&Call::Create(*id.key().as_bytes(), record.to_bytes(), now.as_millis()))
    }

    fn load<'a>(&'a self, token: &'a Token, now: Timestamp) -> Answer<'a, Option<Record>> {
        let reply = self.ask(&Call::Load(*token.key().as_bytes(), now.as_millis()));
        ProviderFuture::ready(reply.map(|reply| match reply {
            Reply::Found(found) => found.map(|bytes| read(&bytes)),
            _ => panic!("no reply to a load"),
        }))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        holder: &'a Verifier,
        changes: &'a Changes,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        let (key, holder) = (*token.key().as_bytes(), *holder.as_bytes());
        self.done(&Call::Save(key, holder, Box::new(changes.into()), now.as_millis()))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        touch: Touch,
        now: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        self.done(&Call::Touch(*token.key().as_bytes(), touch.into(), now.as_millis()))
    }

    fn destroy<'a>(
        &'a self,
        key: &'a SessionKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Answer<'a, ()> {
        let call = Call::Destroy(*key.as_bytes(), until.as_millis(), now.as_millis());
        ProviderFuture::ready(self.ask(&call).map(|_| ()))
    }

    fn lists(&self) -> bool {
        true
    }

    fn list<'a>(&'a self, owner: &'a str, page: Page, now: Timestamp) -> Answer<'a, Listed> {
        let after = page.after.map(|key| *key.as_bytes());
        let reply = self.ask(&Call::List(owner.into(), after, page.limit, now.as_millis()));
        ProviderFuture::ready(reply.map(|reply| match reply {
            Reply::Listed(sessions, next) => Listed {
                sessions: sessions.into_iter().map(Summary::from).collect(),
                next: next.map(SessionKey::from_bytes),
            },
            _ => panic!("no reply to a list"),
        }))
    }

    fn count(&self, now: Timestamp) -> Answer<'_, u64> {
        let reply = self.ask(&Call::Count(now.as_millis()));
        ProviderFuture::ready(reply.map(|reply| match reply {
            Reply::Count(count) => count,
            _ => panic!("no reply to a count"),
        }))
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        match self.ask(&Call::Purge(now.as_millis(), limit))? {
            Reply::Purged(removed, more) => Ok(Purged { removed, more }),
            _ => panic!("no reply to a purge"),
        }
    }
}
