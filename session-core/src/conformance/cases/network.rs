//! Stores behind a network, and connections that end.

use crate::Error;
use crate::conformance::proxy::{Cut, Proxy, Side};
use crate::conformance::sample::{HOUR, login, number, record, set, until};
use crate::conformance::store::Store;
use crate::conformance::{Harness, skip};
use crate::provider::{Changes, ExpiryChange, Page, Record, Token, Touch};

/// How often something that fails once or twice, until a pool of connections is rid of the dead ones, is
/// tried.
const TRIES: usize = 20;

/// The most exchanges with the server that an operation is cut in.
const EXCHANGES: usize = 8;

/// While the server can't be reached, each operation is [`Error::Unavailable`], and writes nothing; a write
/// may be [`Error::InDoubt`] at first, where it was sent over a connection that had ended. Afterwards all works
/// again.
pub fn a_server_that_cannot_be_reached_is_unavailable(harness: &dyn Harness) {
    let Some(scene) = Scene::open(harness) else { return };
    let Scene { direct, proxied, proxy } = &scene;
    let token = direct.stored(&record(direct.now));
    scene.recover(&token);
    let stored = direct.load(&token, direct.now).expect("loading works");

    proxy.go_down();
    let loaded = proxied.load(&token, proxied.now);
    assert!(is_unavailable(&loaded), "loaded without a server: {loaded:?}");
    if direct.can.count {
        let counted = proxied.count(proxied.now);
        assert!(is_unavailable(&counted), "counted without a server: {counted:?}");
    }
    if direct.can.lists {
        let page = Page { after: None, limit: 10 };
        let listed = proxied.wait(proxied.provider().list("ada", page, proxied.now));
        assert!(is_unavailable(&listed), "listed without a server: {listed:?}");
    }
    if direct.can.purges {
        let purged = proxied.provider().purge(proxied.much_later(), 10);
        assert!(is_unavailable(&purged), "purged without a server: {purged:?}");
    }
    for write in Write::ALL {
        let token = if write == Write::Create { scene.new_token() } else { token.clone() };
        let mut result = write.perform(proxied, &token);
        for _ in 1..TRIES {
            match result {
                Err(Error::InDoubt { .. }) => result = write.perform(proxied, &token),
                _ => break,
            }
        }
        assert!(is_unavailable(&result), "{write:?} without a server: {result:?}");
        let left = direct.load(&token, direct.now).expect("loading works");
        let wanted = if write == Write::Create { None } else { stored.clone() };
        assert_eq!(left, wanted, "{write:?} without a server changes what is stored");
    }
    proxy.heal();
    scene.recover(&token);
    for write in Write::ALL.into_iter().filter(|write| *write != Write::Create) {
        let token = direct.stored(&record(direct.now));
        write.perform(proxied, &token).unwrap_or_else(|e| panic!("{write:?} afterwards: {e:?}"));
    }
}

/// A request that never reaches the server has no effect: it fails as [`Error::Unavailable`], or as
/// [`Error::InDoubt`] where the client can't tell; or it is repeated and succeeds.
pub fn a_write_that_is_cut_off_from_the_server_is_not_done(harness: &dyn Harness) {
    cut_everywhere(harness, Side::Request);
}

/// A write that the server has performed and whose answer is lost is [`Error::InDoubt`], or it is found out
/// that it was done: never [`Error::Unavailable`], and never an error that tells of the repetition, as
/// `Exists`, `Conflict` and `Gone` would.
pub fn a_write_whose_answer_is_lost_is_never_called_undone(harness: &dyn Harness) {
    cut_everywhere(harness, Side::Answer);
}

/// A load whose connection ends finds the record all the same, or is [`Error::Unavailable`].
pub fn a_load_that_is_cut_never_misses_the_record(harness: &dyn Harness) {
    let Some(scene) = Scene::open(harness) else { return };
    let token = scene.direct.stored(&record(scene.direct.now));
    let stored = scene.direct.load(&token, scene.direct.now).expect("loading works");
    for side in [Side::Request, Side::Answer] {
        for is_lasting in [true, false] {
            scene.recover(&token);
            let cut = Cut { side, passing: 0, is_lasting };
            scene.proxy.cut(cut);
            let loaded = scene.proxied.load(&token, scene.proxied.now);
            assert!(scene.proxy.has_cut(), "{cut:?}: nothing went over the proxy");
            match loaded {
                Ok(loaded) => assert_eq!(loaded, stored, "{cut:?}"),
                loaded => assert!(is_unavailable(&loaded), "{cut:?}: {loaded:?}"),
            }
        }
    }
}

fn is_unavailable<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Unavailable { .. }))
}

/// Cuts each exchange of each write, for good and in a way that a repetition comes through; and compares
/// what it returns with what is stored.
fn cut_everywhere(harness: &dyn Harness, side: Side) {
    let Some(scene) = Scene::open(harness) else { return };
    for write in Write::ALL {
        for is_lasting in [true, false] {
            for passing in 0..EXCHANGES {
                if !scene.cut(write, Cut { side, passing, is_lasting }) {
                    assert!(passing > 0, "{write:?}: nothing went over the proxy");
                    break;
                }
            }
        }
    }
}

/// A store, and two ways to it.
struct Scene<'h> {
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
        Some(Self { proxied: direct.by(provider), direct, proxy })
    }

    fn new_token(&self) -> Token {
        self.direct.provider().issue(self.direct.new_id())
    }

    /// Lets everything through, and waits until a load succeeds: there is a connection then.
    fn recover(&self, token: &Token) {
        self.proxy.heal();
        for _ in 0..TRIES {
            match self.proxied.load(token, self.proxied.now) {
                Ok(_) => return,
                loaded => assert!(is_unavailable(&loaded), "loading: {loaded:?}"),
            }
        }
        panic!("the server can be reached again, and {TRIES} loads have failed");
    }

    /// Performs a write that is cut so. Returns whether it was.
    fn cut(&self, write: Write, cut: Cut) -> bool {
        let token = match write {
            Write::Create => self.new_token(),
            _ => self.direct.stored(&record(self.direct.now)),
        };
        let stored = || self.direct.load(&token, self.direct.now).expect("loading works");
        let before = stored();
        self.recover(&token);
        self.proxy.cut(cut);
        let outcome = write.perform(&self.proxied, &token);
        let was_cut = self.proxy.has_cut();
        self.proxy.heal();
        let left = stored();
        let what = format!("{write:?}, {cut:?}, returned {outcome:?}");
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

/// A write, each of another kind.
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

    fn perform(self, store: &Store<'_>, token: &Token) -> Result<(), Error> {
        let now = store.now;
        let done = match self {
            Self::Create => store.create(token.id(), &record(now), now),
            Self::Save | Self::CompareAndSave => store.save(token, &self.changes(store), now),
            Self::Login => {
                let changes = store.with_secret(token, self.changes(store), now);
                store.save(token, &changes, now)
            }
            Self::Touch => store.touch_as(token, Self::touch(store), now),
            Self::Destroy => return store.destroy(token, now),
        };
        done.map(drop)
    }

    /// Whether the write is done, by the record before and after it; `None` if it is something else.
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
