//! Responses and failures of handlers.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// A handler's response.
pub(crate) type Reply = Response<Full<Bytes>>;

/// Why a handler returns no ordinary response.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The session could not be loaded or changed. The wrapper around the handlers makes the response.
    Session(session_core::Error),
    /// The request is refused, with a status and one line of text.
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
            // In the demo, visitors choose the stored values, so a wrong type is not the server's fault.
            session_core::Error::Decode { .. } => {
                Self::conflict("the stored value has another type; replace or delete it first")
            }
            session_core::Error::Unsupported { .. } => Self::Refused(
                StatusCode::NOT_IMPLEMENTED,
                "the provider does not support this".into(),
            ),
            error => Self::Session(error),
        }
    }
}

/// Returns a response with one line of text.
pub(crate) fn text(line: &str) -> Reply {
    body("text/plain; charset=utf-8", format!("{line}\n"))
}

/// Returns a response with text and without headers.
pub(crate) fn bare(text: String) -> Reply {
    Response::new(Full::new(text.into()))
}

/// Returns the refusal of a request, with one line of text.
pub(crate) fn refusal(status: StatusCode, line: &str) -> Reply {
    let mut reply = text(line);
    *reply.status_mut() = status;
    reply
}

/// Returns a response with a JSON document.
pub(crate) fn json(value: &impl Serialize) -> Reply {
    // Values were parsed from JSON or are the library's types, so serialization can't fail.
    let mut document = serde_json::to_vec(value).expect("string keys and finite numbers");
    document.push(b'\n');
    body("application/json", document)
}

/// Returns a page. Its policy forbids scripts and external resources; forms go to this server.
pub(crate) fn html(page: String) -> Reply {
    const POLICY: HeaderValue = HeaderValue::from_static(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; \
         base-uri 'none'; frame-ancestors 'none'",
    );
    let mut reply = body("text/html; charset=utf-8", page);
    reply.headers_mut().insert(HeaderName::from_static("content-security-policy"), POLICY);
    reply
}

/// Returns a response without content.
pub(crate) fn no_content() -> Reply {
    let mut reply = Response::new(Full::default());
    *reply.status_mut() = StatusCode::NO_CONTENT;
    reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

/// Returns a redirect to a location with GET. With ids in URLs, the library adds the id to the location.
pub(crate) fn see_other(location: &'static str) -> Reply {
    let mut reply = no_content();
    *reply.status_mut() = StatusCode::SEE_OTHER;
    reply.headers_mut().insert(LOCATION, HeaderValue::from_static(location));
    reply
}

/// Returns a response with a body. Caches must not store it, because it is for one visitor. Browsers
/// must not guess another content type for a visitor's text.
fn body(content_type: &'static str, bytes: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(bytes.into()));
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    reply
}
