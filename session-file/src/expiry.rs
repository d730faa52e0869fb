//! Expiries as files' modification times.

use rustix::fs::{Stat, Timespec, Timestamps};
use session_core::Timestamp;

/// The last second that is asked of a file system, in the year 2242: most hold it, and times up to
/// it don't overflow anything.
pub(crate) const LAST_SECOND: i64 = (1 << 33) - 1;

/// Translates between expiries and modification times.
///
/// An expiry is kept to the millisecond. Those from `never` on are kept as `never` and read as
/// [`Timestamp::MAX`]: a file system's years end, and an expiry must not be shortened by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiries {
    /// In seconds, the last modification time that the file system keeps; found out when the store
    /// is opened.
    never: i64,
}

impl Expiries {
    pub(crate) fn up_to(never: i64) -> Self {
        Self { never }
    }

    /// The modification time that stands for an expiry.
    pub(crate) fn to_file(self, expires: Timestamp) -> Timestamps {
        let seconds = i64::try_from(expires.as_secs()).unwrap_or(i64::MAX);
        let time = if seconds < self.never {
            let millis = (expires.as_millis() % 1000) as i64;
            Timespec { tv_sec: seconds, tv_nsec: millis * 1_000_000 }
        } else {
            Timespec { tv_sec: self.never, tv_nsec: 0 }
        };
        modified(time)
    }

    /// The expiry that a modification time stands for; `None` for one that we don't write.
    pub(crate) fn of_file(self, stat: &Stat) -> Option<Timestamp> {
        let seconds = u64::try_from(stat.st_mtime).ok()?;
        match stat.st_mtime.cmp(&self.never) {
            std::cmp::Ordering::Greater => None,
            std::cmp::Ordering::Equal => Some(Timestamp::MAX),
            std::cmp::Ordering::Less => {
                #[allow(clippy::unnecessary_cast, reason = "its type is not the same everywhere")]
                let nanos = stat.st_mtime_nsec as u64;
                let millis = nanos.min(999_999_999) / 1_000_000;
                Some(Timestamp::from_millis(seconds * 1000 + millis))
            }
        }
    }
}

/// A change of the modification time that leaves the time of access as it is.
pub(crate) fn modified(time: Timespec) -> Timestamps {
    let kept = Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT };
    Timestamps { last_access: kept, last_modification: time }
}
