//! Several sessions of one request.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use http::request::Parts;
use http::{Extensions, Request, Response, StatusCode};
use smallvec::SmallVec;
use tracing::error;

use crate::error::BoxError;
use crate::respond::Unfinished;
use crate::transport::RequestHead;
use crate::{Error, Failure, LoadedSession, Manager, SessionHandle, respond};

/// The managers of one request, whose sessions travel beside each other.
///
/// ```
/// # fn sites() -> Result<(), session_core::Error> {
/// # mod session_memory { pub fn init() {} }
/// use session_core::{Config, Manager, Managers};
///
/// session_memory::init();
/// let mut staff = Config::default();
/// staff.cookie.name = "__Host-staff".into();
/// let managers = Managers::new([Manager::open("memory", "")?, Manager::from_config(&staff)?])?;
///
/// let request = http::Request::new(());
/// let sessions = managers.start(&request);
/// let staff = sessions.get("__Host-staff").expect("a manager's name");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Managers(Arc<[Manager]>);

impl Managers {
    /// Puts managers together.
    ///
    /// # Errors
    /// [`Error::Config`] if there is none, or if two have the same name, or read the same cookie, header or
    /// query argument: one would take the other's ids.
    pub fn new(managers: impl IntoIterator<Item = Manager>) -> Result<Self, Error> {
        let managers: Arc<[Manager]> = managers.into_iter().collect();
        if managers.is_empty() {
            return Err(Error::config("there must be one manager at least"));
        }
        for (at, one) in managers.iter().enumerate() {
            for other in &managers[..at] {
                if let Some(name) = common_name(one, other) {
                    return Err(Error::config(format_args!(
                        "two managers are named {name:?} at the client: set another \
                         cookie.name, url.param or header.name for one of them"
                    )));
                }
            }
        }
        Ok(Self(managers))
    }

    /// Starts a session of each manager for a request; see [`Manager::start_owned`].
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// use session_core::Managers;
    ///
    /// let managers = Managers::from(manager);
    /// let sessions = managers.start(&http::Request::new(()));
    /// assert_eq!(sessions.iter().count(), 1);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn start<'r>(&self, request: impl Into<RequestHead<'r>>) -> Sessions {
        let head = request.into();
        Sessions(self.0.iter().map(|manager| manager.start_owned(head)).collect())
    }
}

/// Makes managers of a single one.
impl From<Manager> for Managers {
    fn from(manager: Manager) -> Self {
        Self(Arc::new([manager]))
    }
}

/// Returns a name under which both look for their ids, or are found among a request's sessions.
fn common_name<'m>(one: &'m Manager, other: &Manager) -> Option<&'m str> {
    let (one, other) = (&one.shared().transport, &other.shared().transport);
    let others = other.names();
    let mut names = one.names().into_iter().filter(|name| others.contains(name));
    let is_same = one.name() == other.name();
    is_same.then(|| one.name()).or_else(|| names.next().map(|(_, name)| name))
}

/// The sessions of one request, one for each manager; shared by all clones.
///
/// The wrapper service puts it into the request's extensions, from where [`RequestSession`] takes them.
#[derive(Clone)]
pub struct Sessions(Arc<[SessionHandle<'static>]>);

impl Sessions {
    /// Returns the session that the client knows by this name; always the same one within a request.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let sessions = session_core::Managers::from(manager).start(&http::Request::new(()));
    /// let handle = sessions.get("__Host-id").expect("the default cookie's name");
    /// handle.load().await?.set("theme", "dark")?;
    /// assert!(sessions.get("other").is_none());
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn get(&self, name: &str) -> Option<&SessionHandle<'static>> {
        self.0.iter().find(|handle| handle.name() == name)
    }

    /// Returns the only session; `None` if there are several managers.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let sessions = session_core::Managers::from(manager).start(&http::Request::new(()));
    /// let handle = sessions.only().expect("there is one manager");
    /// handle.load().await?.set("theme", "dark")?;
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn only(&self) -> Option<&SessionHandle<'static>> {
        match &*self.0 {
            [handle] => Some(handle),
            _ => None,
        }
    }

    /// Returns all sessions, in the order of their managers.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let sessions = session_core::Managers::from(manager).start(&http::Request::new(()));
    /// let names: Vec<_> = sessions.iter().map(|handle| handle.name()).collect();
    /// assert_eq!(names, ["__Host-id"]);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = &SessionHandle<'static>> {
        self.0.iter()
    }

    /// Runs the request's handler and finishes its response on each way out, for all sessions: see
    /// [`SessionHandle::respond`].
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let sessions = session_core::Managers::from(manager).start(&http::Request::new(()));
    /// use http::Response;
    /// use session_core::{Error, Failure};
    ///
    /// let handler = async {
    ///     for handle in sessions.iter() {
    ///         handle.load().await?.set("seen", &true)?;
    ///     }
    ///     Ok::<_, Error>(Response::new("hello".to_owned()))
    /// };
    /// let response = sessions.respond(handler, Failure::response).await;
    /// assert_eq!(response.headers().get_all("set-cookie").iter().count(), 1); // one for each manager
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn respond<B, E: Into<BoxError>>(
        &self,
        handler: impl Future<Output = Result<Response<B>, E>>,
        error_page: impl FnOnce(&Failure) -> Response<B>,
    ) -> Response<B> {
        let unfinished = Unfinished::new(|| respond::abandon(&self.0));
        let handler = respond::checked(&self.0, handler);
        respond::respond(&self.0, unfinished, handler, error_page).await
    }

    pub(crate) fn handles(&self) -> &[SessionHandle<'static>] {
        &self.0
    }

    /// Returns an error if the request is another site's and a manager refuses these: see
    /// [`SessionHandle::check_site`].
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let sessions = session_core::Managers::from(manager).start(&http::Request::new(()));
    /// sessions.check_site()?; // 403 for a form of another site
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::CrossSite`].
    pub fn check_site(&self) -> Result<(), Error> {
        check_site(&self.0)
    }

    /// Finishes all: see [`SessionHandle::finish`]. All sessions are finished and all
    /// errors returned, even if one fails.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let sessions = session_core::Managers::from(manager).start(&http::Request::new(()));
    /// use http::Response;
    ///
    /// let mut response = Response::new("hello");
    /// if let Err(errors) = sessions.finish(&mut response).await {
    ///     response = Response::new("sorry");
    ///     *response.status_mut() = errors.first().status();
    ///     sessions.refuse(&mut response).await;
    /// }
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// All errors, with the names of their sessions. Call [`refuse`](Self::refuse) on the response that is sent
    /// instead.
    pub async fn finish<B>(&self, response: &mut Response<B>) -> Result<(), FinishErrors> {
        finish(&self.0, response).await
    }

    /// Finishes the response of a request that failed, for all: see [`SessionHandle::refuse`].
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// # let sessions = session_core::Managers::from(manager).start(&http::Request::new(()));
    /// use http::{Response, StatusCode};
    ///
    /// let mut response = Response::new("sorry");
    /// *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    /// sessions.refuse(&mut response).await;
    /// assert_eq!(response.headers()["cache-control"], "no-store");
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub async fn refuse<B>(&self, response: &mut Response<B>) {
        refuse(&self.0, response).await;
    }

    /// Returns where to send the browser for a URL without ids; see
    /// [`clean_url`](SessionHandle::clean_url). A store that is down is left to the handler, which
    /// may not need it.
    #[cfg(feature = "service")]
    pub(crate) async fn clean_url(&self) -> Option<String> {
        for handle in self.iter() {
            if let Ok(Some(url)) = handle.clean_url().await {
                return Some(url);
            }
        }
        None
    }

    /// Returns the rewriter that puts ids into the response, if it is a page.
    #[cfg(feature = "rewrite")]
    pub(crate) fn rewriter(&self) -> Option<crate::rewrite::Rewriter> {
        let (ids, pages): (Vec<_>, Vec<_>) =
            self.iter().filter_map(SessionHandle::insertion).unzip();
        // All are of the same request.
        let page = pages.first()?.to_string();
        Some(crate::rewrite::Rewriter::new(ids, page))
    }
}

/// Loads the session of a request that [the wrapper](crate::SessionService) put sessions into.
///
/// ```
/// use http::{Request, Response};
/// use session_core::{Error, RequestSession};
///
/// async fn count<B>(request: Request<B>) -> Result<Response<String>, Error> {
///     let session = request.session().await?;
///     let visits = session.update("visits", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
///     Ok(Response::new(format!("visit {visits}")))
/// }
/// ```
pub trait RequestSession {
    /// Returns the sessions that the wrapper put there; `None` without it.
    fn sessions(&self) -> Option<&Sessions>;

    /// Loads the session of a program with one manager: see [`SessionHandle::load`].
    ///
    /// # Errors
    /// [`Error::NoSession`] if the wrapper is not around the handler, or has several managers; and those of
    /// [`SessionHandle::load`].
    fn session(&self) -> impl Future<Output = Result<LoadedSession, Error>> + Send {
        load(self.sessions(), None)
    }

    /// Loads the session that the client knows by this name, of a program with several managers.
    ///
    /// # Errors
    /// [`Error::NoSession`] if there is none of this name; and those of [`SessionHandle::load`].
    fn session_named(
        &self,
        name: &str,
    ) -> impl Future<Output = Result<LoadedSession, Error>> + Send {
        load(self.sessions(), Some(name))
    }
}

impl RequestSession for Extensions {
    fn sessions(&self) -> Option<&Sessions> {
        self.get()
    }
}

impl<B> RequestSession for Request<B> {
    fn sessions(&self) -> Option<&Sessions> {
        self.extensions().get()
    }
}

impl RequestSession for Parts {
    fn sessions(&self) -> Option<&Sessions> {
        self.extensions.get()
    }
}

/// Loads one of a request's sessions: by its name, or the only one. The request is not borrowed while the store
/// is asked.
fn load(
    sessions: Option<&Sessions>,
    name: Option<&str>,
) -> impl Future<Output = Result<LoadedSession, Error>> + Send + use<> {
    let sessions = sessions.cloned();
    let handles = sessions.as_ref().map(Sessions::handles).unwrap_or_default();
    let at = match name {
        Some(name) => handles.iter().position(|handle| handle.name() == name),
        None => (handles.len() == 1).then_some(0),
    };
    async move {
        let handles = sessions.as_ref().map(Sessions::handles).unwrap_or_default();
        match at {
            Some(at) => handles[at].load().await,
            None => {
                let names = handles.iter().map(|handle| handle.name().to_owned()).collect();
                Err(Error::NoSession { names })
            }
        }
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

/// Returns an error if the request is another site's.
pub(crate) fn check_site(handles: &[SessionHandle<'_>]) -> Result<(), Error> {
    handles.iter().try_for_each(SessionHandle::check_site)
}

/// Finishes the sessions of a response: first all stores, then all headers. All sessions are finished and all
/// errors returned, even if one fails.
pub(crate) async fn finish<B>(
    handles: &[SessionHandle<'_>],
    response: &mut Response<B>,
) -> Result<(), FinishErrors> {
    let mut stored = SmallVec::<[_; 1]>::new();
    for handle in handles {
        stored.push(handle.store(response.status()).await);
    }
    let mut errors = Vec::new();
    for (handle, stored) in handles.iter().zip(stored) {
        if let Err(error) = stored.and_then(|()| handle.announce(response)) {
            errors.push((handle.name().to_owned(), error));
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(FinishErrors(errors)) }
}

/// Finishes the response of a request that failed.
pub(crate) async fn refuse<B>(handles: &[SessionHandle<'_>], response: &mut Response<B>) {
    for handle in handles {
        // Its provider may be the one that panicked already. The others' clients are told all the same.
        if AssertUnwindSafe(handle.refuse(response)).catch_unwind().await.is_err() {
            error!(name = handle.name(), "a provider panicked while a failed request was finished");
            handle.abandon();
        }
    }
}

/// The errors of finishing the sessions of a request: at least one.
#[derive(Debug)]
pub struct FinishErrors(Vec<(String, Error)>);

impl FinishErrors {
    /// Returns the errors, with the names of their sessions.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Error)> {
        self.0.iter().map(|(name, error)| (name.as_str(), error))
    }

    /// Returns the error that decides the response: the first one of a store that is down, or else the first.
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
