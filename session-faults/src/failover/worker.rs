//! A worker process, which changes sessions and records what was acknowledged.

use std::io::Read as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use session_core::provider::{Changes, Login, NewSecret, Provider};
use session_core::{Error, SessionId};

use super::ledger::{KEYS, Ledger, Outcomes, Own, Shared, Stage};
use super::{EXPIRES, NOW, decoded_number, encoded_number, holder, record};

/// The number of concurrent visitors in each process.
const TASKS: usize = 8;

/// The harness's handle of a worker.
pub(super) struct Worker(Child);

impl Worker {
    pub(super) fn start(number: usize, source: &str) -> Self {
        let program = std::env::current_exe().expect("this program has a path");
        let child = Command::new(program)
            .args(["worker", &number.to_string(), source])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Self(child.expect("a worker starts"))
    }

    /// Stops the worker and returns its ledger.
    pub(super) fn stop(mut self) -> Ledger {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().expect("a worker ends");
        assert!(output.status.success(), "a worker failed");
        Ledger::read(&String::from_utf8(output.stdout).expect("books are text"))
    }
}

/// The worker's main function: works until stdin ends, and prints its ledger.
pub(super) fn work(process: usize, provider: &Arc<dyn Provider>) -> ExitCode {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime starts");
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let visitor = Visitor {
                process,
                task,
                provider: Arc::clone(provider),
                stop: Arc::clone(&stop),
                ledger: Ledger::default(),
            };
            runtime.spawn(visitor.run())
        })
        .collect();
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    stop.store(true, Ordering::Relaxed);
    let mut ledger = Ledger::default();
    for task in tasks {
        ledger.add(runtime.block_on(task).expect("a visitor ends"));
    }
    print!("{}", ledger.write());
    ExitCode::SUCCESS
}

/// Returns the id of a shared session, which both processes derive without communication.
pub(super) fn shared_id(task: usize, number: usize) -> SessionId {
    let mut bytes = [0x5a; 32];
    bytes[..8].copy_from_slice(&(task as u64).to_le_bytes());
    bytes[8..16].copy_from_slice(&(number as u64).to_le_bytes());
    SessionId::from_bytes(bytes)
}

/// Returns a key that a process saves in a shared session.
pub(super) fn key(process: usize, at: usize) -> String {
    format!("p{process}.{at}")
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Done,
    Nothing,
    Doubt,
    Conflict,
    Exists,
    Gone,
}

struct Visitor {
    process: usize,
    task: usize,
    provider: Arc<dyn Provider>,
    stop: Arc<AtomicBool>,
    ledger: Ledger,
}

impl Visitor {
    async fn run(mut self) -> Ledger {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            self.share(number).await;
            self.log_in_and_out(number).await;
        }
        self.ledger
    }

    /// Saves and increments in a session that the other process changes as well.
    async fn share(&mut self, number: usize) {
        let id = shared_id(self.task, number);
        let mut shared = Shared { task: self.task, number, ..Shared::default() };
        let created = self.provider.create(&id, record(&id), NOW).await;
        // `Exists` may be said of a creation of the other process that is still in doubt.
        shared.created = self.told(created) == Told::Done;
        for at in 0..KEYS {
            let mut changes = Changes::new();
            changes.set(&key(self.process, at), [7]);
            match self.save(&id, &changes).await {
                Told::Done => {
                    shared.saved |= 1 << at;
                    shared.created = true;
                }
                Told::Gone if shared.created => self.ledger.outcomes.vanished += 1,
                _ => {}
            }
            if at % 4 == 0 {
                match self.increment(&id).await {
                    Told::Done => shared.counted += 1,
                    Told::Doubt => shared.doubtful += 1,
                    _ => {}
                }
            }
        }
        self.ledger.shared.push(shared);
    }

    /// Reads, adds one and writes, until there is no conflict.
    async fn increment(&mut self, id: &SessionId) -> Told {
        loop {
            let loaded = self.provider.load(&(*id).into(), NOW).await;
            let record = match loaded {
                Ok(Some(record)) => record,
                // Its creation failed at both processes, or has only been tried by the other one.
                Ok(None) => return Told::Gone,
                Err(error) => return self.told::<()>(Err(error)),
            };
            let old = record.values.get("n");
            let mut changes = Changes::new().expecting("n", old);
            changes.set("n", encoded_number(decoded_number(old) + 1));
            match self.save(id, &changes).await {
                Told::Conflict => {}
                told => return told,
            }
        }
    }

    /// Logs in, regenerates the id, saves a value after each of these, and every other time logs out.
    async fn log_in_and_out(&mut self, number: usize) {
        let first = SessionId::generate().expect("an id");
        let renewed = || first.with_new_secret().expect("an id");
        let mut own = Own {
            ids: [first, renewed(), renewed()],
            least: Stage::New,
            most: Stage::New,
            kept: Stage::New,
            perhaps_kept: Stage::New,
        };
        let created = self.provider.create(&first, record(&first), NOW).await;
        if self.told(created) != Told::Done {
            return;
        }
        for stage in Stage::ALL.into_iter().skip(1) {
            if stage == Stage::Ended && number.is_multiple_of(2) {
                break;
            }
            match self.go_on(&own.ids, stage).await {
                Told::Done => {
                    (own.least, own.most) = (stage, stage);
                    self.keep(&mut own, stage).await;
                }
                Told::Nothing => break,
                // It was applied or not. The verdict checks that it was not applied partially.
                Told::Doubt => {
                    own.most = stage;
                    break;
                }
                _ => {
                    self.ledger.outcomes.vanished += 1;
                    break;
                }
            }
        }
        self.ledger.own.push(own);
    }

    /// Saves a value separately, which a late attempt of the login would undo.
    async fn keep(&mut self, own: &mut Own, stage: Stage) {
        let Some(at) = stage.opened_by() else { return };
        let mut changes = Changes::new();
        changes.set("kept", [stage as u8]);
        match self.save(&own.ids[at], &changes).await {
            Told::Done => (own.kept, own.perhaps_kept) = (stage, stage),
            Told::Nothing => {}
            Told::Doubt => own.perhaps_kept = stage,
            _ => self.ledger.outcomes.vanished += 1,
        }
    }

    /// Brings a visitor's session to the next stage.
    async fn go_on(&mut self, ids: &[SessionId; 3], stage: Stage) -> Told {
        let Some(at) = stage.opened_by() else {
            let destroyed = self.provider.destroy(&ids[0].key(), EXPIRES, NOW).await;
            return self.told(destroyed);
        };
        let new_id = ids[at];
        let mut changes = Changes::new();
        changes.set("stage", [stage as u8]);
        changes.secret =
            Some(Box::new(NewSecret { token: new_id.into(), holder: holder(&new_id), at: NOW }));
        if stage == Stage::LoggedIn {
            let login = Login { owner: "ada".into(), at: NOW, label: "".into() };
            changes.login = Some(Some(Box::new(login)));
            changes.set("kept", [Stage::New as u8]);
        }
        self.save(&ids[at - 1], &changes).await
    }

    async fn save(&mut self, id: &SessionId, changes: &Changes) -> Told {
        let saved = self.provider.save(&(*id).into(), &holder(id), changes, NOW).await;
        self.told(saved)
    }

    fn told<T>(&mut self, result: Result<T, Error>) -> Told {
        let Outcomes { acknowledged, conflicts, unavailable, doubtful, .. } =
            &mut self.ledger.outcomes;
        let (counter, told) = match result {
            Ok(_) => (acknowledged, Told::Done),
            Err(Error::Conflict) => (conflicts, Told::Conflict),
            Err(Error::Unavailable { .. }) => (unavailable, Told::Nothing),
            Err(Error::InDoubt { .. }) => (doubtful, Told::Doubt),
            Err(Error::Exists) => return Told::Exists,
            Err(Error::Gone) => return Told::Gone,
            Err(error) => panic!("unexpected: {error:?}"),
        };
        *counter += 1;
        told
    }
}
