//! Several sessions of one request.

use std::fmt;
use std::sync::Arc;

use http::{Response, StatusCode};

use crate::transport::RequestHead;
use crate::{Error, Manager, SessionHandle};

/// The sessions of one request, one for each manager; shared by all clones.
///
/// The wrapper service puts it into the request's extensions.
#[derive(Clone)]
pub struct Sessions(Arc<[SessionHandle<'static>]>);

impl Sessions {
    /// Starts a session of each manager for a request.
    pub fn start<'r>(managers: &[Manager], request: impl Into<RequestHead<'r>>) -> Self {
        let head = request.into();
        Self(managers.iter().map(|manager| manager.start_owned(head)).collect())
    }

    /// The session that the client knows by this name; always the same one within a request.
    pub fn get(&self, name: &str) -> Option<&SessionHandle<'static>> {
        self.0.iter().find(|handle| handle.name() == name)
    }

    /// The session of a program with one manager, whatever the client knows it by.
    ///
    /// # Panics
    /// If there are several, or none: ask for one by its name then.
    pub fn only(&self) -> &SessionHandle<'static> {
        let [handle] = &*self.0 else {
            let names: Vec<_> = self.iter().map(SessionHandle::name).collect();
            panic!("there is not one session but those named {names:?}");
        };
        handle
    }

    /// All of them, in the order of their managers.
    pub fn iter(&self) -> impl Iterator<Item = &SessionHandle<'static>> {
        self.0.iter()
    }

    /// Finishes all: see [`finish_all`].
    ///
    /// # Errors
    /// All that failed.
    pub async fn finish<B>(&self, response: &mut Response<B>) -> Result<(), FinishErrors> {
        finish_all(self.0.iter(), response).await
    }

    /// Finishes the response of a request that failed, for all: see [`SessionHandle::refuse`].
    pub async fn refuse<B>(&self, response: &mut Response<B>) {
        for handle in self.iter() {
            handle.refuse(response).await;
        }
    }

    /// Where to send the browser for a URL without ids; see
    /// [`clean_url`](SessionHandle::clean_url). A store that is down is left to the handler, which
    /// may not need it.
    #[cfg(feature = "hyper")]
    pub(crate) async fn clean_url(&self) -> Option<String> {
        for handle in self.iter() {
            if let Ok(Some(url)) = handle.clean_url().await {
                return Some(url);
            }
        }
        None
    }

    /// Those that put ids into the response, if it is a page.
    #[cfg(feature = "rewrite")]
    pub(crate) fn rewriter(&self) -> Option<crate::rewrite::Rewriter> {
        let (ids, pages): (Vec<_>, Vec<_>) =
            self.iter().filter_map(SessionHandle::insertion).unzip();
        // All are of the same request.
        let page = pages.first()?.to_string();
        Some(crate::rewrite::Rewriter::new(ids, page))
    }

    /// The first half of finishing: the stores.
    #[cfg(feature = "hyper")]
    pub(crate) async fn store(&self, status: StatusCode) -> Result<(), FinishErrors> {
        let mut errors = Vec::new();
        for handle in self.iter() {
            if let Err(error) = handle.store(status).await {
                errors.push((handle.name().to_owned(), error));
            }
        }
        FinishErrors::of(errors)
    }

    /// The second half: the response. What the store acknowledged is announced, also of a session whose
    /// last save failed.
    #[cfg(feature = "hyper")]
    pub(crate) fn announce<B>(&self, response: &mut Response<B>) -> Result<(), FinishErrors> {
        let mut errors = Vec::new();
        for handle in self.iter() {
            if let Err(error) = handle.announce(response) {
                errors.push((handle.name().to_owned(), error));
            }
        }
        FinishErrors::of(errors)
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

/// Finishes several sessions of one request. One that fails keeps no other from being finished,
/// and hides no other's error.
///
/// # Errors
/// All that failed, with their names. [`refuse`](SessionHandle::refuse) each of the handles in the response
/// that takes this one's place.
pub async fn finish_all<'a, 'm: 'a, B>(
    handles: impl IntoIterator<Item = &'a SessionHandle<'m>>,
    response: &mut Response<B>,
) -> Result<(), FinishErrors> {
    let mut errors = Vec::new();
    for handle in handles {
        if let Err(error) = handle.finish(response).await {
            errors.push((handle.name().to_owned(), error));
        }
    }
    FinishErrors::of(errors)
}

/// What went wrong while the sessions of a request were finished: one error at least.
#[derive(Debug)]
pub struct FinishErrors(Vec<(String, Error)>);

impl FinishErrors {
    fn of(errors: Vec<(String, Error)>) -> Result<(), Self> {
        if errors.is_empty() { Ok(()) } else { Err(Self(errors)) }
    }

    /// The errors, with the names of their sessions.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.0.iter().map(|(name, error)| (name.as_str(), error))
    }

    /// The first of the errors that says most about the response: a store that is down before
    /// anything else.
    pub fn first(&self) -> &Error {
        let errors = || self.0.iter().map(|(_, error)| error);
        let down = errors().find(|error| error.status() == StatusCode::SERVICE_UNAVAILABLE);
        down.or_else(|| errors().next()).expect("there is one at least")
    }
}

impl fmt::Display for FinishErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, error)) in self.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(f, "{separator}session {name:?}: {error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for FinishErrors {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.first().source()
    }
}
