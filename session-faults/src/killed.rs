//! Kills processes at random moments and checks the store afterwards.
//!
//! Four victim processes share a store. Each changes sessions on several threads. Before each change it writes a line
//! that announces the change, and after it a line that acknowledges it. The parent kills the victims with SIGKILL,
//! reads their output, opens the store, which is then nobody else's, and checks it: acknowledged changes are there,
//! announced changes are there or not, and nothing else has changed. A login's new secret, owner and values are stored
//! together: the old id never opens what the new id got. Each owner's list has exactly the owner's sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::future::block_on;
use session_core::provider::Secret;
use session_core::provider::{
    Changes, Login, NewSecret, Page, Provider, Record, Token, Touch, Verifier,
};
use session_core::{Error, SessionId, SessionKey, Timestamp, value};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_123);
const LATER: Timestamp = Timestamp::from_millis(1_800_003_600_123);
/// The time of logins and touches.
const SOON: Timestamp = Timestamp::from_millis(1_800_000_060_000);
const TOUCH: Touch = Touch { used: SOON, expires: Timestamp::from_millis(1_800_003_660_000) };
const THREADS: usize = 3;
/// The number of concurrent victims. They share one session, whose number they increment.
const VICTIMS: usize = 4;
/// The number of owners.
const OWNERS: u64 = 5;
/// The maximum number of sessions that are kept for the next round.
const SESSIONS: usize = 100;

/// A store that keeps sessions on this machine's disk, for several processes.
pub trait Store {
    /// Opens the store as one process. With `sync`, it waits for the disk before it acknowledges a change.
    fn open(path: &Path, sync: bool) -> Box<dyn Provider>;

    /// Returns the number of entries in the index of owners. There should be one for each session with an
    /// owner.
    fn index_entries(path: &Path) -> usize;

    /// Returns the number of temporary files that killed processes left behind, and that a collection must
    /// remove.
    fn strays(path: &Path) -> usize {
        let _ = path;
        0
    }

    /// Checks that the store is whole, by its own means.
    fn check(path: &Path) {
        let _ = path;
    }
}

/// A client's view of a session.
#[derive(Clone, Copy, Debug)]
struct Session {
    id: SessionId,
    /// Determines the session's values.
    n: u64,
    /// Whether an owner is logged in.
    logged_in: bool,
}

impl Session {
    fn to_words(self) -> String {
        format!("{} {} {}", &*self.id.text(), self.n, self.logged_in)
    }

    fn of_words(words: &[&str]) -> Self {
        let [id, n, logged_in] = words else { panic!("no session: {words:?}") };
        Self { id: parsed(id), n: number(n), logged_in: logged_in.parse().expect("is a bool") }
    }

    fn key(self) -> SessionKey {
        self.id.key()
    }

    /// Returns the record that the store should have if the session was not touched.
    fn record(self) -> Record {
        let mut record = Record::new(holder(&self.id), NOW, LATER);
        let mut changes = values(self.n);
        if self.logged_in {
            record.renewed = SOON;
            record.login = login(&self.id);
            changes.set(GRANTED, granted(&self.id));
        }
        let holder = record.holder;
        record.apply(&holder, &changes, NOW).expect("fits");
        record
    }
}

/// A change of one session, with its state before and after.
#[derive(Clone, Copy, Debug)]
enum Change {
    Create(Session),
    Save {
        old: Session,
        n: u64,
    },
    Login {
        old: Session,
        new_id: SessionId,
        n: u64,
    },
    Touch(Session),
    Destroy(Session),
    Increment,
    /// Lists an owner's sessions and collects, which removes stale entries of the index.
    Trim {
        owner: u64,
    },
}

impl Change {
    fn to_words(self) -> String {
        match self {
            Self::Create(new) => format!("create {}", new.to_words()),
            Self::Save { old, n } => format!("save {} {n}", old.to_words()),
            Self::Login { old, new_id, n } => {
                format!("login {} {} {n}", old.to_words(), &*new_id.text())
            }
            Self::Touch(session) => format!("touch {}", session.to_words()),
            Self::Destroy(old) => format!("destroy {}", old.to_words()),
            Self::Increment => "increment".to_owned(),
            Self::Trim { owner } => format!("trim {owner}"),
        }
    }

    fn of_words(words: &[&str]) -> Self {
        match words {
            ["create", new @ ..] => Self::Create(Session::of_words(new)),
            ["save", old @ .., n] => Self::Save { old: Session::of_words(old), n: number(n) },
            ["login", old @ .., new_id, n] => {
                Self::Login { old: Session::of_words(old), new_id: parsed(new_id), n: number(n) }
            }
            ["touch", session @ ..] => Self::Touch(Session::of_words(session)),
            ["destroy", old @ ..] => Self::Destroy(Session::of_words(old)),
            ["increment"] => Self::Increment,
            ["trim", owner] => Self::Trim { owner: number(owner) },
            _ => panic!("a victim wrote {words:?}"),
        }
    }

    /// Returns the session before and after the change; `None` for the shared counter, and if the change
    /// affects no session.
    fn outcome(self) -> Option<(Option<Session>, Option<Session>)> {
        match self {
            Self::Create(new) => Some((None, Some(new))),
            Self::Save { old, n } => Some((Some(old), Some(Session { n, ..old }))),
            Self::Login { old, new_id, n } => {
                Some((Some(old), Some(Session { id: new_id, n, logged_in: true })))
            }
            Self::Touch(session) => Some((Some(session), Some(session))),
            Self::Destroy(old) => Some((Some(old), None)),
            Self::Increment | Self::Trim { .. } => None,
        }
    }
}

fn parsed(text: &str) -> SessionId {
    SessionId::parse(text).expect("is an id")
}

fn holder(id: &SessionId) -> Verifier {
    Verifier::digest(id, "")
}

fn number(text: &str) -> u64 {
    text.parse().expect("is a number")
}

/// A reproducible sequence of random numbers (splitmix64).
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

fn encoded(n: u64) -> std::sync::Arc<[u8]> {
    value::encode("", &n, &Default::default()).expect("is a value")
}

/// Returns values that match each other. Those of a torn record would not.
fn values(n: u64) -> Changes {
    let length = (n * 7919 % 9000) as usize;
    let text: String = std::iter::repeat_n((b'a' + (n % 26) as u8) as char, length).collect();
    let mut changes = Changes::new();
    changes.set("n", encoded(n));
    changes.set("text", value::encode("", &text, &Default::default()).expect("is a value"));
    changes
}

/// The key of the value that a login grants.
const GRANTED: &str = "granted";

/// Returns the value that only the client with this id may see.
fn granted(id: &SessionId) -> std::sync::Arc<[u8]> {
    value::encode("", &*id.text(), &Default::default()).expect("is a value")
}

/// Returns a login of an owner that the new id determines.
fn login(new_id: &SessionId) -> Option<Box<Login>> {
    let owner = owner(u64::from(new_id.secret().as_bytes()[0]) % OWNERS).into();
    Some(Box::new(Login { owner, at: SOON, label: "phone".into() }))
}

fn owner(number: u64) -> String {
    format!("owner {number}")
}

/// Returns the sessions in an owner's list, read page by page.
fn list(provider: &dyn Provider, owner: &str) -> Vec<SessionKey> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = Page { after, limit: 10 };
        let listed = block_on(provider.list(owner, page, NOW)).expect("is listed");
        keys.extend(listed.sessions.into_iter().map(|summary| summary.key));
        after = listed.next;
        if after.is_none() {
            return keys;
        }
    }
}

/// Returns the changes of a complete login in one save.
fn login_changes(new_id: SessionId, n: u64) -> Changes {
    let secret = NewSecret { token: new_id.into(), holder: holder(&new_id), at: SOON };
    let mut changes = values(n).with_login(login(&new_id)).with_secret(secret);
    changes.set(GRANTED, granted(&new_id));
    changes
}

/// The victim's main function, which runs until it is killed. `arguments` are those after `--victim`.
///
/// # Panics
/// If an operation fails, or the arguments are wrong.
pub fn victim<S: Store>(arguments: &[String]) -> ExitCode {
    let [path, sync, seed, sessions] = arguments else { panic!("wrong arguments: {arguments:?}") };
    let provider = S::open(Path::new(path), sync == "full");
    let seed = number(seed);
    let (counter, sessions) = sessions.split_once(';').expect("the counter comes first");
    let counter = parsed(counter);
    let mut shares = vec![Vec::new(); THREADS];
    for (at, session) in sessions.split(',').filter(|session| !session.is_empty()).enumerate() {
        let words: Vec<_> = session.split(' ').collect();
        shares[at % THREADS].push(Session::of_words(&words));
    }
    thread::scope(|scope| {
        for (number, share) in shares.into_iter().enumerate() {
            let (provider, counter) = (&*provider, &counter);
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
    provider: &'w dyn Provider,
    counter: &'w SessionId,
    number: usize,
    sessions: Vec<Session>,
}

impl Worker<'_> {
    fn step(&mut self, random: &mut Random) {
        let at = random.below(self.sessions.len().max(1) as u64) as usize;
        let old = self.sessions.get(at).copied();
        let change = match (random.below(13), old) {
            (0, Some(old)) => Change::Destroy(old),
            (1..=3, Some(old)) => {
                let new_id = old.id.with_new_secret().expect("has random numbers");
                Change::Login { old, new_id, n: old.n + 1 }
            }
            (4..=7, Some(old)) => Change::Save { old, n: old.n + 1 },
            (8, Some(old)) => Change::Touch(old),
            (9, Some(_)) => Change::Increment,
            (10, Some(_)) => Change::Trim { owner: random.below(OWNERS) },
            _ => {
                let id = SessionId::generate().expect("has random numbers");
                Change::Create(Session { id, n: random.below(1 << 40), logged_in: false })
            }
        };
        self.say("begin", change);
        self.apply(change).unwrap_or_else(|error| panic!("{change:?}: {error:?}"));
        self.say("done", change);
        match change.outcome() {
            Some((None, Some(new))) => self.sessions.push(new),
            Some((_, Some(new))) => self.sessions[at] = new,
            Some((_, None)) => drop(self.sessions.swap_remove(at)),
            None => {}
        }
    }

    /// Writes a line. Standard output writes a whole line with one system call, so it is there or not,
    /// however the process ends.
    fn say(&self, what: &str, change: Change) {
        let line = format!("{what} {} {}\n", self.number, change.to_words());
        std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
    }

    fn apply(&self, change: Change) -> Result<(), Error> {
        let provider = self.provider;
        let save = |session: Session, changes: &Changes| {
            let (token, holder) = (Token::from(session.id), holder(&session.id));
            block_on(provider.save(&token, &holder, changes, NOW)).map(drop)
        };
        match change {
            Change::Create(new) => block_on(provider.create(&new.id, new.record(), NOW)).map(drop),
            Change::Save { old, n } => save(old, &values(n)),
            Change::Login { old, new_id, n } => save(old, &login_changes(new_id, n)),
            Change::Touch(session) => {
                block_on(provider.touch(&session.id.into(), TOUCH, NOW)).map(drop)
            }
            Change::Destroy(old) => block_on(provider.destroy(&old.key(), LATER, NOW)),
            Change::Trim { owner: number } => {
                list(provider, &owner(number));
                provider.purge(NOW, 10).map(drop)
            }
            Change::Increment => loop {
                let counter = Token::from(*self.counter);
                let found = block_on(provider.load(&counter, NOW))?.ok_or(Error::Gone)?;
                let old = found.values.get("n").expect("the counter counts");
                let n: u64 = value::decode("n", old, &Default::default())?;
                let mut changes = Changes::new().expecting("n", Some(old));
                changes.set("n", encoded(n + 1));
                match block_on(provider.save(&counter, &found.holder, &changes, NOW)) {
                    Err(Error::Conflict) => {}
                    result => return result.map(drop),
                }
            },
        }
    }
}

/// The expected content of the store.
struct Model {
    live: BTreeMap<SessionKey, Session>,
    /// Ids of destroyed sessions.
    dead: Vec<SessionId>,
    /// Replaced ids, some of them of sessions that were destroyed since.
    old: Vec<SessionId>,
    counter: SessionId,
    counted: u64,
}

/// Counts of checks, and the errors that were found.
#[derive(Debug, Default)]
struct Report {
    kills: usize,
    acknowledged: usize,
    begun_only: usize,
    /// How many of these were logins.
    begun_logins: usize,
    checked: usize,
    strays: usize,
    /// The number of sessions in owners' lists.
    listed: usize,
    /// Acknowledged changes that are missing.
    lost: Vec<String>,
    /// Records that are neither the old nor the new one.
    torn: Vec<String>,
    /// Destroyed sessions that exist again.
    back: Vec<String>,
    /// Old ids that open a session, or that see values of the new id.
    half_done: Vec<String>,
    /// Lists that lack a session of their owner or have another one.
    unlisted: Vec<String>,
}

/// Kills at least this many processes that work on a new store at this path.
///
/// # Panics
/// If anything was lost, came back, or was applied partially.
pub fn run<S: Store>(path: &Path, kills: usize, seed: u64) {
    let provider = S::open(path, false);
    let counter = SessionId::generate().expect("has random numbers");
    let first = Session { id: counter, n: 0, logged_in: false };
    block_on(provider.create(&counter, first.record(), NOW)).expect("is new");
    drop(provider);
    let mut model =
        Model { live: BTreeMap::new(), dead: Vec::new(), old: Vec::new(), counter, counted: 0 };
    let mut report = Report::default();
    let mut random = Random(seed);
    let start = Instant::now();
    while report.kills < kills {
        round::<S>(path, &mut model, &mut report, &mut random);
        if report.kills.is_multiple_of(500) {
            eprintln!("{} killed after {:.0?}", report.kills, start.elapsed());
        }
    }
    // A collection removes the last abandoned temporary files, and no session.
    let provider = S::open(path, false);
    while provider.purge(NOW, 1000).expect("collects").more {}
    assert_eq!(S::strays(path), 0, "strays stay");
    let live = block_on(provider.count(NOW)).expect("counts");
    assert_eq!(live, model.live.len() as u64 + 1, "sessions in the end");
    // All owners' sessions were listed, so no stale entry is left.
    let owned = model.live.values().filter(|session| session.logged_in).count();
    assert_eq!(S::index_entries(path), owned, "entries in the end");
    S::check(path);
    let Report { kills, acknowledged, begun_only, begun_logins, checked, strays, .. } = report;
    let Report { lost, torn, back, half_done, listed, unlisted, .. } = report;
    println!(
        "{kills} processes killed in {:.0?} (seed {seed}): {acknowledged} changes acknowledged, \
         {begun_only} begun only, {begun_logins} of them logins; {checked} sessions checked, {strays} \
         stray temporaries, {listed} found in lists; {} acknowledged lost, {} torn, {} back from the \
         dead, {} logins half done, {} wrong lists",
        start.elapsed(),
        lost.len(),
        torn.len(),
        back.len(),
        half_done.len(),
        unlisted.len(),
    );
    assert!(acknowledged > 2 * kills, "the victims were killed before they did anything");
    assert!(lost.is_empty() && torn.is_empty(), "lost: {lost:?}, torn: {torn:?}");
    assert!(back.is_empty() && half_done.is_empty(), "back: {back:?}, half done: {half_done:?}");
    assert!(unlisted.is_empty(), "wrong lists: {unlisted:?}");
}

fn round<S: Store>(path: &Path, model: &mut Model, report: &mut Report, random: &mut Random) {
    let mut shares = vec![Vec::new(); VICTIMS];
    for (at, session) in model.live.values().enumerate() {
        shares[at % VICTIMS].push(session.to_words());
    }
    let program = std::env::current_exe().expect("this program has a file");
    let victims: Vec<_> = shares
        .iter()
        .map(|share| {
            let sync = if random.below(2) == 0 { "none" } else { "full" };
            let sessions = format!("{};{}", &*model.counter.text(), share.join(","));
            let mut command = Command::new(&program);
            command.arg("--victim").arg(path).arg(sync);
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
        // Most victims get time to start; some are killed while they open the store.
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
        // A line without an end doesn't count, because the kill interrupted its write.
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
    report.begun_logins +=
        begun_only.iter().filter(|change| matches!(change, Change::Login { .. })).count();
    let provider = &*S::open(path, false);
    model.check(provider, report, &begun_only, touched, random);
    report.strays += S::strays(path);
    if random.below(10) == 0 {
        while provider.purge(NOW, 1000).expect("collects").more {}
        assert_eq!(S::strays(path), 0, "all who could have made them are dead");
    }
    while model.live.len() > SESSIONS {
        let old = *model.live.values().next().expect("there are some");
        block_on(provider.destroy(&old.key(), LATER, NOW)).expect("is removed");
        model.acknowledge(Change::Destroy(old), &mut BTreeSet::new());
    }
}

impl Model {
    fn acknowledge(&mut self, change: Change, touched: &mut BTreeSet<SessionKey>) {
        match change.outcome() {
            Some(outcome) => touched.extend(self.happened(outcome)),
            None => self.counted += u64::from(matches!(change, Change::Increment)),
        }
    }

    /// Records a change of a session. Returns the session's key.
    fn happened(&mut self, outcome: (Option<Session>, Option<Session>)) -> Option<SessionKey> {
        match outcome {
            (old, Some(new)) => {
                let replaced = old.map(|old| old.id);
                self.old.extend(replaced.filter(|old| old.text()[..] != new.id.text()[..]));
                self.live.insert(new.key(), new);
                Some(new.key())
            }
            (Some(old), None) => {
                self.live.remove(&old.key());
                self.dead.push(old.id);
                Some(old.key())
            }
            (None, None) => None,
        }
    }

    /// Compares the store with the expected content, and continues with the actual content.
    fn check(
        &mut self,
        provider: &dyn Provider,
        report: &mut Report,
        begun: &[Change],
        mut touched: BTreeSet<SessionKey>,
        random: &mut Random,
    ) {
        let mut increments = 0;
        for change in begun {
            report.checked += 1;
            let Some((old, new)) = change.outcome() else {
                increments += u64::from(matches!(change, Change::Increment));
                continue;
            };
            let id = old.or(new).expect("one of both is there").id;
            touched.remove(&id.key());
            let found = found(provider, report, &id);
            let is = |session: Option<Session>| found == session.map(Session::record);
            if is(new) {
                self.happened((old, new));
            } else if !is(old) {
                report.torn.push(format!("{change:?}: found {found:?}"));
            } else if let (Change::Login { old, new_id, n }, Some(_)) = (*change, old) {
                // The id that the login would have set.
                check_refused(provider, report, Session { id: new_id, n, ..old });
            }
        }
        // All sessions that the victims changed, and some others.
        let mut wanted = touched;
        wanted.extend(self.live.keys().filter(|_| random.below(4) == 0));
        let ids = wanted.iter().map(|key| SessionId::new(*key, Secret::from_bytes([0; 20])));
        let mut ids: Vec<_> = ids.collect();
        ids.extend(some_of(&self.dead, random));
        for id in ids {
            report.checked += 1;
            let found = found(provider, report, &id);
            let wanted = self.live.get(&id.key()).copied().map(Session::record);
            if found != wanted {
                let list = if wanted.is_none() { &mut report.back } else { &mut report.lost };
                list.push(format!("wanted {wanted:?}, found {found:?}"));
            }
        }
        for id in some_of(&self.old, random) {
            report.checked += 1;
            check_refused(provider, report, Session { id, n: 0, logged_in: false });
        }
        let found = block_on(provider.load(&self.counter.into(), NOW)).expect("can be read");
        let record = found.expect("the counter is there");
        let n = record.values.get("n").expect("the counter counts");
        let n: u64 = value::decode("n", n, &Default::default()).expect("is a number");
        if n < self.counted || n > self.counted + increments {
            report.lost.push(format!("{} counted and {increments} begun: {n}", self.counted));
        }
        self.counted = n;
        self.check_lists(provider, report);
    }

    /// Compares the lists of all owners with the expected sessions.
    fn check_lists(&self, provider: &dyn Provider, report: &mut Report) {
        for owner in (0..OWNERS).map(owner) {
            report.checked += 1;
            let is_owners = |session: &&Session| session.record().owner() == Some(&*owner);
            let wanted: Vec<_> = self.live.values().filter(is_owners).map(|s| s.key()).collect();
            let found = list(provider, &owner);
            report.listed += found.len();
            if found != wanted {
                report.unlisted.push(format!("{owner}: wanted {wanted:?}, found {found:?}"));
            }
        }
    }
}

/// Returns the last id, and some of the others.
fn some_of(ids: &[SessionId], random: &mut Random) -> Vec<SessionId> {
    let some = (0..ids.len().min(20)).map(|_| ids[random.below(ids.len() as u64) as usize]);
    some.chain(ids.last().copied()).collect()
}

/// Returns the record under the id's key, whatever its holder, as if it had not been touched.
fn found(provider: &dyn Provider, report: &mut Report, id: &SessionId) -> Option<Record> {
    let mut record = match block_on(provider.load(&Token::from(*id), NOW)) {
        Ok(found) => found?,
        Err(error) => {
            report.torn.push(format!("{error:?}"));
            return None;
        }
    };
    // A touch sets both times at once.
    if (record.used, record.expires) == (TOUCH.used, TOUCH.expires) {
        (record.used, record.expires) = (NOW, LATER);
    }
    let got = record.values.get(GRANTED).map(|text| value::decode("", text, &Default::default()));
    let got: Option<String> = got.transpose().expect("is a text");
    if let Some(new_id) = got.as_deref().map(parsed)
        && (record.holder != holder(&new_id) || record.login != login(&new_id))
    {
        report.half_done.push(format!("a login to {:?}: {record:?}", id.key()));
    } else if got.is_none() && record.login.is_some() {
        report.half_done.push(format!("an owner without values in {:?}: {record:?}", id.key()));
    }
    Some(record)
}

/// Checks that an id that is not or no longer the session's opens nothing and saves nothing.
fn check_refused(provider: &dyn Provider, report: &mut Report, session: Session) {
    let (token, holder) = (Token::from(session.id), holder(&session.id));
    let loaded = block_on(provider.load(&token, NOW)).expect("can be read");
    let opens = loaded.is_some_and(|record| record.holder == holder);
    let saved = block_on(provider.save(&token, &holder, &values(session.n), NOW));
    if opens || !matches!(saved, Err(Error::Gone)) {
        report.half_done.push(format!("{:?} opens: {opens}, saves: {saved:?}", session.id));
    }
}

/// The output of a victim.
struct Output {
    /// Receives one message after the first line.
    began: Receiver<()>,
    text: thread::JoinHandle<String>,
}

/// Reads the whole output of a victim, so that it never blocks on writing.
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
