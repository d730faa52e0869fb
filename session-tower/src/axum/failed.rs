//! Errors that are responses.

use std::fmt;

use axum::response::{IntoResponse, Response};
use session_core::Failure;
use session_core::provider::BoxError;

/// An error of a handler or an extractor, as a response: the error type of handlers that use sessions, as any error
/// becomes one by `?`.
///
/// [`SessionLayer`](crate::SessionLayer) treats it as the error that it is: what the handler changed is not saved,
/// the error is logged, and the response has its [status](Failure::status) and words for a visitor, or is made by
/// the [error page](crate::SessionLayer::with_error_page).
///
/// ```
/// use session_tower::axum::{Failed, Session};
///
/// async fn quantity(session: Session, text: String) -> Result<String, Failed> {
///     let quantity: u32 = text.parse()?; // 500, unless an error page says otherwise
///     session.set("quantity", &quantity)?; // 413, for instance, if there is no room
///     Ok(format!("{quantity} it is\n"))
/// }
/// ```
pub struct Failed(Failure);

impl Failed {
    /// What went wrong.
    pub fn failure(&self) -> &Failure {
        &self.0
    }
}

impl<E: Into<BoxError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self(Failure::new(error))
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let mut response = self.0.response();
        response.extensions_mut().insert(self.0);
        response
    }
}

impl fmt::Debug for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
