//! Parsing of requests: query arguments, bodies and form fields.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::StatusCode;
use serde::de::IgnoredAny;
use serde_json::Value;
use tracing::debug;

use crate::reply::Failure;

/// A request's body, whichever server it comes from.
pub(crate) type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// The largest accepted body in bytes. The limits of a session are much lower.
const BODY_LIMIT: usize = 1 << 20;

/// How much of a larger body is still read, in bytes. If the server stopped reading while the client is
/// sending, the connection would be reset, and the client would not see the refusal.
const DRAIN_LIMIT: usize = 16 << 20;

/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// The deepest nesting of JSON that the recursive parser accepts. The library's own limit is lower by
/// default.
const PARSER_DEPTH: usize = 127;

/// Reads a request's whole body.
pub(crate) async fn bytes(body: Body) -> Result<Vec<u8>, Failure> {
    match tokio::time::timeout(BODY_TIMEOUT, collect(body)).await {
        Ok(collected) => collected,
        Err(_) => Err(Failure::Refused(
            StatusCode::REQUEST_TIMEOUT,
            "the body took longer than 30 seconds".into(),
        )),
    }
}

async fn collect(mut body: Body) -> Result<Vec<u8>, Failure> {
    let mut collected = Vec::new();
    let mut seen = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Failure::bad_request("the body is incomplete"))?;
        let data = frame.into_data().unwrap_or_default();
        seen += data.len();
        if seen <= BODY_LIMIT {
            collected.extend(data);
        } else if seen > DRAIN_LIMIT {
            break;
        }
    }
    if seen > BODY_LIMIT {
        return Err(Failure::too_large("the body is too large"));
    }
    Ok(collected)
}

/// Reads a request's body as text; with `field`, returns that field of a form.
pub(crate) async fn text(body: Body, field: Option<&str>) -> Result<String, Failure> {
    let text = String::from_utf8(bytes(body).await?)
        .map_err(|_| Failure::bad_request("the body is not UTF-8"))?;
    match field {
        None => Ok(text),
        Some(field) => {
            let value = argument(&text, field)?;
            value.ok_or(Failure::bad_request("the form has no field of the name given"))
        }
    }
}

/// Parses a JSON document.
pub(crate) fn json(document: &[u8]) -> Result<Value, Failure> {
    const NO_JSON: Failure = Failure::bad_request("the body is not JSON");
    // `IgnoredAny` is parsed without recursion, so bad syntax is detected at any depth.
    serde_json::from_slice::<IgnoredAny>(document).map_err(|_| NO_JSON)?;
    if depth(document) > PARSER_DEPTH {
        return Err(Failure::too_large("the JSON is nested too deeply"));
    }
    serde_json::from_slice(document).map_err(|_| {
        Failure::bad_request("the JSON has a number out of range or text that is not Unicode")
    })
}

/// Returns how deep arrays and objects nest in a document with valid syntax.
fn depth(document: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let mut bytes = document.iter();
    let mut in_text = false;
    while let Some(byte) = bytes.next() {
        match (byte, in_text) {
            (b'"', _) => in_text = !in_text,
            (b'\\', true) => {
                bytes.next();
            }
            (b'[' | b'{', false) => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (b']' | b'}', false) => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Returns one argument of a query, or one field of a form: both are encoded as
/// `application/x-www-form-urlencoded`. Other arguments are ignored, even invalid ones.
pub(crate) fn argument(encoded: &str, name: &str) -> Result<Option<String>, Failure> {
    let decoded = |text| percent_decode(text, Plus::IsBlank);
    let mut found = None;
    for pair in encoded.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(key).as_deref() != Some(name) {
            continue;
        }
        if found.is_some() {
            return Err(refused(name, "is given twice"));
        }
        found = Some(decoded(value).ok_or(refused(name, "is not percent-encoded UTF-8"))?);
    }
    Ok(found)
}

/// The longest wait that a request may ask for, in milliseconds.
const LONGEST_WAIT: u64 = 60_000;

/// Returns the argument `ms`: how long a handler waits after it has loaded the session.
pub(crate) fn milliseconds(query: &str) -> Result<Option<Duration>, Failure> {
    let Some(ms) = argument(query, "ms")? else { return Ok(None) };
    let ms = ms.parse().ok().filter(|ms| *ms <= LONGEST_WAIT);
    let ms = ms.ok_or(refused("ms", "must be a whole number up to 60000"))?;
    Ok(Some(Duration::from_millis(ms)))
}

/// Waits. Logs before that the session is loaded, which tests wait for.
pub(crate) async fn wait(duration: Duration) {
    if !duration.is_zero() {
        debug!("loaded, waiting");
        tokio::time::sleep(duration).await;
    }
}

/// Returns the refusal of an argument or field.
pub(crate) fn refused(name: &str, why: &str) -> Failure {
    Failure::Refused(StatusCode::BAD_REQUEST, format!("{name} {why}").into())
}

/// Whether `+` is decoded as a blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plus {
    IsItself,
    IsBlank,
}

/// Decodes percent-encoding. Returns `None` for anything that is not percent-encoded UTF-8.
pub(crate) fn percent_decode(text: &str, plus: Plus) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high * 16 + low).ok()?
            }
            b'+' if plus == Plus::IsBlank => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoding_is_strict() {
        let path = |text| percent_decode(text, Plus::IsItself);
        assert_eq!(path("a%2Fb+%C3%a9%00").as_deref(), Some("a/b+é\0"));
        assert_eq!(percent_decode("a+b%2B", Plus::IsBlank).as_deref(), Some("a b+"));
        for bad in ["%", "%2", "%zz", "%+1", "%ff", "a%C3"] {
            assert_eq!(path(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_argument_is_found_among_others() {
        let n = |query| argument(query, "n");
        assert_eq!(n("").unwrap(), None);
        assert_eq!(n("m=1&%zz=2&n=3&nn=4").unwrap().as_deref(), Some("3"));
        assert_eq!(n("%6e=%31").unwrap().as_deref(), Some("1"));
        assert_eq!(n("n").unwrap().as_deref(), Some(""));
        assert!(n("n=%zz").is_err());
        assert!(n("n=1&n=1").is_err());
    }

    fn status(document: &str) -> Option<u16> {
        match json(document.as_bytes()) {
            Ok(_) => None,
            Err(Failure::Refused(status, _)) => Some(status.as_u16()),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn depth_is_told_from_bad_syntax() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(status(&nested(127)), None);
        assert_eq!(status(&nested(128)), Some(413));
        assert_eq!(status(&nested(400_000)), Some(413));
        assert_eq!(status(&"[".repeat(400_000)), Some(400));
        assert_eq!(status("\"[[[\\\"[[[\""), None);
        for bad in ["", "tru", "{1:2}", "[1,]", "1 2", "'a'", "1e999", r#""\ud800""#] {
            assert_eq!(status(bad), Some(400), "{bad}");
        }
        assert!(matches!(json(b"\"\xff\""), Err(Failure::Refused(StatusCode::BAD_REQUEST, _))));
    }
}
