//! The session as an extractor.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::request::Parts;
use session_core::{Error, LoadedSession, RequestSession as _};

use super::Failed;

/// Which of a request's sessions an extractor takes, in a program with several managers.
///
/// ```
/// use session_tower::axum::{Failed, Owner, Session, SessionName};
///
/// struct Staff;
///
/// impl SessionName for Staff {
///     const NAME: Option<&'static str> = Some("__Host-staff"); // its manager's cookie.name
/// }
///
/// struct Shop;
///
/// impl SessionName for Shop {
///     const NAME: Option<&'static str> = Some("__Host-shop");
/// }
///
/// async fn order(clerk: Owner<Staff>, cart: Session<Shop>) -> Result<String, Failed> {
///     let things: Vec<String> = cart.get("things")?.unwrap_or_default();
///     Ok(format!("{clerk} looks at {things:?}\n"))
/// }
/// ```
pub trait SessionName: Send + Sync + 'static {
    /// The name that clients know the session by: the cookie's, the query argument's, the header's. `None` is the
    /// session of a program with one manager, whatever it is called.
    const NAME: Option<&'static str>;
}

/// The session of a program with one manager.
#[derive(Clone, Copy, Debug)]
pub struct Only;

impl SessionName for Only {
    const NAME: Option<&'static str> = None;
}

/// The visitor's session, loaded: a [`LoadedSession`], which it dereferences to.
///
/// As `Option<Session>` it is `None` for a visitor without a stored session. One who presents none costs the store
/// nothing, and where nothing is set, nobody gets a cookie.
///
/// # Rejections
/// [`Failed`]: [`Error::NoSession`] (500) if there is no [`SessionLayer`](crate::SessionLayer) around the handler
/// or none of its managers has the name, [`Error::Unavailable`] (503) if the store is down.
pub struct Session<N = Only> {
    session: LoadedSession,
    name: PhantomData<fn() -> N>,
}

impl<N: SessionName> Session<N> {
    pub(super) async fn load(parts: &Parts) -> Result<Self, Error> {
        let session = match N::NAME {
            Some(name) => parts.session_named(name).await,
            None => parts.session().await,
        };
        Ok(Self { session: session?, name: PhantomData })
    }

    /// The session itself, to be moved into a task.
    pub fn into_inner(self) -> LoadedSession {
        self.session
    }
}

impl<N> Deref for Session<N> {
    type Target = LoadedSession;

    fn deref(&self) -> &LoadedSession {
        &self.session
    }
}

impl<N> Clone for Session<N> {
    fn clone(&self) -> Self {
        Self { session: self.session.clone(), name: PhantomData }
    }
}

impl<N> fmt::Debug for Session<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.session, f)
    }
}

impl<S: Sync, N: SessionName> FromRequestParts<S> for Session<N> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failed> {
        Ok(Self::load(parts).await?)
    }
}

impl<S: Sync, N: SessionName> OptionalFromRequestParts<S> for Session<N> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Option<Self>, Failed> {
        // To load what nobody presented asks no store. It is done all the same, so that caches are told that the
        // page depends on the cookie.
        let session = Self::load(parts).await?;
        Ok(Some(session).filter(|session| !session.is_new()))
    }
}
