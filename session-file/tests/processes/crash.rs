//! Processes that are killed at random moments, and what is in the store afterwards.
//!
//! A victim changes sessions on several threads. Before each change it writes a line that says what
//! it is about to do, and after it a line that acknowledges it. The parent kills it with SIGKILL,
//! reads what it wrote to the end, and looks at the store: what was acknowledged is there, what was
//! begun is there or not, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use session_core::{Changes, Error, Provider as _, Record, SessionId, Timestamp, Token, value};
use session_file::{Durability, FileConfig, FileProvider};

use crate::scratch::Scratch;

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const THREADS: usize = 3;
/// Victims at a time; they share one session, whose number they count up.
const VICTIMS: usize = 2;
/// The most sessions that are kept from one round to the next.
const SESSIONS: usize = 100;

/// A change of one session. `n` stands for the values that it has before, or gets.
#[derive(Clone, Copy, Debug)]
enum Change {
    Create { id: SessionId, n: u64 },
    Save { id: SessionId, n: u64 },
    Rename { id: SessionId, new_id: SessionId },
    Destroy { id: SessionId },
    Increment,
}

impl Change {
    fn to_words(self) -> String {
        match self {
            Self::Create { id, n } => format!("create {} {n}", id_to_hex(&id)),
            Self::Save { id, n } => format!("save {} {n}", id_to_hex(&id)),
            Self::Rename { id, new_id } => {
                format!("rename {} {}", id_to_hex(&id), id_to_hex(&new_id))
            }
            Self::Destroy { id } => format!("destroy {}", id_to_hex(&id)),
            Self::Increment => "increment".to_owned(),
        }
    }

    fn of_words(words: &[&str]) -> Self {
        match words {
            ["create", id, n] => Self::Create { id: id_of_hex(id), n: number(n) },
            ["save", id, n] => Self::Save { id: id_of_hex(id), n: number(n) },
            ["rename", id, new] => Self::Rename { id: id_of_hex(id), new_id: id_of_hex(new) },
            ["destroy", id] => Self::Destroy { id: id_of_hex(id) },
            ["increment"] => Self::Increment,
            _ => panic!("a victim wrote {words:?}"),
        }
    }
}

fn id_to_hex(id: &SessionId) -> String {
    id.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id_of_hex(text: &str) -> SessionId {
    let byte = |at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("is hexadecimal");
    SessionId::from_bytes(std::array::from_fn(byte))
}

fn number(text: &str) -> u64 {
    text.parse().expect("is a number")
}

/// A reproducible sequence (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }
}

fn encoded(n: u64) -> Box<[u8]> {
    value::encode("", &n, &Default::default()).expect("is a value")
}

/// Values that belong together: of a torn record they would not.
fn changes(n: u64) -> Changes {
    let length = (n * 7919 % 9000) as usize;
    let text: String = std::iter::repeat_n((b'a' + (n % 26) as u8) as char, length).collect();
    let mut changes = Changes::new();
    changes.set("n", encoded(n));
    changes.set("text", value::encode("", &text, &Default::default()).expect("is a value"));
    changes
}

fn record(n: u64) -> Record {
    let mut record =
        Record { created: NOW, expires: NOW.saturating_add(HOUR), ..Record::default() };
    record.apply(&changes(n), NOW).expect("fits");
    record
}

const HOUR: Duration = Duration::from_secs(3600);

fn open(directory: &Path, sync: Durability) -> FileProvider {
    let config = FileConfig::new(directory).with_sync(sync);
    FileProvider::open(config).expect("the store opens")
}

/// What the victim does until it is killed.
pub(crate) fn victim(directory: &str, sync: &str, seed: u64, sessions: &str) -> ExitCode {
    let sync = if sync == "full" { Durability::Full } else { Durability::None };
    let provider = open(Path::new(directory), sync);
    let (counter, sessions) = sessions.split_once(';').expect("the counter comes first");
    let counter = Token::from(id_of_hex(counter));
    let mut shares = vec![Vec::new(); THREADS];
    for (at, session) in sessions.split(',').filter(|session| !session.is_empty()).enumerate() {
        let (id, n) = session.split_once(':').expect("an id and a number");
        shares[at % THREADS].push((id_of_hex(id), number(n)));
    }
    thread::scope(|scope| {
        for (number, share) in shares.into_iter().enumerate() {
            let (provider, counter) = (&provider, &counter);
            scope.spawn(move || {
                let mut random = Random(seed ^ (number as u64) << 32);
                let mut worker = Worker { provider, counter, number, sessions: share };
                loop {
                    worker.step(&mut random);
                }
            });
        }
    });
    unreachable!("the victim works until it is killed")
}

struct Worker<'w> {
    provider: &'w FileProvider,
    counter: &'w Token,
    number: usize,
    sessions: Vec<(SessionId, u64)>,
}

impl Worker<'_> {
    fn step(&mut self, random: &mut Random) {
        let new_id = || SessionId::generate().expect("has random numbers");
        let at = random.below(self.sessions.len().max(1) as u64) as usize;
        let old = self.sessions.get(at).copied();
        let change = match (random.below(10), old) {
            (0, Some((id, _))) => Change::Destroy { id },
            (1 | 2, Some((id, _))) => Change::Rename { id, new_id: new_id() },
            (3..=6, Some((id, n))) => Change::Save { id, n: n + 1 },
            (7, Some(_)) => Change::Increment,
            _ => Change::Create { id: new_id(), n: random.below(1 << 40) },
        };
        self.say("begin", change);
        self.apply(change).unwrap_or_else(|error| panic!("{change:?}: {error:?}"));
        self.say("done", change);
        match change {
            Change::Create { id, n } => self.sessions.push((id, n)),
            Change::Save { n, .. } => self.sessions[at].1 = n,
            Change::Rename { new_id, .. } => self.sessions[at].0 = new_id,
            Change::Destroy { .. } => drop(self.sessions.swap_remove(at)),
            Change::Increment => {}
        }
    }

    /// One write: a line is there or not, however the process ends.
    fn say(&self, what: &str, change: Change) {
        let line = format!("{what} {} {}\n", self.number, change.to_words());
        let written = rustix::io::write(rustix::stdio::stdout(), line.as_bytes());
        assert_eq!(written, Ok(line.len()), "the parent reads");
    }

    fn apply(&self, change: Change) -> Result<(), Error> {
        let provider = self.provider;
        match change {
            Change::Create { id, n } => block_on(provider.create(&id, record(n), NOW)).map(drop),
            Change::Save { id, n } => {
                block_on(provider.save(&id.into(), &changes(n), NOW)).map(drop)
            }
            Change::Rename { id, new_id } => {
                block_on(provider.rename(&id.into(), &new_id, NOW)).map(drop)
            }
            Change::Destroy { id } => block_on(provider.destroy(&id.into(), NOW)),
            Change::Increment => loop {
                let found = block_on(provider.load(self.counter, NOW))?.ok_or(Error::Gone)?;
                let old = found.values.get("n").expect("the counter counts");
                let n: u64 = value::decode("n", old, &Default::default())?;
                let mut changes = Changes::new().expecting("n", Some(old));
                changes.set("n", encoded(n + 1));
                match block_on(provider.save(self.counter, &changes, NOW)) {
                    Err(Error::Conflict) => {}
                    result => return result.map(drop),
                }
            },
        }
    }
}

/// What the store should hold.
struct Model {
    /// Living sessions.
    live: BTreeMap<SessionId, u64>,
    /// Sessions that were destroyed or renamed.
    dead: Vec<SessionId>,
    counter: SessionId,
    counted: u64,
}

/// What was checked and what was found.
#[derive(Debug, Default)]
struct Report {
    kills: usize,
    acknowledged: usize,
    begun_only: usize,
    checked: usize,
    strays: usize,
    /// Acknowledged changes that are not there.
    lost: Vec<String>,
    /// Records that are neither the old nor the new one.
    torn: Vec<String>,
    /// Destroyed sessions that are there again.
    back: Vec<String>,
}

/// Kills this many processes.
pub(crate) fn run(kills: usize, seed: u64) {
    let scratch = Scratch::new();
    let provider = open(scratch.path(), Durability::None);
    let counter = SessionId::generate().expect("has random numbers");
    block_on(provider.create(&counter, record(0), NOW)).expect("is new");
    let mut model = Model { live: BTreeMap::new(), dead: Vec::new(), counter, counted: 0 };
    let mut report = Report::default();
    let mut random = Random(seed);
    let start = Instant::now();
    while report.kills < kills {
        round(&scratch, &provider, &mut model, &mut report, &mut random);
        if report.kills.is_multiple_of(500) {
            eprintln!("{} killed after {:.0?}", report.kills, start.elapsed());
        }
    }
    // The last strays go with a collection, and no session does.
    while provider.purge(NOW, 1000).expect("collects").more {}
    assert_eq!(strays(scratch.path()), 0, "strays stay");
    let live = block_on(provider.count(NOW)).expect("counts");
    assert_eq!(live, model.live.len() as u64 + 1, "sessions in the end");
    let Report { kills, acknowledged, begun_only, checked, strays, lost, torn, back } = report;
    println!(
        "{kills} processes killed in {:.0?} (seed {seed}): {acknowledged} changes acknowledged, \
         {begun_only} begun only, {checked} sessions checked, {strays} stray temporaries; \
         {} acknowledged lost, {} torn, {} back from the dead",
        start.elapsed(),
        lost.len(),
        torn.len(),
        back.len(),
    );
    assert!(acknowledged > 2 * kills, "the victims were killed before they did anything");
    assert!(lost.is_empty() && torn.is_empty() && back.is_empty(), "{lost:?} {torn:?} {back:?}");
}

fn round(
    scratch: &Scratch,
    provider: &FileProvider,
    model: &mut Model,
    report: &mut Report,
    random: &mut Random,
) {
    let mut shares = vec![Vec::new(); VICTIMS];
    for (at, (id, n)) in model.live.iter().enumerate() {
        shares[at % VICTIMS].push(format!("{}:{n}", id_to_hex(id)));
    }
    let program = std::env::current_exe().expect("this program has a file");
    let victims: Vec<_> = shares
        .iter()
        .map(|share| {
            let sync = if random.below(2) == 0 { "none" } else { "full" };
            let sessions = format!("{};{}", id_to_hex(&model.counter), share.join(","));
            let mut command = Command::new(&program);
            command.arg("--victim").arg(scratch.path()).arg(sync);
            command.arg(random.below(u64::MAX).to_string()).arg(sessions);
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .spawn()
                .expect("the victim starts");
            let output = listen(child.stdout.take().expect("is piped"));
            (child, output)
        })
        .collect();
    let mut begun_only = Vec::new();
    let mut touched = BTreeSet::new();
    for (mut child, output) in victims {
        // Most get time to begin; some are killed while they open the store.
        if random.below(8) > 0 {
            let _ = output.began.recv_timeout(Duration::from_secs(60));
        }
        thread::sleep(Duration::from_micros(random.below(20_000)));
        child.kill().expect("is alive until now");
        let status = child.wait().expect("is waited for");
        assert_eq!(status.code(), None, "the victim ended by itself: {status}");
        report.kills += 1;
        let text = output.text.join().expect("the listener does not panic");
        let mut begun: [Option<Change>; THREADS] = [None; THREADS];
        // A line without an end is none: the write was cut off by the kill.
        for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
            let words: Vec<_> = line.split(' ').collect();
            let thread = number(words[1]) as usize;
            let change = Change::of_words(&words[2..]);
            if words[0] == "begin" {
                begun[thread] = Some(change);
            } else {
                begun[thread] = None;
                report.acknowledged += 1;
                model.acknowledge(change, &mut touched);
            }
        }
        begun_only.extend(begun.into_iter().flatten());
    }
    report.begun_only += begun_only.len();
    model.check(provider, report, &begun_only, touched, random);
    report.strays += strays(scratch.path());
    if random.below(10) == 0 {
        while provider.purge(NOW, 1000).expect("collects").more {}
        assert_eq!(strays(scratch.path()), 0, "all who could have made them are dead");
    }
    while model.live.len() > SESSIONS {
        let id = *model.live.keys().next().expect("there are some");
        block_on(provider.destroy(&id.into(), NOW)).expect("is removed");
        model.acknowledge(Change::Destroy { id }, &mut BTreeSet::new());
    }
}

impl Model {
    fn acknowledge(&mut self, change: Change, touched: &mut BTreeSet<SessionId>) {
        match change {
            Change::Create { id, n } | Change::Save { id, n } => {
                self.live.insert(id, n);
                touched.insert(id);
            }
            Change::Rename { id, new_id } => {
                let n = self.live.remove(&id).expect("what is renamed was there");
                self.live.insert(new_id, n);
                self.dead.push(id);
                touched.extend([id, new_id]);
            }
            Change::Destroy { id } => {
                self.live.remove(&id);
                self.dead.push(id);
                touched.insert(id);
            }
            Change::Increment => self.counted += 1,
        }
    }

    /// Compares the store with what it should hold, and goes on from what it does.
    fn check(
        &mut self,
        provider: &FileProvider,
        report: &mut Report,
        begun: &[Change],
        mut touched: BTreeSet<SessionId>,
        random: &mut Random,
    ) {
        let mut increments = 0;
        for change in begun {
            report.checked += 1;
            let mut found = |id: &SessionId| {
                touched.remove(id);
                self.found(provider, report, id)
            };
            match *change {
                Change::Create { id, n } | Change::Save { id, n } => {
                    let found = found(&id);
                    if found == Some(n) {
                        self.live.insert(id, n);
                    } else if found != self.live.get(&id).copied() {
                        report.lost.push(format!("{change:?}: found {found:?}"));
                    }
                }
                Change::Rename { id, new_id } => {
                    let (old, new) = (found(&id), found(&new_id));
                    let before = self.live.get(&id).copied();
                    match (old, new) {
                        (Some(_), None) if old == before => {}
                        (None, Some(n)) if new == before => {
                            self.live.remove(&id);
                            self.live.insert(new_id, n);
                            self.dead.push(id);
                        }
                        _ => report.torn.push(format!("{change:?}: found {old:?} and {new:?}")),
                    }
                }
                Change::Destroy { id } => match found(&id) {
                    None => {
                        self.live.remove(&id);
                        self.dead.push(id);
                    }
                    found if found == self.live.get(&id).copied() => {}
                    found => report.torn.push(format!("{change:?}: found {found:?}")),
                },
                Change::Increment => increments += 1,
            }
        }
        // All that the victims touched, and some that they did not.
        let mut wanted = touched;
        wanted.extend(self.live.keys().filter(|_| random.below(4) == 0));
        for _ in 0..self.dead.len().min(20) {
            wanted.insert(self.dead[random.below(self.dead.len() as u64) as usize]);
        }
        for id in wanted {
            report.checked += 1;
            let (found, wanted) = (self.found(provider, report, &id), self.live.get(&id).copied());
            if found != wanted {
                let list = if wanted.is_none() { &mut report.back } else { &mut report.lost };
                list.push(format!("wanted {wanted:?}, found {found:?}"));
            }
        }
        let found = block_on(provider.load(&self.counter.into(), NOW)).expect("can be read");
        let record = found.expect("the counter is there");
        let n = record.values.get("n").expect("the counter counts");
        let n: u64 = value::decode("n", n, &Default::default()).expect("is a number");
        if n < self.counted || n > self.counted + increments {
            report.lost.push(format!("{} counted and {increments} begun: {n}", self.counted));
        }
        self.counted = n;
    }

    /// The number that stands for a session's values; none if it is not there.
    fn found(&self, provider: &FileProvider, report: &mut Report, id: &SessionId) -> Option<u64> {
        match block_on(provider.load(&Token::from(*id), NOW)) {
            Ok(None) => None,
            Ok(Some(found)) => {
                let n = found
                    .values
                    .get("n")
                    .and_then(|n| value::decode::<u64>("n", n, &Default::default()).ok());
                if n.map(record) != Some(found) {
                    report.torn.push(format!("values that do not belong together, n = {n:?}"));
                }
                n
            }
            Err(error) => {
                report.torn.push(format!("{error:?}"));
                None
            }
        }
    }
}

/// What a victim writes.
struct Output {
    /// Told once, when the first line is there.
    began: Receiver<()>,
    text: thread::JoinHandle<String>,
}

/// Reads all that a victim writes, so that it never waits for us.
fn listen(mut output: ChildStdout) -> Output {
    let (begin, began) = channel();
    let text = thread::spawn(move || {
        let mut text = Vec::new();
        let mut buffer = [0; 16 * 1024];
        loop {
            match output.read(&mut buffer).expect("the pipe can be read") {
                0 => return String::from_utf8(text).expect("victims write text"),
                length => {
                    text.extend(&buffer[..length]);
                    let _ = begin.send(());
                }
            }
        }
    });
    Output { began, text }
}

/// The number of temporaries in the store.
fn strays(directory: &Path) -> usize {
    let entries = |path: &Path| std::fs::read_dir(path).expect("is listed").flatten();
    let folders = entries(directory).filter(|entry| entry.path().is_dir());
    let files = folders.flat_map(|folder| entries(&folder.path()));
    files.filter(|file| file.file_name().to_string_lossy().starts_with(".new-")).count()
}
