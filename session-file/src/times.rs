//! Records' times as files' times.

use rustix::fs::{Stat, Timespec, Timestamps};
use session_core::Timestamp;

/// The last second that is asked of a file system, in the year 2242: most hold it, and times up to
/// it don't overflow anything.
pub(crate) const LAST_SECOND: i64 = (1 << 33) - 1;

/// Translates between a record's two times and its file's: the expiry is the modification time, the last
/// use the time of access, which counts only where reading doesn't move it.
///
/// Both are kept to the millisecond. Those from `never` on are kept as `never` and read as
/// [`Timestamp::MAX`]: a file system's years end, and an expiry must not be shortened by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileTimes {
    /// In seconds, the last modification time that the file system keeps; found out when the store
    /// is opened.
    never: i64,
}

impl FileTimes {
    pub(crate) fn up_to(never: i64) -> Self {
        Self { never }
    }

    /// The times of a file whose record was used and expires at these instants.
    pub(crate) fn to_file(self, used: Timestamp, expires: Timestamp) -> Timestamps {
        Timestamps { last_access: self.time(used), last_modification: self.time(expires) }
    }

    /// The expiry that a file's modification time stands for; `None` for one that we don't write.
    pub(crate) fn expires(self, stat: &Stat) -> Option<Timestamp> {
        #[allow(clippy::unnecessary_cast, reason = "its type is not the same everywhere")]
        self.instant(stat.st_mtime as i64, stat.st_mtime_nsec as u64)
    }

    /// The last use that a file's time of access stands for. A time that we don't write is of somebody
    /// who read the file or moved it: as good as any.
    pub(crate) fn used(self, stat: &Stat) -> Timestamp {
        #[allow(clippy::unnecessary_cast, reason = "its type is not the same everywhere")]
        self.instant(stat.st_atime as i64, stat.st_atime_nsec as u64).unwrap_or_default()
    }

    fn time(self, time: Timestamp) -> Timespec {
        let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        if seconds < self.never {
            let millis = (time.as_millis() % 1000) as i64;
            Timespec { tv_sec: seconds, tv_nsec: millis * 1_000_000 }
        } else {
            Timespec { tv_sec: self.never, tv_nsec: 0 }
        }
    }

    fn instant(self, seconds: i64, nanos: u64) -> Option<Timestamp> {
        let since_1970 = u64::try_from(seconds).ok()?;
        match seconds.cmp(&self.never) {
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Equal => Some(Timestamp::MAX),
            std::cmp::Ordering::Less => {
                let millis = nanos.min(999_999_999) / 1_000_000;
                Some(Timestamp::from_millis(since_1970 * 1000 + millis))
            }
        }
    }
}

/// A change of the modification time that leaves the time of access as it is.
pub(crate) fn modified(time: Timespec) -> Timestamps {
    let kept = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps { last_access: kept, last_modification: time }
}
