//! The manager of a program's sessions.

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
use crate::cross_site::{CrossSite, SiteCheck};
use crate::events::{Event, Events, Operation, Refusal};
use crate::provider::{Answer, Provider, Purged, Record, Token, Verifier};
use crate::session_settings::Settings;
use crate::transport::{RequestHead, Transport};
use crate::update_queue::UpdateQueues;
use crate::{
    Config, Error, Lifetime, Limits, ManagerBuilder, SessionHandle, SessionId, SessionKey, Stats,
    Timestamp, lifetime,
};

/// Makes ids. Exchanged by tests that force collisions or failures.
pub(crate) type IdSource = Arc<dyn Fn() -> Result<SessionId, Error> + Send + Sync>;

/// What stands between a namespace and an owner.
const NAMESPACE_END: char = '\0';

/// How many unreadable records are remembered as reported.
const REPORTED: usize = 1024;

/// How far a record's times may lie ahead of this server's clock before that is reported.
const CLOCKS_DIFFER: Duration = Duration::from_secs(5);

/// Finds, loads, saves and collects the sessions of a program.
///
/// One serves the whole process: it is cheap to clone and `Send + Sync`. Several may live side by
/// side, with different names at the client. The timer thread ends with the last clone.
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
    /// Where the updates of a session wait for each other.
    pub(crate) queues: UpdateQueues,
    pub(crate) provider_name: Box<str>,
    pub(crate) ids: Option<IdSource>,
    /// The sessions whose records were reported as unreadable.
    pub(crate) reported: Mutex<HashSet<SessionKey>>,
    /// Whether it was reported that the servers' clocks differ.
    pub(crate) clocks_reported: AtomicBool,
    /// Whether it was reported that a client sent more ids than are looked up.
    pub(crate) skipped_reported: AtomicBool,
    /// Whether it was reported that a request was refused by its `Origin`.
    pub(crate) foreign_reported: AtomicBool,
    /// Whether the transport puts ids into URLs, of some sessions at least.
    pub(crate) in_urls: bool,
    pub(crate) collector: Collector,
}

/// What the configuration says about every session.
pub(crate) struct Rules {
    pub(crate) lifetime: Lifetime,
    /// How long the session of a visitor lives who is to be remembered.
    pub(crate) remember: Duration,
    pub(crate) touch_every: Duration,
    /// How long a client that sends a replaced id is taken for one that has the new id already.
    pub(crate) superseded_for: Duration,
    pub(crate) limits: Limits,
    /// How the transport announces, as a fingerprint.
    pub(crate) fingerprint: u32,
    /// Whether the client keeps its token when the browser ends, unless the session says otherwise.
    pub(crate) persistent: bool,
    /// What tells the ids of this application from those of others on the same store.
    pub(crate) namespace: Box<str>,
    pub(crate) cross_site: CrossSite,
    /// How many sessions an owner may have.
    pub(crate) sessions_per_owner: Option<NonZeroU32>,
}

impl Rules {
    /// Returns an owner as the store knows it: with the namespace, so that applications on one store neither
    /// list nor end each other's sessions.
    pub(crate) fn stored_owner<'o>(&self, owner: &'o str) -> Cow<'o, str> {
        // Without a namespace, an owner that could be taken for one of a namespace says that it has none.
        if self.namespace.is_empty() && !owner.contains(NAMESPACE_END) {
            return owner.into();
        }
        format!("{}{NAMESPACE_END}{owner}", self.namespace).into()
    }

    /// Returns an owner as the application knows it, of one as the store knows it.
    pub(crate) fn shown_owner<'o>(&self, stored: &'o str) -> &'o str {
        let rest = stored.strip_prefix(&*self.namespace);
        rest.and_then(|rest| rest.strip_prefix(NAMESPACE_END)).unwrap_or(stored)
    }
}

impl Manager {
    /// A manager with default options over the provider that is registered by this name.
    ///
    /// ```
    /// session_memory::init();
    /// let manager = session_core::Manager::open("memory", "max_sessions=10000")?;
    /// # Ok::<_, session_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::UnknownProvider`], or what the provider finds wrong with the source string.
    pub fn open(provider: &str, source: &str) -> Result<Self, Error> {
        Self::from_config(&Config {
            provider: provider.into(),
            source: source.into(),
            ..Config::default()
        })
    }

    /// A manager as configured.
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
    /// [`Error::Config`] says what is wrong; [`Error::UnknownProvider`] lists the registered names.
    pub fn from_config(config: &Config) -> Result<Self, Error> {
        ManagerBuilder::new(config.clone()).build()
    }

    /// A manager with parts that no configuration file can name.
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

    /// Finds what a request says of its session.
    ///
    /// Pure and cheap: no I/O, and no allocation where ids travel in cookies or headers and the
    /// client sent nothing or an id. A longer text, such as a sealed session, is copied, and
    /// transports that put ids into URLs keep the request's target. Whether the text is well formed
    /// is looked at with the first use, and whether the store knows it with [`SessionHandle::load`].
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

    /// The same, with a handle that can be moved into tasks: it shares the manager, whose reference
    /// count moves with each request.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// let handle = manager.start_owned(&http::Request::new(()));
    /// let task = async move { handle.load().await }; // 'static: a runtime can spawn it
    /// task.await?;
    /// # Ok::<_, session_core::Error>(())
    /// # }).unwrap();
    /// ```
    pub fn start_owned<'r>(&self, request: impl Into<RequestHead<'r>>) -> SessionHandle<'static> {
        SessionHandle::new(ManagerRef::Owned(self.clone()), request.into())
    }

    /// The name that clients know the session by: the cookie's, the query argument's...
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

    /// The provider's registered name; `custom` for one that was handed over.
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

    /// The number of live sessions.
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
    /// [`Error::Unsupported`] where the provider can't know.
    pub async fn count(&self) -> Result<u64, Error> {
        let now = self.now();
        self.0.observed(Operation::Count, now, self.0.provider.count(now)).await
    }

    /// The counters.
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
        self.0.events.counters.read()
    }

    /// The manager's time: that of its clock.
    pub fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// Collects the expired sessions now, until none remain; what the timer thread does.
    ///
    /// Blocks: not for a runtime's worker.
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
    /// What the provider reported; what was removed before stays removed.
    pub fn collect(&self) -> Result<Purged, Error> {
        self.0.collector.collect()
    }

    /// Stops the timer thread and waits for its end. Sessions go on working, uncollected.
    ///
    /// Without it, the thread ends by itself soon after the last clone was dropped.
    ///
    /// ```
    /// # futures_lite::future::block_on(async {
    /// # session_memory::init();
    /// # let manager = session_core::Manager::open("memory", "")?;
    /// manager.close(); // before the process ends, so that nothing is collected while it does
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
    /// Loads the live record of a token, whoever holds it. One that can't be read is reported, and counts as
    /// none.
    pub(crate) async fn load(
        &self,
        token: &Token,
        now: Timestamp,
    ) -> Result<Option<Record>, Error> {
        match self.observed(Operation::Load, now, self.provider.load(token, now)).await {
            Err(Error::Unreadable { reason }) => {
                self.report_unreadable(token.key(), reason);
                Ok(None)
            }
            // A store that is careless about time is not believed.
            loaded => Ok(loaded?.filter(|record| record.is_live(now))),
        }
    }

    /// Returns the latest instant at which a copy of the record could be taken for a live one.
    pub(crate) fn last_instant(&self, record: &Record) -> Timestamp {
        let lifetime = Settings::of(&record.values).lifetime(&self.rules);
        lifetime.deadline(lifetime::start(record)).max(record.expires)
    }

    /// Waits for an operation at the store, which it was told at `now`, and tells of it.
    pub(crate) async fn observed<T>(
        &self,
        operation: Operation,
        now: Timestamp,
        answer: Answer<'_, T>,
    ) -> Result<T, Error> {
        // A look at the clock costs as much as an operation of some stores: only for those who want to know.
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
        match &self.ids {
            Some(ids) => ids(),
            None => self.provider.new_id(),
        }
    }

    /// Computes what a record keeps to recognize the client that carries this token.
    pub(crate) fn verifier(&self, token: &Token) -> Verifier {
        self.provider.verifier(token, &self.rules.namespace)
    }

    /// Reports an unreadable record, once.
    pub(crate) fn report_unreadable(&self, key: SessionKey, reason: &str) {
        self.events.counters.unreadable.add(1);
        let mut reported = self.reported.lock();
        if reported.len() < REPORTED && reported.insert(key) {
            warn!(session = %key, reason, "unreadable session record, treated as absent");
        }
    }

    /// Reports a record from the future, once: another server's clock is ahead of this one's, or this one
    /// was set back. Sessions would end too early or too late by the difference.
    pub(crate) fn check_clocks(&self, key: SessionKey, record: &Record, now: Timestamp) {
        let login = record.login.as_deref().map_or(record.created, |login| login.at);
        let latest = record.created.max(record.renewed).max(record.used).max(login);
        let ahead = latest.since(now);
        if ahead > CLOCKS_DIFFER && !self.clocks_reported.swap(true, Ordering::Relaxed) {
            warn!(
                session = %key,
                seconds = ahead.as_secs(),
                "a session has times from the future: the clocks of the servers that share the store \
                 disagree, or this one was set back; synchronize them"
            );
        }
    }

    /// Reports that a client sent more ids than are looked up: once as a warning, as cookies of other paths or
    /// domains may be the cause. Anybody can send such requests, so the others don't fill the log.
    pub(crate) fn report_skipped(&self) {
        const SKIPPED: &str = "a client sent more ids than are looked up; the last ones are";
        let name = self.transport.name();
        match self.skipped_reported.swap(true, Ordering::Relaxed) {
            false => warn!(name, "{SKIPPED}"),
            true => debug!(name, "{SKIPPED}"),
        }
    }

    /// Finds out where a request comes from, if it is unsafe.
    pub(crate) fn site_check(&self, request: RequestHead<'_>, is_safe: bool) -> SiteCheck {
        match self.transport.is_ambient() {
            true => self.rules.cross_site.site_check(request, is_safe),
            false => SiteCheck::Allowed,
        }
    }

    /// Counts and reports an unsafe request from another site.
    pub(crate) fn report_foreign(&self, site_check: SiteCheck) {
        self.events.emit(&Event::Refused { session: None, why: Refusal::CrossSite });
        let is_unlike = site_check == SiteCheck::OriginMismatch;
        if is_unlike && !self.foreign_reported.swap(true, Ordering::Relaxed) {
            warn!(
                "an unsafe request of a browser that sends no Sec-Fetch-Site was refused, as its Origin is \
                 not the Host. If forms or WebSockets of this site fail like that, a proxy changes the Host: \
                 let it pass the header on, or name the site in url.origin; or the pages hide their origin \
                 by Referrer-Policy: no-referrer, where same-origin does"
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

/// The manager of a handle: borrowed where the handle stays in its scope, so that requests on
/// several processors don't fight over a reference count.
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
