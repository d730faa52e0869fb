//! Login, logout, and pages that depend on the user.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::USER_AGENT;
use session_core::{Error, LoadedSession, SessionHandle};

use crate::reply::{Failure, Outcome};
use crate::{input, messages, reply};

/// The key of the value with the user's name.
const USERNAME: &str = "username";

/// The longest label of a session, in characters.
const LONGEST_LABEL: usize = 100;

/// Returns the user's name. Anyone can store a value of another type there through `/values`; that
/// counts as anonymous.
pub(crate) fn username(session: &LoadedSession) -> Result<Option<String>, Error> {
    match session.get(USERNAME) {
        Err(Error::Decode { .. }) => Ok(None),
        name => name,
    }
}

/// `POST /login`. Requests from other sites don't carry the cookie (`SameSite=Lax`), so another site
/// can't log a visitor in or out.
pub(crate) async fn login(
    handle: &SessionHandle<'static>,
    query: &str,
    headers: &HeaderMap,
    body: input::Body,
) -> Outcome {
    let wait = input::milliseconds(query)?.unwrap_or(Duration::ZERO);
    let form = input::text(body, None).await?;
    let name = input::argument(&form, USERNAME)?.unwrap_or_default();
    if name.trim().is_empty() {
        return Err(Failure::bad_request("username must not be empty"));
    }
    let session = handle.load().await?;
    // Simulates the time that hashing a password takes.
    input::wait(wait).await;
    // Nothing is stored before `add_flash` saves; then name, owner, new id and message are stored at
    // once.
    session.log_in(&name)?;
    session.label(&label(headers))?;
    session.set(USERNAME, &name)?;
    match session.add_flash(messages::CATEGORY, &format!("welcome {name}")).await {
        // If the message doesn't fit, the login is saved at the end of the request.
        Ok(()) | Err(Error::TooLarge { .. }) => Ok(reply::see_other("/")),
        Err(error) => Err(error.into()),
    }
}

/// Returns the label for a session that begins with this request: the browser's `User-Agent`.
fn label(headers: &HeaderMap) -> String {
    let agent = headers.get(USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    agent.unwrap_or_default().chars().take(LONGEST_LABEL).collect()
}

/// `POST /logout`.
pub(crate) async fn logout(handle: &SessionHandle<'static>) -> Outcome {
    handle.load().await?.destroy().await?;
    Ok(reply::see_other("/"))
}

/// `GET /whoami`.
pub(crate) async fn whoami(handle: &SessionHandle<'static>) -> Outcome {
    let name = username(&handle.load().await?)?;
    Ok(reply::text(name.as_deref().unwrap_or("anonymous")))
}

/// `GET /hello`. The handler sets no header for caches; the library does.
pub(crate) async fn hello(handle: &SessionHandle<'static>) -> Outcome {
    let name = username(&handle.load().await?)?;
    let name = name.as_deref().unwrap_or("stranger");
    Ok(reply::bare(format!("hello {name}\n")))
}

/// `GET /private`.
pub(crate) async fn private(handle: &SessionHandle<'static>) -> Outcome {
    Ok(match username(&handle.load().await?)? {
        Some(name) => reply::text(&format!("this is private to {name}")),
        None => reply::see_other("/login"),
    })
}

/// `POST /regenerate`.
pub(crate) async fn regenerate(handle: &SessionHandle<'static>) -> Outcome {
    handle.load().await?.regenerate()?;
    Ok(reply::no_content())
}

/// `POST /remember`.
pub(crate) async fn remember(handle: &SessionHandle<'static>, query: &str) -> Outcome {
    let on = input::argument(query, "on")?;
    let on = on.and_then(|on| on.parse().ok());
    let on = on.ok_or(input::refused("on", "must be true or false"))?;
    handle.load().await?.remember(on)?;
    Ok(reply::no_content())
}
