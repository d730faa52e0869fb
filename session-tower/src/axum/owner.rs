//! Who is logged in, as an extractor.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use session_core::Error;

use super::{Failed, LoginPage, Only, Session, SessionName};

/// Who is logged in, as [`log_in`](session_core::LoadedSession::log_in) was told. It dereferences to the owner's
/// text.
///
/// # Rejections
/// [`NotAllowed`]: for a stranger, 401 ([`Error::NotLoggedIn`]), or a redirect to the [`LoginPage`]. As
/// `Option<Owner>` a stranger is `None`. A session that can't be loaded is as for [`Session`].
pub struct Owner<N = Only> {
    name: String,
    session: Session<N>,
}

impl<N: SessionName> Owner<N> {
    async fn load(parts: &Parts) -> Result<Option<Self>, Error> {
        let session = Session::load(parts).await?;
        Ok(session.owner().map(|name| Self { name, session }))
    }

    /// The owner's text.
    pub fn as_str(&self) -> &str {
        &self.name
    }

    /// The session that the owner is logged in with.
    pub fn session(&self) -> &Session<N> {
        &self.session
    }
}

impl<N> Deref for Owner<N> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl<N> fmt::Display for Owner<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name)
    }
}

// The owner is a person's account: an address, as often as not.
impl<N> fmt::Debug for Owner<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("session", &self.session).finish_non_exhaustive()
    }
}

impl<S: Sync, N: SessionName> FromRequestParts<S> for Owner<N> {
    type Rejection = NotAllowed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, NotAllowed> {
        let owner = Self::load(parts).await.map_err(Failed::from)?;
        owner.ok_or_else(|| NotAllowed::log_in::<N>(parts))
    }
}

impl<S: Sync, N: SessionName> OptionalFromRequestParts<S> for Owner<N> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Failed> {
        Ok(Self::load(parts).await?)
    }
}

/// Who logged in no more than `SECONDS` ago, for what a session that was left open must not do, such as a change
/// of password: see [`authenticated_within`](session_core::LoadedSession::authenticated_within).
///
/// ```
/// use session_tower::axum::FreshOwner;
///
/// async fn change_password(FreshOwner(owner): FreshOwner<300>) -> String {
///     format!("a new password for {owner}, please\n")
/// }
/// ```
///
/// # Rejections
/// [`NotAllowed`], as for [`Owner`].
#[derive(Debug)]
pub struct FreshOwner<const SECONDS: u64, N = Only>(
    /// Who it is.
    pub Owner<N>,
);

impl<S: Sync, N: SessionName, const SECONDS: u64> FromRequestParts<S> for FreshOwner<SECONDS, N> {
    type Rejection = NotAllowed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, NotAllowed> {
        let owner = <Owner<N> as FromRequestParts<S>>::from_request_parts(parts, state).await?;
        match owner.session().authenticated_within(Duration::from_secs(SECONDS)) {
            true => Ok(Self(owner)),
            false => Err(NotAllowed::log_in::<N>(parts)),
        }
    }
}

/// Why a page is not shown to this visitor.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotAllowed {
    /// The visitor is sent to this URL, the [`LoginPage`]'s, by `303 See Other`.
    LogIn(String),
    /// The session can't be loaded, or nobody is logged in and there is no login page to go to.
    Failed(Failed),
}

impl NotAllowed {
    fn log_in<N: SessionName>(parts: &Parts) -> Self {
        let page = parts.extensions.get::<LoginPage>();
        match page.and_then(|page| page.url_for::<N>(parts)) {
            Some(url) => Self::LogIn(url),
            None => Self::Failed(Error::NotLoggedIn.into()),
        }
    }
}

impl From<Failed> for NotAllowed {
    fn from(failed: Failed) -> Self {
        Self::Failed(failed)
    }
}

impl IntoResponse for NotAllowed {
    fn into_response(self) -> Response {
        match self {
            Self::LogIn(url) => Redirect::to(&url).into_response(),
            Self::Failed(failed) => failed.into_response(),
        }
    }
}
