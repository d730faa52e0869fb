//! Flash messages, which are shown once.

use hyper::{HeaderMap, Method};
use session_core::{Error, LoadedSession, SessionHandle};

use crate::reply::Outcome;
use crate::{input, reply};

/// The category of all of the demo's messages.
pub(crate) const CATEGORY: &str = "message";

/// `POST /flash`.
pub(crate) async fn add(
    handle: &SessionHandle<'static>,
    form: Option<&str>,
    body: input::Body,
) -> Outcome {
    let message = input::text(body, form).await?;
    handle.load().await?.add_flash(CATEGORY, &message).await?;
    Ok(reply::no_content())
}

/// `GET /flash`.
pub(crate) async fn list(handle: &SessionHandle<'static>, audience: Audience) -> Outcome {
    let session = handle.load().await?;
    Ok(reply::json(&take(&session, audience).await?))
}

/// Takes the messages if somebody will see the response.
pub(crate) async fn take(
    session: &LoadedSession,
    audience: Audience,
) -> Result<Vec<String>, Error> {
    match audience {
        Audience::Reader => session.take_flash(CATEGORY).await,
        Audience::Nobody => Ok(Vec::new()),
    }
}

/// Whether anybody sees the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    Reader,
    /// The request is HEAD, or prefetches a page that may never be shown.
    Nobody,
}

impl Audience {
    /// Browsers mark prefetches by the header `Sec-Purpose` (Fetch standard).
    pub(crate) fn of(method: &Method, headers: &HeaderMap) -> Self {
        let purpose = headers.get("sec-purpose").and_then(|purpose| purpose.to_str().ok());
        let is_prefetch = purpose.is_some_and(|purpose| purpose.starts_with("prefetch"));
        if *method == Method::HEAD || is_prefetch { Self::Nobody } else { Self::Reader }
    }
}
