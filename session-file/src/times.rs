//! The translation between records' times and files' times.

use rustix::fs::{Stat, Timespec, Timestamps};
use session_core::Timestamp;

/// The latest second that a file system is asked to store, in the year 2242. Most file systems can store
/// it, and times up to it overflow nothing.
pub(crate) const LAST_SECOND: i64 = (1 << 33) - 1;

/// Translates between a record's last use and expiry, and its file's times. The expiry is the
/// modification time. The last use is the time of access, which is used only on platforms where reads
/// don't update it.
///
/// Both are stored to the millisecond. Times from `never` on are stored as `never` and read as
/// [`Timestamp::MAX`], because the range of the file system must not shorten an expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileTimes {
    /// The latest modification time that the file system can store, in seconds. It is found out when the
    /// store is opened.
    never: i64,
}

impl FileTimes {
    pub(crate) fn up_to(never: i64) -> Self {
        Self { never }
    }

    /// Returns the times of a file for a record with this last use and expiry.
    pub(crate) fn to_file(self, used: Timestamp, expires: Timestamp) -> Timestamps {
        Timestamps { last_access: self.time(used), last_modification: self.time(expires) }
    }

    /// Returns the expiry for a file's modification time; `None` if this provider never writes such a
    /// time.
    pub(crate) fn expires(self, stat: &Stat) -> Option<Timestamp> {
        #[allow(clippy::unnecessary_cast, reason = "its type is not the same everywhere")]
        self.instant(stat.st_mtime as i64, stat.st_mtime_nsec as u64)
    }

    /// Returns the last use for a file's time of access. For a time that this provider never writes,
    /// which comes from a program that read or copied the file, it returns the earliest time.
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

/// Returns times that set the modification time and keep the time of access.
pub(crate) fn modified(time: Timespec) -> Timestamps {
    let kept = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps { last_access: kept, last_modification: time }
}
