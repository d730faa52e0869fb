//! Ids that sessions left behind with the URLs they were in.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{SessionId, Timestamp};

/// How long a request may have been on its way with an id that is dead meanwhile.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// How many ids are remembered: the newest.
const REMEMBERED: usize = 1024;

/// The ids that died lately because their sessions left the URLs.
///
/// A browser that sent one in a cookie will have the new one with its next request. Were it given
/// a new session in the meantime, that one's cookie would take the place of the right one.
#[derive(Default)]
pub(crate) struct Departures(Mutex<VecDeque<(u64, Timestamp)>>);

impl Departures {
    pub(crate) fn add(&self, id: &SessionId, now: Timestamp) {
        let mut departures = self.0.lock();
        if departures.len() == REMEMBERED {
            departures.pop_front();
        }
        departures.push_back((hash(id), now));
    }

    pub(crate) fn has(&self, id: &SessionId, now: Timestamp) -> bool {
        let wanted = hash(id);
        let departures = self.0.lock();
        departures.iter().any(|(hash, at)| *hash == wanted && now.since(*at) < REMEMBERED_FOR)
    }
}

/// Of the digest: an id is kept no longer than need be.
fn hash(id: &SessionId) -> u64 {
    u64::from_be_bytes(*id.digest().first_chunk().expect("a digest has 32 bytes"))
}
