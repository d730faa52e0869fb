//! Who the visitor is.

use hyper::body::Incoming;
use session_core::{Error, LoadedSession, SessionHandle};

use crate::reply::{Failure, Outcome};
use crate::{input, messages, reply};

/// The key that holds the name of who is logged in.
const USERNAME: &str = "username";

/// Who is logged in. A value of another type, which anyone can put there through `/values`, is
/// nobody's name.
pub(crate) fn username(session: &LoadedSession<'_>) -> Result<Option<String>, Error> {
    match session.get(USERNAME) {
        Err(Error::Decode { .. }) => Ok(None),
        name => name,
    }
}

/// `POST /login`. Requests from other sites don't carry the cookie (`SameSite=Lax`), so they can
/// log nobody in or out here.
pub(crate) async fn login(handle: &SessionHandle<'static>, body: Incoming) -> Outcome {
    let form = input::text(body, None).await?;
    let name = input::argument(&form, USERNAME)?.unwrap_or_default();
    if name.trim().is_empty() {
        return Err(Failure::bad_request("username must not be empty"));
    }
    let session = handle.load().await?;
    // A name too long is refused here, while the session is as it was. It is stored only after the
    // new id: under the old one, which others may know, nobody is ever logged in.
    session.set(USERNAME, &name)?;
    session.regenerate().await?;
    session.save().await?;
    match session.add_flash(messages::CATEGORY, &format!("welcome {name}")).await {
        // Logged in all the same; the client must get the new id.
        Ok(()) | Err(Error::TooLarge { .. }) => Ok(reply::see_other("/")),
        Err(error) => Err(error.into()),
    }
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

/// `GET /private`.
pub(crate) async fn private(handle: &SessionHandle<'static>) -> Outcome {
    Ok(match username(&handle.load().await?)? {
        Some(name) => reply::text(&format!("this is private to {name}")),
        None => reply::see_other("/login"),
    })
}

/// `POST /regenerate`.
pub(crate) async fn regenerate(handle: &SessionHandle<'static>) -> Outcome {
    handle.load().await?.regenerate().await?;
    Ok(reply::no_content())
}

/// `POST /remember`.
pub(crate) async fn remember(handle: &SessionHandle<'static>, query: &str) -> Outcome {
    let on = input::argument(query, "on")?;
    let on = on.and_then(|on| on.parse().ok());
    let on = on.ok_or(input::refused("on", "must be true or false"))?;
    handle.load().await?.set_persistent(on)?;
    Ok(reply::no_content())
}
