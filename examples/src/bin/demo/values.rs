//! The session's values as JSON.
//!
//! Handlers that need no more than the four basic operations take a `&dyn Session`.

use std::time::Duration;

use serde_json::{Map, Value};
use session_core::{Session, SessionHandle};

use crate::reply::{Failure, Outcome};
use crate::{input, integer, reply};

/// `GET /values`.
pub(crate) async fn list(handle: &SessionHandle<'static>) -> Outcome {
    let session = handle.load().await?;
    let mut all = Map::new();
    for key in session.keys() {
        if let Some(value) = session.get(&key)? {
            all.insert(key, value);
        }
    }
    Ok(reply::json(&all))
}

/// `GET /values/{key}`.
pub(crate) fn read(session: &dyn Session, key: &str) -> Outcome {
    let value: Option<Value> = session.get(key)?;
    Ok(reply::json(&value.ok_or(Failure::not_found())?))
}

/// `PUT /values/{key}`.
pub(crate) fn write(session: &dyn Session, key: &str, value: &Value) -> Outcome {
    session.set(key, value)?;
    Ok(reply::no_content())
}

/// `DELETE /values/{key}`.
pub(crate) fn delete(session: &dyn Session, key: &str) -> Outcome {
    session.get::<Value>(key)?.ok_or(Failure::not_found())?;
    session.delete(key)?;
    Ok(reply::no_content())
}

/// `POST /add/{key}`. Concurrent additions are all counted.
pub(crate) async fn add(handle: &SessionHandle<'static>, key: &str, query: &str) -> Outcome {
    let n = match input::argument(query, "n")? {
        Some(n) => n.parse().map_err(|_| input::refused("n", "must be a whole number"))?,
        None => 1,
    };
    let sum = integer::add(&handle.load().await?, key, n).await?;
    Ok(reply::text(&sum.to_string()))
}

/// `POST /slow/{key}`. The request waits between loading and saving, while others change the session.
pub(crate) async fn slow(
    handle: &SessionHandle<'static>,
    key: &str,
    query: &str,
    form: Option<&str>,
    body: input::Body,
) -> Outcome {
    let wait = input::milliseconds(query)?.unwrap_or(Duration::from_millis(200));
    let value = input::json(input::text(body, form).await?.as_bytes())?;
    let session = handle.load().await?;
    input::wait(wait).await;
    if session.get::<Value>(key)?.as_ref() == Some(&value) {
        // Setting an equal value is no change, so nothing would be saved, and the store would not be
        // asked whether the session still exists. An update asks the store.
        session.update(key, |_: Option<Value>| value.clone()).await?;
    } else {
        session.set(key, &value)?;
    }
    Ok(reply::no_content())
}
