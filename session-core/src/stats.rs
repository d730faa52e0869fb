//! [`Stats`]: the counters of a manager, such as created sessions, logins, conflicts and failures.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::warn;

use crate::SessionKey;
use crate::provider::Record;

/// The counters of a manager since it was opened.
///
/// Loads and saves are not counted, because all processors would contend for a counter that every request
/// changes.
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
    /// Sessions that a later request used again. Each counts once, with its first such request; if several
    /// processes load it before its first touch, which is due after `touch_every`, it counts once in each of
    /// them. Far lower than `announced` if clients don't return their ids, as robots don't.
    pub came_back: u64,
    /// Sessions that got a new id, by a login or otherwise.
    pub regenerated: u64,
    /// Logins.
    pub logins: u64,
    /// Logins that lost a race and got a session of their own.
    pub forked: u64,
    /// Sessions that were ended before they expired: by a logout, by their owner or the application, by a
    /// login or logout of a client with several sessions, or because of `sessions_per_owner`.
    pub destroyed: u64,
    /// Loads of sessions that were expired, or of unknown age, although the store returned them.
    pub expired: u64,
    /// Loads with a superseded id.
    pub superseded: u64,
    /// Loads of a live session with a wrong secret.
    pub wrong_secret: u64,
    /// Requests whose changes were dropped, because their session had ended or got a new id.
    pub dropped: u64,
    /// Requests whose session ended or got a new id while they ran.
    pub gone: u64,
    /// Atomic updates that were retried after a conflict.
    pub conflicts: u64,
    /// Expired sessions that the timer thread removed from the store.
    pub purged: u64,
    /// Purges that failed or panicked.
    pub purge_failures: u64,
    /// Loads of unreadable records.
    pub unreadable: u64,
    /// Requests whose session id was malformed, so that the store was not accessed.
    pub malformed: u64,
    /// Unsafe requests that were refused because they came from another site.
    pub cross_site: u64,
    /// Store operations, other than purges, that failed because the store was down, full or in doubt.
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

/// The number of new sessions after which a warning is logged if none of them came back.
const NONE_CAME_BACK_WARNING: u64 = 100;

/// The last use of a session that was never used again may be later than its creation by this much, because a
/// store may round it up to a second.
const STORE_ROUNDING: Duration = Duration::from_secs(1);

/// Remembers the sessions that came back last, so that each counts once, although its record shows no use
/// before its first touch. A new one replaces another with the same remainder.
#[derive(Debug)]
struct RecentReturns(Box<[AtomicU64]>);

impl Default for RecentReturns {
    fn default() -> Self {
        Self((0..1024).map(|_| AtomicU64::new(0)).collect())
    }
}

impl RecentReturns {
    /// Remembers a session. Returns whether it was not remembered before.
    fn is_new(&self, key: &SessionKey) -> bool {
        let (head, _) = key.as_bytes().split_first_chunk().expect("a key has 12 bytes");
        // The bit keeps the number from being zero, which stands for an empty place.
        let bits = u64::from_le_bytes(*head) | 1 << 63;
        let place = &self.0[(bits % self.0.len() as u64) as usize];
        // Written only if it changes, because every load of the session reads it.
        place.load(Ordering::Relaxed) != bits && place.swap(bits, Ordering::Relaxed) != bits
    }
}

impl Counters {
    /// Counts a new session whose id is sent to its client. Logs a warning if none of the first ones came
    /// back.
    pub(crate) fn count_announced(&self, name: &str) {
        let before = self.announced.0.fetch_add(1, Ordering::Relaxed);
        if before + 1 == NONE_CAME_BACK_WARNING && self.came_back.get() == 0 {
            warn!(
                name,
                announced = NONE_CAME_BACK_WARNING,
                "none of the first sessions came back: clients don't seem to return their ids. Likely \
                 causes for cookies: Secure over plain HTTP; a Domain or Path that doesn't match the \
                 site's URLs; SameSite=None without Secure. Or all visitors so far were robots"
            );
        }
    }

    /// Counts a live session that a client presented, if this is its first use since its creation.
    pub(crate) fn count_use(&self, key: &SessionKey, record: &Record) {
        if record.used.since(record.created) <= STORE_ROUNDING && self.recent_returns.is_new(key) {
            self.came_back.add(1);
        }
    }

    pub(crate) fn snapshot(&self) -> Stats {
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
