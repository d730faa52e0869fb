//! The list of the user's sessions.

use std::fmt::Write as _;

use serde::Serialize;
use session_core::{
    Error, LoadedSession, Manager, OwnedSession, SessionHandle, SessionKey, Timestamp,
};

use crate::page::{duration, escape};
use crate::reply;
use crate::reply::{Failure, Outcome};

/// `GET /sessions`.
pub(crate) async fn list(handle: &SessionHandle<'static>, manager: &Manager) -> Outcome {
    let session = handle.load().await?;
    if session.owner().is_none() {
        return Ok(reply::see_other("/login"));
    }
    let sessions = manager.sessions_beside(&session).await?;
    Ok(reply::json(&sessions.iter().map(Shown::of).collect::<Vec<_>>()))
}

/// A session in JSON, with times in seconds since 1970.
#[derive(Serialize)]
struct Shown<'a> {
    key: String,
    current: bool,
    created: u64,
    used: u64,
    expires: u64,
    label: &'a str,
}

impl<'a> Shown<'a> {
    fn of(session: &'a OwnedSession) -> Self {
        let OwnedSession { current, label, .. } = session;
        let [created, used, expires] =
            [session.created, session.used, session.expires].map(Timestamp::as_secs);
        Self { key: session.key.to_string(), current: *current, created, used, expires, label }
    }
}

/// `POST /sessions/{key}/end`.
pub(crate) async fn end(handle: &SessionHandle<'static>, manager: &Manager, key: &str) -> Outcome {
    let session = handle.load().await?;
    let (Some(owner), Some(key)) = (session.owner(), SessionKey::parse(key)) else {
        return Err(Failure::not_found());
    };
    if key == session.key()? {
        // The response clears the cookie as well.
        session.destroy().await?;
    } else if !manager.end(&owner, key).await? {
        return Err(Failure::not_found());
    }
    Ok(reply::see_other("/"))
}

/// `POST /sessions/end-others`.
pub(crate) async fn end_others(handle: &SessionHandle<'static>, manager: &Manager) -> Outcome {
    manager.end_others(&handle.load().await?).await?;
    Ok(reply::see_other("/"))
}

/// Returns a table of the user's sessions with buttons. Returns an empty text if nobody is logged in, or
/// if the provider can't list sessions.
pub(crate) async fn table(session: &LoadedSession, manager: &Manager) -> Result<String, Error> {
    let sessions = match manager.sessions_beside(session).await {
        Err(Error::Unsupported { .. }) => Vec::new(),
        sessions => sessions?,
    };
    if sessions.is_empty() {
        return Ok(String::new());
    }
    let mut rows = String::new();
    for session in &sessions {
        row(&mut rows, session, manager);
    }
    Ok(format!(
        r#"<h2 id="sessions-title">Your sessions</h2>
<table id="sessions" aria-labelledby="sessions-title">
<thead><tr><th scope="col">Browser</th><th scope="col">Logged in</th><th scope="col">Last used</th><th scope="col">End it</th></tr></thead>
<tbody>
{rows}</tbody>
</table>
<form method="post" action="/sessions/end-others" id="end-others"><button>End all others</button></form>"#
    ))
}

fn row(rows: &mut String, session: &OwnedSession, manager: &Manager) {
    let OwnedSession { key, authenticated, used, current, label, .. } = session;
    let ago = |time| duration(manager.now().since(time));
    let name = if label.is_empty() { "unknown".into() } else { escape(label) };
    let (here, action) = match current {
        true => (" (this one)", "Log out here"),
        false => ("", "End"),
    };
    let _ = writeln!(
        rows,
        "<tr data-key=\"{key}\"><td>{name}{here}</td><td>{} ago</td><td>{} ago</td><td>\
         <form method=\"post\" action=\"/sessions/{key}/end\"><button>{action}</button></form></td></tr>",
        ago(*authenticated),
        ago(*used),
    );
}
