//! The modes of created files and folders under other umasks.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use futures_lite::future::block_on;
use session_core::provider::{Changes, Login, NewSecret, Provider as _, Record, Token, Verifier};
use session_core::{SessionId, Timestamp};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::Scratch;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);

fn open(directory: &Path) -> FileProvider {
    let config = FileConfig::new(directory).with_sync(Durability::None);
    FileProvider::open(config).expect("the store opens")
}

fn ids() -> [SessionId; 2] {
    [1, 2].map(|byte| SessionId::from_bytes([byte; 32]))
}

/// The main function of the other process.
pub(crate) fn masked(arguments: &[String]) -> ExitCode {
    let [mask, directory] = arguments else { panic!("wrong arguments: {arguments:?}") };
    let mask = rustix::fs::RawMode::from_str_radix(mask, 8).expect("is octal");
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(mask));
    let provider = open(Path::new(directory));
    let expires = NOW.saturating_add(Duration::from_secs(3600));
    let [created, renewed] = ids();
    let holder = Verifier::digest(&renewed, "");
    for id in [created, renewed] {
        let login = Login { owner: "ada".into(), at: NOW, label: "".into() };
        let login = Some(Box::new(login));
        let record = Record { login, ..Record::new(holder, NOW, expires) };
        block_on(provider.create(&id, record, NOW)).expect("is new");
    }
    let secret = NewSecret { token: renewed.into(), holder, at: NOW };
    let changes = Changes::new().with_secret(secret);
    block_on(provider.save(&renewed.into(), &holder, &changes, NOW)).expect("is live");
    ExitCode::SUCCESS
}

pub(crate) fn run() {
    for mask in ["0", "022", "077", "777"] {
        let scratch = Scratch::new();
        let program = std::env::current_exe().expect("this program has a file");
        let mut command = Command::new(program);
        let status = command.args(["--masked", mask]).arg(scratch.path()).status();
        assert!(status.expect("the process starts").success(), "under the mask {mask}");

        let (mut files, mut folders) = (0, 0);
        let mut check = |path: &Path| {
            let metadata = path.symlink_metadata().expect("is there");
            let (count, wanted) =
                if metadata.is_dir() { (&mut folders, 0o700) } else { (&mut files, 0o600) };
            *count += 1;
            assert_eq!(metadata.mode() & 0o7777, wanted, "{} under {mask}", path.display());
            metadata.is_dir()
        };
        let mut paths = vec![scratch.path().to_owned()];
        while let Some(path) = paths.pop() {
            if check(&path) {
                let entries = fs::read_dir(&path).expect("is listed");
                paths.extend(entries.map(|entry| entry.expect("is listed").path()));
            }
        }
        // The portable way also has lock files for both sessions.
        let locks = if cfg!(all(target_os = "linux", not(session_file_portable))) { 1 } else { 3 };
        assert_eq!(files, 2 * 2 + locks, "two sessions, their entries, and the locks");
        assert_eq!(folders, 1 + 256 + 3, "the store, the sessions', and the index's");
        let provider = open(scratch.path());
        for id in ids() {
            let loaded = block_on(provider.load(&Token::from(id), NOW)).expect("can be read");
            assert!(loaded.is_some(), "under {mask}");
        }
    }
}
