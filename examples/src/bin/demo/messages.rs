//! Messages that are shown once.

use hyper::body::Incoming;
use session_core::SessionHandle;

use crate::reply::Outcome;
use crate::{input, reply};

/// The category that all of the demo's messages are in.
pub(crate) const CATEGORY: &str = "message";

/// `POST /flash`.
pub(crate) async fn add(
    handle: &SessionHandle<'static>,
    form: Option<&str>,
    body: Incoming,
) -> Outcome {
    let message = input::text(body, form).await?;
    handle.load().await?.add_flash(CATEGORY, &message).await?;
    Ok(reply::no_content())
}

/// `GET /flash`.
pub(crate) async fn take(handle: &SessionHandle<'static>) -> Outcome {
    let messages: Vec<String> = handle.load().await?.take_flash(CATEGORY).await?;
    Ok(reply::json(&messages))
}
