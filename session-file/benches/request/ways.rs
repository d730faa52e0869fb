//! The compared variants of counting.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hint::black_box;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use futures_lite::future::block_on;
use http::header::{COOKIE, HeaderValue, SET_COOKIE};
use http::{Request, Response};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use session_core::{Manager, value};

use crate::rounds::CLIENTS;

pub(crate) enum Way {
    Library(Manager, Vec<HeaderValue>),
    Plain {
        files: Vec<PathBuf>,
        durable: bool,
    },
    /// Only the system calls that replace a file, with a folder for each client.
    Bare {
        folders: Vec<OwnedFd>,
        durable: bool,
    },
}

impl Way {
    pub(crate) fn library(provider: &str, source: &str) -> Self {
        let manager = Manager::open(provider, source).expect("opens");
        let cookies = (0..CLIENTS).map(|_| block_on(visitor(&manager))).collect();
        Self::Library(manager, cookies)
    }

    pub(crate) fn plain(directory: &Path, durable: bool) -> Self {
        let files: Vec<_> =
            (0..CLIENTS).map(|n| directory.join(format!("session_{n:043}"))).collect();
        for file in &files {
            let values = BTreeMap::from([("name", name_value()), ("count", number_value(0))]);
            fs::write(file, plain_encoded(&values)).expect("is written");
        }
        Self::Plain { files, durable }
    }

    pub(crate) fn bare(directory: &Path, durable: bool) -> Self {
        let folder = |client: usize| {
            let path = directory.join(client.to_string());
            fs::create_dir(&path).expect("is new");
            fs::write(path.join("old"), BARE).expect("is written");
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, &path, flags, Mode::empty()).expect("is there")
        };
        Self::Bare { folders: (0..CLIENTS).map(folder).collect(), durable }
    }

    pub(crate) fn count(&self, number: usize) {
        match self {
            Self::Library(manager, cookies) => block_on(count(manager, &cookies[number])),
            Self::Plain { files, durable } => {
                let read = fs::read(&files[number]).expect("is read");
                let mut values = plain_decoded(&read);
                let old = decoded_number(&values["count"]);
                values.insert("count", number_value(old + 1));
                let bytes = plain_encoded(&values);
                if *durable {
                    durably(&files[number], &bytes).expect("is written");
                } else {
                    fs::write(&files[number], bytes).expect("is written");
                }
            }
            Self::Bare { folders, durable } => {
                replace(&folders[number], *durable).expect("is replaced");
            }
        }
    }

    pub(crate) fn read(&self, number: usize) {
        match self {
            Self::Library(manager, cookies) => block_on(read(manager, &cookies[number])),
            Self::Plain { files, .. } => {
                let read = fs::read(&files[number]).expect("is read");
                black_box(decoded_number(&plain_decoded(&read)["count"]));
            }
            Self::Bare { .. } => {}
        }
    }
}

fn durably(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    File::open(path.parent().expect("is in a directory"))?.sync_all()
}

/// The size of a session's file in this benchmark.
const BARE: [u8; 128] = [0; 128];

fn replace(folder: &OwnedFd, durable: bool) -> rustix::io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, "new", flags, Mode::RUSR | Mode::WUSR)?;
    rustix::io::write(&file, &BARE)?;
    if durable {
        rustix::fs::fsync(&file)?;
        rustix::fs::renameat(folder, "new", folder, "old")?;
        rustix::fs::fsync(folder)
    } else {
        rustix::fs::renameat_with(folder, "new", folder, "old", RenameFlags::EXCHANGE)?;
        rustix::fs::unlinkat(folder, "new", AtFlags::empty())
    }
}

fn name_value() -> Box<[u8]> {
    (*value::encode("name", "ada lovelace", &Default::default()).expect("is a value")).into()
}

fn number_value(n: u64) -> Box<[u8]> {
    (*value::encode("count", &n, &Default::default()).expect("is a value")).into()
}

fn decoded_number(bytes: &[u8]) -> u64 {
    value::decode("count", bytes, &Default::default()).expect("is a number")
}

fn plain_encoded(values: &BTreeMap<&str, Box<[u8]>>) -> Vec<u8> {
    rmp_serde::to_vec(values).expect("is encoded")
}

fn plain_decoded(bytes: &[u8]) -> BTreeMap<&str, Box<[u8]>> {
    rmp_serde::from_slice(bytes).expect("is decoded")
}

fn request(cookie: &HeaderValue) -> Request<()> {
    let mut request = Request::new(());
    request.headers_mut().insert(COOKIE, cookie.clone());
    request
}

/// Returns the cookie of a new visitor.
async fn visitor(manager: &Manager) -> HeaderValue {
    let request = Request::new(());
    let handle = manager.start(&request);
    let session = handle.load().await.expect("starts");
    session.set("name", &"ada lovelace").expect("is set");
    session.set("count", &0u64).expect("is set");
    let mut response = Response::new(());
    handle.finish(&mut response).await.expect("is stored");
    let set = response.headers()[SET_COOKIE].to_str().expect("is text");
    set.split(';').next().expect("has a pair").parse().expect("is a header value")
}

pub(crate) async fn count(manager: &Manager, cookie: &HeaderValue) {
    let request = request(cookie);
    let handle = manager.start(&request);
    let session = handle.load().await.expect("loads");
    let count: u64 = session.get("count").expect("is a number").expect("is there");
    session.set("count", &(count + 1)).expect("is set");
    let mut response = Response::new(());
    handle.finish(&mut response).await.expect("is stored");
    black_box(response);
}

async fn read(manager: &Manager, cookie: &HeaderValue) {
    let request = request(cookie);
    let handle = manager.start(&request);
    let session = handle.load().await.expect("loads");
    black_box(session.get::<u64>("count").expect("is a number").expect("is there"));
    let mut response = Response::new(());
    handle.finish(&mut response).await.expect("has nothing to do");
    black_box(response);
}
