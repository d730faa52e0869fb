//! [`Manager`]: starts the session of each request, knows the configuration, and owns the provider, the
//! transport and the timer thread.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::collector::Collector;
use crate::cross_site::{CrossSitePolicy, SiteCheck};
use crate::events::{Event, Events, Operation, Refusal};
use crate::provider::{Answer, Provider, Purged, Record, Token, Verifier};
use crate::session_settings::Settings;
use crate::transport::{RequestHead, Transport};
use crate::update_queue::UpdateQueues;
use crate::{
    Config, Error, Lifetime, Limits, ManagerBuilder, SessionHandle, SessionId, SessionKey, Stats,
    Timestamp, lifetime,
};

/// Makes ids. Tests replace it to force collisions or failures.
pub(crate) type IdSource = Arc<dyn Fn() -> Result<SessionId, Error> + Send + Sync>;

/// The character between the namespace and the owner.
const NAMESPACE_END: char = '\0';

/// How many unreadable records are logged, once each.
const MAX_REPORTED: usize = 1024;

/// A record whose times are further than this in the future is reported as clock skew.
const REPORTED_CLOCK_SKEW: Duration = Duration::from_secs(5);

/// Loads, saves and expires the sessions of an application.
///
/// One manager serves the whole process: it is cheap to clone and `Send + Sync`. A process can have several
/// managers with different names at the client. The timer thread ends with the last clone.
///
/// ```no_run
/// # async fn handle(request: http::Request<()>) -> Result<(), Box<dyn std::error::Error>> {
/// use session_core::Manager;
///
/// let manager = Manager::open("memory", "")?;
/// let mut response = http::Response::new(String::new());
/// let handle = manager.start(&request);
/// let session = handle.load().await?;
/// let count = session.update("count", |n: Option<u64>| n.unwrap_or(0) + 1).await?;
/// handle.finish(&mut response).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Manager(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) provider: Arc<dyn Provider>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rules: Rules,
    pub(crate) events: Arc<Events>,
    /// The queues in which updates of one session wait for each other.
    pub(crate) queues: UpdateQueues,
    pub(crate) provider_name: Box<str>,
    pub(crate) id_source: Option<IdSource>,
    /// The sessions whose records were logged as unreadable.
    pub(crate) reported_unreadable: Mutex<HashSet<SessionKey>>,
    /// Whether clock skew between servers was logged.
    pub(crate) clock_skew_reported: AtomicBool,
    /// Whether it was logged as a warning that a client sent more ids than are looked up.
    pub(crate) skipped_reported: AtomicBool,
    /// Whether it was logged that a request was refused because of its `Origin`.
    pub(crate) cross_site_reported: AtomicBool,
    /// Whether the transport puts ids into URLs, at least for some sessions.
    pub(crate) uses_urls: bool,
    pub(crate) collector: Collector,
}

/// The configuration that applies to every session.
pub(crate) struct Rules {
    pub(crate) lifetime: Lifetime,
    /// How long the session of a remembered visitor lives.
    pub(crate) remember: Duration,
    pub(crate) touch_every: Duration,
    /// How long after its replacement an id counts as superseded rather than wrong.
    pub(crate) superseded_for: Duration,
    pub(crate) limits: Limits,
    /// The fingerprint of the transport's configuration; see [`Transport::fingerprint`].
    pub(crate) fingerprint: u32,
    /// Whether tokens are persistent, unless the session's settings differ.
    pub(crate) persistent: bool,
    /// The namespace, which separates this application's ids and owners from those of others on the same
    /// store.
    pub(crate) namespace: Box<str>,
    pub(crate) cross_site: CrossSitePolicy,
    /// The number of sessions that an owner may have.
    pub(crate) sessions_per_owner: Option<NonZeroU32>,
}

impl Rules {
    /// Returns an owner as it is stored: with the namespace in front, so that applications on one store can't
    /// list or end each other's sessions.
    pub(crate) fn stored_owner<'o>(&self, owner: &'o str) -> Cow<'o, str> {
        // Without a namespace, an owner that contains the separator gets an empty namespace, so that it can't
        // be taken for an owner of another namespace.
        if self.namespace.is_empty() && !owner.contains(NAMESPACE_END) {
            return owner.into();
        }
        format!("{}{NAMESPACE_END}{owner}", self.namespace).into()
    }

    /// Returns the application's owner for a stored owner.
    pub(crate) fn shown_owner<'o>(&self, stored: &'o str) -> &'o str {
        let rest = stored.strip_prefix(&*self.namespace);
        rest.and_then(|rest| rest.strip_prefix(NAMESPACE_END)).unwrap_or(stored)
    }
}

impl Manager {
    /// Opens a manager with default options and the provider that is registered under this name.
    ///
    /// ```
    /// session_memory::init();
    /// let manager = session_core::Manager::open("memory", "max_sessions=10000")?;
    /// # Ok::<_, session_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownProvider`] if no provider has this name; the provider's [`Error::Config`] if the
    /// source string is wrong, or its [`Error::Unavailable`].
    pub fn open(provider: &str, source: &str) -> Result<Self, Error> {
        Self::from_config(&Config {
            provider: provider.into(),
            source: source.into(),
            ..Config::default()
        })
    }

    /// Opens a manager with this configuration.
    ///
    /// ```
    /// use session_core::{Config, Manager};
    ///
    /// session_memory::init();
    /// let config: Config = toml::from_str(
    ///     r#"
    ///         provider = "memory"
    ///         idle = "15m"
    ///         [cookie]
    ///         name = "__Host-shop"
    ///     "#,
    /// )?;
    /// let manager = Manager::from_config(&config)?;
    /// assert_eq!(manager.name(), "__Host-shop");
    /// # Ok::<_, Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong with the configuration; [`Error::UnknownProvider`] lists the
    /// registered names.
    pub fn from_config(config: &Config) -> Result<Self, Error> {
        ManagerBuilder::new(config.clone()).build()
    }

    /// Returns a builder, for parts that a configuration file can't name, such as a provider, a clock or an
    /// observer.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use session_core::Manager;
    /// use session_core::clock::TestClock;
    /// use session_memory::MemoryProvider;
    ///
    /// let manager = Manager::builder()
    ///     .with_provider(MemoryProvider::new(Default::default()))
    ///     .with_clock(Arc::new(TestClock::default()))
    ///     .build()?;
    /// # Ok::<_, session_core::Error>(())
    /// ```
    pub fn builder() -> ManagerBuilder {
        ManagerBuilder::new(Config::default())
    }

    /// Returns the session handle of a request.
    ///
    /// This function does no I/O, and does not allocate if ids are in cookies or headers and the client sent
    /// no id or a plain one. A longer text, such as a sealed session, is copied, and transports that put ids
    /// into URLs copy the request's target. The text is parsed on first use, and [`SessionHandle::load`]
    /// checks whether the store has the session.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// let request = http::Request::new(());
    /// let handle = manager.start(&request);
    /// let session = handle.load().await?;
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn start<'m, 'r>(&'m self, request: impl Into<RequestHead<'r>>) -> SessionHandle<'m> {
        SessionHandle::new(ManagerRef::Borrowed(self), request.into())
    }

    /// Returns a session handle that can be moved into tasks. It shares the manager, so each call changes a
    /// reference count that all requests share.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// let handle = manager.start_owned(&http::Request::new(()));
    /// let task = async move { handle.load().await }; // the future is 'static, so a runtime can spawn it
    /// task.await?;
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn start_owned<'r>(&self, request: impl Into<RequestHead<'r>>) -> SessionHandle<'static> {
        SessionHandle::new(ManagerRef::Owned(self.clone()), request.into())
    }

    /// Returns the name under which clients send ids: the name of the cookie, query argument or header.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// assert_eq!(manager.name(), "__Host-id");
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn name(&self) -> &str {
        self.0.transport.name()
    }

    /// Returns the provider's registered name; `custom` for a provider that was passed to
    /// [`ManagerBuilder::with_provider`].
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// assert_eq!(manager.provider_name(), "memory");
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn provider_name(&self) -> &str {
        &self.0.provider_name
    }

    /// Returns the number of live sessions in the store.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// assert_eq!(manager.count().await?, 0);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the provider can't count its sessions, [`Error::Unavailable`] if the store
    /// is down.
    pub async fn count(&self) -> Result<u64, Error> {
        let now = self.now();
        self.0.observe(Operation::Count, now, self.0.provider.count(now)).await
    }

    /// Returns the manager's counters.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// let stats = manager.stats();
    /// println!("{} new sessions, {} came back", stats.announced, stats.came_back);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn stats(&self) -> Stats {
        self.0.events.counters.snapshot()
    }

    /// Returns the time of the manager's clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Removes all expired sessions from the store now, as the timer thread does every `gc_every`.
    ///
    /// This function blocks the thread, so don't call it on a worker thread of an async runtime.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// assert_eq!(manager.collect()?.removed, 0);
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// The provider's error. Sessions that were removed before it stay removed.
    pub fn collect(&self) -> Result<Purged, Error> {
        self.0.collector.collect()
    }

    /// Stops the timer thread and waits for its end. Sessions still work, but expired ones are no longer
    /// removed.
    ///
    /// Without this call, the thread ends soon after the last clone of the manager was dropped.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// manager.close(); // before the process exits
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn close(&self) {
        self.0.collector.stop();
        self.0.collector.join();
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.0
    }
}

impl Shared {
    /// Loads the live record of a token, without verifying the token's secret. An unreadable record is logged
    /// and treated as absent.
    pub(crate) async fn load(
        &self,
        token: &Token,
        now: Timestamp,
    ) -> Result<Option<Record>, Error> {
        match self.observe(Operation::Load, now, self.provider.load(token, now)).await {
            Err(Error::Unreadable { reason }) => {
                self.report_unreadable(token.key(), reason);
                Ok(None)
            }
            // The core checks the expiry itself, in case a store returns an expired record.
            loaded => Ok(loaded?.filter(|record| record.is_live(now))),
        }
    }

    /// Returns the latest instant at which a copy of this record could still be valid.
    pub(crate) fn last_instant(&self, record: &Record) -> Timestamp {
        let lifetime = Settings::of(&record.values).lifetime(&self.rules);
        lifetime.deadline(lifetime::start(record)).max(record.expires)
    }

    /// Awaits a store operation that was started at `now`, and reports its duration and failure.
    pub(crate) async fn observe<T>(
        &self,
        operation: Operation,
        now: Timestamp,
        answer: Answer<'_, T>,
    ) -> Result<T, Error> {
        // Reading the clock takes as long as an operation of a fast store, so the time is measured only for
        // an observer.
        let began = self.events.observer.is_some().then(Instant::now);
        let done = answer.await;
        let took = began.map(|began| began.elapsed());
        if let Some(took) = took {
            self.events.record_duration(operation, took, done.is_ok());
        }
        if let Err(
            error @ (Error::Unavailable { .. } | Error::InDoubt { .. } | Error::Full { .. }),
        ) = &done
        {
            let took = took.unwrap_or_else(|| self.clock.now().since(now));
            self.events.emit(&Event::StoreFailed { operation, error, took });
        }
        done
    }

    /// Makes an id for a session that is not stored yet.
    pub(crate) fn new_id(&self) -> Result<SessionId, Error> {
        match &self.id_source {
            Some(ids) => ids(),
            None => self.provider.new_id(),
        }
    }

    /// Computes the verifier that a record stores for a token's secret.
    pub(crate) fn verifier(&self, token: &Token) -> Verifier {
        self.provider.verifier(token, &self.rules.namespace)
    }

    /// Counts an unreadable record, and logs it once.
    pub(crate) fn report_unreadable(&self, key: SessionKey, reason: &str) {
        self.events.counters.unreadable.add(1);
        let mut reported = self.reported_unreadable.lock();
        if reported.len() < MAX_REPORTED && reported.insert(key) {
            warn!(session = %key, reason, "unreadable session record, treated as absent");
        }
    }

    /// Logs, once, that a record has times in the future: another server's clock is ahead of this one's, or
    /// this one was set back. Sessions would end too early or too late by the difference.
    pub(crate) fn report_clock_skew(&self, key: SessionKey, record: &Record, now: Timestamp) {
        let login = record.login.as_deref().map_or(record.created, |login| login.at);
        let latest = record.created.max(record.renewed).max(record.used).max(login);
        let ahead = latest.since(now);
        if ahead > REPORTED_CLOCK_SKEW && !self.clock_skew_reported.swap(true, Ordering::Relaxed) {
            warn!(
                session = %key,
                seconds = ahead.as_secs(),
                "a session has times from the future: the clocks of the servers that share the store \
                 disagree, or this one was set back; synchronize them"
            );
        }
    }

    /// Logs that a client sent more ids than are looked up. The first time it is a warning, because cookies
    /// of other paths or domains may be the cause. Anybody can send such requests, so later ones are logged
    /// at DEBUG.
    pub(crate) fn report_skipped(&self) {
        const SKIPPED: &str =
            "a client sent more ids than are looked up; only the last ones are used";
        let name = self.transport.name();
        match self.skipped_reported.swap(true, Ordering::Relaxed) {
            false => warn!(name, "{SKIPPED}"),
            true => debug!(name, "{SKIPPED}"),
        }
    }

    /// Checks an unsafe request's origin, unless ids are in headers, which no other site's page can send.
    pub(crate) fn site_check(&self, request: RequestHead<'_>, is_safe: bool) -> SiteCheck {
        match self.transport.is_ambient() {
            true => self.rules.cross_site.site_check(request, is_safe),
            false => SiteCheck::Allowed,
        }
    }

    /// Counts and logs an unsafe request from another site.
    pub(crate) fn report_cross_site(&self, site_check: SiteCheck) {
        self.events.emit(&Event::Refused { session: None, why: Refusal::CrossSite });
        let is_unlike = site_check == SiteCheck::OriginMismatch;
        if is_unlike && !self.cross_site_reported.swap(true, Ordering::Relaxed) {
            warn!(
                "an unsafe request without Sec-Fetch-Site was refused, because its Origin differs from its Host. If \
                 forms or WebSockets of this site fail like that, either a proxy changes the Host header: make \
                 it pass the header on, or set url.origin; or the pages hide their origin by \
                 Referrer-Policy: no-referrer: use same-origin instead"
            );
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("provider", &self.0.provider)
            .field("transport", &self.0.transport)
            .field("lifetime", &self.0.rules.lifetime)
            .finish_non_exhaustive()
    }
}

/// The manager of a handle. It is borrowed where the handle stays in one scope, so that concurrent requests
/// don't contend for the reference count.
#[derive(Debug)]
pub(crate) enum ManagerRef<'m> {
    Borrowed(&'m Manager),
    Owned(Manager),
}

impl ManagerRef<'_> {
    pub(crate) fn to_owned(&self) -> Manager {
        match self {
            Self::Borrowed(manager) => (*manager).clone(),
            Self::Owned(manager) => manager.clone(),
        }
    }

    pub(crate) fn shared(&self) -> &Shared {
        match self {
            Self::Borrowed(manager) => manager.shared(),
            Self::Owned(manager) => manager.shared(),
        }
    }
}
