//! What a browser does to a session: requests at the same time, responses in any order, and some that never
//! arrive.
//!
//! A seed decides which requests there are, when each is sent with the cookie that the browser has by then,
//! how long the store takes, and when the response arrives. There are two managers over the store, as two
//! processes have them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::yield_now;
use http::Method;
use parking_lot::Mutex;

use crate::clock::TestClock;
use crate::conformance::expect::{expect_eq, expect_matches};
use crate::conformance::random::Random;
use crate::conformance::site::{Reply, Site, Visitor, numbers};
use crate::conformance::store::{Store, wait};
use crate::conformance::{Delayed, Fault, Faulty, Harness, Task, abandon_after, interleave};
use crate::provider::{Provider, Record, Token};
use crate::{Error, LoadedSession, SessionKey};

/// More polls than a request takes.
const POLLS: usize = 24;

/// Longer than a replaced id is taken for that of a late request.
const LATER: Duration = Duration::from_secs(60);

/// The accounts that visitors log in to. Each login stores a value under its owner's name.
const OWNERS: [&str; 2] = ["ada", "grace"];

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    LogIn(&'static str),
    LogInWithUpdate(&'static str),
    LogInWithSave(&'static str),
    Form,
    Page,
    FormWithUpdate,
    PageWithUpdate,
    Regenerate,
    LogOut,
}

impl Act {
    fn method(self) -> Method {
        match self {
            Self::Page | Self::PageWithUpdate => Method::GET,
            _ => Method::POST,
        }
    }

    fn owner(self) -> Option<&'static str> {
        match self {
            Self::LogIn(owner) | Self::LogInWithUpdate(owner) | Self::LogInWithSave(owner) => {
                Some(owner)
            }
            _ => None,
        }
    }

    /// The request's handler.
    async fn handle(self, session: LoadedSession) -> Result<(), Error> {
        let next = |n: Option<u64>| n.unwrap_or(0) + 1;
        if let Some(owner) = self.owner() {
            session.log_in(owner)?;
            session.set(owner, &1)?;
        }
        match self {
            Self::LogIn(_) => Ok(()),
            Self::LogInWithUpdate(_) => session.update("logins", next).await.map(|_| ()),
            Self::LogInWithSave(_) => session.save().await,
            Self::Form => session.set("form", &1),
            Self::Page => session.set("page", &1),
            Self::FormWithUpdate | Self::PageWithUpdate => {
                session.update("n", next).await.map(|_| ())
            }
            Self::Regenerate => session.regenerate(),
            Self::LogOut => session.destroy().await,
        }
    }
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The response does not arrive.
    Lost,
    /// The client goes away, and the request is dropped after this many polls.
    Abandoned(usize),
}

/// One request of a browser.
#[derive(Clone, Copy, Debug)]
struct Trip {
    act: Act,
    site: usize,
    /// Polls until the request is sent, and until the response arrives.
    delays: [usize; 2],
    fate: Fate,
}

/// What a request saw of its session, and what it was told.
#[derive(Debug)]
struct Outcome {
    trip: Trip,
    /// Whether the browser had a cookie to send.
    has_cookie: bool,
    /// The key of the session, if it was a stored one.
    key: Option<SessionKey>,
    owner: Option<String>,
    values: BTreeMap<String, u64>,
    /// `None` if the request was dropped.
    reply: Option<Result<Told, Error>>,
}

/// What a response told the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Nothing,
    Issued,
    Removed,
}

/// A browser with its cookie, and all that it was ever sent.
struct Browser {
    cookie: Mutex<Visitor>,
    issued: Mutex<Vec<Visitor>>,
}

impl Browser {
    fn of(visitor: Visitor) -> Self {
        Self { issued: Mutex::new(vec![visitor.clone()]), cookie: Mutex::new(visitor) }
    }

    async fn travel(&self, sites: &[Site; 2], trip: Trip) -> Outcome {
        pause(trip.delays[0]).await;
        let sent = self.cookie.lock().clone();
        let mut outcome = Outcome {
            trip,
            has_cookie: sent != Visitor::stranger(),
            key: None,
            owner: None,
            values: BTreeMap::new(),
            reply: None,
        };
        let request = sites[trip.site].serve(sent.request(trip.act.method()), async |session| {
            if !session.is_new() {
                outcome.key = Some(session.key()?);
            }
            outcome.owner = session.owner();
            for key in session.keys() {
                let value = session.get(&key)?.expect("listed keys have values");
                outcome.values.insert(key, value);
            }
            trip.act.handle(session).await
        });
        let reply = match trip.fate {
            Fate::Abandoned(polls) => abandon_after(polls, request).await,
            _ => Some(request.await),
        };
        outcome.reply = match reply {
            Some(Ok(reply)) => {
                let told = match &reply {
                    Reply::Nothing => Told::Nothing,
                    Reply::Removed => Told::Removed,
                    Reply::Issued(visitor) => {
                        self.issued.lock().push(visitor.clone());
                        Told::Issued
                    }
                };
                pause(trip.delays[1]).await;
                if trip.fate == Fate::Answered {
                    let mut cookie = self.cookie.lock();
                    *cookie = reply.reaches(cookie.clone());
                }
                Some(Ok(told))
            }
            Some(Err(error)) => Some(Err(error)),
            None => None,
        };
        outcome
    }
}

async fn pause(polls: usize) {
    for _ in 0..polls {
        yield_now().await;
    }
}

/// A store that takes its time, and fails when it is told to.
type Slow = Faulty<Delayed<Arc<dyn Provider>>>;

/// A visit under one seed, and what came of it.
struct Visit<'h> {
    harness: &'h dyn Harness,
    what: String,
    sites: [Site; 2],
    faulty: [Arc<Slow>; 2],
    browser: Browser,
    /// The key of the session that the visit began with.
    first: SessionKey,
    outcomes: Vec<Outcome>,
}

impl<'h> Visit<'h> {
    /// Begins with an anonymous session, or one that is logged in.
    fn begin(harness: &'h dyn Harness, seed: u64, is_logged_in: bool) -> Self {
        let faulty = [(harness.provider(), seed), (harness.another(), !seed)]
            .map(|(provider, seed)| Arc::new(Faulty::new(Delayed::new(provider, seed))));
        let sites = [0, 1].map(|n: usize| Site::over(Arc::clone(&faulty[n]), harness));
        let visitor = wait(harness, async {
            let visitor = sites[0].enter(&[("cart", 3)]).await;
            if !is_logged_in {
                return visitor;
            }
            let login = sites[0].request(&visitor, async |session| {
                session.set("ada", &1)?;
                session.log_in("ada")
            });
            login.await.expect("a login succeeds").reaches(visitor)
        });
        let first = sites[0].token(&visitor).key();
        let browser = Browser::of(visitor);
        let what = format!("seed {seed}");
        Self { harness, what, sites, faulty, browser, first, outcomes: Vec::new() }
    }

    /// Makes all these requests, in the order of the seed.
    fn make(&mut self, seed: u64, trips: &[Trip]) {
        let (sites, browser) = (&self.sites, &self.browser);
        self.outcomes = wait(self.harness, async {
            let tasks =
                trips.iter().map(|trip| Box::pin(browser.travel(sites, *trip)) as Task<'_, _>);
            interleave(seed, tasks.collect()).await
        });
        for outcome in &self.outcomes {
            write!(self.what, "\n  {outcome:?}").expect("a text has room");
        }
        self.faulty.iter().for_each(|faulty| faulty.cancel());
    }

    /// Checks what holds of every request: a session is logged in with what its own login stored and with
    /// nothing of another's; a login and a logout have no other outcome than those that are promised.
    fn check_requests(&self, is_faulty: bool) {
        let what = &self.what;
        let ends = self.outcomes.iter().any(|outcome| outcome.trip.act == Act::LogOut);
        for outcome in &self.outcomes {
            for owner in OWNERS {
                let is_owner = outcome.owner.as_deref() == Some(owner);
                let has_value = outcome.values.contains_key(owner);
                assert!(
                    is_owner == has_value,
                    "half a login of {owner}, or another's: {outcome:?} in {what}"
                );
            }
            let Some(reply) = &outcome.reply else { continue };
            if let Err(error) = reply
                && is_faulty
                && error.status() == 503
            {
                continue;
            }
            let is_promised = match (outcome.trip.act, reply) {
                (Act::LogOut, Ok(Told::Removed) | Err(Error::Gone)) => outcome.has_cookie,
                (Act::LogOut, Ok(Told::Nothing)) => !outcome.has_cookie,
                (Act::Regenerate, Ok(Told::Issued | Told::Nothing)) => true,
                (Act::Form | Act::FormWithUpdate, Ok(Told::Nothing) | Err(Error::Gone)) => true,
                (Act::Page | Act::PageWithUpdate, Ok(Told::Nothing)) => true,
                // A stranger's by then, who may begin a session.
                (
                    Act::Form | Act::FormWithUpdate | Act::Page | Act::PageWithUpdate,
                    Ok(Told::Issued),
                ) => ends,
                (act, Ok(Told::Issued)) => act.owner().is_some(),
                _ => false,
            };
            assert!(is_promised, "{:?} is told {reply:?} in {what}", outcome.trip.act);
        }
    }

    /// Checks that sessions which a logout ended are gone.
    fn check_ends(&self) {
        let store = Store::open(self.harness);
        for outcome in &self.outcomes {
            if let (Act::LogOut, Some(Ok(Told::Removed)), Some(key)) =
                (outcome.trip.act, &outcome.reply, outcome.key)
            {
                let token = self.tokens().into_iter().find(|(_, token)| token.key() == key);
                let (_, token) = token.expect("a session that was seen was issued");
                let left = store.load(&token, store.now).expect("loading works");
                assert!(
                    left.is_none(),
                    "the session {key} goes on after its logout in {}",
                    self.what
                );
            }
        }
    }

    /// Every cookie that was issued, with its token.
    fn tokens(&self) -> Vec<(Visitor, Token)> {
        let issued = self.browser.issued.lock().clone();
        issued
            .into_iter()
            .map(|visitor| {
                let token = self.sites[0].token(&visitor);
                (visitor, token)
            })
            .collect()
    }

    /// All stored sessions of which a cookie was issued.
    fn records(&self, store: &Store<'_>) -> BTreeMap<SessionKey, Record> {
        let loaded = self.tokens().into_iter().filter_map(|(_, token)| {
            let record = store.load(&token, store.now).expect("loading works");
            record.map(|record| (token.key(), record))
        });
        loaded.collect()
    }

    /// Checks that cookies which open no session by now read, change and end nothing, soon and later.
    fn check_old_cookies(&self) {
        let store = Store::open(self.harness);
        let clock = TestClock::at(store.after(LATER));
        let later = Site::build(self.harness.another(), self.harness, |builder| {
            builder.with_clock(Arc::new(clock))
        });
        let before = self.records(&store);
        let what = &self.what;
        for (visitor, token) in self.tokens() {
            if store.found(&token).is_some() {
                continue;
            }
            wait(self.harness, async {
                for site in [&self.sites[0], &later] {
                    expect_eq!(
                        site.values(&visitor).await,
                        numbers(&[]),
                        "the values that an old cookie reads in {what}"
                    );
                    let form = site.request(&visitor, async |session| {
                        expect_eq!(session.owner(), None, "the owner by an old cookie in {what}");
                        session.set("old", &1)
                    });
                    match form.await {
                        Err(Error::Gone) => {}
                        Ok(Reply::Issued(new)) if site.token(&new).key() != token.key() => {}
                        other => panic!("a form with an old cookie: {other:?} in {what}"),
                    }
                    let update = site.page(&visitor, async |session| {
                        session.try_update("old", |_: Option<u64>| Ok(Some(1))).await.map(|_| ())
                    });
                    match update.await {
                        Err(Error::Gone) => {}
                        Ok(Reply::Issued(new)) if site.token(&new).key() != token.key() => {}
                        other => panic!("an update with an old cookie: {other:?} in {what}"),
                    }
                    let logout =
                        site.request(&visitor, async |session| session.destroy().await).await;
                    expect_matches!(
                        logout,
                        Ok(Reply::Removed) | Err(Error::Gone),
                        "a logout with an old cookie in {what}"
                    );
                }
            });
            assert!(self.records(&store) == before, "an old cookie changed something in {what}");
        }
    }

    /// Checks that the visitor is one login away from being logged in, whatever cookie the browser has.
    fn check_next_login(&self) {
        let what = &self.what;
        wait(self.harness, async {
            let cookie = self.browser.cookie.lock().clone();
            let login = async |session: LoadedSession| Act::LogIn("ada").handle(session).await;
            let reply = self.sites[1].request(&cookie, login).await;
            let Ok(Reply::Issued(after)) = reply else { panic!("a login: {reply:?} in {what}") };
            let owner = self.owner(&after).await;
            expect_eq!(owner.as_deref(), Some("ada"), "the owner after the next login in {what}");
        });
    }

    /// Who is logged in by a cookie.
    async fn owner(&self, visitor: &Visitor) -> Option<String> {
        let mut owner = None;
        let page = self.sites[0].page(visitor, async |session| {
            owner = session.owner();
            Ok(())
        });
        let reply = page.await.expect("a page is served");
        expect_matches!(reply, Reply::Nothing, "a page tells {reply:?} in {}", self.what);
        owner
    }
}

/// Requests of these kinds, between two and five, of which the first is a login.
fn trips(random: &Random, kinds: &[Act], fate: impl Fn() -> Fate) -> Vec<Trip> {
    let trip = |act| Trip {
        act,
        site: random.below(2),
        delays: [random.below(POLLS), random.below(POLLS)],
        fate: fate(),
    };
    let login = match random.below(3) {
        0 => Act::LogInWithUpdate("ada"),
        1 => Act::LogInWithSave("ada"),
        _ => Act::LogIn("ada"),
    };
    let others = 1 + random.below(4);
    std::iter::once(login).chain((0..others).map(|_| *random.pick(kinds))).map(trip).collect()
}

/// A login beside any others, as the same owner or another, and beside late forms and pages: every login
/// succeeds, and whatever the order in which the responses arrive, the browser ends logged in.
pub fn a_visit_with_logins_ends_logged_in(harness: &dyn Harness) {
    const KINDS: [Act; 8] = [
        Act::LogIn("ada"),
        Act::LogIn("grace"),
        Act::LogInWithUpdate("grace"),
        Act::LogInWithSave("ada"),
        Act::Form,
        Act::Page,
        Act::FormWithUpdate,
        Act::PageWithUpdate,
    ];
    for seed in 0..harness.rounds().div_ceil(4) as u64 {
        let random = Random::new(seed);
        let mut visit = Visit::begin(harness, seed, random.below(2) == 0);
        let is_faulty = random.below(3) == 0;
        if is_faulty {
            let fault = *random.pick(&[Fault::Unanswered, Fault::Undelivered]);
            visit.faulty[random.below(2)].fail_after(random.below(12), fault);
        }
        visit.make(seed, &trips(&random, &KINDS, || Fate::Answered));
        visit.check_requests(is_faulty);
        visit.check_old_cookies();
        let logins = visit.outcomes.iter().filter(|outcome| outcome.trip.act.owner().is_some());
        if logins.clone().any(|outcome| matches!(outcome.reply, Some(Ok(_)))) {
            let owner = wait(harness, async {
                let cookie = visit.browser.cookie.lock().clone();
                visit.owner(&cookie).await
            });
            assert!(owner.is_some(), "the browser ends logged out in {}", visit.what);
        }
        visit.check_next_login();
    }
}

/// Logins, logouts, new ids, late forms and pages in any order, of which some responses never arrive and
/// some requests are dropped: the browser ends logged in, logged out, or one login away from being logged
/// in; old cookies read, change and end nothing; a logout that succeeds has ended its session.
pub fn a_visit_of_any_kind_ends_one_login_away(harness: &dyn Harness) {
    const KINDS: [Act; 10] = [
        Act::LogIn("ada"),
        Act::LogIn("grace"),
        Act::LogInWithUpdate("ada"),
        Act::LogInWithSave("grace"),
        Act::LogOut,
        Act::LogOut,
        Act::Regenerate,
        Act::Form,
        Act::PageWithUpdate,
        Act::FormWithUpdate,
    ];
    for seed in 0..harness.rounds().div_ceil(4) as u64 {
        let random = Random::new(!seed);
        let mut visit = Visit::begin(harness, seed, random.below(2) == 0);
        let is_faulty = random.below(3) == 0;
        if is_faulty {
            let fault = *random.pick(&[Fault::NotDone, Fault::Unanswered, Fault::Undelivered]);
            visit.faulty[random.below(2)].fail_times(1 + random.below(3), fault);
        }
        let fate = || match random.below(6) {
            0 => Fate::Lost,
            1 => Fate::Abandoned(random.below(POLLS)),
            _ => Fate::Answered,
        };
        visit.make(seed, &trips(&random, &KINDS, fate));
        visit.check_requests(is_faulty);
        visit.check_ends();
        visit.check_old_cookies();
        visit.check_next_login();
    }
}

/// A login beside a logout succeeds; where it goes on in a session of its own, that has nothing of the one
/// that ended.
pub fn a_login_that_loses_to_a_logout_starts_empty(harness: &dyn Harness) {
    let sites = Site::two(harness, 0);
    wait(harness, async {
        let visitor = sites[0].enter(&[("cart", 3), ("user", 7)]).await;
        let login = sites[0].request(&visitor, async |session| {
            let logout = sites[1].request(&visitor, async |session| session.destroy().await).await;
            expect_matches!(logout, Ok(Reply::Removed), "the logout itself");
            // As it was, and the login's own all the same.
            session.set("user", &7)?;
            Act::LogIn("ada").handle(session).await
        });
        let reply = login.await;
        let Ok(Reply::Issued(after)) = reply else { panic!("the login: {reply:?}") };
        expect_eq!(
            sites[1].values(&after).await,
            numbers(&[("ada", 1), ("user", 7)]),
            "the values by the cookie of a login that lost to a logout"
        );
    });
    for seed in 0..harness.rounds().div_ceil(4) as u64 {
        let random = Random::new(seed);
        let mut visit = Visit::begin(harness, seed, false);
        let trip = |act| Trip {
            act,
            site: random.below(2),
            delays: [random.below(6), 0],
            fate: Fate::Answered,
        };
        visit.make(seed, &[trip(Act::LogIn("ada")), trip(Act::LogOut), trip(Act::Form)]);
        visit.check_requests(false);
        visit.check_ends();
        for (visitor, token) in visit.tokens() {
            if token.key() != visit.first {
                let values = wait(harness, visit.sites[0].values(&visitor));
                assert!(!values.contains_key("cart"), "{values:?} came back in {}", visit.what);
            }
        }
    }
}

/// A visitor whose login's response was lost, and who sends the old cookie again, is logged in by the next
/// try at once, and has nothing of what the first one stored; also where the form of the login needs a
/// session.
pub fn a_login_after_a_lost_response_succeeds_at_once(harness: &dyn Harness) {
    let sites = Site::two(harness, 0);
    wait(harness, async {
        let visitor = sites[0].enter(&[("cart", 3)]).await;
        let first =
            sites[0].request(&visitor, async |session| Act::LogIn("ada").handle(session).await);
        let Ok(Reply::Issued(lost)) = first.await else {
            panic!("the first login returns no new cookie")
        };
        let second =
            sites[1].request(&visitor, async |session| Act::LogIn("grace").handle(session).await);
        let reply = second.await;
        let Ok(Reply::Issued(after)) = reply else { panic!("the second login: {reply:?}") };
        expect_eq!(
            sites[0].values(&after).await,
            numbers(&[("grace", 1)]),
            "the values by the cookie of the second login"
        );

        let form = sites[1].page(&visitor, async |session| {
            session.start_anew()?;
            session.set("token", &9)
        });
        let reply = form.await;
        let Ok(Reply::Issued(form)) = reply else { panic!("the form of a login: {reply:?}") };
        let third = sites[0].request(&form, async |session| {
            expect_eq!(
                session.get::<u64>("token")?,
                Some(9),
                "the value that the form of a login stored"
            );
            Act::LogIn("ada").handle(session).await
        });
        let after = third.await.expect("a login succeeds").reaches(form);
        expect_eq!(
            sites[1].values(&after).await,
            numbers(&[("ada", 1), ("token", 9)]),
            "the values by the cookie of the third login"
        );
        let values = sites[1].values(&lost).await;
        expect_eq!(
            values,
            numbers(&[("ada", 1), ("cart", 3)]),
            "the values by the cookie of the first login, whose response was lost"
        );
    });
}

/// A login as another owner than the session has leaves nothing of the other's values, not even of those
/// that were stored while it ran, nor of the lifetime.
pub fn a_login_as_another_owner_starts_empty(harness: &dyn Harness) {
    let sites = Site::two(harness, 0);
    wait(harness, async {
        let visitor = sites[0].enter(&[("cart", 3)]).await;
        let login = sites[0].request(&visitor, async |session| {
            let short = crate::Lifetime { idle: LATER, absolute: 10 * LATER };
            session.set_lifetime(short)?;
            Act::LogIn("ada").handle(session).await
        });
        let visitor = login.await.expect("a login succeeds").reaches(visitor);
        let other = sites[1].request(&visitor, async |session| {
            let meanwhile =
                sites[0].request(&visitor, async |session| session.set("late", &1)).await;
            expect_matches!(
                meanwhile,
                Ok(Reply::Nothing),
                "a form beside a login of another owner"
            );
            Act::LogIn("grace").handle(session).await
        });
        let visitor = other.await.expect("a login succeeds").reaches(visitor);
        let page = sites[0].page(&visitor, async |session| {
            expect_eq!(
                session.owner().as_deref(),
                Some("grace"),
                "the owner, after a login of another one"
            );
            expect_eq!(
                session.lifetime(),
                crate::Config::default().lifetime(),
                "the lifetime, after a login of another owner"
            );
            Ok(())
        });
        page.await.expect("a page is served");
        expect_eq!(
            sites[0].values(&visitor).await,
            numbers(&[("grace", 1)]),
            "the values, after a login of another owner"
        );
    });
}
