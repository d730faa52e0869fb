//! The visit counter and statistics.

use serde::Serialize;
use serde_json::Number;
use session_core::{Error, LoadedSession, Manager, SessionHandle, Stats, Timestamp};

use crate::reply::{Failure, Outcome};
use crate::{integer, reply};

/// After how many seconds a visitor's count restarts.
const COUNT_FOR: i128 = 360;

/// `GET /count`.
pub(crate) async fn count(handle: &SessionHandle<'static>, manager: &Manager) -> Outcome {
    let session = handle.load().await?;
    Ok(reply::text(&next(&session, manager.now()).await?.to_string()))
}

/// Counts a visit and returns its number. If the session began too long ago, it is destroyed and a new
/// one is started in the same request.
pub(crate) async fn next(session: &LoadedSession, now: Timestamp) -> Result<Number, Failure> {
    let mut begun = integer::get(session, "createtime")?;
    if begun.is_some_and(|begun| begun + COUNT_FOR < i128::from(now.as_secs())) {
        session.destroy().await?;
        begun = None;
    }
    if begun.is_none() {
        session.set("createtime", &now.as_secs())?;
    }
    integer::add(session, "count", 1).await
}

/// `GET /stats`.
pub(crate) async fn stats(manager: &Manager) -> Outcome {
    #[derive(Serialize)]
    struct Report<'a> {
        provider: &'a str,
        sessions: Option<u64>,
        counters: Stats,
    }

    let sessions = match manager.count().await {
        Ok(sessions) => Some(sessions),
        Err(Error::Unsupported { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let provider = manager.provider_name();
    Ok(reply::json(&Report { provider, sessions, counters: manager.stats() }))
}
