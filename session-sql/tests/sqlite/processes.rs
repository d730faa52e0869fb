//! Several processes on one file.

use std::process::{Command, Stdio};
use std::time::Duration;

use session_core::provider::{Changes, Provider as _, Record, Verifier};
use session_core::{Error, SessionId};
use session_sql::sqlite::{Durability, SqliteConfig, SqliteProvider};

use crate::scratch::{EXPIRES, NOW, Scratch};

const PROCESSES: u8 = 4;
const SAVES: u32 = 50;

/// What a process is told by the test that starts it: its number, the file and the id.
const TOLD: [&str; 3] = ["SESSION_SQLITE_NUMBER", "SESSION_SQLITE_PATH", "SESSION_SQLITE_ID"];

/// Each process sets keys of its own and counts on one that all share; nothing of it is lost. They begin at the
/// same time on a file that isn't there.
#[test]
fn processes_on_one_file_lose_nothing() {
    let scratch = Scratch::in_memory();
    let id = SessionId::generate().unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|number| {
            let mut child = Command::new(std::env::current_exe().expect("it runs"));
            child.args(["--exact", "processes::one_of_them", "--ignored"]);
            child.env(TOLD[0], number.to_string()).env(TOLD[1], scratch.path());
            child.env(TOLD[2], &*id.text()).stdout(Stdio::piped()).stderr(Stdio::piped());
            child.spawn().expect("it starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    let loaded = scratch.block_on(scratch.open().load(&id.into(), NOW)).unwrap().unwrap();
    let counted = u32::from(PROCESSES) * SAVES;
    assert_eq!(loaded.values.get("shared"), Some(&counted.to_le_bytes()[..]));
    assert_eq!(loaded.values.len(), counted as usize + 1);
}

/// A process that [`processes_on_one_file_lose_nothing`] starts.
#[test]
#[ignore = "is started by another test"]
fn one_of_them() {
    let told = TOLD.map(|name| std::env::var(name).expect("another test starts this one"));
    let [number, path, id] = told;
    let config = SqliteConfig::new(path).with_sync(Durability::None);
    let config = config.with_operation_timeout(Duration::from_secs(60));
    let provider = SqliteProvider::open(config).expect("the database opens");
    let id = SessionId::parse(id.as_bytes()).expect("it is an id");
    let holder = Verifier::digest(&id, "");
    futures_lite::future::block_on(async {
        let created = provider.create(&id, Record::new(holder, NOW, EXPIRES), NOW).await;
        assert!(matches!(created, Ok(_) | Err(Error::Exists)), "{created:?}");
        for save in 0..SAVES {
            loop {
                let loaded = provider.load(&id.into(), NOW).await.unwrap().unwrap();
                let before = loaded.values.get("shared");
                let count = before.map_or(0, |bytes| u32::from_le_bytes(bytes.try_into().unwrap()));
                let mut changes = Changes::new();
                changes.set("shared", (count + 1).to_le_bytes());
                changes.set(&format!("{number}.{save}"), [1]);
                let changes = changes.expecting("shared", before);
                match provider.save(&id.into(), &holder, &changes, NOW).await {
                    Ok(_) => break,
                    Err(Error::Conflict) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
    });
}
