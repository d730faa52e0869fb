//! Counters of a manager.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

use crate::SessionKey;
use crate::provider::Record;

/// What a manager counted since it was opened.
///
/// Loads and saves are not among them: a counter that every request moves would be the one thing
/// that all processors fight over.
///
/// ```
/// # session_memory::init();
/// # let manager = session_core::Manager::open("memory", "")?;
/// let stats = manager.stats();
/// if stats.announced > 1_000 && stats.came_back == 0 {
///     println!("no browser returns its cookie: do its attributes fit the site?");
/// }
/// # Ok::<_, session_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Sessions stored for the first time.
    pub created: u64,
    /// New sessions whose ids were sent to their clients.
    pub announced: u64,
    /// Sessions that were used again by a later request. Each counts once, with its first such request; at
    /// each process that loads it before its first touch, which comes after `touch_every`. Far less than
    /// `announced` if clients don't return their ids, as robots don't.
    pub came_back: u64,
    /// Sessions that got a new id, by a login or otherwise.
    pub regenerated: u64,
    /// Logins.
    pub logins: u64,
    /// Logins that lost a race and went on in a session of their own.
    pub forked: u64,
    /// Sessions ended before their time: by a logout, by their owner or the application, by a login that put an
    /// end to several of one client, or beyond `sessions_per_owner`.
    pub destroyed: u64,
    /// Loads that found a lifetime over which the store took for live.
    pub expired: u64,
    /// Loads with an id that had been replaced a moment ago.
    pub superseded: u64,
    /// Loads of a live session with a secret that is not its own.
    pub wrong_secret: u64,
    /// Requests that could not store what they wanted to, as their session had ended or got a new id.
    pub dropped: u64,
    /// Requests whose session ended or got a new id while they ran.
    pub gone: u64,
    /// Atomic updates that had to try again.
    pub conflicts: u64,
    /// Expired records removed by collection.
    pub purged: u64,
    /// Rounds of collection that failed or panicked.
    pub purge_failures: u64,
    /// Records that could not be read.
    pub unreadable: u64,
    /// Tokens that were malformed and went no further.
    pub malformed: u64,
    /// Unsafe requests that were refused, as they came from another site.
    pub cross_site: u64,
    /// Store operations but for purges that failed because the store was down, full or in doubt.
    pub unavailable: u64,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) created: Counter,
    announced: Counter,
    came_back: Counter,
    recent_returns: RecentReturns,
    pub(crate) regenerated: Counter,
    pub(crate) logins: Counter,
    pub(crate) forked: Counter,
    pub(crate) destroyed: Counter,
    pub(crate) expired: Counter,
    pub(crate) superseded: Counter,
    pub(crate) wrong_secret: Counter,
    pub(crate) dropped: Counter,
    pub(crate) gone: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) purged: Counter,
    pub(crate) purge_failures: Counter,
    pub(crate) unreadable: Counter,
    pub(crate) malformed: Counter,
    pub(crate) cross_site: Counter,
    pub(crate) unavailable: Counter,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// So many new sessions are announced at first without a single one coming back before that is reported.
const NONE_BACK: u64 = 100;

/// How far the last use of a session that nobody has used since its creation may lie behind it: a store may
/// round it up to a second.
const ROUNDED: Duration = Duration::from_secs(1);

/// Remembers the sessions that came back last, so that each counts once although its record shows no use
/// before its first touch. A new one takes the place of another with the same remainder.
#[derive(Debug)]
struct RecentReturns(Box<[AtomicU64]>);

impl Default for RecentReturns {
    fn default() -> Self {
        Self((0..1024).map(|_| AtomicU64::new(0)).collect())
    }
}

impl RecentReturns {
    /// Takes note of a session; returns whether it is not among those that came back last.
    fn is_new(&self, key: &SessionKey) -> bool {
        let (head, _) = key.as_bytes().split_first_chunk().expect("a key has 12 bytes");
        // Zero is nobody.
        let bits = u64::from_le_bytes(*head) | 1 << 63;
        let place = &self.0[(bits % self.0.len() as u64) as usize];
        // Only written if it changes, as all loads of the session read it.
        place.load(Ordering::Relaxed) != bits && place.swap(bits, Ordering::Relaxed) != bits
    }
}

impl Counters {
    /// Counts a new session whose id is sent to its client; warns if the first ones all stay away.
    pub(crate) fn count_announced(&self, name: &str) {
        let before = self.announced.0.fetch_add(1, Ordering::Relaxed);
        if before + 1 == NONE_BACK && self.came_back.get() == 0 {
            warn!(
                name,
                announced = NONE_BACK,
                "none of the first sessions came back: clients seem not to return their ids. Likely \
                 causes, of cookies: Secure over plain HTTP; a Domain or Path that doesn't match the \
                 site's URLs; SameSite=None without Secure. Or all visitors so far were robots"
            );
        }
    }

    /// Counts a session that a client presented and holds, if this is the first time since its creation.
    pub(crate) fn count_use(&self, key: &SessionKey, record: &Record) {
        if record.used.since(record.created) <= ROUNDED && self.recent_returns.is_new(key) {
            self.came_back.add(1);
        }
    }

    pub(crate) fn read(&self) -> Stats {
        Stats {
            created: self.created.get(),
            announced: self.announced.get(),
            came_back: self.came_back.get(),
            regenerated: self.regenerated.get(),
            logins: self.logins.get(),
            forked: self.forked.get(),
            destroyed: self.destroyed.get(),
            expired: self.expired.get(),
            superseded: self.superseded.get(),
            wrong_secret: self.wrong_secret.get(),
            dropped: self.dropped.get(),
            gone: self.gone.get(),
            conflicts: self.conflicts.get(),
            purged: self.purged.get(),
            purge_failures: self.purge_failures.get(),
            unreadable: self.unreadable.get(),
            malformed: self.malformed.get(),
            cross_site: self.cross_site.get(),
            unavailable: self.unavailable.get(),
        }
    }
}
