//! Responses, and what keeps a handler from giving one.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// What every handler returns.
pub(crate) type Reply = Response<Full<Bytes>>;

/// Why a handler gives no ordinary response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The session could not be loaded or changed: the wrapper around the handlers answers.
    Session(session_core::Error),
    /// The request can't be fulfilled; the text is one line.
    Refused(StatusCode, Cow<'static, str>),
}

pub(crate) type Outcome = Result<Reply, Failure>;

impl Failure {
    pub(crate) const fn bad_request(line: &'static str) -> Self {
        Self::Refused(StatusCode::BAD_REQUEST, Cow::Borrowed(line))
    }

    pub(crate) const fn conflict(line: &'static str) -> Self {
        Self::Refused(StatusCode::CONFLICT, Cow::Borrowed(line))
    }

    pub(crate) const fn too_large(line: &'static str) -> Self {
        Self::Refused(StatusCode::PAYLOAD_TOO_LARGE, Cow::Borrowed(line))
    }

    pub(crate) const fn not_found() -> Self {
        Self::Refused(StatusCode::NOT_FOUND, Cow::Borrowed("not found"))
    }
}

impl From<session_core::Error> for Failure {
    fn from(error: session_core::Error) -> Self {
        match error {
            // Visitors choose here what is stored: another type is no fault of the server's.
            session_core::Error::Decode { .. } => {
                Self::conflict("what is kept here is something else; replace or delete it first")
            }
            session_core::Error::Unsupported { .. } => {
                Self::Refused(StatusCode::NOT_IMPLEMENTED, "this is not kept here".into())
            }
            error => Self::Session(error),
        }
    }
}

/// A line of text.
pub(crate) fn text(line: &str) -> Reply {
    body("text/plain; charset=utf-8", format!("{line}\n"))
}

/// Text without any header of the handler's own.
pub(crate) fn bare(text: String) -> Reply {
    Response::new(Full::new(text.into()))
}

/// A line of text that is not what was asked for.
pub(crate) fn refusal(status: StatusCode, line: &str) -> Reply {
    let mut reply = text(line);
    *reply.status_mut() = status;
    reply
}

/// A JSON document.
pub(crate) fn json(value: &impl Serialize) -> Reply {
    // Values come out of JSON or the library's own types: there is nothing to fail on.
    let mut document = serde_json::to_vec(value).expect("string keys and finite numbers");
    document.push(b'\n');
    body("application/json", document)
}

/// A page. It runs no script and loads nothing; its forms go to this server.
pub(crate) fn html(page: String) -> Reply {
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    );
    let mut reply = body("text/html; charset=utf-8", page);
    reply.headers_mut().insert(HeaderName::from_static("content-security-policy"), POLICY);
    reply
}

/// Done, and there is nothing to show.
pub(crate) fn no_content() -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Go on there, with GET. The library puts the id into the location where it belongs there.
pub(crate) fn see_other(location: &'static str) -> Reply {
    let mut reply = no_content();
    *reply.status_mut() = StatusCode::SEE_OTHER;
    reply.headers_mut().insert(LOCATION, HeaderValue::from_static(location));
    reply
}

/// What is shown is a visitor's own: no cache keeps it, and no browser takes a visitor's text for
/// anything but the stated type.
fn body(content_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(bytes.into()));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
