//! [`ManagerBuilder`]: checks the configuration, opens the provider, and starts the timer thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use tracing::warn;

use crate::clock::{Clock, SystemClock};
use crate::collector::Collector;
use crate::cross_site::CrossSitePolicy;
use crate::events::{Events, Observer};
use crate::manager::{IdSource, Rules, Shared};
use crate::provider::{self, Provider, ProviderContext};
use crate::transport::TransportKind;
use crate::transport::{
    AutoTransport, CookieTransport, HeaderTransport, TokenSource, Transport, UrlTransport,
};
use crate::update_queue::UpdateQueues;
use crate::{Config, Error, Manager, SessionId};

/// Builds a [`Manager`] from a configuration and parts that no configuration file can name.
///
/// ```
/// use session_core::{Config, Manager};
/// use session_memory::MemoryProvider;
///
/// let mut config = Config::default();
/// config.sessions_per_owner = std::num::NonZeroU32::new(5);
/// let manager = Manager::builder()
///     .with_config(config)
///     .with_provider(MemoryProvider::new(Default::default()))
///     .build()?;
/// assert_eq!(manager.provider_name(), "custom");
/// # Ok::<_, session_core::Error>(())
/// ```
pub struct ManagerBuilder {
    config: Config,
    provider: Option<Arc<dyn Provider>>,
    transport: Option<Arc<dyn Transport>>,
    clock: Arc<dyn Clock>,
    id_source: Option<IdSource>,
    observer: Option<Arc<dyn Observer>>,
}

impl ManagerBuilder {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            config,
            provider: None,
            transport: None,
            clock: Arc::new(SystemClock),
            id_source: None,
            observer: None,
        }
    }

    /// Sets the configuration. Defaults to [`Config::default`].
    #[must_use]
    pub fn with_config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the provider. Defaults to the provider that is registered under the configured name.
    #[must_use]
    pub fn with_provider(mut self, provider: impl Provider) -> Self {
        self.provider = Some(Arc::new(provider));
        self
    }

    /// Sets the transport. Defaults to the configured built-in transport.
    #[must_use]
    pub fn with_transport(mut self, transport: impl Transport) -> Self {
        self.transport = Some(Arc::new(transport));
        self
    }

    /// Sets the clock. Defaults to the operating system's clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the source of ids, for tests that force collisions or failures. Defaults to [`Provider::new_id`].
    /// Any other source makes ids that may be guessed.
    #[doc(hidden)]
    #[must_use]
    pub fn with_id_source<F>(mut self, ids: F) -> Self
    where
        F: Fn() -> Result<SessionId, Error> + Send + Sync + 'static,
    {
        self.id_source = Some(Arc::new(ids));
        self
    }

    /// Sets the observer of events and store operations. Defaults to none.
    #[must_use]
    pub fn with_observer(mut self, observer: impl Observer) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Checks the configuration, opens the provider and starts the timer thread.
    ///
    /// # Errors
    /// [`Error::Config`] says what is wrong; [`Error::UnknownProvider`] lists the registered names.
    pub fn build(self) -> Result<Manager, Error> {
        let Self { config, provider, transport, clock, id_source, observer } = self;
        config.validate_durations()?;
        let lifetime = config.lifetime();
        if config.remember < lifetime.absolute {
            warn!("remember is shorter than absolute: sessions of remembered visitors end sooner");
        }
        if config.namespace.contains('\0') {
            return Err(Error::config("namespace must have no NUL character"));
        }
        config.limits.validate()?;
        let transport = match transport {
            Some(transport) => transport,
            None => configured_transport(&config)?,
        };
        let (provider, provider_name) = match provider {
            Some(_) if config.revocations.is_some() => {
                return Err(Error::config(
                    "revocations are for a provider that is opened by its name",
                ));
            }
            Some(provider) => (provider, "custom".into()),
            None => {
                (provider::open(&config.provider, &config.whole_source()?)?, config.provider.into())
            }
        };
        let sources =
            [None, Some(TokenSource::Cookie), Some(TokenSource::Url), Some(TokenSource::Header)];
        let uses_urls = sources.into_iter().any(|source| transport.uses_url(source));
        let context = ProviderContext::new(transport.name(), lifetime).with_also(transport.also());
        provider.configure(&context.with_urls(uses_urls))?;
        if config.sessions_per_owner.is_some() && !provider.lists() {
            return Err(Error::config(
                "sessions_per_owner needs a provider that lists an owner's sessions",
            ));
        }
        let cross_site = CrossSitePolicy::new(&config.cross_site, config.url.origin.as_deref())?;
        let rules = Rules {
            lifetime,
            remember: config.remember,
            touch_every: config.touch_every.unwrap_or(config.idle / 10),
            superseded_for: config.superseded_for,
            limits: config.limits,
            fingerprint: transport.fingerprint(),
            persistent: transport.persistent(),
            namespace: config.namespace.into(),
            cross_site,
            sessions_per_owner: config.sessions_per_owner,
        };
        let events = Arc::new(Events { observer, ..Events::default() });
        let collector = Collector::start(
            Arc::clone(&provider),
            Arc::clone(&clock),
            Arc::clone(&events),
            config.gc_every,
        )?;
        Ok(Manager(Arc::new(Shared {
            provider,
            transport,
            clock,
            rules,
            events,
            queues: UpdateQueues::default(),
            provider_name,
            id_source,
            reported_unreadable: Mutex::default(),
            clock_skew_reported: AtomicBool::new(false),
            skipped_reported: AtomicBool::new(false),
            cross_site_reported: AtomicBool::new(false),
            uses_urls,
            collector,
        })))
    }
}

/// Returns the configured transport. The options of the other transports are checked, too, so that a mistake
/// shows at the start and not when the transport is changed.
fn configured_transport(config: &Config) -> Result<Arc<dyn Transport>, Error> {
    let cookie = CookieTransport::new(config.cookie.clone())?;
    let url = UrlTransport::new(config.url.clone())?;
    let header = HeaderTransport::new(&config.header)?;
    Ok(match config.transport {
        TransportKind::Cookie => Arc::new(cookie),
        TransportKind::Url => Arc::new(url),
        TransportKind::Auto => Arc::new(AutoTransport::new(cookie, url)),
        TransportKind::Header => Arc::new(header),
    })
}

impl fmt::Debug for ManagerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManagerBuilder")
            .field("config", &self.config)
            .field("provider", &self.provider)
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}
