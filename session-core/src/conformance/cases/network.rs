//! Stores behind a network, and connections that end or stall.

use std::future::pending;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;

use futures_lite::future::{or, yield_now};
use futures_timer::Delay;

use super::threads::join;
use crate::Error;
use crate::conformance::expect::expect_eq;
use crate::conformance::proxy::{Cut, Effect, Proxy, Side};
use crate::conformance::sample::{HOUR, login, number, record, set, until};
use crate::conformance::store::Store;
use crate::conformance::{Capabilities, Harness, skip};
use crate::provider::{Changes, ExpiryChange, Page, Record, Token, Touch};

/// How often operations are tried that fail at first, because a pool still has dead connections.
const TRIES: usize = 20;

/// How many exchanges of an operation with the server are cut at most, one at a time.
const EXCHANGES: usize = 8;

/// While the server can't be reached, each operation fails with [`Error::Unavailable`] and writes nothing. At first, a
/// write may fail with [`Error::InDoubt`], if it was sent over a connection that had ended. When the server is back,
/// all operations work again.
pub fn a_server_that_cannot_be_reached_is_unavailable(harness: &dyn Harness) {
    let Some(scene) = Scene::open(harness) else { return };
    let Scene { direct, proxy, .. } = &scene;
    let token = direct.stored(&record(direct.now));
    scene.recover(&token);
    let stored = direct.load(&token, direct.now).expect("loading works");

    proxy.go_down();
    for call in Call::all(&direct.can).filter(|call| !matches!(call, Call::Write(_))) {
        let result = scene.perform(call, &token);
        assert!(is_unavailable(&result), "{call:?} without a server: {result:?}, not Unavailable");
    }
    for write in Write::ALL {
        let token = if write == Write::Create { scene.new_token() } else { token.clone() };
        let mut result = scene.perform(Call::Write(write), &token);
        for _ in 1..TRIES {
            match result {
                Err(Error::InDoubt { .. }) => result = scene.perform(Call::Write(write), &token),
                _ => break,
            }
        }
        assert!(is_unavailable(&result), "{write:?} without a server: {result:?}, not Unavailable");
        let left = direct.load(&token, direct.now).expect("loading works");
        let wanted = if write == Write::Create { None } else { stored.clone() };
        expect_eq!(left, wanted, "{write:?} without a server: what is stored");
    }
    proxy.heal();
    scene.recover(&token);
    for write in Write::ALL.into_iter().filter(|write| *write != Write::Create) {
        let token = direct.stored(&record(direct.now));
        let done = scene.perform(Call::Write(write), &token);
        done.unwrap_or_else(|e| panic!("{write:?}, with the server back: {e:?}"));
    }
}

/// A request that never reaches the server has no effect. It fails with [`Error::Unavailable`], or with
/// [`Error::InDoubt`] if the client can't tell, or it is repeated and succeeds.
pub fn a_write_that_is_cut_off_from_the_server_is_not_done(harness: &dyn Harness) {
    cut_everywhere(harness, &Write::ALL.map(Call::Write), Side::Request);
}

/// A write that the server has performed and whose answer is lost fails with [`Error::InDoubt`], or succeeds because
/// the provider finds out that it was done. It never fails with [`Error::Unavailable`], nor with an error that only the
/// repetition got, such as `Exists`, `Conflict` or `Gone`.
pub fn a_write_whose_answer_is_lost_is_never_called_undone(harness: &dyn Harness) {
    cut_everywhere(harness, &Write::ALL.map(Call::Write), Side::Answer);
}

/// A load whose connection ends finds the record nevertheless, or fails with [`Error::Unavailable`].
pub fn a_load_that_is_cut_never_misses_the_record(harness: &dyn Harness) {
    cut_everywhere(harness, &[Call::Load], Side::Request);
    cut_everywhere(harness, &[Call::Load], Side::Answer);
}

/// If the server accepts connections and is silent, or stops half way through an answer, each operation fails within
/// the provider's time limits, and the error of a write is right about what is stored.
pub fn a_server_that_stalls_is_an_error_in_time(harness: &dyn Harness) {
    let Some(_) = Scene::open(harness) else { return };
    // In parallel, because each operation takes as long as the provider waits.
    thread::scope(|scope| {
        let threads = [
            (Side::Request, Effect::Stall),
            (Side::Answer, Effect::Stall),
            (Side::Answer, Effect::StallHalfWay),
        ]
        .map(|(side, effect)| {
            scope.spawn(move || {
                let Some(scene) = Scene::open(harness) else { return };
                for call in Call::all(&scene.direct.can) {
                    let cut = Cut { side, effect, passing: 0, is_lasting: true };
                    let was_cut = scene.cut(call, cut);
                    assert!(was_cut, "{call:?}, {cut:?}: nothing went over the proxy");
                }
            })
        });
        threads.into_iter().for_each(join);
    });
}

/// An operation that waits for the server leaves its thread to other futures: here, the server's answer comes
/// only when another future on the same thread has run. A collection may block.
pub fn an_operation_that_waits_lets_others_run(harness: &dyn Harness) {
    let Some(scene) = Scene::open(harness) else { return };
    let Scene { direct, proxied, proxy, .. } = &scene;
    for call in Call::all(&direct.can).filter(|call| *call != Call::Purge) {
        let token = scene.token_for(call);
        let (effect, is_lasting) = (Effect::Stall, true);
        proxy.cut(Cut { side: Side::Request, effect, passing: 0, is_lasting });
        let other = async {
            while !proxy.has_cut() {
                yield_now().await;
            }
            proxy.resume();
            pending().await
        };
        let done = scene.in_time(call, || proxied.wait(or(call.perform(proxied, &token), other)));
        proxy.heal();
        done.unwrap_or_else(|error| {
            panic!(
                "{call:?}: the server answers when another future on the same thread runs, and the operation \
                 fails: {error:?}. Does its future block? Leave waiting to a runtime, or to a pool of threads"
            )
        });
    }
}

fn is_unavailable<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable { .. }))
}

/// Cuts each exchange of each call, once so that repetitions are cut as well and once so that they get through.
/// Compares what the call returns with what is stored.
fn cut_everywhere(harness: &dyn Harness, calls: &[Call], side: Side) {
    let Some(scene) = Scene::open(harness) else { return };
    for call in calls {
        for is_lasting in [true, false] {
            for passing in 0..EXCHANGES {
                if !scene.cut(*call, Cut { side, effect: Effect::End, passing, is_lasting }) {
                    assert!(passing > 0, "{call:?}: nothing went over the proxy");
                    break;
                }
            }
        }
    }
}

/// A store, reached directly and through a proxy.
struct Scene<'h> {
    harness: &'h dyn Harness,
    direct: Store<'h>,
    proxied: Store<'h>,
    proxy: Proxy,
}

impl<'h> Scene<'h> {
    fn open(harness: &'h dyn Harness) -> Option<Self> {
        let proxy = Proxy::start();
        let Some(provider) = harness.through(&proxy) else {
            skip("the harness has no way through a proxy");
            return None;
        };
        let direct = Store::open(harness);
        Some(Self { harness, proxied: direct.by(provider), direct, proxy })
    }

    fn new_token(&self) -> Token {
        self.direct.provider().issue(self.direct.new_id())
    }

    /// Returns the token for a call, once there is a connection to the server.
    fn token_for(&self, call: Call) -> Token {
        let token = match call {
            Call::Write(Write::Create) => self.new_token(),
            _ => self.direct.stored(&record(self.direct.now)),
        };
        self.recover(&token);
        token
    }

    /// Lets everything through, and waits until a load succeeds: there is a connection then.
    fn recover(&self, token: &Token) {
        self.proxy.heal();
        for _ in 0..TRIES {
            match self.in_time(Call::Load, || self.proxied.load(token, self.proxied.now)) {
                Ok(_) => return,
                loaded => assert!(
                    is_unavailable(&loaded),
                    "a load after connections had ended returns {loaded:?}, not Unavailable"
                ),
            }
        }
        panic!("the server can be reached again, and {TRIES} loads have failed");
    }

    /// Runs a closure that performs a call through the proxy. If it takes too long, ends the connections, so that even
    /// a call that blocks its thread ends.
    fn in_time<T>(
        &self,
        call: Call,
        perform: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let limit = self.harness.time_limit();
        let (done, is_done) = channel::<()>();
        thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let is_late = is_done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
                if is_late {
                    self.proxy.go_down();
                }
                is_late
            });
            let outcome = perform();
            drop(done);
            let is_late = join(watch);
            assert!(
                !is_late,
                "{call:?} has not ended after {limit:?}. Each operation needs a time limit, for a server that is \
                 silent or stops within an answer"
            );
            outcome
        })
    }

    /// Performs a call through the proxy.
    fn perform(&self, call: Call, token: &Token) -> Result<(), Error> {
        let (proxied, limit) = (&self.proxied, self.harness.time_limit());
        self.in_time(call, || match call {
            Call::Purge => proxied.provider().purge(proxied.now, 10).map(drop),
            _ => proxied.wait(or(call.perform(proxied, token), async {
                // For a call that repeats itself for ever, even without connections.
                Delay::new(2 * limit).await;
                Err(Error::unavailable("the case has given up"))
            })),
        })
    }

    /// Performs a call with this cut, and checks its result. Returns whether it was cut.
    fn cut(&self, call: Call, cut: Cut) -> bool {
        let token = self.token_for(call);
        let stored = || self.direct.load(&token, self.direct.now).expect("loading works");
        let before = stored();
        self.proxy.cut(cut);
        let outcome = self.perform(call, &token);
        let was_cut = self.proxy.has_cut();
        self.proxy.heal();
        let left = stored();
        let what = format!("{call:?}, {cut:?}, returned {outcome:?}");
        let Call::Write(write) = call else {
            // A collection writes as well.
            let may_be_in_doubt = call == Call::Purge;
            match outcome {
                Ok(()) | Err(Error::Unavailable { .. }) => {}
                Err(Error::InDoubt { .. }) if may_be_in_doubt => {}
                Err(_) => panic!("{what}: neither an answer nor Unavailable"),
            }
            return was_cut;
        };
        let is_done = write.is_done(&self.direct, &token, before.as_ref(), left.as_ref());
        let Some(is_done) = is_done else {
            panic!("{what}: half of it is stored: {before:?} became {left:?}");
        };
        match outcome {
            Ok(()) => assert!(is_done, "{what}, and is not stored"),
            Err(Error::InDoubt { .. }) => {}
            Err(Error::Unavailable { .. }) => assert!(!is_done, "{what}, and is stored"),
            Err(_) => panic!("{what}: neither done, nor in doubt, nor unavailable"),
        }
        if cut.side == Side::Request && cut.is_lasting && cut.passing == 0 {
            assert!(!is_done, "{what}: stored by other ways than through the proxy");
        }
        was_cut
    }
}

/// An operation at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Load,
    Count,
    List,
    Purge,
    Write(Write),
}

impl Call {
    /// Returns the calls that a provider of these capabilities supports.
    fn all(can: &Capabilities) -> impl Iterator<Item = Self> + use<> {
        let others = [
            (Self::Load, true),
            (Self::Count, can.count),
            (Self::List, can.lists),
            (Self::Purge, can.purges),
        ];
        let others = others.into_iter().filter_map(|(call, can)| can.then_some(call));
        others.chain(Write::ALL.map(Self::Write))
    }

    async fn perform(self, store: &Store<'_>, token: &Token) -> Result<(), Error> {
        let (provider, now) = (store.provider(), store.now);
        match self {
            Self::Load => {
                let loaded = provider.load(token, now).await?;
                assert!(loaded.is_some(), "a load that the server did not answer finds no record");
                Ok(())
            }
            Self::Count => provider.count(now).await.map(drop),
            Self::List => {
                provider.list("ada", Page { after: None, limit: 10 }, now).await.map(drop)
            }
            Self::Purge => provider.purge(now, 10).map(drop),
            Self::Write(write) => write.perform(store, token).await,
        }
    }
}

/// A kind of write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    Create,
    Save,
    CompareAndSave,
    Login,
    Touch,
    Destroy,
}

impl Write {
    const ALL: [Self; 6] =
        [Self::Create, Self::Save, Self::CompareAndSave, Self::Login, Self::Touch, Self::Destroy];

    async fn perform(self, store: &Store<'_>, token: &Token) -> Result<(), Error> {
        let (provider, now) = (store.provider(), store.now);
        let holder = store.holder(token);
        let done = match self {
            Self::Create => {
                provider.create(token.id(), Record { holder, ..record(now) }, now).await
            }
            Self::Save | Self::CompareAndSave => {
                provider.save(token, &holder, &self.changes(store), now).await
            }
            Self::Login => {
                let changes = store.with_secret(token, self.changes(store), now);
                provider.save(token, &holder, &changes, now).await
            }
            Self::Touch => provider.touch(token, Self::touch(store), now).await,
            Self::Destroy => {
                return provider.destroy(&token.key(), store.after(100 * HOUR), now).await;
            }
        };
        done.map(drop)
    }

    /// Returns whether the write was applied, judging by the record before and after it. `None` if it was applied in
    /// part.
    fn is_done(
        self,
        store: &Store<'_>,
        token: &Token,
        before: Option<&Record>,
        after: Option<&Record>,
    ) -> Option<bool> {
        let mut wanted = before.cloned();
        match (self, &mut wanted) {
            (Self::Create, wanted) => {
                *wanted = Some(Record { holder: store.holder(token), ..record(store.now) });
            }
            (Self::Destroy, wanted) => *wanted = None,
            (Self::Touch, Some(wanted)) => {
                wanted.touch(Self::touch(store), store.now).expect("it is live");
            }
            (_, Some(wanted)) => {
                let held = wanted.holder;
                wanted.apply(&held, &self.changes(store), store.now).expect("it is live");
                if let (Self::Login, Some(after), Some(before)) = (self, after, before)
                    && after.holder != before.holder
                {
                    // Nobody but the caller knows the new secret.
                    wanted.holder = after.holder;
                }
            }
            (_, None) => {}
        }
        match after {
            _ if after == before => Some(false),
            _ if after == wanted.as_ref() => Some(true),
            _ => None,
        }
    }

    fn changes(self, store: &Store<'_>) -> Changes {
        let changes = set("a", 5).with_expiry(ExpiryChange::Extend(until(store.after(2 * HOUR))));
        match self {
            Self::CompareAndSave => changes.expecting("a", Some(&number(1))),
            Self::Login => changes.with_login(login("grace", store.now)),
            _ => changes,
        }
    }

    fn touch(store: &Store<'_>) -> Touch {
        until(store.after(2 * HOUR))
    }
}
