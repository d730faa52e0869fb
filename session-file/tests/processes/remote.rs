//! A provider whose operations other processes do.

use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_lite::future::block_on;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use session_core::conformance::Harness;
use session_core::{
    Changes, Error, Expected, ExpiryChange, Limits, Provider, ProviderFuture, Purged, Record,
    SessionId, Timestamp, Token,
};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::Scratch;

type Id = [u8; SessionId::BYTES];

/// An operation, as it travels.
#[derive(Serialize, Deserialize)]
enum Call {
    Create(Id, Sent, u64),
    Load(Id, u64),
    Save(Id, SentChanges, u64),
    Rename(Id, Id, u64),
    Destroy(Id, u64),
    Touch(Id, u64, u64),
    Count(u64),
    Purge(u64, usize),
}

#[derive(Serialize, Deserialize)]
enum Answer {
    Done,
    Found(Option<Sent>),
    Count(u64),
    Purged(usize, bool),
    Failed(Failure),
}

#[derive(Serialize, Deserialize)]
enum Failure {
    Gone,
    Conflict,
    Exists,
    TooManyBytes(usize),
    TooManyKeys(usize),
    Other(String),
}

#[derive(Serialize, Deserialize)]
struct Sent {
    created: u64,
    expires: u64,
    owner: Option<String>,
    values: Vec<(String, Vec<u8>)>,
}

#[derive(Serialize, Deserialize)]
struct SentChanges {
    entries: Vec<(String, Option<Vec<u8>>)>,
    expected: Option<(String, Option<Vec<u8>>)>,
    expiry: SentExpiry,
    /// The inner one in brackets: MessagePack has one `nil` only.
    owner: Option<(Option<String>,)>,
    limits: Limits,
}

#[derive(Serialize, Deserialize)]
enum SentExpiry {
    Keep,
    Extend(u64),
    Set(u64),
}

impl From<&Record> for Sent {
    fn from(record: &Record) -> Self {
        Self {
            created: record.created.as_millis(),
            expires: record.expires.as_millis(),
            owner: record.owner.as_deref().map(Into::into),
            values: record.values.iter().map(|(key, value)| (key.into(), value.into())).collect(),
        }
    }
}

impl From<Sent> for Record {
    fn from(sent: Sent) -> Self {
        Self {
            created: Timestamp::from_millis(sent.created),
            expires: Timestamp::from_millis(sent.expires),
            owner: sent.owner.map(Into::into),
            values: sent.values.into_iter().collect(),
        }
    }
}

impl From<&Changes> for SentChanges {
    fn from(changes: &Changes) -> Self {
        let bytes = |value: Option<&[u8]>| value.map(<[u8]>::to_vec);
        Self {
            entries: changes.iter().map(|(key, value)| (key.into(), bytes(value))).collect(),
            expected: (changes.expected.as_ref())
                .map(|expected| (expected.key.to_string(), bytes(expected.value.as_deref()))),
            expiry: match changes.expiry {
                ExpiryChange::Keep => SentExpiry::Keep,
                ExpiryChange::Extend(expires) => SentExpiry::Extend(expires.as_millis()),
                ExpiryChange::Set(expires) => SentExpiry::Set(expires.as_millis()),
            },
            owner: (changes.owner.as_ref()).map(|owner| (owner.as_deref().map(Into::into),)),
            limits: changes.limits,
        }
    }
}

impl From<SentChanges> for Changes {
    fn from(sent: SentChanges) -> Self {
        let mut changes = Self::new();
        for (key, value) in sent.entries {
            match value {
                Some(value) => changes.set(&key, value),
                None => changes.delete(&key),
            }
        }
        changes.expected = sent
            .expected
            .map(|(key, value)| Expected { key: key.into(), value: value.map(Into::into) });
        changes.expiry = match sent.expiry {
            SentExpiry::Keep => ExpiryChange::Keep,
            SentExpiry::Extend(expires) => ExpiryChange::Extend(Timestamp::from_millis(expires)),
            SentExpiry::Set(expires) => ExpiryChange::Set(Timestamp::from_millis(expires)),
        };
        changes.owner = sent.owner.map(|(owner,)| owner.map(Into::into));
        changes.limits = sent.limits;
        changes
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Gone => Self::Gone,
            Error::Conflict => Self::Conflict,
            Error::Exists => Self::Exists,
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

/// What the other process does: one operation after another, until nobody asks any more.
pub(crate) fn serve(socket: &str, directory: &str) -> ExitCode {
    let stream = UnixStream::connect(socket).expect("the parent listens");
    let config = FileConfig::new(directory).with_sync(Durability::None);
    let provider = FileProvider::open(config).expect("the store opens");
    while let Ok(call) = receive(&stream) {
        let answer = answer(&provider, call).unwrap_or_else(|error| Answer::Failed(error.into()));
        send(&stream, &answer).expect("the parent waits for the answer");
    }
    ExitCode::SUCCESS
}

fn answer(provider: &FileProvider, call: Call) -> Result<Answer, Error> {
    let token = |id| Token::from(SessionId::from_bytes(id));
    let time = Timestamp::from_millis;
    let id = SessionId::from_bytes;
    Ok(match call {
        Call::Create(new, record, now) => {
            block_on(provider.create(&id(new), record.into(), time(now)))?;
            Answer::Done
        }
        Call::Load(id, now) => {
            let found = block_on(provider.load(&token(id), time(now)))?;
            Answer::Found(found.as_ref().map(Sent::from))
        }
        Call::Save(id, changes, now) => {
            block_on(provider.save(&token(id), &changes.into(), time(now)))?;
            Answer::Done
        }
        Call::Rename(old, new, now) => {
            block_on(provider.rename(&token(old), &id(new), time(now)))?;
            Answer::Done
        }
        Call::Destroy(id, now) => {
            block_on(provider.destroy(&token(id), time(now)))?;
            Answer::Done
        }
        Call::Touch(id, expires, now) => {
            block_on(provider.touch(&token(id), time(expires), time(now)))?;
            Answer::Done
        }
        Call::Count(now) => Answer::Count(block_on(provider.count(time(now)))?),
        Call::Purge(now, limit) => {
            let Purged { removed, more } = provider.purge(time(now), limit)?;
            Answer::Purged(removed, more)
        }
    })
}

/// Processes that share a directory, one case's store.
pub(crate) struct Processes {
    provider: Arc<Remote>,
    _scratch: Scratch,
}

/// Hands each operation to the next process.
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
        Self { provider, _scratch: scratch }
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

    fn rounds(&self) -> usize {
        200
    }
}

impl Remote {
    fn ask(&self, call: &Call) -> Result<Answer, Error> {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.processes.len();
        let process = self.processes[number].lock();
        send(&process.stream, call).expect("the process listens");
        match receive(&process.stream).expect("the process answers") {
            Answer::Failed(failure) => Err(failure.into()),
            answer => Ok(answer),
        }
    }

    fn done<'a>(&self, call: &Call, token: Token) -> ProviderFuture<'a, Result<Token, Error>> {
        ProviderFuture::ready(self.ask(call).map(|_| token))
    }
}

impl Provider for Remote {
    fn create<'a>(
        &'a self,
        id: &'a SessionId,
        record: Record,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let call = Call::Create(*id.as_bytes(), Sent::from(&record), now.as_millis());
        self.done(&call, Token::from(*id))
    }

    fn load<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Option<Record>, Error>> {
        let answer = self.ask(&Call::Load(*token.id().as_bytes(), now.as_millis()));
        ProviderFuture::ready(answer.map(|answer| match answer {
            Answer::Found(found) => found.map(Record::from),
            _ => panic!("not an answer to a load"),
        }))
    }

    fn save<'a>(
        &'a self,
        token: &'a Token,
        changes: &'a Changes,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let call = Call::Save(*token.id().as_bytes(), changes.into(), now.as_millis());
        self.done(&call, token.clone())
    }

    fn rename<'a>(
        &'a self,
        token: &'a Token,
        new_id: &'a SessionId,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let (old, new) = (*token.id().as_bytes(), *new_id.as_bytes());
        self.done(&Call::Rename(old, new, now.as_millis()), Token::from(*new_id))
    }

    fn destroy<'a>(
        &'a self,
        token: &'a Token,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<(), Error>> {
        let call = Call::Destroy(*token.id().as_bytes(), now.as_millis());
        ProviderFuture::ready(self.ask(&call).map(|_| ()))
    }

    fn touch<'a>(
        &'a self,
        token: &'a Token,
        expires: Timestamp,
        now: Timestamp,
    ) -> ProviderFuture<'a, Result<Token, Error>> {
        let id = *token.id().as_bytes();
        self.done(&Call::Touch(id, expires.as_millis(), now.as_millis()), token.clone())
    }

    fn count(&self, now: Timestamp) -> ProviderFuture<'_, Result<u64, Error>> {
        let answer = self.ask(&Call::Count(now.as_millis()));
        ProviderFuture::ready(answer.map(|answer| match answer {
            Answer::Count(count) => count,
            _ => panic!("not an answer to a count"),
        }))
    }

    fn purge(&self, now: Timestamp, limit: usize) -> Result<Purged, Error> {
        match self.ask(&Call::Purge(now.as_millis(), limit))? {
            Answer::Purged(removed, more) => Ok(Purged { removed, more }),
            _ => panic!("not an answer to a purge"),
        }
    }
}
