//! Tests of the planner alone: random sequences of handler calls, store results, abandoned steps and
//! concurrent requests are checked against the library's guarantees.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::clock::TestClock;
use crate::provider::{Answer, Provider, Purged, Values};
use crate::transport::Extracted;
use crate::{Limits, Manager, value};

/// A provider whose store operations panic, because the planner must not do I/O.
#[derive(Debug)]
struct NoStore;

impl Provider for NoStore {
    fn create<'a>(
        &'a self,
        _: &'a SessionId,
        _: Record,
        _: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        unreachable!("the planner does no I/O")
    }

    fn load<'a>(&'a self, _: &'a Token, _: Timestamp) -> Answer<'a, Option<Record>> {
        unreachable!("the planner does no I/O")
    }

    fn save<'a>(
        &'a self,
        _: &'a Token,
        _: &'a Verifier,
        _: &'a Changes,
        _: Timestamp,
    ) -> Answer<'a, Option<Token>> {
        unreachable!("the planner does no I/O")
    }

    fn touch<'a>(&'a self, _: &'a Token, _: Touch, _: Timestamp) -> Answer<'a, Option<Token>> {
        unreachable!("the planner does no I/O")
    }

    fn destroy<'a>(&'a self, _: &'a SessionKey, _: Timestamp, _: Timestamp) -> Answer<'a, ()> {
        unreachable!("the planner does no I/O")
    }

    fn count(&self, _: Timestamp) -> Answer<'_, u64> {
        unreachable!("the planner does no I/O")
    }

    fn purge(&self, _: Timestamp, _: usize) -> Result<Purged, Error> {
        unreachable!("the planner does no I/O")
    }
}

/// What happens to a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Done,
    /// The store was not reached.
    Unavailable,
    /// The step was carried out or was not, and the store's answer was lost.
    InDoubt {
        carried_out: bool,
    },
    /// The future was dropped, after the step was carried out or before.
    Abandoned {
        carried_out: bool,
    },
}

/// The store, and the history of its sessions.
struct World {
    manager: Manager,
    clock: Arc<TestClock>,
    records: HashMap<SessionKey, Record>,
    ended: HashSet<SessionKey>,
    /// The verifiers of all secrets that records ever had.
    holders: HashSet<[u8; 32]>,
    /// The verifiers of the secrets with which a cookie's fingerprint was saved.
    told: HashSet<[u8; 32]>,
}

impl World {
    fn new() -> Self {
        Self::with_window(crate::Config::default().superseded_for)
    }

    fn with_window(superseded_for: Duration) -> Self {
        let clock = Arc::new(TestClock::default());
        let gc_every = Duration::ZERO;
        let config = crate::Config { gc_every, superseded_for, ..Default::default() };
        let builder = Manager::builder().with_config(config).with_provider(NoStore);
        let manager = builder.with_clock(Arc::clone(&clock) as _).build().unwrap();
        let (records, ended, holders, told) = Default::default();
        Self { manager, clock, records, ended, holders, told }
    }

    fn shared(&self) -> &Shared {
        &self.manager.0
    }

    /// Stores a session with one value, and returns its token. The record's fingerprint is that of a cookie
    /// with other attributes.
    fn stored(&mut self, key: &str, owner: Option<&str>) -> Token {
        let id = SessionId::generate().unwrap();
        let now = self.shared().clock.now();
        let holder = self.shared().verifier(&id.into());
        let mut record = Record::new(holder, now, now.saturating_add(Duration::from_secs(600)));
        record.login =
            owner.map(|owner| Box::new(Login { owner: owner.into(), at: now, label: "".into() }));
        record.values = [(key, number(1))].into_iter().collect();
        self.insert(id.key(), record);
        id.into()
    }

    fn insert(&mut self, key: SessionKey, record: Record) {
        assert!(!self.ended.contains(&key), "an ended session came back");
        self.holders.insert(*record.holder.as_bytes());
        self.records.insert(key, record);
    }

    /// Returns the live session that this token opens.
    fn opens(&self, token: &Token) -> Option<&Record> {
        let record = self.records.get(&token.key())?;
        (record.holder == self.shared().verifier(token)).then_some(record)
    }

    /// Returns whether this token opens a session with a login.
    fn is_logged_in(&self, token: &Option<Token>) -> bool {
        token.as_ref().and_then(|token| self.opens(token)).is_some_and(|r| r.login.is_some())
    }

    fn read(&self, token: &Token) -> Option<Box<Record>> {
        self.records.get(&token.key()).cloned().map(Box::new)
    }

    fn carry_out(&mut self, step: &Step) -> Outcome {
        let now = self.shared().clock.now();
        match step {
            Step::Load(tokens) => {
                Outcome::Loaded(tokens.iter().map(|token| self.read(token)).collect())
            }
            Step::Recheck(token) => Outcome::Rechecked(self.read(token)),
            Step::Touch(token, touch) | Step::TouchBySave(token, touch, ..) => {
                match self.records.get_mut(&token.key()) {
                    Some(record) => match record.touch(*touch, now) {
                        Ok(()) => Outcome::Touched(None),
                        Err(error) => Outcome::Failed(error),
                    },
                    None => Outcome::Failed(Error::Gone),
                }
            }
            Step::Create(id, _) if self.records.contains_key(&id.key()) => {
                Outcome::Failed(Error::Exists)
            }
            Step::Create(id, record) => {
                self.insert(id.key(), (**record).clone());
                Outcome::Created(None)
            }
            Step::Save(token, holder, changes) => {
                let Some(mut record) = self.records.get(&token.key()).cloned() else {
                    return Outcome::Failed(Error::Gone);
                };
                match record.apply(holder, changes, now) {
                    Ok(()) => {
                        if changes.cookie.is_some() {
                            self.told.insert(*holder.as_bytes());
                        }
                        self.insert(token.key(), record);
                        Outcome::Saved(None)
                    }
                    Err(error) => Outcome::Failed(error),
                }
            }
            Step::Destroy(key, _) => {
                self.records.remove(key);
                self.ended.insert(*key);
                Outcome::Destroyed
            }
        }
    }
}

fn number(n: u64) -> Arc<[u8]> {
    value::encode("", &n, &Limits::default()).unwrap()
}

/// An action of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    Load,
    Set(&'static str, u64),
    Delete(&'static str),
    /// Adds one to a value, with an atomic update.
    Count(&'static str),
    Regenerate,
    LogIn(&'static str),
    Remember(bool),
    StartAnew,
    RollBack,
    Save,
    Reload,
    Destroy,
    Finish,
}

/// A request, with its running operation.
struct Request {
    state: State,
    acts: Vec<Act>,
    /// The number of completed acts.
    at: usize,
    /// The next step of the act that is running.
    next: Option<Step>,
    edit: Option<ValueUpdate>,
    /// The result of the request.
    result: Option<Result<(), Error>>,
    /// An update was abandoned, so it is unknown whether it was stored.
    may_have_counted: bool,
    is_navigation: bool,
    /// The number of writes that the store carried out.
    writes: usize,
    /// The response was delivered or lost.
    is_over: bool,
}

impl Request {
    fn new(sent: Option<Token>, safe: bool, acts: Vec<Act>) -> Self {
        let mut found = Extracted::nothing();
        if let Some(token) = sent {
            found = token
                .with_client_text(|text| found.with(text.as_bytes().to_vec(), TokenSource::Cookie));
        }
        let state = State::new(Credentials::new(&found), safe, false, false);
        Self {
            state,
            acts,
            at: 0,
            next: None,
            edit: None,
            result: None,
            may_have_counted: false,
            is_navigation: false,
            writes: 0,
            is_over: false,
        }
    }

    /// Makes the request a navigation.
    fn navigation(mut self) -> Self {
        self.state.may_resend_token = true;
        self.is_navigation = true;
        self
    }

    fn is_done(&self) -> bool {
        self.result.is_some() || self.at == self.acts.len()
    }

    /// Runs the next act in memory, or one step of an act at the store. An error ends the request, as in most
    /// handlers.
    fn advance(&mut self, world: &mut World, fate: Fate) {
        if let Err(error) = self.try_advance(world, fate) {
            self.result = Some(Err(error));
        } else if self.at == self.acts.len() {
            self.result = Some(Ok(()));
        }
    }

    fn try_advance(&mut self, world: &mut World, fate: Fate) -> Result<(), Error> {
        let Some(act) = self.acts.get(self.at).cloned() else { return Ok(()) };
        let (shared, now) = (world.shared(), world.shared().clock.now());
        let done = match &act {
            Act::Set(key, n) => self.state.put(key, Some(number(*n)), shared),
            Act::Delete(key) => self.state.put(key, None, shared),
            Act::Regenerate => self.state.regenerate(shared, now),
            Act::LogIn(owner) => self.state.log_in(owner, shared, now),
            Act::Remember(on) => self.state.remember(*on, shared),
            Act::StartAnew => self.state.start_anew(now),
            Act::RollBack => {
                self.state.roll_back();
                Ok(())
            }
            Act::Count(key) => return self.count(world, key, fate),
            Act::Load => return self.step(world, Goal::Load, fate).map(drop),
            Act::Save => return self.step(world, Goal::Save, fate).map(drop),
            Act::Reload => return self.step(world, Goal::Reload, fate).map(drop),
            Act::Destroy => return self.step(world, Goal::Destroy, fate).map(drop),
            Act::Finish => return self.step(world, Goal::Finish, fate).map(drop),
        };
        self.at += 1;
        done
    }

    fn count(&mut self, world: &mut World, key: &str, fate: Fate) -> Result<(), Error> {
        let edit = match self.edit.take() {
            Some(edit) => edit,
            None => {
                let base = self.state.update_base(key, false)?;
                let n: u64 = base
                    .current()
                    .map_or(0, |bytes| value::decode("", bytes, &Limits::default()).unwrap());
                match base {
                    UpdateBase::InMemory { .. } => {
                        self.at += 1;
                        return self.state.put(key, Some(number(n + 1)), world.shared());
                    }
                    UpdateBase::Stored { expected, pending, replaces, .. } => {
                        let value = Some(number(n + 1));
                        ValueUpdate { key: key.into(), expected, pending, replaces, value }
                    }
                }
            }
        };
        match self.step(world, Goal::Update(&edit), fate) {
            Ok(true) => self.edit = Some(edit),
            Ok(false) => {}
            // The next attempt starts from the stored value.
            Err(Error::Conflict) => {
                return self.step(world, Goal::Reload, fate).map(|_| self.at -= 1);
            }
            Err(Error::Gone) if self.state.drops_silently() => self.at += 1,
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Runs one step towards a goal. Returns whether the goal needs more.
    fn step(&mut self, world: &mut World, goal: Goal<'_>, fate: Fate) -> Result<bool, Error> {
        let step = match self.next.take() {
            Some(step) => step,
            None => match self.state.begin(goal, world.shared())? {
                Some(step) => step,
                None => {
                    self.at += 1;
                    return Ok(false);
                }
            },
        };
        let is_write = !matches!(step, Step::Load(_) | Step::Recheck(_));
        let reached = match fate {
            Fate::Done => true,
            Fate::Unavailable => false,
            Fate::InDoubt { carried_out } | Fate::Abandoned { carried_out } => carried_out,
        };
        let now = world.shared().clock.now();
        let outcome = if reached { Some(world.carry_out(&step)) } else { None };
        self.writes += usize::from(reached && is_write);
        let lost = || Error::InDoubt { source: "lost".into() };
        let outcome = match (fate, outcome) {
            (Fate::Done, Some(outcome)) => outcome,
            (Fate::InDoubt { .. }, _) if is_write => Outcome::Failed(lost()),
            // The future of an update was dropped, so it is unknown whether it was stored.
            (Fate::Abandoned { .. }, _) if matches!(goal, Goal::Update(_)) => {
                self.at += 1;
                self.may_have_counted = true;
                return Ok(false);
            }
            // Another task starts the same operation again.
            (Fate::Abandoned { .. }, _) => return Ok(true),
            _ => Outcome::Failed(Error::unavailable("down")),
        };
        self.next = self.state.apply_outcome(goal, &step, outcome, world.shared(), now)?;
        self.at += usize::from(self.next.is_none());
        Ok(self.next.is_some())
    }

    /// Returns the directive of the response.
    fn respond(&mut self, world: &World) -> Option<ClientDirective> {
        if matches!(self.result, Some(Err(_))) {
            self.state.roll_back();
        }
        let directive = self.state.directive(world.shared());
        self.state.mark_announced();
        directive
    }
}

fn act() -> impl Strategy<Value = Act> {
    let key = prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        (key.clone(), 2..9u64).prop_map(|(key, n)| Act::Set(key, n)),
        key.clone().prop_map(Act::Delete),
        key.prop_map(Act::Count),
        Just(Act::Regenerate),
        prop::sample::select(vec!["ann", "bob"]).prop_map(Act::LogIn),
        any::<bool>().prop_map(Act::Remember),
        Just(Act::StartAnew),
        Just(Act::RollBack),
        Just(Act::Save),
        Just(Act::Reload),
        Just(Act::Load),
        Just(Act::Destroy),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        8 => Just(Fate::Done),
        1 => Just(Fate::Unavailable),
        1 => any::<bool>().prop_map(|carried_out| Fate::InDoubt { carried_out }),
        1 => any::<bool>().prop_map(|carried_out| Fate::Abandoned { carried_out }),
    ]
}

/// The expected values of a single request, stored and as the handler sees them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Model {
    stored: BTreeMap<&'static str, u64>,
    shown: BTreeMap<&'static str, u64>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// Whatever a handler does and whatever happens to the steps, the handler sees the values that it wrote,
    /// and a finished request has stored them.
    #[test]
    fn a_request_alone_behaves_as_a_map(
        acts in prop::collection::vec(act(), 0..12),
        fates in prop::collection::vec(fate(), 0..60),
    ) {
        let mut world = World::new();
        let sent = world.stored("a", None);
        let mut request = Request::new(Some(sent.clone()), false, vec![Act::Load]);
        request.advance(&mut world, Fate::Done);
        let mut model = Model { stored: [("a", 1)].into(), shown: [("a", 1)].into() };
        let mut fates = fates.into_iter();
        let (mut logged_in, mut is_stored_in_doubt) = (false, false);
        for act in acts.into_iter().chain([Act::Finish]) {
            request.acts.push(act.clone());
            request.result = None;
            let target = request.acts.len();
            let mut steps = 0;
            while request.at < target && request.result.is_none() {
                let fate = fates.next().unwrap_or(Fate::Done);
                request.advance(&mut world, fate);
                steps += 1;
                prop_assert!(steps < 200, "{act:?} comes to no end");
            }
            let failed = matches!(request.result, Some(Err(_)))
                || std::mem::take(&mut request.may_have_counted);
            request.at = target;
            request.edit = None;
            match act {
                Act::Set(key, n) if !failed => { model.shown.insert(key, n); }
                Act::Delete(key) if !failed => { model.shown.remove(key); }
                Act::Count(key) if !failed => { *model.shown.entry(key).or_default() += 1; }
                Act::LogIn(_) if !failed => logged_in = true,
                Act::Count(_) => {
                    // After a failure the update may have been stored. The store and the session agree after
                    // a reload.
                    for _ in 0..2 {
                        request.acts.push(Act::Reload);
                        request.result = None;
                        while request.at < request.acts.len() && request.result.is_none() {
                            request.advance(&mut world, Fate::Done);
                        }
                    }
                    model.shown = shown(&request.state);
                }
                // It is unknown whether the session lives on.
                Act::Destroy if failed => return Ok(()),
                Act::Save if failed => is_stored_in_doubt = true,
                Act::RollBack if is_stored_in_doubt => return Ok(()),
                // Other tests check the values after a destroy and a roll-back.
                Act::RollBack | Act::Destroy => model.shown = shown(&request.state),
                _ => {}
            }
            let seen = shown(&request.state);
            if matches!(act, Act::LogIn(_)) {
                model.shown = seen;
            } else if act != Act::Finish {
                prop_assert_eq!(&seen, &model.shown, "after {:?}", act);
            } else if !failed {
                model.stored = model.shown.clone();
                let token = request.state.token.clone();
                let stored = token.as_ref().and_then(|token| world.opens(token));
                let stored = stored.map(|record| numbers(&record.values)).unwrap_or_default();
                prop_assert_eq!(stored, model.stored.clone(), "after finishing");
            }
        }
        // The old id does not open a session with a login.
        if let Some(record) = world.opens(&sent) {
            prop_assert!(record.login.is_none() || !logged_in);
        }
        // After an error, a save in doubt may have given the session another id.
        let is_sure = matches!(request.result, Some(Ok(())));
        if let (true, Some(ClientDirective::Set(token, _))) = (is_sure, request.respond(&world)) {
            prop_assert!(world.opens(&token).is_some(), "the client is told of a dead id");
        }
    }

    /// Concurrent requests with any faults: no change is stored in part, no destroyed session comes back, and
    /// no client gets an id that was never stored.
    #[test]
    fn requests_at_once_leave_nothing_half_done(
        scripts in prop::collection::vec(
            (prop::collection::vec(act(), 0..6), any::<bool>(), any::<bool>()),
            1..4,
        ),
        schedule in prop::collection::vec((0..4usize, fate()), 0..120),
        owner in prop::option::of(Just("ann")),
    ) {
        let mut world = World::new();
        let sent = world.stored("a", owner);
        let mut requests: Vec<Request> = scripts
            .into_iter()
            .map(|(acts, safe, is_navigation)| {
                let acts = [Act::Load].into_iter().chain(acts).chain([Act::Finish]).collect();
                let request = Request::new(Some(sent.clone()), safe, acts);
                if is_navigation { request.navigation() } else { request }
            })
            .collect();
        let count = requests.len();
        let rest = (0..).map(|n| (n, Fate::Done)).take(600);
        for (number, fate) in schedule.into_iter().chain(rest) {
            let request = &mut requests[number % count];
            if !request.is_done() {
                request.advance(&mut world, fate);
            }
        }
        for request in &mut requests {
            let may_tell_again = request.is_navigation
                || request.acts.iter().any(|act| matches!(act, Act::Remember(_)));
            prop_assert!(request.is_done(), "a request comes to no end: {:?}", request.state);
            match request.respond(&world) {
                Some(ClientDirective::Set(token, _)) => {
                    let holder = world.shared().verifier(&token);
                    prop_assert!(world.holders.contains(holder.as_bytes()), "an id from nowhere");
                    if token.has_text_of(&sent) {
                        prop_assert!(may_tell_again, "told again in the background");
                        prop_assert!(world.told.contains(holder.as_bytes()), "told without a save");
                    }
                }
                Some(ClientDirective::Clear) => {
                    prop_assert!(world.opens(&sent).is_none(), "a live session's cookie is cleared");
                }
                None => {}
            }
        }
        if let Some(record) = world.opens(&sent) {
            prop_assert_eq!(record.owner(), owner, "the old id opens what a login got");
        }
    }
}

fn numbers(values: &Values) -> BTreeMap<&'static str, u64> {
    let names = ["a", "b", "c"];
    let decode = |bytes: &[u8]| value::decode("", bytes, &Limits::default()).unwrap();
    names.iter().filter_map(|name| Some((*name, decode(values.get(name)?)))).collect()
}

/// Returns the values that the handler sees.
fn shown(state: &State) -> BTreeMap<&'static str, u64> {
    let names = ["a", "b", "c"];
    let decode = |bytes: &[u8]| value::decode("", bytes, &Limits::default()).unwrap();
    names.iter().filter_map(|name| Some((*name, decode(state.value(name)?)))).collect()
}

/// A request that a browser makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Login(&'static str),
    /// A page that counts its visits.
    Get,
    /// A form that stores something.
    Post,
    Logout,
    Regenerate,
}

impl Kind {
    fn acts(self) -> Vec<Act> {
        let acts: &[Act] = match self {
            Self::Login(owner) => &[Act::Set("b", 7), Act::LogIn(owner)],
            Self::Get => &[Act::Count("a")],
            Self::Post => &[Act::Set("c", 5)],
            Self::Logout => &[Act::Destroy],
            Self::Regenerate => &[Act::Regenerate],
        };
        [Act::Load].into_iter().chain(acts.iter().cloned()).chain([Act::Finish]).collect()
    }
}

/// Simulates a browser: its cookie, and its concurrent requests.
fn browse(
    world: &mut World,
    kinds: &[Kind],
    schedule: &[(usize, bool)],
    lossy: bool,
    first: &Token,
) -> Result<(), TestCaseError> {
    let mut jar = Some(first.clone());
    let mut requests: Vec<Option<Request>> = kinds.iter().map(|_| None).collect();
    let (mut login_came, mut one_was_lost) = (false, false);
    let rest: Vec<_> = (0..200).map(|n| (n, false)).collect();
    for (number, lost) in schedule.iter().chain(&rest) {
        let number = number % kinds.len();
        let kind = kinds[number];
        let request = requests[number]
            .get_or_insert_with(|| Request::new(jar.clone(), kind == Kind::Get, kind.acts()));
        if !request.is_done() {
            request.advance(world, Fate::Done);
            continue;
        }
        if std::mem::replace(&mut request.is_over, true) {
            continue;
        }
        if let (Kind::Login(_), Some(Err(error))) = (kind, &request.result) {
            prop_assert!(false, "a login fails: {error}");
        }
        if let (Kind::Get, Some(Err(error))) = (kind, &request.result) {
            prop_assert!(false, "a page fails: {error}");
        }
        let told = request.respond(world);
        if lossy && *lost {
            one_was_lost = true;
            continue;
        }
        let was_logged_in = world.is_logged_in(&jar);
        let next = match told {
            Some(ClientDirective::Set(token, _)) => Some(token),
            Some(ClientDirective::Clear) => None,
            None => jar.clone(),
        };
        if !kinds.contains(&Kind::Logout) && !kinds.contains(&Kind::Regenerate) {
            prop_assert!(
                !was_logged_in || world.is_logged_in(&next),
                "{kind:?} logs the browser out"
            );
        }
        login_came |= matches!(kind, Kind::Login(_));
        jar = next;
    }
    prop_assert!(
        requests.iter().flatten().all(|request| request.is_over),
        "all responses are over"
    );
    let is_sure = !kinds.contains(&Kind::Logout) && !kinds.contains(&Kind::Regenerate);
    if is_sure && login_came && !one_was_lost {
        prop_assert!(
            world.is_logged_in(&jar),
            "a login was delivered, and the browser is logged out"
        );
    }
    // The first id does not open a session with a login.
    prop_assert!(world.opens(first).is_none_or(|record| record.login.is_none()));
    // Whatever was lost, one more login logs the browser in.
    world.clock.advance(Duration::from_secs(2));
    let mut login = Request::new(jar, false, Kind::Login("ann").acts());
    while !login.is_done() {
        login.advance(world, Fate::Done);
    }
    prop_assert!(matches!(login.result, Some(Ok(()))), "a login fails: {:?}", login.result);
    match login.respond(world) {
        Some(ClientDirective::Set(token, _)) => prop_assert!(world.is_logged_in(&Some(token))),
        told => prop_assert!(false, "a login told {told:?}"),
    }
    Ok(())
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        3 => Just(Kind::Login("ann")),
        1 => Just(Kind::Login("bob")),
        2 => Just(Kind::Get),
        2 => Just(Kind::Post),
        1 => Just(Kind::Logout),
        1 => Just(Kind::Regenerate),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5_000))]

    /// A browser's concurrent requests of one session, in every order of sending, loading, saving and
    /// delivering, with any response lost.
    #[test]
    fn a_browser_ends_logged_in_or_one_login_away(
        kinds in prop::collection::vec(kind(), 1..5),
        schedule in prop::collection::vec((0..5usize, prop::bool::weighted(0.2)), 0..40),
        lossy: bool,
        owner in prop::option::of(Just("bob")),
    ) {
        let mut world = World::new();
        let first = world.stored("a", owner);
        // This check does not apply to the old id of a session that already has an owner.
        if owner.is_none() {
            browse(&mut world, &kinds, &schedule, lossy, &first)?;
        } else {
            let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| *kind != Kind::Logout).collect();
            if kinds.iter().any(|kind| matches!(kind, Kind::Login(_))) {
                let first_of_bob = first.clone();
                let mut jar = Some(first);
                for kind in kinds {
                    let mut request = Request::new(jar.clone(), kind == Kind::Get, kind.acts());
                    while !request.is_done() {
                        request.advance(&mut world, Fate::Done);
                    }
                    if let Some(ClientDirective::Set(token, _)) = request.respond(&world) {
                        jar = Some(token);
                    }
                    if kind == Kind::Login("ann") {
                        let record = world.opens(jar.as_ref().unwrap()).unwrap();
                        prop_assert_eq!(record.owner(), Some("ann"));
                    }
                }
                prop_assert!(world.opens(&first_of_bob).is_none());
            }
        }
    }
}

/// A late request after a login is mute within `superseded_for`, and opens no session after it.
#[test]
fn a_replaced_id_is_mute_for_the_window_and_a_strangers_afterwards() {
    for (secs, mute) in [(0, true), (9, true), (10, false)] {
        let mut world = World::new();
        let sent = world.stored("a", None);
        world.clock.advance(Duration::from_secs(1));
        let mut login = Request::new(Some(sent.clone()), false, Kind::Login("ann").acts());
        while !login.is_done() {
            login.advance(&mut world, Fate::Done);
        }
        world.clock.advance(Duration::from_secs(secs));
        let mut late = Request::new(Some(sent), true, Kind::Get.acts());
        while !late.is_done() {
            late.advance(&mut world, Fate::Done);
        }
        assert!(matches!(late.result, Some(Ok(()))), "after {secs} s");
        let told = late.respond(&world);
        assert_eq!(told.is_none(), mute, "after {secs} s: {told:?}");
        assert_eq!(late.writes, usize::from(!mute), "after {secs} s");
    }
}

/// A logout that takes longer than `superseded_for` verifies the secret again, once, also if `superseded_for`
/// is zero.
#[test]
fn a_logout_verifies_the_secret_once() {
    for window in [Duration::ZERO, Duration::from_secs(10)] {
        let mut world = World::with_window(window);
        let token = world.stored("a", None);
        let mut request = Request::new(Some(token.clone()), false, vec![Act::Load, Act::Destroy]);
        while request.at == 0 {
            request.advance(&mut world, Fate::Done);
        }
        world.clock.advance(window + Duration::from_millis(1));
        for _ in 0..4 {
            request.advance(&mut world, Fate::Done);
        }
        assert!(matches!(request.result, Some(Ok(()))), "{window:?}: {:?}", request.result);
        assert!(world.ended.contains(&token.key()), "{window:?}: the session goes on");
    }
}

/// Runs a request that only reads the session to its end.
fn read(world: &mut World, token: &Token, is_navigation: bool, fate: Fate) -> Request {
    let request = Request::new(Some(token.clone()), true, vec![Act::Load, Act::Finish]);
    let mut request = if is_navigation { request.navigation() } else { request };
    request.advance(world, Fate::Done);
    while !request.is_done() {
        request.advance(world, fate);
    }
    assert!(matches!(request.result, Some(Ok(()))), "a page fails: {:?}", request.result);
    request
}

/// If the cookie's fingerprint differs, a navigation sends the cookie again, once, after it has saved the new
/// fingerprint in one more write.
#[test]
fn a_session_is_announced_again_by_a_navigation_and_once() {
    let mut world = World::new();
    let token = world.stored("a", None);
    let doubt = Fate::InDoubt { carried_out: false };
    for (is_navigation, fate, writes) in [
        (false, Fate::Done, 0),
        (true, Fate::Unavailable, 0),
        (true, doubt, 0),
        (true, Fate::Done, 1),
        (true, Fate::Done, 0),
    ] {
        let mut page = read(&mut world, &token, is_navigation, fate);
        let told = page.respond(&world);
        assert_eq!((page.writes, told.is_some()), (writes, writes > 0), "{fate:?}: {told:?}");
        assert!(
            page.respond(&world).is_some() == told.is_some(),
            "another response is told the same"
        );
    }
}

/// A navigation that loads before a login and finishes after it sends no cookie.
#[test]
fn a_navigation_that_a_login_overtakes_announces_nothing() {
    for is_safe in [true, false] {
        let mut world = World::new();
        let sent = world.stored("a", None);
        let acts = vec![Act::Load, Act::Finish];
        let mut page = Request::new(Some(sent.clone()), is_safe, acts).navigation();
        page.advance(&mut world, Fate::Done);
        let mut login = Request::new(Some(sent), false, Kind::Login("ann").acts());
        while !login.is_done() {
            login.advance(&mut world, Fate::Done);
        }
        while !page.is_done() {
            page.advance(&mut world, Fate::Done);
        }
        assert!(matches!(page.result, Some(Ok(()))), "a page fails: {:?}", page.result);
        let told = page.respond(&world);
        assert!(told.is_none(), "{told:?}");
    }
}
